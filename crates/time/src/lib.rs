//! Sleep, timeouts and intervals, on a clock that can be changed.
//!
//! The leaf futures ([`sleep()`], [`timeout()`], [`interval()`] and their siblings) run on whatever
//! [`Runtime`](evenloop_core::Runtime) is current and offers [`Timers`](evenloop_core::Timers). The engine under them
//! ([`Driver`]) offers just that, on any park; its [`Clock`] is the real one or a virtual one.
//!
//! | module     | holds                                                            | does not know            |
//! |------------|------------------------------------------------------------------|--------------------------|
//! | `wheel`    | which entries are due, in constant time each                     | wakers, locks, clocks    |
//! | `clock`    | the real clock and the virtual one                               | the wheel                |
//! | `pen`      | timers that the loop's thread has just set                       | who sleeps, and when     |
//! | `engine`   | wheel, lock and clock: the `Timers` of our hosts                 | how its host sleeps      |
//! | `driver`   | an engine on a park                                              | tasks                    |
//! | `guest`    | an engine on another host's timer                                | the host                 |
//! | `entry`    | a leaf's place with some engine                                  | which engine             |
//! | `sleep`, `interval`, `timeout` | the leaves                                   | the driver               |
//! | `now`      | what time it is by the current runtime, and moving it            | which clock that is      |

#![forbid(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod wheel;

mod clock;

mod pen;

mod engine;

mod driver;

mod guest;

mod entry;

mod sleep;

mod now;

mod interval;

mod timeout;

pub use clock::{Clock, VirtualClock};
pub use driver::Driver;
pub use engine::Engine;
pub use evenloop_core::Elapsed;
pub use guest::{Guest, guest};
pub use interval::{Interval, MissedTick, interval, interval_at, interval_at_on, interval_on};
pub use now::{advance, now, sleep_blocking};
pub use sleep::{Sleep, sleep, sleep_on, sleep_until, sleep_until_on};
pub use timeout::{Timeout, timeout, timeout_at, timeout_at_on, timeout_on};
