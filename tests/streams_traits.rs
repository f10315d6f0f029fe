//! The traits of tokio and of hyper, on the streams as they are: nothing is wrapped, and no tokio runs.

use evenloop::hyper::{Executor, Timer};
use evenloop::streams::UnixStream;
use evenloop::streams::pipe::pipe;
use evenloop::time::VirtualClock;
use evenloop::{create_task, event_loop_on, sleep};
use evenloop_tests::{connected, on_reactor};
use futures::future::{join, try_join};
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::convert::Infallible;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// More bytes than the kernel holds, each known by its place.
fn many_bytes() -> Vec<u8> {
    (0..500_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// Sends through `writer` and receives through `reader` by tokio's traits, to the end of the stream.
async fn send_and_receive(
    mut writer: impl tokio::io::AsyncWrite + Unpin,
    mut reader: impl tokio::io::AsyncRead + Unpin,
) {
    let sent = many_bytes();
    let send = async {
        writer.write_all(&sent).await?;
        writer.flush().await?;
        writer.shutdown().await?;
        drop(writer); // the end of a pipe is sent by dropping it
        Ok::<_, io::Error>(())
    };
    let mut got = Vec::new();
    try_join(send, reader.read_to_end(&mut got)).await.unwrap();
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

#[test]
fn bytes_go_through_tokios_traits_on_every_stream() {
    on_reactor(async {
        let (one, other) = connected().await;
        send_and_receive(one, other).await;

        let (one, other) = connected().await;
        let ((_kept, write), (read, _also)) = (one.into_split(), other.into_split());
        send_and_receive(write, read).await;

        let (mut one, mut other) = UnixStream::pair().unwrap();
        send_and_receive(one.split().1, other.split().0).await;

        let (one, other) = UnixStream::pair().unwrap();
        send_and_receive(one, other).await;

        let (sender, receiver) = pipe().unwrap();
        send_and_receive(sender, receiver).await;
    });
}

#[test]
fn a_read_into_no_room_is_not_the_end() {
    on_reactor(async {
        let (mut one, mut other) = connected().await;
        AsyncWriteExt::write_all(&mut one, b"x").await.unwrap();
        assert_eq!(AsyncReadExt::read(&mut other, &mut []).await.unwrap(), 0);
        assert_eq!(AsyncReadExt::read(&mut other, &mut [0; 8]).await.unwrap(), 1);
        drop(one);
        assert_eq!(AsyncReadExt::read(&mut other, &mut [0; 8]).await.unwrap(), 0);
        assert_eq!(AsyncReadExt::read(&mut other, &mut [0; 8]).await.unwrap(), 0, "the end stays");
    });
}

#[test]
fn tokios_helpers_and_codecs_work_on_them() {
    on_reactor(async {
        // client ── proxy ── server, with nothing of tokio's but its helpers.
        let ((client, front), (back, server)) = (connected().await, connected().await);
        let proxy = async {
            let (mut front, mut back) = (front, back);
            copy_bidirectional(&mut front, &mut back).await.unwrap()
        };
        let ask = async {
            let mut frames = Framed::new(client, LengthDelimitedCodec::new());
            frames.send(Bytes::from_static(b"hello")).await.unwrap();
            frames.send(Bytes::from_static(b"")).await.unwrap();
            assert_eq!(&frames.next().await.unwrap().unwrap()[..], b"HELLO");
            assert_eq!(&frames.next().await.unwrap().unwrap()[..], b"");
        };
        let answer = async {
            let mut frames = Framed::new(server, LengthDelimitedCodec::new());
            while let Some(frame) = frames.next().await {
                frames.send(Bytes::from(frame.unwrap().to_ascii_uppercase())).await.unwrap();
            }
        };
        let (moved, _) = join(proxy, join(ask, answer)).await;
        assert_eq!(moved, (4 + 5 + 4, 4 + 5 + 4));

        let (sender, receiver) = pipe().unwrap();
        let write = async move {
            let mut sender = sender;
            AsyncWriteExt::write_all(&mut sender, b"one\ntwo\n").await.unwrap();
        };
        let read = async {
            let mut lines = BufReader::new(receiver).lines();
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("one"));
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("two"));
            assert_eq!(lines.next_line().await.unwrap(), None);
        };
        join(write, read).await;
    });
}

/// Answers with the body it was sent, each byte one higher.
async fn one_higher(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::from(body.iter().map(|byte| byte.wrapping_add(1)).collect::<Vec<_>>())))
}

fn request(body: &[u8]) -> Request<Full<Bytes>> {
    Request::post("http://here/").header("host", "here").body(Full::from(body.to_vec())).unwrap()
}

#[test]
fn hyper_speaks_http_1_over_every_stream() {
    evenloop::run(async {
        let bytes = many_bytes();
        let higher: Vec<u8> = bytes.iter().map(|byte| byte.wrapping_add(1)).collect();
        let check = async |mut sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>| {
            for _ in 0..3 {
                let answer = sender.send_request(request(&bytes)).await.unwrap();
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), higher);
            }
        };
        let builder = hyper::server::conn::http1::Builder::new();

        let (client, server) = connected().await;
        let serving = create_task(builder.serve_connection(server, service_fn(one_higher)));
        let (sender, connection) = hyper::client::conn::http1::handshake(client).await.unwrap();
        let moving = create_task(connection);
        check(sender).await;
        moving.await.unwrap();
        serving.await.unwrap();

        let (client, server) = UnixStream::pair().unwrap();
        let serving = create_task(builder.serve_connection(server, service_fn(one_higher)));
        let (sender, connection) = hyper::client::conn::http1::handshake(client).await.unwrap();
        let moving = create_task(connection);
        check(sender).await;
        moving.await.unwrap();
        serving.await.unwrap();
    });
}

#[test]
fn hyper_speaks_http_2_with_the_loops_executor_and_timer() {
    evenloop::run(async {
        let (client, server) = connected().await;
        let mut builder = hyper::server::conn::http2::Builder::new(Executor);
        builder.timer(Timer).keep_alive_interval(Duration::from_secs(10));
        let serving = create_task(builder.serve_connection(server, service_fn(one_higher)));
        let (sender, connection) =
            hyper::client::conn::http2::Builder::new(Executor).timer(Timer).handshake(client).await.unwrap();
        let moving = create_task(connection);
        let asks = (0..20_u8).map(|n| {
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(request(&[n; 1000])).await.unwrap();
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), [n + 1; 1000][..]);
            }
        });
        futures::future::join_all(asks).await;
        drop(sender);
        moving.await.unwrap();
        serving.await.unwrap();
    });
}

#[test]
fn hypers_timeouts_follow_a_virtual_clock() {
    let clock = VirtualClock::new();
    event_loop_on(clock.clone().into()).run_until_complete(async {
        let (silent, server) = connected().await;
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(Timer)
            .header_read_timeout(Duration::from_secs(3600))
            .serve_connection(
                server,
                service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))),
            )
            .await;
        assert!(serving.unwrap_err().is_timeout());
        assert_eq!(clock.elapsed(), Duration::from_secs(3600), "an hour, in no time");
        drop(silent);

        // Both ways to move a sleep: one of ours is set anew, another's is replaced.
        let timer: &dyn hyper::rt::Timer = &Timer;
        let mut nap = timer.sleep(Duration::from_secs(5));
        let start = timer.now();
        timer.reset(&mut nap, start + Duration::from_secs(60));
        nap.await;
        assert_eq!(timer.now() - start, Duration::from_secs(60));
        struct Foreign;
        impl std::future::Future for Foreign {
            type Output = ();
            fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
                std::task::Poll::Pending
            }
        }
        impl hyper::rt::Sleep for Foreign {}
        let mut foreign: std::pin::Pin<Box<dyn hyper::rt::Sleep>> = Box::pin(Foreign);
        timer.reset(&mut foreign, timer.now() + Duration::from_secs(1));
        foreign.await;
        sleep(Duration::ZERO).await;
    });
}
