//! What do child processes cost, beside tokio, smol and std's blocking calls?
//!
//! Starting a program takes the kernel half a millisecond, so the runtimes lie close together; what they add is a few system
//! calls. Criterion's way (`cargo bench --bench streams_process`) measures one after the other; `-- --alternating` gives each
//! its turn again and again and prints medians and the medians of the differences, which is better on a noisy machine, and the
//! processor time of this process alone, which the children's work does not touch.
//!
//! Not measured: programs that take long to load, uid and gid (std forks then), thousands of children.

use criterion::{Criterion, Throughput};
use evenloop_benches::executors::with_sockets;
use evenloop_streams::process::{Command, PIPE};
use futures::future::join_all;
use std::future::Future;
use std::process::Stdio;
use std::time::{Duration, Instant};

const PROGRAM: &str = "/bin/true";
/// How much a child writes for throughput.
const BYTES: usize = 64 << 20;
/// How much a read takes at once.
const ROOM: usize = 64 * 1024;
const AT_ONCE: usize = 64;

/// One way to do all of it.
struct Way {
    name: &'static str,
    /// Starts so many programs, one after the other's end.
    in_a_row: fn(u64),
    /// Starts 64 programs, then waits for all.
    at_once: fn(),
    /// Reads what a child writes; answers how many bytes.
    read: fn() -> usize,
}

const WAYS: [Way; 4] = [
    Way {
        name: "limit: std, blocking",
        in_a_row: |times| (0..times).for_each(|_| std_run()),
        at_once: || {
            let children: Vec<_> = (0..AT_ONCE)
                .map(|_| std::process::Command::new(PROGRAM).spawn().expect("it starts"))
                .collect();
            children.into_iter().for_each(|mut child| assert!(child.wait().expect("it ends").success()));
        },
        read: || {
            use std::io::Read;
            let mut child = std_head().stdout(Stdio::piped()).spawn().expect("it starts");
            let mut stdout = child.stdout.take().expect("piped");
            let (mut room, mut total) = (vec![0; ROOM], 0);
            loop {
                match stdout.read(&mut room).expect("it writes") {
                    0 => break,
                    n => total += n,
                }
            }
            assert!(child.wait().expect("it ends").success());
            total
        },
    },
    Way {
        name: "evenloop",
        in_a_row: |times| {
            on_evenloop(async {
                for _ in 0..times {
                    let child = Command::new(PROGRAM).spawn().expect("it starts");
                    assert!(child.wait().await.expect("it ends").success());
                }
            });
        },
        at_once: || {
            on_evenloop(async {
                let children: Vec<_> =
                    (0..AT_ONCE).map(|_| Command::new(PROGRAM).spawn().expect("it starts")).collect();
                let ended = join_all(children.iter().map(|child| child.wait())).await;
                assert!(ended.into_iter().all(|status| status.expect("it ends").success()));
            });
        },
        read: || {
            use futures::AsyncReadExt;
            on_evenloop(async {
                let head = Command::new("head").args(["-c", &BYTES.to_string(), "/dev/zero"]);
                let mut child = head.stdout(PIPE).spawn().expect("it starts");
                let mut stdout = child.stdout.take().expect("piped");
                let (mut room, mut total) = (vec![0; ROOM], 0);
                loop {
                    match AsyncReadExt::read(&mut stdout, &mut room).await.expect("it writes") {
                        0 => break,
                        n => total += n,
                    }
                }
                assert!(child.wait().await.expect("it ends").success());
                total
            })
        },
    },
    Way {
        name: "tokio",
        in_a_row: |times| {
            on_tokio(async {
                for _ in 0..times {
                    let mut child = tokio::process::Command::new(PROGRAM).spawn().expect("it starts");
                    assert!(child.wait().await.expect("it ends").success());
                }
            });
        },
        at_once: || {
            on_tokio(async {
                let mut children: Vec<_> = (0..AT_ONCE)
                    .map(|_| tokio::process::Command::new(PROGRAM).spawn().expect("it starts"))
                    .collect();
                let ended = join_all(children.iter_mut().map(|child| child.wait())).await;
                assert!(ended.into_iter().all(|status| status.expect("it ends").success()));
            });
        },
        read: || {
            use tokio::io::AsyncReadExt;
            on_tokio(async {
                let mut child = tokio::process::Command::from(std_head());
                let mut child = child.stdout(Stdio::piped()).spawn().expect("it starts");
                let mut stdout = child.stdout.take().expect("piped");
                let (mut room, mut total) = (vec![0; ROOM], 0);
                loop {
                    match stdout.read(&mut room).await.expect("it writes") {
                        0 => break,
                        n => total += n,
                    }
                }
                assert!(child.wait().await.expect("it ends").success());
                total
            })
        },
    },
    Way {
        name: "smol",
        in_a_row: |times| {
            smol::block_on(async {
                for _ in 0..times {
                    let mut child = smol::process::Command::new(PROGRAM).spawn().expect("it starts");
                    assert!(child.status().await.expect("it ends").success());
                }
            });
        },
        at_once: || {
            smol::block_on(async {
                let mut children: Vec<_> = (0..AT_ONCE)
                    .map(|_| smol::process::Command::new(PROGRAM).spawn().expect("it starts"))
                    .collect();
                let ended = join_all(children.iter_mut().map(|child| child.status())).await;
                assert!(ended.into_iter().all(|status| status.expect("it ends").success()));
            });
        },
        read: || {
            use futures::AsyncReadExt;
            smol::block_on(async {
                let mut child = smol::process::Command::from(std_head());
                let mut child = child.stdout(Stdio::piped()).spawn().expect("it starts");
                let mut stdout = child.stdout.take().expect("piped");
                let (mut room, mut total) = (vec![0; ROOM], 0);
                loop {
                    match stdout.read(&mut room).await.expect("it writes") {
                        0 => break,
                        n => total += n,
                    }
                }
                assert!(child.status().await.expect("it ends").success());
                total
            })
        },
    },
];

fn std_run() {
    let mut child = std::process::Command::new(PROGRAM).spawn().expect("it starts");
    assert!(child.wait().expect("it ends").success());
}

fn std_head() -> std::process::Command {
    let mut head = std::process::Command::new("head");
    head.args(["-c", &BYTES.to_string(), "/dev/zero"]);
    head
}

fn on_evenloop<F: Future>(future: F) -> F::Output {
    with_sockets().build().run_until_complete(future)
}

fn on_tokio<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    runtime.block_on(future)
}

fn main() {
    if std::env::args().any(|argument| argument == "--alternating") {
        return alternating();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("spawn_and_wait");
    group.sample_size(20).throughput(Throughput::Elements(1));
    for way in WAYS {
        group.bench_function(way.name, |bencher| {
            bencher.iter_custom(|times| timed(|| (way.in_a_row)(times)));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("64_at_once");
    group.sample_size(10).throughput(Throughput::Elements(AT_ONCE as u64));
    for way in WAYS {
        group.bench_function(way.name, |bencher| bencher.iter(way.at_once));
    }
    group.finish();
    let mut group = criterion.benchmark_group("pipe_64_mib");
    group.sample_size(10).throughput(Throughput::Bytes(BYTES as u64));
    for way in WAYS {
        group.bench_function(way.name, |bencher| bencher.iter(|| assert_eq!((way.read)(), BYTES)));
    }
    group.finish();
    criterion.final_summary();
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// How long this process has been on a processor.
fn own() -> Duration {
    let times = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(times.tv_sec.unsigned_abs(), times.tv_nsec as u32)
}

/// What it is, its unit, that unit in seconds, and how it is done.
type Situation = (&'static str, &'static str, f64, fn(&Way));

fn alternating() {
    const ROUNDS: usize = 101;
    /// Added to the round's number: in four rounds everybody comes once right after each of the others.
    const ORDER: [usize; WAYS.len()] = [0, 1, 3, 2];
    let situations: [Situation; 3] = [
        ("spawn + wait, 16 in a row", "µs each", 16e-6, |way| (way.in_a_row)(16)),
        ("64 at once", "µs each", 64e-6, |way| (way.at_once)()),
        ("64 MiB through a pipe", "ms", 1e-3, |way| assert_eq!((way.read)(), BYTES)),
    ];
    for (what, unit, scale, work) in situations {
        let mut took = WAYS.map(|_| vec![]);
        let mut busy = WAYS.map(|_| vec![]);
        for round in 0..ROUNDS {
            for turn in ORDER {
                let place = (turn + round) % WAYS.len();
                let before = own();
                took[place].push(timed(|| work(&WAYS[place])).as_secs_f64() / scale);
                busy[place].push((own() - before).as_secs_f64() / scale);
            }
        }
        println!("{what}: {unit}, and this process's own processor time, each as");
        println!("  median, lower quarter, and the median of what evenloop took less in the same round");
        for (place, way) in WAYS.iter().enumerate() {
            print!("  {:22}", way.name);
            for measured in [&took, &busy] {
                let mut less: Vec<_> =
                    measured[place].iter().zip(&measured[1]).map(|(theirs, ours)| theirs - ours).collect();
                let mut all = measured[place].clone();
                all.sort_by(f64::total_cmp);
                less.sort_by(f64::total_cmp);
                print!(" {:8.1} {:8.1} {:+8.2} |", all[ROUNDS / 2], all[ROUNDS / 4], less[ROUNDS / 2]);
            }
            println!();
        }
    }
}
