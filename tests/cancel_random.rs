//! Cancellation in programs that nobody would write: whatever is nested in what, and whoever asks when, these rules hold.
//!
//! A program is a tree of [`Code`]. A script asks its blocks (tasks and scopes) to end, takes requests back and moves
//! deadlines, between the program's turns; some code asks from inside. A [`Ledger`] is told what the code does.
//!
//! R1. Code that catches is not dropped before it was asked. So what is inside of it was asked before.
//! R2. A clean-up is not dropped, but for a request that it was not told of. Who is told of that is told as well of what the
//!     clean-up had in hand.
//! R3. Shielded code comes to its end, and so does a task that is awaited.
//! R4. Whenever all that can run has run, nobody waits for an answer: each request that is open is in the hands of a
//!     clean-up. So one that was passed on has come to somebody else since, or has ended its block.
//! R5. What all who were told have absorbed comes to nobody who catches later, and ends nothing.
//! R6. A request comes to code inside of its block and ends that block, nobody else. One that was taken back does neither.
//! R7. A scope or timeout that was left says so: at once, or when the last request that goes out through it is over. A timeout
//!     does so in time.
//! R8. The program's task counts what was asked of it, and not more than that and what is open inside.
//! R9. Asked once for each piece, a program ends.
//!
//! `EVENLOOP_MANY=100000` tries so many. One that fails is made smaller first, and printed with what happened.

#[path = "cancel_random/ledger.rs"]
mod ledger;
#[path = "cancel_random/program.rs"]
mod program;

use evenloop::{sleep, yield_now};
use evenloop_tests::{SECOND, many, on_virtual_clock};
use fastrand::Rng;
use ledger::{Ledger, name};
use program::{Code, May, code, start};
use std::rc::Rc;

/// What the script does. A number is that of a piece.
#[derive(Clone, Copy, Debug)]
enum Step {
    Turns(u8),
    Seconds(u8),
    /// Until all that can run has run.
    Rest,
    Ask(usize),
    Uncancel,
    Deadline(usize, Option<u8>),
}

/// A program and its script.
#[derive(Clone, Debug)]
struct Scene {
    code: Code,
    pieces: usize,
    steps: Vec<Step>,
}

impl Scene {
    fn new(seed: u64, await_tasks: bool) -> Self {
        let random = &mut Rng::with_seed(seed);
        let may = May { await_tasks, wait_forever: true };
        let mut code = Code::JoinAll((0..random.usize(2..5)).map(|_| code(random, 4, may)).collect());
        let pieces = code.number();
        let steps = (0..random.usize(1..10)).map(|_| Step::new(random, pieces)).collect();
        Self { code, pieces, steps }
    }

    /// The same with something left out, in every way.
    fn simpler(&self) -> impl Iterator<Item = Self> {
        let steps = (0..self.steps.len()).map(|at| {
            let mut less = self.clone();
            less.steps.remove(at);
            less
        });
        steps.chain(self.code.simpler().into_iter().map(|code| Self { code, ..self.clone() }))
    }

    /// What is against the rules; `tells`: after all that happened.
    fn faults(&self, tells: bool) -> Option<String> {
        let Self { code, pieces, steps } = self;
        let ledger = Ledger::new(code, tells);
        on_virtual_clock(direct(code, *pieces, steps, &ledger));
        let [happened, faults] = ledger.take();
        (!faults.is_empty()).then(|| format!("{code:?}\n{steps:?}\n{happened}\n\n{faults}"))
    }
}

impl Step {
    fn new(random: &mut Rng, pieces: usize) -> Self {
        let piece = if random.bool() { 0 } else { random.usize(0..=pieces) };
        match random.u8(0..12) {
            0..3 => Self::Turns(random.u8(0..6)),
            3..5 => Self::Seconds(random.u8(1..4)),
            5 => Self::Rest,
            6..10 => Self::Ask(piece),
            10 => Self::Uncancel,
            _ => Self::Deadline(pieces - piece, random.bool().then(|| random.u8(0..4))),
        }
    }
}

async fn rest(ledger: &Ledger) {
    sleep(1000 * SECOND).await; // no program takes so long by itself
    ledger.look();
}

/// Runs a program by its script, and then to its end.
async fn direct(code: &Code, pieces: usize, steps: &[Step], ledger: &Rc<Ledger>) {
    let mut program = start(code, ledger);
    yield_now().await;
    for step in steps {
        match *step {
            Step::Turns(turns) => {
                for _ in 0..turns {
                    yield_now().await;
                }
            }
            Step::Seconds(seconds) => sleep(SECOND * u32::from(seconds)).await,
            Step::Rest => rest(ledger).await,
            Step::Ask(which) => ledger.ask(which),
            Step::Uncancel => ledger.uncancel(&program),
            Step::Deadline(which, seconds) => ledger.move_deadline(which, seconds),
        }
        ledger.check_count(&program);
    }
    rest(ledger).await;
    let mut left = 0..=pieces;
    while !program.done() && left.next().is_some() {
        ledger.ask(0);
        rest(ledger).await;
    }
    match program.result() {
        None => ledger.fault("the program does not end".into()), // R9
        Some(Ok(())) => ledger.returned(),
        Some(Err(error)) if error.is_panic() => ledger.fault(error.to_string()),
        Some(Err(error)) => ledger.cancelled(0, name(&error.reason())),
    }
    ledger.close();
}

fn scenes(await_tasks: bool) {
    for seed in 0..many(1500) as u64 {
        let scene = Scene::new(seed, await_tasks);
        let fails = |scene: &Scene| scene.faults(false).is_some();
        if fails(&scene) {
            let smaller = std::iter::successors(Some(scene), |scene| scene.simpler().find(fails));
            let smallest = smaller.last().and_then(|scene| scene.faults(true));
            panic!("of seed {seed} this is left:\n{}", smallest.unwrap_or_default());
        }
    }
}

#[test]
fn a_program_of_one_task_is_cancelled_by_the_rules() {
    scenes(false);
}

#[test]
fn a_program_that_awaits_other_tasks_is_cancelled_by_the_rules() {
    scenes(true);
}
