//! Ctrl-C, sent to an example in a process of its own.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// Starts an example, and waits for its first line.
fn start(name: &str) -> (Child, BufReader<ChildStdout>) {
    let program = support::program(name);
    let child = Command::new(&program).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    (child, output)
}

/// Sends SIGINT, and waits for the end. Answers the status and what was printed on standard error.
fn interrupt(mut child: Child) -> (ExitStatus, String) {
    let killed = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().unwrap();
    assert!(killed.success());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    (child.wait().unwrap(), errors)
}

#[test]
fn ctrl_c_cancels_main_and_ends_the_program_with_status_130() {
    let (child, _output) = start("periodic");
    let (status, errors) = interrupt(child);
    assert_eq!(status.code(), Some(130));
    assert_eq!(errors, "interrupted\n");
}
