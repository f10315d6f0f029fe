//! UDP and Unix datagrams.

use evenloop_streams::{UdpSocket, UnixDatagram};
use evenloop_tests::{loopback, on_reactor};
use futures::{future, poll};
use std::io;
use std::pin::pin;
use std::task::Poll;

#[test]
fn datagrams_keep_their_borders_and_their_senders() {
    on_reactor(async {
        let (one, other) = (UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap());
        one.send_to(b"first", other.local_addr().unwrap()).await.unwrap();
        one.send_to(b"", other.local_addr().unwrap()).await.unwrap();
        one.send_to(b"third", other.local_addr().unwrap()).await.unwrap();
        let mut room = [0; 100];
        assert_eq!(other.peek_from(&mut room).await.unwrap(), (5, one.local_addr().unwrap()));
        assert_eq!(other.recv_from(&mut room).await.unwrap(), (5, one.local_addr().unwrap()));
        assert_eq!(other.recv_from(&mut room).await.unwrap().0, 0, "an empty datagram is one too");
        assert_eq!(other.recv_from(&mut room[..2]).await.unwrap().0, 2, "cut, and the rest is lost");
        let nothing = other.try_recv_from(&mut room).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(one.try_send_to(b"at once", other.local_addr().unwrap()).unwrap(), 7);
        assert_eq!(other.recv_from(&mut room).await.unwrap().0, 7);
    });
}

#[test]
fn each_datagram_goes_to_one_of_those_who_wait() {
    on_reactor(async {
        let (one, other) = (UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap());
        let (mut left, mut right) = ([0; 8], [0; 8]);
        let both = future::join(other.recv_from(&mut left), other.recv_from(&mut right));
        let send = async {
            one.send_to(b"a", other.local_addr().unwrap()).await.unwrap();
            one.send_to(b"bb", other.local_addr().unwrap()).await.unwrap();
        };
        let ((left, right), ()) = future::join(both, send).await;
        let mut lengths = [left.unwrap().0, right.unwrap().0];
        lengths.sort();
        assert_eq!(lengths, [1, 2]);
    });
}

#[test]
fn a_refused_datagram_is_told_once_and_the_socket_goes_on() {
    on_reactor(async {
        let gone = std::net::UdpSocket::bind(loopback()).unwrap();
        gone.connect("127.0.0.1:9").unwrap(); // it takes nothing from others, and nobody else gets its port
        let socket = UdpSocket::bind(loopback()).unwrap();
        socket.connect(gone.local_addr().unwrap()).unwrap();
        socket.send(b"anybody?").await.unwrap();
        let mut room = [0; 8];
        let error = socket.recv(&mut room).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(
            error.to_string().starts_with(&format!("receiving on {}", socket.local_addr().unwrap())),
            "{error}"
        );
        assert!(poll!(pin!(socket.recv(&mut room))).is_pending(), "once");

        let friend = UdpSocket::bind(loopback()).unwrap();
        socket.connect(friend.local_addr().unwrap()).unwrap();
        friend.send_to(b"here", socket.local_addr().unwrap()).await.unwrap();
        assert_eq!(socket.recv(&mut room).await.unwrap(), 4);
    });
}

#[test]
fn a_socket_that_is_bound_anywhere_has_an_address_once_it_is_connected() {
    on_reactor(async {
        let peer = UdpSocket::bind(loopback()).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        assert!(socket.local_addr().unwrap().ip().is_unspecified());
        socket.connect(peer.local_addr().unwrap()).unwrap();
        assert_eq!(socket.local_addr().unwrap().ip(), loopback().ip());
    });
}

#[test]
fn unix_datagrams_wait_for_room_and_lose_none() {
    on_reactor(async {
        let (one, other) = UnixDatagram::pair().unwrap();
        let send = async {
            for number in 0..1000_u32 {
                one.send(&number.to_le_bytes()).await.unwrap();
            }
        };
        let receive = async {
            let mut room = [0; 4];
            for number in 0..1000_u32 {
                other.recv(&mut room).await.unwrap();
                assert_eq!(u32::from_le_bytes(room), number);
            }
        };
        future::join(send, receive).await;
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    on_reactor(async {
        let named = UnixDatagram::bind(&path).unwrap();
        let nameless = UnixDatagram::unbound().unwrap();
        nameless.send_to(b"hello", &path).await.unwrap();
        let (n, from) = named.recv_from(&mut [0; 8]).await.unwrap();
        assert!(n == 5 && from.is_unnamed());
        let error = nameless.send_to(b"x", directory.path().join("nobody")).await.unwrap_err();
        assert!(error.to_string().contains("sending to ") && error.to_string().contains("nobody"), "{error}");
    });
}

/// Showed as an error, `WouldBlock`, of a call that waits for room.
#[test]
fn a_unix_sender_whose_own_buffer_is_full_waits_for_room() {
    on_reactor(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let peer = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        peer.set_nonblocking(true).unwrap();
        let ours = UnixDatagram::unbound().unwrap();
        // A few of these are all that our buffer holds, and fewer than the peer's queue takes.
        let large = vec![7; 60_000];
        let sends = loop {
            let mut sends = Box::pin(ours.send_to(&large, &path));
            match poll!(&mut sends) {
                Poll::Ready(sent) => assert_eq!(sent.unwrap(), large.len()),
                Poll::Pending => break sends,
            }
        };
        while peer.recv(&mut []).is_ok() {}
        assert_eq!(sends.await.unwrap(), large.len());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn unix_datagrams_take_abstract_names() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("evenloop datagrams {}", std::process::id());
    let path = format!("\0{name}");
    on_reactor(async {
        let named = UnixDatagram::bind(&path).unwrap();
        assert_eq!(named.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
        let taken = UnixDatagram::bind(&path).unwrap_err();
        assert!(taken.to_string().contains(&format!("binding to \"{name}\" (abstract)")), "{taken}");
        let nameless = UnixDatagram::unbound().unwrap();
        assert_eq!(nameless.send_to(b"hello", &path).await.unwrap(), 5);
        nameless.connect(&path).unwrap();
        assert_eq!(nameless.send(b"again").await.unwrap(), 5);
        let mut room = [0; 8];
        for said in [b"hello", b"again"] {
            let (n, from) = named.recv_from(&mut room).await.unwrap();
            assert!(&room[..n] == said && from.is_unnamed());
        }
        let long = format!("/{}", "x".repeat(200));
        for (path, kind, words) in [
            ("", std::io::ErrorKind::InvalidInput, "Invalid argument"),
            (long.as_str(), std::io::ErrorKind::InvalidInput, "shorter than SUN_LEN"),
            ("/a\0b", std::io::ErrorKind::InvalidInput, "null bytes"),
        ] {
            let sent = nameless.send_to(b"x", path).await.unwrap_err();
            let connected = nameless.connect(path).unwrap_err();
            for error in [sent, connected] {
                assert!(error.kind() == kind && error.to_string().contains(words), "{path:?}: {error}");
            }
        }
        drop(named);
        let nobody = nameless.send_to(b"x", &path).await.unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(nobody.to_string().contains("(abstract)"), "{nobody}");
    });
}
