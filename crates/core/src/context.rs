//! Context variables: values that follow the flow of a program from task to task.
//!
//! A [`Context`] is a set of values, of which each thread has a current one. A host gives every task a copy of the context in
//! which it was spawned, and makes it current while the task is polled; a callback gets that in which it was registered.
//! So what a task sets is seen by what it calls, awaits and spawns later on, and by nobody else.
//!
//! A context never changes: setting a variable makes a new one, which is current from then on. So a copy is a count, and who
//! uses no variables pays for looking at one flag.
//!
//! V1. `IN_USE` is true iff `CURRENT` holds values.
//! V2. Values are dropped while no borrow of `CURRENT` is held: their destructors may use variables.

use crate::shim::{GlobalMutex, OnceLock, StdArc, thread_local};
use pin_project_lite::pin_project;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

/// A variable whose value belongs to the task that set it, and to what that spawns: asyncio's `ContextVar`.
///
/// Declare it as a `static`. Values are lent or cloned; they cross threads with `to_thread`, so they are `Send + Sync`.
///
/// # Examples
///
/// ```
/// use evenloop_core::context::ContextVar;
///
/// static REQUEST: ContextVar<u32> = ContextVar::new("request");
///
/// assert_eq!(REQUEST.get(), None);
/// let before = REQUEST.set(7);
/// assert_eq!(REQUEST.get(), Some(7));
/// REQUEST.reset(before);
/// assert_eq!(REQUEST.get(), None);
/// ```
#[doc(alias("task_local", "contextvars"))]
pub struct ContextVar<T> {
    name: &'static str,
    /// Given at the first use.
    id: OnceLock<u64>,
    holds: PhantomData<fn(T) -> T>,
}

/// What a variable was before it was set, for [`ContextVar::reset`]. Dropping it changes nothing.
#[must_use = "`reset` takes it; write `drop` if the value is to stay"]
pub struct Token<T: 'static> {
    of: &'static ContextVar<T>,
    before: Option<Value>,
}

/// A set of values of context variables. Cheap to clone, and never changes.
///
/// # Examples
///
/// ```
/// use evenloop_core::context::{Context, ContextVar};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// let guest = Context::new();
/// let before = guest.run(|| {
///     let _ = USER.set("ada");
///     (USER.get(), Context::current())
/// });
/// assert_eq!(before.0, Some("ada"));
/// assert_eq!(USER.get(), None, "what was set inside is gone");
/// assert_eq!(before.1.run(|| USER.get()), Some("ada"), "unless it was copied");
/// ```
#[derive(Clone, Default)]
#[doc(alias = "copy_context")]
pub struct Context(Option<StdArc<Vec<Entry>>>);

type Value = StdArc<dyn Any + Send + Sync>;

#[derive(Clone)]
struct Entry {
    id: u64,
    name: &'static str,
    value: Value,
}

thread_local! {
    static CURRENT: RefCell<Context> = const { RefCell::new(Context(None)) };
    /// V1. Has no destructor, so that looking at it is one load.
    static IN_USE: Cell<bool> = const { Cell::new(false) };
}

static LAST_ID: GlobalMutex<u64> = GlobalMutex::new(0);

// === impl Context ===

impl Context {
    /// A context without values.
    pub const fn new() -> Self {
        Self(None)
    }

    /// A copy of this thread's current context: asyncio's `copy_context`.
    #[inline]
    pub fn current() -> Self {
        if in_use() {
            CURRENT.try_with(|current| current.borrow().clone()).unwrap_or_default()
        } else {
            Self(None)
        }
    }

    /// Whether this thread's current context holds any values.
    #[inline]
    pub fn any_current() -> bool {
        in_use()
    }

    /// Takes the current context away: none is current then. For hosts: what a task has left after its poll.
    #[inline]
    pub fn take_current() -> Self {
        if in_use() { Self(None).swap_in() } else { Self(None) }
    }

    /// Whether it holds no values.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Makes this the current context of the thread and answers the one before. For hosts: around each poll of a task.
    #[inline]
    pub fn swap_in(self) -> Self {
        if self.is_empty() && !in_use() { self } else { self.swap_in_slow() }
    }

    #[cold]
    fn swap_in_slow(self) -> Self {
        // At the thread's end there is no current context any more, and nobody to see one.
        let holds = !self.is_empty();
        let before = CURRENT.try_with(|current| current.replace(self));
        let _ = IN_USE.try_with(|in_use| in_use.set(holds && before.is_ok()));
        before.unwrap_or_default()
    }

    /// Calls `f` in this context. What `f` sets is gone afterwards.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        let _back = Back(Some(self.clone().swap_in()));
        f()
    }

    /// The same future, which runs in this context, on whatever thread: for hosts that know nothing of contexts. What it
    /// sets stays with it.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe** as far as `future` is: dropping this drops it.
    pub fn scope<F: Future>(self, future: F) -> InContext<F> {
        InContext { context: self, future: Some(future) }
    }

    fn value(&self, id: u64) -> Option<&Value> {
        self.0.as_deref()?.iter().find(|entry| entry.id == id).map(|entry| &entry.value)
    }

    /// The same values, except for one.
    fn with(&self, id: u64, name: &'static str, value: Option<Value>) -> Self {
        let others = self.0.as_deref().map_or(&[][..], Vec::as_slice).iter().filter(|entry| entry.id != id);
        let entries: Vec<_> = others.cloned().chain(value.map(|value| Entry { id, name, value })).collect();
        Self((!entries.is_empty()).then(|| StdArc::new(entries)))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().flat_map(|entries| entries.iter().map(|entry| entry.name));
        f.write_str("Context ")?;
        f.debug_list().entries(names).finish()
    }
}

#[inline]
fn in_use() -> bool {
    IN_USE.try_with(Cell::get).unwrap_or(false)
}

/// Makes the context before current again.
struct Back(Option<Context>);

impl Drop for Back {
    fn drop(&mut self) {
        let left = self.0.take().map(Context::swap_in);
        drop(left); // V2
    }
}

// === impl ContextVar ===

impl<T: Send + Sync + 'static> ContextVar<T> {
    /// A variable without a value. `name` shows in the `Debug` of contexts.
    pub const fn new(name: &'static str) -> Self {
        Self { name, id: OnceLock::new(), holds: PhantomData }
    }

    fn id(&self) -> u64 {
        *self.id.get_or_init(|| {
            let mut last = LAST_ID.lock();
            *last += 1;
            *last
        })
    }

    /// What the variable is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Gives the value to `f`; `None` if it was never set here.
    pub fn with<R>(&'static self, f: impl FnOnce(Option<&T>) -> R) -> R {
        let context = Context::current();
        f(context.value(self.id()).and_then(|value| value.downcast_ref()))
    }

    /// A clone of the value; `None` if it was never set here.
    pub fn get(&'static self) -> Option<T>
    where
        T: Clone,
    {
        self.with(|value| value.cloned())
    }

    /// Sets the value for the current task, or, outside of any, for the thread. What was spawned or registered before does
    /// not see it. Answers what [`reset`](Self::reset) needs to undo it.
    pub fn set(&'static self, value: T) -> Token<T> {
        let before = self.replace(Some(StdArc::new(value)));
        Token { of: self, before }
    }

    /// Gives the variable the value that it had before the `set` that answered `token`, in the current context.
    ///
    /// # Panics
    ///
    /// When the token is of another variable.
    pub fn reset(&'static self, token: Token<T>) {
        assert!(
            std::ptr::eq(token.of, self),
            "`ContextVar::reset`: the token is of the variable `{}`, not of `{}`",
            token.of.name,
            self.name
        );
        drop(self.replace(token.before));
    }

    /// The same future, for which the variable has this value; outside of it nothing changes.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe** as far as `future` is: dropping this drops it.
    pub fn scope<F: Future>(&'static self, value: T, future: F) -> InContext<F> {
        let value: Value = StdArc::new(value);
        Context::current().with(self.id(), self.name, Some(value)).scope(future)
    }

    /// Answers the value before.
    fn replace(&self, value: Option<Value>) -> Option<Value> {
        let (id, before) = (self.id(), Context::current());
        let left = before.with(id, self.name, value).swap_in();
        drop(left); // V2
        before.value(id).cloned()
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextVar [{}]", self.name)
    }
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token [{}]", self.of.name)
    }
}

pin_project! {
    /// The future of [`Context::scope`] and [`ContextVar::scope`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct InContext<F> {
        context: Context,
        // Empty only while this is dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InContext<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let context = std::mem::take(this.context);
            context.run(|| this.future.set(None));
        }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        /// Keeps what the future has set for its next poll, also if it panics.
        struct Keeps<'a>(&'a mut Context, Context);
        impl Drop for Keeps<'_> {
            fn drop(&mut self) {
                *self.0 = std::mem::take(&mut self.1).swap_in();
            }
        }
        let this = self.project();
        let before = std::mem::take(this.context).swap_in();
        let _keeps = Keeps(this.context, before);
        this.future.as_pin_mut().expect("only the drop empties it").poll(cx)
    }
}

impl<F> fmt::Debug for InContext<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InContext [{:?}]", self.context)
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;

    static A: ContextVar<u32> = ContextVar::new("a");
    static B: ContextVar<String> = ContextVar::new("b");

    #[test]
    fn a_value_is_set_and_reset() {
        assert_eq!((A.get(), in_use()), (None, false));
        let one = A.set(1);
        let two = A.set(2);
        drop(B.set("x".into()));
        assert_eq!((A.get(), B.get().as_deref()), (Some(2), Some("x")));
        assert_eq!(format!("{:?}", Context::current()), "Context [\"a\", \"b\"]");
        A.reset(two);
        assert_eq!(A.get(), Some(1));
        A.reset(one);
        assert_eq!((A.get(), in_use()), (None, true));
    }

    #[test]
    fn what_is_set_inside_is_not_seen_outside() {
        drop(A.set(1));
        let copy = Context::current();
        drop(A.set(2));
        copy.run(|| {
            assert_eq!(A.get(), Some(1));
            drop(A.set(3));
        });
        assert_eq!(A.get(), Some(2));
        assert_eq!(Context::new().run(|| (A.get(), in_use())), (None, false));
        assert_eq!(A.get(), Some(2));
    }

    #[test]
    fn a_future_keeps_its_own_from_poll_to_poll() {
        let mut first = true;
        let mut future = Box::pin(A.scope(
            1,
            std::future::poll_fn(move |_| {
                if std::mem::replace(&mut first, false) {
                    assert_eq!(A.get(), Some(1));
                    drop(A.set(5));
                    return Poll::Pending;
                }
                Poll::Ready(A.get())
            }),
        ));
        let mut cx = TaskContext::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        assert_eq!(A.get(), None);
        assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(Some(5)));
    }

    #[test]
    fn a_token_fits_its_variable_only() {
        static OTHER: ContextVar<u32> = ContextVar::new("other");
        let token = OTHER.set(1);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| A.reset(token))).unwrap_err();
        let words = panic.downcast::<String>().unwrap();
        assert_eq!(*words, "`ContextVar::reset`: the token is of the variable `other`, not of `a`");
    }

    #[test]
    fn a_values_destructor_may_use_variables() {
        struct Uses;
        impl Drop for Uses {
            fn drop(&mut self) {
                drop(A.set(9));
            }
        }
        static USES: ContextVar<Uses> = ContextVar::new("uses");
        let token = USES.set(Uses);
        USES.reset(token);
        assert_eq!(A.get(), Some(9));
    }
}
