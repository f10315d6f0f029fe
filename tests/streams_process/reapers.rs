//! What is told where somebody else reaps our children.

use super::*;

#[test]
fn ignored_sigchld_is_told() {
    alone(&["env", "--ignore-signal=CHLD"], || {
        evenloop_tests::on_loop(async {
            warm_up().await;
            let before = descriptors();
            for _ in 0..10 {
                let process = Command::new("true").spawn().unwrap();
                let error = process.wait().await.unwrap_err();
                assert_eq!(os_error(&error), Some(10), "{error}");
                let text = error.to_string();
                assert!(
                    text.starts_with("waiting for `true` (process ") && text.contains("SIGCHLD"),
                    "{text}"
                );
                assert_eq!(process.returncode(), Some(255), "as asyncio says it");
                process.kill().unwrap();
                process.wait().await.unwrap_err();
            }
            assert_eq!(descriptors(), before);
            let error = Command::new("echo").output().await.unwrap_err();
            assert!(error.to_string().contains("`echo`"), "{error}");
        });
        assert_eq!(children(), (vec![], vec![]));
    });
}

fn there_are_pidfds() -> bool {
    rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).is_ok()
}

#[test]
fn a_foreign_reaper_is_told() {
    alone(&[], || {
        evenloop_tests::on_loop(async {
            warm_up().await;
            let before = descriptors();
            let mut process = patient();
            let handle = process.handle();
            let waits = create_task(async move { handle.wait().await });
            evenloop_executor::yield_now().await;
            process.stdin = None;
            // Somebody who waits for all children, before the loop turns.
            while exists(process.pid()) {
                let _ = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            match waits.await {
                // A thread of ours may have been faster, also where the kernel has no pidfds, or none left.
                Ok(status) => assert!((by_threads() || !there_are_pidfds()) && status.success()),
                Err(error) => {
                    assert!(error.to_string().contains("another part of this process"), "{error}");
                    assert_eq!((os_error(&error), process.returncode()), (Some(10), Some(255)));
                }
            }
            process.kill().unwrap();
            drop(process);
            assert_eq!(descriptors(), before);
        });
    });
}

/// tokio#2907, tokio-process#19: children that nobody waited for stayed zombies until the next was started.
#[test]
fn a_thousand_that_are_dropped_leave_no_zombie() {
    alone(&[], || {
        evenloop_tests::on_loop(async {
            warm_up().await;
            for _ in 0..1000 {
                drop(Command::new("true").spawn().unwrap());
            }
        });
        no_zombies_soon();
        let since = Instant::now();
        while !children().1.is_empty() {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "they end by themselves, on a busy machine too"
            );
        }
        no_zombies_soon();
    });
}

/// gh-114177: the loop closed right after a kill.
#[test]
fn a_loop_that_ends_with_children_leaves_no_zombie() {
    alone(&[], || {
        let (gate, open) = plain_pipe();
        let (mut kept, mut stay, mut killed) = (Vec::new(), Vec::new(), Vec::new());
        evenloop_tests::on_loop(async {
            for number in 0..10 {
                let command = Command::new("cat").stdin(gate.try_clone().unwrap()).stdout(DEVNULL);
                let ends = number % 2 == 0;
                let process =
                    command.on_drop(if ends { Ending::Kill } else { Ending::Leave }).spawn().unwrap();
                let handle = process.handle();
                match number % 4 {
                    0 => killed.push(handle),
                    1 => stay.push(handle),
                    2 => {
                        killed.push(handle);
                        // Its owner is a task that the end of the loop drops.
                        drop(create_task(async move { process.wait().await.map(|_| ()) }));
                        continue;
                    }
                    _ => {
                        stay.push(handle);
                        kept.push(process);
                        continue;
                    }
                }
                drop(process);
            }
            evenloop_executor::yield_now().await;
        });
        drop(gate);
        for handle in killed {
            assert_eq!(futures::executor::block_on(handle.wait()).unwrap().signal(), Some(9));
        }
        assert_eq!(children().1.len(), stay.len(), "the others run on");
        assert!(stay.iter().all(|handle| handle.returncode().is_none()));
        drop(open);
        for handle in stay {
            assert!(futures::executor::block_on(handle.wait()).unwrap().success());
        }
        drop(kept);
        no_zombies_soon();
        assert_eq!(children().1, []);
    });
}

/// In a container the first process is often a server: its own children are nobody else's to wait for.
#[test]
fn the_first_process_of_a_container_has_children() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may make a namespace here
    }
    let wrapper = ["unshare", "--pid", "--fork", "--mount-proc"];
    alone(&wrapper, || {
        assert_eq!(std::process::id(), 1);
        evenloop_tests::on_loop(async {
            assert!(Command::new("true").status().await.unwrap().success());
            drop(patient());
            // An orphan that this process inherits is no child of ours to be taken for one.
            let output = shell("true & exec echo done").output().await.unwrap();
            assert_eq!(output.stdout, b"done\n");
            let process = patient();
            process.kill().unwrap();
            assert_eq!(process.wait().await.unwrap().signal(), Some(9));
        });
    });
}
