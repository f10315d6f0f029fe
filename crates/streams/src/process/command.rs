//! Saying what is to be started, and starting it.

use super::Process;
use super::child::Child;
use super::ending::Ending;
use super::handle::ProcessHandle;
use super::pipes::{ChildOutput, ChildStdin};
use super::spawn::{self, Extras, Inherited};
use super::stdio::{DEVNULL, End, INHERIT, Kind, PIPE, Stdio};
use crate::error::IoFailure;
use crate::off_loop::off_loop;
use crate::reader::StreamReader;
use crate::writer::StreamWriter;
use evenloop_core::shim::StdArc;
use evenloop_core::{Reactor, Runtime};
use rustix::process::Pid;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

/// How many bytes a separator is looked for in, unless another limit is set: 64 KiB, as in asyncio.
const DEFAULT_LIMIT: usize = 64 * 1024;

/// Starts `program` with `args`; its stdin, stdout and stderr lead where `stdio` says: asyncio's `create_subprocess_exec`.
///
/// For everything else that can be said of a child there is [`Command`]. Starting blocks the thread until the program is
/// loaded: see [`Command::spawn`].
///
/// # Errors
///
/// As [`Command::spawn`].
///
/// # Panics
///
/// As [`Command::stdin`].
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::process::{INHERIT, PIPE, create_subprocess_exec};
/// # async fn example() -> std::io::Result<()> {
/// let mut sort = create_subprocess_exec("sort", ["-n"], [PIPE, PIPE, INHERIT])?;
/// let output = sort.communicate(b"10\n9\n").await?;
/// assert_eq!(output.stdout, b"9\n10\n");
/// # Ok(()) }
/// ```
#[doc(alias = "Command")]
pub fn create_subprocess_exec<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
    stdio: [Stdio; 3],
) -> io::Result<Process> {
    Command::new(program).args(args).stdio(stdio).spawn()
}

/// Has the shell (`/bin/sh`) run `line`: asyncio's `create_subprocess_shell`.
///
/// Never put into `line` what comes from elsewhere: the shell takes it for commands.
///
/// # Errors
///
/// As [`Command::spawn`]; that a program in `line` does not exist is for the shell to say, with status 127.
///
/// # Panics
///
/// As [`Command::stdin`].
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::process::{DEVNULL, INHERIT, PIPE, create_subprocess_shell};
/// # async fn example() -> std::io::Result<()> {
/// let mut shell = create_subprocess_shell("ls | wc -l", [DEVNULL, PIPE, INHERIT])?;
/// let output = shell.communicate(b"").await?;
/// # Ok(()) }
/// ```
pub fn create_subprocess_shell(line: impl AsRef<OsStr>, stdio: [Stdio; 3]) -> io::Result<Process> {
    Command::shell(line).stdio(stdio).spawn()
}

/// A program to start: its arguments, its surroundings, its streams, and how it is to end.
///
/// The child inherits the environment, the directory, the user, and the streams unless told otherwise; SIGPIPE is as the
/// system has it, no signal is blocked, and of this process's descriptors it gets those that were named and no others (as
/// far as they were opened close-on-exec, as everything in Rust is).
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::process::Command;
/// # async fn example() -> std::io::Result<()> {
/// let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir("..").output().await?;
/// println!("{}", String::from_utf8_lossy(&output.stdout));
/// # Ok(()) }
/// ```
#[must_use = "a command does nothing until it is started"]
#[doc(alias = "Popen")]
pub struct Command {
    inner: std::process::Command,
    extras: Extras,
    current_dir: Option<PathBuf>,
    stdio: [Option<Stdio>; 3],
    limit_bytes: usize,
    output_limit_bytes: Option<usize>,
    own_group: bool,
    joins_group: bool,
    on_drop: Option<Ending>,
    on_cancel: Ending,
    ends_group: bool,
}

impl Command {
    /// A command that runs `program`, which is looked up in `PATH` unless it has a slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            inner: std::process::Command::new(program),
            extras: Extras::default(),
            current_dir: None,
            stdio: [None, None, None],
            limit_bytes: DEFAULT_LIMIT,
            output_limit_bytes: None,
            own_group: false,
            joins_group: false,
            on_drop: None,
            on_cancel: Ending::terminate(Duration::from_secs(5)),
            ends_group: false,
        }
    }

    /// A command that has the shell (`/bin/sh`) run `line`.
    pub fn shell(line: impl AsRef<OsStr>) -> Self {
        Self::new("/bin/sh").arg("-c").arg(line)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.inner.args(args);
        self
    }

    /// What the program is told its own name is, instead of the one it was found by.
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.inner.arg0(name);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets variables of its environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.inner.envs(variables);
        self
    }

    /// Takes a variable out of its environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.inner.env_remove(name);
        self
    }

    /// Starts with an empty environment, but for what is set from here on.
    pub fn env_clear(mut self) -> Self {
        self.inner.env_clear();
        self
    }

    /// Runs it in another directory.
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.current_dir = Some(path.as_ref().to_owned());
        self.inner.current_dir(path);
        self
    }

    /// Runs it as another user. The other groups of root are given up.
    pub fn uid(mut self, uid: u32) -> Self {
        self.inner.uid(uid);
        self
    }

    /// Runs it as another group.
    pub fn gid(mut self, gid: u32) -> Self {
        self.inner.gid(gid);
        self
    }

    /// Which permissions files that it makes do not get.
    pub fn umask(mut self, mask: u32) -> Self {
        self.extras.umask = Some(mask);
        self
    }

    /// Puts it at the head of a process group of its own: Ctrl-C in the terminal does not reach it, and signals can be sent
    /// to all it starts.
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Puts it into an existing process group. Starting it fails if it is to have a group or session of its own, too.
    ///
    /// # Panics
    ///
    /// `Command::join_group` needs the number of a group.
    pub fn join_group(mut self, group: u32) -> Self {
        let group = i32::try_from(group).ok().filter(|group| *group > 0);
        self.inner.process_group(group.expect("`Command::join_group` needs the number of a group"));
        self.joins_group = true;
        self
    }

    /// Puts it into a session of its own, without a terminal; that is a group of its own, too.
    pub fn new_session(mut self) -> Self {
        self.extras.new_session = true;
        self
    }

    /// Lets it inherit `fd` under the number that it has here. Closed here once the child is started.
    ///
    /// # Panics
    ///
    /// As [`inherit_fd_as`](Self::inherit_fd_as).
    pub fn inherit_fd(self, fd: impl Into<OwnedFd>) -> Self {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.inherit_fd_as(fd, number)
    }

    /// Lets it inherit `fd` under `number`. Closed here once the child is started.
    ///
    /// # Panics
    ///
    /// `Command::inherit_fd_as` needs a number from 3 on that is not given out yet.
    pub fn inherit_fd_as(mut self, fd: impl Into<OwnedFd>, number: i32) -> Self {
        let is_free = self.extras.inherited.iter().all(|inherited| inherited.number != number);
        assert!(
            number > 2 && is_free,
            "`Command::inherit_fd_as` needs a number from 3 on that is not given out yet, not {number}"
        );
        self.extras.inherited.push(Inherited { fd: fd.into(), number });
        self
    }

    /// Where its stdin comes from.
    ///
    /// # Panics
    ///
    /// `Command::stdin` cannot lead to `STDOUT`.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(not_stdout(stdin.into(), "`Command::stdin`"));
        self
    }

    /// Where its stdout goes.
    ///
    /// # Panics
    ///
    /// `Command::stdout` cannot lead to `STDOUT`.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(not_stdout(stdout.into(), "`Command::stdout`"));
        self
    }

    /// Where its stderr goes.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stderr.into());
        self
    }

    /// Where its stdin, stdout and stderr lead.
    ///
    /// # Panics
    ///
    /// As [`stdin`](Self::stdin) and [`stdout`](Self::stdout).
    pub fn stdio(self, [stdin, stdout, stderr]: [Stdio; 3]) -> Self {
        self.stdin(stdin).stdout(stdout).stderr(stderr)
    }

    /// How many bytes its readers look for a separator in. 64 KiB unless set.
    ///
    /// # Panics
    ///
    /// `Command::limit` needs at least one byte.
    pub fn limit(mut self, limit_bytes: usize) -> Self {
        assert!(limit_bytes > 0, "`Command::limit` needs at least one byte");
        self.limit_bytes = limit_bytes;
        self
    }

    /// How many bytes of stdout, and as many of stderr, [`output`](Self::output), [`run`](Self::run) and
    /// [`Process::communicate`] keep. A child that writes more is an error. Any number unless set.
    pub fn output_limit(mut self, limit_bytes: usize) -> Self {
        self.output_limit_bytes = Some(limit_bytes);
        self
    }

    /// What happens when its handle is dropped while it runs. [`Ending::Leave`] unless set, as in std (asyncio kills); for
    /// [`status`](Self::status), [`output`](Self::output) and [`run`](Self::run), whose handle nobody has,
    /// [`Ending::Kill`]. A loop in debug mode reports a child that is left because nothing was set.
    #[doc(alias = "kill_on_drop")]
    pub fn on_drop(mut self, ending: Ending) -> Self {
        self.on_drop = Some(ending);
        self
    }

    /// What happens when whoever waits in [`status`](Self::status), [`output`](Self::output), [`run`](Self::run) or
    /// [`Process::complete`] is cancelled, or they fail. SIGTERM, and after five seconds SIGKILL, unless set: as in trio.
    pub fn on_cancel(mut self, ending: Ending) -> Self {
        self.on_cancel = ending;
        self
    }

    /// Has the two endings above end all that it started, not only itself: puts it into a group of its own, and sends their
    /// signals to the group. Whoever of the group outlives the child is killed when the child ends.
    pub fn end_group(mut self) -> Self {
        self.ends_group = true;
        self
    }

    /// Starts it.
    ///
    /// Blocks the thread until the program is loaded or could not be: about half a millisecond, but as long as it takes to
    /// read the program from a slow disk. [`spawn_off_loop`](Self::spawn_off_loop) does that on another thread. The child
    /// is watched by the current runtime's reactor.
    ///
    /// # Errors
    ///
    /// The kernel's reason, with the program's name (and the directory, if one is set): there is no such program
    /// ([`NotFound`](io::ErrorKind::NotFound)), it may not be run
    /// ([`PermissionDenied`](io::ErrorKind::PermissionDenied)), there are too many processes
    /// ([`WouldBlock`](io::ErrorKind::WouldBlock)) or descriptors. Or there is no reactor here. Nothing was started then.
    pub fn spawn(self) -> io::Result<Process> {
        let reactor = Runtime::current_reactor("Command::spawn").map_err(io::Error::other)?;
        self.spawn_watched_by(reactor)
    }

    /// As [`spawn`](Self::spawn), on a thread that may block.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** if the future is dropped meanwhile, the child is killed and reaped.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn); or the runtime has no threads for blocking jobs, or has shut them down meanwhile.
    pub async fn spawn_off_loop(self) -> io::Result<Process> {
        let reactor = Runtime::current_reactor("Command::spawn_off_loop").map_err(io::Error::other)?;
        let job = move || -> io::Result<_> {
            let mut process = self.spawn_watched_by(reactor)?;
            let wanted = process.on_drop.replace(Ending::Kill);
            Ok((process, wanted))
        };
        let (mut process, wanted) = off_loop("Command::spawn_off_loop", job).await??;
        process.on_drop = wanted;
        Ok(process)
    }

    /// Runs it and waits for its end, with this process's streams unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropped, it ends the child as [`on_drop`](Self::on_drop) says; cancelled, as
    /// [`on_cancel`](Self::on_cancel) says, and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`ProcessHandle::wait`].
    pub async fn status(self) -> io::Result<ExitStatus> {
        Ok(self.spawn_to_end([INHERIT, INHERIT, INHERIT])?.complete(b"").await?.status)
    }

    /// Runs it and collects what it writes. Its stdin is empty, its stdout and stderr are pipes, unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// As [`status`](Self::status).
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn) and [`Process::communicate`].
    pub async fn output(self) -> io::Result<Output> {
        self.spawn_to_end([DEVNULL, PIPE, PIPE])?.complete(b"").await
    }

    /// Runs it with `input` on its stdin, collects what it writes, and takes any other status than success for an error:
    /// trio's `run_process`. All three streams are pipes unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// As [`status`](Self::status).
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output); [`CalledProcessError`] inside an [`Other`](io::ErrorKind::Other) if it ended with
    /// another status than success, with all it wrote.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use evenloop_streams::process::{CalledProcessError, Command};
    /// # async fn example() {
    /// match Command::new("tr").args(["a-z", "A-Z"]).run(b"hello").await {
    ///     Ok(output) => assert_eq!(output.stdout, b"HELLO"),
    ///     Err(error) => match CalledProcessError::of(&error) {
    ///         Some(failed) => println!("{failed}: {}", String::from_utf8_lossy(&failed.output.stderr)),
    ///         None => println!("{error}"),
    ///     },
    /// }
    /// # }
    /// ```
    #[doc(alias = "run_process")]
    pub async fn run(self, input: &[u8]) -> io::Result<Output> {
        let program = self.program();
        let output = self.spawn_piped()?.complete(input).await?;
        if output.status.success() {
            return Ok(output);
        }
        Err(io::Error::other(CalledProcessError { program, output }))
    }

    /// Starts it with pipes for all that was not told otherwise.
    pub(super) fn spawn_piped(self) -> io::Result<Process> {
        self.spawn_to_end([PIPE, PIPE, PIPE])
    }

    /// Starts what nobody is going to have a handle of.
    fn spawn_to_end(mut self, otherwise: [Stdio; 3]) -> io::Result<Process> {
        for (stream, otherwise) in self.stdio.iter_mut().zip(otherwise) {
            stream.get_or_insert(otherwise);
        }
        self.on_drop.get_or_insert(Ending::Kill);
        self.spawn()
    }

    /// Whether somebody has said what happens when the handle is dropped.
    pub(super) fn says_on_drop(&self) -> bool {
        self.on_drop.is_some()
    }

    fn program(&self) -> StdArc<str> {
        let program = self.inner.get_program();
        program.to_str().map_or_else(|| program.to_string_lossy().into(), Into::into)
    }

    fn spawn_watched_by(mut self, reactor: StdArc<dyn Reactor>) -> io::Result<Process> {
        let program = self.program();
        self.start(&program, reactor).map_err(|error| match &self.current_dir {
            _ if IoFailure::of(&error).is_some() => error,
            None => IoFailure::wrap("starting", format_args!("`{program}`"), error),
            Some(path) => {
                IoFailure::wrap("starting", format_args!("`{program}` in {}", path.display()), error)
            }
        })
    }

    /// What is called for here is open here until the command is dropped.
    fn start(&mut self, program: &StdArc<str>, reactor: StdArc<dyn Reactor>) -> io::Result<Process> {
        let [stdin, stdout, stderr] = self.stdio.each_mut().map(|stdio| stdio.take().unwrap_or(INHERIT));
        let (stdin_end, stdin) = match stdin.0 {
            Kind::Pipe => {
                let (end, stdin) = ChildStdin::pipe(program, &reactor)?;
                (End::Descriptor(end), Some(StreamWriter::sending_now(stdin, ChildStdin::write_now)))
            }
            elsewhere => (elsewhere.into_end(None)?, None),
        };
        let (stdout_end, stdout) = output(stdout, None, program, &reactor, self.limit_bytes)?;
        let (stderr_end, stderr) = output(stderr, Some(&stdout_end), program, &reactor, self.limit_bytes)?;
        self.inner.stdin(stdin_end).stdout(stdout_end).stderr(stderr_end);

        let session = self.extras.new_session;
        let group = self.own_group || self.ends_group;
        if self.joins_group && (group || session) {
            let why = "it is to join a group (`join_group`) and to have one of its own (`own_group`, `new_session`, \
                       `end_group`): leave out one of them";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if group && !session {
            self.inner.process_group(0);
        }
        let number = spawn::start(&mut self.inner, &mut self.extras)?;
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw).expect("a child has a number");
        let child = Child::adopt(program, pid, group || session, reactor)?;
        Ok(Process {
            stdin,
            stdout,
            stderr,
            handle: ProcessHandle::new(child),
            on_drop: self.on_drop,
            on_cancel: self.on_cancel,
            ends_group: self.ends_group,
            output_limit_bytes: self.output_limit_bytes,
        })
    }
}

impl Kind {
    /// The child's end, for everything but a pipe of ours.
    fn into_end(self, stdout: Option<&End>) -> io::Result<End> {
        Ok(match (self, stdout) {
            (Self::Null, _) => End::Null,
            (Self::Descriptor(fd), _) => End::Descriptor(fd),
            (Self::Stdout, Some(stdout)) => End::beside(stdout)?,
            (Self::Inherit | Self::Pipe | Self::Stdout, _) => End::Inherit,
        })
    }
}

/// The child's end of an output, and our reader if it is a pipe.
fn output(
    stdio: Stdio,
    stdout: Option<&End>,
    program: &StdArc<str>,
    reactor: &StdArc<dyn Reactor>,
    limit_bytes: usize,
) -> io::Result<(End, Option<StreamReader<ChildOutput>>)> {
    match stdio.0 {
        Kind::Pipe => {
            let (end, output) = ChildOutput::pipe(program, reactor)?;
            Ok((End::Descriptor(end), Some(StreamReader::with_limit(output, limit_bytes))))
        }
        elsewhere => Ok((elsewhere.into_end(stdout)?, None)),
    }
}

fn not_stdout(stdio: Stdio, call: &str) -> Stdio {
    assert!(!matches!(stdio.0, Kind::Stdout), "{call} cannot lead to `STDOUT`: only stderr can");
    stdio
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command [{:?}]", self.inner)
    }
}

/// A program ended with another status than success.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::process::{CalledProcessError, Command};
///
/// let outcome = Command::new("grep").args(["word", "book.txt"]).run(b"").await;
/// match &outcome {
///     Err(error) if CalledProcessError::of(error).is_some_and(|failed| failed.output.status.code() == Some(1)) => {
///         println!("not in there");
///     }
///     _ => drop(outcome?),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CalledProcessError {
    program: StdArc<str>,
    /// Its status, and all it wrote.
    pub output: Output,
}

impl CalledProcessError {
    /// The failure inside `error`, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The program.
    pub fn program(&self) -> &str {
        &self.program
    }
}

impl fmt::Display for CalledProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.program, self.output.status)
    }
}

impl std::error::Error for CalledProcessError {}
