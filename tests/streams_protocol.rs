//! Protocols: the order of their calls, flow control, and what ends a connection.

use evenloop_core::Runtime;
use evenloop_executor::{EventLoop, Unhandled, yield_now};
use evenloop_streams::{
    AnyProtocol, BufferedProtocol, Protocol, ReactorDriver, ServerConfig, TcpListener, TcpStream, Transport,
    UnixListener, UnixStream, connect_accepted_socket, connect_stream, create_connection, create_server,
    create_unix_connection, create_unix_server,
};
use evenloop_tests::{Log, loopback, on_loop, until};
use evenloop_time::{Clock, Driver};
use futures::{AsyncReadExt, AsyncWriteExt};
use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

type Hook = Box<dyn Fn(&Transport, &[u8])>;

/// Writes down each call, and does in them what the test says.
#[derive(Default)]
struct Recorder {
    log: Log,
    transport: OnceCell<Transport>,
    on_made: Option<Hook>,
    on_data: Option<Hook>,
    on_pause: Option<Hook>,
    on_resume: Option<Hook>,
    on_eof: Option<Hook>,
    on_lost: Option<Hook>,
    keeps_open: bool,
}

impl Recorder {
    fn new(log: &Log) -> Self {
        Self { log: log.clone(), ..Self::default() }
    }

    fn on_made(self, hook: impl Fn(&Transport, &[u8]) + 'static) -> Self {
        Self { on_made: Some(Box::new(hook)), ..self }
    }

    fn on_data(self, hook: impl Fn(&Transport, &[u8]) + 'static) -> Self {
        Self { on_data: Some(Box::new(hook)), ..self }
    }

    fn on_pause(self, hook: impl Fn(&Transport, &[u8]) + 'static) -> Self {
        Self { on_pause: Some(Box::new(hook)), ..self }
    }

    fn on_resume(self, hook: impl Fn(&Transport, &[u8]) + 'static) -> Self {
        Self { on_resume: Some(Box::new(hook)), ..self }
    }

    fn on_eof(self, hook: impl Fn(&Transport, &[u8]) + 'static) -> Self {
        Self { on_eof: Some(Box::new(hook)), ..self }
    }

    fn on_lost(self, hook: impl Fn(&Transport, &[u8]) + 'static) -> Self {
        Self { on_lost: Some(Box::new(hook)), ..self }
    }

    fn keeping_open(self) -> Self {
        Self { keeps_open: true, ..self }
    }

    fn call(&self, hook: &Option<Hook>, data: &[u8]) {
        let transport = self.transport.get().expect("made first");
        hook.iter().for_each(|hook| hook(transport, data));
    }
}

impl Protocol for Recorder {
    fn connection_made(&self, transport: Transport) {
        self.log.add("made");
        assert!(self.transport.set(transport).is_ok(), "made once");
        self.call(&self.on_made, b"");
        self.log.add("made returns");
    }

    fn data_received(&self, data: &[u8]) {
        self.log.add(format!("data {}", String::from_utf8_lossy(&data[..data.len().min(20)])));
        self.call(&self.on_data, data);
    }

    fn eof_received(&self) -> bool {
        self.log.add("eof");
        self.call(&self.on_eof, b"");
        self.keeps_open
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.log.add(match error {
            None => "lost".to_owned(),
            Some(error) => format!("lost: {:?}", error.kind()),
        });
        self.call(&self.on_lost, b"");
    }

    fn pause_writing(&self) {
        self.log.add("pause");
        self.call(&self.on_pause, b"");
    }

    fn resume_writing(&self) {
        self.log.add("resume");
        self.call(&self.on_resume, b"");
    }
}

/// A recorder at one end of a Unix socket, and the other end.
fn recorded(log: &Log, with: impl FnOnce(Recorder) -> Recorder) -> (Transport, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (transport, _) = connect_accepted_socket(|| with(Recorder::new(log)), ours).unwrap();
    (transport, theirs)
}

/// As `on_loop`, writing down what is reported.
fn on_reporting_loop<F: Future>(reports: Log, future: F) -> F::Output {
    let reactor = ReactorDriver::new().unwrap();
    let handle = Arc::new(reactor.handle());
    let driver = Driver::new(reactor, Clock::Real);
    let runtime = Runtime::builder("evenloop").timers(driver.timers()).reactor(handle);
    let hook = move |unhandled: &Unhandled<'_>| reports.add(unhandled.to_string());
    let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).on_unhandled(hook).build();
    event_loop.run_until_complete(async {
        let in_time = evenloop_time::timeout(Duration::from_secs(20), future).await;
        in_time.expect("nothing takes twenty seconds")
    })
}

/// Everything up to the end. `read_to_end` clears its memory again and again, which takes seconds without optimisation.
async fn read_all(peer: &mut (impl futures::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let (mut all, mut room) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match peer.read(&mut room).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&room[..n]),
        }
    }
}

/// More than any socket's buffers hold.
const MUCH: usize = 8 * 1024 * 1024;

#[test]
fn made_then_data_then_eof_then_lost_each_once() {
    on_loop(async {
        let log = Log::default();
        let (_, mut peer) = recorded(&log, |recorder| recorder);
        peer.write_all(b"one").await.unwrap();
        until(|| log.has("data one")).await;
        peer.write_all(b"two").await.unwrap();
        peer.close().await.unwrap();
        until(|| log.has("lost")).await;
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(log.all(), ["made", "made returns", "data one", "data two", "eof", "lost"]);
    });
}

#[test]
fn made_comes_before_the_first_byte_that_waits_already() {
    on_loop(async {
        let log = Log::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"early").await.unwrap();
        connect_accepted_socket(|| Recorder::new(&log), ours).unwrap();
        assert_eq!(log.all(), ["made", "made returns"]);
        until(|| log.has("data early")).await;
    });
}

#[test]
fn lost_comes_in_a_later_pass_never_inside_a_call() {
    on_loop(async {
        type End = fn(&Transport);
        for end in [Transport::close as End, Transport::abort as End] {
            // From outside.
            let log = Log::default();
            let (transport, _peer) = recorded(&log, |recorder| recorder);
            end(&transport);
            end(&transport);
            assert!(transport.is_closing());
            assert!(!log.has("lost"));
            until(|| log.has("lost")).await;

            // From `connection_made`, and from `data_received`.
            let log = Log::default();
            let (_, _peer) = recorded(&log, |recorder| recorder.on_made(move |transport, _| end(transport)));
            until(|| log.has("lost")).await;
            assert_eq!(log.all(), ["made", "made returns", "lost"]);

            let log = Log::default();
            let returned = log.clone();
            let (_, mut peer) = recorded(&log, |recorder| {
                recorder.on_data(move |transport, _| {
                    // It runs in the next pass, before what is due there because of the end.
                    let log = returned.clone();
                    evenloop_executor::create_task(async move { log.add("the next pass") }).detach();
                    end(transport);
                    returned.add("data returns");
                })
            });
            peer.write_all(b"x").await.unwrap();
            until(|| log.has("lost")).await;
            let expected = ["made", "made returns", "data x", "data returns", "the next pass", "lost"];
            assert_eq!(log.all(), expected);
        }
    });
}

#[test]
fn closing_sends_what_is_unsent_and_aborting_gives_it_up() {
    on_loop(async {
        let log = Log::default();
        let (transport, mut peer) = recorded(&log, |recorder| recorder);
        transport.write(&vec![7; MUCH]).unwrap();
        assert!(transport.write_buffer_size() > 0);
        transport.close();
        assert!(transport.write(b"late").is_err());
        let all = read_all(&mut peer).await.unwrap();
        assert_eq!(all.len(), MUCH);
        until(|| log.has("lost")).await;

        let log = Log::default();
        let (transport, mut peer) = recorded(&log, |recorder| recorder);
        transport.write(&vec![7; MUCH]).unwrap();
        transport.close();
        transport.abort(); // also while it closes
        assert_eq!(transport.write_buffer_size(), 0);
        until(|| log.has("lost")).await;
        let all = read_all(&mut peer).await.unwrap();
        assert!(all.len() < MUCH);
    });
}

#[test]
fn eof_keeps_the_connection_if_the_protocol_says_so() {
    on_loop(async {
        let log = Log::default();
        let (transport, mut peer) = recorded(&log, Recorder::keeping_open);
        peer.close().await.unwrap();
        until(|| log.has("eof")).await;
        assert!(!transport.is_closing() && !transport.is_reading());
        transport.write(b"still here").unwrap();
        transport.close();
        let all = read_all(&mut peer).await.unwrap();
        assert_eq!(all, b"still here");
        until(|| log.has("lost")).await;
        assert_eq!(log.count("eof"), 1);
    });
}

#[test]
fn write_eof_ends_our_half_after_what_was_written() {
    on_loop(async {
        let log = Log::default();
        let (transport, mut peer) = recorded(&log, |recorder| recorder);
        assert!(transport.can_write_eof());
        transport.write(&vec![1; MUCH]).unwrap();
        transport.write_eof().unwrap();
        transport.write_eof().unwrap();
        let error = transport.write(b"more").unwrap_err();
        assert_eq!(error.to_string(), "`write` after `write_eof`");
        assert!(transport.writelines([b"more"]).is_err());
        let all = read_all(&mut peer).await.unwrap();
        assert_eq!(all.len(), MUCH);
        peer.write_all(b"answer").await.unwrap(); // the other half is open
        until(|| log.has("data answer")).await;
        drop(peer);
        until(|| log.has("lost")).await;
    });
}

// === Flow control ===

#[test]
fn pausing_comes_inside_the_write_and_resuming_once() {
    on_loop(async {
        let log = Log::default();
        let (transport, mut peer) = recorded(&log, |recorder| recorder);
        assert_eq!(transport.write_buffer_limits(), (16 * 1024, 64 * 1024));
        log.add("write");
        transport.write(&vec![1; MUCH]).unwrap();
        log.add("write returns");
        transport.write(&vec![2; MUCH]).unwrap();
        assert_eq!(log.all()[2..], ["write", "pause", "write returns"]);

        let mut room = vec![0; 64 * 1024];
        let mut came = 0;
        while came < 2 * MUCH {
            came += peer.read(&mut room).await.unwrap();
            // Not before the low mark is reached.
            assert_eq!(log.has("resume"), transport.write_buffer_size() <= 16 * 1024);
        }
        until(|| log.has("resume")).await;
        assert_eq!((log.count("pause"), log.count("resume")), (1, 1));

        // And again.
        transport.write(&vec![1; MUCH]).unwrap();
        assert_eq!((log.count("pause"), log.count("resume")), (2, 1));
        transport.abort();
        until(|| log.has("lost")).await;
    });
}

#[test]
fn a_low_mark_of_everything_never_pauses_and_a_high_one_of_nothing_at_once() {
    on_loop(async {
        let log = Log::default();
        let (transport, _peer) = recorded(&log, |recorder| recorder);
        transport.set_write_buffer_limits(Some(usize::MAX), None);
        transport.write(&vec![1; MUCH]).unwrap();
        assert!(!log.has("pause"));
        transport.set_write_buffer_limits(Some(0), None); // counts at once
        assert!(log.has("pause"));
        transport.set_write_buffer_limits(None, Some(2 * MUCH));
        assert_eq!(transport.write_buffer_limits(), (2 * MUCH, 8 * MUCH));
        assert!(log.has("resume"));
        transport.abort();
        until(|| log.has("lost")).await;
    });
}

#[test]
fn memory_is_bounded_under_a_peer_that_never_reads() {
    on_loop(async {
        // An echo that heeds the marks: it reads no more while it may not write.
        let log = Log::default();
        let most = Rc::new(Cell::new(0));
        let seen = most.clone();
        let (transport, peer) = recorded(&log, |recorder| {
            recorder
                .on_data(move |transport, data| {
                    transport.write(data).unwrap();
                    seen.set(seen.get().max(transport.write_buffer_size()));
                })
                .on_pause(|transport, _| transport.pause_reading())
                .on_resume(|transport, _| transport.resume_reading())
        });
        // It takes no more than what is between us: the peer cannot get rid of a hundred times that.
        let (mut reads, mut writes) = peer.into_split();
        let chunk = vec![3; 64 * 1024];
        let mut sent = 0;
        let mut idle = 0;
        while idle < 3000 {
            match writes.try_write(&chunk) {
                Ok(n) => (sent, idle) = (sent + n, 0),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    idle += 1;
                    yield_now().await;
                }
            }
        }
        assert!(sent < 4 * 1024 * 1024, "{sent} bytes have gone somewhere");
        assert!(most.get() <= 2 * 64 * 1024, "{} bytes were kept", most.get());
        assert!(!transport.is_reading());

        // And when it reads after all, everything comes back.
        let mut back = 0;
        let mut room = vec![0; 64 * 1024];
        while back < sent {
            back += reads.read(&mut room).await.unwrap();
        }
        assert_eq!(log.count("pause"), log.count("resume"));
        writes.close().await.unwrap();
        until(|| log.has("lost")).await;
    });
}

#[test]
fn after_a_pause_nothing_is_received_until_resumed() {
    on_loop(async {
        let log = Log::default();
        let (transport, mut peer) = recorded(&log, |recorder| {
            recorder.on_data(|transport, _| {
                transport.pause_reading();
                transport.pause_reading();
                transport.unread(b"again");
            })
        });
        peer.write_all(b"one").await.unwrap();
        until(|| log.has("data one")).await;
        peer.write_all(b"two").await.unwrap();
        peer.close().await.unwrap();
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(log.all(), ["made", "made returns", "data one"]);
        assert!(!transport.is_reading());
        transport.resume_reading();
        transport.resume_reading();
        assert!(transport.is_reading());
        until(|| log.all().len() == 4).await;
        assert_eq!(log.all()[3], "data again");
        transport.abort();
        until(|| log.has("lost")).await;
    });
}

// === Failures ===

#[test]
fn a_write_to_a_peer_that_is_gone_fails_once_and_keeps_nothing() {
    on_loop(async {
        let log = Log::default();
        let (transport, peer) =
            recorded(&log, |recorder| recorder.on_made(|transport, _| transport.pause_reading()));
        drop(peer);
        let error = transport.write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        for _ in 0..1000 {
            let error = transport.write(&[0; 1024]).unwrap_err();
            assert_eq!(error.to_string(), "`write` after the end of the connection");
        }
        assert_eq!(transport.write_buffer_size(), 0);
        until(|| log.has("lost: BrokenPipe")).await;
        assert!(transport.write(b"").is_err());
        assert_eq!(log.all(), ["made", "made returns", "lost: BrokenPipe"]);
    });
}

#[test]
fn a_reset_in_the_middle_of_a_write_is_told_once() {
    on_loop(async {
        let log = Log::default();
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let ours = TcpStream::connect(address).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let (transport, _) = connect_accepted_socket(|| Recorder::new(&log), ours).unwrap();
        transport.write(&vec![0; MUCH]).unwrap();
        assert!(log.has("pause"));
        theirs.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(theirs);
        until(|| log.has("lost: ConnectionReset") || log.has("lost: BrokenPipe")).await;
        assert_eq!(log.all().iter().filter(|said| said.starts_with("lost")).count(), 1);
        assert_eq!((log.count("resume"), transport.write_buffer_size()), (0, 0));
    });
}

#[test]
fn writing_and_closing_from_resume_is_in_order() {
    on_loop(async {
        // In `resume_writing` of one transport: a write to it, a write to another, a close, and a write too late.
        let (log, other_log) = (Log::default(), Log::default());
        let (other, mut other_peer) = recorded(&other_log, |recorder| recorder);
        let (transport, mut peer) = recorded(&log, |recorder| {
            recorder.on_resume(move |transport, _| {
                transport.write(b"last words").unwrap();
                other.write(b"to another").unwrap();
                transport.close();
                assert_eq!(
                    transport.write(b"late").unwrap_err().to_string(),
                    match transport.write_buffer_size() {
                        0 => "`write` after the end of the connection",
                        _ => "`write` after `close`",
                    }
                );
            })
        });
        transport.write(&vec![0; MUCH]).unwrap();
        let all = read_all(&mut peer).await.unwrap();
        assert_eq!((all.len(), all.ends_with(b"last words")), (MUCH + 10, true));
        let mut room = [0; 100];
        assert_eq!(other_peer.read(&mut room).await.unwrap(), 10);
        until(|| log.has("lost")).await;
        drop(other_peer);
        until(|| other_log.has("lost")).await;
    });
}

#[test]
fn a_protocol_that_panics_ends_its_own_connection_and_is_reported() {
    let reports = Log::default();
    let bad = |_: &Transport, _: &[u8]| panic!("bad protocol");
    type With = Box<dyn FnOnce(Recorder) -> Recorder>;
    let cases: Vec<(&str, With)> = vec![
        ("connection_made", Box::new(move |recorder| recorder.on_made(bad))),
        ("data_received", Box::new(move |recorder| recorder.on_data(bad))),
        ("pause_writing", Box::new(move |recorder| recorder.on_pause(bad))),
        ("resume_writing", Box::new(move |recorder| recorder.on_resume(bad))),
        ("eof_received", Box::new(move |recorder| recorder.on_eof(bad).keeping_open())),
        ("connection_lost", Box::new(move |recorder| recorder.on_lost(bad))),
    ];
    on_reporting_loop(reports.clone(), async move {
        // One that nothing happens to.
        let well = Log::default();
        let (transport, mut well_peer) =
            recorded(&well, |recorder| recorder.on_data(|transport, data| transport.write(data).unwrap()));
        for (number, (method, with)) in cases.into_iter().enumerate() {
            let log = Log::default();
            let (bad, mut peer) = recorded(&log, with);
            let sent = peer.write_all(b"hello").await;
            assert!(sent.is_ok() || method == "connection_made");
            until(|| log.has("data hello") || bad.is_closing()).await;
            let written = bad.write(&vec![0; MUCH]);
            assert!(written.is_ok() || ["connection_made", "data_received"].contains(&method), "{method}");
            if method == "resume_writing" || method == "connection_lost" {
                bad.close();
            }
            if method == "eof_received" {
                peer.close().await.unwrap();
            }
            let end = read_all(&mut peer).await; // a reset, if what it sent was not read
            assert!(end.is_ok() || method == "connection_made", "{end:?}");
            let lost = if method == "connection_lost" { "lost" } else { "lost: Other" };
            until(|| log.has(lost)).await;
            assert_eq!(log.all().iter().filter(|said| said.starts_with("lost")).count(), 1, "{method}");
            let told = reports.all();
            assert_eq!(told.len(), number + 1, "{told:?}");
            assert!(told[number].contains(method) && told[number].contains("bad protocol"), "{told:?}");

            well_peer.write_all(b"echo").await.unwrap();
            let mut room = [0; 4];
            well_peer.read_exact(&mut room).await.unwrap();
            assert_eq!(&room, b"echo");
        }
        transport.close();
        until(|| well.has("lost")).await;
    });
}

// === Changing the protocol ===

type OnUpdate = dyn Fn(&[u8]);

/// Gets its bytes into a buffer of its own, of `size` bytes.
struct Filler {
    log: Log,
    buffer: RefCell<Vec<u8>>,
    on_update: Option<Rc<OnUpdate>>,
    transport: OnceCell<Transport>,
}

impl Filler {
    fn new(log: &Log, size: usize) -> Self {
        Self {
            log: log.clone(),
            buffer: RefCell::new(vec![0; size]),
            on_update: None,
            transport: OnceCell::new(),
        }
    }
}

impl BufferedProtocol for Filler {
    fn connection_made(&self, transport: Transport) {
        self.log.add("made");
        let _ = self.transport.set(transport);
    }

    fn get_buffer(&self, size_hint: usize) -> RefMut<'_, [u8]> {
        assert!(size_hint > 0);
        RefMut::map(self.buffer.borrow_mut(), |buffer| &mut buffer[..])
    }

    fn buffer_updated(&self, n: usize) {
        let bytes = self.buffer.borrow()[..n].to_vec();
        self.log.add(format!("filled {}", String::from_utf8_lossy(&bytes)));
        self.on_update.iter().for_each(|hook| hook(&bytes));
    }

    fn eof_received(&self) -> bool {
        self.log.add("filler's eof");
        false
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.log.add(match error {
            None => "filler lost".to_owned(),
            Some(error) => format!("filler lost: {error}"),
        });
    }
}

#[test]
fn a_buffered_protocol_gets_one_update_for_each_filled_buffer() {
    on_loop(async {
        let log = Log::default();
        let (ours, mut peer) = UnixStream::pair().unwrap();
        connect_accepted_socket(|| Filler::new(&log, 3), ours).unwrap();
        peer.write_all(b"abcdefgh").await.unwrap();
        peer.close().await.unwrap();
        until(|| log.has("filler lost")).await;
        let expected = ["made", "filled abc", "filled def", "filled gh", "filler's eof", "filler lost"];
        assert_eq!(log.all(), expected);
    });
}

#[test]
fn an_empty_buffer_ends_the_connection() {
    on_loop(async {
        let log = Log::default();
        let (ours, mut peer) = UnixStream::pair().unwrap();
        connect_accepted_socket(|| Filler::new(&log, 0), ours).unwrap();
        peer.write_all(b"abc").await.unwrap();
        until(|| log.all().len() == 2).await;
        assert_eq!(log.all()[1], "filler lost: the protocol's `get_buffer` lent an empty buffer");
    });
}

#[test]
fn get_buffer_that_panics_ends_the_connection() {
    struct Bad(Log);
    impl BufferedProtocol for Bad {
        fn get_buffer(&self, _: usize) -> RefMut<'_, [u8]> {
            panic!("no memory today")
        }
        fn buffer_updated(&self, _: usize) {
            unreachable!("nothing was lent")
        }
        fn connection_lost(&self, error: Option<io::Error>) {
            self.0.add(format!("lost: {}", error.expect("an error")));
        }
    }
    let (log, reports) = (Log::default(), Log::default());
    on_reporting_loop(reports.clone(), async {
        let (ours, _peer) = UnixStream::pair().unwrap();
        connect_accepted_socket(|| Bad(log.clone()), ours).unwrap();
        until(|| !log.all().is_empty()).await;
        assert!(log.all()[0].contains("`get_buffer` panicked"), "{:?}", log.all());
        assert_eq!(reports.all().len(), 1);
    });
}

#[test]
fn the_protocol_changes_in_mid_stream_and_no_byte_is_lost() {
    on_loop(async {
        // streaming → buffered → streaming, each time inside a call, with bytes that the old one did not want.
        let log = Log::default();
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let third = Rc::new(Recorder::new(&log));
        let second = {
            let (third, transport) = (third.clone(), Rc::new(OnceCell::<Transport>::new()));
            let kept = transport.clone();
            let filler = Filler {
                on_update: Some(Rc::new(move |bytes: &[u8]| {
                    let transport: &Transport = kept.get().unwrap();
                    if let Some(end) = bytes.iter().position(|byte| *byte == b'|') {
                        let _ = third.transport.set(transport.clone());
                        transport.set_protocol(third.clone());
                        transport.unread(&bytes[end + 1..]);
                    }
                })),
                ..Filler::new(&log, 4)
            };
            (Rc::new(filler), transport)
        };
        let (second, place) = second;
        connect_accepted_socket(
            || {
                Recorder::new(&log).on_data(move |transport, data| {
                    if let Some(end) = data.iter().position(|byte| *byte == b'|') {
                        let _ = place.set(transport.clone());
                        transport.set_protocol(second.clone());
                        assert!(matches!(transport.protocol(), Some(AnyProtocol::Buffered(_))));
                        transport.unread(&data[end + 1..]);
                    }
                })
            },
            ours,
        )
        .unwrap();
        peer.write_all(b"first|second|third").await.unwrap();
        peer.close().await.unwrap();
        until(|| log.has("lost")).await;
        let expected = [
            "made",
            "made returns",
            "data first|second|third",
            "filled seco",
            "filled nd|t",
            "data t",
            "data hird",
            "eof",
            "lost",
        ];
        let log: Vec<_> = log.all();
        // What was put back and what is new may come in one piece or in two.
        let joined = |log: &[String]| log.concat().replace("data ", "").replace("filled ", "");
        assert_eq!(joined(&log), joined(&expected.map(str::to_owned)));
        assert_eq!(log.iter().filter(|said| said.starts_with("filled")).count(), 2);
    });
}

/// They were lost.
#[test]
fn what_is_put_back_at_the_end_comes_before_the_end() {
    on_loop(async {
        for second_keeps_open in [false, true] {
            let log = Log::default();
            let second = Rc::new(Recorder { keeps_open: second_keeps_open, ..Recorder::new(&log) });
            let (transport, mut peer) = recorded(&log, |recorder| {
                recorder.on_eof(move |transport, _| {
                    let _ = second.transport.set(transport.clone());
                    transport.set_protocol(second.clone());
                    transport.unread(b"rest");
                })
            });
            peer.close().await.unwrap();
            until(|| log.count("eof") == 2).await;
            let told = ["made", "made returns", "eof", "data rest", "eof"];
            assert_eq!(log.take(), told, "the answer of the first `eof_received` counts for nothing");
            assert_eq!(transport.is_closing(), !second_keeps_open);
            if second_keeps_open {
                transport.unread(b"more"); // later, too
                until(|| log.count("eof") == 1).await;
                assert_eq!(log.take(), ["data more", "eof"]);
                transport.close();
            }
            until(|| log.has("lost")).await;
        }
    });
}

#[test]
fn the_protocol_is_let_go_with_the_connection() {
    on_loop(async {
        let log = Log::default();
        let (ours, peer) = UnixStream::pair().unwrap();
        let (transport, protocol) = connect_accepted_socket(|| Recorder::new(&log), ours).unwrap();
        let protocol = {
            let weak = Rc::downgrade(&protocol);
            drop(protocol);
            weak
        };
        assert!(protocol.upgrade().is_some(), "the connection holds it");
        drop(peer);
        until(|| log.has("lost")).await;
        yield_now().await;
        assert!(protocol.upgrade().is_none());
        assert!(transport.protocol().is_none());
        transport.set_protocol(Rc::new(Recorder::new(&log))); // harmless, and keeps nothing
        assert!(transport.protocol().is_none());
        assert_eq!(format!("{transport:?}"), "Transport [lost, to (unnamed), unsent: 0]");
    });
}

// === Ways to connect ===

#[test]
fn a_client_and_a_server_over_tcp_and_over_unix() {
    on_loop(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let served = Log::default();
        let serves = served.clone();
        let echo = move || Recorder::new(&serves).on_data(|transport, data| transport.write(data).unwrap());
        let tcp = create_server(echo.clone(), loopback()).unwrap();
        let unix = create_unix_server(echo, &path).unwrap();
        let port = tcp.local_addr().unwrap().port();
        for over_tcp in [true, false] {
            let log = Log::default();
            let (transport, _) = match over_tcp {
                true => create_connection(|| Recorder::new(&log), "127.0.0.1", port).await.unwrap(),
                false => create_unix_connection(|| Recorder::new(&log), &path).await.unwrap(),
            };
            assert_eq!(log.all(), ["made", "made returns"]); // before it answered
            transport.writelines(["hel", "lo"]).unwrap();
            until(|| log.has("data hello")).await;
            let info = transport.extra_info();
            match over_tcp {
                true => assert_eq!(info.peername.unwrap().inet(), tcp.local_addr()),
                false => assert_eq!(info.peername.unwrap().to_string(), path.display().to_string()),
            }
            let server = if over_tcp { &tcp } else { &unix };
            assert_eq!(server.connections(), 1);
            server.close_clients();
            until(|| log.has("lost")).await;
            assert!(served.has("lost"));
            server.close();
            server.wait_closed().await;
        }
        assert!(!path.exists());
        let refused = create_connection(|| Recorder::new(&served), "127.0.0.1", port).await;
        assert_eq!(refused.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn protocols_are_served_on_listeners_from_elsewhere() {
    on_loop(async {
        let listeners = [TcpListener::bind(loopback()).unwrap(), TcpListener::bind(loopback()).unwrap()];
        let served = Log::default();
        let serves = served.clone();
        let config = ServerConfig::new();
        let server = config.start_protocol_on(listeners, move || Recorder::new(&serves)).unwrap();
        for address in server.local_addrs() {
            let (transport, _) =
                create_connection(|| Recorder::new(&Log::default()), "127.0.0.1", address.port())
                    .await
                    .unwrap();
            transport.write(address.port().to_string().as_bytes()).unwrap();
            until(|| served.has(&format!("data {}", address.port()))).await;
            transport.close();
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn protocols_are_served_on_a_unix_listener_from_elsewhere_and_its_file_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_loop(async {
        let listener = UnixListener::bind(&path).unwrap();
        let served = Log::default();
        let serves = served.clone();
        let server =
            ServerConfig::new().start_unix_protocol_on([listener], move || Recorder::new(&serves)).unwrap();
        let (transport, _) = create_unix_connection(|| Recorder::new(&Log::default()), &path).await.unwrap();
        transport.write(b"hello").unwrap();
        until(|| served.has("data hello")).await;
        transport.close();
        server.close();
        server.wait_closed().await;
        assert!(path.exists());
    });
}

#[test]
fn closing_clients_sends_what_is_unsent_and_aborting_tells_why() {
    on_loop(async {
        let log = Log::default();
        let serves = log.clone();
        let server = create_server(
            move || Recorder::new(&serves).on_made(|transport, _| transport.write(&vec![5; MUCH]).unwrap()),
            loopback(),
        )
        .unwrap();
        let address = server.local_addr().unwrap();
        let mut polite = TcpStream::connect(address).await.unwrap();
        until(|| log.has("made returns")).await;
        server.close_clients();
        assert_eq!(read_all(&mut polite).await.unwrap().len(), MUCH);
        until(|| log.has("lost")).await;

        let _silent = TcpStream::connect(address).await.unwrap();
        until(|| log.count("made returns") == 2).await;
        server.close_clients();
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(server.connections(), 1, "it waits for the peer");
        server.abort_clients();
        until(|| log.has("lost: ConnectionAborted")).await;
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn the_end_of_the_loop_ends_connections_in_order() {
    let log = Log::default();
    let told = log.clone();
    let mut peer = None;
    evenloop::run(async {
        let (transport, theirs) = recorded(&log, |recorder| recorder);
        transport.write(b"written").unwrap();
        yield_now().await; // a task that is cancelled before it ran does not run
        peer = Some(theirs.into_std());
    });
    assert_eq!(told.all(), ["made", "made returns", "lost"]);
    let mut all = String::new();
    let mut peer = peer.unwrap();
    peer.set_nonblocking(false).unwrap();
    io::Read::read_to_string(&mut peer, &mut all).unwrap();
    assert_eq!(all, "written");
}

#[test]
fn a_dropped_task_still_tells() {
    let log = Log::default();
    let event_loop = EventLoop::new();
    event_loop.run_until_complete(async {
        connect_stream(|| Recorder::new(&log), Never).unwrap();
        yield_now().await;
    });
    event_loop.close();
    assert_eq!(log.all(), ["made", "made returns", "lost: ConnectionAborted"]);
}

/// Neither gives nor takes.
struct Never;

impl futures::AsyncRead for Never {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl futures::AsyncWrite for Never {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Closes in two steps, and notes each.
struct Closes(Log);

impl futures::AsyncRead for Closes {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

impl futures::AsyncWrite for Closes {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.add("written");
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.add("closes");
        if self.0.count("closes") == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// It was dropped, as if it had been aborted.
#[test]
fn a_stream_of_somebody_elses_is_closed_before_it_is_dropped() {
    on_loop(async {
        let log = Log::default();
        let (transport, _) = connect_stream(|| Recorder::new(&log), Closes(log.clone())).unwrap();
        transport.write(b"x").unwrap();
        transport.close();
        until(|| log.has("lost")).await;
        assert_eq!(log.take(), ["made", "made returns", "written", "closes", "closes", "lost"]);

        let (transport, _) = connect_stream(|| Recorder::new(&log), Closes(log.clone())).unwrap();
        transport.write_eof().unwrap();
        until(|| log.count("closes") == 2).await;
        transport.close();
        until(|| log.has("lost")).await;
        assert_eq!(log.take(), ["made", "made returns", "closes", "closes", "lost"], "closed once");

        let (transport, _) = connect_stream(|| Recorder::new(&log), Closes(log.clone())).unwrap();
        transport.abort();
        until(|| log.has("lost")).await;
        assert_eq!(log.take(), ["made", "made returns", "lost"]);
    });
}

/// Says what is not true.
struct Liar;

impl futures::AsyncRead for Liar {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(room.len() + 1))
    }
}

impl futures::AsyncWrite for Liar {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len() + 1))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_stream_that_lies_ends_the_connection() {
    on_loop(async {
        let log = Log::default();
        connect_stream(|| Recorder::new(&log), Liar).unwrap();
        until(|| log.has("lost: Other")).await;
        let log = Log::default();
        let (transport, _) = connect_stream(|| Recorder::new(&log), Liar).unwrap();
        assert!(transport.write(b"x").is_err());
        until(|| log.has("lost: Other")).await;
    });
}

#[test]
fn without_a_loop_on_this_thread_the_error_says_so() {
    let error = connect_stream(|| Recorder::new(&Log::default()), Never).err().unwrap().to_string();
    assert!(error.starts_with("`connect_stream` needs to spawn, and this thread has no runtime"), "{error}");
}

/// Nothing but what has to be written.
#[derive(Default)]
struct Least(RefCell<Vec<u8>>);

impl Protocol for Least {
    fn data_received(&self, data: &[u8]) {
        self.0.borrow_mut().extend(data);
    }
}

/// The same, for those who lend their room.
struct LeastBuffered(RefCell<[u8; 8]>, RefCell<Vec<u8>>);

impl BufferedProtocol for LeastBuffered {
    fn get_buffer(&self, _: usize) -> RefMut<'_, [u8]> {
        RefMut::map(self.0.borrow_mut(), |room| &mut room[..])
    }

    fn buffer_updated(&self, n: usize) {
        self.1.borrow_mut().extend(&self.0.borrow()[..n]);
    }
}

/// Made, given bytes, paused, resumed, at its end, lost: with what a trait does by itself.
async fn whole_life(transport: Transport, mut peer: UnixStream, has: impl Fn() -> Vec<u8>) {
    peer.write_all(b"hello").await.unwrap();
    until(|| has() == b"hello").await;
    let much = vec![7; 4_000_000];
    transport.write(&much).unwrap();
    until(|| transport.write_buffer_size() > 0).await;
    let mut room = vec![0; much.len()];
    peer.read_exact(&mut room).await.unwrap();
    assert!(room == much);
    assert!(!transport.is_closing());
    peer.close().await.unwrap();
    assert_eq!(peer.read(&mut room).await.unwrap(), 0, "it closes when the other end does");
    assert!(transport.is_closing());
}

#[test]
fn a_protocol_needs_to_say_no_more_than_where_its_bytes_go() {
    on_loop(async {
        let (one, other) = UnixStream::pair().unwrap();
        let (transport, protocol) = connect_stream(Least::default, one).unwrap();
        whole_life(transport, other, || protocol.0.borrow().clone()).await;

        let (one, other) = UnixStream::pair().unwrap();
        let buffered = || LeastBuffered(RefCell::default(), RefCell::default());
        let (transport, protocol) = connect_stream(buffered, one).unwrap();
        whole_life(transport, other, || protocol.1.borrow().clone()).await;
    });
}
