//! `cargo xtask faults`: the tests of streams while the kernel says no.
//!
//! strace makes one system call fail at its k-th use. `EINTR` has to go unnoticed. Any other error may fail a test, as an
//! error that reaches its caller does, but nothing may hang, be killed by a signal, or abort. `connect` is not among
//! those: a test that waits for both ends of a connection rightly waits for ever when there is none.
//!
//! The tests of child processes are not among the above, because the children would feel the faults as well. They run whole on
//! a kernel that has no pidfds, or none left, and have to pass.

use crate::ci::Skips;
use crate::{Outcome, models, sh};
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Calls that may be interrupted at any time, and are then repeated.
const INTERRUPTED: &[&str] =
    &["accept4", "epoll_wait", "read", "recvfrom", "sendto", "wait4", "waitid", "write"];

/// Other errors that a call of ours can answer.
const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "ENFILE", "ECONNABORTED", "ENOBUFS"]),
    ("clone3", &["EAGAIN"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC", "EPERM"]),
    ("eventfd2", &["EMFILE", "ENOSYS"]),
    ("getsockopt", &["ENOBUFS"]),
    ("pidfd_open", &["EMFILE", "ENOSYS"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("recvfrom", &["ECONNRESET", "ENOMEM", "ETIMEDOUT"]),
    ("sendto", &["ECONNRESET", "ENOBUFS", "EPIPE"]),
    ("socket", &["EAFNOSUPPORT", "EMFILE"]),
];

/// Tests that an interruption of a call may disturb: they make it themselves, count the turns of a park, which may return
/// early, or look a name up, for which libc reads files.
pub(crate) const TOUCHY: &[(&str, &str)] = &[
    ("epoll_wait", "an_idle_connection_polls_nobody"),
    ("read", "our_client_and_openssls_server"),
    ("read", "our_client_refuses_openssls_expired_certificate"),
    ("read", "socat_sees_our_farewell_and_we_see_a_cut"),
    ("recvfrom", "a_read_cut_short_by_urgent_data_does_not_hang"),
];

/// Errors of a call that std makes in a program, and that do not come about: for the word of a child that it starts, which it
/// then waits for.
const NOT_OURS: &[(&str, &str)] = &[(CHILDREN, "recvfrom")];

/// A test that does a thousand times what others do once.
pub(crate) const LONG: &str = "many_children_leave_nothing_behind";

/// At which use of the call.
const WHEN: &[&str] = &["1", "3"];

/// For interruptions: every third use, after those of the dynamic loader.
const OFTEN: &str = "20+3";

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

pub(crate) fn run(skips: &mut Skips) -> Outcome {
    if !skips.unless_found("strace", "fault injection") {
        return Ok(());
    }
    let mut build = sh::cargo("test --package evenloop-tests --tests --no-run --quiet");
    let programs = models::executables(&sh::read(build.arg("--message-format=json-render-diagnostics"))?);
    let programs: Vec<_> = programs.into_iter().filter(|(name, _)| name.starts_with("streams_")).collect();
    if programs.is_empty() {
        skips.note("there are no tests of streams yet");
        return Ok(());
    }
    if ended(strace(Path::new("/dev/null"), Reach::All).arg("--trace=none").arg("true"), LIMIT, None)?
        != Some(0)
    {
        skips.note("strace may not trace here (ptrace is not allowed)");
        return Ok(());
    }
    let begin = Instant::now();
    let mut failures = Vec::new();
    for (_, program) in programs.iter().filter(|(name, _)| name == CHILDREN) {
        for failure in models::at_once(IN_SPITE_OF, AT_ONCE, |fault| in_spite_of(fault, program)) {
            failures.extend(failure?);
        }
    }
    let programs: Vec<_> = programs.into_iter().filter(|(name, _)| name != SAME_TESTS).collect();
    let plans = models::at_once(&programs, AT_ONCE, |(name, program)| plans_for(name, program));
    let plans = plans.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let errors: usize = ERRORS.iter().map(|(_, errors)| errors.len() * WHEN.len()).sum();
    let all = programs.len() * (INTERRUPTED.len() + errors);
    println!(
        "{} faults in {} test programs; {} more would meet no call",
        plans.len(),
        programs.len(),
        all - plans.len()
    );
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
    when: &'static str,
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
    let calls = folder()?.join(format!("{name}.calls"));
    let said = folder()?.join(format!("{name}.txt"));
    let of_ours = INTERRUPTED.iter().chain(ERRORS.iter().map(|(call, _)| call)).copied();
    let traced = of_ours.chain(["execve"]).collect::<Vec<_>>().join(",");
    let begin = Instant::now();
    let mut strace = strace(&calls, Reach::All);
    strace.arg(format!("--trace={traced}")).arg(program).args(["--test-threads=1", "--skip", LONG]);
    if ended(&mut strace, COUNTING_LIMIT, Some(&said))? != Some(0) {
        return Err(format!(
            "{name} does not pass under strace, with no fault at all\n{}",
            panics(&read(&said))
        ));
    }
    let text = read(&calls);
    let most = most_calls(&text);
    let makes = |call: &str, when: &str| {
        let first = when.split('+').next().and_then(|first| first.parse().ok()).unwrap_or(1);
        most.get(call).is_some_and(|most| *most >= first)
    };
    let reach = if text.matches("execve(").count() > 1 { Reach::Own } else { Reach::All };
    let limit = LIMIT + 4 * begin.elapsed();
    let plan = |call, error, when| Plan { name, program, call, error, when, reach, limit };
    let interruptions = INTERRUPTED.iter().map(|call| plan(call, "EINTR", OFTEN));
    let errors = ERRORS.iter().flat_map(|(call, errors)| {
        errors.iter().flat_map(move |error| WHEN.iter().map(move |when| plan(call, error, when)))
    });
    let errors = errors.filter(|plan| !NOT_OURS.contains(&(plan.name, plan.call)));
    Ok(interruptions.chain(errors).filter(|plan| makes(plan.call, plan.when)).collect())
}

/// How often a thread uses each call, at most; from strace's lines, `THREAD CALL(...`.
fn most_calls(lines: &str) -> BTreeMap<&str, u32> {
    let mut uses = BTreeMap::<_, u32>::new();
    for line in lines.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *uses.entry((thread, call)).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((_, call), uses) in uses {
        let known = most.entry(call).or_default();
        *known = uses.max(*known);
    }
    most
}

fn try_out(plan: &Plan<'_>) -> Result<Tried, String> {
    let Plan { name, program, call, error, when, .. } = plan;
    let said = folder()?.join(format!("{name}-{call}-{error}-{when}.txt"));
    let interrupts = *error == "EINTR";
    let mut strace = strace(Path::new("/dev/null"), plan.reach);
    strace.arg(format!("--inject={call}:error={error}:when={when}"));
    let patience = if interrupts { INTERRUPTED_PATIENCE_SECONDS } else { PATIENCE_SECONDS };
    strace.env("EVENLOOP_PATIENCE", patience).arg(program).args(["--test-threads=1", "--skip", LONG]);
    if interrupts {
        let touchy = TOUCHY.iter().filter(|(of, _)| of == call);
        strace.args(touchy.flat_map(|(_, test)| ["--skip", test]));
    }
    let begin = Instant::now();
    let code = ended(&mut strace, plan.limit, Some(&said))?;
    let time = begin.elapsed();
    let is_felt = !interrupts && code == Some(101);
    if is_felt || code == Some(0) {
        let _ = std::fs::remove_file(said); // should it stay, it is in nobody's way
        return Ok(Tried { time, is_felt, failure: None });
    }
    let text = read(&said);
    let how =
        code.map_or("by a signal, or at the time limit".to_owned(), |code| format!("with exit code {code}"));
    let last = text.lines().rfind(|line| line.starts_with("test ")).unwrap_or_default();
    let failure = format!("{plan}: ended {how} after {:.0} s; {last}\n{}", time.as_secs_f64(), panics(&text));
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
    test.args(["--quiet", "--", "--nocapture", "many_children_leave_nothing_behind"]);
    sh::run(test.env("EVENLOOP_CHILDREN", "20000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_for_each_thread_and_the_most_counts() {
        let lines = "7 read(3, \"\", 8) = 0\n8 read(4,  <unfinished ...>\n7 read(3, ...) = 0\n8 <... read resumed>) = 0\n\
                     7 +++ exited with 0 +++\n8  write(1, \"\", 0) = 0\n";
        assert_eq!(most_calls(lines), BTreeMap::from([("read", 2), ("write", 1)]));
    }

    #[test]
    fn a_program_that_waits_for_ever_is_ended_at_the_limit_with_all_it_has_started() {
        let begin = Instant::now();
        if sh::find("strace").is_none() {
            return;
        }
        let mut strace = strace(Path::new("/dev/null"), Reach::All);
        let ended =
            ended(strace.args(["sh", "-c", "sleep 60 & exec sleep 60"]), Duration::from_millis(200), None)
                .unwrap();
        // Where ptrace is not allowed, strace says so at once.
        assert!(ended != Some(0) && begin.elapsed() < Duration::from_secs(30));
    }
}
