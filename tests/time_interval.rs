//! `interval`, as a user sees it.

use evenloop_tests::{Stage, Woken, many, poll};
use evenloop_time::{Interval, MissedTick, interval, interval_at, interval_at_on, interval_on, sleep};
use futures::StreamExt;
use std::panic::catch_unwind;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

static_assertions::assert_impl_all!(Interval: Send, Sync, Unpin, std::fmt::Debug);

/// When the ticks are taken with `period` and a pause after the first, in milliseconds.
fn taken(missed: MissedTick, period: u32, pause: u32, ticks: usize) -> Vec<u128> {
    let (mut stage, clock) = Stage::jumping();
    stage
        .block_on(async {
            let mut beat = interval(period * MS).missed_tick(missed);
            let mut taken = Vec::new();
            for tick in 0..ticks {
                beat.tick().await;
                taken.push(clock.elapsed().as_millis());
                if tick == 0 {
                    sleep(pause * MS).await;
                }
            }
            taken
        })
        .0
}

#[test]
fn missed_ticks_are_treated_as_chosen() {
    assert_eq!(taken(MissedTick::Skip, 10, 35, 5), [0, 35, 40, 50, 60]);
    assert_eq!(taken(MissedTick::Burst, 10, 35, 7), [0, 35, 35, 35, 40, 50, 60]);
    assert_eq!(taken(MissedTick::Delay, 10, 35, 5), [0, 35, 45, 55, 65]);
}

#[test]
fn a_pause_of_exactly_some_periods_keeps_every_rhythm() {
    assert_eq!(taken(MissedTick::Skip, 10, 30, 4), [0, 30, 40, 50]);
    assert_eq!(taken(MissedTick::Burst, 10, 30, 6), [0, 30, 30, 30, 40, 50]);
    assert_eq!(taken(MissedTick::Delay, 10, 30, 4), [0, 30, 40, 50]);
}

#[test]
fn being_late_by_less_than_a_period_changes_nothing() {
    for missed in [MissedTick::Skip, MissedTick::Burst, MissedTick::Delay] {
        assert_eq!(taken(missed, 10, 17, 4), [0, 17, 20, 30]);
    }
}

#[test]
fn a_million_ticks_do_not_drift() {
    let (mut stage, clock) = Stage::jumping();
    // Not a whole number of milliseconds: the rounding of each tick must not add up.
    let period = Duration::from_micros(1_300);
    let start = clock.now();
    let ticks = many(1_000_000) as u32;
    stage.block_on(async {
        let mut beat = interval(period);
        for tick in 0..ticks {
            assert_eq!(beat.tick().await, start + tick * period);
        }
    });
    assert_eq!(clock.elapsed(), (ticks - 1) * period);
}

#[test]
fn a_dropped_tick_stays_with_the_interval() {
    let (stage, clock) = Stage::paused();
    let (woken, waker) = Woken::waker();
    let start = clock.now() + 10 * MS;
    let mut beat = interval_at(start, 10 * MS);
    for _ in 0..3 {
        assert!(poll(&mut Box::pin(beat.tick()), &waker).is_pending());
    }
    assert_eq!(stage.timers().pending(), 1);
    clock.advance(10 * MS);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut Box::pin(beat.tick()), &waker), std::task::Poll::Ready(start));
    drop(beat);
    assert_eq!(stage.timers().pending(), 0);
}

#[test]
fn a_reset_starts_a_new_rhythm() {
    let (mut stage, clock) = Stage::jumping();
    stage.block_on(async {
        let mut beat = interval(10 * MS);
        beat.tick().await;
        sleep(7 * MS).await;
        beat.reset();
        beat.tick().await;
        assert_eq!(clock.elapsed(), 17 * MS);
        beat.tick().await;
        assert_eq!((clock.elapsed(), beat.period()), (27 * MS, 10 * MS));
    });
}

#[test]
fn it_is_a_stream() {
    let (mut stage, clock) = Stage::jumping();
    let start = clock.now();
    let (ticks, _) = stage.block_on(interval(SECOND).take(3).collect::<Vec<_>>());
    assert_eq!(ticks, [start, start + SECOND, start + 2 * SECOND]);
}

#[test]
fn a_runtime_can_be_given() {
    let (stage, clock) = Stage::paused();
    let (runtime, now) = (stage.runtime.clone(), clock.now());
    let beats = std::thread::spawn(move || {
        let mut beats = [interval_on(&runtime, SECOND), interval_at_on(&runtime, now, SECOND)];
        for beat in &mut beats {
            assert!(poll(&mut Box::pin(beat.tick()), std::task::Waker::noop()).is_pending());
        }
        beats
    });
    let mut beats = beats.join().unwrap();
    clock.advance(Duration::ZERO);
    for beat in &mut beats {
        assert!(poll(&mut Box::pin(beat.tick()), std::task::Waker::noop()).is_ready());
    }
}

#[test]
fn from_tick_to_tick_it_goes_on_where_it_is_polled_unless_a_runtime_is_given() {
    let (home, clock) = Stage::paused();
    let mut beats = [interval(MS), interval_on(&home.runtime, MS)];
    let tick = |beat: &mut Interval| poll(&mut Box::pin(beat.tick()), std::task::Waker::noop());
    for beat in &mut beats {
        assert!(tick(beat).is_pending());
        assert!(tick(beat).is_ready());
        assert!(tick(beat).is_pending());
    }
    let (away, _) = Stage::paused();
    assert!(beats.iter_mut().all(|beat| tick(beat).is_pending()), "a tick that is waited for stays");
    assert_eq!((home.timers().pending(), away.timers().pending()), (2, 0));
    clock.advance(MS);
    for beat in &mut beats {
        assert!(tick(beat).is_ready());
        assert!(tick(beat).is_pending());
    }
    assert_eq!((home.timers().pending(), away.timers().pending()), (1, 1));
}

#[test]
fn a_period_so_long_that_no_instant_can_tell_it_gives_one_tick() {
    let (stage, clock) = Stage::paused();
    let mut beat = interval(Duration::MAX);
    assert!(poll(&mut Box::pin(beat.tick()), std::task::Waker::noop()).is_pending());
    clock.advance(MS);
    assert!(poll(&mut Box::pin(beat.tick()), std::task::Waker::noop()).is_ready());
    assert!(poll(&mut Box::pin(beat.tick()), std::task::Waker::noop()).is_pending());
    assert_eq!(stage.timers().pending(), 0);
}

#[test]
fn misuse_is_named() {
    let message = |body: fn()| *catch_unwind(body).expect_err("it panics").downcast::<String>().unwrap();
    let no_runtime = message(|| drop(interval(MS)));
    assert!(no_runtime.starts_with("`interval` needs timers"), "{no_runtime}");
    let (_stage, clock) = Stage::paused();
    let now = clock.now();
    let zero = catch_unwind(move || interval_at(now, Duration::ZERO)).expect_err("it panics");
    assert_eq!(zero.downcast_ref(), Some(&"`interval` needs a period that is not zero"));
}
