//! A pipeline of three programs: `tr a-z A-Z | tr -d X | wc -c`, with a bar that shows how far it is.
//!
//! This program feeds the first and reads what the last one says. Between them the bytes go from pipe to pipe, past this
//! program. The feeding waits whenever the pipes are full, so memory stays small however much there is.
//!
//! ```text
//! cargo run --release -p evenloop --example subprocess          # 100 MiB
//! cargo run --release -p evenloop --example subprocess -- 500   # MiB
//! ```

use evenloop::process::{Command, Ending, PIPE};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Instant;

/// A mebibyte of the alphabet, again and again.
fn piece() -> Vec<u8> {
    (b'a'..=b'z').cycle().take(1 << 20).collect()
}

fn main() -> std::io::Result<()> {
    let mebibytes = std::env::args().nth(1).map_or(100, |number| number.parse().expect("a number of MiB"));
    let start = Instant::now();
    let counted: u64 = evenloop::run(async move {
        // If this program is interrupted, or fails half-way, none of the three is left behind.
        let upper = Command::new("tr").args(["a-z", "A-Z"]).stdin(PIPE).stdout(PIPE);
        let mut upper = upper.on_drop(Ending::Kill).spawn()?;
        let without = Command::new("tr").args(["-d", "X"]).stdin(upper.stdout.take().expect("piped"));
        let mut without = without.stdout(PIPE).on_drop(Ending::Kill).spawn()?;
        let count = Command::new("wc").arg("-c").stdin(without.stdout.take().expect("piped"));
        let mut count = count.stdout(PIPE).on_drop(Ending::Kill).spawn()?;

        let bar = ProgressBar::new(mebibytes << 20);
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}")
                .expect("a template"),
        );
        let piece = piece();
        let stdin = upper.stdin.as_mut().expect("piped");
        for _ in 0..mebibytes {
            stdin.write(&piece)?;
            stdin.drain().await?;
            bar.inc(piece.len() as u64);
        }
        upper.stdin = None; // the end of the input; it goes through all three
        bar.finish_and_clear();

        let counted = count.wait_with_output().await?;
        for process in [&upper, &without, &count] {
            let status = process.wait().await?;
            assert!(status.success(), "`{}`: {status}", process.program());
        }
        let text = String::from_utf8_lossy(&counted.stdout);
        Ok::<_, std::io::Error>(text.trim().parse().expect("`wc` counts"))
    })?;

    let letters = piece().iter().filter(|letter| **letter != b'x').count() as u64;
    assert_eq!(counted, mebibytes * letters);
    let seconds = start.elapsed().as_secs_f64();
    println!("{mebibytes} MiB through three programs, {counted} bytes left of them, in {seconds:.2} s");
    Ok(())
}
