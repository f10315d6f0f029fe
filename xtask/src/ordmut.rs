//! `cargo xtask ordmut`: is every ordering needed, and every wake-up that a model reaches?
//!
//! The models are built once. Each runs once in list mode, which says which sites it reaches. Then each site is changed
//! in each way that weakens it, one at a time and by an environment variable, and the models that reach the site run,
//! both passes, the cheapest first, until one fails: the mutant is *killed*. A mutant that nobody kills stands in
//! `ordmut.toml` with a reason, or the command fails.
//!
//! ```text
//! load                 Acquire -> Relaxed
//! store                Release -> Relaxed
//! swap, fetch, CAS     AcqRel -> Acquire, -> Release;  Acquire -> Relaxed;  Release -> Relaxed
//! CAS on failure       Acquire -> Relaxed
//! fence                SeqCst -> AcqRel -> Acquire, Release -> gone
//! compare_exchange     fails once although the value was the expected one
//!   ..._weak           the same, but that may happen: here a model must *not* fail
//! wake, unpark, notify left out
//! ```
//!
//! A race, an assertion, a deadlock or a leak kills. A time-out or loom's limit of branches kills weakly, since it could
//! be an accident of the run: such a mutant was looked at, and stands in `ordmut.toml` with the verdict `weak`.

mod sites;

use crate::models::{self, Model, Pass, Programs, Verdict};
use crate::{Outcome, proof, sh, tree};
use sites::Site;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const TABLE: &str = "crates/loom-tests/ordmut.toml";

/// As in the quick run: a weakened ordering that needs three preemptions to show is better served by a smaller model.
const PREEMPTIONS: Option<u32> = Some(2);

/// A mutant's run may take ten times as long as the normal one, and at least so long.
const LEAST_LIMIT: Duration = Duration::from_secs(2);

/// Of twenty weakened orderings, one may be explained instead of killed.
const EXPLAINED: usize = 20;

/// What the user asked for.
pub(crate) struct Options {
    words: Vec<String>,
    list: bool,
}

impl Options {
    /// Every site of every crate.
    pub(crate) fn all() -> Self {
        Self { words: vec![], list: false }
    }

    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut options = Self::all();
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Long("list") => options.list = true,
                lexopt::Arg::Value(word) => options.words.push(word.to_string_lossy().into_owned()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}

/// A site, changed in one way.
struct Mutant {
    site: Site,
    /// What `ordmut.toml` calls the site.
    name: String,
    change: &'static str,
}

impl Mutant {
    fn shown(&self) -> String {
        let Site { place, operation, written, argument, .. } = &self.site;
        let which = if *argument == 1 { " on failure" } else { "" };
        match self.change {
            "skip" => format!("{} {operation} left out", place.shown()),
            "fail" => format!("{} {operation} fails once", place.shown()),
            weaker => format!("{} {operation}{which} {written} -> {weaker}", place.shown()),
        }
    }

    /// The entry that would explain it, to be filled in.
    fn entry(&self, verdict: &str) -> String {
        let Self { name, change, .. } = self;
        format!(
            "ordmut.toml:\n    [[survivor]]\n    site = \"{name}\"\n    change = \"{change}\"\n    verdict = \"{verdict}\"\n    \
             why = \"...\"\n    test = [\"FILE::NAME\"]"
        )
    }
}

/// What became of a mutant.
enum Fate {
    Killed(Verdict, String),
    /// A time-out, or loom's limit: nobody gave a better reason.
    Weak(Verdict, String),
    Survived,
}

pub(crate) fn run(options: Options) -> Outcome {
    let begin = Instant::now();
    let models = models_for(&options.words)?;
    let programs = Programs::build(&models)?;
    let reached = list(&programs, &models)?;
    let asked: BTreeMap<_, _> =
        reached.iter().filter(|(site, _)| site.place.is_asked_for(&options.words)).collect();
    let names = sites::names(reached.keys());
    let unreached = unreached(&reached, &options.words);
    if options.list {
        for (site, models) in &asked {
            let models: Vec<_> = models.iter().map(|(_, model)| model.id()).collect();
            println!("{} {} {}  {}", site.hook(), site.written, site.changes().join("|"), models.join(" "));
        }
        unreached.iter().for_each(|line| println!("{line}"));
        return Ok(());
    }

    let mutant = |site: &Site, change| Mutant { site: site.clone(), name: names[site].clone(), change };
    let mutants: Vec<_> = asked
        .keys()
        .flat_map(|site| site.changes().into_iter().map(move |change| mutant(site, change)))
        .collect();
    println!("{} sites, {} mutants, {} models", asked.len(), mutants.len(), models.len());
    let fates = models::in_parallel(&mutants, |mutant| fate(&programs, mutant, &reached[&mutant.site]));
    report(&options, &mutants, &fates, unreached, begin.elapsed())
}

/// The models that can reach what is asked for: a crate's own, and all for core, which everybody reaches.
fn models_for(words: &[String]) -> Result<Vec<Model>, String> {
    let all = models::declared()?;
    let owner = |word: &String| {
        let owned = tree::libraries().into_iter().map(|library| library.folder);
        let of_file = |folder: &String| {
            tree::sources(&format!("crates/{folder}/src"))
                .iter()
                .any(|source| source.path == *word || source.path.ends_with(&format!("/{word}")))
        };
        let mut owners = owned.filter(|folder| folder == word || of_file(folder));
        owners.next().ok_or_else(|| format!("no crate or file is called `{word}`"))
    };
    let owners: BTreeSet<_> = words.iter().map(owner).collect::<Result<_, _>>()?;
    let wanted =
        |model: &Model| owners.is_empty() || owners.contains("core") || owners.contains(&model.owner);
    let models: Vec<_> = all.into_iter().filter(wanted).collect();
    if models.is_empty() { Err(format!("there are no models of {}", words.join(", "))) } else { Ok(models) }
}

/// Which models reach a site, the cheapest first, with the time that both passes take.
type Reached = BTreeMap<Site, Vec<(Duration, Model)>>;

fn list(programs: &Programs, models: &[Model]) -> Result<Reached, String> {
    let lists = models::in_parallel(models, |model| {
        let file = sh::root().join(format!("target/loom/{}-{}.sites", model.kind, model.name));
        // Left over from the last run; the hook appends.
        let _ = std::fs::remove_file(&file);
        let mut time = Duration::ZERO;
        for pass in Pass::BOTH {
            let sites = file.to_string_lossy();
            let run = models::run(
                programs,
                model,
                pass,
                PREEMPTIONS,
                Duration::from_secs(300),
                &[("EVENLOOP_SITES", &sites)],
            );
            if run.verdict != Verdict::Passed {
                return Err(format!("{}{}: {}: mend it first", pass.shown(), model.id(), run.verdict));
            }
            time += run.time;
        }
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Ok((time, model.clone(), text.lines().filter_map(Site::parse).collect::<BTreeSet<_>>()))
    });
    let mut reached = Reached::new();
    for list in lists {
        let (time, model, sites) = list?;
        for site in sites {
            reached.entry(site).or_default().push((time, model.clone()));
        }
    }
    reached.values_mut().for_each(|models| models.sort());
    Ok(reached)
}

/// Orderings in the text that no model comes by; a lone Relaxed cannot be weakened, so it is not asked for.
fn unreached(reached: &Reached, words: &[String]) -> Vec<String> {
    let seen: BTreeSet<_> =
        reached.keys().map(|site| (&site.place.file, site.place.line, site.place.column)).collect();
    let written = sites::written().into_iter().filter(|written| written.place.is_asked_for(words));
    let missing = written.filter(|written| {
        !written.is_relaxed
            && !seen.contains(&(&written.place.file, written.place.line, written.place.column))
    });
    missing.map(|written| format!("{}: no model reaches this ordering", written.place.shown())).collect()
}

fn fate(programs: &Programs, mutant: &Mutant, models: &[(Duration, Model)]) -> Fate {
    let hook = format!("{} {}", mutant.site.hook(), mutant.change);
    let mut weak = None;
    for (time, model) in models {
        for pass in Pass::BOTH {
            let limit = (*time * 10).max(LEAST_LIMIT);
            let run = models::run(programs, model, pass, PREEMPTIONS, limit, &[("EVENLOOP_MUTANT", &hook)]);
            let by = format!("{}{}", pass.shown(), model.id());
            match run.verdict {
                // Less to explore is no failure: the mutant may have left out a fast path.
                Verdict::Passed | Verdict::Unexplored(_) => {}
                verdict @ (Verdict::Branches | Verdict::TimeOut) => weak = weak.or(Some((verdict, by))),
                verdict => return Fate::Killed(verdict, by),
            }
        }
    }
    weak.map_or(Fate::Survived, |(verdict, by)| Fate::Weak(verdict, by))
}

fn report(
    options: &Options,
    mutants: &[Mutant],
    fates: &[Fate],
    unreached: Vec<String>,
    time: Duration,
) -> Outcome {
    let verdicts = Verdicts::read()?;
    let mut failures = unreached;
    let mut used = BTreeSet::new();
    let (mut killed, mut weak, mut explained) = (0, 0, 0);
    let mut explained_orderings = 0;
    let orderings = mutants.iter().filter(|mutant| !["skip", "fail"].contains(&mutant.change)).count();
    for (mutant, fate) in mutants.iter().zip(fates) {
        let shown = mutant.shown();
        let may_happen = mutant.site.allows(mutant.change);
        match fate {
            Fate::Killed(verdict, by) if may_happen => {
                println!("{shown}: FAILS {by}: {verdict}");
                failures.push(format!(
                    "{shown}: a weak exchange may fail without reason, and {by} does not stand it: {verdict}"
                ));
            }
            Fate::Killed(verdict, by) => {
                println!("{shown}: killed by {by}: {verdict}");
                killed += 1;
            }
            _ if may_happen => println!("{shown}: stands it"),
            Fate::Weak(verdict, by) => {
                println!("{shown}: WEAKLY killed by {by}: {verdict}");
                weak += 1;
                match verdicts.find(mutant, true) {
                    Some((at, _)) => drop(used.insert(at)),
                    None => failures.push(format!(
                        "{shown}: {by} notices by a {verdict} only. Make a model fail, or look at it and explain it in {}",
                        mutant.entry("weak")
                    )),
                }
            }
            Fate::Survived => match verdicts.find(mutant, false) {
                Some((at, entry)) => {
                    println!("{shown}: survives, {}: {}", entry.verdict, entry.why);
                    used.insert(at);
                    explained += 1;
                    explained_orderings += usize::from(!["skip", "fail"].contains(&mutant.change));
                }
                None => {
                    println!("{shown}: SURVIVES");
                    failures.push(format!(
                        "{shown}: no model notices. Weaken it for good, write the model that fails, or explain it in {}",
                        mutant.entry("loom-cannot")
                    ));
                }
            },
        }
    }
    failures.extend(verdicts.stale(&used, &options.words));
    let seconds = time.as_secs_f64();
    println!(
        "\n{} mutants: {killed} killed, {weak} weakly, {explained} explained; {seconds:.0} s",
        mutants.len()
    );
    if options.words.is_empty() && explained_orderings * EXPLAINED > orderings {
        failures.push(format!("{explained_orderings} of {orderings} weakened orderings are explained, not killed: more than one in {EXPLAINED}"));
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("\n{}\n{} findings", failures.join("\n"), failures.len()))
    }
}

/// What `verdict` may say in `ordmut.toml`.
const VERDICTS: &[&str] = &["loom-cannot", "harmless", "weak"];

/// `ordmut.toml`: the mutants that nobody kills, or not well, each with its reason.
struct Verdicts(Vec<Entry>);

struct Entry {
    site: String,
    change: String,
    verdict: String,
    why: String,
    /// Names of tests: `FILE::NAME`.
    tests: Vec<String>,
}

impl Verdicts {
    fn read() -> Result<Self, String> {
        Self::parse(&tree::manifest(&sh::root().join(TABLE)))
    }

    fn parse(table: &toml::Table) -> Result<Self, String> {
        let survivors =
            table.get("survivor").and_then(|survivors| survivors.as_array()).cloned().unwrap_or_default();
        survivors.iter().map(Entry::parse).collect::<Result<_, _>>().map(Self)
    }

    /// The entry of this mutant: about a weak kill, or about none.
    fn find(&self, mutant: &Mutant, weak: bool) -> Option<(usize, &Entry)> {
        let fits = |entry: &Entry| {
            entry.site == mutant.name && entry.change == mutant.change && (entry.verdict == "weak") == weak
        };
        self.0.iter().enumerate().find(|(_, entry)| fits(entry))
    }

    /// Entries about files that were asked for, that no survivor used.
    fn stale(&self, used: &BTreeSet<usize>, words: &[String]) -> Vec<String> {
        let asked = |entry: &Entry| {
            let file = entry.site.split(' ').next().unwrap_or_default().to_owned();
            sites::Place { file, line: 0, column: 0 }.is_asked_for(words)
        };
        let stale = self.0.iter().enumerate().filter(|(at, entry)| !used.contains(at) && asked(entry));
        stale
            .map(|(_, entry)| {
                format!(
                    "ordmut.toml: `{}` {} is not {}: killed now, or gone: remove the entry",
                    entry.site, entry.change, entry.verdict
                )
            })
            .collect()
    }
}

impl Entry {
    fn parse(entry: &toml::Value) -> Result<Self, String> {
        let without = |key: &str| format!("ordmut.toml: a [[survivor]] without `{key}`: {entry:?}");
        let text = |key: &str| {
            let value = entry.get(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
            value.map(str::to_owned).ok_or_else(|| without(key))
        };
        let verdict = text("verdict")?;
        if !VERDICTS.contains(&verdict.as_str()) {
            return Err(format!(
                "ordmut.toml: `{verdict}` is no verdict: `loom-cannot` (say which test covers it), `harmless` (say why) or \
                 `weak` (killed by a time-out or a limit: say why no model can fail); what is too strong is weakened, \
                 what has no model gets one"
            ));
        }
        let tests = entry.get("test").and_then(|tests| tests.as_array()).ok_or_else(|| without("test"))?;
        let tests: Vec<_> = tests.iter().filter_map(|test| test.as_str()).map(str::to_owned).collect();
        if tests.is_empty() {
            return Err(without("test"));
        }
        Ok(Self { site: text("site")?, change: text("change")?, verdict, why: text("why")?, tests })
    }
}

/// What is wrong with `ordmut.toml` as it is: for `tidy`, which takes no time.
pub(crate) fn stale() -> Vec<String> {
    match Verdicts::read() {
        Err(why) => vec![why],
        Ok(verdicts) => {
            let names = verdicts.0.iter().flat_map(|entry| &entry.tests);
            names.flat_map(|name| proof::missing(TABLE, &format!("`{name}`"))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(verdict: &str, test: &str) -> Result<Verdicts, String> {
        let text = format!(
            "[[survivor]]\nsite = \"a.rs f load\"\nchange = \"Relaxed\"\nwhy = \"so\"\nverdict = \"{verdict}\"\n{test}"
        );
        Verdicts::parse(&text.parse().unwrap())
    }

    #[test]
    fn an_entry_names_its_tests_in_a_list() {
        assert_eq!(parsed("weak", "test = [\"a::b\", \"c::d\"]").unwrap().0[0].tests, ["a::b", "c::d"]);
        for test in ["test = \"a::b, and five more\"", "test = []", ""] {
            assert!(parsed("weak", test).is_err(), "{test}");
        }
        assert!(parsed("fine", "test = [\"a::b\"]").is_err());
    }

    #[test]
    fn a_weak_kill_needs_an_entry_that_says_weak() {
        let site = Site::parse("crates/sync/src/a.rs:1:1 load 0 Acquire").unwrap();
        let mutant = Mutant { site, name: "a.rs f load".into(), change: "Relaxed" };
        let weak = parsed("weak", "test = [\"a::b\"]").unwrap();
        assert!(weak.find(&mutant, true).is_some() && weak.find(&mutant, false).is_none());
        let harmless = parsed("harmless", "test = [\"a::b\"]").unwrap();
        assert!(harmless.find(&mutant, true).is_none() && harmless.find(&mutant, false).is_some());
    }
}
