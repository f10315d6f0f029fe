//! The seams that the Evenloop crates share.
//!
//! Core schedules nothing and waits for nothing. It says how a leaf future finds its host ([`Runtime`]), what it may ask
//! of it ([`Spawn`], [`Timers`], [`Park`]), and how a wake-up gets from a lock to a task ([`WakeBatch`]). Whoever offers these
//! traits can host every other crate of the workspace; whoever uses only them runs under every host.
//!
//! | module       | holds                                                                     |
//! |--------------|---------------------------------------------------------------------------|
//! | [`shim`]     | locks and atomics: std and parking_lot, or loom, or ThreadSanitizer's      |
//! | `wake_batch` | wakers gathered under a lock and woken after it                           |
//! | `park`       | how a thread sleeps; parks nest                                           |
//! | `spawn`      | how futures and blocking jobs reach whoever runs them                     |
//! | `timers`     | a clock, and wake-ups at its instants                                     |
//! | `after`      | a moment to wait for, for crates that know no `sleep`                     |
//! | `staggered`  | attempts that start one after the other, until one succeeds                |
//! | `reactor`    | descriptors, and what is known about their readiness                      |
//! | `runtime`    | the bundle of the above, and which one is current                         |
//! | `within`     | a future that takes its runtime along                                     |
//! | [`context`]  | variables whose values follow the flow from task to task                  |
//! | [`budget`]   | how long a task that is always ready may go on                            |
//! | [`cancel`]   | scopes that can be cancelled, and code that cleans up when they are       |
//! | [`watch`]    | what tasks wait for, and who holds what, for whoever asks                 |
//! | `child_set`  | children that are cancelled together and waited for                        |

#![cfg_attr(not(evenloop_tsan), forbid(unsafe_code))]
#![deny(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod shim;

mod wake_batch;

mod park;

mod spawn;

mod timers;

mod after;

mod staggered;

mod reactor;

mod runtime;

mod within;

pub mod context;

pub mod budget;

pub mod cancel;

pub mod watch;

mod child_set;

pub use after::After;
pub use child_set::{Asked, Cancel, ChildKey, ChildSet, FewerThan, Member};
pub use park::{Park, ParkState, ThreadPark, Unpark, Wait};
pub use reactor::{AwaitReady, Direction, Reactor, Readiness, Ready, Seen, SourceKey, Unwatched, WaiterKey};
pub use runtime::{Builder as RuntimeBuilder, Entered, NoRuntime, Runtime, RuntimeId};
pub use spawn::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Spawn};
pub use staggered::{RaceParts, Staggered};
pub use timers::{Elapsed, TimerKey, Timers, TimersEnded, deadline_after};
pub use wake_batch::WakeBatch;
pub use within::Within;
