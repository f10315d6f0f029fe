//! Programs that nobody here wrote, against our servers and clients: nc, socat, curl and Python's asyncio.
//!
//! A program that is not installed is named and skipped.

use evenloop_streams::{StreamReader, StreamWriter, open_connection, start_server};
use evenloop_sync::oneshot;
use evenloop_tests::{missing, on_loop};
use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread;

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let bytes = reader.read(1024).await?;
        if bytes.is_empty() {
            return writer.wait_closed().await;
        }
        writer.write(&bytes)?;
        writer.drain().await?;
    }
}

fn installed(program: &str) -> bool {
    let asked = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    // 127: under a tool in which a child cannot tell why it did not start.
    let found = asked.is_ok_and(|status| status.code() != Some(127));
    if !found {
        missing(&format!("`{program}`"));
    }
    found
}

/// Runs `job` on a thread and waits for it on the loop.
fn on_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let (done, result) = oneshot::channel();
    thread::spawn(move || done.send(job()));
    async { result.await.expect("the thread did not panic") }
}

/// What `program` prints after it was given `input`, while we serve.
fn output(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writes = thread::spawn(move || stdin.write_all(&input).map(|()| drop(stdin)));
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", output.status);
    output.stdout
}

#[test]
fn nc_and_socat_get_their_bytes_back() {
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for program in ["nc", "socat"] {
        if !installed(program) {
            continue;
        }
        let sent = bytes.clone();
        let got = on_loop(async move {
            let server = start_server(echo, ([127, 0, 0, 1], 0).into()).unwrap();
            let port = server.local_addr().unwrap().port().to_string();
            let got = on_thread(move || match program {
                "nc" => output("nc", &["-N", "127.0.0.1", &port], &sent),
                _ => output("socat", &["-t", "10", "-", &format!("TCP:127.0.0.1:{port}")], &sent),
            })
            .await;
            server.close();
            server.wait_closed().await;
            got
        });
        assert!(got == bytes, "{program}: {} bytes of {}", got.len(), bytes.len());
    }
}

#[test]
fn curl_gets_its_page() {
    async fn http(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
        let head = reader.readuntil(b"\r\n\r\n").await?;
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        let body = format!("you asked for {path}");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        writer.writelines([head, body])?;
        writer.wait_closed().await
    }
    if !installed("curl") {
        return;
    }
    let got = on_loop(async {
        let server = start_server(http, ([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("http://{}/tea", server.local_addr().unwrap());
        on_thread(move || output("curl", &["--silent", "--show-error", "--noproxy", "*", &url], b"")).await
    });
    assert_eq!(got, b"you asked for /tea");
}

const ASYNCIO_CLIENT: &str = r#"
import asyncio, sys
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    for number in range(100):
        writer.write(b"line %d\n" % number)
        await writer.drain()
        assert await reader.readline() == b"line %d\n" % number
    writer.write(b"x" * 1_000_000)
    assert await reader.readexactly(1_000_000) == b"x" * 1_000_000
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    print("served")
asyncio.run(main())
"#;

#[test]
fn asyncio_is_served() {
    if !installed("python3") {
        return;
    }
    let got = on_loop(async {
        let server = start_server(echo, ([127, 0, 0, 1], 0).into()).unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        on_thread(move || output("python3", &["-c", ASYNCIO_CLIENT, &port], b"")).await
    });
    assert_eq!(got, b"served\n");
}

const ASYNCIO_SERVER: &str = r#"
import asyncio, sys
async def upper(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.write(b"bye")
    writer.close()
    await writer.wait_closed()
async def main():
    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
asyncio.run(main())
"#;

#[test]
fn asyncio_serves_us() {
    if !installed("python3") {
        return;
    }
    let start = || -> (Child, u16) {
        let mut command = Command::new("python3");
        command.args(["-c", ASYNCIO_SERVER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        (child, port.trim().parse().unwrap())
    };
    let (mut server, port) = start();
    on_loop(async {
        let (mut reader, mut writer) = open_connection("127.0.0.1", port).await.unwrap();
        for number in 0..100 {
            writer.write(format!("line {number}\n").as_bytes()).unwrap();
            writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), format!("LINE {number}\n").as_bytes());
        }
        writer.write_eof().await.unwrap();
        assert_eq!(reader.read_to_end().await.unwrap(), b"bye");
    });
    drop(server.stdin.take()); // tells it to end
    assert!(server.wait().unwrap().success());
}
