//! Running the examples from a test.

#![allow(dead_code)] // each test uses a part

use std::path::PathBuf;
use std::process::Command;

/// The program of an example, which `cargo test` has built beside the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own program");
    test.ancestors().nth(2).expect("tests lie in `deps`").join("examples").join(name)
}

/// Runs an example to its end and answers the lines that it printed.
pub(crate) fn lines(name: &str, arguments: &str) -> Vec<String> {
    let program = program(name);
    let output = Command::new(&program).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("examples print UTF-8").lines().map(str::to_owned).collect()
}
