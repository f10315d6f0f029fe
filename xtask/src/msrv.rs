//! `cargo xtask msrv`: the library crates build with the oldest Rust that they promise.

use crate::ci::Skips;
use crate::{Outcome, sh, tree};

/// Builds each library crate with its `rust-version`, if that toolchain is installed.
pub(crate) fn run(skips: &mut Skips) -> Outcome {
    let oldest = tree::manifest(&sh::root().join("Cargo.toml"))["workspace"]["package"]["rust-version"]
        .as_str()
        .expect("rust-version is a string")
        .to_owned();
    if !sh::has_toolchain(&oldest) {
        skips.note(&format!("the oldest Rust needs toolchain {oldest} (cargo xtask setup --long)"));
        return Ok(());
    }
    // A library with a floor of its own has it from its client (`evenloop-redis`).
    let promises_it =
        |library: &tree::Library| library.manifest["package"]["rust-version"].as_str().is_none();
    for library in tree::libraries().into_iter().filter(promises_it) {
        let mut check = sh::cargo_of(&oldest, "check --all-features --target-dir target/msrv --package");
        sh::run(check.arg(&library.package))?;
    }
    println!("the library crates build with Rust {oldest}");
    Ok(())
}
