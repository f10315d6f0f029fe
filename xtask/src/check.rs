//! A check that has to notice a fault, as `plants.toml` and `ordmut.toml` name it, run in a copy of the workspace.
//!
//! `loom TYPE::MODEL`, `test ARGUMENTS OF CARGO TEST`, or `address ARGUMENTS`: under AddressSanitizer. Behind ` -- ` stand
//! parts of the names of tests. That something fails is not enough: it has to be a test of that name, or AddressSanitizer
//! has to speak.

use crate::models::{self, Model, Pass, Programs};
use crate::{Outcome, loom, sh, tree};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The first build of a kind of check begins with nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// How much of a failed build's messages is shown, from the first error on.
const SHOWN_LINES: usize = 30;

/// A copy of the workspace, and where what is built of it goes.
pub(crate) struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes `target/NAME/tree` the same as the workspace, save for what `change` makes of the text of a file.
    pub(crate) fn make(name: &str, change: &tree::Change<'_>) -> Result<Self, String> {
        let target = sh::root().join("target").join(name);
        let copy = Self { tree: target.join("tree"), target };
        tree::copy(&copy.tree, change)?;
        Ok(copy)
    }

    /// A file of the copy.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.tree.join(path)
    }
}

/// Who has to notice.
pub(crate) struct Check {
    text: String,
    kind: Kind,
    /// What cargo is given: `--package evenloop-tests --test universal`.
    arguments: Vec<String>,
    /// Parts of the names of tests; none: all tests count.
    filters: Vec<String>,
}

enum Kind {
    Loom(Model),
    Test,
    Address,
}

/// What a check says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Passed,
    /// It fails as it should when there is a fault: how.
    Noticed(String),
    /// It fails, or ends well, and says nothing about the fault: why not.
    Nothing(String),
}

/// How a command ended.
enum End {
    Code(i32),
    TimeOut,
}

impl Check {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(' ').ok_or_else(|| format!("`{text}` is no check"))?;
        let (arguments, filters) = rest.split_once(" -- ").unwrap_or((rest, ""));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let kind = match kind {
            "loom" => {
                let (kind, name) =
                    rest.split_once("::").ok_or_else(|| format!("`{text}` names no model (TYPE::NAME)"))?;
                Kind::Loom(Model { owner: String::new(), kind: kind.into(), name: name.into() })
            }
            "test" => Kind::Test,
            "address" => Kind::Address,
            _ => return Err(format!("`{text}`: there is no such check: {kind}")),
        };
        let check = Self { text: text.into(), kind, arguments: words(arguments), filters: words(filters) };
        let is_said = |word: &str| check.arguments.iter().any(|argument| argument == word);
        if !matches!(check.kind, Kind::Loom(_))
            && !(is_said("--package") && (is_said("--test") || is_said("--lib")))
        {
            return Err(format!(
                "`{text}`: say which program: `--package NAME`, and `--test NAME` or `--lib`"
            ));
        }
        Ok(check)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What it names and the sources have not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let text = &self.text;
        if let Kind::Loom(model) = &self.kind {
            return match models::declared() {
                Err(why) => vec![why],
                Ok(models) if models.iter().any(|known| known.id() == model.id()) => vec![],
                Ok(_) => vec![format!("`{text}`: there is no such model")],
            };
        }
        let sources = match self.sources() {
            Ok(sources) => sources,
            Err(why) => return vec![format!("`{text}`: {why}")],
        };
        let has = |filter: &str| {
            // A test's name begins with its modules, which are files mostly.
            let part = filter.rsplit("::").next().unwrap_or(filter);
            sources.iter().any(|source| {
                let name = source.path.rsplit('/').next().unwrap_or_default();
                let mut functions =
                    source.text.lines().filter_map(|line| line.split_once("fn ")?.1.split('(').next());
                name.trim_end_matches(".rs").contains(part)
                    || functions.any(|function| function.contains(part))
            })
        };
        let missing = self.filters.iter().filter(|filter| !has(filter));
        missing.map(|filter| format!("`{text}`: no test there is called `{filter}`")).collect()
    }

    /// The sources of the test program.
    fn sources(&self) -> Result<Vec<tree::Source>, String> {
        let after = |word: &str| {
            let at = self.arguments.iter().position(|argument| argument == word)?;
            self.arguments.get(at + 1)
        };
        let package = after("--package").ok_or("no package")?;
        let folder = tree::folder_of(package).ok_or_else(|| format!("there is no package `{package}`"))?;
        let Some(test) = after("--test") else { return Ok(tree::sources(&format!("{folder}/src"))) };
        let flat = format!("{folder}/{test}.rs");
        let file = if sh::root().join(&flat).exists() { flat } else { format!("{folder}/tests/{test}.rs") };
        let text = std::fs::read_to_string(sh::root().join(&file))
            .map_err(|_| format!("`{package}` has no test program `{test}`"))?;
        let mut sources = tree::sources(file.trim_end_matches(".rs"));
        sources.push(tree::Source { path: file, text });
        Ok(sources)
    }

    /// Programs and toolchains that it needs and that are not here are an error with the way to get them.
    pub(crate) fn needs(&self) -> Outcome {
        if sh::find("timeout").is_none() {
            return Err("`timeout` is not here: it is in coreutils".into());
        }
        if matches!(self.kind, Kind::Address) && !sh::has_toolchain("nightly") {
            return Err(format!("`{}` needs the nightly toolchain: cargo xtask setup --long", self.text));
        }
        Ok(())
    }

    /// Builds what it runs, so that the time of building is not the check's. The inner error: what the compiler says.
    pub(crate) fn build(&self, copy: &Copy) -> Result<Outcome, String> {
        let (end, output) = run_limited(self.cargo(copy, true).arg("--no-run"), copy, BUILD_LIMIT)?;
        Ok(match end {
            End::Code(0) => Ok(()),
            End::Code(_) => Err(format!("`{}` does not build:\n{}", self.text, errors(&output))),
            End::TimeOut => Err(format!("`{}` is not built after {} s", self.text, BUILD_LIMIT.as_secs())),
        })
    }

    /// Runs it on the copy as it is, with this environment on top.
    pub(crate) fn run(&self, copy: &Copy, limit: Duration, env: &[(&str, &str)]) -> Result<Answer, String> {
        let Kind::Loom(model) = &self.kind else {
            let mut cargo = self.cargo(copy, false);
            cargo.arg("--").args(&self.filters).envs(env.iter().copied());
            let (end, output) = run_limited(&mut cargo, copy, limit)?;
            return Ok(self.judge(&end, &output, limit));
        };
        let programs = Programs::read(self.cargo(copy, true))?;
        let run = |pass| models::run(&programs, model, pass, loom::QUICK, limit, env);
        let runs = Pass::BOTH.map(run);
        let failed =
            Pass::BOTH.into_iter().zip(&runs).find(|(_, run)| run.verdict != models::Verdict::Passed);
        Ok(match failed {
            Some((pass, run)) => Answer::Noticed(format!("{}{}: {}", pass.shown(), self.text, run.verdict)),
            None => loom::unreached(model, &runs).into_iter().next().map_or(Answer::Passed, Answer::Noticed),
        })
    }

    /// The `cargo test` without the names of tests.
    fn cargo(&self, copy: &Copy, quiet: bool) -> Command {
        let (mut cargo, target) = match &self.kind {
            Kind::Loom(model) => {
                let mut cargo = sh::cargo("test --package evenloop-loom-tests --profile model");
                cargo.args(["--test", &model.kind]).env("RUSTFLAGS", "--cfg evenloop_loom --allow warnings");
                (cargo, "loom")
            }
            Kind::Test => (sh::cargo("test"), "test"),
            Kind::Address => {
                let mut cargo = sh::cargo_of("nightly", "test --target x86_64-unknown-linux-gnu");
                cargo.env("RUSTFLAGS", "-Zsanitizer=address");
                (cargo, "address")
            }
        };
        if !matches!(self.kind, Kind::Loom(_)) {
            cargo.args(&self.arguments);
        }
        if quiet {
            cargo.arg("--quiet");
        }
        cargo.arg("--target-dir").arg(copy.target.join(target)).current_dir(&copy.tree);
        cargo
    }

    /// What follows from how `cargo test` ended and what it wrote.
    fn judge(&self, end: &End, output: &str, limit: Duration) -> Answer {
        let text = &self.text;
        let has_run = counts(output, "running ", " test").any(|count| count > 0);
        if !has_run {
            return Answer::Nothing(format!("`{text}` runs no test:\n{}", errors(output)));
        }
        match end {
            End::Code(0) => Answer::Passed,
            End::TimeOut => Answer::Noticed(format!("{text}: not over after {} s", limit.as_secs())),
            End::Code(_) if matches!(self.kind, Kind::Address) => match output.contains("AddressSanitizer") {
                true => Answer::Noticed(format!("{text}: AddressSanitizer")),
                false => Answer::Nothing(format!("`{text}` fails, but AddressSanitizer says nothing")),
            },
            End::Code(_) => {
                let is_meant = |name: &&str| {
                    self.filters.is_empty()
                        || self.filters.iter().any(|filter| name.contains(filter.as_str()))
                };
                if let Some(name) = failed_tests(output).find(is_meant) {
                    return Answer::Noticed(format!("{text}: {name}"));
                }
                // A test that ends the whole program has no line of its own; only those of the filters were run.
                let signal =
                    output.lines().find_map(|line| line.split_once("(signal: ")?.1.split(')').next());
                match signal {
                    Some(signal) => Answer::Noticed(format!("{text}: signal {signal}")),
                    None => {
                        Answer::Nothing(format!("`{text}` fails, but none of its tests:\n{}", errors(output)))
                    }
                }
            }
        }
    }
}

/// The tests that libtest says have failed. A test may write between its name and `FAILED`, so the headings count too.
fn failed_tests(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| {
        let line = line.trim();
        let told = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        told.or_else(|| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"))
    })
}

/// The numbers that stand between `before`, at the beginning of a line, and `after`.
fn counts(output: &str, before: &str, after: &str) -> impl Iterator<Item = u64> {
    output.lines().filter_map(move |line| line.strip_prefix(before)?.split_once(after)?.0.parse().ok())
}

/// From the first error on; without one, the last lines.
fn errors(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("error"));
    let first = first.unwrap_or(lines.len().saturating_sub(SHOWN_LINES));
    let shown = lines[first..].iter().take(SHOWN_LINES);
    shown.map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

/// Runs it under `timeout`, since a check that waits for ever has noticed, too. What it writes goes to a file: whoever it
/// leaves behind may keep a pipe open.
fn run_limited(command: &mut Command, copy: &Copy, limit: Duration) -> Result<(End, String), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", sh::shown(command));
    let name = format!("output-{:?}", std::thread::current().id()).replace(['(', ')'], "");
    let file = copy.target.join(name);
    let output = std::fs::File::create(&file).map_err(failed)?;
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=5", &limit.as_secs().to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    limited.current_dir(command.get_current_dir().unwrap_or(sh::root()));
    limited.stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output);
    let status = limited.status().map_err(failed)?;
    let text = String::from_utf8_lossy(&std::fs::read(&file).map_err(failed)?).into_owned();
    // `timeout` says 124, or 128 + 9 when it had to use force.
    let end = match status.code() {
        Some(124 | 137) => End::TimeOut,
        code => End::Code(code.unwrap_or(1)),
    };
    Ok((end, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(check: &str, end: &End, output: &str) -> Answer {
        Check::parse(check).unwrap().judge(end, output, Duration::from_secs(9))
    }

    const TEST: &str = "test --package evenloop-tests --test universal -- u1_ u7_";

    #[test]
    fn a_test_of_that_name_has_to_fail() {
        let output = "running 2 tests\ntest u1_hands_on ... FAILED\ntest other ... ok\n";
        assert_eq!(answer(TEST, &End::Code(101), output), Answer::Noticed(format!("{TEST}: u1_hands_on")));
        let output = "running 2 tests\ntest u2_forgotten ... FAILED\n";
        assert!(matches!(answer(TEST, &End::Code(101), output), Answer::Nothing(_)));
    }

    #[test]
    fn a_program_that_does_not_run_says_nothing() {
        for (end, output) in [
            (End::Code(101), "error: no test target named `universal`\n"),
            (End::Code(0), "running 0 tests\n"),
            (End::TimeOut, "   Compiling evenloop-core\n"),
        ] {
            assert!(matches!(answer(TEST, &end, output), Answer::Nothing(_)), "{output}");
        }
    }

    #[test]
    fn a_signal_and_a_wait_that_does_not_end_are_noticed() {
        let output = "running 1 test\nprocess didn't exit successfully: `x` (signal: 6, SIGABRT)\n";
        let aborted = answer(TEST, &End::Code(101), output);
        assert_eq!(aborted, Answer::Noticed(format!("{TEST}: signal 6, SIGABRT")));
        let waits = answer(TEST, &End::TimeOut, "running 1 test\n");
        assert_eq!(waits, Answer::Noticed(format!("{TEST}: not over after 9 s")));
    }

    #[test]
    fn under_address_sanitizer_a_failing_test_is_not_enough() {
        let check = "address --package evenloop-tests --test sync_oneshot";
        let output = "running 1 test\ntest a ... FAILED\n";
        assert!(matches!(answer(check, &End::Code(101), output), Answer::Nothing(_)));
        let output = "running 1 test\n==1==ERROR: AddressSanitizer: heap-use-after-free\n";
        assert!(matches!(answer(check, &End::Code(1), output), Answer::Noticed(_)));
    }

    #[test]
    fn a_check_names_what_there_is() {
        let missing = |check| Check::parse(check).unwrap().missing();
        assert_eq!(missing(TEST), [""; 0]);
        assert_eq!(missing("test --package evenloop-executor --lib -- task::places"), [""; 0]);
        assert_eq!(missing("loom lock::nothing_races_nothing").len(), 1);
        assert_eq!(missing("test --package evenloop-tests --test universal -- u1_ u99_").len(), 1);
        assert_eq!(missing("test --package evenloop-tests --test nowhere").len(), 1);
        assert_eq!(missing("test --package nobody --lib").len(), 1);
        assert!(Check::parse("test --package evenloop-tests u1_").is_err());
        assert!(Check::parse("guess anything").is_err());
    }
}
