//! Models of streams's `SourceTable`.

use evenloop_core::shim::{StdArc, thread};
use evenloop_core::{Direction, Readiness, Ready, Unwatched};
use evenloop_loom_tests::{Outcomes, Witness, block_on, model_reaching};
use evenloop_streams::reactor::SourceTable;
use std::task::Poll;

fn readiness() -> StdArc<Readiness> {
    StdArc::new(Readiness::new(Ready::NOTHING))
}

/// When a source is removed while its event is dispatched: is it left alone from then on, and does whoever takes its place
/// never hear of that event?
#[test]
fn remove_races_dispatch() {
    model_reaching(["dispatched", "removed"], |outcomes: Outcomes| {
        let table = StdArc::new(SourceTable::new());
        let (first, second) = (readiness(), readiness());
        let token = table.insert(&first).unwrap();
        let witness = StdArc::new(Witness::new(0));
        let engine = thread::spawn({
            let (table, witness) = (table.clone(), witness.clone());
            move || {
                witness.set(7);
                table.dispatch(std::iter::once((token, Ready::READ)))
            }
        });
        assert!(table.remove(token, Unwatched::Deregistered));
        let left = format!("{first:?}");
        if left.contains("[read") {
            assert_eq!(first.look(Direction::Read), Poll::Ready(Err(Unwatched::Deregistered)));
            assert_eq!(witness.get(), 7);
        }
        table.insert(&second).unwrap();
        let dispatched = engine.join().unwrap();
        outcomes.count(if dispatched { "dispatched" } else { "removed" });
        assert_eq!(format!("{first:?}"), left, "written to after its removal");
        assert!(second.look(Direction::Read).is_pending());
    });
}

/// Is who waits told, when the reactor ends while an event comes?
#[test]
fn end_races_dispatch() {
    model_reaching(["news", "the end"], |outcomes: Outcomes| {
        let table = StdArc::new(SourceTable::new());
        let source = readiness();
        let token = table.insert(&source).unwrap();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (table, witness) = (table.clone(), witness.clone());
            move || {
                witness.set(7);
                table.end();
            }
        });
        table.dispatch(std::iter::once((token, Ready::READ)));
        match block_on(source.ready(Direction::Read)) {
            Ok(_) => outcomes.count("news"),
            Err(why) => {
                assert_eq!(why, Unwatched::Ended);
                assert_eq!(witness.get(), 7);
                outcomes.count("the end");
            }
        }
        other.join().unwrap();
        assert!(table.is_empty());
    });
}

/// Does a source that is registered while the reactor ends either fail to get in or hear of the end?
#[test]
fn insert_races_end() {
    model_reaching(["in", "refused"], |outcomes: Outcomes| {
        let table = StdArc::new(SourceTable::new());
        let source = readiness();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let (table, witness) = (table.clone(), witness.clone());
            move || {
                witness.set(7);
                table.end();
            }
        });
        match table.insert(&source) {
            Ok(_) => {
                assert_eq!(block_on(source.ready(Direction::Write)), Err(Unwatched::Ended));
                outcomes.count("in");
            }
            Err(_) => outcomes.count("refused"),
        }
        assert_eq!(witness.get(), 7);
        other.join().unwrap();
        assert!(table.is_empty());
    });
}
