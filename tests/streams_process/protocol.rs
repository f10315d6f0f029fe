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
        assert!(error.is_none(), "{fd}: {error:?}");
        self.note(format!("pipe {fd}"));
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
