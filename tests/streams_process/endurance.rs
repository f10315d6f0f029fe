//! Many children: nothing is left of them, and each costs few system calls.

use super::*;
use evenloop_tests::syscalls::{per_round, rounds};

/// Many at once and many in a row, with random kills, drops and failed starts: no zombie and no descriptor is left.
///
/// A few in the quick run; `EVENLOOP_CHILDREN=20000` in the long one.
#[test]
fn many_children_leave_nothing_behind() {
    alone(&[], || {
        let many = std::env::var("EVENLOOP_CHILDREN").ok().and_then(|many| many.parse().ok()).unwrap_or(400);
        let at_once = many.min(1000) / 2;
        let mut random = fastrand::Rng::with_seed(9);
        let since = Instant::now();
        let (mut waited, mut dropped, mut failed) = (0, 0, 0);
        let event_loop = evenloop::new_event_loop();
        event_loop.run_until_complete(async {
            warm_up().await;
        });
        let before = descriptors();
        event_loop.run_until_complete(async {
            let all: Vec<_> = (0..at_once * 2)
                .map(|_| Command::new("cat").stdin(PIPE).stdout(DEVNULL).spawn().unwrap())
                .collect();
            for mut process in all {
                match random.u8(0..4) {
                    0 => process.stdin = None,
                    1 => process.kill().unwrap(),
                    _ => {
                        dropped += 1;
                        process.kill().unwrap();
                        continue;
                    }
                }
                process.wait().await.unwrap();
                waited += 1;
            }
            for _ in 0..many {
                let endings = [Ending::Leave, Ending::Kill, Ending::terminate(Duration::from_millis(5))];
                let command = match random.u8(0..10) {
                    0 => Command::new("no-such-program").stdin(PIPE).stdout(PIPE),
                    1..5 => Command::new("true").stdout(PIPE),
                    _ => Command::new("cat").stdin(PIPE).stdout(PIPE),
                };
                let Ok(mut process) = command.on_drop(endings[random.usize(0..3)]).spawn() else {
                    failed += 1;
                    continue;
                };
                match random.u8(0..5) {
                    0 => drop(process),
                    1 => {
                        process.kill().unwrap();
                        drop(process);
                    }
                    2 => {
                        process.kill().unwrap();
                        process.wait().await.unwrap();
                    }
                    3 => drop(process.communicate(b"some")),
                    _ => {
                        process.communicate(b"some").await.unwrap();
                    }
                }
            }
        });
        let children_left = || children() != (vec![], vec![]) || descriptors() > before;
        let patience = Instant::now();
        while children_left() {
            assert!(
                patience.elapsed() < Duration::from_secs(5),
                "{:?}, {} of {before}",
                children(),
                descriptors()
            );
            event_loop.run_until_complete(evenloop_executor::yield_now());
        }
        assert!(failed > 0 && dropped > 0 && waited > 0);
        println!(
            "{} at once, {many} in a row ({failed} not started) in {:.1?}",
            at_once * 2,
            since.elapsed()
        );
    });
}

/// The reactor is told of a child once, waits once, and the child is reaped once: closing the pidfd takes it off the list.
#[test]
fn a_child_is_registered_once_waited_for_once_and_reaped_once() {
    if by_threads() {
        return;
    }
    let Some(rounds) = rounds() else {
        let test = "endurance::a_child_is_registered_once_waited_for_once_and_reaped_once";
        let Some(calls) = per_round(test, 10, 110) else { return };
        println!("system calls a child, its own among them: {calls:?}");
        for once in ["pidfd_open", "epoll_ctl", "epoll_wait", "waitid"] {
            assert!((0.95..1.05).contains(&calls[once]), "{once}: {calls:?}");
        }
        return;
    };
    on_loop(async {
        for _ in 0..rounds {
            assert!(Command::new("/bin/true").spawn().unwrap().wait().await.unwrap().success());
        }
    });
}
