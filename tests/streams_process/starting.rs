//! What can go wrong when a child is started, and starting off the loop.

use super::*;

#[test]
fn starting_off_the_loop_does_not_block_it() {
    on_loop(async {
        let mut start = Box::pin(Command::new("echo").arg("there").stdout(PIPE).spawn_off_loop());
        let mut process = start.as_mut().await.unwrap();
        assert_eq!(process.communicate(b"").await.unwrap().stdout, b"there\n");
        let error = Command::new("no-such-program").spawn_off_loop().await.unwrap_err();
        assert!(error.to_string().starts_with("starting `no-such-program`: "), "{error}");

        // Dropped while it is being made: killed, not left.
        let (gate, open) = plain_pipe();
        let told = tempfile::NamedTempFile::new().unwrap();
        let line = format!("echo $$ > {}; exec cat", told.path().display());
        let mut start = Box::pin(shell(&line).stdin(gate).stdout(DEVNULL).spawn_off_loop());
        drop(poll(&mut start, std::task::Waker::noop())); // begun; on another thread, so perhaps made already
        drop(start);
        drop(open);
    });
}

/// Each says what was to be started, and where.
#[test]
fn what_cannot_be_started_says_so_by_name() {
    fn check(command: Command, number: i32, kind: ErrorKind, text: &str) {
        let error = command.spawn().unwrap_err();
        assert_eq!((os_error(&error), error.kind()), (Some(number), kind), "{error}");
        assert!(error.to_string().starts_with(text), "{error}");
    }
    on_loop(async {
        check(Command::new("no-such-program"), 2, ErrorKind::NotFound, "starting `no-such-program`: ");
        check(Command::new("/"), 13, ErrorKind::PermissionDenied, "starting `/`: ");
        let nowhere = Command::new("true").current_dir("/nowhere");
        check(nowhere, 2, ErrorKind::NotFound, "starting `true` in /nowhere: ");
        check(
            Command::new("true").arg("x".repeat(1 << 20)),
            7,
            ErrorKind::ArgumentListTooLong,
            "starting `true`: ",
        );
        // The same after a fork.
        check(
            Command::new("no-such-program").umask(0),
            2,
            ErrorKind::NotFound,
            "starting `no-such-program`: ",
        );
        let error = Command::new("true").arg("a\0b").spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
    let error = Command::new("true").spawn().unwrap_err();
    assert!(error.to_string().contains("Command::spawn"), "{error}");
}

#[test]
fn without_descriptors_it_says_so_and_loses_none() {
    alone(&[], || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        evenloop_tests::on_loop(async {
            warm_up().await;
            let (limits, used) = (getrlimit(Resource::Nofile), descriptors() as u64 - 1);
            let mut failed = 0;
            for more in 0..12 {
                setrlimit(Resource::Nofile, Rlimit { current: Some(used + more), maximum: limits.maximum })
                    .unwrap();
                let started = Command::new("cat").stdin(PIPE).stdout(PIPE).stderr(PIPE).spawn();
                setrlimit(Resource::Nofile, limits).unwrap();
                match started {
                    Ok(mut process) => assert!(process.communicate(b"").await.unwrap().status.success()),
                    Err(error) => {
                        failed += 1;
                        assert_eq!(os_error(&error), Some(24), "{error}");
                        assert!(error.to_string().starts_with("starting `cat`: "), "{error}");
                    }
                }
                assert_eq!(descriptors() as u64 - 1, used, "with room for {more}");
            }
            assert!((4..12).contains(&failed), "{failed} of 12 failed");
        });
        no_zombies_soon();
    });
}

#[test]
fn without_processes_it_says_so() {
    const QUIET: &str = "ASAN_OPTIONS=detect_leaks=0";
    // The limit is not root's. A search for leaks at the end would need a process.
    let user: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["env", QUIET, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        false => &["env", QUIET],
    };
    alone(user, || {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        evenloop_tests::on_loop(async {
            let limits = getrlimit(Resource::Nproc);
            setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: limits.maximum }).unwrap();
            let error = Command::new("true").spawn().unwrap_err();
            assert_eq!(os_error(&error), Some(11), "{error}");
            assert!(error.to_string().starts_with("starting `true`: "), "{error}");
        });
    });
}
