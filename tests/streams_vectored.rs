//! Several pieces at once, through every stream; and what a stream is shown as, and is without a reactor.

use evenloop_streams::UnixStream;
use evenloop_streams::pipe::pipe;
use evenloop_streams::process::{Command, PIPE};
use evenloop_tests::{connected, on_loop};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Sends two pieces with one call, and receives them into two rooms with one call.
async fn two_pieces(mut from: impl AsyncWrite + Unpin, mut to: impl AsyncRead + Unpin) {
    let sent = from.write_vectored(&[IoSlice::new(b"first, "), IoSlice::new(b"second")]).await.unwrap();
    assert_eq!(sent, 13);
    from.close().await.unwrap();
    let (mut small, mut large) = ([0; 3], [0; 20]);
    let rooms = &mut [IoSliceMut::new(&mut small), IoSliceMut::new(&mut large)];
    assert_eq!(to.read_vectored(rooms).await.unwrap(), 13);
    assert_eq!((&small[..], &large[..10]), (&b"fir"[..], &b"st, second"[..]));
}

#[test]
fn two_pieces_go_at_once_through_every_stream() {
    on_loop(async {
        let (one, other) = connected().await;
        two_pieces(one, other).await;
        let (one, other) = UnixStream::pair().unwrap();
        two_pieces(one, other).await;

        let (one, other) = connected().await;
        two_pieces(one.split().1, other.split().0).await;
        let (one, other) = UnixStream::pair().unwrap();
        two_pieces(one.split().1, other.split().0).await;
        let (one, other) = UnixStream::pair().unwrap();
        let ((_kept, write), (read, _also)) = (one.into_split(), other.into_split());
        two_pieces(write, read).await;

        let (sender, receiver) = pipe().unwrap();
        two_pieces(sender, receiver).await;
        let mut cat = Command::new("cat").stdio([PIPE, PIPE, PIPE]).spawn().unwrap();
        two_pieces(cat.stdin.take().unwrap().into_parts().0, cat.stdout.take().unwrap().into_parts().0).await;
    });
}

/// Showed as a write, and a read, that never ended: what the kernel had not looked at was taken for a stream that is full,
/// or dry, and no news comes of one that is neither.
async fn more_pieces_than_the_kernel_takes(
    mut from: impl AsyncWrite + Unpin,
    mut to: impl AsyncRead + Unpin,
) {
    let pieces = vec![IoSlice::new(b"ab"); 2000];
    let sent = from.write_vectored(&pieces).await.unwrap();
    assert!((2..4000).contains(&sent), "{sent}: more would have been taken");
    from.write_all(b"c").await.unwrap();
    let mut room = [0; 4001];
    let mut rooms: Vec<_> = room.chunks_mut(1).map(IoSliceMut::new).collect();
    let came = to.read_vectored(&mut rooms).await.unwrap();
    assert!((1..=sent).contains(&came), "{came} of {sent}");
    let mut rest = vec![0; sent + 1 - came];
    to.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest.last(), Some(&b'c'));
    // Nor are pieces without bytes in them, however many, an end or a stream that takes nothing.
    let pieces = [vec![IoSlice::new(b""); 2000], vec![IoSlice::new(b"de")]].concat();
    assert_eq!(from.write_vectored(&pieces).await.unwrap(), 2);
    let mut room = [0; 2];
    let mut rooms: Vec<_> = (0..2000).map(|_| IoSliceMut::new(&mut [])).collect();
    rooms.push(IoSliceMut::new(&mut room));
    assert_eq!(to.read_vectored(&mut rooms).await.unwrap(), 2);
    assert_eq!(&room, b"de");
}

#[test]
fn more_pieces_than_the_kernel_takes_at_once_leave_the_stream_ready() {
    on_loop(async {
        let (one, other) = connected().await;
        more_pieces_than_the_kernel_takes(one, other).await;
        let (one, other) = UnixStream::pair().unwrap();
        more_pieces_than_the_kernel_takes(one, other).await;
        let (sender, receiver) = pipe().unwrap();
        more_pieces_than_the_kernel_takes(sender, receiver).await;
    });
}

#[test]
fn what_they_are_shown_as() {
    on_loop(async {
        let (stream, other) = connected().await;
        let peer = stream.peer_addr().unwrap();
        assert_eq!(format!("{stream:?}"), format!("TcpStream [to {peer}]"));
        let (read, write) = stream.into_split();
        assert_eq!(format!("{read:?}"), format!("OwnedReadHalf(TcpStream [to {peer}])"));
        assert_eq!(format!("{write:?}"), format!("OwnedWriteHalf(TcpStream [to {peer}])"));
        let (others_read, _) = other.into_split();
        let apart = others_read.reunite(write).unwrap_err();
        let shown = apart.to_string();
        assert!(
            shown.starts_with("halves of two different streams: OwnedReadHalf(TcpStream [to "),
            "{shown}"
        );
        assert!(format!("{apart:?}").starts_with("ReuniteError { read: OwnedReadHalf("), "{apart:?}");

        let (sender, receiver) = pipe().unwrap();
        assert!(format!("{sender:?}").starts_with("Sender("), "{sender:?}");
        assert!(format!("{receiver:?}").starts_with("Receiver("), "{receiver:?}");

        let mut cat = Command::new("cat").stdio([PIPE, PIPE, PIPE]).spawn().unwrap();
        let mut stdin = cat.stdin.take().unwrap().into_parts().0;
        assert_eq!(format!("{stdin:?}"), "ChildStdin [of `cat`, open]");
        stdin.close().await.unwrap();
        assert_eq!(format!("{stdin:?}"), "ChildStdin [of `cat`, closed]");
        let stdout = cat.stdout.take().unwrap().into_parts().0;
        assert_eq!(format!("{stdout:?}"), "ChildOutput [of `cat`]");
    });
}

#[test]
fn their_descriptors_are_lent_and_given_away() {
    on_loop(async {
        let (sender, receiver) = pipe().unwrap();
        let numbers = [sender.as_fd().as_raw_fd(), receiver.as_fd().as_raw_fd()];
        let (sender, receiver) = (OwnedFd::from(sender), OwnedFd::from(receiver));
        assert_eq!(numbers, [sender.as_raw_fd(), receiver.as_raw_fd()]);

        let mut cat = Command::new("cat").stdio([PIPE, PIPE, PIPE]).spawn().unwrap();
        let (stdin, stdout) =
            (cat.stdin.take().unwrap().into_parts().0, cat.stdout.take().unwrap().into_parts().0);
        let number = stdout.as_fd().as_raw_fd();
        let (stdin, stdout) = (OwnedFd::from(stdin), OwnedFd::from(stdout));
        assert_eq!(number, stdout.as_raw_fd());
        // They block from now on.
        File::from(stdin).write_all(b"for nobody else").unwrap();
        let mut answer = String::new();
        File::from(stdout).read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "for nobody else");
        assert!(cat.wait().await.unwrap().success());
    });
}
