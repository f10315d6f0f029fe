//! Clients and protocols of other people on our streams as they are: tokio-postgres and redis through tokio's traits,
//! async-tungstenite and futures-rustls through those of futures. Nothing is wrapped, and no tokio runs.

use async_tungstenite::tungstenite::Message;
use evenloop::streams::{TcpListener, TcpStream};
use evenloop::{create_task, timeout, to_thread};
use evenloop_ecosystem_tests::{Postgres, Redis, Running, free_port, installed, python_with, wait_until};
use futures::future::{join, join_all};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use futures_rustls::rustls::{ServerConfig, crypto::ring};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

async fn within_a_minute<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("within a minute")
}

#[test]
fn tokio_postgres_asks_a_postgresql_server() {
    let Some(server) = Postgres::start() else { return };
    evenloop::run(within_a_minute(async {
        let stream = TcpStream::connect(([127, 0, 0, 1], server.port()).into()).await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.user("postgres").dbname("postgres");
        let (mut client, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await.unwrap();
        let connection = create_task(connection);

        client
            .batch_execute("create table account (name text primary key, amount int8 not null)")
            .await
            .unwrap();
        let transaction = client.transaction().await.unwrap();
        for (name, amount) in [("ann", 100_i64), ("bob", 50)] {
            transaction.execute("insert into account values ($1, $2)", &[&name, &amount]).await.unwrap();
        }
        transaction.commit().await.unwrap();
        let dropped = client.transaction().await.unwrap();
        dropped.execute("delete from account", &[]).await.unwrap();
        drop(dropped); // rolls back

        // Many questions on one connection at once.
        let statement = client.prepare("select $1::int8 * sum(amount)::int8 from account").await.unwrap();
        let ask = async |times: i64| client.query_one(&statement, &[&times]).await.unwrap().get::<_, i64>(0);
        let answers = join_all((0..50).map(ask)).await;
        assert_eq!(answers, (0..50).map(|times| times * 150).collect::<Vec<_>>());

        let error = client.execute("insert into account values ('ann', 1)", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "23505"); // unique_violation
        drop(client);
        connection.await.unwrap();
    }));
}

#[test]
fn the_redis_client_asks_a_redis_server() {
    let Some(server) = Redis::start() else { return };
    evenloop::run(within_a_minute(async {
        let stream = TcpStream::connect(([127, 0, 0, 1], server.port()).into()).await.unwrap();
        let settings = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let login = redis::RedisConnectionInfo::default();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&login, stream, settings).await.unwrap();
        let driver = create_task(driver);
        let ask = async |n: u32| {
            let mut connection = connection.clone();
            connection.set::<_, _, ()>(format!("key {n}"), n).await.unwrap();
            connection.get::<_, u32>(format!("key {n}")).await.unwrap()
        };
        assert_eq!(join_all((0..200).map(ask)).await, (0..200).collect::<Vec<_>>());
        drop(connection);
        driver.await;
    }));
}

const WEBSOCKET_CLIENT: &str = r#"
import asyncio, sys, websockets
async def main():
    async with websockets.connect("ws://127.0.0.1:" + sys.argv[1], max_size=None) as socket:
        for message in ["grüß dich", b"\x00\xff" * 50_000]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
asyncio.run(main())
"#;

const WEBSOCKET_SERVER: &str = r#"
import asyncio, sys, websockets
async def echo(socket, path=None):
    async for message in socket:
        await socket.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1])):
        await asyncio.Future()
asyncio.run(main())
"#;

#[test]
fn pythons_websockets_talk_to_async_tungstenite() {
    let Some(python) = python_with("websockets") else { return };
    evenloop::run(within_a_minute(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = async_tungstenite::accept_async(stream).await.unwrap();
            let mut messages = 0;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() || message.is_binary() {
                    messages += 1;
                    socket.send(message).await.unwrap();
                }
            }
            messages
        };
        let asks = to_thread(move || Command::new(python).args(["-c", WEBSOCKET_CLIENT, &port]).status());
        let (messages, status) = join(serve, asks).await;
        assert!(status.unwrap().success());
        assert_eq!(messages, 2);
    }));
}

#[test]
fn async_tungstenite_talks_to_pythons_websockets() {
    let Some(python) = python_with("websockets") else { return };
    let port = free_port();
    let _server = Running::start(&python, ["-c", WEBSOCKET_SERVER, &port.to_string()]);
    wait_until("Python listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    evenloop::run(within_a_minute(async {
        let stream = TcpStream::connect(([127, 0, 0, 1], port).into()).await.unwrap();
        let url = format!("ws://127.0.0.1:{port}/");
        let (mut socket, _response) = async_tungstenite::client_async(url, stream).await.unwrap();
        for text in ["one", "two"] {
            socket.send(Message::text(text)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
        }
        socket.close(None).await.unwrap();
    }));
}

#[test]
fn curl_talks_to_futures_rustls() {
    if !installed("curl") {
        return;
    }
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("certificate.pem");
    std::fs::write(&trusted, cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    evenloop::run(within_a_minute(async {
        let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).await.unwrap();
            assert!(request[..n].starts_with(b"GET / HTTP/1.1\r\n"));
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
                .await
                .unwrap();
            stream.close().await.unwrap();
        };
        let asks = to_thread(move || {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--resolve", &format!("localhost:{port}:127.0.0.1"), "--cacert"]).arg(&trusted);
            curl.arg(format!("https://localhost:{port}/")).output()
        });
        let ((), output) = join(serve, asks).await;
        let output = output.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "secret", "{output:?}");
    }));
}
