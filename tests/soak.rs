//! A program that uses everything at once, again and again, and must not grow.
//!
//! Each round is a loop of its own on real sockets: connections that echo, tasks that hand items through a queue and
//! answers through oneshots, a lock wanted by all, time-outs of a seeded length that cut all of this off anywhere, and
//! threads. After a few rounds to warm up, descriptors and threads must stay the same and memory within a bound.
//!
//! `cargo test` runs a few rounds; `cargo xtask soak --minutes N` runs for as long as asked.

use evenloop::streams::{StreamReader, StreamWriter};
use evenloop::sync::{Lock, Queue, oneshot};
use evenloop::{EventLoop, create_task, new_event_loop, open_connection, start_server, timeout};
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

const WARM_UP: u32 = 5;
const ROUNDS: u32 = 12;
const CONNECTIONS: usize = 20;
const REQUESTS: u64 = 200;

/// Memory may wander by so much: allocators keep pages of their own.
const WANDER_KIB: u64 = 8 * 1024;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let minutes = arguments
        .windows(2)
        .find(|pair| pair[0] == "--minutes")
        .map(|pair| pair[1].parse::<f64>().unwrap_or_else(|error| panic!("--minutes {}: {error}", pair[1])));
    let end = minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(minutes * 60.0));
    let mut random = fastrand::Rng::with_seed(444);
    let mut at_first = None;
    let (mut round, mut cut_off, mut done) = (0_u32, 0_u64, 0_u64);
    while end.map_or(round < ROUNDS, |end| Instant::now() < end) {
        let event_loop = new_event_loop();
        let (answered, lost) = event_loop.run_until_complete(all_at_once(&mut random));
        finish(event_loop);
        round += 1;
        done += answered;
        cut_off += lost;
        if round >= WARM_UP {
            let now = Usage::settled();
            now.assert_no_more_than(*at_first.get_or_insert(now), round);
        }
    }
    assert!(
        round > WARM_UP,
        "after {round} rounds nothing has been compared, the first {WARM_UP} being there to warm up: cargo xtask soak \
         --minutes N, with a larger N"
    );
    assert!(done > 0 && cut_off > 0, "both ways out were taken: {done} answered, {cut_off} cut off");
    println!("soak: {round} rounds, {done} requests answered, {cut_off} cut off, {:?}", Usage::now());
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Usage {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl Usage {
    fn now() -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        Self {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            resident_kib: resident.unwrap_or(0),
        }
    }

    /// As soon as this thread is alone. Those of a closed loop are told to end, then take a moment, and until then one may hold a
    /// waker, and with it the loop's descriptors.
    fn settled() -> Self {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Self::now();
            if now.threads == 1 || Instant::now() > patience {
                return now;
            }
            std::thread::yield_now();
        }
    }

    fn assert_no_more_than(self, first: Self, round: u32) {
        assert!(
            self.descriptors <= first.descriptors,
            "descriptors grow: {first:?}, in round {round} {self:?}"
        );
        assert_eq!(self.threads, 1, "threads are left in round {round}: {self:?}");
        let bound = first.resident_kib + WANDER_KIB;
        assert!(self.resident_kib <= bound, "memory grows: {first:?}, in round {round} {self:?}");
    }
}

/// Closing gives back what tasks that were cut off still hold.
fn finish(event_loop: EventLoop) {
    event_loop.close();
    assert_eq!(event_loop.tasks_alive(), 0);
}

/// A question, and where its answer goes.
type Request = (u64, oneshot::Sender<u64>);

/// One round. Answers how many requests were answered in time, and how many were not.
async fn all_at_once(random: &mut fastrand::Rng) -> (u64, u64) {
    let requests: Rc<Queue<Request>> = Rc::new(Queue::new(4));
    let total = Rc::new(Lock::new(0_u64));
    let worker = create_task({
        let (requests, total) = (requests.clone(), total.clone());
        async move {
            while let Ok((question, answer)) = requests.get().await {
                *total.acquire().await += question;
                // Who asked may have been cut off.
                let _ = answer.send(question * 2);
            }
        }
    });
    let (answered, lost) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut askers = Vec::new();
    for question in 0..REQUESTS {
        let (requests, answered, lost) = (requests.clone(), answered.clone(), lost.clone());
        // Some have no time at all, most have enough.
        let patience = Duration::from_micros(random.u64(0..20_000));
        askers.push(create_task(async move {
            let asked = timeout(patience, async {
                let (sender, receiver) = oneshot::channel();
                assert!(requests.put((question, sender)).await.is_ok(), "nobody shuts the queue down");
                receiver.await
            });
            match asked.await {
                Ok(answer) => {
                    assert_eq!(answer, Ok(question * 2));
                    answered.set(answered.get() + 1);
                }
                Err(_) => lost.set(lost.get() + 1),
            }
        }));
    }
    echoes().await.expect("loopback takes connections");
    let elsewhere = evenloop::to_thread(|| 6 * 7).await;
    assert_eq!(elsewhere, 42);
    for asker in askers {
        asker.await;
    }
    worker.cancel("the round is over");
    (answered.get(), lost.get())
}

/// Connections that say something and hear it again; half of the clients leave without a word.
async fn echoes() -> io::Result<()> {
    let server = start_server(echo, ([127, 0, 0, 1], 0).into())?;
    let port = server.local_addr().expect("TCP has a port").port();
    let mut clients = Vec::new();
    for number in 0..CONNECTIONS {
        clients.push(create_task(async move {
            let (mut reader, mut writer) = open_connection("127.0.0.1", port).await?;
            if number % 2 == 0 {
                return Ok(());
            }
            writer.write(b"again\n")?;
            writer.drain().await?;
            assert_eq!(reader.readline().await?, b"again\n");
            writer.close();
            writer.wait_closed().await
        }));
    }
    for client in clients {
        client.await.or_else(|error: io::Error| {
            // A server that is overrun may refuse; anything else is news.
            if error.kind() == io::ErrorKind::ConnectionRefused { Ok(()) } else { Err(error) }
        })?;
    }
    Ok(())
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    while let line @ [_, ..] = &reader.readline().await?[..] {
        writer.write(line)?;
        writer.drain().await?;
    }
    writer.close();
    writer.wait_closed().await
}
