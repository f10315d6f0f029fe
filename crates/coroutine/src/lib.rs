//! Generators, coroutines and asynchronous generators on stable Rust.
//!
//! A body is an async closure; it gets a handle through which it yields, and somebody outside resumes it. No runtime is
//! needed and none is known here: a coroutine runs while it is resumed, on the resumer's stack, and an asynchronous
//! generator runs inside the task that reads it.
//!
//! ```
//! use evenloop_coroutine::Coroutine;
//!
//! let odd = Coroutine::new(async |mut co| {
//!     for n in (1..8).step_by(2) {
//!         co.yield_(n).await;
//!     }
//! });
//! assert!(odd.eq([1, 3, 5, 7]));
//! ```
//!
//! | what                                          | by                                                             |
//! |-----------------------------------------------|----------------------------------------------------------------|
//! | Python's generator: `send`, `throw`, `close`  | [`Coroutine`], on the stack [`PinnedCoroutine`]                |
//! | its asynchronous generator: `aclose`          | [`AsyncGenerator`], on the stack [`PinnedAsyncGenerator`]      |
//! | `async with aclosing(...)`                    | [`aclosing`]                                                   |
//! | what the body yields through                  | [`Co`]                                                         |
//!
//! # Why this is sound
//!
//! The two sides meet in one slot beside the body, reached by the body through a pointer. In short: the slot has one
//! address as long as the body lives; the handle that holds the pointer has a lifetime that nobody outside the body can
//! name, so it can neither be kept nor be mistaken for another body's; and the two sides take turns. `frame.rs` says so
//! in numbered invariants and is the only file with unsafe code. No yield asks thread-local storage or a wrapped
//! waker, so coroutines nest, move between threads, and combine with `join!` and `select!`.
//!
//! What must not happen, and what happens instead:
//!
//! | misuse                                                  | is                                                   |
//! |---------------------------------------------------------|------------------------------------------------------|
//! | the handle leaves its body                              | a compile error                                      |
//! | a yielded reference outlives what it points to          | a compile error                                      |
//! | two yields of one body at once, as in `join!`           | a compile error                                      |
//! | resuming a coroutine while it runs                      | a compile error; through a `RefCell`, its panic      |
//! | throwing into a body that does not expect it            | a compile error: it is not resumed with a `Result`   |
//! | a coroutine awaits something other than its yield       | a panic of `resume`; the body is closed              |
//! | a body waits without polling its pending yield          | a panic of the resumer; the body is closed           |
//! | resuming one that has ended                             | a panic, or [`Exhausted`] from `try_resume`          |
//! | yielding again when a yield was polled and leaked       | a panic where the body stops next                    |
//! | a yield is polled after it gave its value               | a panic where the body stops next                    |
//! | yielding after `Err(Closed)`                            | a panic of `aclose`; the body is closed              |

#![deny(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

/// What the README shows is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod co;

mod coroutine;

mod async_generator;

mod aclosing;

#[allow(unsafe_code)]
mod frame;

pub use aclosing::aclosing;
pub use async_generator::{
    Aclose, AsyncBody, AsyncGenerator, Closed, Ending, LocalAsyncGenerator, Next, PinnedAsyncGenerator,
    SendAsyncGenerator,
};
pub use co::{Co, Yield};
pub use coroutine::{Coroutine, Exhausted, LocalCoroutine, PinnedCoroutine, Resumed, SendCoroutine, Values};

pub use frame::{Body, Start};
