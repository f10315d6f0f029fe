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
use std::path::Path;
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

/// Tests that an interruption may disturb: they make the call themselves, or count the turns of a park, which may return
/// early.
const TOUCHY: &[&str] = &[
    "a_guest_turns_when_its_descriptor_is_readable",
    "a_read_cut_short_by_urgent_data_does_not_hang",
    "an_idle_connection_polls_nobody",
];

/// At which use of the call.
const WHEN: &[&str] = &["1", "3"];

/// For interruptions: every third use, after those of the dynamic loader.
const OFTEN: &str = "20+3";

const LIMIT: Duration = Duration::from_secs(30);

/// How long a test waits for what an error may have kept from coming: several of a program may, within the limit.
const PATIENCE_SECONDS: &str = "2";

/// The tests of child processes, and what they have to pass in spite of.
const CHILDREN: &str = "streams_process";
const CHILDREN_WITHOUT: &[&str] = &["pidfd_open:error=ENOSYS", "pidfd_open:error=EMFILE"];
const CHILDREN_LIMIT: Duration = Duration::from_secs(300);

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
    if strace(Path::new("true"), &[], None, LIMIT, None)? != Some(0) {
        skips.note("strace may not trace here (ptrace is not allowed)");
        return Ok(());
    }
    let (of_children, programs): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|(name, _)| name.starts_with(CHILDREN));
    for (name, program) in of_children.iter().filter(|(name, _)| name == CHILDREN) {
        for without in CHILDREN_WITHOUT {
            let said = sh::root().join("target/faults.txt");
            let inject = format!("inject={without}");
            match strace(program, &["--quiet"], Some(&inject), CHILDREN_LIMIT, Some(&said))? {
                Some(0) => println!("{name} passes with {without}"),
                code => {
                    let said = std::fs::read(said).unwrap_or_default();
                    let panics = panics(&String::from_utf8_lossy(&said));
                    return Err(format!("{name} with {without}: exit code {code:?}\n{panics}"));
                }
            }
        }
    }
    let mut plans = Vec::new();
    for (name, program) in &programs {
        plans.extend(INTERRUPTED.iter().map(|call| (name, program, *call, "EINTR", OFTEN)));
        for (call, errors) in ERRORS {
            let each = errors.iter().flat_map(|error| WHEN.iter().map(move |when| (*error, *when)));
            plans.extend(each.map(|(error, when)| (name, program, *call, error, when)));
        }
    }
    let outcomes = models::in_parallel(&plans, |(name, program, call, error, when)| {
        let inject = format!("inject={call}:error={error}:when={when}");
        let mut arguments = vec!["--quiet", "--test-threads=1"];
        if *error == "EINTR" {
            arguments.extend(TOUCHY.iter().flat_map(|test| ["--skip", test]));
        }
        let code = strace(program, &arguments, Some(&inject), LIMIT, None)?;
        let fine = match code {
            Some(0) => true,
            Some(101) => *error != "EINTR",
            _ => false,
        };
        let ended = code.map_or("a signal or the time limit".to_owned(), |code| format!("exit code {code}"));
        Ok::<_, String>(
            (!fine).then(|| format!("{name}: {call} answers {error} at use {when}: ended by {ended}")),
        )
    });
    println!("{} faults in {} test programs", plans.len(), programs.len());
    let mut failures = Vec::new();
    for outcome in outcomes {
        failures.extend(outcome?);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Where a test program has panicked, and with what.
fn panics(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let panics = lines.windows(2).filter(|pair| pair[0].contains("panicked at"));
    panics.map(|pair| pair.join("\n")).collect::<Vec<_>>().join("\n")
}

/// The exit code of a traced program; `None`: killed by a signal, or by us at the limit. What it says goes into a file.
fn strace(
    program: &Path,
    arguments: &[&str],
    inject: Option<&str>,
    limit: Duration,
    said: Option<&Path>,
) -> Result<Option<i32>, String> {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--output=/dev/null", "--seccomp-bpf", "--quiet=all"]);
    strace.arg("--interruptible=waiting"); // with an output file it would not hear the SIGTERM below
    match inject {
        // A call that this machine does not have is never made, so its failing is not to be seen either.
        Some(inject) => strace.args(["-e", inject]),
        None => strace.args(["-e", "trace=none"]),
    };
    if limit == LIMIT && inject.is_some_and(|inject| !inject.contains("EINTR")) {
        strace.env("EVENLOOP_PATIENCE", PATIENCE_SECONDS);
    }
    strace.arg(program).args(arguments).current_dir(sh::root());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(path) = said {
        let file = std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        strace.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
    }
    let mut child = strace.spawn().map_err(|error| format!("strace: {error}"))?;
    let begin = Instant::now();
    loop {
        match child.try_wait().map_err(|error| format!("strace: {error}"))? {
            Some(status) => return Ok(status.code()),
            None if begin.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            None => {
                // SIGTERM lets strace take its program along; a killed strace would leave it running.
                let _ = Command::new("kill").arg(child.id().to_string()).status();
                let _ = child.wait();
                return Ok(None);
            }
        }
    }
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
    fn a_program_that_waits_for_ever_is_ended_at_the_limit() {
        let begin = Instant::now();
        if sh::find("strace").is_none() {
            return;
        }
        let ended = strace(Path::new("sleep"), &["60"], None, Duration::from_millis(200), None).unwrap();
        // Where ptrace is not allowed, strace says so at once.
        assert!(ended != Some(0) && begin.elapsed() < Duration::from_secs(30));
    }
}
