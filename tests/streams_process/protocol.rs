//! `subprocess_exec`: children whose protocol is called.

use super::*;

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    told: RefCell<Vec<String>>,
    data: RefCell<[Vec<u8>; 2]>,
    transport: RefCell<Option<SubprocessTransport>>,
    panics: bool,
}

impl Notes {
    fn note(&self, what: impl Into<String>) {
        self.told.borrow_mut().push(what.into());
    }

    async fn says(&self, what: &str) {
        evenloop_tests::until(|| self.told.borrow().iter().any(|told| told == what)).await;
    }

    async fn is_lost(&self) {
        while !self.told.borrow().last().is_some_and(|last| last.starts_with("lost")) {
            evenloop_executor::yield_now().await;
        }
    }

    fn pipe(&self, fd: i32) -> Option<SubprocessPipe> {
        self.transport.borrow().as_ref().unwrap().pipe_transport(fd)
    }
}

impl SubprocessProtocol for Notes {
    fn connection_made(&self, transport: SubprocessTransport) {
        self.note("made");
        *self.transport.borrow_mut() = Some(transport);
    }

    fn pipe_data_received(&self, fd: i32, data: &[u8]) {
        assert!(!self.panics, "on purpose");
        assert!(!data.is_empty() && data.len() <= 64 * 1024);
        self.data.borrow_mut()[fd as usize - 1].extend_from_slice(data);
    }

    fn pipe_connection_lost(&self, fd: i32, error: Option<io::Error>) {
        self.note(error.map_or(format!("pipe {fd}"), |error| format!("pipe {fd}: {error}")));
    }

    fn process_exited(&self) {
        self.note("exited");
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        self.note(error.map_or("lost".to_owned(), |error| format!("lost: {error}")));
    }

    fn pause_writing(&self) {
        self.note("pause");
    }

    fn resume_writing(&self) {
        self.note("resume");
    }
}

#[test]
fn a_protocol_is_told_of_data_pipes_and_the_end_which_comes_last() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, shell("cat; echo err >&2; exit 3")).unwrap();
        let stdin = transport.pipe_transport(0).unwrap();
        stdin.write(b"in and ").unwrap();
        stdin.write(b"out").unwrap();
        stdin.write_eof();
        assert_eq!(stdin.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        notes.is_lost().await;
        assert_eq!(*notes.data.borrow(), [b"in and out".to_vec(), b"err\n".to_vec()]);
        assert_eq!(transport.returncode(), Some(3));
        let mut told = notes.told.borrow().clone();
        assert_eq!((told.remove(0), told.pop()), ("made".to_owned(), Some("lost".to_owned())));
        told.sort();
        assert_eq!(told, ["exited", "pipe 0", "pipe 1", "pipe 2"]);
        assert!(transport.is_closing() && transport.pipe_transport(1).is_none());
    });
}

#[test]
fn a_protocol_pauses_and_resumes_both_ways() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        let (stdin, stdout) = (transport.pipe_transport(0).unwrap(), transport.pipe_transport(1).unwrap());
        stdout.pause_reading();
        stdin.write(&vec![7; 1 << 20]).unwrap();
        assert_eq!(*notes.told.borrow(), ["made", "pause"], "inside the write");
        for _ in 0..200 {
            evenloop_executor::yield_now().await;
        }
        assert!(notes.data.borrow()[0].is_empty() && stdin.write_buffer_size() > 64 * 1024);
        stdout.resume_reading();
        while notes.told.borrow().len() < 3 {
            evenloop_executor::yield_now().await;
        }
        assert_eq!(notes.told.borrow()[2], "resume");
        stdin.close();
        notes.is_lost().await;
        assert_eq!(notes.data.borrow()[0].len(), 1 << 20);
    });
}

#[test]
fn closing_a_subprocess_transport_kills() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        notes.pipe(0).unwrap().write(&vec![7; 1 << 20]).unwrap();
        transport.close();
        transport.close();
        notes.is_lost().await;
        assert_eq!(transport.returncode(), Some(-9));
        assert_eq!(notes.told.borrow().last().unwrap(), "lost");
    });
}

#[test]
fn a_protocol_that_panics_ends_its_own_child() {
    on_loop(async {
        let panics = || Notes { panics: true, ..Notes::default() };
        let (transport, notes) = subprocess_exec(panics, shell("echo; exec cat")).unwrap();
        let (other, calm) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        notes.is_lost().await;
        assert_eq!(transport.returncode(), Some(-9));
        let last = notes.told.borrow().last().unwrap().clone();
        assert!(last.contains("`pipe_data_received` panicked") && last.contains("on purpose"), "{last}");
        assert_eq!(*calm.told.borrow(), ["made"]);
        calm.pipe(0).unwrap().write_eof();
        calm.is_lost().await;
        assert_eq!(other.returncode(), Some(0));
    });
}

#[test]
fn a_protocol_hears_of_the_end_of_its_loop() {
    let (notes, handle) = on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        (notes, transport.handle())
    });
    assert_eq!(*notes.told.borrow(), ["made", "lost: the loop that served the child has ended"]);
    assert_eq!(futures::executor::block_on(handle.wait()).unwrap().signal(), Some(9));
}

/// What was unsent when the child ended was thrown away, and told to be in order.
#[test]
fn a_grandchild_gets_the_rest_of_the_input() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command = shell("exec 4<&0; { cat <&3; wc -c <&4; } & exit 0").inherit_fd_as(gate, 3);
        let (transport, notes) = subprocess_exec(Notes::default, command).unwrap();
        let stdin = transport.pipe_transport(0).unwrap();
        stdin.write(&vec![b'x'; 1 << 20]).unwrap();
        stdin.close();
        notes.says("exited").await;
        assert!(stdin.write_buffer_size() > 0);
        drop(open);
        notes.is_lost().await;
        assert_eq!(String::from_utf8_lossy(&notes.data.borrow()[0]).trim(), "1048576");
        let told = notes.told.borrow();
        assert_eq!(told[..3], ["made", "pause", "exited"]);
        assert!(told.contains(&"pipe 0".to_owned()), "{told:?}");
    });
}

#[test]
fn input_that_nobody_is_left_to_read_ends_with_an_error() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command = shell("cat <&3").inherit_fd_as(gate, 3);
        let (_, notes) = subprocess_exec(Notes::default, command).unwrap();
        let stdin = notes.pipe(0).unwrap();
        stdin.write(&vec![b'x'; 1 << 20]).unwrap();
        stdin.close();
        drop(open);
        notes.is_lost().await;
        let told = notes.told.borrow().clone();
        let broken = told.iter().find(|told| told.starts_with("pipe 0")).unwrap();
        assert!(broken.starts_with("pipe 0: writing to the stdin of `/bin/sh`: "), "{told:?}");
        assert_eq!(told.last().unwrap(), "lost");

        let (_, idle) = subprocess_exec(Notes::default, Command::new("true")).unwrap();
        idle.is_lost().await; // nobody has closed its stdin
        assert!(idle.told.borrow().contains(&"pipe 0".to_owned()), "nothing was unsent");
    });
}

/// It was told when the child ended.
#[test]
fn a_stdin_that_breaks_is_told_while_the_child_runs() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command = shell("exec 0<&-; cat <&3").inherit_fd_as(gate, 3);
        let (transport, notes) = subprocess_exec(Notes::default, command).unwrap();
        let stdin = transport.pipe_transport(0).unwrap();
        notes.says("pipe 0").await; // though nobody writes
        assert!(stdin.is_closing() && !transport.is_closing());
        assert_eq!(stdin.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        drop(open);
        notes.is_lost().await;
        assert_eq!(transport.returncode(), Some(0));
        let mut told = notes.told.borrow().clone();
        told.sort();
        assert_eq!(told, ["exited", "lost", "made", "pipe 0", "pipe 1", "pipe 2"]);
    });
}

/// `write` answered the error, and `pipe_connection_lost` was told when the child ended.
#[test]
fn a_write_that_fails_is_told_to_the_protocol_too() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let (mut closed, says) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map(|(reading, writing)| (File::from(reading), writing))
            .unwrap();
        let command = shell("exec 0<&-; echo >&4; exec 4>&-; cat <&3");
        let command = command.inherit_fd_as(gate, 3).inherit_fd_as(says, 4);
        let (transport, notes) = subprocess_exec(Notes::default, command).unwrap();
        closed.read_exact(&mut [0]).unwrap(); // the loop does not turn meanwhile
        let stdin = transport.pipe_transport(0).unwrap();
        // Another thread may be starting a child, which has a copy of ours until it is there.
        let error = loop {
            if let Err(error) = stdin.write(b"in vain") {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        notes.says(&format!("pipe 0: {error}")).await;
        assert!(!notes.told.borrow().contains(&"exited".to_owned()));
        drop(open);
        notes.is_lost().await;
        assert_eq!(notes.told.borrow().last().unwrap(), "lost");
    });
}

/// Three pipes that were closed singly passed for a transport that was closed.
#[test]
fn closing_every_pipe_does_not_close_the_transport() {
    on_loop(async {
        let (transport, notes) = subprocess_exec(Notes::default, Command::new("cat")).unwrap();
        transport.send_signal(SignalKind::from_raw(19)).unwrap(); // SIGSTOP: the end of its input does not end it
        for fd in [0, 1, 2] {
            let pipe = notes.pipe(fd).unwrap();
            assert!(!pipe.is_closing());
            pipe.close();
            assert!(pipe.is_closing());
        }
        assert!(!transport.is_closing());
        transport.close();
        assert!(transport.is_closing());
        notes.is_lost().await;
        assert_eq!(transport.returncode(), Some(-9));
    });
}

#[test]
fn a_pipe_to_a_stdin_has_water_marks_and_can_be_given_up() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command = shell("cat <&3; exec cat").inherit_fd_as(gate, 3);
        let (_, notes) = subprocess_exec(Notes::default, command).unwrap();
        let stdin = notes.pipe(0).unwrap();
        assert_eq!(stdin.write_buffer_limits(), (16 * 1024, 64 * 1024));
        stdin.set_write_buffer_limits(Some(1 << 20), None);
        assert_eq!(stdin.write_buffer_limits(), (1 << 18, 1 << 20));
        stdin.write(&vec![7; 1 << 19]).unwrap();
        assert_eq!(*notes.told.borrow(), ["made"]);
        stdin.set_write_buffer_limits(None, Some(0));
        assert_eq!(*notes.told.borrow(), ["made", "pause"], "more is unsent than the new mark");
        stdin.abort();
        assert!(stdin.is_closing() && stdin.write_buffer_size() == 0);
        notes.says("pipe 0").await;
        drop(open);
        notes.is_lost().await;
        let got = notes.data.borrow()[0].len();
        assert!((1..1 << 19).contains(&got), "what the pipe had taken: {got}");
    });
}
