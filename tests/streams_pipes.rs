//! Pipes, and any other descriptor.

use evenloop_streams::pipe::{Receiver, Sender, pipe};
use evenloop_streams::{AsyncFd, StreamReader, StreamWriter};
use evenloop_tests::on_reactor;
use futures::{AsyncReadExt, AsyncWriteExt, future};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

#[test]
fn more_than_the_kernel_holds_goes_through_and_ends() {
    let sent: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let got = on_reactor(async {
        let (mut sender, mut receiver) = pipe().unwrap();
        let write = async {
            sender.write_all(&sent).await.unwrap();
            drop(sender);
        };
        let mut got = Vec::new();
        let (_, ()) = future::join(async { receiver.read_to_end(&mut got).await.unwrap() }, write).await;
        got
    });
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

/// Showed as a reader that waited for ever for an end that was said to be sent.
#[test]
fn closing_the_writing_end_ends_the_pipe() {
    on_reactor(async {
        let (sender, receiver) = pipe().unwrap();
        let mut writer = StreamWriter::new(sender);
        writer.write(b"hello").unwrap();
        writer.write_eof().await.unwrap();
        assert_eq!(StreamReader::new(receiver).read_to_end().await.unwrap(), b"hello");
        let (mut sender, rest) = writer.into_parts();
        assert!(rest.is_empty());
        assert_eq!(format!("{sender:?}"), "Sender(closed)");
        sender.close().await.unwrap();
        sender.flush().await.unwrap();
        let error = sender.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(error.to_string().contains("closed"), "{error}");
    });
}

#[test]
fn nobody_reads_a_broken_pipe() {
    on_reactor(async {
        let (mut sender, receiver) = pipe().unwrap();
        let mut full = Box::pin(async {
            loop {
                if let Err(error) = sender.write_all(&[7; 4096]).await {
                    return error;
                }
            }
        });
        assert!(futures::poll!(&mut full).is_pending());
        drop(receiver); // while the writer waits for room
        assert_eq!(full.await.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_programs_pipes_become_ours() {
    on_reactor(async {
        let mut child = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut sender = Sender::from_fd(child.stdin.take().unwrap()).unwrap();
        let receiver = Receiver::from_fd(child.stdout.take().unwrap()).unwrap();
        sender.write_all(b"b\nc\na\n").await.unwrap();
        drop(sender);
        let mut reader = StreamReader::new(receiver);
        assert_eq!(reader.read_to_end().await.unwrap(), b"a\nb\nc\n");
        assert!(child.wait().unwrap().success());
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        let error = Receiver::from_fd(file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

/// A pipe of packets cuts reads at their borders, and tells nobody that there are more.
#[test]
fn a_read_cut_short_by_a_packet_does_not_hang() {
    use rustix::pipe::{PipeFlags, pipe_with};
    on_reactor(async {
        let (reading, writing) = pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).unwrap();
        let receiver = Receiver::from_fd(reading).unwrap();
        rustix::io::write(&writing, b"one").unwrap();
        rustix::io::write(&writing, b"two").unwrap();
        assert_eq!(StreamReader::new(receiver).readexactly(6).await.unwrap(), b"onetwo");
    });
}

#[test]
fn any_descriptor_waits_as_sockets_do() {
    on_reactor(async {
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        let reading = AsyncFd::new(std::fs::File::from(reading)).unwrap();
        let mut room = [0; 8];
        let mut waits = Box::pin(reading.read_with(|mut file| file.read(&mut room)));
        assert!(futures::poll!(&mut waits).is_pending());
        rustix::io::write(&writing, b"x").unwrap();
        assert_eq!(waits.await.unwrap(), 1);
        let again = reading.try_with(evenloop_core::Direction::Read, |mut file| file.read(&mut room));
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}
