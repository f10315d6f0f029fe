//! How a model's process plays one mutant of the program.
//!
//! A *site* is a place in the sources and what is done there: `crates/sync/src/lock.rs:120:14 load 0`. The last word is
//! the argument that the change is about; it tells the success (0) from the failure (1) ordering of a compare-exchange.
//!
//! - `EVENLOOP_SITES=FILE` appends every site that is reached to FILE, once a process, with the ordering written there.
//! - `EVENLOOP_MUTANT="SITE CHANGE"` changes that one site. An ordering's name replaces the ordering. `fail` makes a
//!   compare-exchange fail once in each execution though the value was the expected one. `skip` leaves a wake-up out.
//!
//! Each `EVENLOOP_` variable is read once. Without them the hooks cost a comparison, and only under loom.

use super::atomic::Ordering;
use std::cell::RefCell;
use std::collections::HashSet;
use std::io::Write as _;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic as plain;

/// A place in the sources and what is done there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Site<'a> {
    /// Compared first: most sites differ here.
    line: u32,
    column: u32,
    argument: u8,
    operation: &'a str,
    file: &'a str,
}

impl<'a> Site<'a> {
    fn new(operation: &'a str, argument: u8, at: &'a Location<'a>) -> Self {
        Self { line: at.line(), column: at.column(), argument, operation, file: at.file() }
    }

    /// `FILE:LINE:COLUMN OPERATION ARGUMENT`, as `Display` writes it.
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut place = words.next()?.rsplitn(3, ':');
        let column = place.next()?.parse().ok()?;
        let line = place.next()?.parse().ok()?;
        let file = place.next()?;
        let operation = words.next()?;
        let argument = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { line, column, argument, operation, file })
    }
}

impl std::fmt::Display for Site<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, column, argument, operation, file } = self;
        write!(f, "{file}:{line}:{column} {operation} {argument}")
    }
}

/// What the mutant does at its site.
#[derive(Clone, Copy, Debug)]
enum Change {
    Weaken(Ordering),
    Fail,
    Skip,
}

fn mutant() -> Option<&'static (Site<'static>, Change)> {
    static MUTANT: OnceLock<Option<(Site<'static>, Change)>> = OnceLock::new();
    let read = || {
        let text: &'static str = std::env::var("EVENLOOP_MUTANT").ok()?.leak();
        let expected = "EVENLOOP_MUTANT: expected `FILE:LINE:COLUMN OPERATION ARGUMENT CHANGE`";
        let (site, change) = text.rsplit_once(' ').expect(expected);
        let change = match change {
            "Relaxed" => Change::Weaken(Ordering::Relaxed),
            "Acquire" => Change::Weaken(Ordering::Acquire),
            "Release" => Change::Weaken(Ordering::Release),
            "AcqRel" => Change::Weaken(Ordering::AcqRel),
            "fail" => Change::Fail,
            "skip" => Change::Skip,
            other => panic!("{expected}; there is no change `{other}`"),
        };
        Some((Site::parse(site).expect(expected), change))
    };
    MUTANT.get_or_init(read).as_ref()
}

/// Appends `site` to the file of `EVENLOOP_SITES`, once; `written` is what the source says there.
fn list(site: Site<'_>, written: &dyn std::fmt::Debug) {
    static FILE: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    std::thread_local! {
        static SEEN: RefCell<HashSet<Site<'static>>> = RefCell::default();
    }
    let Some(file) = FILE.get_or_init(|| std::env::var_os("EVENLOOP_SITES")) else { return };
    SEEN.with_borrow_mut(|seen| {
        if !seen.contains(&site) {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
            let written = file.and_then(|mut file| writeln!(file, "{site} {written:?}"));
            written.unwrap_or_else(|error| panic!("EVENLOOP_SITES: {error}"));
            let Site { line, column, argument, operation, file } = site;
            let kept = |text: &str| -> &'static str { text.to_owned().leak() };
            seen.insert(Site { line, column, argument, operation: kept(operation), file: kept(file) });
        }
    });
}

/// The ordering to use: the one written there, unless the mutant weakens it.
pub(super) fn ord(operation: &'static str, argument: u8, ordering: Ordering, at: &Location<'_>) -> Ordering {
    let site = Site::new(operation, argument, at);
    let used = match mutant() {
        Some((place, Change::Weaken(weaker))) if *place == site => *weaker,
        _ => ordering,
    };
    list(site, &ordering);
    used
}

/// Whether the mutant makes the compare-exchange at `at` fail: once in each execution.
pub(super) fn fails(operation: &'static str, at: &Location<'_>) -> bool {
    match mutant() {
        Some((place, Change::Fail)) if *place == Site::new(operation, 0, at) => {
            !FAILED.swap(true, plain::Ordering::Relaxed)
        }
        _ => false,
    }
}

/// Whether [`fails`] has answered yes in this execution. Loom runs one thread at a time, so a plain atomic is enough.
static FAILED: plain::AtomicBool = plain::AtomicBool::new(false);

/// How many threads are still to fail, of those that the program builds.
static STARTS_TO_FAIL: plain::AtomicUsize = plain::AtomicUsize::new(0);

/// Has the next so many threads not start that the program builds in this execution.
pub fn fail_starts(times: usize) {
    STARTS_TO_FAIL.store(times, plain::Ordering::Relaxed);
}

/// Whether the thread that is being built does not start.
pub(super) fn start_fails() -> bool {
    let left = STARTS_TO_FAIL.load(plain::Ordering::Relaxed);
    STARTS_TO_FAIL.store(left.saturating_sub(1), plain::Ordering::Relaxed);
    left > 0
}

/// A new execution of the model begins.
pub fn begin_execution() {
    FAILED.store(false, plain::Ordering::Relaxed);
    fail_starts(0);
}

/// Whether the mutant leaves out the wake-up at this place.
pub fn skips(operation: &str, file: &str, line: u32, column: u32) -> bool {
    let site = Site { line, column, argument: 0, operation, file };
    let skips = matches!(mutant(), Some((place, Change::Skip)) if *place == site);
    list(site, &plain::Ordering::Relaxed);
    skips
}

/// Whether somebody asks for places of wake-ups at all: finding out where a waker was called from is slow.
pub fn wants_wakes() -> bool {
    static WANTS: OnceLock<bool> = OnceLock::new();
    *WANTS.get_or_init(|| {
        std::env::var_os("EVENLOOP_SITES").is_some() || matches!(mutant(), Some((_, Change::Skip)))
    })
}

/// As [`skips`], for an operation of the shim.
pub(super) fn skips_at(operation: &str, at: &Location<'_>) -> bool {
    skips(operation, at.file(), at.line(), at.column())
}
