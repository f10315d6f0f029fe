//! Servers that nobody here wrote, for the tests of this package: each on a loopback port of its own, its files in a
//! temporary folder, ended with its value.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[path = "../lib/skips.rs"]
mod skips;

pub use skips::{missing, skipped};

/// Whether `program` is here; if not, notes that something was skipped.
///
/// # Panics
///
/// It is not here, and everything has to be checked.
pub fn installed(program: &str) -> bool {
    let found = find(program).is_some();
    if !found {
        missing(&format!("`{program}`"));
    }
    found
}

/// Where `program` is, if it is on the path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A Python that has `module`: the one on the path, or the system's, to which `cargo xtask setup` adds modules.
///
/// # Panics
///
/// There is none, and everything has to be checked.
pub fn python_with(module: &str) -> Option<String> {
    let has = |python: &&str| {
        let mut import = Command::new(python);
        import.args(["-c", &format!("import {module}")]).stdout(Stdio::null()).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has);
    if found.is_none() {
        missing(&format!("Python's module `{module}`"));
    }
    found.map(str::to_owned)
}

/// A port on which nobody listens just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// A program that runs until this is dropped.
pub struct Running(Child);

impl Running {
    /// Starts `program` without input and output.
    ///
    /// # Panics
    ///
    /// It does not start.
    pub fn start<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Ends it without a chance to clean up.
    ///
    /// # Panics
    ///
    /// It cannot be waited for.
    pub fn kill(&mut self) {
        let _ = self.0.kill(); // it may have ended
        self.0.wait().expect("a child can be waited for");
    }

    /// Stops it where it is: the kernel goes on taking connections for it, and nobody answers.
    ///
    /// # Panics
    ///
    /// It cannot be stopped.
    pub fn stop(&self) {
        let status = Command::new("kill").args(["-STOP", &self.0.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "a child can be stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until `ready` says so.
///
/// # Panics
///
/// It does not within a minute.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} within 60 s");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A Redis server that keeps everything that it has answered.
pub struct Redis {
    port: u16,
    folder: TempDir,
    server: Option<Running>,
}

impl Redis {
    /// A new one; none where there is no `redis-server`.
    ///
    /// # Panics
    ///
    /// It does not start.
    pub fn start() -> Option<Self> {
        if !installed("redis-server") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Self { port: free_port(), folder, server: None };
        redis.restart();
        Some(redis)
    }

    /// Ends the server without a chance to write anything.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Leaves it there, and has it answer nothing more.
    ///
    /// # Panics
    ///
    /// It does not run.
    pub fn stop(&self) {
        self.server.as_ref().expect("it runs").stop();
    }

    /// Starts it again, on the same port and from its files.
    ///
    /// # Panics
    ///
    /// It does not start.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        let folder = self.folder.path().to_str().expect("a temporary folder's name is text");
        let arguments = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            folder,
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        self.server = Some(Running::start("redis-server", arguments));
        wait_until("redis-server answers", || self.ping().is_ok_and(|answer| answer.starts_with(b"+PONG")));
    }

    fn ping(&self) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(answer.to_vec())
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A PostgreSQL server, whose user `postgres` needs no password.
pub struct Postgres {
    port: u16,
    folder: TempDir,
    _server: Running,
}

impl Postgres {
    /// A new one; none where PostgreSQL's programs are not.
    ///
    /// # Panics
    ///
    /// It does not start.
    pub fn start() -> Option<Self> {
        // Debian keeps the server's programs off the path.
        let programs = find("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned())).or_else(|| {
            let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
            versions
                .flatten()
                .map(|version| version.path().join("bin"))
                .find(|bin| bin.join("initdb").is_file())
        });
        let Some(programs) = programs else {
            return installed("initdb").then(|| unreachable!("it was looked for"));
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        // It refuses to run as root, so root hands it to the user that Debian made for it.
        let as_root = is_root();
        let command = |program: &str| {
            let program = programs.join(program);
            let mut command = Command::new(if as_root { "runuser".as_ref() } else { program.as_os_str() });
            if as_root {
                command.args(["-u", "postgres", "--"]).arg(&program);
            }
            command.current_dir(folder.path());
            command
        };
        if as_root {
            let status = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(status.is_ok_and(|status| status.success()), "the folder goes to the user `postgres`");
        }
        let mut init = command("initdb");
        init.args(["--auth=trust", "--username=postgres", "--no-sync", "--pgdata"]).arg(&data);
        let init = init.stdout(Stdio::null()).output().expect("initdb starts");
        assert!(init.status.success(), "initdb: {}", String::from_utf8_lossy(&init.stderr));
        let port = free_port();
        let mut server = command("postgres");
        server.args(["-F", "-h", "127.0.0.1", "-p", &port.to_string(), "-k", "", "-D"]).arg(&data);
        let server = Running::of(server);
        // The server writes there how far it is.
        let state = data.join("postmaster.pid");
        wait_until("postgres is ready", || {
            std::fs::read_to_string(&state)
                .is_ok_and(|state| state.lines().last().is_some_and(|line| line.trim() == "ready"))
        });
        Some(Self { port, folder, _server: server })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // `runuser` passes SIGTERM on, but not SIGKILL: the server's own number is in its files.
        let file = self.folder.path().join("data/postmaster.pid");
        if let Some(id) = std::fs::read_to_string(file).ok().as_deref().and_then(|text| text.lines().next()) {
            let _ = Command::new("kill").args(["-QUIT", id]).status();
        }
    }
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}
