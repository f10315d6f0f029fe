//! What a running program's tasks wait for, asked from outside.
//!
//! A program that listens ([`listen`], or the environment variable `EVENLOOP_CONSOLE`) has an agent: a thread of its own behind
//! a Unix socket, which answers also while an event loop is blocked. The command `evenloop` asks it:
//!
//! ```text
//! evenloop ps PID             every task, with what it waits for, since when, and who holds it
//! evenloop pstree PID         the same as a tree; a cycle is printed as the deadlock that it is
//! evenloop top PID            who uses the loop, on a screen that renews itself
//! evenloop cancel PID TASK    asks a task to end
//! evenloop trace PID --for 5s -o FILE      what ran when, for Perfetto or chrome://tracing
//! ```
//!
//! | module   | holds                                                          |
//! |----------|----------------------------------------------------------------|
//! | `agent`  | the socket and who may connect                                 |
//! | `wire`   | the protocol, version 1                                        |
//! | `client` | asking                                                         |
//! | `spans`  | tasks and what they wait on as `tracing` spans, for tokio-console (feature `tracing`) |
//!
//! Only loops that are watched are seen: built with `watch(true)`, in debug mode, or by `evenloop` with the variable set.

#![forbid(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

mod agent;

mod wire;

mod client;

#[cfg(feature = "tracing")]
mod spans;

pub use agent::{Agent, VARIABLE, default_path, listen, listen_if_asked};
pub use client::{Client, ClientError, Spans, find};
#[cfg(feature = "tracing")]
pub use spans::TaskSpans;
pub use wire::{Command, VERSION};
