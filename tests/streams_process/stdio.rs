//! What a child has for its stdin, stdout and stderr.

use super::*;

#[test]
fn streams_lead_to_files_nothing_and_each_other() {
    on_loop(async {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"from a file").unwrap();
        file.rewind().unwrap();
        let into = tempfile::tempfile().unwrap();
        let copy = into.try_clone().unwrap();
        assert!(Command::new("cat").stdin(file).stdout(into).status().await.unwrap().success());
        let (mut copy, mut text) = (copy, String::new());
        copy.rewind().unwrap();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from a file");

        let line = "echo out; echo err >&2; echo out";
        let output = shell(line).stderr(STDOUT).output().await.unwrap();
        assert_eq!((&output.stdout[..], output.stderr.len()), (&b"out\nerr\nout\n"[..], 0));
        let output = shell(line).stdout(DEVNULL).stderr(STDOUT).output().await.unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
        let where_to = shell("readlink /proc/$$/fd/1 /proc/$$/fd/2 | cat >&3").stdout(INHERIT).stderr(STDOUT);
        let mut told = tempfile::tempfile().unwrap();
        assert!(where_to.inherit_fd_as(told.try_clone().unwrap(), 3).status().await.unwrap().success());
        told.rewind().unwrap();
        let mut text = String::new();
        told.read_to_string(&mut text).unwrap();
        let [out, err] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(out, err);
    });
}

#[test]
fn a_pipeline_goes_from_child_to_child() {
    on_loop(async {
        let mut words = Command::new("printf").arg("c\nb\na\nb\n").stdout(PIPE).spawn().unwrap();
        let sort = Command::new("sort").stdin(words.stdout.take().unwrap()).stdout(PIPE);
        let mut sort = sort.spawn().unwrap();
        let unique = Command::new("uniq").stdin(sort.stdout.take().unwrap()).output().await.unwrap();
        assert_eq!(unique.stdout, b"a\nb\nc\n");
        assert!(words.wait().await.unwrap().success() && sort.wait().await.unwrap().success());

        // Built from its end: the first writes into the stdin of the second.
        let mut last = Command::new("rev").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let first = Command::new("echo").arg("abc").stdout(last.stdin.take().unwrap());
        assert!(first.status().await.unwrap().success());
        assert_eq!(last.wait_with_output().await.unwrap().stdout, b"cba\n");
    });
}

#[test]
#[should_panic(expected = "`Stdio::from` needs a reader whose bytes were all taken")]
fn a_pipe_that_was_read_from_is_not_given_on() {
    on_loop(async {
        let mut echo = Command::new("printf").arg("a\nb\n").stdout(PIPE).spawn().unwrap();
        assert_eq!(echo.stdout.as_mut().unwrap().readline().await.unwrap(), b"a\n");
        let _ = Stdio::from(echo.stdout.take().unwrap());
    });
}

#[test]
#[should_panic(expected = "`Command::stdin` cannot lead to `STDOUT`")]
fn stdin_does_not_lead_to_stdout() {
    let _ = Command::new("true").stdin(STDOUT);
}

#[test]
fn writing_to_a_child_that_is_gone_is_a_broken_pipe_that_names_it() {
    on_loop(async {
        let mut process = Command::new("true").stdin(PIPE).spawn().unwrap();
        process.wait().await.unwrap();
        let stdin = process.stdin.as_mut().unwrap();
        // A child that another test starts at this moment has our descriptors until its program runs.
        let error = loop {
            match stdin.write(b"anybody?") {
                Ok(()) => evenloop_executor::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(error.to_string().starts_with("writing to the stdin of `true`: "), "{error}");
    });
}

#[test]
fn closing_the_writer_ends_the_input() {
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        let stdin = cat.stdin.as_mut().unwrap();
        stdin.write(b"all of it").unwrap();
        stdin.close();
        stdin.wait_closed().await.unwrap();
        assert_eq!(stdin.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(cat.stdout.as_mut().unwrap().read_to_end().await.unwrap(), b"all of it");
        assert!(cat.wait().await.unwrap().success());
    });
}

#[test]
fn lines_of_both_outputs_come_in_one_stream_with_their_source() {
    on_loop(async {
        let line = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; printf last";
        let mut process = shell(line).stdout(PIPE).stderr(PIPE).spawn().unwrap();
        let all: Vec<_> = process.lines().map(Result::unwrap).collect().await;
        let of = |wanted| {
            let lines = all.iter().filter(|(source, _)| *source == wanted).map(|(_, line)| &line[..]);
            lines.map(String::from_utf8_lossy).collect::<String>()
        };
        assert_eq!(of(Source::Stdout), "out 1\nout 2\nout 3\nlast");
        assert_eq!(of(Source::Stderr), "err 1\nerr 2\nerr 3\n");
        // Neither starves the other.
        let mut process =
            shell("yes out & yes err >&2 & wait").stdout(PIPE).stderr(PIPE).own_group().spawn().unwrap();
        let handle = process.handle();
        let mut seen = [0, 0];
        let mut lines = process.lines();
        while seen.iter().any(|lines| *lines < 1000) {
            let (source, _) = lines.next().await.unwrap().unwrap();
            seen[source as usize] += 1;
        }
        assert!(seen.iter().all(|lines| *lines < 1_000_000), "{seen:?}");
        handle.signal_group(SignalKind::KILL).unwrap();
        handle.wait().await.unwrap();
    });
}

#[test]
fn a_line_beyond_the_limit_stays_in_the_reader() {
    on_loop(async {
        let command = Command::new("printf").arg("%0100d\nshort\n").arg("0").stdout(PIPE).limit(64);
        let mut process = command.spawn().unwrap();
        let stdout = process.stdout.as_mut().unwrap();
        assert!(matches!(stdout.readline().await, Err(ReadError::Overrun(_))));
        stdout.set_limit(1000);
        assert_eq!(stdout.readline().await.unwrap().len(), 101);
        assert_eq!(stdout.readline().await.unwrap(), b"short\n");
        process.wait().await.unwrap();
    });
}

/// The second of two packets came with the next event: a read that ends at the border of a packet passed for one that has
/// emptied the pipe.
#[test]
fn packets_that_a_child_writes_come_at_once() {
    on_loop(async {
        let mut cat = Command::new("cat").stdin(PIPE).stdout(PIPE).spawn().unwrap();
        // What a child does that sets O_DIRECT on its stdout.
        let stdout = format!("/proc/{}/fd/1", cat.pid());
        let mut stdout = File::options().write(true).open(stdout).unwrap();
        rustix::fs::fcntl_setfl(&stdout, rustix::fs::OFlags::DIRECT).unwrap();
        stdout.write_all(b"one").unwrap();
        stdout.write_all(b"two").unwrap();
        let reader = cat.stdout.as_mut().unwrap();
        assert_eq!(reader.readexactly(3).await.unwrap(), b"one");
        assert_eq!(reader.readexactly(3).await.unwrap(), b"two");
        drop(stdout);
        cat.stdin = None;
        assert!(cat.wait().await.unwrap().success());
    });
}
