//! A program that nests all there is to cancel, struck after each of its polls in turn: cancelled as a task, cancelled
//! through a scope around it, or dropped. Whatever the moment, everything is left, cleaned up and let go.
//!
//! What has to hold, for every poll k:
//!
//! - the run ends (a simulated hour is the limit), cancelled or with the value, never with anything else;
//! - every resource that was entered was left, and every clean-up that was due has run; where futures were dropped instead,
//!   they were dropped, each once;
//! - no task is left, no waiter in a line, no timer, and nothing keeps what the program owned.

use evenloop::cancel::{CancelScope, catch_cancel, shielded_for};
use evenloop::sync::{Condition, Lock};
use evenloop::time::VirtualClock;
use evenloop::{
    BorrowingGroup, End, Resource, Runner, TaskGroup, all_tasks, checkpoint, create_task, finally, gather,
    sleep, staggered_race, timeout, wait_for, with,
};
use evenloop_tests::SECOND;
use futures::future::join;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What happened, and when to strike.
#[derive(Default)]
struct Ledger {
    polls: Cell<u64>,
    strikes_at: Cell<u64>,
    strike: RefCell<Option<Box<dyn FnOnce()>>>,
    entered: Cell<u64>,
    left: Cell<u64>,
    begun: Cell<u64>,
    cleaned: Cell<u64>,
    /// Entered or begun, and dropped where it stood.
    dropped: Cell<u64>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

impl Ledger {
    fn tick(&self) {
        add(&self.polls);
        if self.polls.get() == self.strikes_at.get() {
            let strike = self.strike.take();
            strike.into_iter().for_each(|strike| strike());
        }
    }
}

/// A future whose polls count.
struct Counted<F> {
    ledger: Rc<Ledger>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.ledger.tick();
        self.future.as_mut().poll(cx)
    }
}

fn counted<F: Future>(ledger: &Rc<Ledger>, future: F) -> Counted<F> {
    Counted { ledger: ledger.clone(), future: Box::pin(future) }
}

fn nap(ledger: &Rc<Ledger>, seconds: u32) -> impl Future<Output = ()> + use<> {
    counted(ledger, sleep(seconds * SECOND))
}

/// Entered and left by waiting.
struct Door {
    ledger: Rc<Ledger>,
    open: bool,
}

impl Door {
    fn new(ledger: &Rc<Ledger>) -> Self {
        Self { ledger: ledger.clone(), open: false }
    }
}

impl Resource for Door {
    type Error = Infallible;

    async fn enter(&mut self) -> Result<(), Infallible> {
        nap(&self.ledger, 1).await;
        self.open = true;
        add(&self.ledger.entered);
        Ok(())
    }

    async fn exit(&mut self, _: &End) {
        shielded_for(10 * SECOND, nap(&self.ledger, 1)).await.expect("in time");
        self.open = false;
        add(&self.ledger.left);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.open {
            add(&self.ledger.dropped);
        }
    }
}

/// A job with a clean-up that takes a second, and that no second request disturbs.
async fn job<T>(ledger: Rc<Ledger>, body: impl Future<Output = T>) -> T {
    struct Begun(Rc<Ledger>, bool);
    impl Drop for Begun {
        fn drop(&mut self) {
            if !self.1 {
                add(&self.0.dropped);
            }
        }
    }
    add(&ledger.begun);
    let mut begun = Begun(ledger.clone(), false);
    let clean_up = async {
        shielded_for(10 * SECOND, nap(&ledger, 1)).await.expect("in time");
        begun.1 = true;
        add(&ledger.cleaned);
    };
    finally(counted(&ledger, body), clean_up).await
}

/// All there is, in each other. Gives 42.
async fn program(ledger: Rc<Ledger>, lock: Rc<Lock<u32>>, condition: Rc<Condition>) -> u32 {
    let limited = timeout(3600 * SECOND, async {
        let outcome = TaskGroup::run(async |group| {
            let one = group.create_task(job(ledger.clone(), {
                let (one, two) = (nap(&ledger, 1), nap(&ledger, 2));
                async move {
                    gather((one, two)).await;
                    Ok::<u32, String>(1)
                }
            }));
            let two = group.create_task({
                let ledger = ledger.clone();
                async move {
                    let Ok(two) = with(Door::new(&ledger), async |_| {
                        join(job(ledger.clone(), nap(&ledger, 1)), checkpoint()).await;
                        2
                    })
                    .await;
                    Ok(two)
                }
            });
            let started = group
                .start(|started| {
                    let ledger = ledger.clone();
                    async move {
                        nap(&ledger, 1).await;
                        started.started(3);
                        job(ledger.clone(), nap(&ledger, 2)).await;
                        Ok(4)
                    }
                })
                .await;
            let (three, four) = started.expect("it says that it is ready");
            let five = Cell::new(0);
            let borrowing = BorrowingGroup::run(async |children| {
                children.start_soon(async {
                    let Ok(()) = with(Door::new(&ledger), async |_| nap(&ledger, 1).await).await;
                    five.set(five.get() + 2);
                    Ok::<(), String>(())
                });
                children.start_soon(async {
                    // Cancelled at its limit; its clean-up is waited for.
                    let slow = create_task(job(ledger.clone(), nap(&ledger, 60)));
                    wait_for(slow, 2 * SECOND).await.expect_err("too slow");
                    five.set(five.get() + 3);
                    Ok(())
                });
                Ok(())
            });
            borrowing.await.expect("nobody fails");
            let scope = CancelScope::new();
            let six = scope.run(async {
                scope.cancel("it knows enough");
                let caught = catch_cancel(nap(&ledger, 60)).await;
                caught.expect_err("asked").absorb();
                6
            });
            let six = six.await.expect("absorbed");
            let attempts = [(5, None), (1, Some(7)), (1, Some(0))].map(|(takes, value)| {
                let attempt = job(ledger.clone(), nap(&ledger, takes));
                async move {
                    attempt.await;
                    value.ok_or("refused")
                }
            });
            let race = staggered_race(attempts, SECOND).await;
            let (_, seven) = race.winner.expect("one succeeds");
            // Nobody notifies: the wait takes the lock again, then the time-out reports.
            let waited = timeout(SECOND, async {
                let guard = counted(&ledger, lock.acquire()).await;
                drop(counted(&ledger, condition.wait(guard)).await);
            });
            waited.await.expect_err("nobody notifies");
            Ok(one.await + two.await + three + four.await + five.get() + six + seven + 14)
        });
        outcome.await.expect("nobody fails")
    });
    limited.await.expect("in time")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Strike {
    /// The task is cancelled.
    Task,
    /// Twice.
    TaskTwice,
    /// A scope around the program is.
    Scope,
    /// The program is dropped.
    Drop,
}

/// Holds a future, and drops it when told.
struct Droppable<F> {
    future: Option<Pin<Box<F>>>,
    told: Rc<(Cell<bool>, RefCell<Option<Waker>>)>,
}

impl<F: Future> Future for Droppable<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.told.0.get() {
            self.told.1.replace(Some(cx.waker().clone()));
            let future = self.future.as_mut().expect("polled until it is ready");
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
        }
        // Told before this poll, or in it.
        if self.told.0.get() {
            self.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// Runs the program and strikes at poll k. `None`: it was over before.
fn struck(how: Strike, k: u64) -> Option<Result<u32, ()>> {
    let ledger = Rc::new(Ledger::default());
    ledger.strikes_at.set(k);
    let (lock, condition) = (Rc::new(Lock::new(0)), Rc::new(Condition::new()));
    let clock = VirtualClock::new();
    let runner = Runner::on_clock(clock.clone().into()).ignore_ctrl_c();
    let running = {
        let (ledger, lock, condition) = (ledger.clone(), lock.clone(), condition.clone());
        async move {
            let program = program(ledger.clone(), lock, condition);
            let told: Rc<(Cell<bool>, RefCell<Option<Waker>>)> = Rc::default();
            let scope = CancelScope::new();
            let future = Some(Box::pin(counted(&ledger, program)));
            let program = Droppable { future, told: told.clone() };
            let mut task = create_task({
                let scope = scope.clone();
                async move { scope.run(program).await.ok().flatten() }
            });
            let main = all_tasks().into_iter().find(|info| info.id() == task.id()).expect("it is there");
            *ledger.strike.borrow_mut() = Some(match how {
                Strike::Task => Box::new(move || assert!(main.cancel("k"))),
                Strike::TaskTwice => Box::new(move || assert!(main.cancel("k") && main.cancel("k again"))),
                Strike::Scope => Box::new(move || assert!(scope.cancel("k"))),
                Strike::Drop => Box::new(move || {
                    told.0.set(true);
                    told.1.take().into_iter().for_each(Waker::wake);
                }),
            });
            let outcome = timeout(3600 * SECOND, task.join()).await.expect("it ends");
            // What was detached by a drop goes on, and ends.
            while all_tasks().len() > 1 {
                sleep(SECOND).await;
            }
            match outcome {
                Ok(value) => value.ok_or(()),
                Err(error) if error.is_cancelled() => Err(()),
                Err(error) => panic!("{how:?} at poll {k}: {error}"),
            }
        }
    };
    let outcome = runner.run(running).expect("not interrupted");
    let at = format!("{how:?} at poll {k}");
    assert!(clock.elapsed() < 600 * SECOND, "{at}: took {:?}", clock.elapsed());
    assert_eq!(runner.event_loop().tasks_alive(), 0, "{at}");
    let struck = ledger.strike.take().is_none();
    let sum = |one: &Cell<u64>, two: &Cell<u64>| one.get() + two.get();
    let (begun, ended) = (sum(&ledger.entered, &ledger.begun), sum(&ledger.left, &ledger.cleaned));
    assert_eq!(begun, ended + ledger.dropped.get(), "{at}");
    if how != Strike::Drop {
        assert_eq!(ledger.dropped.get(), 0, "{at}: cancelled, so all may clean up");
    }
    assert!(lock.try_acquire().is_some(), "{at}: the lock is free");
    assert_eq!(format!("{condition:?}"), "Condition [waiters: 0]", "{at}");
    drop(runner);
    assert_eq!((Rc::strong_count(&ledger), Rc::strong_count(&lock)), (1, 1), "{at}: all is let go");
    struck.then_some(outcome)
}

fn at_every_poll(how: Strike) -> u64 {
    let mut k = 1;
    while let Some(outcome) = struck(how, k) {
        assert!(outcome.is_err() || outcome == Ok(42), "{how:?} at poll {k}: {outcome:?}");
        k += 1;
    }
    k - 1
}

#[test]
fn undisturbed_it_gives_its_value() {
    assert_eq!(struck(Strike::Task, u64::MAX), None);
}

#[test]
fn cancelled_at_every_poll_all_is_left_and_cleaned_up() {
    assert!(at_every_poll(Strike::Task) > 60, "the program waits often enough");
}

#[test]
fn cancelled_twice_at_every_poll_all_is_left_and_cleaned_up() {
    at_every_poll(Strike::TaskTwice);
}

#[test]
fn cancelled_through_a_scope_at_every_poll_all_is_left_and_cleaned_up() {
    at_every_poll(Strike::Scope);
}

#[test]
fn dropped_at_every_poll_all_is_let_go() {
    at_every_poll(Strike::Drop);
}
