//! What tests of concurrent programs need.
//!
//! | to …                                                   | there is                                                |
//! |--------------------------------------------------------|---------------------------------------------------------|
//! | wait until nothing moves                               | [`settled`]                                             |
//! | have blocks in several tasks run in a given order      | [`Sequencer`]                                           |
//! | have a slow and lossy connection without a network     | [`stream_pair`]                                         |
//! | run a test in many random orders                       | `#[evenloop::test(seeds = 100)]`, [`with_seeds`]        |
//! | run a small test in every order                        | [`explore`]                                             |

mod explore;
mod memory;
mod random;
pub(crate) mod seeds;
mod sequencer;

pub use self::explore::{explore, replay};
pub use self::memory::{Link, MemoryReader, MemoryStream, MemoryWriter, Wire, stream_pair};
pub use self::seeds::{TestOutcome, with_seeds};
pub use self::sequencer::{Sequencer, Turn};
pub use evenloop_executor::{Settled, settled};
