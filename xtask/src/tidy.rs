//! `cargo xtask tidy`: the rules that no lint knows, each with a message that says how to fix it.

mod layers;
mod links;
mod listed;
mod memory;
mod models;
mod named;
mod sources;
mod waits;

pub(crate) use layers::dependencies;

use crate::{Outcome, ordmut, plant};

/// Runs every rule, and names every place that breaks one.
pub(crate) fn run() -> Outcome {
    let mut findings = Vec::new();
    layers::check(&mut findings);
    listed::check(&mut findings);
    links::check(&mut findings);
    sources::check(&mut findings);
    memory::check(&mut findings);
    models::check(&mut findings);
    waits::check(&mut findings);
    named::check(&mut findings);
    findings.extend(plant::stale());
    findings.extend(ordmut::stale());
    if findings.is_empty() {
        return Ok(());
    }
    findings.push(format!("{} findings", findings.len()));
    Err(findings.join("\n"))
}
