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
        check(Command::new(""), 2, ErrorKind::NotFound, "starting ``: ");
        let stranger = Command::new("true").join_group(i32::MAX as u32); // no group has that number
        check(stranger, 1, ErrorKind::PermissionDenied, "starting `true`: ");
        let both = [Command::own_group, Command::new_session, Command::end_group];
        for own in both {
            let error = own(Command::new("true").join_group(1)).spawn().unwrap_err();
            assert!(
                error.kind() == ErrorKind::InvalidInput && error.to_string().contains("leave out"),
                "{error}"
            );
        }
        for beyond in [i32::MAX - 1, i32::MAX] {
            let null = File::open("/dev/null").unwrap();
            let beyond = Command::new("true").inherit_fd_as(null, beyond);
            check(beyond, 22, ErrorKind::InvalidInput, "starting `true`: ");
        }
        let nul = [
            (Command::new("true").arg("a\0b"), "`true`"),
            (Command::new("true").env("A", "a\0b"), "`true`"),
            (Command::new("true").current_dir("a\0b"), "`true` in a\0b"),
            (Command::new("a\0b"), ""),
        ];
        for (command, name) in nul {
            let error = command.spawn().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(&format!("starting {name}")), "{error}");
        }
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

/// What runs a program as a user who may do less than root.
fn as_nobody() -> &'static [&'static str] {
    // A search for leaks at the end would need a process, and there may be none.
    const QUIET: &str = "ASAN_OPTIONS=detect_leaks=0";
    match rustix::process::geteuid().is_root() {
        true => &["env", QUIET, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        false => &["env", QUIET],
    }
}

#[test]
fn without_processes_it_says_so() {
    // The limit is not root's.
    alone(as_nobody(), || {
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

/// It is refused before the program is loaded, and nothing of it is left.
#[test]
fn without_permission_a_child_becomes_no_other_user() {
    alone(as_nobody(), || {
        evenloop_tests::on_loop(async {
            for command in [Command::new("true").uid(0), Command::new("true").gid(0)] {
                let error = command.spawn().unwrap_err();
                assert_eq!((os_error(&error), error.kind()), (Some(1), ErrorKind::PermissionDenied));
                assert!(error.to_string().starts_with("starting `true`: "), "{error}");
            }
            assert_eq!(children(), (vec![], vec![]));
        });
    });
}
