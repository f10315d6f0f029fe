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

/// An example that serves, on a port that the kernel chose; ends with this.
pub(crate) struct Served {
    process: std::process::Child,
    /// Where it serves.
    pub(crate) port: u16,
}

impl Served {
    /// Starts it, and waits until it says where it serves.
    pub(crate) fn start(name: &str) -> Self {
        use std::io::BufRead;
        let mut command = Command::new(program(name));
        let mut process = command.arg("0").stdout(std::process::Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let mut output = std::io::BufReader::new(process.stdout.take().expect("piped"));
        output.read_line(&mut line).expect("it says where it serves");
        // What it prints later is read too, so that it never waits for us.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Self { process, port: port.unwrap_or_else(|| panic!("{name} said {line:?}")) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
