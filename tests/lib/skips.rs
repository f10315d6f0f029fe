//! What a test does not check, for want of a program or of a right.
//!
//! `cargo xtask ci` counts these and names them at its end; with `--strict` one fails.

use std::io::Write as _;

/// Says that something was not checked, for this reason, and what is to be done to have it checked.
///
/// # Panics
///
/// Everything has to be checked (`cargo xtask ci --strict` sets `EVENLOOP_STRICT`).
pub fn skipped(why: &str, way_out: &str) {
    assert!(std::env::var_os("EVENLOOP_STRICT").is_none(), "not checked: {why} ({way_out})");
    eprintln!("skipped: {why} ({way_out})");
    // What a test that passes prints, nobody sees.
    let Some(path) = std::env::var_os("EVENLOOP_SKIPS") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let noted = file.and_then(|mut file| file.write_all(format!("{why} ({way_out})\n").as_bytes()));
    noted.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// As [`skipped`], for what is not here and what `cargo xtask setup` installs.
pub fn missing(what: &str) {
    skipped(&format!("{what} is not installed"), "cargo xtask setup");
}
