//! `cargo xtask fuzz [TARGET...] [--seconds N]`: the targets of `tests/fuzz`, each for a while, as many at a time as there
//! are processors.
//!
//! A failure prints the input and the command that runs it again. The corpus stays in `target/fuzz` from run to run.

use crate::ci::Skips;
use crate::{Outcome, models, sh, tree};

/// What the long run gives each target.
const LONG_SECONDS: u64 = 60;

pub(crate) struct Options {
    targets: Vec<String>,
    seconds: u64,
}

impl Options {
    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        use lexopt::ValueExt as _;
        let mut options = Self { targets: vec![], seconds: LONG_SECONDS };
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("seconds") => {
                    options.seconds = args.value()?.parse()?;
                    if options.seconds == 0 {
                        return Err("--seconds 0 would fuzz for ever: at least 1".into());
                    }
                }
                lexopt::Arg::Value(target) => options.targets.push(target.string()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    pub(crate) fn long() -> Self {
        Self { targets: vec![], seconds: LONG_SECONDS }
    }
}

pub(crate) fn run(options: Options, skips: &mut Skips) -> Outcome {
    let manifest = tree::manifest(&sh::root().join("tests/fuzz/Cargo.toml"));
    let names = |entry: &toml::Value| Some(entry.get("name")?.as_str()?.to_owned());
    let all: Vec<String> =
        manifest["bin"].as_array().map(|bins| bins.iter().filter_map(names).collect()).unwrap_or_default();
    if let Some(unknown) = options.targets.iter().find(|target| !all.contains(target)) {
        return Err(format!("no such target: {unknown}; there are {}", all.join(", ")));
    }
    if sh::find("cargo-fuzz").is_none() || !sh::has_toolchain("nightly") {
        skips.note("fuzzing needs `cargo-fuzz` and a nightly toolchain (cargo xtask setup --long)");
        return Ok(());
    }
    let fuzz = |words: &str| {
        let mut fuzz = sh::cargo_of("nightly", words);
        fuzz.args(["--fuzz-dir", "tests/fuzz", "--target-dir", "target/fuzz/build"]);
        fuzz
    };
    sh::run(&mut fuzz("fuzz build"))?;
    let targets = if options.targets.is_empty() { all } else { options.targets };
    if targets.is_empty() {
        return Err("tests/fuzz/Cargo.toml has no target (`[[bin]]`)".into());
    }
    let outcomes = models::in_parallel(&targets, |target| {
        let corpus = sh::root().join(format!("target/fuzz/corpus/{target}"));
        std::fs::create_dir_all(&corpus).map_err(|error| format!("{}: {error}", corpus.display()))?;
        let mut run = fuzz("fuzz run");
        run.arg(target).arg(corpus).args(["--", "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"]);
        run.arg(format!("-max_total_time={}", options.seconds));
        let output = run.output().map_err(|error| format!("cargo fuzz: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let tail: Vec<_> = text.lines().rev().take(40).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            return Err(format!("{target} failed:\n{}", tail.join("\n")));
        }
        match inputs(&text) {
            Some(0) => Err(format!(
                "{target} has tried no input in {0} s: give it more (cargo xtask fuzz {target} --seconds N)",
                options.seconds
            )),
            Some(inputs) => Ok(format!("{target:16} {inputs} inputs in {} s", options.seconds)),
            None => Err(format!(
                "{target}: libFuzzer does not say how many inputs it has tried (`-print_final_stats=1`)\n{text}"
            )),
        }
    });
    for outcome in outcomes {
        println!("   {}", outcome?);
    }
    Ok(())
}

/// How many inputs libFuzzer has tried, from its last words.
fn inputs(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn inputs_are_counted_and_without_a_count_there_is_none() {
        let said = "Done 7 runs in 1 second(s)\nstat::number_of_executed_units: 7\nstat::average_exec_per_sec:     7\n";
        assert_eq!(super::inputs(said), Some(7));
        assert_eq!(super::inputs("Done 7 runs in 1 second(s)"), None);
    }
}
