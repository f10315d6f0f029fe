//! The current runtime: how a leaf future finds its host.
//!
//! A [`Runtime`] bundles the seams of one host. A leaf future takes the first of: the one it was given; the innermost one
//! entered on this thread; the process-wide fall-back; else an error that names the call, what it needs, and both ways
//! out. Never a hang.
//!
//! R1. A thread's entered runtimes form a stack. Leaving one takes out that very entry, wherever it lies, so guards that
//!     are dropped in the wrong order never leave the thread with a wrong runtime.
//! R2. Foreign code never runs while the stack is borrowed, nor while the table of runtimes is locked.
//! R3. A leaf future that is served by a runtime remembers its [`RuntimeId`] and nothing else: it keeps no runtime alive
//!     and counts no reference. It finds the runtime again on the stack (its own thread, nearly always) or in the table of
//!     those that live.

use crate::reactor::Reactor;
use crate::shim::{GlobalMutex, OnceLock, StdArc, StdWeak};
use crate::spawn::Spawn;
use crate::timers::Timers;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// The seams that one host offers. Cheap to clone; clones are the same runtime.
///
/// # Examples
///
/// ```
/// use evenloop_core::Runtime;
///
/// let host = Runtime::builder("mine").build(); // it offers nothing yet: see the builder's methods
/// assert!(Runtime::current().is_none());
/// let entered = host.enter();
/// assert_eq!(Runtime::current().unwrap().name(), "mine");
/// let missing = Runtime::current_timers("sleep").err().unwrap();
/// assert!(missing.to_string().starts_with("`sleep` needs timers, and the mine runtime offers none"));
/// drop(entered);
/// ```
#[derive(Clone)]
pub struct Runtime(StdArc<Parts>);

struct Parts {
    id: RuntimeId,
    name: &'static str,
    spawn: Option<StdArc<dyn Spawn>>,
    timers: Option<StdArc<dyn Timers>>,
    reactor: Option<StdArc<dyn Reactor>>,
}

/// Names one runtime of this process; never names another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeId(NonZeroU64);

impl RuntimeId {
    /// As a word: never 0, and `usize::MAX` only after so many runtimes. Not its name where a word is short.
    #[inline(always)]
    pub(crate) fn word(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX - 1)
    }
}

/// The runtimes that live, so that an id finds its own from any thread (R3).
#[derive(Default)]
struct Living {
    last: u64,
    by_id: BTreeMap<RuntimeId, StdWeak<Parts>>,
}

static LIVING: OnceLock<GlobalMutex<Living>> = OnceLock::new();

fn living() -> &'static GlobalMutex<Living> {
    LIVING.get_or_init(GlobalMutex::default)
}

impl Drop for Parts {
    fn drop(&mut self) {
        let gone = living().lock().by_id.remove(&self.id);
        drop(gone);
    }
}

/// Puts a [`Runtime`] together.
#[must_use = "`build` makes the runtime"]
pub struct Builder {
    name: &'static str,
    spawn: Option<StdArc<dyn Spawn>>,
    timers: Option<StdArc<dyn Timers>>,
    reactor: Option<StdArc<dyn Reactor>>,
}

impl Builder {
    /// Offers `spawn` to those who spawn.
    pub fn spawn(mut self, spawn: StdArc<dyn Spawn>) -> Self {
        self.spawn = Some(spawn);
        self
    }

    /// Offers `timers` to those who wait for a time.
    pub fn timers(mut self, timers: StdArc<dyn Timers>) -> Self {
        self.timers = Some(timers);
        self
    }

    /// Offers `reactor` to those who wait for descriptors.
    pub fn reactor(mut self, reactor: StdArc<dyn Reactor>) -> Self {
        self.reactor = Some(reactor);
        self
    }

    /// The runtime with what was offered.
    pub fn build(self) -> Runtime {
        let Self { name, spawn, timers, reactor } = self;
        let mut living = living().lock();
        living.last += 1;
        let id = RuntimeId(NonZeroU64::new(living.last).expect("2^64 runtimes have not been made"));
        let parts = StdArc::new(Parts { id, name, spawn, timers, reactor });
        living.by_id.insert(id, StdArc::downgrade(&parts));
        Runtime(parts)
    }
}

static FALLBACK: OnceLock<Runtime> = OnceLock::new();

std::thread_local! {
    /// Counted without atomics, so that a leaf may hold on to a runtime while it calls it (R2) for next to nothing.
    static ENTERED: RefCell<Vec<(u64, Rc<Runtime>)>> = const { RefCell::new(Vec::new()) };
    static NEXT_ENTRY: Cell<u64> = const { Cell::new(0) };
}

impl Runtime {
    /// Starts a runtime that offers nothing yet. `name` appears in messages: "tokio", "evenloop".
    pub fn builder(name: &'static str) -> Builder {
        Builder { name, spawn: None, timers: None, reactor: None }
    }

    /// What the host calls itself.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The number by which [`with_id`](Self::with_id) finds this runtime again.
    pub fn id(&self) -> RuntimeId {
        self.0.id
    }

    /// Makes this the current runtime of the calling thread until the guard is dropped.
    pub fn enter(&self) -> Entered {
        let entry = NEXT_ENTRY.get();
        NEXT_ENTRY.set(entry + 1);
        // In a destructor at the thread's end the stack may be gone: then nobody can ask it either.
        let runtime = Rc::new(self.clone());
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push((entry, runtime)));
        Entered { entry, not_send: std::marker::PhantomData }
    }

    /// Installs the runtime that threads use which have entered none. Once per process.
    ///
    /// # Errors
    ///
    /// One is installed already; `runtime` comes back.
    pub fn set_fallback(runtime: Self) -> Result<(), Self> {
        FALLBACK.set(runtime)
    }

    /// The innermost runtime entered on this thread, else the fall-back.
    pub fn current() -> Option<Self> {
        Self::with_current(Self::clone)
    }

    /// Gives [`current`](Self::current) to `f`, without the two atomic operations of a clone.
    #[inline]
    pub fn with_current<R>(f: impl FnOnce(&Self) -> R) -> Option<R> {
        match innermost() {
            Some(runtime) => Some(f(&runtime)),
            None => FALLBACK.get().map(f),
        }
    }

    /// Gives the runtime of that name to `f`, from any thread; `None` if it is gone. Cheapest where it is current.
    #[inline]
    pub fn with_id<R>(id: RuntimeId, f: impl FnOnce(&Self) -> R) -> Option<R> {
        match innermost() {
            Some(runtime) if runtime.id() == id => Some(f(&runtime)),
            _ => {
                let parts = living().lock().by_id.get(&id).and_then(StdWeak::upgrade)?;
                Some(f(&Self(parts)))
            }
        }
    }

    /// Who spawns here, for `call`.
    ///
    /// # Errors
    ///
    /// This runtime does not offer it.
    pub fn spawn_for(&self, call: &'static str) -> Result<&StdArc<dyn Spawn>, NoRuntime> {
        self.0.spawn.as_ref().ok_or(NoRuntime { call, needs: "to spawn", why: Why::Lacking(self.0.name) })
    }

    /// Who keeps time here, if anybody does.
    #[inline]
    pub fn timers(&self) -> Option<&StdArc<dyn Timers>> {
        self.0.timers.as_ref()
    }

    /// Who keeps time here, for `call`.
    ///
    /// # Errors
    ///
    /// This runtime does not offer it.
    pub fn timers_for(&self, call: &'static str) -> Result<&StdArc<dyn Timers>, NoRuntime> {
        self.0.timers.as_ref().ok_or(NoRuntime { call, needs: "timers", why: Why::Lacking(self.0.name) })
    }

    /// Who watches descriptors here, for `call`.
    ///
    /// # Errors
    ///
    /// This runtime does not offer it.
    pub fn reactor_for(&self, call: &'static str) -> Result<&StdArc<dyn Reactor>, NoRuntime> {
        self.0.reactor.as_ref().ok_or(NoRuntime { call, needs: "a reactor", why: Why::Lacking(self.0.name) })
    }

    /// Who spawns on the current runtime, for `call`.
    ///
    /// # Errors
    ///
    /// There is no current runtime, or it does not offer it.
    pub fn current_spawn(call: &'static str) -> Result<StdArc<dyn Spawn>, NoRuntime> {
        let runtime = Self::current().ok_or(NoRuntime::none_found(call, "to spawn"))?;
        runtime.spawn_for(call).cloned()
    }

    /// Who keeps time on the current runtime, for `call`.
    ///
    /// # Errors
    ///
    /// There is no current runtime, or it does not offer it.
    pub fn current_timers(call: &'static str) -> Result<StdArc<dyn Timers>, NoRuntime> {
        let runtime = Self::current().ok_or(NoRuntime::none_found(call, "timers"))?;
        runtime.timers_for(call).cloned()
    }

    /// Tells the host of this thread of a mistake that does no harm at once, if it is in debug mode: of something that was
    /// dropped while it was open, say. Nothing happens, and `what` is not called, if it is not, or if there is no host.
    ///
    /// From destructors too. Never panics, unless `what` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_core::Runtime;
    ///
    /// struct Ledger {
    ///     open: bool,
    /// }
    ///
    /// impl Drop for Ledger {
    ///     fn drop(&mut self) {
    ///         if self.open {
    ///             Runtime::report_in_debug(|| "a ledger was dropped unclosed".to_owned());
    ///         }
    ///     }
    /// }
    ///
    /// drop(Ledger { open: true }); // no runtime here, so nobody is told
    /// ```
    #[doc(alias = "ResourceWarning")]
    pub fn report_in_debug(what: impl FnOnce() -> String) {
        let debugging = |runtime: &Self| runtime.0.spawn.clone().filter(|host| host.is_debug());
        if let Some(Some(host)) = Self::with_current(debugging) {
            host.report(&what());
        }
    }

    /// Tells the host of this thread of a panic that falls on nobody, such as a waker's; prints it if there is no host.
    ///
    /// From destructors too. Never panics: what the panic carries is dropped, and so is what that may panic with.
    ///
    /// # Examples
    ///
    /// ```
    /// use evenloop_core::Runtime;
    ///
    /// if let Err(panic) = std::panic::catch_unwind(|| panic!("out of ink")) {
    ///     Runtime::report_panic("a printer panicked", panic); // a printer panicked: out of ink
    /// }
    /// ```
    #[cold]
    pub fn report_panic(what: &str, panic: Box<dyn Any + Send>) {
        let told = catch_unwind(AssertUnwindSafe(|| {
            let words = match panic.downcast_ref::<&'static str>() {
                Some(words) => words,
                None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str),
            };
            let host = Self::with_current(|runtime| runtime.0.spawn.clone());
            match host.flatten() {
                Some(host) => host.report(&format_args!("{what}: {words}")),
                None => eprintln!("{what}: {words}"), // which panics where nobody can be told
            }
        }));
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        std::mem::forget((told, dropped)); // what they panicked with might go on for ever
    }

    /// Who watches descriptors on the current runtime, for `call`.
    ///
    /// # Errors
    ///
    /// There is no current runtime, or it does not offer it.
    pub fn current_reactor(call: &'static str) -> Result<StdArc<dyn Reactor>, NoRuntime> {
        let runtime = Self::current().ok_or(NoRuntime::none_found(call, "a reactor"))?;
        runtime.reactor_for(call).cloned()
    }
}

/// The runtime entered last on this thread.
#[inline]
fn innermost() -> Option<Rc<Runtime>> {
    // A destructor of another thread-local may ask after this one is gone.
    ENTERED
        .try_with(|entered| entered.borrow().last().map(|(_, runtime)| runtime.clone()))
        .unwrap_or_default()
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offers = [
            ("spawn", self.0.spawn.is_some()),
            ("timers", self.0.timers.is_some()),
            ("reactor", self.0.reactor.is_some()),
        ];
        write!(f, "Runtime [{}:", self.0.name)?;
        offers.iter().filter(|(_, there)| *there).try_for_each(|(what, _)| write!(f, " {what}"))?;
        f.write_str("]")
    }
}

/// Keeps a runtime current on this thread; dropping it leaves.
///
/// Guards may be dropped in any order: each takes out its own entry, and the innermost one left is current.
#[must_use = "dropping the guard leaves the runtime"]
pub struct Entered {
    entry: u64,
    /// The stack belongs to this thread.
    not_send: std::marker::PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            let place = entered.iter().rposition(|(entry, _)| *entry == self.entry)?;
            Some(entered.remove(place))
        });
        drop(left); // R2: the last clone of a runtime may be this one.
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// A call needs something of its host that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRuntime {
    call: &'static str,
    needs: &'static str,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// None was given, entered or installed.
    NoneFound,
    /// The one of this name was found and does not offer it.
    Lacking(&'static str),
    /// The one of this name was found and has ended.
    Ended(&'static str),
}

impl NoRuntime {
    /// `call` needs `needs` ("timers") of `runtime`, which has ended.
    pub fn ended(call: &'static str, needs: &'static str, runtime: &Runtime) -> Self {
        Self { call, needs, why: Why::Ended(runtime.name()) }
    }

    /// `call` needs `needs` ("timers"), and there is no current runtime.
    pub fn none_found(call: &'static str, needs: &'static str) -> Self {
        Self { call, needs, why: Why::NoneFound }
    }
}

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, needs, why } = self;
        match why {
            Why::NoneFound => write!(f, "`{call}` needs {needs}, and this thread has no runtime: ")?,
            Why::Lacking(host) => write!(f, "`{call}` needs {needs}, and the {host} runtime offers none: ")?,
            Why::Ended(host) => write!(f, "`{call}` needs {needs}, and the {host} runtime has ended: ")?,
        }
        // An adapter has a reactor only with its feature.
        let adapter = if *needs == "a reactor" { " with its feature `streams`" } else { "" };
        write!(
            f,
            "call it inside `evenloop::run` (or enter an adapter such as evenloop-tokio{adapter}: \
             `evenloop_tokio::install()`), or hand a `Runtime` to its `_on` twin",
        )
    }
}

impl Error for NoRuntime {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned};
    use std::panic::panic_any;

    fn named(name: &'static str) -> Runtime {
        Runtime::builder(name).build()
    }

    fn current() -> Option<&'static str> {
        Runtime::current().map(|runtime| runtime.name())
    }

    #[test]
    fn the_innermost_is_current_until_it_is_left() {
        let outer = named("outer").enter();
        assert_eq!(current(), Some("outer"));
        let inner = named("inner").enter();
        assert_eq!(current(), Some("inner"));
        drop(inner);
        assert_eq!(current(), Some("outer"));
        drop(outer);
        assert_eq!(current(), None);
    }

    #[test]
    fn guards_dropped_in_the_wrong_order_never_leave_a_wrong_runtime() {
        let outer = named("outer").enter();
        let inner = named("inner").enter();
        drop(outer);
        assert_eq!(current(), Some("inner"));
        drop(inner);
        assert_eq!(current(), None);
    }

    #[test]
    fn an_id_finds_its_runtime_from_any_thread_while_it_lives() {
        let one = named("one");
        let (id, other) = (one.id(), named("other").enter());
        let name = move || Runtime::with_id(id, Runtime::name);
        assert_eq!(name(), Some("one"));
        assert_eq!(std::thread::spawn(name).join().unwrap(), Some("one"));
        let entered = one.enter();
        assert_eq!(name(), Some("one"));
        drop((entered, other, one));
        assert_eq!(name(), None);
    }

    #[test]
    fn who_is_given_the_current_runtime_may_enter_and_leave_others() {
        let outer = named("outer").enter();
        Runtime::with_current(|_| {
            drop(outer);
            assert_eq!(current(), None);
            drop(named("inner").enter());
        });
    }

    #[test]
    fn a_report_of_a_panic_never_panics() {
        /// Of no size, so that what is leaked is nothing.
        struct Wild;
        impl Drop for Wild {
            fn drop(&mut self) {
                panic_any(Self);
            }
        }
        struct Host;
        impl Spawn for Host {
            fn spawn(&self, value: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
                Err(NotSpawned { value, why: "it only reports" })
            }

            fn spawn_local(&self, value: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
                Err(NotSpawned { value, why: "it only reports" })
            }

            fn spawn_blocking(&self, value: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
                Err(NotSpawned { value, why: "it only reports" })
            }

            fn report(&self, _: &dyn fmt::Display) {
                panic_any(Wild);
            }
        }
        let report = |panic: Box<dyn Any + Send>| {
            catch_unwind(AssertUnwindSafe(|| Runtime::report_panic("on purpose", panic)))
                .map_err(std::mem::forget)
        };
        assert_eq!(report(Box::new(Wild)), Ok(()));
        let _entered = Runtime::builder("wild").spawn(StdArc::new(Host)).build().enter();
        assert_eq!(report(Box::new("words")), Ok(()));
        assert_eq!(report(Box::new(Wild)), Ok(()));
    }

    #[test]
    fn the_error_names_the_call_the_need_and_the_ways_out() {
        let message = Runtime::current_timers("sleep").err().unwrap().to_string();
        assert!(message.starts_with("`sleep` needs timers, and this thread has no runtime: "), "{message}");
        assert!(message.contains("evenloop::run") && message.contains("`_on` twin"), "{message}");

        let _bare = named("bare").enter();
        let message = Runtime::current_spawn("add_done_callback").err().unwrap().to_string();
        assert!(message.contains("the bare runtime offers none"), "{message}");
        let message = Runtime::current_reactor("TcpListener::bind").err().unwrap().to_string();
        assert!(
            message.contains("evenloop-tokio with its feature `streams`: `evenloop_tokio::install()`)"),
            "{message}"
        );
        let message = NoRuntime::ended("sleep", "timers", &named("short")).to_string();
        assert!(message.starts_with("`sleep` needs timers, and the short runtime has ended: "), "{message}");
    }

    #[test]
    fn the_thread_local_may_be_gone() {
        struct Asks;
        impl Drop for Asks {
            fn drop(&mut self) {
                assert_eq!(current(), None);
            }
        }
        std::thread_local!(static ASKS: Asks = const { Asks });
        std::thread::spawn(|| {
            ASKS.with(|_| ());
            drop(named("short").enter());
        })
        .join()
        .unwrap();
    }
}
