//! The agent: a thread of its own behind a Unix socket.
//!
//! A1. The socket lies in place with mode 0600 from the first moment on: it is made under another name, and renamed. Whoever
//!     connects must be this process's user, or root.
//! A2. The agent takes no lock that a blocked loop could hold, so it answers while loops are blocked.
//! A3. A client has [`PATIENCE`] for its request and again for taking the answer, [`LONGEST_REQUEST`] bytes, and there are at
//!     most [`CLIENTS`] at a time: garbage, slowness and numbers cost the program nothing but these few threads.
//! A4. Every thread waits for the end too: one half of a pair of sockets, whose other half the [`Agent`] holds. So it ends
//!     whatever has become of the socket's file, and removes that only if it is still the one that it made.

use crate::wire::{Command, LONGEST_REQUEST, NAME, VERSION};
use evenloop_core::shim::atomic::{AtomicUsize, Ordering};
use evenloop_core::shim::{GlobalAtomicUsize, StdArc, thread};
use evenloop_executor::watch::{cancel_watched, end_trace, snapshot, start_trace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The environment variable that has a program listen: `1` for the [default place](default_path), else a path.
pub const VARIABLE: &str = "EVENLOOP_CONSOLE";

/// A3.
const PATIENCE: Duration = Duration::from_secs(5);
const CLIENTS: usize = 8;

/// Not 0: somebody traces. There is one trace a process, whoever listens.
static TRACES: GlobalAtomicUsize = GlobalAtomicUsize::new(0);

/// An agent that answers until it is dropped; then its socket is gone.
#[must_use = "dropping the agent ends it"]
pub struct Agent {
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
    /// A4: dropping it ends the threads.
    _end: UnixStream,
}

/// What the agent's threads share.
struct Desk {
    /// A4.
    end: UnixStream,
    clients: AtomicUsize,
}

/// Where the agent of that process listens unless it was told otherwise.
///
/// In a folder that belongs to the user alone: `$XDG_RUNTIME_DIR/evenloop`, else `evenloop-UID` in the folder for temporary
/// files.
pub fn default_path(pid: u32) -> PathBuf {
    folder().join(format!("{pid}.sock"))
}

pub(crate) fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder).join("evenloop"),
        None => std::env::temp_dir().join(format!("evenloop-{}", user())),
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Listens as the environment variable [`VARIABLE`] says; `None` if it is not set, empty or `0`.
///
/// # Errors
///
/// As [`listen`].
pub fn listen_if_asked() -> io::Result<Option<Agent>> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    if value.is_empty() || value == "0" {
        return Ok(None);
    }
    if value != "1" {
        return listen(PathBuf::from(value)).map(Some);
    }
    let folder = folder();
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let about = fs::symlink_metadata(&folder)?;
    if !about.is_dir() || about.uid() != user() || about.mode() & 0o077 != 0 {
        let words = format!("{}: not a folder that belongs to this user alone", folder.display());
        return Err(io::Error::new(ErrorKind::PermissionDenied, words));
    }
    listen(default_path(std::process::id())).map(Some)
}

/// Listens at `path`, on a thread of its own. A socket that nobody listens to any more is replaced.
///
/// # Errors
///
/// Somebody listens there; something that is no socket is there; whatever the system says.
///
/// # Examples
///
/// ```no_run
/// let agent = evenloop_console::listen("/tmp/my-program.sock")?;
/// println!("evenloop ps {}", agent.path().display());
/// // ... until it is dropped
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn listen(path: impl Into<PathBuf>) -> io::Result<Agent> {
    let path = path.into();
    let tell = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Ok(about) = fs::symlink_metadata(&path) {
        if !about.file_type().is_socket() {
            return Err(tell(io::Error::new(
                ErrorKind::AlreadyExists,
                "something that is no socket is here",
            )));
        }
        if UnixStream::connect(&path).is_ok() {
            return Err(tell(io::Error::new(ErrorKind::AddrInUse, "somebody listens here")));
        }
    }
    let path = std::path::absolute(&path).map_err(tell)?;
    let (listener, file) = bind(&path).map_err(tell)?;
    let (end, theirs) = UnixStream::pair().map_err(tell)?;
    let desk = StdArc::new(Desk { end: theirs, clients: AtomicUsize::new(0) });
    let started = thread::Builder::new()
        .name("evenloop-console".into())
        .spawn(move || while accept(&listener, &desk) {});
    let agent = Agent { path, file, _end: end }; // from here on, dropping it removes the socket
    started.map(|_detached| agent)
}

/// A1.
fn bind(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let _ = fs::remove_file(&beside);
    let listener = UnixListener::bind(&beside)?;
    let place = || {
        listener.set_nonblocking(true)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o600))?;
        let file = file_at(&beside)?;
        fs::rename(&beside, path).map(|()| file)
    };
    match place() {
        Ok(file) => Ok((listener, file)),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

/// Device and number of the file at that path.
fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|about| (about.dev(), about.ino()))
}

impl Agent {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if file_at(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent [{}]", self.path.display())
    }
}

/// Serves who connects next. Answers false at the end.
fn accept(listener: &UnixListener, desk: &StdArc<Desk>) -> bool {
    if desk.wait(listener, PollFlags::IN, None) == Heard::End {
        return false;
    }
    match listener.accept() {
        Ok((stream, _)) if is_trusted(&stream) => serve(stream, desk),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => {} // it has gone again
        // No descriptors, say: come back later.
        Err(_) => {
            return desk.wait(listener, PollFlags::empty(), Some(Duration::from_millis(100))) != Heard::End;
        }
    }
    true
}

/// What ended a wait.
#[derive(PartialEq)]
enum Heard {
    /// The agent is gone (A4).
    End,
    /// What was asked for, or that the other end of the stream is gone.
    Stream,
    /// Time is over, or a signal came: look again.
    Nothing,
}

impl Desk {
    fn wait(&self, stream: &impl AsFd, events: PollFlags, time: Option<Duration>) -> Heard {
        let time = time.map(|time| Timespec::try_from(time).expect("a time of ours is short"));
        let mut both = [PollFd::new(&self.end, PollFlags::IN), PollFd::new(stream, events)];
        match poll(&mut both, time.as_ref()) {
            Ok(1..) if !both[0].revents().is_empty() => Heard::End,
            Ok(1..) => Heard::Stream,
            _ => Heard::Nothing,
        }
    }
}

/// A1.
#[cfg(target_os = "linux")]
fn is_trusted(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid.as_raw() == user() || peer.uid.is_root())
}

/// A1: where the other end cannot be asked, the socket's mode keeps others off.
#[cfg(not(target_os = "linux"))]
fn is_trusted(_: &UnixStream) -> bool {
    true
}

/// A place among the clients; gives it back.
struct Served(StdArc<Desk>);

impl Drop for Served {
    fn drop(&mut self) {
        // ORDERING: Relaxed: as in `serve`.
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(stream: UnixStream, desk: &StdArc<Desk>) {
    // ORDERING: Relaxed: a count and nothing else. Only this thread adds.
    let busy = desk.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS;
    let served = Served(desk.clone());
    // Some systems hand the listener's mode on.
    if stream.set_nonblocking(busy).is_err() {
        return;
    }
    if busy {
        // Fits into the socket's buffer, so it does not wait for the client.
        let _ = (&stream).write_all(refusal("too many clients").as_bytes());
        return;
    }
    let answer = move || {
        let desk = &served.0;
        let answer = match read(&stream) {
            Ok(line) => Command::decode(&line).map_or_else(refusal, |command| answer(command, &stream, desk)),
            Err(_) => refusal("no request came"),
        };
        let _ = write(&stream, &answer);
    };
    // Without a thread to be had the client is hung up on.
    let _ = thread::Builder::new().name("evenloop-console-client".into()).spawn(answer);
}

fn refusal(words: &str) -> String {
    format!("{NAME} {VERSION} error {words}\nend\n")
}

fn answer(command: Command, client: &UnixStream, desk: &Desk) -> String {
    let mut text = format!("{NAME} {VERSION} ok\nprocess\t{}\n", std::process::id());
    match command {
        Command::Ps => text += &snapshot().encode(),
        Command::Cancel(key) => {
            if !cancel_watched(key, "cancelled from the console") {
                return refusal("there is no such task");
            }
        }
        Command::Trace(time) => {
            // ORDERING: Relaxed: a flag and nothing else.
            if TRACES.swap(1, Ordering::Relaxed) != 0 {
                return refusal("somebody traces already");
            }
            start_trace();
            let before = snapshot();
            // No longer than the client stays.
            let end = Instant::now() + time;
            while let Ok(left) = left(end) {
                if desk.wait(client, PollFlags::empty(), Some(left)) != Heard::Nothing {
                    break;
                }
            }
            // Names of those that have ended meanwhile, then of those that have begun.
            text += &before.encode();
            text += &snapshot().encode();
            for (number, trace) in end_trace() {
                for span in trace.spans() {
                    let _ =
                        writeln!(text, "span\t{number}\t{}\t{}\t{}", span.task, span.began_ns, span.took_ns);
                }
                let _ = writeln!(text, "lost\t{number}\t{}", trace.lost());
            }
            // ORDERING: Relaxed: as above.
            TRACES.store(0, Ordering::Relaxed);
        }
    }
    text + "end\n"
}

/// What is left of the time until `end`: a time-out of zero would be none.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads the request (A3).
fn read(mut stream: &UnixStream) -> io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut bytes = [0; LONGEST_REQUEST];
    let mut filled = 0;
    while filled < bytes.len() {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if let Some(length) = bytes[..filled].iter().position(|byte| *byte == b'\n') {
            return Ok(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    }
    Err(ErrorKind::InvalidData.into())
}

/// Writes the answer (A3).
fn write(mut stream: &UnixStream, answer: &str) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut rest = answer.as_bytes();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        match stream.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
