//! Asynchronous generators as a user sees them: yields among awaits, early ends, and clean-up that waits.

use evenloop_tests::{SECOND, on_virtual_clock, panic_of};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use evenloop_core::cancel::{CancelScope, catch_cancel};
use evenloop_coroutine::{
    Aclose, AsyncBody, AsyncGenerator, Closed, LocalAsyncGenerator, Next, PinnedAsyncGenerator,
    SendAsyncGenerator, aclosing,
};
use futures::stream::{FusedStream, FuturesUnordered};
use futures::{FutureExt, StreamExt, executor::block_on};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(SendAsyncGenerator<'static, String>: Send, Sync, Unpin);
assert_impl_all!(LocalAsyncGenerator<'static, Rc<u8>>: Sync, Unpin);
assert_not_impl_any!(LocalAsyncGenerator<'static, u8>: Send);
assert_impl_all!(Next<'static, u8, dyn AsyncBody<u8> + Send>: Send, Sync);
assert_impl_all!(Aclose<'static, u8, dyn AsyncBody<u8> + Send>: Send, Sync);

assert_not_impl_any!(PinnedAsyncGenerator<u8, dyn AsyncBody<u8>>: Unpin);

/// Pending `times` times, waking itself.
fn pause(times: usize) -> impl Future<Output = ()> {
    let mut left = times;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Notes what happened, in order.
#[derive(Clone, Default)]
struct Journal(Rc<RefCell<Vec<&'static str>>>);

impl Journal {
    fn note(&self, entry: &'static str) {
        self.0.borrow_mut().push(entry);
    }

    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }

    /// Notes `entry` when dropped.
    fn at_drop(&self, entry: &'static str) -> impl Drop {
        struct AtDrop(Journal, &'static str);
        impl Drop for AtDrop {
            fn drop(&mut self) {
                self.0.note(self.1);
            }
        }
        AtDrop(self.clone(), entry)
    }
}

/// Yields 0, 1, 2 … with a pause before each, and awaits its clean-up when closed.
fn counter(journal: &Journal) -> LocalAsyncGenerator<'static, u32> {
    let journal = journal.clone();
    AsyncGenerator::new(async move |mut co| {
        let _held = journal.at_drop("dropped");
        journal.note("started");
        let mut n = 0;
        loop {
            pause(2).await;
            if co.yield_(n).await == Err(Closed) {
                break;
            }
            n += 1;
        }
        journal.note("cleaning");
        pause(2).await;
        journal.note("cleaned");
    })
    .boxed_local()
}

#[test]
fn it_is_a_stream_of_what_it_yields_among_its_awaits() {
    let squares = AsyncGenerator::new(async |mut co| -> Result<(), Closed> {
        for n in 0..5 {
            pause(n).await;
            co.yield_(n * n).await?;
        }
        Ok(())
    });
    assert_eq!(block_on(squares.collect::<Vec<_>>()), [0, 1, 4, 9, 16]);
}

#[test]
fn at_its_end_it_stays_there() {
    let mut one = AsyncGenerator::new(async |mut co| co.yield_('a').await);
    block_on(async {
        assert_eq!(one.next().await, Some('a'));
        assert!(!one.is_terminated());
        for _ in 0..3 {
            assert_eq!(one.next().await, None);
        }
        assert!(one.is_terminated() && one.done());
        one.aclose().await;
    });
    assert_eq!(format!("{one:?}"), "AsyncGenerator [done]");
}

#[test]
fn aclose_waits_for_the_clean_up() {
    let journal = Journal::default();
    let mut numbers = counter(&journal);
    block_on(async {
        assert_eq!(numbers.next().await, Some(0));
        assert_eq!(numbers.next().await, Some(1));
        assert_eq!(journal.take(), ["started"]);
        numbers.aclose().await;
        assert_eq!(journal.take(), ["cleaning", "cleaned", "dropped"]);
        assert_eq!(numbers.next().await, None);
        numbers.aclose().await;
    });
    assert_eq!(journal.take(), [""; 0]);
}

#[test]
fn aclose_of_one_that_has_not_begun_runs_nothing() {
    let journal = Journal::default();
    let mut numbers = counter(&journal);
    block_on(numbers.aclose());
    assert!(numbers.done());
    assert_eq!(journal.take(), [""; 0]);
}

#[test]
fn aclose_of_one_at_another_await_drops_it_if_nobody_catches() {
    let journal = Journal::default();
    let mut numbers = counter(&journal);
    assert!(poll_once(pin!(numbers.next())).is_pending());
    assert_eq!(format!("{numbers:?}"), "AsyncGenerator [awaiting]");
    assert!(poll_once(pin!(numbers.aclose())).is_ready());
    assert_eq!(journal.take(), ["started", "dropped"]);
    assert_eq!(block_on(numbers.next()), None);
}

/// Awaits what never comes, and catches that this is cancelled; then ends, or yields again.
fn catcher(journal: &Journal, absorbs: bool) -> LocalAsyncGenerator<'static, &'static str> {
    let journal = journal.clone();
    AsyncGenerator::new(async move |mut co| {
        let _held = journal.at_drop("dropped");
        if let Err(cancelled) = catch_cancel(pending::<()>()).await {
            pause(2).await;
            journal.note("cleaned");
            if absorbs {
                cancelled.absorb();
                pause(1).await;
                assert_eq!(co.yield_("lost").await, Err(Closed));
                pause(1).await;
                journal.note("told");
            } else {
                cancelled.resume().await;
            }
        }
    })
    .boxed_local()
}

#[test]
fn aclose_of_one_at_another_await_waits_for_whoever_catches_it() {
    let journal = Journal::default();
    let mut stuck = catcher(&journal, false);
    assert!(poll_once(pin!(stuck.next())).is_pending());
    block_on(stuck.aclose());
    assert_eq!(journal.take(), ["cleaned", "dropped"]);

    let mut stuck = catcher(&journal, true);
    assert!(poll_once(pin!(stuck.next())).is_pending());
    block_on(stuck.aclose());
    assert_eq!(journal.take(), ["cleaned", "told", "dropped"]);
}

#[test]
fn dropping_aclose_of_one_that_catches_asks_it_once() {
    for absorbs in [false, true] {
        for polls in 0..6 {
            let journal = Journal::default();
            let mut stuck = catcher(&journal, absorbs);
            assert!(poll_once(pin!(stuck.next())).is_pending());
            for _ in 0..polls {
                let _ = poll_once(pin!(stuck.aclose()));
            }
            block_on(stuck.aclose());
            let told: &[_] = if absorbs { &["told"] } else { &[] };
            assert_eq!(journal.take(), [&["cleaned"], told, &["dropped"]].concat(), "after {polls} polls");
        }
    }
}

#[test]
fn a_body_that_panics_while_it_is_cancelled_is_done() {
    let mut body = AsyncGenerator::new(async |mut co| {
        assert!(catch_cancel(pending::<()>()).await.is_ok(), "on purpose");
        co.yield_(()).await
    });
    assert!(poll_once(pin!(body.next())).is_pending());
    assert!(panic_of(|| block_on(body.aclose())).contains("on purpose"));
    block_on(body.aclose());
    assert!(body.done());
}

#[test]
fn a_clean_up_that_panics_ends_it() {
    let journal = Journal::default();
    let mut body = AsyncGenerator::new(async |mut co| {
        let _held = journal.at_drop("dropped");
        let more = co.yield_(()).await;
        pause(1).await;
        assert!(more.is_ok(), "in the clean-up");
    });
    block_on(body.next());
    assert!(poll_once(pin!(body.aclose())).is_pending());
    assert_eq!(panic_of(|| block_on(body.aclose())), "in the clean-up");
    assert_eq!(journal.take(), ["dropped"]);
    block_on(body.aclose());
    assert_eq!(block_on(body.next()), None);
}

#[test]
fn close_ends_an_aclose_that_was_under_way() {
    let journal = Journal::default();
    let mut stuck = catcher(&journal, false);
    assert!(poll_once(pin!(stuck.next())).is_pending());
    assert!(poll_once(pin!(stuck.aclose())).is_pending());
    stuck.close();
    assert_eq!(journal.take(), ["dropped"]);
    block_on(stuck.aclose());
}

#[test]
fn cancelling_the_consumer_is_heard_in_the_body() {
    let journal = Journal::default();
    let mut stuck = catcher(&journal, false);
    let scope = CancelScope::new();
    {
        let mut run = pin!(scope.run(stuck.next()));
        assert!(poll_once(run.as_mut()).is_pending());
        scope.cancel("enough");
        assert_eq!(block_on(run).unwrap_err().text(), Some("enough"));
    }
    assert_eq!(journal.take(), ["cleaned"]);
    drop(stuck);
    assert_eq!(journal.take(), ["dropped"]);
}

#[test]
fn aclosing_closes_before_a_cancellation_goes_on() {
    let journal = Journal::default();
    let scope = CancelScope::new();
    {
        let consumer = aclosing(counter(&journal), async |numbers| {
            assert_eq!(numbers.next().await, Some(0));
            pending::<()>().await;
        });
        let mut run = pin!(scope.run(consumer));
        for _ in 0..4 {
            assert!(poll_once(run.as_mut()).is_pending());
        }
        scope.cancel("enough");
        assert_eq!(block_on(run).unwrap_err().text(), Some("enough"));
        journal.note("after");
    }
    assert_eq!(journal.take(), ["started", "cleaning", "cleaned", "dropped", "after"]);
}

#[test]
fn a_cancelled_aclose_ends_the_clean_up_unless_that_catches() {
    let journal = Journal::default();
    let mut numbers = counter(&journal);
    block_on(numbers.next());
    let scope = CancelScope::new();
    {
        let mut run = pin!(scope.run(numbers.aclose()));
        assert!(poll_once(run.as_mut()).is_pending());
        scope.cancel("in a hurry");
        assert!(poll_once(run.as_mut()).is_ready());
    }
    assert_eq!(journal.take(), ["started", "cleaning"]);
    block_on(numbers.aclose()); // and may be taken up again
    assert_eq!(journal.take(), ["cleaned", "dropped"]);
}

#[test]
fn drop_and_close_are_synchronous() {
    let journal = Journal::default();
    let mut numbers = counter(&journal);
    block_on(numbers.next());
    drop(numbers);
    assert_eq!(journal.take(), ["started", "dropped"]);

    let mut numbers = counter(&journal);
    block_on(numbers.next());
    numbers.close();
    assert_eq!(journal.take(), ["started", "dropped"]);
    assert_eq!(block_on(numbers.next()), None);
}

#[test]
fn dropping_next_at_every_poll_loses_no_value() {
    for polls in 0..12 {
        let mut numbers = counter(&Journal::default());
        let mut seen = vec![];
        for _ in 0..polls {
            if let Poll::Ready(value) = poll_once(pin!(numbers.next())) {
                seen.push(value.unwrap());
            }
        }
        block_on(async {
            while seen.len() < 6 {
                seen.push(numbers.next().await.unwrap());
            }
        });
        assert_eq!(seen, [0, 1, 2, 3, 4, 5], "after {polls} dropped polls");
    }
}

#[test]
fn dropping_aclose_at_every_poll_leaves_the_clean_up_to_the_next() {
    for polls in 0..5 {
        let journal = Journal::default();
        let mut numbers = counter(&journal);
        block_on(numbers.next());
        let mut closed = false;
        for poll in 0..polls {
            closed = poll_once(pin!(numbers.aclose())).is_ready();
            assert_eq!(closed, poll >= 2);
            assert_eq!(block_on(numbers.next()), None, "closing has begun");
        }
        if !closed && polls > 0 {
            assert_eq!(format!("{numbers:?}"), "AsyncGenerator [awaiting, closing]");
        }
        block_on(numbers.aclose());
        assert_eq!(journal.take(), ["started", "cleaning", "cleaned", "dropped"], "after {polls} polls");
    }
}

/// Showed as a panic of `aclose`, which blamed a body that had not been told.
#[test]
fn closed_is_told_again_if_its_yield_was_dropped_unheard() {
    for (polls, dropped) in [(0, false), (1, false), (1, true)] {
        let mut told = false;
        let mut body = AsyncGenerator::new(async |mut co| {
            {
                let other = pin!(pause(1));
                futures::future::select(other, pin!(co.yield_(1))).await;
            }
            told = co.yield_(2).await.is_err();
        });
        assert_eq!(block_on(body.next()), Some(1));
        for _ in 0..polls {
            assert!(poll_once(pin!(body.aclose())).is_pending());
            assert_eq!(format!("{body:?}"), "AsyncGenerator [awaiting, closing]");
            assert_eq!(block_on(body.next()), None, "closing has begun");
        }
        if !dropped {
            block_on(body.aclose());
        }
        drop(body);
        assert_eq!(told, !dropped);
    }
}

#[test]
fn yielding_after_closed_is_a_panic_with_a_sentence() {
    let dropped = Cell::new(false);
    let mut stubborn = AsyncGenerator::new(async |mut co| {
        let _held = scopeguard(|| dropped.set(true));
        for _ in 0..10 {
            let _ = co.yield_(()).await;
        }
    });
    block_on(stubborn.next());
    let sentence = panic_of(|| block_on(stubborn.aclose()));
    assert!(sentence.contains("yielded after a `yield_` had given `Err(Closed)`"), "{sentence}");
    assert!(stubborn.done() && dropped.get());
    block_on(stubborn.aclose());
}

fn scopeguard<F: FnMut()>(f: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(f)
}

#[test]
fn a_yield_that_is_not_polled_is_a_panic_and_not_a_hang() {
    let mut lost = AsyncGenerator::new(async |mut co| {
        let mut yields = FuturesUnordered::new();
        yields.push(co.yield_(1));
        yields.next().await;
    });
    assert_eq!(block_on(lost.next()), Some(1));
    let sentence = panic_of(|| block_on(lost.next()));
    assert!(sentence.contains("did not poll its `yield_`"), "{sentence}");
    assert_eq!(block_on(lost.next()), None);
}

#[test]
fn yields_join_and_select_with_other_awaits() {
    let mut joined = AsyncGenerator::new(async |mut co| {
        let (more, ()) = futures::join!(co.yield_(1), pause(3));
        assert_eq!(more, Ok(()));
        let lost = futures::select_biased! {
            more = co.yield_(2).fuse() => more.is_ok(),
            () = pause(0).fuse() => false,
        };
        assert!(!lost, "the ready branch won, and the yield was taken back");
        let _ = co.yield_(3).await;
    });
    assert!(block_on(joined.by_ref().collect::<Vec<_>>()).into_iter().eq([1, 3]));
}

#[test]
fn a_panic_in_the_body_ends_it() {
    let mut body = AsyncGenerator::new(async |mut co| {
        let more = co.yield_(()).await;
        pause(1).await;
        assert!(more.is_err(), "on purpose");
    });
    block_on(body.next());
    assert_eq!(panic_of(|| block_on(body.next())), "on purpose");
    assert_eq!(block_on(body.next()), None);
}

#[test]
fn generators_read_generators() {
    let journal = Journal::default();
    let inner = counter(&journal);
    let mut doubled = AsyncGenerator::new(async |mut co| {
        aclosing(inner, async |inner| -> Result<(), Closed> {
            while let Some(n) = inner.next().await {
                co.yield_(2 * n).await?;
            }
            Ok(())
        })
        .await
    });
    block_on(async {
        assert_eq!(doubled.next().await, Some(0));
        assert_eq!(doubled.next().await, Some(2));
        doubled.aclose().await; // closes the inner one on its way out
    });
    assert_eq!(journal.take(), ["started", "cleaning", "cleaned", "dropped"]);
}

/// The outer body's handle, lent to the inner one: each yield finds its own consumer.
#[test]
fn an_inner_body_may_yield_for_the_outer_one() {
    let mut outer = AsyncGenerator::new(async |mut co| {
        let mut letters = Vec::new();
        {
            let mut inner = pin!(PinnedAsyncGenerator::new(async |mut own| {
                for (n, letter) in [(1_u64, "a"), (2, "b")] {
                    co.yield_(n).await.unwrap();
                    own.yield_(letter).await.unwrap();
                    let (outwards, _) = (co.yield_(10 * n), pause(1).await);
                    outwards.await.unwrap();
                }
            }));
            while let Some(letter) = inner.as_mut().next().await {
                letters.push(letter);
            }
        }
        assert_eq!(letters, ["a", "b"]);
        co.yield_(3).await.unwrap();
    });
    assert_eq!(block_on(outer.by_ref().collect::<Vec<_>>()), [1, 10, 2, 20, 3]);
}

/// As in a merge: the inner generators are raced, and one that lost goes on later where it was.
#[test]
fn a_body_may_select_between_generators_and_yield_what_comes_first() {
    let numbers = |pauses, step: u64| {
        AsyncGenerator::new(async move |mut co| {
            for n in 1..=3 {
                pause(pauses).await;
                co.yield_(n * step).await.unwrap();
            }
        })
    };
    let mut merged = AsyncGenerator::new(async |mut co| {
        let (mut slow, mut fast) = (pin!(numbers(3, 1).fuse()), pin!(numbers(1, 100).fuse()));
        loop {
            let next = futures::select_biased! {
                n = slow.next() => n,
                n = fast.next() => n,
                complete => break,
            };
            if let Some(n) = next {
                co.yield_(n).await.unwrap();
            }
        }
    });
    let mut all: Vec<_> = block_on(merged.by_ref().collect());
    assert_eq!(all[0], 100);
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 100, 200, 300]);
}

/// The value lies there while the body waits for something else, and moves with it.
#[test]
fn a_yield_made_before_another_await_is_offered_when_it_is_polled() {
    fn waits<Y: Send + 'static>(
        value: impl Fn(u8) -> Y + Copy + Send + 'static,
    ) -> SendAsyncGenerator<'static, Y> {
        AsyncGenerator::new(async move |mut co| {
            for n in 0..2 {
                let placed = co.yield_(value(n));
                pause(1).await;
                placed.await.unwrap();
            }
            let _placed = co.yield_(value(2));
            pending::<()>().await
        })
        .boxed()
    }
    fn check<Y: PartialEq + std::fmt::Debug + Send + 'static>(
        value: impl Fn(u8) -> Y + Copy + Send + 'static,
    ) {
        let mut body = waits(value);
        for n in 0..2 {
            assert!(poll_once(pin!(body.next())).is_pending());
            assert_eq!(format!("{body:?}"), "AsyncGenerator [awaiting]");
            let there = std::thread::spawn(move || (poll_once(pin!(body.next())), body));
            let (polled, back) = there.join().unwrap();
            assert_eq!(polled, Poll::Ready(Some(value(n))));
            body = back;
        }
        assert!(poll_once(pin!(body.next())).is_pending());
        block_on(body.aclose());
        assert_eq!(block_on(body.next()), None);
        let mut dropped = waits(value);
        assert!(poll_once(pin!(dropped.next())).is_pending());
    }
    check(|n| n);
    check(|n| format!("the value {n}"));
}

/// A panic that comes where nobody waits for it: in a poll that goes on after another await.
#[test]
fn a_body_that_panics_after_it_has_waited_is_done() {
    for has_placed in [false, true] {
        let mut body = AsyncGenerator::new(async |mut co| {
            let placed = has_placed.then(|| co.yield_(1));
            pause(1).await;
            assert!(placed.is_none() && has_placed, "on purpose");
        });
        assert!(poll_once(pin!(body.next())).is_pending());
        assert_eq!(panic_of(|| block_on(body.next())), "on purpose");
        assert!(body.done());
        assert_eq!(block_on(body.next()), None);
        block_on(body.aclose());
    }
}

#[test]
fn aclosing_closes_on_every_way_out() {
    let journal = Journal::default();
    let found = block_on(aclosing(counter(&journal), async |numbers| {
        while let Some(n) = numbers.next().await {
            if n == 3 {
                return Err("found it");
            }
        }
        Ok(())
    }));
    journal.note("after");
    assert_eq!(found, Err("found it"));
    assert_eq!(journal.take(), ["started", "cleaning", "cleaned", "dropped", "after"]);
}

#[test]
fn a_pinned_one_does_what_a_boxed_one_does() {
    let journal = Journal::default();
    let mut body = pin!(PinnedAsyncGenerator::new(async |mut co| {
        let _held = journal.at_drop("dropped");
        for n in 0..2 {
            if co.yield_(n).await.is_err() {
                pause(1).await;
                journal.note("cleaned");
                return;
            }
        }
    }));
    block_on(async {
        assert_eq!(body.as_mut().next().await, Some(0));
        body.as_mut().aclose().await;
        assert_eq!(body.as_mut().next().await, None);
        assert!(body.is_terminated());
    });
    assert_eq!(journal.take(), ["cleaned", "dropped"]);
    assert_eq!(format!("{body:?}"), "PinnedAsyncGenerator [done]");
    body.as_mut().close();
}

#[test]
fn the_body_wakes_the_consumers_own_waker() {
    let (ours, theirs) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let kept = theirs.clone();
    let mut body = AsyncGenerator::new(async |mut co| {
        poll_fn(|cx| {
            kept.set(Some(cx.waker().clone()));
            Poll::Ready(())
        })
        .await;
        co.yield_(()).await
    });
    block_on(poll_fn(|cx| {
        ours.set(Some(cx.waker().clone()));
        body.next().poll_unpin(cx)
    }));
    assert!(ours.take().unwrap().will_wake(&theirs.take().unwrap()));
}

#[test]
fn it_goes_to_another_thread_in_mid_wait() {
    let mut body = AsyncGenerator::new(async |mut co| {
        pause(1).await;
        co.yield_(String::from("there")).await
    })
    .boxed();
    assert!(poll_once(pin!(body.next())).is_pending());
    let there = std::thread::spawn(move || block_on(body.next()));
    assert_eq!(there.join().unwrap().as_deref(), Some("there"));
}

/// Yields at once, then sleeps for an hour; cleans up for a second, also when it is cancelled.
fn sleeper(journal: &Journal) -> LocalAsyncGenerator<'static, ()> {
    let journal = journal.clone();
    AsyncGenerator::new(async move |mut co| {
        let _held = journal.at_drop("dropped");
        let outcome = catch_cancel(async {
            if co.yield_(()).await.is_ok() {
                evenloop::sleep(3600 * SECOND).await;
            }
        })
        .await;
        evenloop::sleep(SECOND).await;
        journal.note("cleaned");
        if let Err(cancelled) = outcome {
            cancelled.resume().await;
        }
    })
    .boxed_local()
}

#[test]
fn in_a_runtime_a_cancelled_consumer_waits_for_the_clean_up() {
    for at_yield in [true, false] {
        let journal = Journal::default();
        let ours = journal.clone();
        let ((), took) = on_virtual_clock(async move {
            let theirs = ours.clone();
            let mut consumer = evenloop::create_task(aclosing(sleeper(&ours), async move |values| {
                values.next().await;
                if at_yield {
                    evenloop::sleep(3600 * SECOND).await;
                }
                values.next().await;
                theirs.note("not reached");
            }));
            evenloop::sleep(5 * SECOND).await;
            consumer.cancel("enough");
            assert_eq!(consumer.join().await.unwrap_err().reason().text(), Some("enough"));
            ours.note("after");
        });
        assert_eq!(journal.take(), ["cleaned", "dropped", "after"], "at a yield: {at_yield}");
        assert_eq!(took, 6 * SECOND);
    }
}

#[test]
fn in_a_runtime_one_that_is_dropped_is_gone_at_once() {
    let journal = Journal::default();
    let ours = journal.clone();
    let ((), took) = on_virtual_clock(async move {
        let mut values = sleeper(&ours);
        values.next().await;
        drop(values);
        ours.note("after");
    });
    assert_eq!(journal.take(), ["dropped", "after"]);
    assert_eq!(took, std::time::Duration::ZERO);
}
