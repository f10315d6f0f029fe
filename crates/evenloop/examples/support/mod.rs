//! What the examples share: their flags, and a run on the real or the virtual clock.

#![allow(dead_code)] // each example uses a part

use std::future::Future;
use std::time::{Duration, Instant};

/// The flags of one example: `--virtual`, `--seed N`, and the numbers that it declares.
pub(crate) struct Options {
    /// Whether time is simulated: same order, same printed times, no waiting.
    pub(crate) virtual_clock: bool,
    seed: u64,
    numbers: Vec<(&'static str, f64)>,
}

/// Reads the command line. `numbers` are the flags with a value: name, default, and what it is.
///
/// `--help` prints them and ends the program; so does a flag that is not known, with status 2.
pub(crate) fn options(about: &str, numbers: &[(&'static str, f64, &str)]) -> Options {
    let mut options = Options {
        virtual_clock: false,
        seed: 444,
        numbers: numbers.iter().map(|(name, default, _)| (*name, *default)).collect(),
    };
    if let Err(error) = options.read(about, numbers) {
        eprintln!("{error}; see --help");
        std::process::exit(2);
    }
    options
}

impl Options {
    fn read(&mut self, about: &str, numbers: &[(&str, f64, &str)]) -> Result<(), lexopt::Error> {
        use lexopt::prelude::*;
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("virtual") => self.virtual_clock = true,
                Long("seed") => self.seed = arguments.value()?.parse()?,
                Long("help") | Short('h') => {
                    println!("{about}\n");
                    println!("  --virtual        simulate time");
                    println!("  --seed N         seed of all randomness [444]");
                    for (name, default, what) in numbers {
                        println!("  --{:<14} {what} [{default}]", format!("{name} N"));
                    }
                    std::process::exit(0);
                }
                Long(flag) => {
                    let known = self.numbers.iter().position(|(name, _)| *name == flag);
                    let known = known.ok_or_else(|| format!("there is no flag --{flag}"))?;
                    self.numbers[known].1 = arguments.value()?.parse()?;
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(())
    }

    /// The value of a declared flag.
    pub(crate) fn number(&self, name: &str) -> f64 {
        let known = self.numbers.iter().find(|(known, _)| *known == name);
        known.unwrap_or_else(|| panic!("the example declares no flag --{name}")).1
    }

    /// The value of a declared flag, in seconds.
    pub(crate) fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs_f64(self.number(name))
    }

    /// Random numbers that repeat themselves from run to run.
    pub(crate) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }

    /// Runs `main` on the real or the virtual clock; Ctrl-C ends the program with status 130.
    pub(crate) fn run<T>(&self, main: impl Future<Output = T>) -> T {
        evenloop::entry::main(self.virtual_clock, main)
    }
}

/// Measures on the loop's clock, so that simulated seconds count.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(evenloop::time::now())
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        evenloop::time::now().duration_since(self.0).as_secs_f64()
    }
}
