//! Scopes that are cancelled, and code that cleans up.

use crate::Host;
use crate::together::{Shared, spawn, until};
use evenloop_core::cancel::{CancelScope, catch_cancel};
use evenloop_time::{Clock, VirtualClock, sleep};
use futures_util::poll;
use std::future::pending;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Cancelled by another task; the reason comes out.
pub fn a_cancelled_scope_drops_what_waits<H: Host>() {
    H::run(Clock::Real, async {
        let begun = Shared::default();
        let counts = begun.clone();
        let scope = CancelScope::new();
        let task = spawn({
            let run = scope.run(async move {
                counts.set(1);
                pending::<()>().await
            });
            async move { run.await.unwrap_err().text().map(str::to_owned) }
        });
        until(|| begun.get() == 1).await;
        scope.cancel("no longer wanted");
        assert_eq!(task.await.as_deref(), Some("no longer wanted"));
    });
}

/// The clean-up has run when the scope ends.
pub fn a_catcher_cleans_up_and_passes_on<H: Host>() {
    H::run(Clock::Real, async {
        let steps = Shared::default();
        let counts = steps.clone();
        let scope = CancelScope::new();
        let task = spawn(scope.run(async move {
            counts.set(1);
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                counts.set(2);
                cancelled.resume().await;
            }
        }));
        until(|| steps.get() == 1).await;
        scope.cancel("shutdown");
        assert!(task.await.is_err());
        assert_eq!(steps.get(), 2);
    });
}

/// A clean-up that sleeps is waited for.
pub fn a_catcher_may_await_while_it_cleans_up<H: Host>() {
    let clock = VirtualClock::paused();
    H::run(clock.clone().into(), async move {
        let scope = CancelScope::new();
        let mut run = Box::pin(scope.run(async {
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                sleep(SECOND).await;
                cancelled.resume().await;
            }
        }));
        assert!(poll!(run.as_mut()).is_pending());
        scope.cancel("shutdown");
        assert!(poll!(run.as_mut()).is_pending());
        assert!(poll!(run.as_mut()).is_pending());
        clock.advance(SECOND);
        assert!(run.await.is_err());
    });
}

/// Who absorbs a cancellation goes on, and gives a value.
pub fn an_absorbed_cancellation_is_over<H: Host>() {
    H::run(Clock::Real, async {
        let steps = Shared::default();
        let counts = steps.clone();
        let scope = CancelScope::new();
        let task = spawn(scope.run(async move {
            counts.set(1);
            if let Err(cancelled) = catch_cancel(pending::<()>()).await {
                cancelled.absorb();
            }
            sleep(Duration::from_millis(1)).await;
            7
        }));
        until(|| steps.get() == 1).await;
        scope.cancel("not so fast");
        assert_eq!(task.await.ok(), Some(7));
    });
}

/// By the host's timers.
pub fn a_scope_ends_at_its_deadline<H: Host>() {
    let clock = VirtualClock::paused();
    H::run(clock.clone().into(), async move {
        let scope = CancelScope::with_deadline(clock.now() + SECOND);
        let mut run = Box::pin(scope.run(pending::<()>()));
        assert!(poll!(run.as_mut()).is_pending());
        clock.advance(SECOND);
        assert!(run.await.is_err());
        assert!(scope.cancelled_caught());
    });
}
