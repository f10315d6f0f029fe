//! What happened, in words.

use std::cell::RefCell;
use std::rc::Rc;

/// What happened on this thread, oldest first; clones are the same log.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    /// Writes down what has just happened.
    pub fn add(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }

    /// All of it; the log is empty then.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// All of it.
    pub fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// How often that has happened.
    pub fn count(&self, what: &str) -> usize {
        self.0.borrow().iter().filter(|said| *said == what).count()
    }

    /// Whether that has happened.
    pub fn has(&self, what: &str) -> bool {
        self.count(what) > 0
    }
}
