//! The tests that every host of Evenloop's crates passes.
//!
//! A host is whatever offers core's seams: Evenloop's own loop, tokio, smol, or one of your own. It says how it runs a
//! program by implementing [`Host`]; [`conformance!`] then makes one `#[test]` of each test here. They are tests of the
//! public interface of time, sync and cancellation, and they need of the host what those crates need: timers that follow a
//! clock, tasks that may move between threads, and threads that may block. [`conformance_streams!`] does the same for
//! streams and servers, which need a reactor as well.
//!
//! # Writing a host
//!
//! The smallest host gives each task a thread. This is all of it:
//!
//! ```
//! use evenloop_conformance::Host;
//! use evenloop_core::{BoxFuture, BoxJob, LocalBoxFuture, NotSpawned, Park, Runtime, RuntimeId, Spawn};
//! use evenloop_streams::ReactorDriver;
//! use evenloop_time::{Clock, Driver};
//! use std::future::Future;
//! use std::sync::{Arc, OnceLock, mpsc};
//!
//! struct Threads;
//!
//! impl Host for Threads {
//!     fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T {
//!         let (done, result) = mpsc::channel();
//!         let reactor = ReactorDriver::new().unwrap();
//!         let handle = Arc::new(reactor.handle());
//!         let mut driver = Driver::new(reactor, clock);
//!         let spawn = Arc::new(OneEach(OnceLock::new()));
//!         let runtime = Runtime::builder("threads").timers(driver.timers()).reactor(handle).spawn(spawn.clone()).build();
//!         spawn.0.set(runtime.id()).unwrap();
//!         let unparker = driver.unparker();
//!         let main = async move {
//!             done.send(main.await).unwrap();
//!             unparker.unpark();
//!         };
//!         runtime.spawn_for("run").unwrap().spawn(Box::pin(main)).unwrap();
//!         loop {
//!             match result.try_recv() {
//!                 Ok(value) => return value,
//!                 Err(mpsc::TryRecvError::Disconnected) => panic!("the program panicked"),
//!                 Err(mpsc::TryRecvError::Empty) => drop(driver.park(Some(std::time::Duration::from_millis(50)))),
//!             }
//!         }
//!     }
//! }
//!
//! struct OneEach(OnceLock<RuntimeId>);
//!
//! impl Spawn for OneEach {
//!     fn spawn(&self, future: BoxFuture) -> Result<(), NotSpawned<BoxFuture>> {
//!         let runtime = Runtime::with_id(self.0.get().copied().unwrap(), Runtime::clone).unwrap();
//!         std::thread::spawn(move || futures::executor::block_on(runtime.scope(future)));
//!         Ok(())
//!     }
//!     fn spawn_local(&self, future: LocalBoxFuture) -> Result<(), NotSpawned<LocalBoxFuture>> {
//!         Err(NotSpawned { value: future, why: "every task has a thread of its own" })
//!     }
//!     fn spawn_blocking(&self, job: BoxJob) -> Result<(), NotSpawned<BoxJob>> {
//!         std::thread::spawn(job);
//!         Ok(())
//!     }
//! }
//! # // In a test of yours: `evenloop_conformance::conformance!(Threads);`
//! # evenloop_conformance::run_all::<Threads>();
//! # evenloop_conformance::run_all_streams::<Threads>();
//! ```
//!
//! A host that waits in the kernel by itself drives the timers with `evenloop_time::guest` and the reactor with
//! `evenloop_streams::guest`: see `crates/hosts/smol`.

#![forbid(unsafe_code)]
#![doc(test(attr(allow(unused), deny(unused_must_use))))]

pub mod cancellation;
pub mod streams;
pub mod sync;
pub mod time;

mod together;

use evenloop_time::Clock;
use std::future::Future;

/// Runs programs on a host.
pub trait Host: 'static {
    /// Runs `main` to its end on a host made for it, with timers that follow `clock`, and ends the host.
    ///
    /// While `main` and what it spawns are polled, the host's runtime is the current one.
    fn run<T: Send + 'static>(clock: Clock, main: impl Future<Output = T> + Send + 'static) -> T;
}

/// Makes of a list of tests a macro for test files, and a function for a place without a test harness.
macro_rules! list {
    ($(#[doc = $offers:literal])* $conformance:ident $run_all:ident $($module:ident { $($test:ident)* })*) => {
        /// Makes one `#[test]` of each test for the given [`Host`].
        $(#[doc = $offers])*
        ///
        /// ```
        /// # use evenloop_conformance::Host;
        /// # struct MyHost;
        /// # impl Host for MyHost {
        /// #     fn run<T: Send + 'static>(
        /// #         _: evenloop_time::Clock,
        /// #         main: impl std::future::Future<Output = T> + Send + 'static,
        /// #     ) -> T { futures::executor::block_on(main) }
        /// # }
        #[doc = concat!("evenloop_conformance::", stringify!($conformance), "!(MyHost);")]
        /// ```
        #[macro_export]
        macro_rules! $conformance {
            ($host:ty) => {
                $(
                    mod $module {
                        use super::*;
                        $(
                            #[test]
                            fn $test() {
                                $crate::$module::$test::<$host>();
                            }
                        )*
                    }
                )*
            };
        }

        /// Runs all tests one after the other, for a place without a test harness.
        ///
        /// # Panics
        ///
        /// With the first test that fails.
        pub fn $run_all<H: Host>() {
            $($($module::$test::<H>();)*)*
        }
    };
}

list! {
    /// The host offers timers, tasks and threads.
    conformance run_all
    time {
        a_sleep_is_never_early
        a_sleep_of_zero_lets_others_run
        sleeps_run_at_the_same_time
        a_hundred_sleeping_tasks_all_wake
        an_earlier_sleep_does_not_wait_for_a_later_one
        a_pending_sleep_moves_to_another_task
        a_sleep_can_be_set_from_any_thread
        a_reset_sleep_ends_at_its_new_time
        a_timeout_ends_what_waits_and_drops_it
        a_timeout_gives_a_value_in_time
        what_is_ready_at_once_never_times_out
        an_interval_keeps_its_rhythm
        a_far_deadline_is_accepted
        a_waker_that_panics_ends_nobodys_sleep
    }
    sync {
        a_lock_is_held_by_one_task_at_a_time
        an_event_wakes_all_who_wait
        a_semaphore_lets_in_as_many_as_it_has
        a_waiter_that_is_dropped_takes_nothing_with_it
        a_queue_hands_each_item_to_one_consumer
        a_oneshot_carries_its_value_to_another_task
        a_blocking_job_runs_beside_the_tasks
    }
    cancellation {
        a_cancelled_scope_drops_what_waits
        a_catcher_cleans_up_and_passes_on
        a_catcher_may_await_while_it_cleans_up
        an_absorbed_cancellation_is_over
        a_scope_ends_at_its_deadline
    }
}

list! {
    /// The host offers timers, tasks, threads and a reactor.
    conformance_streams run_all_streams
    streams {
        bytes_go_both_ways_and_the_end_arrives
        more_bytes_than_the_kernel_holds_go_through
        a_stream_moves_to_another_task_while_bytes_come
        a_read_that_is_dropped_loses_no_byte
        unix_sockets_and_pipes_do_the_same
        datagrams_keep_their_borders
        a_name_is_looked_up_and_a_refused_connection_says_with_whom
        many_tasks_wait_for_one_socket_each
        a_server_serves_in_asyncios_words
        a_server_says_farewell_and_ends
        a_child_is_fed_read_and_waited_for
        children_end_while_others_wait_for_them
        a_child_that_is_dropped_can_be_killed
    }
}
