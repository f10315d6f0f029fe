//! Timers that the thread of a running loop has just set: they lie in its pen, and nobody may notice.

use evenloop_core::{Park, Runtime, ThreadPark, TimerKey, Timers, TimersEnded, Unpark, Wait};
use evenloop_executor::EventLoop;
use evenloop_tests::{Woken, never_drop, poll};
use evenloop_time::{Clock, Driver, Engine, VirtualClock, advance, sleep, sleep_until_on};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// How many entries a pen holds.
const PLACES: usize = 16;

/// Timers whose driver is in a run on this thread, on a clock that is moved by hand.
fn running() -> (Driver<ThreadPark>, Arc<Engine>, VirtualClock) {
    let clock = VirtualClock::paused();
    let mut driver = Driver::new(ThreadPark::new(), clock.clone().into());
    driver.begin_run();
    let timers = driver.timers();
    (driver, timers, clock)
}

fn look(driver: &mut impl Park) -> bool {
    driver.park(Some(Duration::ZERO)).unwrap()
}

/// Does it on another thread, and waits for that.
fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(f).join().unwrap())
}

/// How many timers the lock guards: another thread does not see those in the pen.
fn filed(timers: &Engine) -> usize {
    elsewhere(|| timers.pending())
}

/// Who was woken, in order.
#[derive(Clone, Default)]
struct Fired(Arc<Mutex<Vec<u32>>>);

struct Named(u32, Fired);

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        self.1.0.lock().unwrap().push(self.0);
    }
}

impl Fired {
    fn waker(&self, name: u32) -> Waker {
        Arc::new(Named(name, self.clone())).into()
    }

    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[test]
fn what_a_running_loop_sets_is_kept_back_until_it_parks_or_is_left() {
    let clock = VirtualClock::paused();
    let mut driver = Driver::new(ThreadPark::new(), clock.clone().into());
    let timers = driver.timers();
    let set = || timers.insert(clock.now() + SECOND, Waker::noop()).unwrap();
    set();
    assert_eq!(filed(&timers), 1, "no loop runs here");
    driver.begin_run();
    set();
    assert_eq!(filed(&timers), 1);
    look(&mut driver);
    assert_eq!(filed(&timers), 2);
    set();
    assert_eq!(filed(&timers), 2);
    driver.park(Some(MS)).unwrap();
    assert_eq!(filed(&timers), 3);
    set();
    assert_eq!(filed(&timers), 3);
    assert_eq!(timers.pending(), 4, "who asks on the loop's own thread sees all");
    assert_eq!(filed(&timers), 4);
    set();
    driver.end_run();
    assert_eq!(filed(&timers), 5);
    set();
    assert_eq!(filed(&timers), 6);
}

#[test]
fn a_full_pen_is_filed_at_once_and_all_fire_in_order() {
    let (mut driver, timers, clock) = running();
    let fired = Fired::default();
    for name in 0..50 {
        timers.insert(clock.now() + SECOND, &fired.waker(name)).unwrap();
        assert_eq!(filed(&timers), name as usize / PLACES * PLACES);
    }
    clock.advance(SECOND);
    look(&mut driver);
    assert_eq!(fired.take(), (0..50).collect::<Vec<_>>());
    assert_eq!(timers.pending(), 0);
}

#[test]
fn timers_given_up_in_any_order_leave_room_for_others() {
    let (mut driver, timers, clock) = running();
    let mut seen = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1_000 {
        let mut keys: Vec<_> = (0..PLACES - 1)
            .map(|_| timers.insert(clock.now() + SECOND, Waker::noop()).unwrap())
            .inspect(|key| seen.push(*key))
            .collect();
        random.shuffle(&mut keys);
        assert!(keys.iter().all(|&key| timers.remove(key)));
        assert!(keys.iter().all(|&key| !timers.remove(key)), "each once");
        assert!(keys.iter().all(|&key| timers.update(key, clock.now(), None) == Ok(false)));
    }
    assert_eq!(filed(&timers), 0);
    seen.sort_unstable_by_key(|key| key.into_raw());
    seen.dedup();
    assert_eq!(seen.len(), 1_000 * (PLACES - 1), "no key names two timers");
    clock.advance(SECOND);
    assert!(!look(&mut driver));
}

#[test]
fn equal_deadlines_fire_in_order_of_insertion_whoever_sets_them() {
    let (mut driver, timers, clock) = running();
    let (fired, deadline) = (Fired::default(), clock.now() + SECOND);
    let set = |name| timers.insert(deadline, &fired.waker(name)).unwrap();
    let moved = timers.insert(deadline + MS, &fired.waker(3)).unwrap();
    look(&mut driver); // it is in the wheel
    set(0);
    elsewhere(|| set(1));
    set(2);
    timers.update(moved, deadline, None).unwrap();
    let kept = timers.insert(deadline + MS, &fired.waker(7)).unwrap();
    set(4);
    elsewhere(|| set(5));
    set(6);
    timers.update(kept, deadline, None).unwrap();
    elsewhere(|| set(8));
    clock.advance(SECOND);
    look(&mut driver);
    assert_eq!(fired.take(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_poll_again_changes_nothing_and_another_waker_is_the_one_that_is_woken() {
    let (mut driver, timers, clock) = running();
    let ((one, first), (two, second)) = (Woken::waker(), Woken::waker());
    let deadline = clock.now() + SECOND;
    let key = timers.insert(deadline, &first).unwrap();
    assert_eq!(timers.update(key, deadline, Some(&first)), Ok(true));
    assert_eq!(timers.update(key, deadline, None), Ok(true));
    assert_eq!(filed(&timers), 0, "nothing was to be done");
    assert_eq!(timers.update(key, deadline, Some(&second)), Ok(true));
    assert_eq!(Arc::strong_count(&one), 2, "the one that is not needed is dropped");
    clock.advance(SECOND);
    look(&mut driver);
    assert_eq!((one.times(), two.times()), (0, 1));
    assert_eq!(timers.update(key, deadline, Some(&second)), Ok(false));
}

#[test]
fn another_thread_takes_a_timer_out_of_the_pen() {
    let (mut driver, timers, clock) = running();
    let ((gone, waker), (stays, neighbour)) = (Woken::waker(), Woken::waker());
    let key = timers.insert(clock.now() + SECOND, &waker).unwrap();
    drop(waker);
    timers.insert(clock.now() + SECOND, &neighbour).unwrap();
    assert!(elsewhere(|| timers.remove(key)));
    assert!(!elsewhere(|| timers.remove(key)));
    assert_eq!(elsewhere(|| timers.update(key, clock.now(), None)), Ok(false));
    look(&mut driver);
    assert_eq!((timers.pending(), Arc::strong_count(&gone)), (1, 1));
    assert!(!timers.remove(key));
    clock.advance(SECOND);
    look(&mut driver);
    assert_eq!((gone.times(), stays.times()), (0, 1));
}

#[test]
fn another_thread_gives_a_timer_of_the_pen_another_deadline_and_waker() {
    let (mut driver, timers, clock) = running();
    let wakers = [Woken::waker(), Woken::waker(), Woken::waker()];
    let now = clock.now();
    let key = timers.insert(now + SECOND, &wakers[0].1).unwrap();
    assert_eq!(elsewhere(|| timers.update(key, now + MS, Some(&wakers[1].1))), Ok(true));
    assert_eq!(elsewhere(|| timers.update(key, now + 2 * MS, None)), Ok(true));
    assert_eq!(elsewhere(|| timers.update(key, now + 3 * MS, Some(&wakers[2].1))), Ok(true));
    assert_eq!(elsewhere(|| timers.update(key, now + 2 * MS, None)), Ok(true));
    clock.advance(MS);
    look(&mut driver);
    assert_eq!(wakers.each_ref().map(|(woken, _)| Arc::strong_count(woken)), [2, 2, 3]);
    clock.advance(MS);
    look(&mut driver);
    assert_eq!(wakers.each_ref().map(|(woken, _)| woken.times()), [0, 0, 1]);
    assert_eq!(elsewhere(|| timers.update(key, now, None)), Ok(false));
}

#[test]
fn the_last_update_counts_whichever_thread_it_comes_from() {
    let (mut driver, timers, clock) = running();
    let ((one, first), (two, second)) = (Woken::waker(), Woken::waker());
    let now = clock.now();
    let key = timers.insert(now + SECOND, Waker::noop()).unwrap();
    assert_eq!(elsewhere(|| timers.update(key, now + MS, Some(&first))), Ok(true));
    assert_eq!(timers.update(key, now + SECOND, Some(&second)), Ok(true)); // as it was at first
    clock.advance(MS);
    look(&mut driver);
    assert_eq!((one.times(), two.times()), (0, 0));
    clock.advance(SECOND);
    look(&mut driver);
    assert_eq!((one.times(), two.times()), (0, 1));
}

#[test]
fn what_another_thread_wants_of_a_timer_does_not_befall_the_next_in_its_place() {
    let (mut driver, timers, clock) = running();
    let ((one, first), (two, second)) = (Woken::waker(), Woken::waker());
    let now = clock.now();
    let stale = timers.insert(now + SECOND, &first).unwrap();
    elsewhere(|| timers.update(stale, now + MS, Some(&first))).unwrap();
    assert!(timers.remove(stale));
    let key = timers.insert(now + SECOND, &second).unwrap();
    elsewhere(|| timers.remove(stale));
    clock.advance(MS);
    assert!(!look(&mut driver));
    drop(first);
    assert_eq!((Arc::strong_count(&one), timers.pending()), (1, 1));
    assert_ne!(key, stale);
    assert_eq!(timers.update(stale, now, None), Ok(false));
    clock.advance(SECOND);
    look(&mut driver);
    assert_eq!((one.times(), two.times()), (0, 1));
}

#[test]
fn ending_from_another_thread_wakes_who_is_in_the_pen_and_refuses_the_next() {
    let (_driver, timers, clock) = running();
    let (woken, waker) = Woken::waker();
    let deadline = clock.now() + SECOND;
    let key = timers.insert(deadline, &waker).unwrap();
    elsewhere(|| timers.end());
    assert_eq!(timers.insert(deadline, Waker::noop()), Err(TimersEnded));
    assert_eq!(woken.times(), 1);
    assert_eq!(timers.insert(deadline, Waker::noop()), Err(TimersEnded));
    assert_eq!(timers.update(key, deadline, Some(&waker)), Err(TimersEnded));
    assert!(timers.remove(key));
    assert_eq!((woken.times(), timers.pending()), (1, 0));
}

#[test]
fn ending_on_the_loops_own_thread_does_the_same() {
    let (mut driver, timers, clock) = running();
    let (woken, waker) = Woken::waker();
    let key = timers.insert(clock.now() + SECOND, &waker).unwrap();
    timers.end();
    assert_eq!(woken.times(), 1);
    assert_eq!(timers.update(key, clock.now(), None), Err(TimersEnded));
    look(&mut driver);
    assert_eq!(timers.insert(clock.now(), &waker), Err(TimersEnded));
    assert_eq!(woken.times(), 1);
}

/// Notes how it is parked, does something meanwhile, and never sleeps.
#[derive(Default)]
struct Meddles {
    parks: Vec<Option<Duration>>,
    meanwhile: Option<Box<dyn FnMut()>>,
    unparks: Arc<Unparks>,
}

#[derive(Default)]
struct Unparks(AtomicUsize);

impl Unpark for Unparks {
    fn unpark(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Park for Meddles {
    fn park(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.parks.push(timeout);
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile();
        }
        Ok(false)
    }

    fn unparker(&self) -> Arc<dyn Unpark> {
        self.unparks.clone()
    }
}

#[test]
fn a_loop_that_finds_its_timers_ended_when_it_parks_does_not_sleep() {
    let mut driver = Driver::new(Meddles::default(), Clock::Real);
    driver.begin_run();
    let timers = driver.timers();
    let (woken, waker) = Woken::waker();
    timers.insert(timers.now() + SECOND, &waker).unwrap();
    elsewhere(|| timers.end());
    assert_eq!(woken.times(), 0, "nobody else can reach it");
    driver.park(None).unwrap();
    assert_eq!((woken.times(), &driver.inner().parks[..]), (1, &[Some(Duration::ZERO)][..]));
    driver.park(None).unwrap();
    assert!(driver.inner().parks[1] != Some(Duration::ZERO), "once");
    assert_eq!(woken.times(), 1);
}

#[test]
fn a_loop_that_drops_a_waker_when_it_parks_looks_only() {
    for clock in [Clock::Real, VirtualClock::new().into(), VirtualClock::paused().into()] {
        let mut driver = Driver::new(Meddles::default(), clock);
        driver.begin_run();
        let timers = driver.timers();
        timers.insert(timers.now() + SECOND, Waker::noop()).unwrap();
        let begin = timers.now();
        for parks in [true, false] {
            let key = timers.insert(begin + SECOND, Waker::noop()).unwrap();
            assert!(elsewhere(|| timers.remove(key)));
            if parks {
                driver.park(None).unwrap();
                assert_eq!(driver.inner().parks, [Some(Duration::ZERO)]);
            } else {
                assert!(match driver.hand_over() {
                    Wait::Ready => true,
                    Wait::Until(until) => until <= timers.now(),
                    Wait::Forever => false,
                });
            }
        }
        assert!(timers.now() - begin < SECOND, "no jump");
    }
}

/// Wakes somebody when it is dropped.
#[derive(Default)]
struct WakesAtTheEnd {
    gone: Arc<AtomicBool>,
    waits: Arc<Mutex<Option<Waker>>>,
}

impl Wake for WakesAtTheEnd {
    fn wake(self: Arc<Self>) {}
}

impl Drop for WakesAtTheEnd {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        self.waits.lock().unwrap().take().unwrap().wake();
    }
}

#[test]
fn a_task_that_a_dropped_waker_wakes_runs_before_the_clock_jumps() {
    let (event_loop, timers) = event_loop(VirtualClock::new().into());
    let begin = timers.now();
    event_loop.run_until_complete(async {
        let ends = WakesAtTheEnd::default();
        let (gone, waits) = (ends.gone.clone(), ends.waits.clone());
        timers.insert(begin + SECOND, Waker::noop()).unwrap();
        let key = timers.insert(begin + SECOND, &Arc::new(ends).into()).unwrap();
        assert!(elsewhere(|| timers.remove(key)));
        std::future::poll_fn(|cx| {
            *waits.lock().unwrap() = Some(cx.waker().clone());
            if gone.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    });
    assert_eq!(timers.now(), begin);
}

#[test]
fn moving_the_clock_from_another_thread_does_not_end_the_loops_sleep() {
    let timers: Rc<OnceCell<Arc<Engine>>> = Rc::default();
    let clock = VirtualClock::paused();
    let (fired, unparks) = (Fired::default(), Arc::<Unparks>::default());
    let seen = Rc::new(Cell::new(0));
    let meanwhile = {
        let (timers, clock, fired) = (timers.clone(), clock.clone(), fired.clone());
        let (unparks, seen) = (unparks.clone(), seen.clone());
        move || {
            seen.set(seen.get() + 1);
            if seen.get() == 1 {
                return; // the look before the sleep
            }
            let timers = timers.get().unwrap();
            let set = |name| timers.insert(clock.now(), &fired.waker(name)).unwrap();
            elsewhere(|| clock.advance(SECOND));
            assert_eq!((fired.take(), unparks.0.load(Ordering::Relaxed)), (vec![0], 0));
            elsewhere(|| set(1));
            assert_eq!(unparks.0.load(Ordering::Relaxed), 1, "who else would fire it?");
        }
    };
    let meddles =
        Meddles { meanwhile: Some(Box::new(meanwhile)), unparks: unparks.clone(), ..Meddles::default() };
    let mut driver = Driver::new(meddles, clock.clone().into());
    let timers = timers.get_or_init(|| driver.timers());
    driver.begin_run();
    timers.insert(clock.now() + MS, &fired.waker(0)).unwrap();
    driver.park(None).unwrap();
    assert_eq!((seen.get(), fired.take()), (2, vec![1]));
    clock.advance(SECOND);
    elsewhere(|| timers.insert(clock.now(), Waker::noop()).unwrap());
    assert_eq!(unparks.0.load(Ordering::Relaxed), 1, "it is awake");
}

#[test]
fn what_is_set_while_the_loop_falls_asleep_rouses_it_and_is_not_kept_back() {
    let timers: Rc<OnceCell<Arc<Engine>>> = Rc::default();
    let seen = Rc::new(Cell::new(0));
    let meanwhile = {
        let (timers, seen) = (timers.clone(), seen.clone());
        move || {
            let timers = timers.get().unwrap();
            timers.insert(timers.now() + 10 * SECOND, Waker::noop()).unwrap();
            timers.turn(); // by somebody who is not the host
            timers.insert(timers.now() + SECOND, Waker::noop()).unwrap();
            seen.set(filed(timers));
        }
    };
    let meddles = Meddles { meanwhile: Some(Box::new(meanwhile)), ..Meddles::default() };
    let mut driver = Driver::new(meddles, Clock::Real);
    let timers = timers.get_or_init(|| driver.timers());
    driver.begin_run();
    timers.insert(timers.now() + 100 * SECOND, Waker::noop()).unwrap();
    driver.park(None).unwrap();
    assert_eq!((seen.get(), driver.inner().unparks.0.load(Ordering::Relaxed)), (3, 1));
}

#[test]
fn handing_the_waiting_over_hands_over_what_is_in_the_pen() {
    let mut driver = Driver::new(Meddles::default(), Clock::Real);
    driver.begin_run();
    let timers = driver.timers();
    let deadline = timers.now() + 10 * SECOND;
    timers.insert(deadline, Waker::noop()).unwrap();
    driver.hand_over();
    assert_eq!(filed(&timers), 1);
    timers.insert(deadline - SECOND, Waker::noop()).unwrap();
    assert_eq!((filed(&timers), driver.inner().unparks.0.load(Ordering::Relaxed)), (2, 1));
    driver.end_run();
}

#[test]
fn a_clock_jumps_to_what_is_in_the_pen_and_moves_past_it_in_order() {
    let clock = VirtualClock::new();
    let mut driver = Driver::new(ThreadPark::new(), clock.clone().into());
    driver.begin_run();
    let (timers, fired) = (driver.timers(), Fired::default());
    timers.insert(clock.now() + 3600 * SECOND, &fired.waker(1)).unwrap();
    assert_eq!(timers.next_deadline(), Some(clock.now() + 3600 * SECOND));
    timers.insert(clock.now() + 60 * SECOND, &fired.waker(0)).unwrap();
    driver.park(None).unwrap();
    assert_eq!((fired.take(), clock.elapsed()), (vec![0], 60 * SECOND));
    timers.insert(clock.now() + 2 * SECOND, &fired.waker(1)).unwrap();
    timers.insert(clock.now() + SECOND, &fired.waker(0)).unwrap();
    clock.advance(7200 * SECOND);
    assert_eq!(fired.take(), [0, 1, 1]);
    timers.insert(clock.now(), &fired.waker(2)).unwrap();
    look(&mut driver);
    assert_eq!(fired.take(), [2], "due when it was set");
}

#[test]
fn a_run_that_is_left_leaves_nothing_behind_on_its_thread() {
    let (mut driver, timers, clock) = running();
    let (woken, waker) = Woken::waker();
    timers.insert(clock.now() + SECOND, &waker).unwrap();
    driver.end_run();
    elsewhere(|| timers.end());
    assert_eq!(woken.times(), 1);
    drop(driver);
    assert_eq!(Arc::strong_count(&timers), 1);
}

#[test]
fn loops_that_run_in_turn_or_one_inside_the_other_do_not_mix() {
    let (mut outer, outer_timers, outer_clock) = running();
    let (mut inner, inner_timers, inner_clock) = running();
    let fired = Fired::default();
    outer_timers.insert(outer_clock.now() + SECOND, &fired.waker(0)).unwrap();
    inner_timers.insert(inner_clock.now() + SECOND, &fired.waker(1)).unwrap();
    assert_eq!((filed(&outer_timers), filed(&inner_timers)), (0, 1), "a thread has one pen");
    inner_clock.advance(SECOND);
    assert_eq!(fired.take(), [1]);
    look(&mut inner);
    inner.end_run();
    outer_timers.insert(outer_clock.now() + SECOND, &fired.waker(2)).unwrap();
    assert_eq!(filed(&outer_timers), 0);
    outer.end_run();
    assert_eq!(filed(&outer_timers), 2);
    inner.begin_run();
    inner_timers.insert(inner_clock.now() + SECOND, &fired.waker(3)).unwrap();
    outer_timers.insert(outer_clock.now() + SECOND, &fired.waker(4)).unwrap();
    assert_eq!((filed(&outer_timers), filed(&inner_timers)), (3, 0));
    drop(outer);
    assert_eq!(fired.take(), [0, 2, 4]);
    inner.end_run();
    drop(inner);
    assert_eq!(fired.take(), [3]);
}

#[test]
fn a_driver_that_is_dropped_in_the_middle_of_a_run_wakes_who_waits() {
    let (driver, timers, clock) = running();
    let (woken, waker) = Woken::waker();
    let key = timers.insert(clock.now() + SECOND, &waker).unwrap();
    drop(driver);
    assert_eq!(woken.times(), 1);
    assert_eq!(timers.update(key, clock.now(), None), Err(TimersEnded));
    assert_eq!(timers.insert(clock.now(), &waker), Err(TimersEnded));
    let (_driver, timers, clock) = running();
    timers.insert(clock.now() + SECOND, &waker).unwrap();
    assert_eq!(filed(&timers), 0, "the thread's pen was free again");
}

#[test]
fn a_thread_that_ends_in_a_run_leaves_its_timers_to_the_others() {
    let (woken, waker) = Woken::waker();
    let (timers, clock, key) = std::thread::spawn(move || {
        let (driver, timers, clock) = running();
        let key = timers.insert(clock.now() + SECOND, &waker).unwrap();
        never_drop(driver);
        (timers, clock, key)
    })
    .join()
    .unwrap();
    assert_eq!(timers.pending(), 1);
    assert_eq!(timers.update(key, clock.now() + MS, None), Ok(true));
    clock.advance(MS);
    assert_eq!(woken.times(), 1);
}

/// Sets a timer when its thread ends.
struct SetsAtTheEnd(Arc<Engine>);

impl Drop for SetsAtTheEnd {
    fn drop(&mut self) {
        let key = self.0.insert(self.0.now() + SECOND, Waker::noop()).unwrap();
        assert_eq!(self.0.update(key, self.0.now() + MS, None), Ok(true));
        assert!(self.0.remove(key));
        self.0.insert(self.0.now() + SECOND, Waker::noop()).unwrap();
    }
}

thread_local! {
    static BEFORE: RefCell<Option<SetsAtTheEnd>> = const { RefCell::new(None) };
    static AFTER: RefCell<Option<SetsAtTheEnd>> = const { RefCell::new(None) };
}

#[test]
fn destructors_at_the_threads_end_set_timers_before_and_after_the_pen_is_gone() {
    let timers = std::thread::spawn(|| {
        BEFORE.with(|before| before.take());
        let (driver, timers, clock) = running();
        timers.insert(clock.now() + SECOND, Waker::noop()).unwrap();
        BEFORE.set(Some(SetsAtTheEnd(timers.clone())));
        AFTER.set(Some(SetsAtTheEnd(timers.clone())));
        never_drop(driver);
        timers
    })
    .join()
    .unwrap();
    assert_eq!(timers.pending(), 3);
}

fn event_loop(clock: Clock) -> (EventLoop, Arc<Engine>) {
    let driver = Driver::new(ThreadPark::new(), clock);
    let timers = driver.timers();
    let runtime = Runtime::builder("pen").timers(timers.clone());
    (EventLoop::builder().park(Box::new(driver)).runtime(runtime).build(), timers)
}

#[test]
fn an_event_loop_has_a_pen_from_its_first_task_on_and_none_between_runs() {
    let (event_loop, timers) = event_loop(VirtualClock::new().into());
    let mut nap = Box::pin(sleep_until_on(event_loop.runtime(), timers.now() + SECOND));
    event_loop.run_until_complete(async {
        assert!(poll(&mut nap, Waker::noop()).is_pending());
        assert_eq!(filed(&timers), 0);
    });
    assert_eq!(filed(&timers), 1);
    drop(nap);
    assert_eq!(filed(&timers), 0);
    let panics = catch_unwind(AssertUnwindSafe(|| {
        event_loop.run_until_complete(async {
            timers.insert(timers.now() + SECOND, Waker::noop()).unwrap();
            assert_eq!(filed(&timers), 0);
            panic!("on purpose");
        });
    }));
    assert!(panics.is_err());
    assert_eq!(filed(&timers), 1);
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.run_until_complete(sleep(10 * SECOND));
    assert_eq!(timers.pending(), 0);
    drop(event_loop);
    assert_eq!(Arc::strong_count(&timers), 1);
}

thread_local! {
    /// The loop that is left.
    static LEFT: RefCell<Option<Rc<EventLoop>>> = const { RefCell::new(None) };
}

/// Runs its loop when it is dropped, and panics if it is told to.
struct RunsAtTheEnd {
    panics: bool,
    ran: Arc<AtomicUsize>,
}

impl Wake for RunsAtTheEnd {
    fn wake(self: Arc<Self>) {}
}

impl Drop for RunsAtTheEnd {
    fn drop(&mut self) {
        let event_loop = LEFT.with_borrow(|left| left.clone()).expect("it is dropped on the loop's thread");
        assert_eq!(event_loop.descriptor(), None);
        event_loop.run_once(Some(Duration::ZERO));
        self.ran.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "a destructor's, on purpose");
    }
}

#[test]
fn what_a_run_leaves_behind_may_use_the_loop_and_its_panic_does_not_go_on() {
    for (panics, unwinds) in [(false, false), (true, false), (true, true)] {
        let (event_loop, timers) = event_loop(VirtualClock::new().into());
        let event_loop = Rc::new(event_loop);
        LEFT.set(Some(event_loop.clone()));
        let ran = Arc::<AtomicUsize>::default();
        let run = catch_unwind(AssertUnwindSafe(|| {
            event_loop.run_until_complete(async {
                let keys = [(); 2].map(|()| {
                    let ends = Arc::new(RunsAtTheEnd { panics, ran: ran.clone() });
                    timers.insert(timers.now() + SECOND, &ends.into()).unwrap()
                });
                assert!(elsewhere(|| keys.iter().all(|&key| timers.remove(key))));
                assert!(!unwinds, "the run's, on purpose");
            });
        }));
        assert_eq!((run.is_err(), ran.load(Ordering::Relaxed)), (unwinds, 2));
        event_loop.run_until_complete(sleep(SECOND));
        LEFT.set(None);
    }
}

#[test]
fn whose_timers_ended_is_woken_when_the_run_is_left() {
    let (event_loop, timers) = event_loop(VirtualClock::new().into());
    let (woken, waker) = Woken::waker();
    event_loop.run_until_complete(async {
        timers.insert(timers.now() + SECOND, &waker).unwrap();
        elsewhere(|| timers.end());
        assert_eq!(woken.times(), 0);
    });
    assert_eq!(woken.times(), 1);
}

#[test]
fn a_loop_closed_by_another_loops_task_wakes_who_waits_there() {
    let (outer, outer_timers) = event_loop(VirtualClock::new().into());
    let (inner, inner_timers) = event_loop(VirtualClock::new().into());
    let (woken, waker) = Woken::waker();
    let begin = outer_timers.now();
    inner_timers.insert(inner_timers.now() + SECOND, &waker).unwrap();
    let inner = Cell::new(Some(inner));
    outer.run_until_complete(async {
        let nap = sleep(SECOND);
        drop(inner.take());
        nap.await;
    });
    assert_eq!((woken.times(), outer_timers.now() - begin), (1, SECOND));
}

#[test]
fn a_task_that_moves_the_clock_wakes_what_it_has_just_set() {
    let (event_loop, timers) = event_loop(VirtualClock::paused().into());
    let (woken, waker) = Woken::waker();
    event_loop.run_until_complete(async {
        timers.insert(timers.now() + SECOND, &waker).unwrap();
        advance(SECOND);
    });
    assert_eq!(woken.times(), 1);
}

/// Does what it is sent, on a thread of its own.
struct Elsewhere(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Elsewhere {
    fn new() -> Self {
        let (sender, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Self(sender)
    }

    fn run<R: Send + 'static>(&self, f: impl FnOnce() -> R + Send + 'static) -> R {
        let (sender, answer) = mpsc::channel();
        self.0.send(Box::new(move || sender.send(f()).unwrap())).unwrap();
        answer.recv().unwrap()
    }
}

/// Timers, those that wait there, and who was woken.
struct Twin {
    driver: Driver<ThreadPark>,
    timers: Arc<Engine>,
    clock: VirtualClock,
    keys: BTreeMap<u32, TimerKey>,
    fired: Fired,
}

impl Twin {
    fn new(runs: bool) -> Self {
        let clock = VirtualClock::paused();
        let mut driver = Driver::new(ThreadPark::new(), clock.clone().into());
        if runs {
            driver.begin_run();
        }
        Self { timers: driver.timers(), driver, clock, keys: BTreeMap::new(), fired: Fired::default() }
    }

    fn at(&self, after: Duration) -> Instant {
        self.clock.now() + after
    }

    /// Does one thing, here or on another thread.
    fn call<R: Send + 'static>(
        &self,
        other: Option<&Elsewhere>,
        f: impl FnOnce(&Engine) -> R + Send + 'static,
    ) -> R {
        match other {
            None => f(&self.timers),
            Some(other) => {
                let timers = self.timers.clone();
                other.run(move || f(&timers))
            }
        }
    }
}

#[test]
fn timers_with_a_pen_do_as_those_without() {
    let elsewhere = Elsewhere::new();
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut twins = [Twin::new(true), Twin::new(false)];
        let mut name = 0;
        for step in 0..400 {
            let other = (random.u32(..4) == 0).then_some(&elsewhere);
            let after = random.u32(..6) * MS;
            let some = random.usize(..24);
            let choice = random.u32(..100);
            let outcomes = twins.each_mut().map(|twin| {
                let which = twin.keys.iter().map(|(name, key)| (*name, *key)).nth(some);
                match (choice, which) {
                    (0..45, _) => {
                        let (deadline, waker) = (twin.at(after), twin.fired.waker(name));
                        let key = twin.call(other, move |timers| timers.insert(deadline, &waker)).unwrap();
                        twin.keys.insert(name, key);
                        None
                    }
                    (45..70, Some((name, key))) => {
                        twin.keys.remove(&name);
                        Some((name, twin.call(other, move |timers| timers.remove(key))))
                    }
                    (70..85, Some((name, key))) => {
                        // From another thread: to a time of its own, for its place among equals is the old one then.
                        let own = other.map_or(Duration::ZERO, |_| Duration::from_nanos(step));
                        let (deadline, waker) = (twin.at(after + own), twin.fired.waker(name + 1_000));
                        let waker = choice.is_multiple_of(2).then_some(waker);
                        let update = move |timers: &Engine| timers.update(key, deadline, waker.as_ref());
                        Some((name, twin.call(other, update).unwrap()))
                    }
                    (85..90, _) => Some((0, look(&mut twin.driver))),
                    (90..95, _) => {
                        twin.clock.advance(after / 2);
                        None
                    }
                    (95.., _) => Some((twin.timers.pending() as u32, true)),
                    _ => None,
                }
            });
            name += u32::from(choice < 45);
            let fired = twins.each_ref().map(|twin| twin.fired.take());
            assert_eq!((outcomes[0], &fired[0]), (outcomes[1], &fired[1]), "seed {seed}, step {step}");
        }
        let rest = twins.map(|mut twin| {
            twin.clock.advance(SECOND);
            look(&mut twin.driver);
            (twin.fired.take(), twin.timers.pending())
        });
        assert_eq!(rest[0], rest[1], "seed {seed}");
    }
}
