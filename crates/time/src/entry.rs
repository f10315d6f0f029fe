//! One leaf's entry with the timers of some runtime: where it is, and how it gets out again.
//!
//! N1. `set` names a pending entry, or one that fired and was not asked about since. Dropping the entry removes it.
//! N2. An entry stays with the runtime that first polled it, from whatever thread it is polled later, also when it is moved
//!     after it has fired and before it was asked about. If that one has ended, it goes on with the one that is current where
//!     it is polled next.

use evenloop_core::watch;
use evenloop_core::{NoRuntime, Runtime, RuntimeId, TimerKey, TimersEnded};
use std::task::Waker;
use std::time::Instant;

#[derive(Default)]
pub(crate) struct Entry {
    /// The runtime given by the caller; none: the one that is current.
    given: Option<Runtime>,
    /// See N1.
    set: Option<(RuntimeId, TimerKey)>,
}

impl Entry {
    pub(crate) const fn new() -> Self {
        Self { given: None, set: None }
    }

    pub(crate) fn on(runtime: &Runtime) -> Self {
        Self { given: Some(runtime.clone()), set: None }
    }

    /// Whether an entry is with some timers.
    pub(crate) fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// The present instant where this entry is, or would be set by the calling thread.
    pub(crate) fn now(&self, call: &'static str) -> Result<Instant, NoRuntime> {
        let now = |runtime: &Runtime| Ok(runtime.timers_for(call)?.now());
        if let Some(now) = self.set.and_then(|(home, _)| self.with_home(home, now)) {
            return now;
        }
        self.with_host(now).unwrap_or_else(|| Err(NoRuntime::none_found(call, "timers")))
    }

    /// Whether no entry is with any timers, and nobody asks what tasks wait for: one look at both.
    #[inline]
    pub(crate) fn is_unset_and_untold(&self) -> bool {
        watch::is_none_and_untold(self.set.map(|(home, _)| home))
    }

    /// Sets the entry, or renews deadline and waker of one that is set. Answers true once, when it has fired.
    #[inline(never)]
    pub(crate) fn poll(
        &mut self,
        call: &'static str,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<bool, NoRuntime> {
        match self.renew(call, deadline, Some(waker)) {
            Some(pending) => Ok(!pending),
            None => self.set(|| call, deadline, waker).map(|()| false),
        }
    }

    /// Sets the entry.
    #[inline]
    pub(crate) fn set(
        &mut self,
        call: impl Fn() -> &'static str,
        deadline: Instant,
        waker: &Waker,
    ) -> Result<(), NoRuntime> {
        let set = &mut self.set;
        let mut insert = |runtime: &Runtime| match runtime.timers() {
            Some(timers) => match timers.insert(deadline, waker) {
                Ok(key) => {
                    *set = Some((runtime.id(), key));
                    Ok(())
                }
                Err(TimersEnded) => Err(NoRuntime::ended(call(), "timers", runtime)),
            },
            None => runtime.timers_for(call()).map(drop),
        };
        let answer = match &self.given {
            Some(runtime) => Some(insert(runtime)),
            None => Runtime::with_current(insert),
        };
        answer.unwrap_or_else(|| Err(NoRuntime::none_found(call(), "timers")))
    }

    /// Moves the deadline of an entry that is set.
    pub(crate) fn move_to(&mut self, call: &'static str, deadline: Instant) {
        let Some((home, _)) = self.set else { return };
        if self.renew(call, deadline, None) == Some(false) {
            // N2. Whoever was woken brings its waker when it asks.
            let again = |runtime: &Runtime| runtime.timers()?.insert(deadline, Waker::noop()).ok();
            self.set = self.with_home(home, again).flatten().map(|key| (home, key));
        }
    }

    /// Has an entry that is set fire at the next turn.
    pub(crate) fn ring(&mut self, call: &'static str) {
        if self.is_set() {
            if let Ok(now) = self.now(call) {
                self.move_to(call, now);
            }
        }
    }

    /// Answers whether the entry is pending; `None` if it is not set, or its runtime has ended. Only a pending one stays
    /// set.
    fn renew(&mut self, call: &'static str, deadline: Instant, waker: Option<&Waker>) -> Option<bool> {
        let (home, key) = self.set?;
        let pending =
            self.with_home(home, |runtime| runtime.timers_for(call).ok()?.update(key, deadline, waker).ok());
        let pending = pending.flatten();
        if pending != Some(true) {
            self.set = None;
        }
        pending
    }

    /// Gives `f` the runtime on which an entry is to be set.
    fn with_host<R>(&self, f: impl FnOnce(&Runtime) -> R) -> Option<R> {
        match &self.given {
            Some(runtime) => Some(f(runtime)),
            None => Runtime::with_current(f),
        }
    }

    /// Gives `f` the runtime on which the entry is set, if it lives.
    fn with_home<R>(&self, home: RuntimeId, f: impl FnOnce(&Runtime) -> R) -> Option<R> {
        match &self.given {
            Some(runtime) => Some(f(runtime)), // `home` is this one
            None => Runtime::with_id(home, f),
        }
    }

    /// Takes the entry out, if it is set.
    #[inline]
    pub(crate) fn clear(&mut self) {
        let Some((home, key)) = self.set.take() else { return };
        // Nothing to be taken out of a runtime that is gone.
        let _ = self.with_home(home, |runtime| runtime.timers().is_some_and(|timers| timers.remove(key)));
    }
}

/// For calls that have no other way to say it.
pub(crate) fn or_panic<T>(result: Result<T, NoRuntime>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.clear();
    }
}
