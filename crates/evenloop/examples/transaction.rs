//! Transactions that roll back when they are cancelled, which takes time: one that is committed, one that is too slow, one
//! that fails. Ctrl-C rolls back as well.
//!
//! ```text
//! cargo run -p evenloop --example transaction -- --virtual
//! ```

mod support;

use evenloop::cancel::shielded_for;
use evenloop::{End, Resource, sleep, timeout, with};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use support::{Stopwatch, options};

/// What is on the accounts, and how slow the bank is.
struct Bank {
    accounts: RefCell<BTreeMap<&'static str, i64>>,
    undo: Duration,
}

/// Entered: nothing is done yet. Left without a commit: what was done is undone, last thing first.
struct Transaction<'a> {
    bank: &'a Bank,
    done: Vec<(&'static str, i64)>,
}

impl Transaction<'_> {
    async fn add(&mut self, account: &'static str, amount: i64, takes: Duration) -> Result<(), &'static str> {
        sleep(takes).await;
        let mut accounts = self.bank.accounts.borrow_mut();
        let balance = accounts.entry(account).or_default();
        if *balance + amount < 0 {
            return Err("not enough money");
        }
        *balance += amount;
        self.done.push((account, amount));
        Ok(())
    }

    fn commit(&mut self) {
        self.done.clear();
    }

    async fn roll_back(&mut self) {
        while let Some((account, amount)) = self.done.last().copied() {
            sleep(self.bank.undo).await;
            *self.bank.accounts.borrow_mut().entry(account).or_default() -= amount;
            self.done.pop();
        }
    }
}

impl Resource for Transaction<'_> {
    type Error = Infallible;

    async fn enter(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn exit(&mut self, end: &End) {
        if !self.done.is_empty() {
            println!("    rolling back {} step(s), the end was: {end:?}", self.done.len());
            // A second cancellation waits, but a bank that hangs does not hold us up for ever.
            let limit = self.bank.undo * 10;
            if shielded_for(limit, self.roll_back()).await.is_err() {
                println!("    the bank hangs: {} step(s) are not undone", self.done.len());
            }
        }
    }
}

async fn transfer(bank: &Bank, amount: i64, takes: Duration) -> Result<(), &'static str> {
    let transaction = Transaction { bank, done: Vec::new() };
    let body = async |transaction: &mut Transaction<'_>| {
        transaction.add("alice", -amount, takes).await?;
        transaction.add("bob", amount, takes).await?;
        transaction.commit();
        Ok(())
    };
    let Ok(outcome) = with(transaction, body).await;
    outcome
}

fn main() {
    let options = options(
        "Transactions that roll back when they are cancelled",
        &[
            ("step", 1.0, "seconds that a step takes"),
            ("limit", 2.5, "seconds that a transfer may take"),
            ("undo", 2.0, "seconds that undoing a step takes"),
        ],
    );
    let (step, limit) = (options.seconds("step"), options.seconds("limit"));
    let bank = Bank { accounts: RefCell::new([("alice", 100)].into()), undo: options.seconds("undo") };
    options.run(async move {
        let watch = Stopwatch::start();
        // The second one has done its first step when its time is over.
        for (amount, takes) in [(30, step), (20, limit.mul_f64(0.75)), (500, step)] {
            let outcome = timeout(limit, transfer(&bank, amount, takes)).await;
            let accounts = bank.accounts.borrow();
            println!("{:.2} s: transfer of {amount}: {outcome:?}, {accounts:?}", watch.seconds());
        }
    });
}
