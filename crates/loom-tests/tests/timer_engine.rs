//! Models of time's `Engine`.

use evenloop_core::shim::atomic::{AtomicBool, Ordering};
use evenloop_core::shim::{StdArc, thread};
use evenloop_core::{Park, Runtime, ThreadPark, TimerKey, Timers, TimersEnded, Unpark};
use evenloop_loom_tests::{Witness, Woken, block_on, model, model_reaching, poll};
use evenloop_time::{Driver, Engine, VirtualClock, guest, sleep_until_on};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A driver on a clock that only a model moves.
fn driver() -> (Driver<ThreadPark>, VirtualClock) {
    let clock = VirtualClock::paused();
    (Driver::new(ThreadPark::new(), clock.clone().into()), clock)
}

/// A driver in a run: what this thread sets lies in its pen.
fn running() -> (Driver<ThreadPark>, StdArc<Engine>, VirtualClock) {
    let (mut driver, clock) = driver();
    driver.begin_run();
    let timers = driver.timers();
    (driver, timers, clock)
}

/// Counts, and ends the park of the driver's thread.
struct Rouses {
    woken: Waker,
    unparker: StdArc<dyn Unpark>,
}

impl Rouses {
    fn waker(driver: &Driver<ThreadPark>) -> (StdArc<Woken>, Waker) {
        let (count, woken) = Woken::waker();
        (count, Waker::from(StdArc::new(Self { woken, unparker: driver.unparker() })))
    }
}

impl Wake for Rouses {
    fn wake(self: StdArc<Self>) {
        self.woken.wake_by_ref();
        self.unparker.unpark();
    }
}

/// Writes to its witness when it is woken.
struct Touches(StdArc<Witness>, Waker);

impl Touches {
    fn waker() -> (StdArc<Witness>, StdArc<Woken>, Waker) {
        let (witness, (count, woken)) = (StdArc::new(Witness::new(0)), Woken::waker());
        (witness.clone(), count, Waker::from(StdArc::new(Self(witness, woken))))
    }
}

impl Wake for Touches {
    fn wake(self: StdArc<Self>) {
        self.0.set(self.0.get() + 1);
        self.1.wake_by_ref();
    }
}

/// Asserts, when it is woken, that another waker was before.
struct After(StdArc<Witness>);

impl Wake for After {
    fn wake(self: StdArc<Self>) {
        assert_eq!(self.0.get(), 1);
    }
}

/// Does a timer that another thread sets while the loop falls asleep rouse it, and does the loop see what was before?
#[test]
fn insert_races_park() {
    model(|| {
        let (mut driver, clock) = driver();
        let (timers, witness) = (driver.timers(), StdArc::new(Witness::new(0)));
        let (count, waker) = Woken::waker();
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                timers.insert(clock.now(), &waker).unwrap();
            }
        });
        while count.times() == 0 {
            driver.park(None).unwrap();
        }
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// Does moving a timer to the present from another thread rouse a loop that falls asleep for longer?
#[test]
fn update_races_park() {
    model(|| {
        let (mut driver, clock) = driver();
        moved_by_another_thread(&mut driver, clock);
    });
}

/// Parks until a timer wakes that another thread moves to the present.
fn moved_by_another_thread(driver: &mut Driver<ThreadPark>, clock: VirtualClock) {
    let (timers, witness) = (driver.timers(), StdArc::new(Witness::new(0)));
    let (count, waker) = Woken::waker();
    let key = timers.insert(clock.now() + 10 * MS, &waker).unwrap();
    let other = thread::spawn({
        let witness = witness.clone();
        move || {
            witness.set(1);
            assert_eq!(timers.update(key, clock.now(), None), Ok(true));
        }
    });
    while count.times() == 0 {
        driver.park(None).unwrap();
    }
    assert_eq!(witness.get(), 1);
    other.join().unwrap();
}

/// What a model needs in which one entry is due and the loop turns while another thread meddles with it.
fn due_entry() -> (VirtualClock, StdArc<Engine>, Driver<ThreadPark>, Instant, TimerKey, Meddled) {
    let (driver, clock) = driver();
    let timers = driver.timers();
    let now = clock.now();
    let (witness, count, waker) = Touches::waker();
    let key = timers.insert(now, &waker).unwrap();
    (clock, timers, driver, now, key, Meddled { witness, count })
}

struct Meddled {
    witness: StdArc<Witness>,
    count: StdArc<Woken>,
}

/// Is a timer that is removed while the loop fires either out, and then never woken, or woken once; and is its neighbour
/// woken in any case?
#[test]
fn remove_races_turn() {
    model_reaching(["removed", "fired"], |outcomes| {
        let (_clock, timers, mut driver, now, key, meddled) = due_entry();
        let (neighbour, waker) = Woken::waker();
        timers.insert(now, &waker).unwrap();
        let other = thread::spawn({
            let witness = meddled.witness.clone();
            move || {
                let removed = timers.remove(key);
                if removed {
                    witness.set(10); // nobody else will
                }
                removed
            }
        });
        driver.park(Some(Duration::ZERO)).unwrap();
        let removed = other.join().unwrap();
        assert_eq!(meddled.witness.get(), if removed { 10 } else { 1 });
        assert_eq!((meddled.count.times(), neighbour.times()), (usize::from(!removed), 1));
        outcomes.count(if removed { "removed" } else { "fired" });
    });
}

/// Is a timer that is put off while the loop fires either put off, and then woken at its new time only, or woken now?
#[test]
fn update_races_turn() {
    model_reaching(["put off", "fired"], |outcomes| {
        let (clock, timers, mut driver, now, key, meddled) = due_entry();
        let other = thread::spawn({
            let witness = meddled.witness.clone();
            move || {
                let put_off = timers.update(key, now + 3 * MS, None).unwrap();
                if put_off {
                    witness.set(10); // its time has not come
                }
                put_off
            }
        });
        driver.park(Some(Duration::ZERO)).unwrap();
        let put_off = other.join().unwrap();
        assert_eq!(meddled.count.times(), usize::from(!put_off));
        clock.advance(3 * MS);
        assert_eq!((meddled.witness.get(), meddled.count.times()), (if put_off { 11 } else { 1 }, 1));
        outcomes.count(if put_off { "put off" } else { "fired" });
    });
}

/// Does a sleep that has moved to another task, and is polled there while the loop fires, end there?
#[test]
fn poll_with_another_waker_races_turn() {
    model(|| {
        let (mut driver, clock) = driver();
        let runtime = Runtime::builder("model").timers(driver.timers()).build();
        let witness = StdArc::new(Witness::new(0));
        let mut nap = Box::pin(sleep_until_on(&runtime, clock.now()));
        assert!(poll(nap.as_mut(), Waker::noop()).is_pending());
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                block_on(nap);
                assert_eq!(witness.get(), 1);
            }
        });
        witness.set(1);
        driver.park(Some(Duration::ZERO)).unwrap();
        other.join().unwrap();
    });
}

/// Is a timer that is set while the timers end either refused, or woken and told so?
#[test]
fn insert_races_end() {
    model_reaching(["refused", "woken"], |outcomes| {
        let (driver, clock) = driver();
        let (timers, witness) = (driver.timers(), StdArc::new(Witness::new(0)));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                let deadline = clock.now() + MS;
                let mut set = None;
                let outcome = block_on(poll_fn(|cx| match set {
                    None => match timers.insert(deadline, cx.waker()) {
                        Ok(key) => {
                            set = Some(key);
                            Poll::Pending
                        }
                        Err(TimersEnded) => Poll::Ready("refused"),
                    },
                    Some(key) => {
                        timers.update(key, deadline, Some(cx.waker())).expect_err("it never fires");
                        Poll::Ready("woken")
                    }
                }));
                assert_eq!(witness.get(), 1);
                outcomes.count(outcome);
            }
        });
        witness.set(1);
        drop(driver);
        other.join().unwrap();
    });
}

/// Does moving the clock from another thread wake a sleep that is being set, or end the park of its loop?
#[test]
fn advance_races_insert_and_park() {
    model(|| {
        let (mut driver, clock) = driver();
        let runtime = Runtime::builder("model").timers(driver.timers()).build();
        let witness = StdArc::new(Witness::new(0));
        let deadline = clock.now() + MS;
        let (count, waker) = Rouses::waker(&driver);
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                clock.advance(MS);
            }
        });
        let mut nap = pin!(sleep_until_on(&runtime, deadline));
        assert!(poll(nap.as_mut(), &waker).is_pending());
        while count.times() == 0 {
            driver.park(None).unwrap();
        }
        assert!(poll(nap.as_mut(), &waker).is_ready());
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// Is a timer in the pen that another thread removes while it is filed either out, and then never woken, or woken once; and
/// is its neighbour woken in any case?
#[test]
fn remove_races_filing() {
    model_reaching(["removed", "fired"], |outcomes| {
        let (mut driver, timers, clock) = running();
        let (witness, count, waker) = Touches::waker();
        let key = timers.insert(clock.now(), &waker).unwrap();
        let (neighbour, waker) = Woken::waker();
        timers.insert(clock.now(), &waker).unwrap();
        let other = thread::spawn({
            let (timers, witness) = (timers.clone(), witness.clone());
            move || {
                let removed = timers.remove(key);
                if removed {
                    witness.set(10); // nobody else will
                }
                removed
            }
        });
        driver.park(Some(Duration::ZERO)).unwrap();
        let removed = other.join().unwrap();
        assert_eq!(witness.get(), if removed { 10 } else { 1 });
        assert_eq!((count.times(), neighbour.times()), (usize::from(!removed), 1));
        assert_eq!(timers.pending(), 0);
        driver.end_run();
        outcomes.count(if removed { "removed" } else { "fired" });
    });
}

/// Does a timer that is set in the place of another keep its waker and its time while another thread meddles with the one
/// before it?
#[test]
fn update_races_reuse_of_the_place() {
    model_reaching(["noted", "stale"], |outcomes| {
        let (mut driver, timers, clock) = running();
        let now = clock.now();
        let stale = timers.insert(now + 3 * MS, Waker::noop()).unwrap();
        let other = thread::spawn({
            let timers = timers.clone();
            move || {
                let (count, waker) = Woken::waker();
                let noted = timers.update(stale, now, Some(&waker)).unwrap();
                timers.remove(stale);
                (noted, count)
            }
        });
        timers.remove(stale);
        let (witness, count, waker) = Touches::waker();
        timers.insert(now + MS, &waker).unwrap();
        driver.park(Some(Duration::ZERO)).unwrap();
        let (noted, stranger) = other.join().unwrap();
        assert_eq!(count.times(), 0, "not yet");
        clock.advance(MS);
        assert_eq!((witness.get(), count.times(), stranger.times()), (1, 1, 0));
        assert_eq!(timers.pending(), 0);
        driver.end_run();
        outcomes.count(if noted { "noted" } else { "stale" });
    });
}

/// Does moving a timer in the pen to the present from another thread rouse its loop, which falls asleep for longer?
#[test]
fn update_races_filing_and_park() {
    model(|| {
        let (mut driver, _, clock) = running();
        moved_by_another_thread(&mut driver, clock);
        driver.end_run();
    });
}

/// Is a timer that the loop's thread sets while another one ends the timers either refused, or woken and told so?
#[test]
fn end_races_insert_into_the_pen() {
    model_reaching(["refused", "woken"], |outcomes| {
        let (mut driver, timers, clock) = running();
        let witness = StdArc::new(Witness::new(0));
        let deadline = clock.now() + MS;
        timers.insert(deadline, Waker::noop()).unwrap(); // opens the pen
        let other = thread::spawn({
            let (timers, witness) = (timers.clone(), witness.clone());
            move || {
                witness.set(1);
                timers.end();
            }
        });
        let (count, waker) = Rouses::waker(&driver);
        let outcome = match timers.insert(deadline, &waker) {
            Ok(key) => {
                while count.times() == 0 {
                    driver.park(None).unwrap();
                }
                timers.update(key, deadline, None).expect_err("it never fires");
                "woken"
            }
            Err(TimersEnded) => "refused",
        };
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
        driver.end_run();
        outcomes.count(outcome);
    });
}

/// Does a timer that the loop's thread sets once another one has told it of its own, for the same time, fire after that?
#[test]
fn insert_after_another_threads_fires_after_it() {
    model_reaching(["told", "not yet"], |outcomes| {
        let (mut driver, timers, clock) = running();
        timers.insert(clock.now() + MS, Waker::noop()).unwrap(); // opens the pen
        let told = StdArc::new(AtomicBool::new(false));
        let (first, count, waker) = Touches::waker();
        let other = thread::spawn({
            let (timers, clock, told) = (timers.clone(), clock.clone(), told.clone());
            move || {
                timers.insert(clock.now(), &waker).unwrap();
                told.store(true, Ordering::Release);
            }
        });
        if told.load(Ordering::Acquire) {
            let second = After(first.clone());
            timers.insert(clock.now(), &Waker::from(StdArc::new(second))).unwrap();
            outcomes.count("told");
        } else {
            outcomes.count("not yet");
        }
        other.join().unwrap();
        driver.park(Some(Duration::ZERO)).unwrap();
        assert_eq!(count.times(), 1);
        driver.end_run();
    });
}

/// Does a timer that another thread sets while a guest's future falls asleep wake the host's task that drives it?
#[test]
fn insert_races_guest() {
    model(|| {
        let clock = VirtualClock::paused();
        let (timers, drive) = guest(clock.clone().into(), |_| std::future::pending());
        let witness = StdArc::new(Witness::new(0));
        let (count, waker) = Woken::waker();
        let other = thread::spawn({
            let (timers, witness) = (timers.clone(), witness.clone());
            move || {
                witness.set(1);
                timers.insert(clock.now(), &waker).unwrap();
            }
        });
        let mut drive = pin!(drive);
        block_on(poll_fn(|cx| {
            let driving = std::future::Future::poll(drive.as_mut(), cx);
            assert!(driving.is_pending());
            if count.times() > 0 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}

/// Does a guest's future end when the last handle of its timers goes while it falls asleep?
#[test]
fn last_handle_races_guest() {
    model(|| {
        let (timers, drive) = guest(VirtualClock::paused().into(), |_| std::future::pending());
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                drop(timers);
            }
        });
        block_on(drive);
        other.join().unwrap();
        assert_eq!(witness.get(), 1);
    });
}
