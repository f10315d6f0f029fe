//! Child processes: their pipes, their end, and signals to them, in asyncio's words.
//!
//! A [`Command`] says what is to be started, a [`Process`] is what was: its stdin is a [`StreamWriter`], its stdout and
//! stderr are [`StreamReader`]s, and [`wait`](ProcessHandle::wait) waits for its end on the same reactor as everything else.
//!
//! | file          | holds                                                                                  |
//! |---------------|----------------------------------------------------------------------------------------|
//! | `command`     | the builder; starting; the calls that run a program to its end                          |
//! | `stdio`, `pipes` | where the standard streams lead; our ends of them                                    |
//! | `handle`      | waiting and signalling, from anywhere                                                   |
//! | `communicate` | feeding, reading and waiting at once                                                    |
//! | `lines`       | stdout and stderr, line by line, in one stream                                          |
//! | `ending`      | how a child ends that nobody wants any more                                             |
//! | `exit`        | reaping and publishing in one step; knows no kernel, so the models run it               |
//! | `pid`         | the kernel's side: pidfd, `waitid`, `kill`                                              |
//! | `child`       | who watches, from the start until it is reaped                                          |
//! | `reaper`      | the thread for children whom no loop watches any more                                   |
//! | `subprocess`  | a child that runs by itself and calls a protocol                                        |
//! | `spawn`       | what happens between `fork` and `exec`                                                  |
//!
//! Promises, and where they are kept:
//!
//! 1. `wait` ends when the child does, also if a grandchild holds its pipes: it does not look at them (`handle`).
//! 2. A signal never reaches a process that was given a reused number (`exit`, X1 and X2).
//! 3. Whatever is dropped when, a child that has ended is reaped: by the loop that turns, else by the reaper (`child`).
//! 4. What was read is lost by no cancellation (`communicate`, M2; and the readers' own promise).
//!
//! Not fork-safe: a process that forks and does not exec has the children's records but not the threads and the reactor
//! that watch them.

mod child;

mod command;

mod communicate;

mod ending;

mod exit;

mod handle;

mod lines;

mod pid;

mod pipes;

mod reaper;

mod spawn;

mod stdio;

mod subprocess;

pub use child::watch_by_threads;
pub use command::{CalledProcessError, Command, create_subprocess_exec, create_subprocess_shell};
pub use communicate::{Communicate, OutputOverrun};
pub use ending::Ending;
// For the models, which have a kernel of their own.
#[doc(hidden)]
pub use exit::{Exit, Kernel, Outcome, Waiter};
pub use handle::{ProcessHandle, Wait};
pub use lines::{OutputLines, Source};
pub use pipes::{ChildOutput, ChildStdin};
pub use stdio::{DEVNULL, INHERIT, PIPE, STDOUT, Stdio};
pub use subprocess::{SubprocessPipe, SubprocessProtocol, SubprocessTransport, subprocess_exec};

use crate::reader::StreamReader;
pub use crate::signal_kind::SignalKind;
use crate::writer::StreamWriter;
use evenloop_core::Runtime;
use evenloop_core::cancel::{catch_cancel, shielded};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::process::{ExitStatus, Output};

/// A child process, with our ends of its pipes.
///
/// Everything of [`ProcessHandle`] is here too: [`wait`](ProcessHandle::wait), [`send_signal`](ProcessHandle::send_signal),
/// [`terminate`](ProcessHandle::terminate), [`kill`](ProcessHandle::kill), [`returncode`](ProcessHandle::returncode).
/// Dropping it does what [`Command::on_drop`] says; unless told otherwise the child runs on (asyncio's is killed). It is
/// reaped either way.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::process::{Command, PIPE};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn()?;
/// let (stdin, stdout) = (cat.stdin.as_mut().unwrap(), cat.stdout.as_mut().unwrap());
/// stdin.write(b"hello\n")?;
/// stdin.drain().await?;
/// assert_eq!(stdout.readline().await?, b"hello\n");
/// cat.stdin = None; // the end of its input
/// assert!(cat.wait().await?.success());
/// # Ok(()) }
/// ```
#[must_use = "dropping it lets go of the child, as `Command::on_drop` says"]
#[doc(alias = "Child")]
pub struct Process {
    /// Its stdin, if that is a [`PIPE`]. Dropping or closing it ends the child's input.
    pub stdin: Option<StreamWriter<ChildStdin>>,
    /// Its stdout, if that is a [`PIPE`].
    pub stdout: Option<StreamReader<ChildOutput>>,
    /// Its stderr, if that is a [`PIPE`].
    pub stderr: Option<StreamReader<ChildOutput>>,
    handle: ProcessHandle,
    /// `None`: nobody has said, and so it is left.
    on_drop: Option<Ending>,
    on_cancel: Ending,
    ends_group: bool,
    output_limit_bytes: Option<usize>,
}

impl Process {
    /// Writes `input` to its stdin and ends that, reads its stdout and stderr to their ends, and waits for its end.
    ///
    /// All at once, so neither waits for the other in vain. A child that does not read its input is no error. The answer is
    /// empty for what is no [`PIPE`]; a stdin that is none takes no input. The pipes end when everybody who holds them has
    /// closed them, grandchildren too: [`Communicate::until_exit`] does not wait for that.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The child runs on; what was read stays in the readers, and what was not written in the writer, so
    /// calling again with an empty `input` goes on (in asyncio both are lost).
    ///
    /// # Errors
    ///
    /// A pipe failed; what was read is in the readers. More came than [`Command::output_limit`] allows
    /// ([`OutputOverrun`]). As [`wait`](ProcessHandle::wait).
    pub fn communicate<'i>(&mut self, input: &'i [u8]) -> Communicate<'_, 'i> {
        Communicate::new(self, input)
    }

    /// Ends its input, reads its stdout and stderr to their ends, and waits for its end.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe**, as [`communicate`](Self::communicate).
    ///
    /// # Errors
    ///
    /// As [`communicate`](Self::communicate).
    pub fn wait_with_output(&mut self) -> Communicate<'_, 'static> {
        self.communicate(b"")
    }

    /// As [`communicate`](Self::communicate), for a child that nobody wants when whoever waits for it is cancelled, or when
    /// this fails: then it is ended as [`Command::on_cancel`] says, and its end is waited for, before this goes on its way.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** dropped rather than cancelled, it ends the child as [`Command::on_drop`] says. A second
    /// cancellation waits until the child has ended.
    ///
    /// # Errors
    ///
    /// As [`communicate`](Self::communicate).
    pub async fn complete(mut self, input: &[u8]) -> io::Result<Output> {
        let (ending, group) = (self.on_cancel, self.ends_group);
        match catch_cancel(self.communicate(input).last()).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => {
                self.end_as(ending, group).await;
                Err(error)
            }
            Err(cancelled) => {
                shielded(self.end_as(ending, group)).await;
                match cancelled.resume().await {}
            }
        }
    }

    /// Ends the child, and waits until it has ended: sends what `ending` begins with, and kills it after the period of
    /// grace. To its whole group if it was started with [`Command::end_group`]. [`Ending::Leave`] only waits.
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** The signal has been sent, and the period of grace ends whether or not this waits.
    ///
    /// # Errors
    ///
    /// As [`wait`](ProcessHandle::wait).
    pub async fn end(&self, ending: Ending) -> io::Result<ExitStatus> {
        self.handle.child().begin_to_end(ending, self.ends_group);
        self.wait().await
    }

    /// As [`end`](Self::end), when something has failed already.
    async fn end_as(&mut self, ending: Ending, group: bool) {
        if ending == Ending::Leave {
            self.on_drop = Some(Ending::Leave);
            return;
        }
        // A child that waits for its pipes would take all of its grace.
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        self.handle.child().begin_to_end(ending, group);
        // That its status is lost is less than what has failed already.
        let _ = self.wait().await;
    }

    /// The lines of its stdout and stderr as they come, each with its source and its newline. Ends with the later of the
    /// two.
    ///
    /// Of each stream the lines are in order. Between the two there is none: a child writes into two pipes, and which was
    /// first is not known. Where it matters, give it one pipe with [`STDOUT`].
    ///
    /// # Cancel safety
    ///
    /// **Cancel safe.** Dropping the stream of lines loses no byte.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use evenloop_streams::process::{Command, PIPE, Source};
    /// use futures::StreamExt;
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut make = Command::new("make").stdout(PIPE).stderr(PIPE).spawn()?;
    /// let mut lines = make.lines();
    /// while let Some(line) = lines.next().await {
    ///     match line? {
    ///         (Source::Stdout, line) => print!("{}", String::from_utf8_lossy(&line)),
    ///         (Source::Stderr, line) => eprint!("error: {}", String::from_utf8_lossy(&line)),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn lines(&mut self) -> OutputLines<'_> {
        let Self { stdout, stderr, .. } = self;
        OutputLines {
            stdout: stdout.as_mut().map(StreamReader::lines),
            stderr: stderr.as_mut().map(StreamReader::lines),
            first: Source::Stdout,
            in_a_row: 0,
        }
    }

    /// For those who wait for it or signal it without owning it.
    pub fn handle(&self) -> ProcessHandle {
        self.handle.clone()
    }
}

impl Deref for Process {
    type Target = ProcessHandle;

    fn deref(&self) -> &ProcessHandle {
        &self.handle
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.handle.child();
        let running = child.let_go(self.on_drop.unwrap_or(Ending::Leave), self.ends_group);
        if running && self.on_drop.is_none() {
            Runtime::report_in_debug(|| {
                format!(
                    "{child} was dropped while it ran, and runs on: `wait` for it, `end` it, or set `on_drop`"
                )
            });
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stdin, stdout, stderr, handle, .. } = self;
        let pipes = [("stdin", stdin.is_some()), ("stdout", stdout.is_some()), ("stderr", stderr.is_some())];
        let child = handle.child();
        write!(f, "Process [`{}`, pid {}, {:?}", child.program, handle.pid(), child.exit)?;
        pipes.iter().filter(|(_, there)| *there).try_for_each(|(name, _)| write!(f, ", {name}"))?;
        f.write_str("]")
    }
}
