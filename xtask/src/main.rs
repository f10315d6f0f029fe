//! The project's only build script: `cargo xtask ci` and its parts.
//!
//! A file per command; `main` is a `match`. What several commands need has files of its own: `sh` (other programs),
//! `tree` (the workspace as files), `models` (building and running the models).

mod bench;
mod check;
mod ci;
mod counts;
mod coverage;
mod examples;
mod faults;
mod fuzz;
mod loom;
mod models;
mod msrv;
mod ordmut;
mod plant;
mod preset;
mod proof;
mod sanitize;
mod semver;
mod setup;
mod sh;
#[cfg(test)]
#[expect(unreachable_pub, reason = "programs of tests use it as well")]
#[path = "../../tests/lib/skips.rs"]
mod skips;
mod soak;
mod tidy;
mod tree;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  setup [--long]            install what the checks use beside Rust (Debian packages; --long: toolchains and tools too)
  ci [SECTION...] [--strict] [--long]
                            run what a reviewer would; --strict makes a skip a failure, --long adds the long sections
  tidy                      the rules that no lint knows
  examples [NAME...]        run the examples, each with two durations or seeds
  loom [CRATE|TYPE[::MODEL]...] [--preemptions N|none] [--long] [--bless] [--replay] [--seconds N]
                            run the models, each in a process of its own, both passes; --bless rewrites floors.toml,
                            --replay shows the failing run of one model with loom's trace
  ordmut [CRATE|FILE...] [--list]
                            weaken every ordering and leave out every wake-up, one at a time, and see a model fail;
                            `ordmut sync` runs sync's models, `ordmut lock.rs` only that file's sites
  sanitize [address|thread|valgrind...]
                            the tests under the sanitizers
  bench [NAME...] [--table] run the benches and write the README's table (--table: from the last measurement)
  counts [--bless]          instructions of the key operations against benches/counts.toml, and without `watch`
  plant [WORD...]           put the faults of plants.toml into a copy and see the named check fail
  proof [--check]           write the tables of crates/PROOF.md; the tests it names have to exist
  fuzz [TARGET...] [--seconds N]
                            the fuzz targets against their naive twins (60 seconds each)
  coverage                  which lines of the library crates the tests run
  faults [PROGRAM [CALL]]   the tests of streams while system calls fail; `faults streams_sock accept4` one call of one program
  soak [--minutes N]        everything at once, again and again, and nothing may grow (one minute)
  msrv                      build the library crates with the oldest Rust they promise
  help                      this text
";

/// What a command answers: nothing to add, or what went wrong and how to go on.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let outcome = match run() {
        Ok(outcome) => outcome,
        Err(bad_argument) => Err(format!("{bad_argument}\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Outcome, lexopt::Error> {
    let mut args = lexopt::Parser::from_env();
    let command = match args.next()? {
        Some(lexopt::Arg::Value(command)) => command.to_string_lossy().into_owned(),
        Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) | None => "help".to_owned(),
        Some(other) => return Err(other.unexpected()),
    };
    Ok(match command.as_str() {
        "setup" => setup::run(flag(args, "long")?),
        "bench" => bench::run(bench::Options::parse(args)?),
        "counts" => {
            let bless = flag(args, "bless")?;
            ci::unskipped(|skips| counts::run(bless, skips))
        }
        "ci" => ci::run(ci::Options::parse(args)?),
        "tidy" => {
            nothing(args)?;
            tidy::run()
        }
        "examples" => examples::run(&names(args)?),
        "loom" => loom::run(loom::Options::parse(args)?),
        "ordmut" => ordmut::run(ordmut::Options::parse(args)?),
        "fuzz" => {
            let options = fuzz::Options::parse(args)?;
            ci::unskipped(|skips| fuzz::run(options, skips))
        }
        "coverage" => {
            nothing(args)?;
            ci::unskipped(coverage::run)
        }
        "faults" => {
            let asked = names(args)?;
            ci::unskipped(|skips| faults::run(&asked, skips))
        }
        "proof" => proof::run(flag(args, "check")?),
        "plant" => plant::run(&names(args)?),
        "soak" => soak::run(minutes(args)?),
        "sanitize" => {
            let tools = names(args)?;
            ci::unskipped(|skips| sanitize::run(&tools, skips))
        }
        "msrv" => {
            nothing(args)?;
            ci::unskipped(msrv::run)
        }
        "help" => {
            nothing(args)?;
            print!("{HELP}");
            Ok(())
        }
        unknown => return Err(format!("no such command: {unknown}").into()),
    })
}

/// There are no more arguments.
fn nothing(mut args: lexopt::Parser) -> Result<(), lexopt::Error> {
    args.next()?.map_or(Ok(()), |other| Err(other.unexpected()))
}

/// Whether `--NAME`, the only argument there may be, is there.
fn flag(mut args: lexopt::Parser, name: &str) -> Result<bool, lexopt::Error> {
    let is_there = match args.next()? {
        None => false,
        Some(lexopt::Arg::Long(long)) if long == name => true,
        Some(other) => return Err(other.unexpected()),
    };
    nothing(args)?;
    Ok(is_there)
}

/// The N of `--minutes N`, the only argument there may be.
fn minutes(mut args: lexopt::Parser) -> Result<f64, lexopt::Error> {
    use lexopt::ValueExt as _;
    let minutes = match args.next()? {
        None => soak::SHORT,
        Some(lexopt::Arg::Long("minutes")) => args.value()?.parse()?,
        Some(other) => return Err(other.unexpected()),
    };
    nothing(args)?;
    if minutes > 0.0 { Ok(minutes) } else { Err("--minutes is a number above 0".into()) }
}

/// The remaining arguments, all of them plain words.
fn names(mut args: lexopt::Parser) -> Result<Vec<String>, lexopt::Error> {
    let mut names = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Value(name) => names.push(name.to_string_lossy().into_owned()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(names)
}
