//! From where a waker was called.
//!
//! `Waker::wake` does not know its caller, so the stack is asked: the first frame in a library crate's sources is the
//! site of the wake-up. Reading a frame's line is slow; each address is looked up once. Only a run that lists sites or
//! leaves a wake-up out pays for any of it.

/// Whether the mutant that this process plays leaves out the wake-up in progress.
#[cfg(not(evenloop_loom))]
pub(crate) fn is_skipped() -> bool {
    false
}

/// Whether the mutant that this process plays leaves out the wake-up in progress.
#[cfg(evenloop_loom)]
pub(crate) fn is_skipped() -> bool {
    use evenloop_core::shim::hooks;
    hooks::wants_wakes()
        && found::site().is_some_and(|site| hooks::skips("wake", &site.file, site.line, site.column))
}

#[cfg(evenloop_loom)]
mod found {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;

    /// A line of a library crate.
    pub(super) struct Site {
        pub(super) file: String,
        pub(super) line: u32,
        pub(super) column: u32,
    }

    std::thread_local! {
        static KNOWN: RefCell<HashMap<usize, Option<Rc<Site>>>> = RefCell::default();
    }

    /// The innermost frame in a library crate.
    pub(super) fn site() -> Option<Rc<Site>> {
        let mut site = None;
        backtrace::trace(|frame| {
            let address = frame.ip() as usize;
            let known = KNOWN.with_borrow(|known| known.get(&address).cloned());
            site = known.unwrap_or_else(|| {
                let found = in_library(frame);
                KNOWN.with_borrow_mut(|known| known.insert(address, found.clone()));
                found
            });
            site.is_none()
        });
        site
    }

    fn in_library(frame: &backtrace::Frame) -> Option<Rc<Site>> {
        let mut found = None;
        backtrace::resolve_frame(frame, |symbol| {
            let Some(path) = symbol.filename().map(|file| file.to_string_lossy()) else { return };
            let Some(at) = path.find("crates/").filter(|_| path.contains("/src/")) else { return };
            let file = &path[at..];
            // A batch wakes on behalf of whoever filled it.
            let is_ours = !file.starts_with("crates/loom-tests/") && file != "crates/core/src/wake_batch.rs";
            if is_ours && found.is_none() {
                let line = symbol.lineno().unwrap_or(0);
                found =
                    Some(Rc::new(Site { file: file.to_owned(), line, column: symbol.colno().unwrap_or(0) }));
            }
        });
        found
    }
}
