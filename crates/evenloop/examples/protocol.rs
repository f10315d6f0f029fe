//! Transports and protocols: which method is called when, flow control, and the same for datagrams.
//!
//! ```text
//! cargo run -p evenloop --example protocol
//! cargo run -p evenloop --example protocol -- 5 40     # five datagrams, forty megabytes
//! ```

use evenloop::streams::{DatagramProtocol, DatagramTransport, Protocol, Transport};
use evenloop::sync::Event;
use evenloop::{create_connection, create_datagram_endpoint, create_server};
use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

const CHUNK: usize = 64 * 1024;

/// Sends so many bytes as soon as somebody says hello, no faster than they are taken.
struct Sender {
    left: Cell<usize>,
    paused: Cell<bool>,
    pauses: Rc<Cell<usize>>,
    transport: OnceCell<Transport>,
}

impl Sender {
    fn go_on(&self) {
        let transport = self.transport.get().expect("made before anything else");
        while self.left.get() > 0 && !self.paused.get() {
            let bytes = self.left.get().min(CHUNK);
            self.left.set(self.left.get() - bytes);
            if transport.write(&vec![b'x'; bytes]).is_err() {
                return; // `connection_lost` tells why
            }
        }
        if self.left.get() == 0 && !transport.is_closing() {
            transport.close();
        }
    }
}

impl Protocol for Sender {
    fn connection_made(&self, transport: Transport) {
        let _ = self.transport.set(transport);
    }

    fn data_received(&self, _: &[u8]) {
        self.go_on();
    }

    fn pause_writing(&self) {
        self.paused.set(true); // inside the `write` above
        self.pauses.set(self.pauses.get() + 1);
    }

    fn resume_writing(&self) {
        self.paused.set(false);
        self.go_on();
    }
}

/// Says hello, and counts what comes; says which method is called.
struct Receiver {
    came: Cell<usize>,
    lost: Rc<Event>,
}

impl Protocol for Receiver {
    fn connection_made(&self, transport: Transport) {
        println!("connection_made");
        let _ = transport.write(b"hello");
    }

    fn data_received(&self, data: &[u8]) {
        if self.came.replace(self.came.get() + data.len()) == 0 {
            println!("data_received, for the first time");
        }
    }

    fn eof_received(&self) -> bool {
        println!("eof_received, after {} bytes", self.came.get());
        false
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        println!("connection_lost: {error:?}");
        self.lost.set();
    }
}

/// Sends back each datagram.
#[derive(Default)]
struct Echo(OnceCell<DatagramTransport>);

impl DatagramProtocol for Echo {
    fn connection_made(&self, transport: DatagramTransport) {
        let _ = self.0.set(transport);
    }

    fn datagram_received(&self, data: &[u8], from: SocketAddr) {
        let _ = self.0.get().expect("made before data").sendto(data, from);
    }
}

/// Sends the next datagram when the one before has come back.
struct PingPong {
    left: Cell<usize>,
    over: Rc<Event>,
    transport: OnceCell<DatagramTransport>,
}

impl DatagramProtocol for PingPong {
    fn connection_made(&self, transport: DatagramTransport) {
        let _ = transport.sendto(format!("ping {}", self.left.get()).as_bytes(), None);
        let _ = self.transport.set(transport);
    }

    fn datagram_received(&self, data: &[u8], _: SocketAddr) {
        println!("datagram_received: {}", String::from_utf8_lossy(data));
        self.left.set(self.left.get() - 1);
        let transport = self.transport.get().expect("made before data");
        match self.left.get() {
            0 => transport.close(),
            left => drop(transport.sendto(format!("ping {left}").as_bytes(), None)),
        }
    }

    fn connection_lost(&self, error: Option<io::Error>) {
        println!("connection_lost: {error:?}");
        self.over.set();
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let datagrams: usize = args.next().map_or(2, |number| number.parse().expect("a number of datagrams"));
    let megabytes: usize = args.next().map_or(20, |number| number.parse().expect("a number of megabytes"));
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    evenloop::run(async move {
        let pauses = Rc::new(Cell::new(0));
        let counts = pauses.clone();
        let sender = move || Sender {
            left: Cell::new(megabytes << 20),
            paused: Cell::new(false),
            pauses: counts.clone(),
            transport: OnceCell::new(),
        };
        let server = create_server(sender, anywhere)?;
        let port = server.local_addr().expect("TCP has a port").port();
        let lost = Rc::new(Event::new());
        let receiver = || Receiver { came: Cell::new(0), lost: lost.clone() };
        let (_transport, _protocol) = create_connection(receiver, "127.0.0.1", port).await?;
        lost.wait().await;
        server.close();
        server.wait_closed().await;
        println!("the sender was paused on its way: {}", pauses.get() > 0);

        let (echo, _) = create_datagram_endpoint(Echo::default, Some(anywhere), None)?;
        let address = echo.extra_info().sockname.and_then(|name| name.inet());
        let over = Rc::new(Event::new());
        let ping = || PingPong { left: Cell::new(datagrams), over: over.clone(), transport: OnceCell::new() };
        create_datagram_endpoint(ping, None, address)?;
        over.wait().await;
        echo.close();
        Ok(())
    })
}
