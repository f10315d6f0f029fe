//! What a child writes to both its outputs, line by line and with its source, against the bytes cut by hand.
#![no_main]

use evenloop::process::{Command, PIPE, Source};
use evenloop::streams::StreamWriter;
use futures::StreamExt as _;
use futures::future::join;
use libfuzzer_sys::fuzz_target;

fn cut(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    lines
}

fuzz_target!(|bytes: &[u8]| {
    evenloop::run(async {
        let command = Command::new("tee").arg("/dev/stderr");
        let mut child = command
            .stdin(PIPE)
            .stdout(PIPE)
            .stderr(PIPE)
            .limit(1 << 20)
            .spawn()
            .expect("tee");
        let mut stdin = child.stdin.take().expect("piped");
        let feed = async {
            stdin.write(bytes).expect("tee reads");
            stdin.drain().await.expect("tee reads");
            StreamWriter::close(&mut stdin);
            stdin.wait_closed().await.expect("tee reads");
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = async {
            let mut lines = child.lines();
            while let Some(line) = lines.next().await {
                match line.expect("a line within the limit") {
                    (Source::Stdout, line) => out.push(line),
                    (Source::Stderr, line) => err.push(line),
                }
            }
        };
        join(feed, read).await;
        assert!(child.wait().await.expect("it ends").success());
        // A line comes without its newline, or as it is: the same on both.
        let plain = |lines: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
            lines
                .into_iter()
                .map(|line| line.strip_suffix(b"\n").map_or(line.clone(), <[u8]>::to_vec))
                .collect()
        };
        let expected = plain(cut(bytes));
        assert_eq!(plain(out), expected);
        assert_eq!(plain(err), expected);
    });
});
