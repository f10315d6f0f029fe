//! Children that are no longer wanted: dropped, cancelled, asked and killed.

use super::*;

#[test]
fn a_dropped_handle_does_as_it_was_told() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let stays = Command::new("cat").stdin(gate).stdout(DEVNULL).spawn().unwrap();
        let watched = stays.handle();
        drop(stays);
        assert_eq!(watched.returncode(), None, "it runs on");
        drop(open);
        assert!(watched.wait().await.unwrap().success());

        let killed = Command::new("cat").stdin(PIPE).on_drop(Ending::Kill).spawn().unwrap();
        let watched = killed.handle();
        drop(killed);
        assert_eq!(watched.wait().await.unwrap().signal(), Some(9));

        let asked = shell("trap 'exit 6' TERM; echo; while :; do read x; done").stdin(PIPE).stdout(PIPE);
        let mut asked = asked.on_drop(Ending::terminate(Duration::from_secs(20))).spawn().unwrap();
        asked.stdout.as_mut().unwrap().readline().await.unwrap();
        let (watched, _holds) = (asked.handle(), (asked.stdin.take(), asked.stdout.take()));
        drop(asked);
        assert_eq!(watched.wait().await.unwrap().code(), Some(6));

        let deaf = shell("trap '' TERM; echo; while :; do read x; done").stdin(PIPE).stdout(PIPE);
        let mut deaf = deaf.on_drop(Ending::terminate(Duration::from_millis(20))).spawn().unwrap();
        deaf.stdout.as_mut().unwrap().readline().await.unwrap();
        let (watched, _holds) = (deaf.handle(), (deaf.stdin.take(), deaf.stdout.take()));
        drop(deaf);
        assert_eq!(watched.wait().await.unwrap().signal(), Some(9));
    });
}

/// Cancelled: asked to end, waited for, and only then does the cancellation go on.
#[test]
fn a_cancelled_run_ends_its_child_first() {
    on_loop(async {
        for (line, ending, wanted) in [
            (
                "trap 'echo end >&3; exit 6' TERM; echo up >&3; while :; do sleep 0.01; done",
                Ending::terminate(Duration::from_secs(20)),
                "up\nend\n",
            ),
            (
                "trap '' TERM; echo up >&3; while :; do sleep 0.01; done",
                Ending::terminate(Duration::from_millis(20)),
                "up\n",
            ),
            (
                // Not SIGINT: a shell cannot trap what it finds ignored, as in the background of another one.
                "trap 'echo asked >&3; exit' USR1; echo up >&3; while :; do sleep 0.01; done",
                Ending::Ask { signal: SignalKind::USER_1, grace: Duration::from_secs(20) },
                "up\nasked\n",
            ),
            ("echo up >&3; while :; do sleep 0.01; done", Ending::Kill, "up\n"),
        ] {
            let (reading, writing) = plain_pipe();
            let told = evenloop_streams::pipe::Receiver::from_fd(reading).unwrap();
            let mut told = StreamReader::new(told);
            let scope = CancelScope::new();
            let command = shell(line).on_cancel(ending).inherit_fd_as(writing, 3);
            let run = create_task({
                let scope = scope.clone();
                async move { scope.run(command.output()).await.map(|_| ()) }
            });
            let mut all = told.readline().await.unwrap();
            scope.cancel("enough");
            assert_eq!(run.await.unwrap_err().text(), Some("enough"));
            all.extend(told.read_to_end().await.unwrap());
            assert_eq!(String::from_utf8_lossy(&all), wanted, "{line}");
        }
    });
}

#[test]
fn a_timeout_around_output_ends_the_child() {
    on_loop(async {
        let command = Command::new("cat").stdin(PIPE).on_cancel(Ending::Kill);
        let mut process = command.stdout(PIPE).spawn().unwrap();
        let (handle, _holds) = (process.handle(), process.stdin.take());
        let elapsed = evenloop_time::timeout(Duration::from_millis(5), process.complete(b"")).await;
        assert!(elapsed.is_err());
        assert_eq!(handle.returncode(), Some(-9), "it was waited for");
    });
}

#[test]
fn a_second_cancellation_waits_for_the_childs_end() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command =
            shell("trap 'read x <&3; exit 0' TERM; echo; while :; do read y; done").stdin(PIPE).stdout(PIPE);
        let mut process = command
            .on_cancel(Ending::terminate(Duration::from_secs(20)))
            .inherit_fd_as(gate, 3)
            .spawn()
            .unwrap();
        process.stdout.as_mut().unwrap().readline().await.unwrap();
        let (handle, _holds) = (process.handle(), process.stdin.take());
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move { scope.run(process.complete(b"")).await.map(|_| ()) }
        });
        for _ in 0..3 {
            evenloop_executor::yield_now().await;
            scope.cancel("now");
        }
        for _ in 0..100 {
            evenloop_executor::yield_now().await;
        }
        assert!(!task.done() && handle.returncode().is_none());
        (&open).write_all(b"\n").unwrap();
        assert!(task.await.is_err());
        assert_eq!(handle.returncode(), Some(0));
    });
}

#[test]
fn leave_means_leave() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command =
            Command::new("cat").stdin(gate).stdout(PIPE).on_cancel(Ending::Leave).on_drop(Ending::Kill);
        let process = command.spawn().unwrap();
        let handle = process.handle();
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move { scope.run(process.complete(b"")).await.map(|_| ()) }
        });
        evenloop_executor::yield_now().await;
        scope.cancel("let it be");
        assert!(task.await.is_err());
        assert_eq!(handle.returncode(), None);
        drop(open);
        assert!(handle.wait().await.unwrap().success());
    });
}

#[test]
fn ending_the_group_leaves_nobody_behind() {
    on_loop(async {
        for ending in [Ending::Kill, Ending::terminate(Duration::from_secs(20))] {
            // The grandchild is deaf to SIGTERM, so it outlives its parent and is killed when that is reaped.
            let line = "(trap '' TERM; echo here; exec sleep 100) & echo $!; wait";
            let mut process = shell(line).stdout(PIPE).end_group().spawn().unwrap();
            let stdout = process.stdout.as_mut().unwrap();
            let both = [stdout.readline().await.unwrap(), stdout.readline().await.unwrap()].concat();
            let grandchild = String::from_utf8_lossy(&both).replace("here\n", "").trim().parse().unwrap();
            let status = process.end(ending).await.unwrap();
            assert!(status.signal().is_some(), "{status}");
            gone(grandchild).await;
        }
        let line = "sleep 100 & echo $!; wait";
        let mut process = shell(line).stdout(PIPE).end_group().on_drop(Ending::Kill).spawn().unwrap();
        let line = process.stdout.as_mut().unwrap().readline().await.unwrap();
        drop(process);
        gone(String::from_utf8_lossy(&line).trim().parse().unwrap()).await;
    });
}

#[test]
fn catching_code_may_end_a_child_in_its_own_way() {
    on_loop(async {
        let scope = CancelScope::new();
        let task = create_task({
            let scope = scope.clone();
            async move {
                let body = async {
                    let mut bc = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
                    if let Err(cancelled) = catch_cancel(bc.wait()).await {
                        bc.stdin.as_mut().unwrap().write(b"quit\n").unwrap();
                        assert_eq!(bc.communicate(b"").await.unwrap().stdout, b"quit\n");
                        cancelled.resume().await;
                    }
                };
                scope.run(body).await
            }
        });
        evenloop_executor::yield_now().await;
        scope.cancel("quit");
        assert!(task.await.is_err());
    });
}
