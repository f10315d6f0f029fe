//! `cargo xtask faults [PROGRAM [CALL]]`: the tests of streams while the kernel says no.
//!
//! strace makes one system call fail at its k-th use. `EINTR` has to go unnoticed. Any other error may fail a test, as an
//! error that reaches its caller does, but nothing may hang, be killed by a signal, or abort, and no code of ours may panic
//! but where it says so.
//!
//! A row of a table that no program feels is a failure.
//!
//! The tests of child processes are not among the above, because the children would feel the faults as well. They run whole on
//! a kernel that has no pidfds, or none left, and have to pass.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls that may be interrupted at any time, and are then repeated; and from which use on.
const INTERRUPTED: &[(&str, &str)] = &[
    ("accept4", OFTEN),
    ("epoll_wait", OFTEN),
    ("poll", EVERY_OTHER),
    ("ppoll", EVERY_OTHER),
    ("pread64", OFTEN),
    ("read", OFTEN),
    ("readv", EVERY_OTHER),
    ("recvfrom", OFTEN),
    ("sendfile", EVERY_OTHER),
    ("sendto", OFTEN),
    ("waitid", OFTEN),
    ("write", OFTEN),
    ("writev", EVERY_OTHER),
];

/// Other errors that a call of ours can answer.
///
/// Not among them: `connect` and `shutdown`, since a test that waits for both ends of a connection, or for the end of its bytes,
/// rightly waits for ever when there is none; `kill` and `pidfd_send_signal`, since whoever waits for the child that was to be
/// ended does the same. `close` would leave the descriptor open, which the kernel never does, whatever it answers. `epoll_wait`
/// can answer nothing else. `wait4` is std's alone.
const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS"]),
    ("bind", &["EACCES", "EADDRINUSE"]),
    ("clone", &["EAGAIN"]),
    ("clone3", &["EAGAIN"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC", "EPERM"]),
    ("eventfd2", &["EMFILE", "ENOSYS"]),
    ("fcntl", &["EMFILE"]),
    ("fstat", &["EIO"]),
    ("getpeername", &["ENOBUFS"]),
    ("getsockname", &["ENOBUFS"]),
    ("getsockopt", &["ENOBUFS"]),
    ("ioctl", &["ENOTTY"]),
    ("listen", &["EADDRINUSE"]),
    ("lseek", &["ESPIPE"]),
    ("pidfd_open", &["EMFILE", "ENOSYS"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("ppoll", &["ENOMEM"]),
    ("readv", &["ECONNRESET", "EIO"]),
    ("recvfrom", &["ECONNRESET", "ENOMEM", "ETIMEDOUT"]),
    ("sendfile", &["EINVAL", "EIO", "EPIPE"]),
    ("sendto", &["ECONNRESET", "ENOBUFS", "EPIPE"]),
    ("setsockopt", &["ENOPROTOOPT"]),
    ("socket", &["EAFNOSUPPORT", "EMFILE"]),
    ("socketpair", &["EMFILE"]),
    ("unlink", &["EACCES"]),
    ("waitid", &["ECHILD"]),
    ("writev", &["ECONNRESET", "ENOBUFS", "EPIPE"]),
];

/// Errors of calls that the harness's own thread makes too: the loader reads, the harness prints. Were those to fail, no test
/// would run; so these fail at the first use that this thread does not reach.
const PAST_THE_HARNESS: &[(&str, &[&str])] =
    &[("pread64", &["EIO"]), ("read", &["EIO"]), ("write", &["EIO", "EPIPE"])];

/// Tests that an interruption of a call may disturb: they make it themselves, count the turns of a park, which may return
/// early, or look a name up, for which libc reads files.
pub(crate) const TOUCHY: &[(&str, &str)] = &[
    ("epoll_wait", "an_idle_connection_polls_nobody"),
    ("ppoll", "a_guest_turns_when_its_descriptor_is_readable"),
    ("read", "our_client_and_openssls_server"),
    ("read", "our_client_refuses_openssls_expired_certificate"),
    ("read", "socat_sees_our_farewell_and_we_see_a_cut"),
    ("recvfrom", "a_read_cut_short_by_urgent_data_does_not_hang"),
];

/// Errors of a call that are no news in a program. Those that std makes, and that do not come about: for the word of a child that
/// it starts, which it then waits for. And those that end a test while a signal is on its way, which then does what it always
/// did: it ends the program.
const NOT_OURS: &[(&str, &str)] = &[(CHILDREN, "recvfrom"), ("streams_signals", "recvfrom")];

/// Panics of ours that an error may lead to, by their words: where each is documented.
const DOCUMENTED: &[(&str, &str)] = &[
    ("a loop needs two descriptors for its reactor", "`evenloop::run` and whatever else makes a loop"),
    ("`ThreadPool::run`: no thread could be started", "`ThreadPool::run`, where `try_run` tells instead"),
];

/// A test that does a thousand times what others do once.
pub(crate) const LONG: &str = "many_children_leave_nothing_behind";

/// At which use of the call; and calls of which a test makes few that differ, at the first alone.
const WHEN: &[&str] = &["1", "3"];
const AT_FIRST: &[&str] = &[
    "bind",
    "clone",
    "fcntl",
    "fstat",
    "getpeername",
    "getsockname",
    "ioctl",
    "listen",
    "lseek",
    "setsockopt",
    "socketpair",
    "unlink",
];

/// For interruptions: every third use, after those of the dynamic loader; and every other, of what is seldom used.
const OFTEN: &str = "20+3";
const EVERY_OTHER: &str = "1+2";

/// A program may take so long, and four times what it takes with no fault at all.
const LIMIT: Duration = Duration::from_secs(30);
const COUNTING_LIMIT: Duration = Duration::from_secs(300);

/// How long strace may take to end when it is told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// So many programs run at once: under a fault most of them wait.
const AT_ONCE: usize = 4;

/// How long a test waits for what an error may have kept from coming: several of a program may, within the limit. What was
/// interrupted has to come.
const PATIENCE_SECONDS: &str = "2";
const INTERRUPTED_PATIENCE_SECONDS: &str = "60";

/// What tests do a million times, and one with 18,000 connections, they do with so many as well.
const MANY: &str = "1000";

/// The tests of child processes, and what they have to pass in spite of.
const CHILDREN: &str = "streams_process";
const IN_SPITE_OF: &[&str] = &[
    "pidfd_open:error=ENOSYS",
    "pidfd_open:error=EMFILE",
    "kill,pidfd_send_signal:delay_enter=20000", // microseconds: whatever else ends a child is faster
];
const CHILDREN_LIMIT: Duration = Duration::from_secs(300);

/// The same tests as `streams_process`, on the other way to wait.
const SAME_TESTS: &str = "streams_process_fallback";

/// What is asked for: all, a program, or a call of a program.
struct Asked<'a> {
    program: Option<&'a str>,
    call: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn parse(words: &'a [String]) -> Result<Self, String> {
        let (program, call) = match words {
            [] => (None, None),
            [program] => (Some(&**program), None),
            [program, call] => (Some(&**program), Some(&**call)),
            _ => return Err("cargo xtask faults [PROGRAM [CALL]]: one program, and one call of it".into()),
        };
        if let Some(unknown) = call.filter(|call| !calls().contains(call)) {
            let calls = calls().into_iter().collect::<Vec<_>>().join(", ");
            return Err(format!("no fault of `{unknown}` is known; there are {calls}"));
        }
        let all = programs();
        if let Some(unknown) = program.filter(|program| !all.iter().any(|known| known == program)) {
            return Err(format!("no tests of streams are called `{unknown}`; there are {}", all.join(", ")));
        }
        Ok(Self { program, call })
    }

    fn wants(&self, plan: &Plan<'_>) -> bool {
        self.call.is_none_or(|call| plan.call == call)
    }
}

/// The test programs that feel faults, by name.
fn programs() -> Vec<String> {
    let files = tree::files("tests", "rs").into_iter();
    let names = files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
    names.filter(|name| name.starts_with("streams_") && name != SAME_TESTS).collect()
}

/// The calls of the tables.
fn calls() -> BTreeSet<&'static str> {
    let errors = ERRORS.iter().chain(PAST_THE_HARNESS);
    INTERRUPTED.iter().map(|(call, _)| *call).chain(errors.map(|(call, _)| *call)).collect()
}

pub(crate) fn run(words: &[String], skips: &mut Skips) -> Outcome {
    let asked = Asked::parse(words)?;
    if !skips.unless_found("strace", "fault injection") {
        return Ok(());
    }
    let mut build = sh::cargo("test --package evenloop-tests --no-run --quiet");
    match asked.program {
        Some(program) => build.args(["--test", program]),
        None => build.arg("--tests"),
    };
    let programs = models::executables(&sh::read(build.arg("--message-format=json-render-diagnostics"))?);
    let programs: Vec<_> = programs.into_iter().filter(|(name, _)| name.starts_with("streams_")).collect();
    if programs.is_empty() {
        return Err("cargo has built no test program `streams_...` of `evenloop-tests`".into());
    }
    if ended(strace(Path::new("/dev/null"), Reach::All).arg("--trace=none").arg("true"), LIMIT, None)?
        != Some(0)
    {
        skips.note("strace may not trace here (ptrace is not allowed)");
        return Ok(());
    }
    let begin = Instant::now();
    let mut failures = Vec::new();
    for (_, program) in programs.iter().filter(|(name, _)| name == CHILDREN && asked.call.is_none()) {
        for failure in models::at_once(IN_SPITE_OF, AT_ONCE, |fault| in_spite_of(fault, program)) {
            failures.extend(failure?);
        }
    }
    let programs: Vec<_> = programs.into_iter().filter(|(name, _)| name != SAME_TESTS).collect();
    let plans = models::at_once(&programs, AT_ONCE, |(name, program)| plans_for(name, program));
    let plans = plans.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let plans: Vec<_> = plans.into_iter().filter(|plan| asked.wants(plan)).collect();
    failures.extend(unmet(&plans, &asked));
    println!("{} faults in {} test programs", plans.len(), programs.len());
    let outcomes = models::at_once(&plans, AT_ONCE, try_out).into_iter().collect::<Result<Vec<_>, _>>()?;
    for (name, _) in &programs {
        let own = || plans.iter().zip(&outcomes).filter(|(plan, _)| plan.name == *name);
        let felt = own().filter(|(_, tried)| tried.is_felt).count();
        let seconds: f64 = own().map(|(_, tried)| tried.time.as_secs_f64()).sum();
        println!("   {name:20} {:3} faults, {felt:3} of them reach a caller, {seconds:5.0} s", own().count());
    }
    let slowest = plans.iter().zip(&outcomes).max_by_key(|(_, tried)| tried.time);
    if let Some((plan, tried)) = slowest {
        println!("   the longest: {plan}: {:.1} s", tried.time.as_secs_f64());
    }
    println!("   {:.0} s in all", begin.elapsed().as_secs_f64());
    failures.extend(outcomes.into_iter().filter_map(|tried| tried.failure));
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The rows of the tables whose fault no program feels, if all were asked for; and a program that feels none that was.
fn unmet(plans: &[Plan<'_>], asked: &Asked<'_>) -> Vec<String> {
    let is_met = |call: &str, error: &str| plans.iter().any(|plan| (plan.call, plan.error) == (call, error));
    match asked.program {
        Some(program) if plans.is_empty() => {
            vec![format!("{program} does not make the call often enough to feel a fault of it")]
        }
        Some(_) => vec![],
        None => {
            let interrupted = INTERRUPTED.iter().map(|(call, _)| (*call, "EINTR"));
            let errors = ERRORS.iter().chain(PAST_THE_HARNESS);
            let errors = errors.flat_map(|(call, errors)| errors.iter().map(|error| (*call, *error)));
            let unmet = interrupted.chain(errors).filter(|(call, error)| !is_met(call, error));
            unmet
                .map(|(call, error)| {
                    format!("no test program feels that {call} answers {error}: mend a test, or the table")
                })
                .collect()
        }
    }
}

/// Runs the tests of child processes. `Some`: they do not pass.
fn in_spite_of(fault: &str, program: &Path) -> Result<Option<String>, String> {
    let said = folder()?.join(format!("{}.txt", fault.replace([':', ',', '='], "-")));
    let mut strace = strace(Path::new("/dev/null"), Reach::All);
    strace.arg(format!("--inject={fault}")).arg(program).arg("--quiet");
    let code = ended(&mut strace, CHILDREN_LIMIT, Some(&said))?;
    if code == Some(0) {
        println!("{CHILDREN} passes in spite of {fault}");
        return Ok(None);
    }
    let failure = format!("{CHILDREN} in spite of {fault}: {code:?}\n{}", panics(&read(&said)));
    eprintln!("{failure}");
    Ok(Some(failure))
}

/// One system call that fails in one test program.
#[derive(Clone)]
struct Plan<'a> {
    name: &'a str,
    program: &'a Path,
    call: &'static str,
    error: &'static str,
    when: String,
    /// Where code of ours panics with no fault at all: tests of misuse see to that.
    provoked: Arc<BTreeSet<String>>,
    reach: Reach,
    limit: Duration,
}

/// Whom strace follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Everybody. strace stops nobody at calls that it does not look at.
    All,
    /// Threads, and children until they execute another program. strace stops everybody at each call.
    Own,
}

/// What a fault has led to.
struct Tried {
    time: Duration,
    /// A test has failed, as it may.
    is_felt: bool,
    failure: Option<String>,
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, call, error, when, .. } = self;
        write!(f, "{name}: {call} answers {error} at use {when}")
    }
}

/// The faults that a program can feel. strace counts the uses of each thread, and so of each test, by itself.
fn plans_for<'a>(name: &'a str, program: &'a Path) -> Result<Vec<Plan<'a>>, String> {
    let seen = folder()?.join(format!("{name}.calls"));
    let said = folder()?.join(format!("{name}.txt"));
    let traced = calls().into_iter().chain(["execve"]).collect::<Vec<_>>().join(",");
    let begin = Instant::now();
    let mut strace = strace(&seen, Reach::All);
    strace.arg(format!("--trace={traced}")).arg(program);
    strace.args(["--test-threads=1", "--nocapture", "--skip", LONG]);
    if ended(&mut strace, COUNTING_LIMIT, Some(&said))? != Some(0) {
        return Err(format!(
            "{name} does not pass under strace, with no fault at all\n{}",
            panics(&read(&said))
        ));
    }
    let provoked = Arc::new(ours(&read(&said)).into_keys().collect::<BTreeSet<_>>());
    let text = read(&seen);
    let (most, of_harness) = most_calls(&text);
    let makes = |call: &str, when: &str| {
        let first = when.split('+').next().and_then(|first| first.parse().ok()).unwrap_or(1);
        most.get(call).is_some_and(|most| *most >= first)
    };
    let reach = if text.matches("execve(").count() > 1 { Reach::Own } else { Reach::All };
    let limit = LIMIT + 4 * begin.elapsed();
    let plan = |call, error, when: &str| {
        let (when, provoked) = (when.to_owned(), provoked.clone());
        Plan { name, program, call, error, when, provoked, reach, limit }
    };
    let plan = &plan;
    let interruptions = INTERRUPTED.iter().map(|(call, when)| plan(call, "EINTR", when));
    let errors = ERRORS.iter().flat_map(|(call, errors)| {
        let whens = if AT_FIRST.contains(call) { &WHEN[..1] } else { WHEN };
        errors.iter().flat_map(move |error| whens.iter().map(move |when| plan(call, error, when)))
    });
    let past = PAST_THE_HARNESS.iter().flat_map(|(call, errors)| {
        let first = of_harness.get(call).copied().unwrap_or(0) + 1;
        errors.iter().map(move |error| plan(call, error, &first.to_string()))
    });
    let errors = errors.chain(past).filter(|plan| !NOT_OURS.contains(&(plan.name, plan.call)));
    Ok(interruptions.chain(errors).filter(|plan| makes(plan.call, &plan.when)).collect())
}

/// How often each call is used in a program.
type Uses<'a> = BTreeMap<&'a str, u32>;

/// How often a thread uses each call, at most, and how often the first one does, which is the harness's; from strace's lines,
/// `THREAD CALL(...`.
fn most_calls(lines: &str) -> (Uses<'_>, Uses<'_>) {
    let mut uses = BTreeMap::<_, u32>::new();
    for line in lines.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *uses.entry((thread, call)).or_default() += 1;
    }
    let first = lines.split(' ').next().unwrap_or_default();
    let (mut most, mut of_first) = (Uses::new(), Uses::new());
    for ((thread, call), uses) in uses {
        let known = most.entry(call).or_default();
        *known = uses.max(*known);
        if thread == first {
            of_first.insert(call, uses);
        }
    }
    (most, of_first)
}

fn try_out(plan: &Plan<'_>) -> Result<Tried, String> {
    let Plan { name, program, call, error, when, .. } = plan;
    let said = folder()?.join(format!("{name}-{call}-{error}-{when}.txt"));
    let interrupts = *error == "EINTR";
    let mut strace = strace(Path::new("/dev/null"), plan.reach);
    strace.arg(format!("--inject={call}:error={error}:when={when}"));
    let patience = if interrupts { INTERRUPTED_PATIENCE_SECONDS } else { PATIENCE_SECONDS };
    // What a test that passes prints is of interest as well: somebody may have swallowed a panic.
    strace.env("EVENLOOP_PATIENCE", patience).arg(program);
    strace.args(["--test-threads=1", "--nocapture", "--skip", LONG]);
    if interrupts {
        let touchy = TOUCHY.iter().filter(|(of, _)| of == call);
        strace.args(touchy.flat_map(|(_, test)| ["--skip", test]));
    }
    let begin = Instant::now();
    let code = ended(&mut strace, plan.limit, Some(&said))?;
    let time = begin.elapsed();
    let is_felt = !interrupts && code == Some(101);
    let text = read(&said);
    let mut ours = ours(&text);
    ours.retain(|place, _| !plan.provoked.contains(place));
    if ours.is_empty() && (is_felt || code == Some(0)) {
        let _ = std::fs::remove_file(said); // should it stay, it is in nobody's way
        return Ok(Tried { time, is_felt, failure: None });
    }
    let again = format!("again: cargo xtask faults {name} {call}");
    let failure = if is_felt || code == Some(0) {
        format!("{plan}: code of ours has panicked; {again}\n{}", listed(&ours))
    } else {
        let how = code
            .map_or("by a signal, or at the time limit".to_owned(), |code| format!("with exit code {code}"));
        let last = text.lines().rfind(|line| line.starts_with("test ")).unwrap_or_default();
        let seconds = time.as_secs_f64();
        format!("{plan}: ended {how} after {seconds:.0} s; {last}; {again}\n{}", panics(&text))
    };
    eprintln!("{failure}");
    Ok(Tried { time, is_felt, failure: Some(failure) })
}

/// What is said and counted.
fn folder() -> Result<PathBuf, String> {
    let folder = sh::root().join("target/faults");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Where a test program has panicked, and with what.
fn panics(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let panics = lines.windows(2).filter(|pair| pair[0].contains("panicked at"));
    panics.map(|pair| pair.join("\n")).collect::<Vec<_>>().join("\n")
}

/// Panics, each with its words.
fn listed(panics: &BTreeMap<String, String>) -> String {
    panics.iter().map(|(place, words)| format!("{place} {words}")).collect::<Vec<_>>().join("\n")
}

/// Which of these panics are those of code in `crates/`, tests excepted, and not [`DOCUMENTED`]: the words by the place.
fn ours(said: &str) -> BTreeMap<String, String> {
    let root = format!("{}/", sh::root().display());
    let lines: Vec<_> = said.lines().collect();
    let mut ours = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((_, place)) = line.split_once("panicked at ") else { continue };
        let place = place.strip_prefix(&*root).unwrap_or(place);
        let file = place.split(':').next().unwrap_or_default();
        let is_test = file.split('/').any(|part| part == "tests" || part == "tests.rs");
        let words = lines.get(at + 1).copied().unwrap_or_default();
        let is_documented = DOCUMENTED.iter().any(|(documented, _)| words.contains(documented));
        if file.starts_with("crates/") && !is_test && !is_documented {
            ours.insert(place.to_owned(), words.to_owned());
        }
    }
    ours
}

/// What is written in a file: nothing, if there is none.
fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}

/// strace that writes what it sees into a file.
fn strace(file: &Path, reach: Reach) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--quiet=all", "--output"]).arg(file);
    strace.arg("--interruptible=waiting"); // with an output file it would not hear the SIGTERM of `ended`
    // A program that is let go of would keep the filter, which fails every call that strace looks at.
    strace.arg(match reach {
        Reach::All => "--seccomp-bpf",
        Reach::Own => "--detach-on=execve",
    });
    strace.env("EVENLOOP_MANY", MANY).current_dir(sh::root());
    strace.env("RUST_BACKTRACE", "0"); // a panic is no news here, and to write one down takes seconds
    strace
}

/// The exit code; `None`: killed by a signal, or by us at the limit. What it says goes into a file.
fn ended(strace: &mut Command, limit: Duration, said: Option<&Path>) -> Result<Option<i32>, String> {
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if let Some(path) = said {
        let file = std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        strace.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
    }
    let mut child = strace.spawn().map_err(|error| format!("strace: {error}"))?;
    let kill = |signal: &str, whom: String| {
        // There may be nobody left.
        let _ = Command::new("kill").args([signal, "--", &whom]).stderr(Stdio::null()).status();
    };
    let begin = Instant::now();
    let mut is_told = false;
    let code = loop {
        match child.try_wait().map_err(|error| format!("strace: {error}"))? {
            Some(status) => break status.code().filter(|_| !is_told),
            None if begin.elapsed() < limit => {}
            // strace takes its program along, but may wait for programs that this one has started.
            None if begin.elapsed() > limit + FAREWELL => {
                kill("-KILL", format!("-{}", child.id()));
                let _ = child.wait();
                break None;
            }
            None if !is_told => {
                is_told = true;
                kill("-TERM", child.id().to_string());
            }
            None => {}
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    // The programs of a test that has failed.
    kill("-KILL", format!("-{}", child.id()));
    Ok(code)
}

/// `cargo xtask ci children`: 1,000 children at once and 20,000 in a row, with pidfds and with threads.
pub(crate) fn children() -> Outcome {
    let tests =
        "test --release --package evenloop-tests --test streams_process --test streams_process_fallback";
    let mut test = sh::cargo(tests);
    test.args(["--quiet", "--", "--nocapture", LONG]);
    let said = sh::read(test.env("EVENLOOP_CHILDREN", "20000"))?;
    print!("{said}");
    match said.matches("test result: ok. 1 passed").count() {
        2 => Ok(()),
        ran => Err(format!("`{LONG}` is a test of two programs, and of {ran} it has run")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_for_each_thread_and_the_most_counts() {
        let lines = "7 read(3, \"\", 8) = 0\n8 read(4,  <unfinished ...>\n7 read(3, ...) = 0\n8 <... read resumed>) = 0\n\
                     7 +++ exited with 0 +++\n8  write(1, \"\", 0) = 0\n";
        let (most, of_harness) = most_calls(lines);
        assert_eq!(most, BTreeMap::from([("read", 2), ("write", 1)]));
        assert_eq!(of_harness, BTreeMap::from([("read", 2)]));
    }

    #[test]
    fn a_panic_of_ours_is_told_from_one_of_a_test_and_of_others() {
        let root = sh::root().display();
        let said = format!(
            "test a ... thread 'a' (7) panicked at crates/streams/src/tcp.rs:1:2:\nindex out of bounds\n\
             thread '<unnamed>' panicked at {root}/crates/time/src/wheel.rs:3:4:\ncalled `unwrap`\n\
             thread 'b' panicked at tests/streams_sock.rs:5:6:\nassertion failed\n\
             thread 'c' panicked at crates/core/src/cancel/tests.rs:5:6:\nassertion failed\n\
             thread 'd' panicked at crates/core/src/cancel/tests/ends.rs:5:6:\nassertion failed\n\
             thread 'e' panicked at /rustc/0/library/std/src/io/stdio.rs:7:8:\nfailed printing\n"
        );
        assert_eq!(
            listed(&ours(&said)),
            "crates/streams/src/tcp.rs:1:2: index out of bounds\ncrates/time/src/wheel.rs:3:4: called `unwrap`"
        );
    }

    #[test]
    fn what_is_unknown_is_refused_by_name() {
        let refused = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Asked::parse(&words).err().unwrap_or_default()
        };
        assert_eq!(refused(&[]), "");
        assert_eq!(refused(&["streams_sock", "accept4"]), "");
        assert!(refused(&["streams_none"]).starts_with("no tests of streams are called `streams_none`"));
        assert!(refused(&[SAME_TESTS]).contains(SAME_TESTS));
        assert!(refused(&["streams_sock", "none"]).starts_with("no fault of `none`"));
        assert!(refused(&["streams_sock", "accept4", "once"]).contains("one call"));
    }

    #[test]
    fn a_row_that_meets_no_call_is_named() {
        let unmet = |program| unmet(&[], &Asked { program, call: None });
        assert!(unmet(None).iter().any(|row| row.contains("accept4 answers EINTR")));
        assert!(unmet(None).iter().any(|row| row.contains("socket answers EMFILE")));
        assert_eq!(unmet(Some("streams_sock")).len(), 1);
    }

    #[test]
    fn a_program_that_waits_for_ever_is_ended_at_the_limit_with_all_it_has_started() {
        let begin = Instant::now();
        if sh::find("strace").is_none() {
            return crate::skips::missing("`strace`");
        }
        let mut strace = strace(Path::new("/dev/null"), Reach::All);
        let ended =
            ended(strace.args(["sh", "-c", "sleep 60 & exec sleep 60"]), Duration::from_millis(200), None)
                .unwrap();
        // Where ptrace is not allowed, strace says so at once.
        assert!(ended != Some(0) && begin.elapsed() < Duration::from_secs(30));
    }
}
