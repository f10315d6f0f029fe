//! Programs, and how they are run.

use super::ledger::{Block, EVENTS, Ledger, Name, Place, What, name};
use evenloop::cancel::{CancelScope, catch_cancel, shielded};
use evenloop::time::now;
use evenloop::{Task, all_tasks, create_task, sleep, timeout, yield_now};
use evenloop_tests::SECOND;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use std::future::{pending, poll_fn};
use std::rc::Rc;

/// A piece of a program. Those that matter have a number, once the program is there.
#[derive(Clone, Debug)]
pub(crate) enum Code {
    Yield(u8),
    Sleep(u8),
    Forever,
    /// Waits for one of the events.
    Wait(usize),
    Set(usize),
    /// Asks a block of about this number, in the midst of a poll.
    Ask(usize),
    Then(Vec<Code>),
    Join(Box<[Code; 2]>),
    JoinAll(Vec<Code>),
    Unordered(Vec<Code>),
    Scope(usize, Box<Code>),
    Timeout(usize, u8, Box<Code>),
    Shielded(usize, Box<Code>),
    Await(usize, Box<Code>),
    /// What is inside, and the clean-up.
    Catch(usize, Box<[Code; 2]>, Answer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Absorb,
    /// By dropping it: the code goes on.
    PassOn,
    Resume,
}

/// What there may be in a program.
#[derive(Clone, Copy)]
pub(crate) struct May {
    pub(crate) await_tasks: bool,
    pub(crate) wait_forever: bool,
}

/// Any code of so many levels.
pub(crate) fn code(random: &mut Rng, levels: u32, may: May) -> Code {
    let kind = random.u32(if levels == 0 { 0..12 } else { 0..34 });
    let several = random.usize(1..5);
    let answer = random.choice([Answer::Absorb, Answer::PassOn, Answer::Resume]).expect("one of three");
    let seconds = random.u8(0..4);
    let ends = May { wait_forever: false, ..may };
    let mut part = |may| code(random, levels - 1, may);
    match kind {
        0..4 if may.wait_forever => Code::Forever,
        4 if may.wait_forever => Code::Wait(several % EVENTS),
        0..6 => Code::Sleep(seconds + 1),
        6..10 => Code::Yield(seconds + 1),
        10 => Code::Set(several % EVENTS),
        11 => Code::Ask(random.usize(0..30)),
        12..16 => Code::Then((0..=several).map(|_| part(may)).collect()),
        16..18 => Code::Join(Box::new([part(may), part(may)])),
        18 => Code::JoinAll((0..several).map(|_| part(may)).collect()),
        19..22 => Code::Unordered((0..=several).map(|_| part(may)).collect()),
        22..24 => Code::Scope(0, part(may).into()),
        24..26 => Code::Timeout(0, seconds, part(may).into()),
        26 => Code::Shielded(0, part(ends).into()),
        27 if may.await_tasks => Code::Await(0, part(may).into()),
        _ => Code::Catch(0, Box::new([part(may), part(may)]), answer),
    }
}

impl Code {
    fn parts(&mut self) -> &mut [Self] {
        match self {
            Self::Yield(_) | Self::Sleep(_) | Self::Forever | Self::Wait(_) | Self::Set(_) | Self::Ask(_) => {
                &mut []
            }
            Self::Then(parts) | Self::JoinAll(parts) | Self::Unordered(parts) => parts,
            Self::Join(both) | Self::Catch(_, both, _) => &mut both[..],
            Self::Scope(_, inside)
            | Self::Timeout(_, _, inside)
            | Self::Shielded(_, inside)
            | Self::Await(_, inside) => std::slice::from_mut(inside),
        }
    }

    /// Calls `f` with each piece.
    pub(crate) fn each(&mut self, f: &mut impl FnMut(&mut Self)) {
        f(self);
        self.parts().iter_mut().for_each(|part| part.each(f));
    }

    /// The same with something left out, in every way.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        let parts = self.clone().parts().to_vec();
        let mut simpler = parts.clone();
        for (at, part) in parts.iter().enumerate() {
            let mut less = self.clone();
            if let Self::Then(parts) | Self::JoinAll(parts) | Self::Unordered(parts) = &mut less {
                parts.remove(at);
                simpler.push(less);
            } else if !matches!(part, Self::Yield(0)) {
                less.parts()[at] = Self::Yield(0);
                simpler.push(less);
            }
            for simple in part.simpler() {
                let mut less = self.clone();
                less.parts()[at] = simple;
                simpler.push(less);
            }
        }
        simpler
    }

    /// Gives the pieces their numbers, from 1 on. Answers how many there are.
    pub(crate) fn number(&mut self) -> usize {
        let mut pieces = 0;
        self.each(&mut |code| {
            if let Self::Scope(piece, _)
            | Self::Timeout(piece, ..)
            | Self::Shielded(piece, _)
            | Self::Await(piece, _)
            | Self::Catch(piece, ..) = code
            {
                pieces += 1;
                *piece = pieces;
            }
        });
        pieces
    }
}

type Boxed = LocalBoxFuture<'static, ()>;

/// Starts a program.
pub(crate) fn start(code: &Code, ledger: &Rc<Ledger>) -> Task<()> {
    let place = Rc::new(Place { block: 0, around: None });
    spawn(0, run(play(code, ledger, &place), ledger, &place), ledger)
}

fn spawn(piece: usize, code: Boxed, ledger: &Ledger) -> Task<()> {
    let task = create_task(code);
    let info = all_tasks().into_iter().find(|info| info.id() == task.id());
    ledger.add_block(piece, Block::Task(info.expect("it has not begun")));
    task
}

/// More polls than any block here needs.
const MANY: usize = 2000;

/// The code of a block.
fn run(mut code: Boxed, ledger: &Rc<Ledger>, place: &Rc<Place>) -> Boxed {
    let (ledger, place) = (ledger.clone(), place.clone());
    Box::pin(async move {
        let runs = ledger.begin(What::Runs, place.block, &[], &place);
        let mut polls = 0..MANY;
        poll_fn(|cx| {
            assert!(polls.next().is_some(), "it is woken again and again");
            code.poll_unpin(cx)
        })
        .await;
        runs.ends();
    })
}

/// The future of some code, which tells the ledger what it does.
fn play(code: &Code, ledger: &Rc<Ledger>, place: &Rc<Place>) -> Boxed {
    let (ledger, place) = (ledger.clone(), place.clone());
    let part = |code: &Code| play(code, &ledger, &place);
    let parts = |codes: &[Code]| codes.iter().map(part).collect::<Vec<_>>();
    let block = |block: usize, code: &Code| {
        let place = Rc::new(Place { block, around: Some(place.clone()) });
        run(play(code, &ledger, &place), &ledger, &place)
    };
    match *code {
        Code::Forever => Box::pin(pending()),
        Code::Sleep(seconds) => Box::pin(sleep(SECOND * u32::from(seconds))),
        Code::Yield(times) => Box::pin(async move {
            for _ in 0..times {
                yield_now().await;
            }
        }),
        Code::Wait(event) => Box::pin(async move { ledger.events[event].wait().await }),
        Code::Set(event) => Box::pin(async move { ledger.events[event].set() }),
        Code::Ask(which) => Box::pin(async move { ledger.ask(which) }),
        Code::Then(ref codes) => {
            let parts = parts(codes);
            Box::pin(async move {
                for part in parts {
                    part.await;
                }
            })
        }
        Code::Join(ref both) => join(part(&both[0]), part(&both[1])).map(drop).boxed_local(),
        Code::JoinAll(ref codes) => join_all(parts(codes)).map(drop).boxed_local(),
        Code::Unordered(ref codes) => {
            let set: FuturesUnordered<_> = parts(codes).into_iter().collect();
            set.collect::<Vec<_>>().map(drop).boxed_local()
        }
        Code::Scope(piece, ref code) => {
            let scope = CancelScope::new();
            let inside = scope.run(block(piece, code));
            ledger.add_block(piece, Block::Scope(scope));
            Box::pin(async move {
                let waits = ledger.begin(What::Waits, piece, &[], &place);
                if let Err(reason) = inside.await {
                    ledger.reports(piece);
                    ledger.cancelled(piece, name(&reason));
                }
                waits.ends();
            })
        }
        Code::Timeout(piece, seconds, ref code) => {
            let inside = block(piece, code);
            Box::pin(async move {
                let waits = ledger.begin(What::Waits, piece, &[], &place);
                let limit = SECOND * u32::from(seconds);
                ledger.add_deadline(piece, now() + limit);
                if timeout(limit, inside).await.is_err() {
                    ledger.reports(piece);
                }
                waits.ends();
            })
        }
        Code::Shielded(piece, ref code) => {
            let place = Rc::new(Place { block: piece, around: None });
            let inside = play(code, &ledger, &place);
            Box::pin(shielded(async move {
                let is_shielded = ledger.begin(What::IsShielded, piece, &[], &place);
                inside.await;
                is_shielded.ends();
            }))
        }
        Code::Await(piece, ref code) => {
            let inside = block(piece, code);
            Box::pin(async move {
                let awaits = ledger.begin(What::Awaits, piece, &[], &place);
                spawn(piece, inside, &ledger).await;
                awaits.ends();
            })
        }
        Code::Catch(piece, ref both, answer) => {
            let inside = Rc::new(Place { block: piece, around: Some(place.clone()) });
            let [inside, clean_up] = [play(&both[0], &ledger, &inside), part(&both[1])];
            Box::pin(async move {
                let catches = ledger.begin(What::Catches, piece, &[], &place);
                let Err(cancelled) = catch_cancel(inside).await else { return catches.ends() };
                let names: Vec<Name> = cancelled.reasons().map(name).collect();
                ledger.told(&catches, &names);
                catches.ends();
                let cleans_up = ledger.begin(What::CleansUp, piece, &names, &place);
                clean_up.await;
                cleans_up.ends();
                ledger.answered(&place, &names, answer);
                match answer {
                    Answer::Absorb => cancelled.absorb(),
                    Answer::PassOn => drop(cancelled),
                    Answer::Resume => {
                        let _resumes = ledger.begin(What::Resumes, piece, &names, &place);
                        match cancelled.resume().await {}
                    }
                }
            })
        }
    }
}
