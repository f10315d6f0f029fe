//! Rows of what is put around another operation: it waits as that does, and hands on what that hands on.
//!
//! Inside is `Event::wait`, so whatever a wrapper keeps, forgets or adds is seen.

use crate::scene::{OnLoop, Row, Test, WaitingAnywhere, end, on_loop, row};
use evenloop_core::Runtime;
use evenloop_core::cancel::{CancelScope, catch_cancel, shielded, shielded_for};
use evenloop_core::context::{Context, ContextVar};
use evenloop_coroutine::{AsyncGenerator, aclosing};
use evenloop_executor::{End, Resource, finally, with};
use evenloop_sync::Event;
use evenloop_time::{timeout, timeout_at, timeout_at_on, timeout_on};
use std::time::Duration;

/// A limit that no test meets.
const FAR: Duration = Duration::from_secs(1_000_000);

/// A destructor that panics while another does ends the process: that is Rust's.
const TWO_WAKERS: &str = "it keeps two wakers, and of both's destructors only one may panic";

/// Of those who can be cancelled.
const A_NODE: &str = "who catches inside a scope makes its node, which is one allocation";

static VARIABLE: ContextVar<u8> = ContextVar::new("universal");

/// What a hostile waker does to an event.
fn poke(event: &Event) {
    let was_set = event.is_set();
    event.set();
    if !was_set {
        event.clear();
    }
}

/// A wrapper that needs no loop.
fn around(name: &'static str, wait: for<'a> fn(&'a Event) -> WaitingAnywhere<'a>) -> Row {
    let row = row(name, Event::new, wait, Event::set, |event| event.statistics().waiters, poke);
    row.without(Test::PanicsAgain, TWO_WAKERS)
}

/// A wrapper that needs one.
fn on_a_loop(name: &'static str, wait: for<'a> fn(&'a OnLoop<Event>) -> crate::scene::Waiting<'a>) -> Row {
    let row =
        on_loop(name, Event::new, wait, |on| on.of.set(), |on| on.of.statistics().waiters, |on| poke(&on.of));
    row.without(Test::PanicsAgain, TWO_WAKERS)
}

/// Neither entering nor leaving it waits.
struct Free;

impl Resource for Free {
    type Error = std::convert::Infallible;

    async fn enter(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn exit(&mut self, _: &End) {}
}

/// What waits in what it is put around.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        around("core::CancelScope::run", |event| {
            Box::pin(async { end(CancelScope::new().run(event.wait()).await) })
        })
        .without(Test::Lean, A_NODE),
        around("core::CancelScope::run_as_task", |event| {
            Box::pin(async { end(CancelScope::new().run_as_task(event.wait()).await) })
        })
        .without(Test::Lean, A_NODE),
        around("core::catch_cancel", |event| Box::pin(async { end(catch_cancel(event.wait()).await) }))
            .without(Test::Lean, A_NODE),
        around("core::shielded", |event| Box::pin(shielded(event.wait()))).without(Test::Lean, A_NODE),
        on_a_loop("core::shielded_for", |on| on.inside(async { end(shielded_for(FAR, on.of.wait()).await) })),
        around("core::Context::scope", |event| Box::pin(Context::current().scope(event.wait()))),
        around("core::ContextVar::scope", |event| Box::pin(VARIABLE.scope(1, event.wait()))),
        row(
            "core::Runtime::scope",
            || (Runtime::builder("universal").build(), Event::new()),
            |(runtime, event)| Box::pin(runtime.scope(event.wait())),
            |(_, event)| event.set(),
            |(_, event)| event.statistics().waiters,
            |(_, event)| poke(event),
        ),
        on_a_loop("time::timeout", |on| on.inside(async { end(timeout(FAR, on.of.wait()).await) })),
        on_a_loop("time::timeout_on", |on| {
            on.inside(async { end(timeout_on(on.event_loop.runtime(), FAR, on.of.wait()).await) })
        }),
        on_a_loop("time::timeout_at", |on| {
            on.inside(async { end(timeout_at(on.event_loop.time() + FAR, on.of.wait()).await) })
        }),
        on_a_loop("time::timeout_at_on", |on| {
            let deadline = on.event_loop.time() + FAR;
            on.inside(async move {
                end(timeout_at_on(on.event_loop.runtime(), deadline, on.of.wait()).await);
            })
        }),
        around("executor::finally", |event| Box::pin(finally(event.wait(), async {}))),
        around("coroutine::aclosing", |event| {
            Box::pin(async {
                let generator = AsyncGenerator::new(async |mut co| end(co.yield_(1).await));
                aclosing(generator, async |_| event.wait().await).await;
            })
        })
        .without(Test::Lean, "its generator is in a box"),
        around("executor::with", |event| {
            Box::pin(async { end(with(Free, async |_| event.wait().await).await) })
        }),
    ]
}
