//! The set of children, and the staggered start: core's parts that task groups, servers and connections build on.

use evenloop::cancel::{CancelScope, Cancellation, catch_cancel};
use evenloop::{Runtime, create_task, sleep, timeout, yield_now};
use evenloop_core::{Asked, Cancel, ChildSet, Staggered};
use evenloop_tests::{SECOND, Woken, on_virtual_clock as run, poll};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

// === ChildSet ===

#[test]
fn a_request_waits_for_who_asks_for_it() {
    let children = ChildSet::<CancelScope>::new();
    let mut member = children.enter(None).unwrap();
    let (_, waker) = Woken::waker();
    assert!(matches!(member.asked(&waker), Asked::Nothing));
    children.cancel("the end");
    assert!(!member.is_dropped(&waker), "that is another question");
    assert!(matches!(member.asked(&waker), Asked::ToEnd(_)));
    assert!(matches!(member.asked(&waker), Asked::Nothing));
    children.drop_all();
    assert!(member.is_dropped(&waker));
}

#[test]
fn children_are_counted_until_their_future_is_dropped_and_waited_for() {
    let ((), took) = run(async {
        let spawn = Runtime::current_spawn("test").unwrap();
        let children = ChildSet::new();
        for seconds in [2, 1] {
            children.spawn_local(&*spawn, sleep(seconds * SECOND)).unwrap();
        }
        children.spawn(&*spawn, sleep(3 * SECOND)).unwrap();
        assert_eq!(format!("{children:?}"), "ChildSet [open, children: 3]");
        children.fewer_than(3).await;
        assert_eq!((children.len(), children.is_empty()), (2, false));
        children.wait().await;
        children.wait().await;
        assert!(children.is_empty());
    });
    assert_eq!(took, 3 * SECOND);
}

#[test]
fn all_are_cancelled_together_and_may_clean_up() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let ((), took) = run(async {
        let spawn = Runtime::current_spawn("test").unwrap();
        let children = ChildSet::new();
        for name in ["one", "two"] {
            let log = log.clone();
            children
                .spawn_local(&*spawn, async move {
                    let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                    sleep(SECOND).await;
                    log.borrow_mut().push(format!("{name} {cancelled}"));
                    cancelled.resume().await;
                })
                .unwrap();
        }
        let one_alone = children.spawn_local(&*spawn, pending()).unwrap();
        yield_now().await;
        assert!(one_alone.cancel("this one"));
        children.fewer_than(3).await;
        assert_eq!(children.len(), 2);
        assert!(children.close() && !children.close());
        let refused = children.spawn_local(&*spawn, async {}).unwrap_err();
        assert_eq!(refused.to_string(), "not spawned: the set of children is closed");
        let refused = children.spawn(&*spawn, async {}).unwrap_err();
        refused.into_inner().await; // it comes back whole
        children.cancel("enough");
        children.wait().await;
    });
    assert_eq!(
        (took, log.take()),
        (SECOND, vec!["one cancelled: enough".into(), "two cancelled: enough".into()])
    );
}

#[test]
fn drop_all_drops_each_where_it_stands() {
    let ((), took) = run(async {
        let spawn = Runtime::current_spawn("test").unwrap();
        let children = ChildSet::new();
        let stubborn = async {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            pending::<()>().await;
        };
        children.spawn_local(&*spawn, stubborn).unwrap();
        yield_now().await;
        children.cancel("please");
        assert!(timeout(SECOND, children.wait()).await.is_err());
        children.drop_all();
        children.spawn_local(&*spawn, sleep(SECOND)).unwrap(); // is not concerned
        children.wait().await;
    });
    assert_eq!(took, 2 * SECOND);
}

#[test]
fn who_is_asked_before_its_handle_is_known_is_asked_with_it() {
    let children = ChildSet::new();
    let member = children.enter(None).unwrap();
    let (mine, scope) = (member.key(), CancelScope::new());
    children.cancel("early");
    assert!(!scope.cancel_called());
    children.attach(mine, scope.clone());
    assert!(scope.cancel_called());
    drop(member);
    children.attach(mine, CancelScope::new()); // it is over: nothing happens
    assert!(children.is_empty());
}

/// A handle that looks into its set whatever happens to it, and panics when it is told to.
struct Curious {
    set: ChildSet<Curious>,
    asked: Rc<Cell<u32>>,
    panics: bool,
}

impl Cancel for Curious {
    fn cancel(&self, _: &Cancellation) {
        self.asked.set(self.asked.get() + self.set.len() as u32);
        assert!(!self.panics, "a handle panics");
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.asked.set(self.asked.get() + 100 * self.set.len() as u32);
    }
}

#[test]
fn handles_are_used_and_dropped_outside_the_lock_and_one_that_panics_silences_none() {
    let set = ChildSet::new();
    let asked = Rc::new(Cell::new(0));
    let handle = |panics| Curious { set: set.clone(), asked: asked.clone(), panics };
    let first = set.enter(Some(handle(true))).unwrap();
    let second = set.enter(Some(handle(false))).unwrap();
    for _ in 0..2 {
        let caught = catch_unwind(AssertUnwindSafe(|| set.cancel("enough")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"a handle panics"));
        assert_eq!(asked.take(), 2 + 2); // each was asked, and each is known again
    }
    set.attach(second.key(), handle(false));
    assert_eq!(asked.take(), 200); // the one before is gone
    drop((first, second));
    assert_eq!(asked.take(), 100); // when one was left
    set.attach(set.enter(None).unwrap().key(), handle(false));
    assert_eq!(asked.take(), 0); // of a child that is over
}

#[test]
fn who_waits_for_children_is_woken_once_and_leaves_no_trace() {
    let children = ChildSet::<CancelScope>::new();
    let members: Vec<_> = (0..3).map(|_| children.enter(None).unwrap()).collect();
    let ((all, all_waker), (some, some_waker)) = (Woken::waker(), Woken::waker());
    let (mut wait, mut fewer, mut given_up) = (children.wait(), children.fewer_than(2), children.wait());
    assert!(poll(&mut wait, &all_waker).is_pending() && poll(&mut fewer, &some_waker).is_pending());
    assert!(poll(&mut given_up, &some_waker).is_pending());
    drop(given_up);
    let mut members = members.into_iter();
    drop(members.next());
    assert_eq!((all.times(), some.times()), (0, 0));
    drop(members.next());
    assert_eq!((all.times(), some.times()), (0, 1));
    let again = children.enter(None); // the news may be old by the time it is looked at
    assert!(poll(&mut fewer, &some_waker).is_pending());
    drop(again);
    assert_eq!(some.times(), 2);
    assert!(poll(&mut fewer, &some_waker).is_ready());
    drop(members.next());
    assert_eq!((all.times(), some.times()), (1, 2));
    assert!(poll(&mut wait, &all_waker).is_ready());
}

// === Staggered ===

type Attempt = Pin<Box<dyn Future<Output = Result<&'static str, &'static str>>>>;

/// Runs attempts of so many seconds, each with its end; answers the winner, the failures, and when each started.
#[allow(clippy::type_complexity, reason = "taken apart at once")]
fn race(
    delay: Option<u32>,
    attempts: &'static [(u32, Result<&'static str, &'static str>)],
) -> ((Option<(usize, &'static str)>, Vec<(usize, &'static str)>, Vec<u64>), Duration) {
    run(async move {
        let begin = evenloop::time::now();
        let started = Rc::new(RefCell::new(Vec::new()));
        let starts = attempts.iter().map(|(seconds, end)| {
            started.borrow_mut().push(evenloop::time::now().duration_since(begin).as_secs());
            Box::pin(async {
                sleep(*seconds * SECOND).await;
                *end
            }) as Attempt
        });
        let timers = Runtime::current_timers("test").unwrap();
        let mut race = Staggered::new(starts, delay.map(|delay| (timers, delay * SECOND)));
        let won = poll_fn(|cx| race.poll_winner(cx)).await;
        let failed = race.into_parts().failed;
        (won, failed, started.take())
    })
}

#[test]
fn the_next_one_starts_after_the_delay_or_at_the_failure_of_the_one_before() {
    let (end, took) = race(Some(2), &[(9, Ok("slow")), (1, Err("refused")), (5, Ok("quick"))]);
    assert_eq!(end, (Some((2, "quick")), vec![(1, "refused")], vec![0, 2, 3]));
    assert_eq!(took, 8 * SECOND);
    // The failure of an earlier one starts nobody.
    let (end, _) = race(Some(4), &[(5, Err("late")), (9, Ok("first")), (9, Ok("second"))]);
    assert_eq!(end, (Some((1, "first")), vec![(0, "late")], vec![0, 4, 8]));
}

#[test]
fn without_a_delay_they_run_one_after_the_other_and_all_may_fail() {
    let (end, took) = race(None, &[(1, Err("a")), (2, Err("b")), (3, Err("c"))]);
    assert_eq!(end, (None, vec![(0, "a"), (1, "b"), (2, "c")], vec![0, 1, 3]));
    assert_eq!(took, 6 * SECOND);
    let (end, took) = race(Some(1), &[]);
    assert_eq!((end, took), ((None, vec![], vec![]), Duration::ZERO));
}

#[test]
fn when_all_that_run_have_failed_and_none_is_left_it_is_over() {
    // The newest fails first.
    let (end, took) = race(Some(1), &[(5, Err("old")), (1, Err("new"))]);
    assert_eq!(end, (None, vec![(1, "new"), (0, "old")], vec![0, 1]));
    assert_eq!(took, 5 * SECOND);
}

#[test]
fn an_attempt_that_was_not_woken_is_not_polled_for_one_that_starts() {
    let polls = Rc::new(Cell::new(0));
    let counts = polls.clone();
    let quiet: Attempt = Box::pin(poll_fn(move |_| {
        counts.set(counts.get() + 1);
        std::task::Poll::Pending
    }));
    let ((), _) = run(async {
        let timers = Runtime::current_timers("test").unwrap();
        let others = (0..5).map(|_| Box::pin(ready(Err("at once"))) as Attempt);
        let mut race = Staggered::new(std::iter::once(quiet).chain(others), Some((timers, SECOND)));
        let task = create_task(async move { poll_fn(|cx| race.poll_winner(cx)).await });
        sleep(10 * SECOND).await;
        drop(task);
    });
    assert_eq!(polls.get(), 2, "at its start, and when the delay was over");
}

/// The delay was over while the code around was being cancelled. Another branch absorbed that later, and nobody woke the race.
#[test]
fn what_is_due_starts_when_the_cancellation_around_is_over() {
    let scope = CancelScope::new();
    let asks = scope.clone();
    let (end, took) = run(async move {
        create_task(async move {
            sleep(SECOND).await;
            asks.cancel("is absorbed");
        })
        .detach();
        let block = scope.run(async move {
            let stays = async move {
                catch_cancel(pending::<()>()).await.unwrap_err().absorb();
                pending().await
            };
            let starts = [Box::pin(stays) as Attempt, Box::pin(async { Ok("second") })];
            let timers = Runtime::current_timers("test").unwrap();
            let mut race = Staggered::new(starts, Some((timers, 2 * SECOND)));
            let race = poll_fn(|cx| race.poll_winner(cx).map(|won| won.map(|(_, value)| value)));
            let other = async {
                let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
                sleep(2 * SECOND).await;
                cancelled.absorb();
            };
            futures::join!(race, other).0
        });
        timeout(100 * SECOND, block).await
    });
    assert_eq!(end, Ok(Ok(Some("second"))));
    assert_eq!(took, 3 * SECOND);
}
