//! Servers that nobody here wrote, for the tests of this package: each on a loopback port of its own, its files in a
//! temporary folder, ended with its value.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whether `program` is here; if not, says so. Where everything has to be checked (`cargo xtask ci --strict` sets
/// `EVENLOOP_STRICT`), it has to be here.
///
/// # Panics
///
/// It is not here, and everything has to be checked.
pub fn installed(program: &str) -> bool {
    if find(program).is_some() {
        return true;
    }
    assert!(
        std::env::var_os("EVENLOOP_STRICT").is_none(),
        "`{program}` is not installed: `cargo xtask setup` installs it"
    );
    eprintln!("skipped: `{program}` is not installed (cargo xtask setup)");
    false
}

/// Where `program` is, if it is on the path.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
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
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")))
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
/// It does not within 20 seconds.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} within 20 s");
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

    /// Its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
