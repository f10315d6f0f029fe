//! `cargo xtask soak [--minutes N]`: `tests/soak.rs` for as long as asked; it fails when descriptors, threads or memory grow.

use crate::{Outcome, models, sh};

/// What the long run gives it.
pub(crate) const SHORT: f64 = 1.0;

pub(crate) fn run(minutes: f64) -> Outcome {
    let mut build = sh::cargo("test --release --package evenloop-tests --test soak --no-run --quiet");
    let programs = models::executables(&sh::read(build.arg("--message-format=json-render-diagnostics"))?);
    let (_, program) =
        programs.into_iter().find(|(name, _)| name == "soak").ok_or("cargo built no `soak`")?;
    sh::run(sh::command(&program.to_string_lossy(), "--minutes").arg(minutes.to_string()))
}
