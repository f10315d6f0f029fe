//! A child whose protocol is called: asyncio's `subprocess_exec` and `SubprocessTransport`.
//!
//! ```text
//! connection_made ── pipe_data_received* ── pipe_connection_lost (each pipe) ─┐
//!                 └─ process_exited ──────────────────────────────────────────┴── connection_lost
//! ```
//!
//! T1. One task reads the child's pipes, sends what could not be sent at once, and waits for its end; the transport is a
//!     handle to it. All calls of the protocol are made by it, on the loop's thread, but for `connection_made` (inside
//!     [`subprocess_exec`]), `pause_writing` (inside the `write` that goes above the mark), and both orders inside
//!     `set_write_buffer_limits`.
//! T2. Between data and `process_exited` there is no order. `connection_lost` comes last and once: after `process_exited`
//!     and after all pipes, or while the loop drops its tasks.
//! T3. The protocol runs while nothing of the state is borrowed, so it may call the transport.
//! T4. A method that panics ends its own child: the panic is told to the host, and `connection_lost` gets an error.
//! T5. A stdin lives as long as somebody reads it, a grandchild say, and is watched for that: it is told to be gone when it
//!     breaks, also if nobody writes. The child's end alone ends no pipe.

use super::Process;
use super::command::Command;
use super::ending::Ending;
use super::exit::Waiter;
use super::handle::ProcessHandle;
use super::pipes::{ChildOutput, ChildStdin};
use crate::protocol;
use crate::reader::StreamReader;
use crate::signal_kind::SignalKind;
use crate::transport::flow::{self, Flow};
use crate::writer::StreamWriter;
use evenloop_core::shim::StdArc;
use evenloop_core::watch::{self, On};
use evenloop_core::{Runtime, Spawn};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// How many pieces of a pipe a turn reads before others get theirs.
const TURN_PIECES: usize = 16;

/// How many bytes a piece has at most.
const PIECE: usize = 64 * 1024;

/// Is told what happens to a child, and gets what it writes as it comes.
///
/// Methods take `&self`, because the transport may be called inside them: state that changes lives in a `Cell` or a
/// `RefCell`.
///
/// # Examples
///
/// ```no_run
/// use evenloop_streams::process::{Command, SubprocessProtocol, subprocess_exec};
/// use std::cell::RefCell;
///
/// #[derive(Default)]
/// struct Collect(RefCell<Vec<u8>>);
///
/// impl SubprocessProtocol for Collect {
///     fn pipe_data_received(&self, _fd: i32, data: &[u8]) {
///         self.0.borrow_mut().extend_from_slice(data);
///     }
///
///     fn process_exited(&self) {
///         println!("it has ended; there may be more to read");
///     }
/// }
///
/// # fn example() -> std::io::Result<()> {
/// let (transport, protocol) = subprocess_exec(Collect::default, Command::new("date"))?;
/// # Ok(()) }
/// ```
pub trait SubprocessProtocol: 'static {
    /// The child was started. Keep the handle to write to it and to signal it; clones are the same child.
    fn connection_made(&self, transport: SubprocessTransport) {
        let _ = transport;
    }

    /// The child has written to its stdout (`fd` 1) or stderr (2): at least one byte, at most 64 KiB.
    fn pipe_data_received(&self, fd: i32, data: &[u8]) {
        let _ = (fd, data);
    }

    /// One of the child's pipes is gone: its stdin (`fd` 0), stdout (1) or stderr (2). `None`: in order; else why.
    ///
    /// Of a stdin that is when everything is sent after a [`close`](SubprocessPipe::close), or as soon as nobody is left who
    /// could read it: with an error then if something was unsent. A grandchild that has it keeps it.
    fn pipe_connection_lost(&self, fd: i32, error: Option<io::Error>) {
        let _ = (fd, error);
    }

    /// The child has ended; its status is in the transport. What it wrote before may still come.
    fn process_exited(&self) {}

    /// The child has ended and all its pipes are gone; nothing follows. `None`: in order, or closed by us; else why.
    fn connection_lost(&self, error: Option<io::Error>) {
        let _ = error;
    }

    /// More is unsent to its stdin than the high water mark, 64 KiB unless
    /// [set](SubprocessPipe::set_write_buffer_limits): write less, or nothing, until [`resume_writing`](Self::resume_writing).
    ///
    /// Called inside the `write` that went above the mark.
    fn pause_writing(&self) {}

    /// Writing may go on: no more than the low water mark is unsent, 16 KiB unless set.
    fn resume_writing(&self) {}
}

/// Starts `command` and has a new protocol serve the child: asyncio's `loop.subprocess_exec`; with [`Command::shell`] its
/// `subprocess_shell`.
///
/// Streams that are not told otherwise are pipes, and a child whose loop ends is killed unless [`Command::on_drop`] says
/// otherwise. Calls `connection_made` before it returns.
///
/// # Errors
///
/// As [`Command::spawn`]; or the runtime cannot spawn on this thread: then the child is ended as [`Command::on_drop`] says.
pub fn subprocess_exec<P: SubprocessProtocol>(
    protocol: impl FnOnce() -> P,
    command: Command,
) -> io::Result<(SubprocessTransport, Rc<P>)> {
    let host = Runtime::current_spawn("subprocess_exec").map_err(io::Error::other)?;
    let expected = command.says_on_drop();
    let mut process = command.spawn_piped()?;
    let protocol = Rc::new(protocol());
    let shared = Rc::new(Shared {
        protocol: RefCell::new(Some(protocol.clone())),
        host: host.clone(),
        handle: process.handle(),
        stdin: RefCell::new(process.stdin.take()),
        outputs: [RefCell::new(process.stdout.take()), RefCell::new(process.stderr.take())],
        reading_paused: [Cell::new(false), Cell::new(false)],
        flow: Cell::new(Flow::new(flow::HIGH)),
        closed: Cell::new(false),
        closing: [Cell::new(false), Cell::new(false), Cell::new(false)],
        failure: RefCell::new(None),
        waker: RefCell::new(Waker::noop().clone()),
    });
    let is_there = [
        shared.stdin.borrow().is_some(),
        shared.outputs[0].borrow().is_some(),
        shared.outputs[1].borrow().is_some(),
    ];
    let told = is_there.map(|is_there| !is_there);
    let drive = Drive {
        shared: shared.clone(),
        process: Some(process),
        ended: None,
        has_exited: false,
        expected,
        told,
    };
    if let Err(not) = host.spawn_local(Box::pin(drive)) {
        shared.protocol.take(); // it was never told that it has a child
        return Err(io::Error::other(format!("not spawned: {}", not.why)));
    }
    let transport = SubprocessTransport(shared);
    transport.0.tell("connection_made", |protocol| protocol.connection_made(transport.clone()));
    Ok((transport, protocol))
}

/// A child that runs by itself and calls a protocol. Cheap to clone: clones are the same child.
///
/// Dropping it changes nothing. What ends the child is itself, a signal, [`close`](Self::close), or the end of the loop.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use evenloop_streams::process::{Command, SubprocessProtocol, SubprocessTransport, subprocess_exec};
///
/// struct Sort;
///
/// impl SubprocessProtocol for Sort {
///     fn connection_made(&self, transport: SubprocessTransport) {
///         let stdin = transport.pipe_transport(0).expect("a pipe, unless the command says otherwise");
///         let _ = stdin.write(b"pear\napple\n");
///         stdin.close();
///     }
///
///     fn pipe_data_received(&self, _fd: i32, data: &[u8]) {
///         print!("{}", String::from_utf8_lossy(data));
///     }
/// }
///
/// let (transport, _) = subprocess_exec(|| Sort, Command::new("sort"))?;
/// println!("process {}", transport.pid());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SubprocessTransport(Rc<Shared>);

impl SubprocessTransport {
    /// Its number: asyncio's `get_pid`.
    #[doc(alias = "get_pid")]
    pub fn pid(&self) -> u32 {
        self.0.handle.pid()
    }

    /// Its status as asyncio tells it: see [`ProcessHandle::returncode`].
    #[doc(alias = "get_returncode")]
    pub fn returncode(&self) -> Option<i32> {
        self.0.handle.returncode()
    }

    /// The pipe to its stdin (0), or from its stdout (1) or stderr (2), while there is one: asyncio's
    /// `get_pipe_transport`.
    #[doc(alias = "get_pipe_transport")]
    pub fn pipe_transport(&self, fd: i32) -> Option<SubprocessPipe> {
        let there = usize::try_from(fd).is_ok_and(|fd| self.0.is_there(fd));
        there.then(|| SubprocessPipe { shared: self.0.clone(), fd })
    }

    /// Sends it a signal: see [`ProcessHandle::send_signal`].
    ///
    /// # Errors
    ///
    /// As [`ProcessHandle::send_signal`].
    pub fn send_signal(&self, signal: SignalKind) -> io::Result<()> {
        self.0.handle.send_signal(signal)
    }

    /// Asks it to end: sends SIGTERM.
    ///
    /// # Errors
    ///
    /// As [`ProcessHandle::send_signal`].
    pub fn terminate(&self) -> io::Result<()> {
        self.0.handle.terminate()
    }

    /// Ends it: sends SIGKILL.
    ///
    /// # Errors
    ///
    /// As [`ProcessHandle::send_signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.0.handle.kill()
    }

    /// Closes all its pipes, gives up what is unsent, and kills it if it runs. `connection_lost(None)` follows once it has
    /// ended. Calling it again does nothing.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether [`close`](Self::close) was called, or `connection_lost` is over.
    pub fn is_closing(&self) -> bool {
        self.0.protocol.borrow().is_none() || self.0.closed.get()
    }

    /// The child, to wait for from elsewhere.
    pub fn handle(&self) -> ProcessHandle {
        self.0.handle.clone()
    }
}

impl fmt::Debug for SubprocessTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubprocessTransport [{:?}]", self.0.handle)
    }
}

/// One pipe of a child that runs by itself.
#[derive(Clone)]
pub struct SubprocessPipe {
    shared: Rc<Shared>,
    fd: i32,
}

impl SubprocessPipe {
    /// Writes to the child's stdin without waiting: sends what the pipe takes at once, the rest from the child's own task. If
    /// more is unsent then than the high water mark, calls `pause_writing` before it returns.
    ///
    /// # Errors
    ///
    /// The pipe is closed or broken. Nothing is kept then. `pipe_connection_lost` is told of a pipe that breaks, too.
    ///
    /// # Panics
    ///
    /// `SubprocessPipe::write` needs the pipe to a stdin.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        assert!(self.fd == 0, "`SubprocessPipe::write` needs the pipe to a stdin, and this is {}", self.fd);
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the child's stdin is closed");
        let written = {
            let mut stdin = self.shared.stdin.borrow_mut();
            let stdin = stdin.as_mut().filter(|_| !self.shared.closing[0].get()).ok_or_else(closed)?;
            stdin.write(bytes)
        };
        if written.is_err() || self.shared.unsent_len() > 0 {
            self.shared.wake();
        }
        self.shared.rose();
        written
    }

    /// Ends the child's input once everything is sent. The same as [`close`](Self::close) on the pipe to a stdin.
    ///
    /// # Panics
    ///
    /// `SubprocessPipe::write_eof` needs the pipe to a stdin.
    pub fn write_eof(&self) {
        assert!(
            self.fd == 0,
            "`SubprocessPipe::write_eof` needs the pipe to a stdin, and this is {}",
            self.fd
        );
        self.close();
    }

    /// How many bytes are written and not yet taken by the pipe.
    #[doc(alias = "get_write_buffer_size")]
    pub fn write_buffer_size(&self) -> usize {
        if self.fd == 0 { self.shared.unsent_len() } else { 0 }
    }

    /// The water marks of the pipe to a stdin in bytes, the low one first, as asyncio has it.
    #[doc(alias = "get_write_buffer_limits")]
    pub fn write_buffer_limits(&self) -> (usize, usize) {
        self.shared.flow.get().limits()
    }

    /// Sets the water marks of the pipe to a stdin. Without `high_bytes` it is four times the low one; without `low_bytes`
    /// it is a quarter of the high one; without both they are 64 KiB and 16 KiB again.
    ///
    /// # Panics
    ///
    /// `set_write_buffer_limits` needs a low mark no higher than the high one.
    pub fn set_write_buffer_limits(&self, high_bytes: Option<usize>, low_bytes: Option<usize>) {
        let mut flow = self.shared.flow.get();
        flow.set_limits(high_bytes, low_bytes);
        self.shared.flow.set(flow);
        self.shared.rose();
        self.shared.fell();
    }

    /// Calls `pipe_data_received` no more for this pipe until [`resume_reading`](Self::resume_reading): a child that writes
    /// on then waits. A call that is under way brings the last piece.
    pub fn pause_reading(&self) {
        self.set_paused(true);
    }

    /// Goes on reading.
    pub fn resume_reading(&self) {
        self.set_paused(false);
    }

    fn set_paused(&self, paused: bool) {
        if let Some(place) =
            usize::try_from(self.fd - 1).ok().and_then(|place| self.shared.reading_paused.get(place))
        {
            place.set(paused);
            self.shared.wake();
        }
    }

    /// Closes the pipe: to a stdin, once everything is sent. `pipe_connection_lost` follows.
    pub fn close(&self) {
        if let Some(closing) = usize::try_from(self.fd).ok().and_then(|fd| self.shared.closing.get(fd)) {
            closing.set(true);
            self.shared.wake();
        }
    }

    /// Closes the pipe now: to a stdin, whatever is unsent. `pipe_connection_lost` follows.
    pub fn abort(&self) {
        self.close();
        if self.fd == 0 {
            self.shared.give_stdin_up();
        }
    }

    /// Whether the pipe is on its way to its end, or there.
    pub fn is_closing(&self) -> bool {
        let Ok(fd) = usize::try_from(self.fd) else { return true };
        self.shared.closing[fd].get() || !self.shared.is_there(fd)
    }
}

impl fmt::Debug for SubprocessPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubprocessPipe [{} of {:?}]", self.fd, self.shared.handle)
    }
}

struct Shared {
    /// Empty once `connection_lost` was called: protocol and transport hold each other no longer.
    protocol: RefCell<Option<Rc<dyn SubprocessProtocol>>>,
    host: StdArc<dyn Spawn>,
    handle: ProcessHandle,
    stdin: RefCell<Option<StreamWriter<ChildStdin>>>,
    /// stdout and stderr.
    outputs: [RefCell<Option<StreamReader<ChildOutput>>>; 2],
    reading_paused: [Cell<bool>; 2],
    /// Of stdin.
    flow: Cell<Flow>,
    /// The transport was.
    closed: Cell<bool>,
    /// Which pipes are to be closed, by number.
    closing: [Cell<bool>; 3],
    /// What `connection_lost` is going to be told.
    failure: RefCell<Option<io::Error>>,
    /// The task's.
    waker: RefCell<Waker>,
}

impl Shared {
    fn is_there(&self, fd: usize) -> bool {
        match fd {
            0 => self.stdin.borrow().is_some(),
            1 | 2 => self.outputs[fd - 1].borrow().is_some(),
            _ => false,
        }
    }

    fn wake(&self) {
        let waker = self.waker.borrow().clone();
        waker.wake(); // T3
    }

    /// Calls the protocol (T3, T4).
    fn tell(&self, method: &'static str, call: impl FnOnce(&dyn SubprocessProtocol)) {
        let Some(serving) = self.protocol.borrow().clone() else { return };
        if let Err(panicked) = protocol::call(&*self.host, method, || call(&*serving)) {
            self.failure.borrow_mut().get_or_insert(panicked.into());
            self.close();
        }
    }

    fn close(&self) {
        // First: a child that reads the end of its input may be faster than the signal.
        self.handle.child().begin_to_end(Ending::Kill, false);
        self.closed.set(true);
        self.closing.iter().for_each(|closing| closing.set(true));
        self.give_stdin_up();
    }

    /// Closes stdin, whatever is unsent.
    fn give_stdin_up(&self) {
        let unsent = self.stdin.take().map(StreamWriter::into_parts);
        drop(unsent);
        self.wake();
    }

    fn unsent_len(&self) -> usize {
        self.stdin.borrow().as_ref().map_or(0, StreamWriter::write_buffer_size)
    }

    /// The unsent bytes have become more.
    fn rose(&self) {
        let mut flow = self.flow.get();
        let pauses = flow.rose(self.unsent_len());
        self.flow.set(flow);
        if pauses {
            self.tell("pause_writing", |protocol| protocol.pause_writing());
        }
    }

    /// The unsent bytes have become fewer.
    fn fell(&self) {
        let mut flow = self.flow.get();
        let resumes = flow.fell(self.unsent_len());
        self.flow.set(flow);
        if resumes {
            self.tell("resume_writing", |protocol| protocol.resume_writing());
        }
    }

    /// Sends what waits. Ready when stdin is gone: in order, or why.
    fn poll_stdin(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stdin = self.stdin.borrow_mut();
        let Some(writer) = &mut *stdin else { return Poll::Ready(Ok(())) };
        let closing = self.closing[0].get();
        let mut sending = if closing { writer.wait_closed() } else { writer.drain() };
        match Pin::new(&mut sending).poll(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) if closing => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        ready!(writer.get_ref().poll_nobody_reads(cx))?; // T5
        Poll::Ready(match writer.write_buffer_size() {
            0 => Ok(()),
            _ => Err(writer.get_ref().unread()),
        })
    }
}

/// The task (T1).
struct Drive {
    shared: Rc<Shared>,
    /// For what its drop does. `None` only while this is dropped.
    process: Option<Process>,
    /// The waiter's place in the line for the child's end.
    ended: Option<Waiter>,
    has_exited: bool,
    /// The loop may end first: somebody has said what happens then.
    expected: bool,
    /// Which pipes the protocol was told to be gone, or never were there.
    told: [bool; 3],
}

impl Drive {
    /// Sends what waits, and tells when stdin is gone.
    fn drive_stdin(&self, cx: &mut Context<'_>, told: &mut [bool; 3]) {
        let shared = &*self.shared;
        let polled = shared.poll_stdin(cx);
        if !matches!(polled, Poll::Ready(Err(_))) {
            shared.fell();
        }
        if let Poll::Ready(gone) = polled {
            shared.give_stdin_up();
            self.pipe_is_lost(0, gone.err(), told);
        }
    }

    /// Reads what comes, a bounded number of pieces.
    fn drive_output(&self, fd: usize, cx: &mut Context<'_>, told: &mut [bool; 3]) {
        let shared = &*self.shared;
        let place = &shared.outputs[fd - 1];
        for _ in 0..TURN_PIECES {
            if shared.closing[fd].get() {
                drop(place.take());
            }
            let piece = {
                let mut output = place.borrow_mut();
                let Some(reader) = &mut *output else { break };
                if shared.reading_paused[fd - 1].get() {
                    return; // `resume_reading` wakes
                }
                match Pin::new(&mut reader.read(PIECE)).poll(cx) {
                    Poll::Pending => return,
                    Poll::Ready(piece) => piece,
                }
            };
            match piece {
                Ok(piece) if piece.is_empty() => drop(place.take()),
                Ok(piece) => {
                    shared.tell("pipe_data_received", |protocol| {
                        protocol.pipe_data_received(fd as i32, &piece)
                    });
                }
                Err(error) => {
                    drop(place.take());
                    return self.pipe_is_lost(fd, Some(error), told);
                }
            }
        }
        if place.borrow().is_none() {
            return self.pipe_is_lost(fd, None, told);
        }
        cx.waker().wake_by_ref(); // others get their turn
    }

    /// Tells that a pipe is gone, once, if there was one.
    fn pipe_is_lost(&self, fd: usize, error: Option<io::Error>, told: &mut [bool; 3]) {
        if !std::mem::replace(&mut told[fd], true) {
            let call = |protocol: &dyn SubprocessProtocol| protocol.pipe_connection_lost(fd as i32, error);
            self.shared.tell("pipe_connection_lost", call);
        }
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let before = this.shared.waker.replace(cx.waker().clone());
        drop(before);
        if !this.has_exited {
            let exit = &this.shared.handle.child().exit;
            if let Poll::Ready(outcome) = exit.poll_ended(&mut this.ended, cx) {
                this.has_exited = true;
                if let Err(lost) = this.shared.handle.child().status(outcome) {
                    this.shared.failure.borrow_mut().get_or_insert(lost);
                }
                this.shared.tell("process_exited", |protocol| protocol.process_exited());
            }
        }
        let mut told = this.told;
        this.drive_stdin(cx, &mut told);
        this.drive_output(1, cx, &mut told);
        this.drive_output(2, cx, &mut told);
        this.told = told;
        if !(this.has_exited && told.iter().all(|told| *told)) {
            let child = this.shared.handle.child();
            watch::wait(cx.waker(), "SubprocessTransport", || On::object(child));
            return Poll::Pending;
        }
        let failure = this.shared.failure.take();
        this.shared.tell("connection_lost", |protocol| protocol.connection_lost(failure));
        drop(this.shared.protocol.take());
        Poll::Ready(())
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let shared = &*self.shared;
        let child = shared.handle.child();
        child.exit.forget(&mut self.ended);
        let provided_for = self.expected || shared.closed.get();
        // It may have ended since the last turn.
        if !provided_for && !child.look() {
            Runtime::report_in_debug(|| {
                format!(
                    "{child} ran when its transport's task was dropped, as at the end of a loop, and is killed: await \
                     its end, or `close` its transport"
                )
            });
        }
        // First, as in `close`.
        drop(self.process.take());
        let pipes =
            (shared.stdin.take().map(StreamWriter::into_parts), shared.outputs.each_ref().map(RefCell::take));
        drop(pipes);
        if shared.protocol.borrow().is_some() {
            let why = io::Error::new(io::ErrorKind::NotConnected, "the loop that served the child has ended");
            let failure = shared.failure.take().unwrap_or(why);
            shared.tell("connection_lost", |protocol| protocol.connection_lost(Some(failure)));
            drop(shared.protocol.take());
        }
    }
}
