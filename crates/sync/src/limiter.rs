//! A number of tokens, lent to borrowers that are known by name.
//!
//! ```text
//! New ── a token is free, nobody waits ─────────────────────────────► Done (token)
//!  │└── else ──► Waiting ── a token comes back, or more are made ──► Granted ── poll ──┘
//!  │                │ drop: unlinked                                  │ drop: given back
//!  └── the borrower holds one already, or waits ──► Done (AlreadyBorrowing)
//! ```
//!
//! T1. `borrowed` counts the tokens and the Granted waiters. It exceeds `total` only after `total` was lowered.
//! T2. A borrower is in `borrowers` from its first poll until its token comes back: true once it has been granted one.
//! T3. A free token implies an empty line: whoever frees or adds tokens settles.
//! T4. Wakers run after the mutex is released. Borrowers are compared and hashed under it: so they are ours, not the
//!     user's, and run no foreign code.

use crate::wait_list::{Chosen, Place, Waiters};
use evenloop_core::budget::poll_spend;
use evenloop_core::shim::{Mutex, MutexGuard, StdArc};
use evenloop_core::watch::{self, On};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// How many borrowers an idle limiter keeps room for.
const KEEP: usize = 256;

/// Limits how many may do something at a time, and knows who does it.
///
/// Each borrower has at most one token: asking for a second one is an error, not a wait for ever. Tokens are lent strictly
/// in the order of asking, and their number may be changed at any time.
///
/// trio's `CapacityLimiter`; asyncio has none.
///
/// # Examples
///
/// ```
/// use evenloop_sync::Limiter;
/// # futures::executor::block_on(async {
/// let threads = Limiter::new(2);
/// let token = threads.acquire_on_behalf_of("importer").await?;
/// assert!(threads.try_acquire_on_behalf_of("importer").is_err());
/// threads.set_total(1);
/// assert_eq!(format!("{threads:?}"), "Limiter [borrowed: 1/1, waiters: 0]");
/// drop(token);
/// # Ok::<(), evenloop_sync::AlreadyBorrowing>(())
/// # }).unwrap();
/// ```
#[doc(alias = "CapacityLimiter")]
pub struct Limiter {
    state: Mutex<State>,
}

struct State {
    total: usize,
    borrowed: usize,
    borrowers: HashMap<Borrower, bool, BuildHasherDefault<DefaultHasher>>,
    /// A waiter's note is on whose behalf it asks.
    waiters: Waiters<Option<Borrower>>,
}

/// On whose behalf a token is borrowed: a number, such as a task's or a connection's, or a name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Borrower {
    /// Somebody with a number.
    Id(u64),
    /// Somebody with a name.
    Name(StdArc<str>),
}

/// This borrower holds a token already, or is in line for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlreadyBorrowing(pub Borrower);

/// Why [`Limiter::try_acquire_on_behalf_of`] got no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryBorrowError {
    /// No token is free, or somebody is in line.
    WouldBlock,
    /// This borrower holds a token already, or is in line for one.
    AlreadyBorrowing(Borrower),
}

/// What a [`Limiter`] looked like a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimiterStatistics {
    /// How many tokens there were.
    pub total: usize,
    /// How many were lent, or given to waiters that have not run yet.
    pub borrowed: usize,
    /// To whom, in order, those without a name or number left out.
    pub borrowers: Vec<Borrower>,
    /// How many futures were in line.
    pub waiters: usize,
}

impl Limiter {
    /// A limiter with `total` tokens; 0 is allowed, and `usize::MAX` sets no limit.
    #[cfg(not(evenloop_loom))]
    pub const fn new(total: usize) -> Self {
        Self { state: Mutex::new(State::new(total)) }
    }

    /// A limiter with `total` tokens; 0 is allowed, and `usize::MAX` sets no limit.
    #[cfg(evenloop_loom)]
    pub fn new(total: usize) -> Self {
        Self { state: Mutex::new(State::new(total)) }
    }

    /// Waits for a token, on nobody's behalf in particular.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** A token that had already been given to the dropped future goes to the
    /// next in line.
    ///
    /// # Examples
    ///
    /// ```
    /// # futures::executor::block_on(async {
    /// let limiter = evenloop_sync::Limiter::new(1);
    /// let token = limiter.acquire().await;
    /// assert!(limiter.try_acquire().is_none());
    /// # drop(token);
    /// # });
    /// ```
    pub fn acquire(&self) -> LimiterAcquire<'_> {
        LimiterAcquire(Borrowing { limiter: self, borrower: None, place: Place::New })
    }

    /// Waits for a token on behalf of `borrower`.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe; the place in line is lost.** A token that had already been given to the dropped future goes to the
    /// next in line, and the borrower is forgotten.
    ///
    /// # Errors
    ///
    /// [`AlreadyBorrowing`], at once, if this borrower holds a token or is in line for one.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_sync::{Borrower, Limiter};
    /// # futures::executor::block_on(async {
    /// let limiter = Limiter::new(5);
    /// let token = limiter.acquire_on_behalf_of(17).await?;
    /// assert_eq!(limiter.statistics().borrowers, [Borrower::Id(17)]);
    /// # drop(token);
    /// # Ok::<(), evenloop_sync::AlreadyBorrowing>(())
    /// # }).unwrap();
    /// ```
    pub fn acquire_on_behalf_of(&self, borrower: impl Into<Borrower>) -> LimiterAcquireFor<'_> {
        LimiterAcquireFor(Borrowing { limiter: self, borrower: Some(borrower.into()), place: Place::New })
    }

    /// Borrows a token if one is free and nobody is in line.
    pub fn try_acquire(&self) -> Option<LimiterToken<'_>> {
        let lent = self.state.lock().lend(&None);
        lent.then(|| LimiterToken { limiter: self, borrower: None })
    }

    /// Borrows a token on behalf of `borrower` if one is free and nobody is in line.
    ///
    /// # Errors
    ///
    /// [`TryBorrowError`] tells "not now" from "it has one".
    pub fn try_acquire_on_behalf_of(
        &self,
        borrower: impl Into<Borrower>,
    ) -> Result<LimiterToken<'_>, TryBorrowError> {
        let borrower = Some(borrower.into());
        let mut state = self.state.lock();
        state.check(&borrower).map_err(|AlreadyBorrowing(who)| TryBorrowError::AlreadyBorrowing(who))?;
        if state.lend(&borrower) {
            Ok(LimiterToken { limiter: self, borrower })
        } else {
            Err(TryBorrowError::WouldBlock)
        }
    }

    /// How many tokens there are.
    pub fn total(&self) -> usize {
        self.state.lock().total
    }

    /// Makes it `total` tokens. More are lent at once to those in line; with fewer, borrowers keep what they have, and
    /// nothing is lent until enough came back.
    pub fn set_total(&self, total: usize) {
        let mut state = self.state.lock();
        state.total = total;
        self.settle(state);
    }

    /// How many tokens are lent. May be out of date by the time it returns.
    pub fn borrowed(&self) -> usize {
        self.state.lock().borrowed
    }

    /// How many tokens may still be lent. May be out of date by the time it returns.
    pub fn available(&self) -> usize {
        let state = self.state.lock();
        state.total.saturating_sub(state.borrowed)
    }

    /// What the limiter looks like, in time linear in the number of borrowers. May be out of date by the time it returns.
    pub fn statistics(&self) -> LimiterStatistics {
        let state = self.state.lock();
        let mut statistics = LimiterStatistics {
            total: state.total,
            borrowed: state.borrowed,
            borrowers: state.borrowers.iter().filter(|(_, has)| **has).map(|(who, _)| who.clone()).collect(),
            waiters: state.waiters.len(),
        };
        drop(state);
        statistics.borrowers.sort_unstable();
        statistics
    }

    /// A token came back.
    fn give_back(&self, borrower: Option<&Borrower>) {
        let mut state = self.state.lock();
        state.borrowed -= 1;
        state.forget(borrower);
        self.settle(state);
    }

    /// Restores T3: lends what is free to those in line.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let mut chosen = Chosen::default();
        while state.borrowed < state.total {
            let State { waiters, borrowers, .. } = &mut *state;
            let next = waiters.choose_first(&mut chosen, |borrower| {
                if let Some(has) = borrower.as_ref().and_then(|borrower| borrowers.get_mut(borrower)) {
                    *has = true;
                }
            });
            if !next {
                break;
            }
            state.borrowed += 1;
        }
        drop(state);
        chosen.wake(&self.state, |state| &mut state.waiters);
    }
}

impl State {
    const fn new(total: usize) -> Self {
        let borrowers = HashMap::with_hasher(BuildHasherDefault::new());
        Self { total, borrowed: 0, borrowers, waiters: Waiters::new() }
    }

    fn check(&self, borrower: &Option<Borrower>) -> Result<(), AlreadyBorrowing> {
        match borrower {
            Some(borrower) if self.borrowers.contains_key(borrower) => {
                Err(AlreadyBorrowing(borrower.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Lends a token if one is free; by T3 nobody waits then.
    fn lend(&mut self, borrower: &Option<Borrower>) -> bool {
        let lends = self.borrowed < self.total;
        if lends {
            self.borrowed += 1;
            self.note(borrower, true);
        }
        lends
    }

    /// T2.
    fn note(&mut self, borrower: &Option<Borrower>, has: bool) {
        if let Some(borrower) = borrower {
            self.borrowers.insert(borrower.clone(), has);
        }
    }

    /// T2. Room for a rush of borrowers is given back after the last of them.
    fn forget(&mut self, borrower: Option<&Borrower>) {
        if let Some(borrower) = borrower {
            self.borrowers.remove(borrower);
            if self.borrowers.is_empty() && self.borrowers.capacity() > KEEP {
                self.borrowers.shrink_to_fit();
            }
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimiterStatistics { total, borrowed, waiters, .. } = self.statistics();
        write!(f, "Limiter [borrowed: {borrowed}/{total}, waiters: {waiters}]")
    }
}

// === impl LimiterToken ===

/// A borrowed token of a [`Limiter`]; dropping it gives the token back.
///
/// # Examples
///
/// ```
/// use evenloop_sync::{Borrower, Limiter};
///
/// let limiter = Limiter::new(2);
/// let token = limiter.try_acquire_on_behalf_of("importer").unwrap();
/// assert_eq!(token.borrower(), Some(&Borrower::from("importer")));
/// drop(token); // and it is given back
/// assert_eq!(limiter.available(), 2);
/// ```
#[must_use = "dropping the token gives it back"]
pub struct LimiterToken<'a> {
    limiter: &'a Limiter,
    borrower: Option<Borrower>,
}

impl LimiterToken<'_> {
    /// On whose behalf the token was borrowed.
    pub fn borrower(&self) -> Option<&Borrower> {
        self.borrower.as_ref()
    }
}

impl Drop for LimiterToken<'_> {
    fn drop(&mut self) {
        self.limiter.give_back(self.borrower.as_ref());
    }
}

impl fmt::Debug for LimiterToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.borrower {
            Some(borrower) => write!(f, "LimiterToken [{borrower}]"),
            None => f.write_str("LimiterToken"),
        }
    }
}

// === impl Borrowing ===

/// What both futures do.
struct Borrowing<'a> {
    limiter: &'a Limiter,
    borrower: Option<Borrower>,
    place: Place,
}

impl<'a> Borrowing<'a> {
    /// `call` is what the user called.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        call: &'static str,
    ) -> Poll<Result<LimiterToken<'a>, AlreadyBorrowing>> {
        let polled = match self.place {
            Place::New => {
                ready!(poll_spend(cx));
                self.join(cx.waker().clone())
            }
            Place::Waiting(_) => {
                let state = &self.limiter.state;
                self.place
                    .poll(state, |state| &mut state.waiters, cx.waker())
                    .map(|_borrower| Ok(self.token()))
            }
            Place::Done => panic!("`{call}` was polled after it had finished"),
        };
        watch::noted(polled, cx, call, || On::object(self.limiter))
    }

    /// Borrows at once, or joins the line, or is refused.
    fn join(&mut self, waker: Waker) -> Poll<Result<LimiterToken<'a>, AlreadyBorrowing>> {
        let mut state = self.limiter.state.lock();
        let refused = state.check(&self.borrower);
        if refused.is_ok() && !state.lend(&self.borrower) {
            state.note(&self.borrower, false);
            self.place = Place::Waiting(state.waiters.push(waker, self.borrower.clone()));
            return Poll::Pending;
        }
        drop(state); // before the waker
        self.place = Place::Done;
        Poll::Ready(refused.map(|()| self.token()))
    }

    /// The token that was lent to this.
    fn token(&mut self) -> LimiterToken<'a> {
        LimiterToken { limiter: self.limiter, borrower: self.borrower.take() }
    }
}

impl Drop for Borrowing<'_> {
    fn drop(&mut self) {
        let Some(left) = self.place.leave(&self.limiter.state, |state| &mut state.waiters) else { return };
        if left.granted {
            self.limiter.give_back(self.borrower.as_ref());
        } else {
            self.limiter.state.lock().forget(self.borrower.as_ref());
        }
    }
}

impl fmt::Debug for Borrowing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.borrower {
            Some(borrower) => write!(f, "[{:?}, borrower: {borrower}]", self.place),
            None => write!(f, "[{:?}]", self.place),
        }
    }
}

/// The future of [`Limiter::acquire`].
#[must_use = "futures do nothing unless awaited"]
pub struct LimiterAcquire<'a>(Borrowing<'a>);

impl<'a> Future for LimiterAcquire<'a> {
    type Output = LimiterToken<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, "Limiter::acquire").map(|lent| lent.expect("nobody in particular is never refused"))
    }
}

impl fmt::Debug for LimiterAcquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimiterAcquire {:?}", self.0)
    }
}

/// The future of [`Limiter::acquire_on_behalf_of`].
#[must_use = "futures do nothing unless awaited"]
pub struct LimiterAcquireFor<'a>(Borrowing<'a>);

impl<'a> Future for LimiterAcquireFor<'a> {
    type Output = Result<LimiterToken<'a>, AlreadyBorrowing>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, "Limiter::acquire_on_behalf_of")
    }
}

impl fmt::Debug for LimiterAcquireFor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimiterAcquireFor {:?}", self.0)
    }
}

// === Borrowers and errors ===

impl From<u64> for Borrower {
    fn from(id: u64) -> Self {
        Self::Id(id)
    }
}

impl From<&str> for Borrower {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl From<String> for Borrower {
    fn from(name: String) -> Self {
        Self::Name(name.into())
    }
}

impl fmt::Display for Borrower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for AlreadyBorrowing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "borrower {} holds a token of this limiter already, or is in line for one", self.0)
    }
}

impl Error for AlreadyBorrowing {}

impl fmt::Display for TryBorrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("no token of this limiter is free now"),
            Self::AlreadyBorrowing(borrower) => AlreadyBorrowing(borrower.clone()).fmt(f),
        }
    }
}

impl Error for TryBorrowError {}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_borrower_has_one_token_and_stands_in_line_once() {
        let limiter = Limiter::new(1);
        let held = limiter.try_acquire_on_behalf_of("a").expect("free");
        let refused = AlreadyBorrowing("a".into());
        assert_eq!(poll(&mut limiter.acquire_on_behalf_of("a")).map(Result::err), Poll::Ready(Some(refused)));
        let mut waiting = limiter.acquire_on_behalf_of("b");
        assert!(poll(&mut waiting).is_pending());
        let refused = TryBorrowError::AlreadyBorrowing("b".into());
        assert_eq!(limiter.try_acquire_on_behalf_of("b").unwrap_err(), refused);
        assert_eq!(limiter.try_acquire_on_behalf_of("c").unwrap_err(), TryBorrowError::WouldBlock);
        assert_eq!(limiter.statistics().borrowers, ["a".into()]);
        drop(held);
        assert_eq!(limiter.statistics().borrowers, ["b".into()], "it was granted, though it has not run");
        drop(waiting);
        assert!(limiter.try_acquire_on_behalf_of("b").is_ok(), "who gave up is forgotten");
        assert_eq!(limiter.state.lock().borrowers.len(), 0);
    }

    #[test]
    fn the_total_may_change_at_any_time() {
        let limiter = Limiter::new(0);
        let mut waits = [1, 2, 3].map(|id| limiter.acquire_on_behalf_of(id));
        assert!(waits.iter_mut().all(|wait| poll(wait).is_pending()));
        limiter.set_total(2);
        let [a, b, c] = waits.each_mut().map(poll);
        assert!(a.is_ready() && b.is_ready() && c.is_pending());
        limiter.set_total(1);
        drop(a);
        assert!(poll(&mut waits[2]).is_pending(), "one is lent, and there is one");
        assert_eq!(
            format!("{limiter:?} {:?}", waits[2]),
            "Limiter [borrowed: 1/1, waiters: 1] LimiterAcquireFor [waiting, borrower: 3]"
        );
        drop(b);
        assert!(poll(&mut waits[2]).is_ready());
        limiter.set_total(usize::MAX);
        assert!(limiter.try_acquire().is_some());
    }
}
