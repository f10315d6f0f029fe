//! Errors that nobody can see any more, told once.

use crate::current::with_current;
use crate::task::TaskId;
use crate::task::raw::About;
use std::any::Any;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

/// What a loop calls with each error that nobody can see any more.
pub(crate) type Hook = dyn Fn(&Unhandled<'_>);

/// An error that nobody can see any more: a detached task or a callback that panicked, a destructor or waker that panicked
/// under the loop, and what others report, such as a future's error that was never asked for.
///
/// Given to the loop's hook, once an error, when it is certain that nobody will see it, and in the context of the task that
/// failed. Its `Display` is what is printed to the standard error stream when there is no hook. It carries what asyncio's
/// context dictionary does (message, exception, task, handle, where that was made); what a future, a transport or a server
/// has to say stands in its message.
///
/// # Examples
///
/// ```
/// use evenloop_executor::{EventLoop, Unhandled, create_task, yield_now};
/// use std::cell::RefCell;
/// use std::rc::Rc;
///
/// let told = Rc::new(RefCell::new(Vec::new()));
/// let note = told.clone();
/// let hook = move |unhandled: &Unhandled<'_>| note.borrow_mut().push(unhandled.panic_message().unwrap_or("").to_owned());
/// let event_loop = EventLoop::builder().on_unhandled(hook).build();
/// event_loop.run_until_complete(async {
///     create_task(async { panic!("nobody awaits me") }).detach();
///     yield_now().await;
/// });
/// assert_eq!(*told.borrow(), ["nobody awaits me"]);
/// ```
pub struct Unhandled<'a> {
    message: &'a str,
    about: Option<About>,
    panic: Option<&'a (dyn Any + Send)>,
    told: Option<&'a str>,
    /// What more there is to say.
    words: Option<String>,
}

impl<'a> Unhandled<'a> {
    pub(crate) fn new(message: &'a str, about: Option<About>, panic: Option<&'a (dyn Any + Send)>) -> Self {
        Self { message, about, panic, told: None, words: None }
    }

    /// What a crate told the host.
    pub(crate) fn told_by_a_crate(told: &'a str) -> Self {
        Self { message: "reported by a crate", about: None, panic: None, told: Some(told), words: None }
    }

    /// Says more, at the end.
    pub(crate) fn in_other_words(mut self, words: String) -> Self {
        self.words = Some(words);
        self
    }

    /// What more there is to say: how long a slow poll took, say.
    pub fn details(&self) -> Option<&str> {
        self.words.as_deref()
    }

    /// What happened, in a few words.
    pub fn message(&self) -> &str {
        self.message
    }

    /// What a crate told the host, if that is what happened.
    pub fn told(&self) -> Option<&str> {
        self.told
    }

    /// The task it happened to, as its `Debug` shows it.
    pub fn task(&self) -> Option<String> {
        self.task_itself().map(ToString::to_string)
    }

    /// The name of that task.
    pub fn task_name(&self) -> Option<String> {
        self.task_itself().map(About::full_name)
    }

    /// The number of that task.
    pub fn task_id(&self) -> Option<TaskId> {
        self.task_itself().map(|about| about.id)
    }

    /// The callback it happened to, as it is shown.
    pub fn handle(&self) -> Option<String> {
        self.about.as_ref().filter(|about| about.callback).map(ToString::to_string)
    }

    fn task_itself(&self) -> Option<&About> {
        self.about.as_ref().filter(|about| !about.callback)
    }

    /// Where that task was spawned, or that callback registered.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.about.as_ref().map(|about| about.spawned_at)
    }

    /// What the panic carried.
    pub fn payload(&self) -> Option<&(dyn Any + Send)> {
        self.panic
    }

    /// The panic's words, if it had any.
    pub fn panic_message(&self) -> Option<&str> {
        self.panic.map(panic_message)
    }

    /// Gives this to the hook, or prints it. A hook that panics is itself reported by printing. Never unwinds.
    pub(crate) fn report(&self, hook: Option<Rc<Hook>>) {
        let Some(hook) = hook else {
            eprintln!("{self}");
            return;
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| hook(self))) {
            eprintln!(
                "the unhandled-error hook panicked: {}; it was called with: {self}",
                panic_message(&*panic)
            );
            let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hook)));
    }
}

/// What somebody reports who is no task of the loop's. Told when it is dropped, so that no report gets lost: to the hook of
/// the loop that runs here, else to the standard error stream.
pub(crate) struct Told(pub(crate) String);

impl Drop for Told {
    fn drop(&mut self) {
        let report = Unhandled::told_by_a_crate(&self.0);
        if with_current(|core| report.report(core.sched().hook())).is_none() {
            eprintln!("{report}");
        }
    }
}

/// The name of the value's type, if the value is an `Err`, whatever it holds.
///
/// Discussion: a `T` cannot be asked whether it is a `Result`. But its type has a name, and its variant a discriminant, which
/// can be hashed and so compared with that of another `Err`. How names are spelled is promised by nobody: should that
/// change, no `Err` is found any more, and the test below fails.
pub(crate) fn error_type<T>(value: &T) -> Option<&'static str> {
    let name = std::any::type_name::<T>();
    let is_err = || variant(value) == variant(&Err::<(), ()>(()));
    (name.starts_with("core::result::Result<") && is_err()).then_some(name)
}

/// The hash of a value's variant: the same for the same number of a variant.
fn variant<T>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    discriminant(value).hash(&mut hasher);
    hasher.finish()
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<&'static str>() {
        Some(words) => words,
        None => panic.downcast_ref::<String>().map_or("(no message)", String::as_str),
    }
}

impl fmt::Display for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told.unwrap_or(self.message))?;
        if let Some(about) = &self.about {
            write!(f, ": {about}")?;
        }
        if let Some(words) = self.panic_message().or(self.details()) {
            write!(f, ": {words}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Unhandled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unhandled [{self}]")
    }
}

#[cfg(test)]
mod tests {
    use super::error_type;

    #[test]
    fn an_err_is_told_from_everything_else() {
        type Io = std::io::Error;
        assert_eq!(error_type(&Err::<u8, _>("no")), Some("core::result::Result<u8, &str>"));
        assert_eq!(error_type(&Err::<u8, u8>(1)), Some("core::result::Result<u8, u8>"));
        assert!(error_type(&Err::<(), Io>(std::io::ErrorKind::Other.into())).is_some());
        assert!(error_type(&Err::<Box<u8>, ()>(())).is_some(), "the variant lies in a niche");
        assert_eq!(error_type(&Ok::<Box<u8>, ()>(Box::new(1))), None);
        assert_eq!(error_type(&Ok::<(), Io>(())), None);
        assert_eq!(error_type(&Ok::<u8, &str>(1)), None);
        assert_eq!(error_type(&Some(Err::<u8, u8>(1))), None);
        assert_eq!(error_type(&vec![Err::<u8, u8>(1)]), None);
        assert_eq!(error_type(&1), None);
        assert_eq!(error_type(&()), None);
    }
}
