//! Coroutines as a user sees them: what goes in, what comes out, how they end, and that every value is dropped once.

use evenloop_tests::panic_of;
use std::cell::{Cell, RefCell};
use std::future::{poll_fn, ready};
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use evenloop_coroutine::{
    Body, Co, Coroutine, Exhausted, LocalCoroutine, PinnedCoroutine, Resumed, SendCoroutine, Yield,
};
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(SendCoroutine<'static, u8, String, ()>: Send, Sync, Unpin);
assert_impl_all!(LocalCoroutine<'static, u8, Rc<u8>, ()>: Sync, Unpin);
assert_not_impl_any!(LocalCoroutine<'static, u8, u8, ()>: Send);
assert_impl_all!(Co<'static, u8, String>: Send, Sync);
assert_impl_all!(Yield<'static, 'static, u8, String>: Send, Sync);
assert_not_impl_any!(Co<'static, Rc<u8>, u8>: Send, Sync);
assert_not_impl_any!(Co<'static, u8, u8>: Clone, Copy);
assert_not_impl_any!(PinnedCoroutine<u8, u8, dyn Body<u8, u8, Return = ()>>: Unpin);

/// Counts its drops.
#[derive(Debug, Clone)]
struct Counted(Rc<Cell<i64>>);

impl Counted {
    fn new(alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn values_go_in_and_come_out() {
    let mut adder = Coroutine::new(async |mut co| {
        let mut sum = co.argument().expect("the first value");
        assert_eq!(co.argument(), None, "it is taken once");
        for _ in 0..2 {
            sum += co.yield_(format!("so far {sum}")).await;
        }
        sum
    });
    assert_eq!(format!("{adder:?}"), "Coroutine [not started]");
    assert_eq!(adder.resume(1), Resumed::Yielded("so far 1".into()));
    assert_eq!(format!("{adder:?}"), "Coroutine [at a yield]");
    assert_eq!(adder.resume(10), Resumed::Yielded("so far 11".into()));
    assert_eq!(adder.resume(100), Resumed::Returned(111));
    assert_eq!(format!("{adder:?}"), "Coroutine [done]");
    assert!(adder.done());
}

#[test]
fn an_exhausted_one_gives_the_value_back() {
    let mut once = Coroutine::<String, (), _>::new(async |_| 7);
    assert_eq!(once.resume("a".into()).returned(), Some(7));
    let exhausted = once.try_resume("b".into()).unwrap_err();
    assert_eq!(exhausted.to_string(), "the coroutine has ended: it returned, was closed, or panicked");
    assert_eq!(exhausted, Exhausted("b".into()));
    assert!(panic_of(|| once.resume("c".into())).contains("`try_resume`, which gives the value back"));
}

#[test]
fn throw_is_an_error_at_the_yield() {
    let mut body = Coroutine::new(async |mut co: Co<'_, Result<u32, String>, &str>| -> Result<u32, String> {
        let n: u32 = co.yield_("n?").await?;
        let m = co.yield_("m?").await.unwrap_or(5);
        co.yield_("more?").await?;
        Ok(n + m)
    });
    assert_eq!(body.send(0), Resumed::Yielded("n?"));
    assert_eq!(body.send(1), Resumed::Yielded("m?"));
    assert_eq!(body.throw("caught".into()), Ok(Resumed::Yielded("more?")));
    assert_eq!(body.throw("passed on".into()), Ok(Resumed::Returned(Err("passed on".into()))));
    assert_eq!(body.throw("too late".into()), Err("too late".into()));
}

#[test]
fn throwing_into_one_that_has_not_begun_ends_it() {
    let ran = Cell::new(false);
    let mut body = Coroutine::<Result<(), &str>, (), _>::new(async |_| ran.set(true));
    assert_eq!(body.throw("early"), Err("early"));
    assert!(body.done());
    drop(body);
    assert!(!ran.get());
}

#[test]
fn close_runs_the_destructors_of_the_body_at_once() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let _a = Counted::new(&alive);
        co.yield_(Counted::new(&alive)).await;
    });
    let yielded = body.next().expect("one value");
    assert_eq!(alive.get(), 2);
    body.close();
    assert_eq!(alive.get(), 1, "the yielded value is ours");
    body.close();
    assert!(body.next().is_none());
    drop(yielded);
    assert_eq!(alive.get(), 0);
}

/// Makes yields in its destructor: dropped at once, polled and dropped, polled twice, and one that is left behind.
struct Tries<'y, 'a>(&'y mut Co<'a, Counted, Counted>, Rc<Cell<i64>>);

impl Drop for Tries<'_, '_> {
    fn drop(&mut self) {
        drop(self.0.yield_(Counted::new(&self.1)));
        assert!(self.0.yield_(Counted::new(&self.1)).now_or_never().is_none());
        let mut twice = self.0.yield_(Counted::new(&self.1));
        assert!((&mut twice).now_or_never().is_none());
        assert!((&mut twice).now_or_never().is_none());
        drop(twice);
        assert!(self.0.argument().is_none());
        let mut left = ManuallyDrop::new(self.0.yield_(Counted::new(&self.1)));
        assert!((&mut *left).now_or_never().is_none());
    }
}

#[test]
fn a_destructor_of_the_body_may_not_yield_any_more_but_may_try() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let tries = Tries(&mut co, alive.clone());
        tries.0.yield_(Counted::new(&alive)).await;
        drop(tries);
    });
    let first = body.resume(Counted::new(&alive));
    assert_eq!(alive.get(), 1, "the first value; the argument is gone");
    body.close();
    assert_eq!(alive.get(), 1);
    drop(first);
    assert_eq!(alive.get(), 0);
    assert!(body.try_resume(Counted::new(&alive)).is_err());
    assert_eq!(alive.get(), 0);
}

/// The same with values that need no drop, which take a way of their own.
#[test]
fn a_destructor_may_try_to_yield_plain_values_too() {
    struct Tries<'y, 'a>(&'y mut Co<'a, u8, u8>);
    impl Drop for Tries<'_, '_> {
        fn drop(&mut self) {
            for _ in 0..2 {
                drop(self.0.yield_(1));
                assert!(self.0.yield_(2).now_or_never().is_none());
                assert_eq!(self.0.argument(), None);
            }
            let mut left = ManuallyDrop::new(self.0.yield_(3));
            assert!((&mut *left).now_or_never().is_none());
        }
    }
    for resumes in 0..3 {
        let mut body = Coroutine::new(async |mut co| {
            let tries = Tries(&mut co);
            tries.0.yield_(4).await;
        });
        for resume in 0..resumes {
            assert_eq!(body.resume(5), if resume == 0 { Resumed::Yielded(4) } else { Resumed::Returned(()) });
        }
        body.close();
        assert_eq!(body.try_resume(6), Err(Exhausted(6)));
    }
}

#[test]
fn a_destructor_yields_nothing_when_the_body_returns_panics_or_waits_for_something_else() {
    for end in ["return", "panic", "wait"] {
        let alive = Rc::new(Cell::new(0));
        let mut body = Coroutine::<Counted, Counted, _>::new(async |mut co| {
            let _tries = Tries(&mut co, alive.clone());
            match end {
                "return" => {}
                "panic" => panic!("on purpose"),
                _ => std::future::pending().await,
            }
        });
        let resumed =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body.resume(Counted::new(&alive))));
        assert_eq!(resumed.is_ok_and(|resumed| matches!(resumed, Resumed::Returned(()))), end == "return");
        assert!(body.done());
        assert_eq!(alive.get(), 0, "{end}");
    }
}

#[test]
fn a_destructor_yields_nothing_where_the_body_leaked_its_last_yield() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let tries = Tries(&mut co, alive.clone());
        let mut leaked = ManuallyDrop::new(tries.0.yield_(Counted::new(&alive)));
        poll_fn(|cx| leaked.poll_unpin(cx)).await;
    });
    let value = body.resume(Counted::new(&alive));
    body.close();
    assert_eq!(alive.get(), 1);
    drop(value);
    assert_eq!(alive.get(), 0);
}

/// Polls its yield, which has been polled before, when it is dropped.
struct PollsLater<'y, 'a, R>(Yield<'y, 'a, R, Counted>);

impl<R> Drop for PollsLater<'_, '_, R> {
    fn drop(&mut self) {
        assert!((&mut self.0).now_or_never().is_none());
        assert!((&mut self.0).now_or_never().is_none());
    }
}

#[test]
fn a_yield_whose_value_was_taken_offers_nothing_when_it_is_polled_in_a_destructor() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let mut later = PollsLater(co.yield_(Counted::new(&alive)));
        poll_fn(|cx| later.0.poll_unpin(cx)).await;
    });
    let value = body.next();
    body.close();
    assert_eq!(alive.get(), 1);
    drop(value);
    assert_eq!(alive.get(), 0);
}

#[test]
fn an_unheard_answer_is_dropped_once_even_if_that_panics() {
    struct Panics(Option<Counted>);
    impl Drop for Panics {
        fn drop(&mut self) {
            assert!(self.0.is_none(), "in a destructor");
        }
    }
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let mut later = PollsLater(co.yield_(Counted::new(&alive)));
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if polls == 1 { later.0.poll_unpin(cx).map(drop) } else { Poll::Pending }
        })
        .await;
    });
    let value = body.resume(Panics(None));
    assert_eq!(panic_of(|| body.resume(Panics(Some(Counted::new(&alive))))), "in a destructor");
    assert!(body.done());
    assert_eq!(alive.get(), 1);
    drop(value);
    assert_eq!(alive.get(), 0);
}

#[test]
fn a_yield_forgotten_before_it_is_polled_never_was() {
    let mut body = Coroutine::new(async |mut co| {
        std::mem::forget(co.yield_(1));
        co.yield_(2).await;
        std::mem::forget(co.yield_(3));
    });
    assert!(body.by_ref().eq([2]));
}

#[test]
fn a_body_that_panics_is_done_and_dropped() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let _held = Counted::new(&alive);
        co.yield_(()).await;
        panic!("on purpose");
    });
    assert_eq!(body.try_resume(()), Ok(Resumed::<(), ()>::Yielded(())));
    assert_eq!(panic_of(|| body.try_resume(())), "on purpose");
    assert_eq!(alive.get(), 0);
    assert_eq!(body.try_resume(()), Err(Exhausted(())));
}

#[test]
fn a_body_that_panics_drops_what_it_captured_at_once() {
    let alive = Rc::new(Cell::new(0));
    let captured = Counted::new(&alive);
    let mut body = Coroutine::<(), (), _>::new(async move |_| {
        let _captured = &captured;
        panic!("on purpose")
    });
    assert_eq!(panic_of(|| body.next()), "on purpose");
    assert_eq!(alive.get(), 0);
}

/// A body that is no async block, so that nobody drops what it holds when it panics.
struct Panics(#[expect(dead_code, reason = "it is held")] Counted);

impl Future for Panics {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic!("on purpose")
    }
}

#[test]
fn a_future_written_by_hand_that_panics_is_done_at_once_and_dropped_at_the_next_touch() {
    type Touch = fn(&mut dyn FnMut() -> Option<()>);
    let touches: [Touch; 2] = [|_| {}, |next| assert!(next().is_none())];
    for touch in touches {
        let alive = Rc::new(Cell::new(0));
        let held = Counted::new(&alive);
        let mut body = Coroutine::<(), (), ()>::new(move |_: Co<'_, (), ()>| Panics(held));
        assert_eq!(panic_of(|| body.next()), "on purpose");
        assert!(body.done());
        touch(&mut || body.next());
        drop(body);
        assert_eq!(alive.get(), 0);
    }
}

#[test]
fn a_function_that_panics_before_it_returns_its_future_is_done() {
    fn panics<'a>(_: Co<'a, (), u8>) -> Box<dyn Future<Output = ()> + Unpin + 'a> {
        panic!("at once")
    }
    let mut body = Coroutine::new(panics);
    assert_eq!(panic_of(|| body.next()), "at once");
    assert_eq!(body.next(), None);
}

#[test]
fn a_function_has_begun_before_it_returns_its_future() {
    fn begins<'a>(mut co: Co<'a, u8, u8>) -> Pin<Box<dyn Future<Output = u8> + 'a>> {
        let argument = co.argument().expect("the first value");
        Box::pin(async move { co.yield_(argument + 1).await })
    }
    let mut body = Coroutine::new(begins);
    assert_eq!(body.resume(7), Resumed::Yielded(8));
    assert_eq!(body.resume(9), Resumed::Returned(9));
}

#[test]
fn a_yield_leaked_before_the_future_is_there_is_dropped_with_the_body() {
    fn hasty<'a>(mut co: Co<'a, u8, String>) -> Pin<Box<dyn Future<Output = Option<u8>> + 'a>> {
        let mut leaked = ManuallyDrop::new(co.yield_("too early".into()));
        assert!((&mut *leaked).now_or_never().is_none());
        Box::pin(async move { co.argument() })
    }
    assert_eq!(Coroutine::new(hasty).resume(7), Resumed::Returned(None));
}

/// Showed as a value that was never dropped: the slot was emptied after the body, unless that panicked.
#[test]
fn a_destructor_that_panics_does_not_leak_what_lies_in_the_slot() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    struct Body(Panics);
    impl Future for Body {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::<Counted, (), _>::new(|_: Co<'_, Counted, ()>| Body(Panics));
    assert_eq!(panic_of(|| body.resume(Counted::new(&alive))), "in a destructor");
    assert_eq!(alive.get(), 0);
}

#[test]
fn a_destructor_that_panics_in_close_leaves_it_done() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        let _held = Counted::new(&alive);
        let _panics = Panics;
        let tries = Tries(&mut co, alive.clone());
        tries.0.yield_(Counted::new(&alive)).await;
    });
    assert!(body.resume(Counted::new(&alive)).yielded().is_some());
    assert_eq!(panic_of(|| body.close()), "in a destructor");
    assert!(body.done());
    body.close();
    drop(body);
    assert_eq!(alive.get(), 0);
}

#[test]
fn awaiting_something_foreign_is_a_panic_with_a_sentence() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::<(), (), _>::new(async |_| {
        let _held = Counted::new(&alive);
        ready(()).await; // ready at once: fine
        std::future::pending::<()>().await;
    });
    let sentence = panic_of(|| body.try_resume(()));
    assert!(sentence.contains("awaited something other than its own `yield_`"), "{sentence}");
    assert!(body.done());
    assert_eq!(alive.get(), 0);
}

/// Showed as blame for a foreign await, where the body awaited nothing but its own yield.
#[test]
fn a_yield_that_is_not_polled_is_a_panic_that_says_so() {
    let alive = Rc::new(Cell::new(0));
    let mut lost = Coroutine::new(async |mut co| {
        let mut yields = FuturesUnordered::new();
        yields.push(co.yield_(1));
        yields.next().await;
    });
    assert_eq!(lost.resume(Counted::new(&alive)), Resumed::Yielded(1));
    let sentence = panic_of(|| lost.resume(Counted::new(&alive)));
    assert!(sentence.contains("did not poll its `yield_`"), "{sentence}");
    assert!(lost.done());
    assert_eq!(alive.get(), 0);
}

#[test]
fn the_outer_bodys_yield_is_foreign_in_an_inner_body() {
    let mut outer = Coroutine::new(async |mut co| {
        let mut inner = Coroutine::<(), (), _>::new(async |_| co.yield_(1_u64).await);
        let sentence = panic_of(|| inner.resume(()));
        assert!(sentence.contains("awaited something other"), "{sentence}");
        drop(inner);
        co.yield_(2).await;
    });
    assert_eq!(outer.next(), Some(2), "the value of the yield that was dropped is withdrawn");
    assert_eq!(outer.next(), None);
}

#[test]
fn coroutines_nest() {
    let mut outer = Coroutine::new(async |mut co| {
        let letters = Coroutine::new(async |mut inner| {
            for letter in ["a", "b"] {
                inner.yield_(letter).await;
            }
        });
        for letter in letters {
            for n in 0..2 {
                co.yield_((letter, n)).await;
            }
        }
    });
    assert!(outer.by_ref().eq([("a", 0), ("a", 1), ("b", 0), ("b", 1)]));
}

#[test]
fn a_yield_dropped_before_it_is_seen_never_was() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        {
            let yielded = pin!(co.yield_(Counted::new(&alive)));
            assert!(matches!(select(yielded, ready(5)).await, Either::Right((5, _))));
        }
        assert_eq!(alive.get(), 0);
        co.yield_(Counted::new(&alive)).await;
    });
    let seen = body.next();
    assert_eq!(alive.get(), 1);
    drop(seen);
    assert!(body.next().is_none());
}

#[test]
fn a_yield_that_is_never_polled_gives_its_value_up() {
    let alive = Rc::new(Cell::new(0));
    let mut body = Coroutine::new(async |mut co| {
        drop(co.yield_(Counted::new(&alive)));
        assert_eq!(alive.get(), 0, "it was dropped with its yield");
        std::mem::forget(co.yield_(Counted::new(&alive)));
        assert_eq!(alive.get(), 1);
        let next = co.yield_(Counted::new(&alive));
        assert_eq!(alive.get(), 1, "the forgotten one made room");
        next.await;
        std::mem::forget(co.yield_(Counted::new(&alive)));
    });
    drop(body.next().expect("one is yielded"));
    assert!(body.next().is_none());
    assert_eq!(alive.get(), 0, "the last went with its body");
}

#[test]
fn a_yield_polled_again_before_its_answer_stays_pending() {
    let mut body = Coroutine::new(async |mut co| {
        let mut yielded = co.yield_(1);
        // More often than a byte counts.
        for _ in 0..300 {
            assert!((&mut yielded).now_or_never().is_none());
        }
        yielded.await
    });
    assert_eq!(body.resume(0), Resumed::Yielded(1));
    assert_eq!(body.resume(7), Resumed::Returned(7));
}

#[test]
fn a_leaked_yield_is_a_panic_and_not_a_mix_up() {
    let mut body = Coroutine::new(async |mut co| {
        let mut leaked = ManuallyDrop::new(co.yield_(1));
        assert!((&mut *leaked).now_or_never().is_none());
        co.yield_(2).await;
    });
    let sentence = panic_of(|| body.next());
    assert!(sentence.contains("await each before the next"), "{sentence}");
    assert!(body.next().is_none());
}

/// Of plain values and of such that have to be dropped, which take ways of their own.
#[test]
fn a_leaked_yield_is_told_where_the_body_stops_next_and_no_value_of_it_gets_out() {
    fn leaks<Y>(value: impl Fn() -> Y + Copy, end: &'static str) {
        let mut body = Coroutine::<(), Y, _>::new(async move |mut co| {
            let mut leaked = ManuallyDrop::new(co.yield_(value()));
            assert!((&mut *leaked).now_or_never().is_none());
            for _ in 0..2 {
                let mut crowded = co.yield_(value());
                assert!((&mut crowded).now_or_never().is_none());
                assert!((&mut crowded).now_or_never().is_none());
            }
            assert_eq!(co.argument(), None);
            match end {
                "return" => {}
                "yield" => co.yield_(value()).await,
                "leak" => poll_fn(|cx| ManuallyDrop::new(co.yield_(value())).poll_unpin(cx)).await,
                _ => std::future::pending().await,
            }
        });
        let sentence = panic_of(|| body.try_resume(()).is_ok());
        assert!(sentence.contains("await each before the next"), "{sentence}");
        assert!(body.done());
        assert_eq!(body.try_resume(()).err(), Some(Exhausted(())));
    }
    for end in ["return", "yield", "leak", "wait"] {
        leaks(|| 7_u8, end);
        let alive = Rc::new(Cell::new(0));
        leaks(|| Counted::new(&alive), end);
        assert_eq!(alive.get(), 0, "{end}");
    }
}

/// What a panic finds in the slot does not make the body look as if it stood at a yield.
#[test]
fn a_body_that_panics_in_whatever_state_is_done() {
    for state in ["offered", "placed", "argument", "answered", "running", "crowded"] {
        let mut body = Coroutine::<u8, u8, _>::new(async |mut co| {
            if matches!(state, "answered" | "running") {
                let mut yielded = co.yield_(1);
                let mut polls = 0;
                poll_fn(|cx| {
                    polls += 1;
                    assert!(polls == 1 || state == "running", "on purpose");
                    yielded.poll_unpin(cx)
                })
                .await;
            }
            let mut placed = (state != "argument").then(|| ManuallyDrop::new(co.yield_(2)));
            if let Some(yielded) = placed.as_mut().filter(|_| matches!(state, "offered" | "crowded")) {
                assert!((&mut **yielded).now_or_never().is_none());
            }
            if state == "crowded" {
                drop(co.yield_(3));
            }
            panic!("on purpose")
        });
        if matches!(state, "answered" | "running") {
            assert_eq!(body.resume(8), Resumed::Yielded(1));
        }
        assert_eq!(panic_of(|| body.resume(9)), "on purpose", "{state}");
        assert!(body.done(), "{state}");
        assert_eq!(format!("{body:?}"), "Coroutine [done]");
        assert_eq!(body.try_resume(9), Err(Exhausted(9)));
        body.close();
    }
}

#[test]
fn the_answer_to_a_leaked_yield_is_not_given_to_the_next() {
    let mut body = Coroutine::new(async |mut co| {
        let mut leaked = ManuallyDrop::new(co.yield_(1));
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            if polls == 1 { leaked.poll_unpin(cx).map(|_: i32| ()) } else { Poll::Ready(()) }
        })
        .await;
        let answer = co.yield_(2).await;
        co.yield_(answer).await;
    });
    let body: &mut Coroutine<i32, i32, (), _> = &mut body;
    assert_eq!(body.resume(0), Resumed::Yielded(1));
    assert_eq!(body.resume(10), Resumed::Yielded(2), "10 answered the yield that is gone");
    assert_eq!(body.resume(20), Resumed::Yielded(20));
}

#[test]
fn a_yield_polled_after_its_end_is_a_panic_where_the_body_stops_next() {
    for end in ["return", "yield", "wait"] {
        let mut body = Coroutine::new(async |mut co| {
            let mut yielded = co.yield_(());
            poll_fn(|cx| yielded.poll_unpin(cx)).await;
            assert!(yielded.now_or_never().is_none(), "it has nothing to give");
            match end {
                "return" => {}
                "yield" => co.yield_(()).await,
                _ => std::future::pending().await,
            }
        });
        assert_eq!(body.resume(()), Resumed::Yielded(()));
        assert_eq!(panic_of(|| body.resume(())), "`yield_` was polled after it had given its value", "{end}");
        assert!(body.done());
        assert_eq!(body.try_resume(()), Err(Exhausted(())));
    }
}

#[test]
fn resuming_while_running_is_the_ref_cells_error() {
    let shared: Rc<RefCell<Option<LocalCoroutine<'static, (), (), bool>>>> = Rc::default();
    let theirs = shared.clone();
    let body = Coroutine::<(), (), _>::new(async move |_| theirs.try_borrow_mut().is_err());
    *shared.borrow_mut() = Some(body.boxed_local());
    let refused = shared.borrow_mut().as_mut().map(|body| body.resume(()));
    assert_eq!(refused, Some(Resumed::Returned(true)));
    shared.take();
}

#[test]
fn a_body_may_borrow_what_outlives_it_and_yield_it() {
    let words = String::from("a few words");
    let longest = {
        let mut each = pin!(PinnedCoroutine::new(async |mut co| {
            for word in words.split(' ') {
                co.yield_(word).await;
            }
        }));
        each.as_mut().values().max_by_key(|word| word.len())
    };
    assert_eq!(longest, Some("words"));
}

#[test]
fn a_pinned_one_does_what_a_boxed_one_does() {
    let mut body = pin!(PinnedCoroutine::new(async |mut co| -> Result<(), u8> {
        assert_eq!(co.argument(), Some(Ok("start")));
        co.yield_(1).await?;
        co.yield_(2).await?;
        Ok(())
    }));
    assert_eq!(format!("{body:?}"), "PinnedCoroutine [not started]");
    assert_eq!(body.as_mut().send("start"), Resumed::Yielded(1));
    assert_eq!(body.as_mut().try_resume(Ok("on")), Ok(Resumed::Yielded(2)));
    assert_eq!(body.as_mut().throw(3), Ok(Resumed::Returned(Err(3))));
    assert!(body.done());
    body.as_mut().close();
    assert_eq!(body.throw(4), Err(4));
}

#[test]
fn it_moves_between_threads_between_resumes() {
    let mut body: SendCoroutine<'_, _, _, _> = Coroutine::new(async |mut co| {
        let mut seen = vec![std::thread::current().id()];
        for n in 0..3 {
            co.yield_(n).await;
            seen.push(std::thread::current().id());
        }
        seen
    })
    .boxed();
    for n in 0..3 {
        let resumed;
        (body, resumed) = std::thread::spawn(move || {
            let resumed = body.resume(());
            (body, resumed)
        })
        .join()
        .unwrap();
        assert_eq!(resumed, Resumed::Yielded(n));
    }
    let mut seen = body.resume(()).returned().expect("the end");
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_scoped_thread_may_poll_a_yield() {
    let mut body = Coroutine::new(async |mut co| {
        let mut yielded = co.yield_(String::from("from there"));
        std::thread::scope(|scope| {
            let there = scope.spawn(|| (&mut yielded).now_or_never().is_none());
            assert!(there.join().unwrap());
        });
        yielded.await
    });
    assert_eq!(body.resume(1), Resumed::Yielded("from there".into()));
    assert_eq!(body.resume(2), Resumed::Returned(2));
}

#[test]
fn what_the_iterator_leaves_is_there_for_resume() {
    let mut body = Coroutine::new(async |mut co| {
        for n in 0.. {
            if n == 5 {
                return "five";
            }
            co.yield_(n).await;
        }
        unreachable!()
    });
    assert_eq!(body.values().take(2).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(body.resume(()), Resumed::Yielded(2));
    let mut rest = body.values();
    assert_eq!(rest.by_ref().count(), 2);
    assert_eq!(rest.next(), None);
    assert_eq!(rest.into_returned(), Some("five"));
    assert_eq!(body.values().into_returned(), None);
}

/// What is done to a coroutine, at random.
#[derive(Clone, Debug)]
enum Act {
    Send(u8),
    Throw(u8),
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![8 => any::<u8>().prop_map(Act::Send), 2 => any::<u8>().prop_map(Act::Throw), 1 => Just(Act::Close)]
}

/// The naive twin of the body below: what each act answers. `None` before the start.
#[derive(Debug)]
enum Twin {
    Fresh,
    At(u32),
    Done,
}

impl Twin {
    /// `Ok(Yielded | Returned)`, or `Err` with what came back.
    fn go(&mut self, input: Result<u8, u8>) -> Result<Resumed<u32, u32>, Result<u8, u8>> {
        let sum = match (&self, input) {
            (Twin::Done, _) => return Err(input),
            (Twin::Fresh, Err(_)) => {
                *self = Twin::Done;
                return Err(input);
            }
            (Twin::Fresh, Ok(n)) => u32::from(n),
            (Twin::At(sum), Ok(n)) => sum + u32::from(n),
            (Twin::At(sum), Err(n)) if n % 2 == 0 => sum * 2,
            (Twin::At(sum), Err(_)) => {
                let sum = *sum;
                *self = Twin::Done;
                return Ok(Resumed::Returned(sum));
            }
        };
        *self = Twin::At(sum);
        Ok(Resumed::Yielded(sum))
    }
}

proptest! {
    /// Whatever is done in whatever order: the answers are the twin's, and every value is dropped exactly once.
    #[test]
    fn random_acts_answer_as_the_naive_twin(acts in proptest::collection::vec(act(), 0..40)) {
        let alive = Rc::new(Cell::new(0));
        let ours = alive.clone();
        type Token = (u8, Counted);
        let body = Coroutine::new(async move |mut co: Co<'_, Result<Token, Token>, (u32, Counted)>| {
            let mut sum = match co.argument() {
                Some(Ok((n, _))) => u32::from(n),
                _ => unreachable!("throwing does not start a body"),
            };
            loop {
                match co.yield_((sum, Counted::new(&ours))).await {
                    Ok((n, _)) => sum += u32::from(n),
                    Err((n, _)) if n % 2 == 0 => sum *= 2,
                    Err(_) => return (sum, Counted::new(&ours)),
                }
            }
        });
        let mut body = body.boxed_local();
        let mut twin = Twin::Fresh;
        for act in acts {
            match act {
                Act::Close => {
                    body.close();
                    twin = Twin::Done;
                }
                Act::Send(n) => {
                    let got = body.try_resume(Ok((n, Counted::new(&alive))));
                    let got = got.map(plain).map_err(|Exhausted(back)| back.map(|t| t.0).map_err(|t| t.0));
                    prop_assert_eq!(got, twin.go(Ok(n)));
                }
                Act::Throw(n) => {
                    let got = body.throw((n, Counted::new(&alive)));
                    prop_assert_eq!(got.map(plain).map_err(|back| Err(back.0)), twin.go(Err(n)));
                }
            }
            prop_assert_eq!(body.done(), matches!(twin, Twin::Done));
            prop_assert_eq!(alive.get(), 0, "nothing is kept between two acts");
        }
    }
}

fn plain(resumed: Resumed<(u32, Counted), (u32, Counted)>) -> Resumed<u32, u32> {
    match resumed {
        Resumed::Yielded((n, _)) => Resumed::Yielded(n),
        Resumed::Returned((n, _)) => Resumed::Returned(n),
    }
}
