//! `communicate`: everything in, everything out, and what is left when it is dropped.

use super::*;

#[test]
fn communicate_moves_more_than_pipes_hold_both_ways() {
    let input: Vec<u8> = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let output = cat.communicate(&input).await.unwrap();
        assert!(output.stdout == input && output.status.success());
        // Both outputs full before the input is read.
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; cat >&2";
        let mut both = shell(script).stdin(PIPE).stdout(PIPE).stderr(PIPE).spawn().unwrap();
        let output = both.communicate(&input).await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000 + input.len()));
    });
}

/// bpo-26848: empty input hung.
#[test]
fn communicate_with_nothing_ends_the_input() {
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        assert_eq!(cat.communicate(b"").await.unwrap().stdout, b"");
        assert!(cat.stdin.is_none());
        let again = cat.communicate(b"more").await.unwrap();
        assert!(again.status.success() && again.stdout.is_empty());
        let output = Command::new("true").stdin(PIPE).spawn().unwrap().wait_with_output().await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0));
    });
}

#[test]
fn communicate_ignores_a_child_that_does_not_read() {
    let input = vec![b'x'; 1 << 20];
    on_loop(async {
        for line in ["true", "head -c 10", "exec <&-; echo done"] {
            let mut process = shell(line).stdin(PIPE).stdout(PIPE).spawn().unwrap();
            let output = process.communicate(&input).await.unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
    });
}

#[test]
fn communicate_that_is_dropped_keeps_what_it_read_and_what_it_did_not_write() {
    let input: Vec<u8> = (0..200_000).map(|n| (n % 251) as u8).collect();
    on_loop(async {
        let (gate, open) = plain_pipe();
        // Says something, waits at the gate, then reads its input.
        let command = shell("echo early; read line <&3; cat").stdin(PIPE).stdout(PIPE);
        let mut process = command.inherit_fd_as(gate, 3).spawn().unwrap();
        {
            let mut first = Box::pin(process.communicate(&input));
            let (_, waker) = Woken::waker();
            for _ in 0..1000 {
                assert!(poll(&mut first, &waker).is_pending());
                evenloop_executor::yield_now().await;
            }
        }
        (&open).write_all(b"\n").unwrap();
        let output = process.communicate(b" and the rest").await.unwrap();
        let wanted = [b"early\n", &input[..], b" and the rest"].concat();
        assert!(output.stdout == wanted, "{} bytes of {}", output.stdout.len(), wanted.len());
    });
}

#[test]
fn a_cancelled_communicate_goes_on_where_it_was() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let command = shell("echo early; read line <&3; echo late").stdout(PIPE);
        let mut process = command.inherit_fd_as(gate, 3).spawn().unwrap();
        let scope = CancelScope::new();
        {
            let mut run = pin!(scope.run(process.communicate(b"")));
            for _ in 0..100 {
                assert!(
                    future::poll_fn(|cx| std::task::Poll::Ready(run.as_mut().poll(cx))).await.is_pending()
                );
                evenloop_executor::yield_now().await;
            }
            scope.cancel("later");
            assert!(run.await.is_err());
        }
        (&open).write_all(b"\n").unwrap();
        assert_eq!(process.communicate(b"").await.unwrap().stdout, b"early\nlate\n");
    });
}

#[test]
fn a_child_that_writes_without_end_lets_others_run() {
    on_loop(async {
        let mut yes = Command::new("yes").stdout(PIPE).output_limit(64 << 20).spawn().unwrap();
        let handle = yes.handle();
        let turns = Rc::new(Cell::new(0));
        let counts = turns.clone();
        let others = create_task(async move {
            loop {
                counts.set(counts.get() + 1);
                evenloop_executor::yield_now().await;
            }
        });
        let error = yes.communicate(b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        let overrun = error.get_ref().unwrap().downcast_ref::<OutputOverrun>().unwrap();
        assert_eq!(overrun.limit_bytes, 64 << 20);
        // 64 MiB in turns of at most 1 MiB.
        assert!(turns.get() >= 64, "{} turns of others", turns.get());
        assert!(yes.stdout.as_ref().unwrap().buffered().len() > 64 << 20, "what was read is there");
        others.cancel("enough");
        handle.kill().unwrap();
    });
}

/// async-process 1.0.2: `output` let go of the child early and killed it.
#[test]
fn output_with_kill_on_drop_lets_the_child_finish() {
    on_loop(async {
        let line = "for n in 1 2 3 4 5; do echo $n; sleep 0.02; done";
        let output = shell(line).on_drop(Ending::Kill).output().await.unwrap();
        assert_eq!(output.stdout, b"1\n2\n3\n4\n5\n");
        assert!(output.status.success());
    });
}

/// tokio#3743: the parent's own copies of the pipe kept the child waiting.
#[test]
fn status_and_output_hold_no_end_of_a_pipe_that_the_child_waits_for() {
    on_loop(async {
        assert!(Command::new("cat").stdin(PIPE).stdout(DEVNULL).status().await.unwrap().success());
        assert!(Command::new("cat").stdin(PIPE).output().await.unwrap().status.success());
        assert!(Command::new("cat").output().await.unwrap().stdout.is_empty());
    });
}

#[test]
fn run_checks_the_status_and_feeds() {
    on_loop(async {
        let output = Command::new("tr").args(["a-z", "A-Z"]).run(b"hello").await.unwrap();
        assert_eq!(output.stdout, b"HELLO");
        let error = shell("echo why >&2; exit 4").run(b"").await.unwrap_err();
        let failed = CalledProcessError::of(&error).expect("a status is told");
        assert_eq!((&failed.output.stderr[..], failed.program()), (&b"why\n"[..], "/bin/sh"));
        assert_eq!(error.to_string(), "`/bin/sh` ended with exit status: 4");
    });
}

#[test]
fn a_run_that_fails_ends_its_child() {
    alone(&[], || {
        on_loop(async {
            let error = shell("exec yes").output_limit(1 << 20).output().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
            assert_eq!(children(), (vec![], vec![]));
        });
    });
}

/// What comes between the last look at the pipe and the end of the child counts, too.
#[test]
fn until_exit_keeps_to_the_limit() {
    on_loop(async {
        let (reading, writing) = plain_pipe(); // the grandchild keeps the child's output open
        let command = shell("cat <&3 & read line; printf %01000d 0").stdin(PIPE).stdout(PIPE);
        let mut process = command.inherit_fd_as(reading, 3).output_limit(100).spawn().unwrap();
        let handle = process.handle();
        let mut communicate = Box::pin(process.communicate(b"").until_exit());
        assert!(poll(&mut communicate, std::task::Waker::noop()).is_pending());
        while handle.try_wait().unwrap().is_none() {
            std::thread::yield_now(); // the loop does not turn, so it has no news of the pipe
        }
        let error = communicate.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge, "{error}");
        assert_eq!(process.stdout.as_ref().unwrap().buffered().len(), 1000, "what was read is there");
        drop(writing);
    });
}

/// A slow reader makes a slow child: what is kept here is bounded.
#[test]
fn a_slow_reader_holds_no_more_than_its_limit() {
    on_loop(async {
        let command = Command::new("head").args(["-c", "64M", "/dev/zero"]).stdout(PIPE).limit(32 * 1024);
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.as_mut().unwrap();
        let mut total = 0;
        loop {
            let n = stdout.read(10_000).await.unwrap().len();
            assert!(stdout.buffered().len() <= 64 * 1024, "{}", stdout.buffered().len());
            total += n;
            if n == 0 {
                break;
            }
            evenloop_executor::yield_now().await;
        }
        assert_eq!(total, 64 << 20);
        assert!(process.wait().await.unwrap().success());
    });
}

/// bun#33560: the child found its own stdout non-blocking, and died of EAGAIN.
#[test]
fn a_child_finds_its_pipes_blocking() {
    let flags = || [0, 1, 2].map(|fd| std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap());
    let lines = |text: [String; 3]| {
        text.map(|text| text.lines().find(|line| line.starts_with("flags")).map(str::to_owned))
    };
    let before = lines(flags());
    on_loop(async {
        let mut seq = Command::new("seq").args(["1", "300000"]).stdout(PIPE).spawn().unwrap();
        let stdout = seq.stdout.as_mut().unwrap();
        let mut next = 1;
        while let line @ [_, ..] = &stdout.readline().await.unwrap()[..] {
            assert_eq!(line, format!("{next}\n").as_bytes());
            next += 1;
            if next % 10_000 == 0 {
                evenloop_executor::yield_now().await;
            }
        }
        assert_eq!(next, 300_001);
        assert!(seq.wait().await.unwrap().success());

        // Our non-blocking ends, given to others, are blocking again.
        let mut first = Command::new("seq").args(["1", "300000"]).stdout(PIPE).spawn().unwrap();
        let last = Command::new("tail").args(["-n", "1"]).stdin(first.stdout.take().unwrap());
        assert_eq!(last.output().await.unwrap().stdout, b"300000\n");
        assert!(first.wait().await.unwrap().success());
        let inherits = shell("seq 1 10 | wc -l >&2").stdin(INHERIT).stdout(INHERIT).stderr(PIPE);
        assert_eq!(inherits.output().await.unwrap().stderr, b"10\n");
    });
    assert_eq!(lines(flags()), before);
}
