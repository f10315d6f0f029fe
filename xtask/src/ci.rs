//! `cargo xtask ci`: what a reviewer would run, in sections that print their time.
//!
//! The run stops at the first failure and says how to run that section alone. A section that needs a program that is not
//! here skips what needs it, with a line that names the program; the end counts the skips. With `--strict` a skip is a
//! failure.

use crate::{
    Outcome, counts, coverage, examples, faults, fuzz, loom, msrv, ordmut, plant, preset, proof, sanitize,
    semver, sh, soak, tidy, tree,
};
use std::collections::BTreeMap;
use std::time::Instant;

/// A part of the run that can be run alone.
struct Section {
    name: &'static str,
    run: fn(&mut Skips) -> Outcome,
    /// Only with `--long`, or when asked for by name.
    long: bool,
}

const fn quick(name: &'static str, run: fn(&mut Skips) -> Outcome) -> Section {
    Section { name, run, long: false }
}

const fn long(name: &'static str, run: fn(&mut Skips) -> Outcome) -> Section {
    Section { name, run, long: true }
}

/// Cheapest first, so that a slip costs seconds.
const SECTIONS: &[Section] = &[
    quick("format", |_| sh::run(&mut sh::cargo("fmt --all --check"))),
    quick("tidy", |_| tidy::run()),
    quick("dependencies", |_| tidy::dependencies()),
    quick("proof", |_| proof::run(true)),
    quick("clippy", |_| {
        sh::run(&mut sh::cargo("clippy --workspace --all-targets --all-features --quiet -- -D warnings"))
    }),
    quick("preset", |_| preset::run()),
    quick("alone", |_| alone()),
    quick("doc", |_| doc()),
    quick("test", test),
    quick("examples", |_| examples::run(&[])),
    quick("loom", |_| loom::run(loom::Options::quick())),
    quick("counts", |skips| counts::run(false, skips)),
    long("loom-long", |_| loom::run(loom::Options::long())),
    long("ordmut", |_| ordmut::run(ordmut::Options::all())),
    long("plant", |_| plant::run(&[])),
    long("sanitize", |skips| sanitize::run(&[], skips)),
    long("soak", |_| soak::run(soak::SHORT)),
    long("faults", |skips| faults::run(&[], skips)),
    long("children", |_| faults::children()),
    long("tokio-console", |_| tokio_console()),
    long("fuzz", |skips| fuzz::run(fuzz::Options::long(), skips)),
    long("coverage", coverage::run),
    long("semver", semver::run),
    long("msrv", msrv::run),
];

/// What was not checked, and why.
#[derive(Default)]
pub(crate) struct Skips {
    notes: Vec<String>,
    /// A skip is a failure.
    strict: bool,
}

/// A test that needs a program skips itself without it, and says so in a file (`tests/lib/skips.rs`), unless everything has to
/// be checked.
fn test(skips: &mut Skips) -> Outcome {
    let mut test = sh::cargo("test --workspace --all-features --quiet");
    if skips.strict {
        test.env("EVENLOOP_STRICT", "1");
    }
    // Each test program adds lines of its own.
    let file = sh::root().join("target/skips.txt");
    std::fs::write(&file, "").map_err(|error| format!("{}: {error}", file.display()))?;
    let outcome = sh::run(test.env("EVENLOOP_SKIPS", &file));
    let noted = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    counted(&noted).iter().for_each(|why| skips.note(why));
    outcome
}

/// Each line once, in order, with how often it is there.
fn counted(lines: &str) -> Vec<String> {
    let mut times = BTreeMap::<_, u32>::new();
    lines.lines().for_each(|line| *times.entry(line).or_default() += 1);
    times.into_iter().map(|(line, times)| format!("{times} in tests: {line}")).collect()
}

impl Skips {
    /// Notes that something was not checked.
    pub(crate) fn note(&mut self, why: &str) {
        println!("skipped: {why}");
        self.notes.push(why.to_owned());
    }

    /// Whether `program` is here; if not, notes that `what` was not checked.
    pub(crate) fn unless_found(&mut self, program: &str, what: &str) -> bool {
        let found = sh::find(program).is_some();
        if !found {
            self.note(&format!("{what} needs `{program}` (cargo xtask setup)"));
        }
        found
    }
}

/// Runs what was asked for by name: what it skips, it has not done.
pub(crate) fn unskipped(run: impl FnOnce(&mut Skips) -> Outcome) -> Outcome {
    let mut skips = Skips::default();
    run(&mut skips)?;
    if skips.notes.is_empty() { Ok(()) } else { Err(format!("not checked: {}", skips.notes.join("; "))) }
}

/// What the user asked for.
pub(crate) struct Options {
    names: Vec<String>,
    strict: bool,
    long: bool,
}

impl Options {
    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self { names: vec![], strict: false, long: false };
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("strict") => options.strict = true,
                lexopt::Arg::Long("long") => options.long = true,
                lexopt::Arg::Value(name) => {
                    let name = name.to_string_lossy().into_owned();
                    if !SECTIONS.iter().any(|section| section.name == name) {
                        let names =
                            SECTIONS.iter().map(|section| section.name).collect::<Vec<_>>().join(", ");
                        return Err(format!("no such section: {name}; there are {names}").into());
                    }
                    options.names.push(name);
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    fn wants(&self, section: &Section) -> bool {
        if self.names.is_empty() {
            self.long || !section.long
        } else {
            self.names.iter().any(|name| name == section.name)
        }
    }
}

pub(crate) fn run(options: Options) -> Outcome {
    let mut passed = 0;
    let mut skips = Skips { notes: Vec::new(), strict: options.strict };
    let mut times = Vec::new();
    let mut failure = None;
    for section in SECTIONS.iter().filter(|section| options.wants(section)) {
        println!("== {}", section.name);
        let begin = Instant::now();
        let skipped_before = skips.notes.len();
        let mut outcome = (section.run)(&mut skips);
        if options.strict && outcome.is_ok() && skips.notes.len() > skipped_before {
            outcome = Err(format!("skipped with --strict: {}", skips.notes[skipped_before..].join("; ")));
        }
        let seconds = begin.elapsed().as_secs_f64();
        times.push(format!("{} {seconds:.0} s", section.name));
        match outcome {
            Ok(()) => {
                println!("   {} passed in {seconds:.1} s", section.name);
                passed += 1;
            }
            Err(why) => {
                eprintln!("{why}");
                failure = Some(section.name);
                break;
            }
        }
    }
    println!("\n{}", times.join(", "));
    if !skips.notes.is_empty() {
        println!("{} skipped; `cargo xtask setup` installs what they need:", skips.notes.len());
        skips.notes.iter().for_each(|skip| println!("  {skip}"));
    }
    if let Some(name) = failure {
        let strict = if options.strict { " --strict" } else { "" };
        println!("{name} failed; to run it alone: cargo xtask ci {name}{strict}");
    }
    println!("{passed} passed, {} failed", u32::from(failure.is_some()));
    if failure.is_some() { Err(String::new()) } else { Ok(()) }
}

/// Each library crate builds without its default features, and with each of its features.
fn alone() -> Outcome {
    for library in tree::libraries() {
        let check = || {
            let mut check = sh::cargo("check --quiet --lib --no-default-features --package");
            check
                .arg(&library.package)
                .env("RUSTFLAGS", "-D warnings")
                .args(["--target-dir", "target/alone"]);
            check
        };
        sh::run(&mut check())?;
        for feature in library.features() {
            sh::run(check().arg("--features").arg(feature))?;
        }
    }
    Ok(())
}

/// The unmodified `console-subscriber` sees our tasks. It asks for a `cfg` of its own, and so for a folder of its own.
fn tokio_console() -> Outcome {
    let mut test =
        sh::cargo("test --quiet --package evenloop-console --features tracing --test tokio_console");
    test.args(["--target-dir", "target/tokio-console"]);
    sh::run(test.env("RUSTFLAGS", "--cfg console_without_tokio_unstable"))
}

fn doc() -> Outcome {
    let mut doc = sh::cargo("doc --no-deps --all-features --quiet");
    for library in tree::libraries() {
        doc.arg("--package").arg(library.package);
    }
    sh::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_skip_is_counted_by_its_reason() {
        let noted = "`strace` is not installed\n`nc` is not installed\n`strace` is not installed\n";
        assert_eq!(
            counted(noted),
            ["1 in tests: `nc` is not installed", "2 in tests: `strace` is not installed"]
        );
        assert!(counted("").is_empty());
    }

    #[test]
    fn what_was_asked_for_by_name_and_skipped_is_a_failure() {
        assert_eq!(unskipped(|_| Ok(())), Ok(()));
        let skips = |skips: &mut Skips| {
            skips.note("no strace");
            Ok(())
        };
        assert_eq!(unskipped(skips), Err("not checked: no strace".to_owned()));
    }
}
