//! The tests of `streams_process` once more, with a thread for each child instead of a pidfd.

#[path = "streams_process.rs"]
mod suite;
