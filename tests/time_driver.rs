//! The driver, as the writer of a loop sees it.

use evenloop_core::{Park, Runtime, ThreadPark, Timers, Unpark};
use evenloop_executor::{EventLoop, Unhandled};
use evenloop_tests::{Stage, Woken, poll};
use evenloop_time::{Clock, Driver, Engine, Sleep, VirtualClock, sleep, sleep_on, sleep_until_on};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::Waker;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Notes how it is parked and never sleeps.
#[derive(Default)]
struct Notes {
    parks: Vec<Option<Duration>>,
    fails: bool,
    unparks: Arc<Unparks>,
}

#[derive(Default)]
struct Unparks(AtomicUsize);

impl Unpark for Unparks {
    fn unpark(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Park for Notes {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.parks.push(timeout);
        if self.fails { Err(io::Error::other("the kernel says no")) } else { Ok(false) }
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.unparks.clone()
    }
}

fn noted(clock: Clock, fails: bool) -> (Driver<Notes>, Runtime) {
    let driver = Driver::new(Notes { fails, ..Notes::default() }, clock);
    let runtime = Runtime::builder("noted").timers(driver.timers()).build();
    (driver, runtime)
}

#[test]
fn a_look_is_handed_on_once_and_as_a_look() {
    let (mut driver, runtime) = noted(Clock::Real, false);
    let mut nap = sleep_on(&runtime, SECOND);
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    assert!(!driver.park(Some(Duration::ZERO)).unwrap());
    assert_eq!(driver.inner().parks, [Some(Duration::ZERO)]);
}

#[test]
fn it_sleeps_until_the_next_deadline_or_the_time_out() {
    let (mut driver, runtime) = noted(Clock::Real, false);
    driver.park(None).unwrap();
    let mut naps = [sleep_on(&runtime, 3600 * SECOND), sleep_on(&runtime, 60 * SECOND)];
    assert!(naps.iter_mut().all(|nap| poll(nap, Waker::noop()).is_pending()));
    driver.park(None).unwrap();
    driver.park(Some(SECOND)).unwrap();
    let mut past = sleep_until_on(&runtime, Instant::now() - 2 * MS);
    assert!(poll(&mut past, Waker::noop()).is_pending());
    driver.park(None).unwrap();
    match driver.inner().parks[..] {
        [None, Some(minute), Some(SECOND), Some(Duration::ZERO)] => {
            assert!(minute > 59 * SECOND && minute <= 60 * SECOND + MS, "{minute:?}");
        }
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_timer_set_while_the_loop_is_awake_calls_nobody() {
    let (mut driver, runtime) = noted(Clock::Real, false);
    driver.park(None).unwrap();
    for length in [SECOND, MS, Duration::MAX] {
        let mut nap = sleep_on(&runtime, length);
        assert!(poll(&mut nap, Waker::noop()).is_pending());
        nap.reset(Instant::now());
    }
    assert_eq!(driver.inner().unparks.0.load(Ordering::Relaxed), 0);
}

#[test]
fn while_it_sleeps_an_earlier_timer_rouses_it_once_and_a_later_one_not() {
    let unparks = Arc::new(Unparks::default());
    let timers = Engine::new(Clock::Real, unparks.clone());
    let now = timers.now();
    let set = |after: u32| {
        let key = timers.insert(now + after * SECOND, Waker::noop()).unwrap();
        (key, unparks.0.load(Ordering::Relaxed))
    };
    let (key, _) = set(10);
    assert!(timers.start_sleep().is_some_and(|until| until >= now + 10 * SECOND));
    assert_eq!([set(20).1, set(10).1, set(5).1, set(7).1, set(1).1], [0, 0, 1, 1, 2]);
    timers.update(key, now + MS, None).unwrap();
    assert_eq!(unparks.0.load(Ordering::Relaxed), 3);
    timers.turn();
    timers.update(key, now, None).unwrap();
    assert_eq!(unparks.0.load(Ordering::Relaxed), 3, "awake, it finds out by itself");
}

#[test]
fn a_timer_of_another_thread_ends_a_park_that_would_last() {
    let mut stage = Stage::new(Clock::Real);
    let (runtime, (awake, told)) = (stage.runtime.clone(), mpsc::channel());
    let mut long = sleep(3600 * SECOND);
    assert!(poll(&mut long, Waker::noop()).is_pending());
    let (woken, waker) = Woken::waker();
    let other = std::thread::spawn(move || {
        told.recv().unwrap();
        let mut nap = sleep_on(&runtime, MS);
        assert!(poll(&mut nap, &waker).is_pending());
        nap
    });
    awake.send(()).unwrap();
    while woken.times() == 0 {
        stage.driver.park(None).unwrap();
    }
    assert!(poll(&mut other.join().unwrap(), Waker::noop()).is_ready());
}

#[test]
fn an_error_of_the_park_inside_goes_on_and_timers_fire_nevertheless() {
    let (mut driver, runtime) = noted(Clock::Real, true);
    let (woken, waker) = Woken::waker();
    let mut past = sleep_until_on(&runtime, Instant::now());
    assert!(poll(&mut past, &waker).is_pending());
    while woken.times() == 0 {
        assert_eq!(driver.park(None).unwrap_err().to_string(), "the kernel says no");
    }
}

/// A waker that panics.
struct Wild;

impl std::task::Wake for Wild {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// A hundred sleeps of a millisecond, of which every tenth has a waker that panics; and how often the others were woken.
fn sleeps_with_wild_wakers() -> (Vec<Sleep>, Arc<Woken>) {
    let (woken, calm) = Woken::waker();
    let wild = Waker::from(Arc::new(Wild));
    let mut naps = (0..100).map(|_| sleep(MS)).collect::<Vec<_>>();
    for (place, nap) in naps.iter_mut().enumerate() {
        assert!(poll(nap, if place % 10 == 0 { &wild } else { &calm }).is_pending());
    }
    (naps, woken)
}

#[test]
fn a_waker_that_panics_takes_nobody_with_it() {
    let (mut stage, clock) = Stage::jumping();
    let (_naps, woken) = sleeps_with_wild_wakers();
    assert!(stage.driver.park(None).unwrap());
    assert_eq!((woken.times(), clock.elapsed()), (90, MS));
}

#[test]
fn moving_the_clock_wakes_all_that_is_due_whoever_panics() {
    let (_stage, clock) = Stage::paused();
    let (_naps, woken) = sleeps_with_wild_wakers();
    clock.advance(MS);
    assert_eq!(woken.times(), 90);
}

#[test]
fn at_the_end_too_a_waker_that_panics_takes_nobody_with_it() {
    let (stage, _clock) = Stage::paused();
    let (_naps, woken) = sleeps_with_wild_wakers();
    stage.timers().end();
    assert_eq!(woken.times(), 90);
}

#[test]
fn what_a_waker_panics_with_is_told_to_the_loops_hook() {
    let driver = Driver::new(ThreadPark::new(), VirtualClock::new().into());
    let runtime = Runtime::builder("told").timers(driver.timers());
    let told = Rc::new(RefCell::new(Vec::new()));
    let note = told.clone();
    let hook = move |unhandled: &Unhandled<'_>| note.borrow_mut().push(unhandled.to_string());
    let event_loop = EventLoop::builder().runtime(runtime).park(Box::new(driver)).on_unhandled(hook).build();
    event_loop.run_until_complete(async {
        let mut wild = sleep(MS);
        assert!(poll(&mut wild, &Waker::from(Arc::new(Wild))).is_pending());
        sleep(2 * MS).await;
    });
    assert_eq!(*told.borrow(), ["a waker panicked: a waker that panics"]);
}

#[test]
fn what_a_waker_sets_anew_waits_for_the_next_turn() {
    struct Again(Runtime, AtomicUsize);
    impl std::task::Wake for Again {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::Relaxed);
            let timers = self.0.timers_for("test").unwrap().clone();
            let _ = timers.insert(timers.now(), &Waker::from(self.clone())); // fails in the end
        }
    }
    let (mut stage, _clock) = Stage::paused();
    let again = Arc::new(Again(stage.runtime.clone(), AtomicUsize::new(0)));
    let timers = stage.timers();
    timers.insert(timers.now(), &Waker::from(again.clone())).unwrap();
    for turn in 1..=5 {
        stage.turn();
        assert_eq!(again.1.load(Ordering::Relaxed), turn);
    }
    timers.end();
    assert_eq!(again.1.load(Ordering::Relaxed), 6);
}

#[test]
fn a_stale_key_names_nothing() {
    let (mut stage, _clock) = Stage::paused();
    let timers = stage.timers();
    let now = timers.now();
    let key = timers.insert(now, Waker::noop()).unwrap();
    stage.turn();
    let other = timers.insert(now + SECOND, Waker::noop()).unwrap();
    assert_ne!(key, other);
    assert_eq!((timers.update(key, now, None), timers.remove(key)), (Ok(false), false));
    assert_eq!((timers.remove(other), timers.remove(other)), (true, false));
}

#[test]
fn a_hundred_thousand_fire_in_one_turn_each_once() {
    let (mut stage, clock) = Stage::jumping();
    let (woken, waker) = Woken::waker();
    let mut naps = (0..100_000).map(|place| sleep(SECOND + place % 7 * MS)).collect::<Vec<_>>();
    assert!(naps.iter_mut().all(|nap| poll(nap, &waker).is_pending()));
    for _ in 0..7 {
        stage.driver.park(None).unwrap();
    }
    assert_eq!((woken.times(), clock.elapsed()), (100_000, SECOND + 6 * MS));
    assert!(naps.iter_mut().all(|nap| poll(nap, &waker).is_ready()));
}

#[test]
fn dropping_the_engine_itself_wakes_who_waits() {
    let unparks = Arc::new(Unparks::default());
    let engine = Engine::new(Clock::Real, unparks);
    let (woken, waker) = Woken::waker();
    for _ in 0..100 {
        engine.insert(engine.now() + SECOND, &waker).unwrap();
    }
    drop(engine);
    assert_eq!((woken.times(), Arc::strong_count(&woken)), (100, 2));
}

#[test]
fn its_unparker_is_the_one_inside() {
    let mut driver = Driver::new(ThreadPark::new(), Clock::Real);
    driver.unparker().unpark();
    assert!(driver.park(None).unwrap());
}
