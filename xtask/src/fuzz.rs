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
                lexopt::Arg::Long("seconds") => options.seconds = args.value()?.parse()?,
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
        let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units: "));
        Ok(format!("{target:16} {} inputs in {} s", runs.unwrap_or("?"), options.seconds))
    });
    for outcome in outcomes {
        println!("   {}", outcome?);
    }
    Ok(())
}
