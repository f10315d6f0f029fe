//! What a child finds: arguments, environment, folder, descriptors, groups, signals.

use super::*;

#[test]
fn arguments_environment_directory_and_umask_are_the_childs() {
    on_loop(async {
        let output = shell("echo $0 $A $B ${HOME-none}; pwd; umask").arg("me").env_clear().env("A", "1");
        let output = output.envs([("B", "2"), ("C", "3")]).env_remove("C").current_dir("/").umask(0o027);
        let output = output.output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "me 1 2 none\n/\n0027\n");
        let output =
            Command::new("sh").arg0("another").args(["-c", "cat /proc/$$/cmdline"]).output().await.unwrap();
        assert!(output.stdout.starts_with(b"another\0"), "{output:?}");
    });
}

#[test]
fn a_child_may_be_another_user() {
    if !rustix::process::geteuid().is_root() {
        return; // only root may
    }
    on_loop(async {
        let output = shell("id -u; id -g; id -G").uid(12345).gid(23456).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "12345\n23456\n23456\n");
    });
}

#[test]
fn descriptors_come_under_their_numbers_and_no_others_do() {
    alone(&[], || {
        let list = ["-c", "ls /proc/$$/fd"];
        let known = std::process::Command::new("sh").args(list).output().unwrap().stdout;
        evenloop_tests::on_loop(async {
            // One of each kind that there is.
            let address: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
            let listener = evenloop_streams::TcpListener::bind(address).unwrap();
            let stream = evenloop_streams::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            let pair = evenloop_streams::UnixStream::pair().unwrap();
            let udp = evenloop_streams::UdpSocket::bind(address).unwrap();
            let pipe = evenloop_streams::pipe::pipe().unwrap();
            let hangup =
                evenloop_streams::signal::signal(evenloop_streams::signal::SignalKind::HANGUP).unwrap();
            let mut child = patient();
            drop(patient()); // the reaper has descriptors, too
            let output = Command::new("sh").args(list).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&known));
            drop((listener, stream, accepted, pair, udp, pipe, hangup));
            child.stdin = None;
            child.wait().await.unwrap();

            // Crossed over, and one under the number it has.
            let file = |text: &str| {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                file.rewind().unwrap();
                OwnedFd::from(file)
            };
            let (one, two, stays) = (file("one "), file("two "), file("stays"));
            use std::os::fd::AsRawFd;
            let (first, second, own) = (one.as_raw_fd(), two.as_raw_fd(), stays.as_raw_fd());
            let line = format!("cat <&{first}; cat <&{second}; cat <&{own}; cat <&9");
            let command = shell(&line).inherit_fd_as(one, second).inherit_fd_as(two, first);
            let output = command.inherit_fd(stays).inherit_fd_as(file(" nine"), 9).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "two one stays nine");
            // What was at the number that one of them gets is dropped only when the child is there: a failed start is told
            // through a descriptor that would get that number.
            let (one, two) = (file(""), file(""));
            let (first, far) = (two.as_raw_fd(), two.as_raw_fd() + 20);
            let mut unchanged = std::fs::File::from(one.try_clone().unwrap());
            let missing = Command::new("/no/such/program").inherit_fd_as(one, first).inherit_fd_as(two, far);
            assert_eq!(missing.spawn().unwrap_err().kind(), std::io::ErrorKind::NotFound);
            let mut text = String::new();
            unchanged.rewind().unwrap();
            unchanged.read_to_string(&mut text).unwrap();
            assert_eq!(text, "");

            let output = Command::new("sh").args(list).inherit_fd_as(file(""), 77).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&known) + "77\n");
        });
    });
}

#[test]
#[should_panic(
    expected = "`Command::inherit_fd_as` needs a number from 3 on that is not given out yet, not 7"
)]
fn a_number_is_given_out_once() {
    let file = || tempfile::tempfile().unwrap();
    let _ = Command::new("true").inherit_fd_as(file(), 7).inherit_fd_as(file(), 7);
}

/// bpo-31034: what the parent blocks or ignores was blocked and ignored in the child.
#[test]
fn a_child_starts_with_fresh_signals() {
    alone(&["env", "--block-signal=USR1"], || {
        let mask = |text: &[u8], name: &str| {
            let text = String::from_utf8_lossy(text);
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        const SIGPIPE: u64 = 1 << 12;
        let own = std::fs::read("/proc/thread-self/status").unwrap();
        assert_ne!(mask(&own, "SigBlk:"), 0, "this process blocks a signal");
        assert_ne!(mask(&own, "SigIgn:") & SIGPIPE, 0, "this process ignores SIGPIPE");
        evenloop_tests::on_loop(async {
            let status = || Command::new("cat").arg("/proc/self/status");
            // The one without a fork, and the one with.
            for command in [status(), status().umask(0)] {
                let output = command.output().await.unwrap().stdout;
                assert_eq!((mask(&output, "SigBlk:"), mask(&output, "SigIgn:") & SIGPIPE), (0, 0));
            }
        });
    });
}

#[test]
fn a_group_of_its_own_is_signalled_as_a_whole() {
    on_loop(async {
        let (gate, open) = plain_pipe();
        let line = "cat <&3 >/dev/null & echo $!; wait";
        let command = shell(line).stdout(PIPE).own_group().inherit_fd_as(gate, 3);
        let mut process = command.spawn().unwrap();
        let line = process.stdout.as_mut().unwrap().readline().await.unwrap();
        let grandchild: u32 = String::from_utf8_lossy(&line).trim().parse().unwrap();
        process.signal_group(SignalKind::KILL).unwrap();
        assert_eq!(process.wait().await.unwrap().signal(), Some(9));
        process.signal_group(SignalKind::KILL).unwrap(); // harmless
        gone(grandchild).await;
        drop(open);

        let process = patient();
        let error = process.signal_group(SignalKind::TERMINATE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("`cat`") && error.to_string().contains("own_group"), "{error}");
        process.kill().unwrap();
        process.wait().await.unwrap();

        let leader = Command::new("cat").stdin(PIPE).stdout(DEVNULL).new_session().spawn().unwrap();
        let pid = Pid::from_raw(leader.pid() as i32);
        assert_eq!(rustix::process::getsid(pid).unwrap(), pid.unwrap());
        let member = Command::new("cat").stdin(PIPE).stdout(DEVNULL);
        leader.signal_group(SignalKind::KILL).unwrap();
        leader.wait().await.unwrap();
        let host = Command::new("cat").stdin(PIPE).stdout(DEVNULL).own_group().spawn().unwrap();
        let member = member.join_group(host.pid()).spawn().unwrap();
        host.signal_group(SignalKind::KILL).unwrap();
        assert_eq!(member.wait().await.unwrap().signal(), Some(9));
        host.wait().await.unwrap();
    });
}
