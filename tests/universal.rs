//! What every operation that waits has to stand, from one table: a new primitive gets all of it by adding a row.
//!
//! | test | what                                                                                       |
//! |------|--------------------------------------------------------------------------------------------|
//! | U1   | dropped after being chosen: somebody else gets what it was given                           |
//! | U2   | dropped before being chosen: it is forgotten, and counted no more                          |
//! | U3   | the waker of the last poll is woken, once; no other is kept                                |
//! | U4   | wakers that call back into the primitive, or panic, on being cloned, woken and dropped     |
//! | U5   | no growth: polled a million times, made and dropped a million times (a tenth in a debug build, and of that a tenth on a loop) |
//! | U6   | no spinning: one poll until it waits and one when it is served, and no wake while nothing happens |
//! | U7   | dropped after any number of polls, before and after others are served: the next gets its due |
//!
//! A row needs: a scene in which the operation waits; the operation; what ends the wait of the first in line, or of all;
//! how many wait; and what a hostile waker calls back. Where only one can wait at a time, through `&mut`, "somebody else" is
//! who waits next.
//!
//! What is made of other rows, and waits in them only, says so in `universal/through.rs`. `cargo xtask tidy` compares both
//! with the sources: each public function that is `async` or answers a future has its place here.

#[path = "universal/connecting.rs"]
mod connecting;
#[path = "universal/elsewhere.rs"]
mod elsewhere;
#[path = "universal/primitives.rs"]
mod primitives;
#[path = "universal/scene.rs"]
mod scene;
#[path = "universal/sockets.rs"]
mod sockets;
#[path = "universal/tasks.rs"]
mod tasks;
#[path = "universal/through.rs"]
mod through;
#[path = "universal/wrappers.rs"]
mod wrappers;

use evenloop::test_kit::Sequencer;
use evenloop_tests::{Counting, Woken, many};
use scene::{Row, Scene, Test, Waiting};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

/// Every operation that waits by itself.
fn rows() -> Vec<Row> {
    let rows = [
        primitives::rows(),
        wrappers::rows(),
        tasks::rows(),
        sockets::rows(),
        connecting::rows(),
        elsewhere::rows(),
    ];
    rows.into_iter().flatten().collect()
}

/// Runs `test` on every row, whatever comes of others, and names those that fail.
fn for_every_row(test: impl Fn(&Row)) {
    let fails = |row: &Row| {
        println!("{}", row.name);
        catch_unwind(AssertUnwindSafe(|| test(row))).is_err()
    };
    let failed: Vec<_> = rows().into_iter().filter(fails).map(|row| row.name).collect();
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

/// Runs `test` on a new scene of every row.
fn for_every_scene(test: impl Fn(&Row, &dyn Scene)) {
    for_every_row(|row| test(row, &*(row.scene)()));
}

fn poll(future: &mut Waiting<'_>, waker: &Waker) -> Poll<()> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

/// Makes the operation wait. Some set out in several polls.
fn waiting<'a>(scene: &'a dyn Scene, waker: &Waker) -> Waiting<'a> {
    let mut future = scene.wait();
    for _ in 0..scene.polls_to_wait() {
        assert!(poll(&mut future, waker).is_pending());
    }
    future
}

/// A waker, and a count that forgets what happened while the operation set out.
struct Counts {
    woken: Arc<Woken>,
    waker: Waker,
    before: Cell<usize>,
}

impl Counts {
    fn new() -> Self {
        let (woken, waker) = Woken::waker();
        Self { woken, waker, before: Cell::new(0) }
    }

    /// Forgets those while the operation set out, if it takes several polls.
    fn begin(&self, scene: &dyn Scene) {
        if scene.polls_to_wait() > 1 {
            self.before.set(self.woken.times());
        }
    }

    fn times(&self) -> usize {
        self.woken.times() - self.before.get()
    }

    /// It was woken, and once if the row says so.
    #[track_caller]
    fn assert_woken(&self, row: &Row) {
        if row.stands(Test::Once) {
            assert_eq!(self.times(), 1);
        } else {
            assert_ne!(self.times(), 0);
        }
    }
}

/// So many wait, if that can be seen.
#[track_caller]
fn assert_waiters(row: &Row, scene: &dyn Scene, waiters: usize) {
    if row.stands(Test::Count) {
        scene.turn();
        assert_eq!(scene.waiters(), waiters);
    }
}

// === The table ===

/// What a name says before its comma: the operation, without the case.
fn operation(name: &'static str) -> &'static str {
    name.split(',').next().unwrap_or(name)
}

#[test]
fn what_is_left_out_says_why_and_what_is_made_of_rows_names_them() {
    let rows = rows();
    for Row { name, without, polls, polls_among_threads, why_polls, .. } in &rows {
        let more = *polls > 1 || *polls_among_threads > 2;
        assert_eq!(
            more,
            why_polls.is_some_and(|why| why.contains(' ')),
            "{name} is polled {polls} times: why?"
        );
        for (test, why) in without {
            assert!(why.contains(' '), "{name} is without {test:?}: why?");
        }
    }
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len(), "each row has a name of its own");
    let operations: BTreeSet<_> = rows.iter().map(|row| operation(row.name)).collect();
    let mut seen = BTreeSet::new();
    for (names, waits_in, why) in through::THROUGH {
        println!("{names:?}: {why}");
        assert!(why.contains(' '), "{names:?} wait in {waits_in:?}: how?");
        for name in *names {
            assert!(seen.insert(name) && !operations.contains(name), "{name} stands here twice");
        }
        for other in *waits_in {
            assert!(operations.contains(other), "{names:?} wait in {other}, which has no row");
        }
    }
}

// === U1, U2, U7 ===

#[test]
fn u1_who_is_dropped_after_being_chosen_hands_on() {
    for_every_scene(|row, scene| {
        let counts = Counts::new();
        let first = waiting(scene, Waker::noop());
        if row.stands(Test::Many) {
            let mut second = waiting(scene, &counts.waker);
            counts.begin(scene);
            scene.serve();
            drop(first);
            counts.assert_woken(row);
            assert!(poll(&mut second, &counts.waker).is_ready());
        } else {
            scene.serve();
            drop(first);
            assert!(poll(&mut scene.wait(), &counts.waker).is_ready(), "nothing is lost");
        }
        assert_waiters(row, scene, 0);
    });
}

#[test]
fn u2_who_is_dropped_before_being_chosen_is_forgotten() {
    for_every_scene(|row, scene| {
        let [of_gone, counts] = [Counts::new(), Counts::new()];
        let gone = waiting(scene, &of_gone.waker);
        of_gone.begin(scene);
        let mut second;
        if row.stands(Test::Many) {
            second = waiting(scene, &counts.waker);
            assert_waiters(row, scene, 2);
            drop(gone);
        } else {
            drop(gone);
            second = waiting(scene, &counts.waker);
        }
        counts.begin(scene);
        assert_waiters(row, scene, 1);
        scene.serve();
        assert!(of_gone.times() == 0 || !row.stands(Test::Silence));
        counts.assert_woken(row);
        assert!(poll(&mut second, &counts.waker).is_ready());
        assert_waiters(row, scene, 0);
    });
}

/// Who is given up, polled so often before others are served and after. Then the second, who waits already if several can,
/// has what it would have had without the other: nobody serves it again, unless the other was done.
fn check_given_up(row: &Row, scene: &dyn Scene, before: usize, served: Option<usize>) {
    let mut gone = scene.wait();
    for _ in 0..before {
        assert!(poll(&mut gone, Waker::noop()).is_pending());
    }
    let waits = row.stands(Test::Many);
    let mut second = waits.then(|| waiting(scene, Waker::noop()));
    let mut done = false;
    if let Some(after) = served {
        scene.serve();
        done = (0..after).any(|_| poll(&mut gone, Waker::noop()).is_ready());
    }
    drop(gone);
    // Of several, the second was there when all were served; of one at a time, it takes what the other was given.
    let is_due = if waits {
        before > 0 || served == Some(0) || row.stands(Test::Newcomer)
    } else {
        before == scene.polls_to_wait()
    };
    let mut second = second.take().unwrap_or_else(|| scene.wait());
    if poll(&mut second, Waker::noop()).is_pending() {
        assert!(served.is_none() || done || !is_due, "what the other was given is lost");
        scene.serve();
        assert!(poll(&mut second, Waker::noop()).is_ready());
    }
    assert_waiters(row, scene, 0);
}

#[test]
fn u7_dropped_after_any_number_of_polls_it_leaves_no_trace() {
    for_every_row(|row| {
        let polls_to_wait = (row.scene)().polls_to_wait();
        for before in 0..=polls_to_wait {
            for served in [None, Some(0), Some(1), Some(2)] {
                println!("{}, {before} polls, and once others are served: {served:?}", row.name);
                check_given_up(row, &*(row.scene)(), before, served);
            }
        }
    });
}

// === U3 ===

#[test]
fn u3_the_last_waker_is_woken_once_and_no_other_is_kept() {
    for_every_scene(|row, scene| {
        let [old, last] = [Counts::new(), Counts::new()];
        let mut future = waiting(scene, &old.waker);
        old.begin(scene);
        assert!(poll(&mut future, &last.waker).is_pending());
        assert_eq!(Arc::strong_count(&old.woken), 2, "the old waker was let go");
        assert!(poll(&mut future, &last.waker).is_pending());
        last.begin(scene);
        scene.serve();
        assert_eq!(old.times(), 0);
        last.assert_woken(row);
        assert!(poll(&mut future, &last.waker).is_ready());
        drop(future);
        assert_eq!([&old, &last].map(|counts| Arc::strong_count(&counts.woken)), [2, 2], "nothing is kept");
        assert_eq!(old.times(), 0);
    });
}

// === U4 ===

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Clone,
    Wake,
    Drop,
}

/// What a hostile waker does.
type Act = Arc<dyn Fn()>;

thread_local! {
    /// What hostile wakers of this thread do on which occasion, and whether they are at it.
    static HOSTILITY: RefCell<Option<(On, Act)>> = const { RefCell::new(None) };
    static AT_IT: Cell<bool> = const { Cell::new(false) };
    static DONE: Cell<u32> = const { Cell::new(0) };
}

fn occasion(now: On) {
    let hostility = HOSTILITY.with_borrow(|hostility| hostility.clone());
    let Some((on, act)) = hostility else { return };
    if on == now && !AT_IT.replace(true) {
        DONE.set(DONE.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(|| act()));
        AT_IT.set(false);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

const HOSTILE: RawWakerVTable = RawWakerVTable::new(
    |data| {
        occasion(On::Clone);
        RawWaker::new(data, &HOSTILE)
    },
    |_| {
        occasion(On::Wake);
        occasion(On::Drop);
    },
    |_| occasion(On::Wake),
    |_| occasion(On::Drop),
);

/// A waker that does on `on` what `act` does, until the guard is dropped. It is never dropped itself.
fn hostile(on: On, act: impl Fn() + 'static) -> (ManuallyDrop<Waker>, impl Drop) {
    struct Calm;
    impl Drop for Calm {
        fn drop(&mut self) {
            HOSTILITY.set(None);
        }
    }
    HOSTILITY.set(Some((on, Arc::new(act))));
    // SAFETY: the functions use no data, so every contract on it holds.
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &HOSTILE)) };
    (ManuallyDrop::new(waker), Calm)
}

/// Polls unless it has ended, in whatever way.
fn poll_if_alive(future: &mut Option<Waiting<'_>>, waker: &Waker) {
    let Some(alive) = future else { return };
    let polled = catch_unwind(AssertUnwindSafe(|| poll(alive, waker)));
    if !matches!(polled, Ok(Poll::Pending)) {
        let _ = catch_unwind(AssertUnwindSafe(|| *future = None));
    }
}

/// Lets an operation wait with a hostile waker, gives it another and the old one again, serves it and drops it; then a
/// calm one must still be served.
fn check_hostile(row: &Row, scene: &dyn Scene, on: On, act: impl Fn() + 'static) {
    DONE.set(0);
    let (waker, calm) = hostile(on, act);
    let mut first = Some(scene.wait());
    let mut second = row.stands(Test::Many).then(|| scene.wait());
    poll_if_alive(&mut first, &waker);
    poll_if_alive(&mut second, Waker::noop());
    poll_if_alive(&mut first, Waker::noop());
    poll_if_alive(&mut first, &waker);
    let _ = catch_unwind(AssertUnwindSafe(|| scene.serve()));
    let _ = catch_unwind(AssertUnwindSafe(|| first = None));
    if on != On::Wake || row.stands(Test::WakesHere) {
        assert_ne!(DONE.get(), 0, "the waker had its occasion");
    }
    drop(calm);
    let mut second = second.or_else(|| row.why_without(Test::Many).map(|_| scene.wait()));
    for _ in 0..3 {
        poll_if_alive(&mut second, Waker::noop());
        if second.is_none() {
            break;
        }
        scene.serve();
    }
    assert!(second.is_none(), "the second is served");
    assert_waiters(row, scene, 0);
}

#[test]
fn u4_hostile_wakers_neither_block_nor_break_a_primitive() {
    for_every_row(|row| {
        for on in [On::Clone, On::Wake, On::Drop] {
            println!("{}, on {on:?}", row.name);
            let shared: Arc<dyn Scene> = (row.scene)().into();
            let weak = Arc::downgrade(&shared);
            check_hostile(row, &*shared, on, move || weak.upgrade().expect("it outlives its futures").poke());
            let again = row.stands(Test::PanicsAgain);
            check_hostile(row, &*(row.scene)(), on, move || {
                if again || DONE.get() == 1 {
                    std::panic::resume_unwind(Box::new("hostile"));
                }
            });
        }
    });
}

#[test]
fn u4_a_turn_of_a_sequencer_stands_hostile_wakers() {
    for on in [On::Clone, On::Wake, On::Drop] {
        DONE.set(0);
        let sequencer = Sequencer::new();
        let first = block_on(sequencer.turn(0));
        let turn = sequencer.turn(1);
        let mut second: Waiting<'_> = Box::pin(async { drop(turn.await) });
        let (waker, calm) = hostile(on, move || assert!(format!("{sequencer:?}").contains("next")));
        assert!(poll(&mut second, &waker).is_pending());
        assert!(poll(&mut second, Waker::noop()).is_pending());
        assert!(poll(&mut second, &waker).is_pending());
        drop(first);
        assert_ne!(DONE.get(), 0, "the waker had its occasion");
        drop(calm);
        assert!(poll(&mut second, Waker::noop()).is_ready());
    }
}

// === U5 ===

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn u5_memory_does_not_grow() {
    let all = many(if cfg!(debug_assertions) { 100_000 } else { 1_000_000 });
    for_every_scene(|row, scene| {
        let many = if row.anywhere.is_some() { all } else { all / 10 };
        let made = if row.stands(Test::Often) { many } else { many / 100 };
        let wakers = [Woken::waker().1, Woken::waker().1];
        let made_and_dropped = |many: usize| {
            for waker in wakers.iter().cycle().take(many) {
                drop(waiting(scene, waker));
            }
            scene.turn();
        };
        let stays = row.stands(Test::Many).then(|| waiting(scene, &wakers[0]));
        made_and_dropped(if row.anywhere.is_some() { 1 } else { made.min(1000) }); // warms up
        let mut polled = waiting(scene, &wakers[0]);
        let before = Counting::bytes();
        for waker in wakers.iter().cycle().take(many) {
            assert!(poll(&mut polled, waker).is_pending());
        }
        assert_eq!(Counting::bytes(), before, "polled often");
        drop(polled);
        made_and_dropped(1);
        let before = Counting::bytes();
        made_and_dropped(made);
        assert_eq!(Counting::bytes(), before, "made and dropped often");
        assert_waiters(row, scene, stays.iter().len());
        drop(stays);
        assert_waiters(row, scene, 0);
    });
}

#[test]
fn u5_nothing_is_allocated_per_wait() {
    for_every_scene(|row, scene| {
        if !row.stands(Test::Lean) {
            return;
        }
        let mut many: Vec<_> = (0..100).map(|_| waiting(scene, Waker::noop())).collect();
        many.clear();
        let before = Counting::bytes();
        let future = scene.wait();
        let alone = Counting::bytes() - before; // the test's own box
        drop(future);
        many.extend((0..100).map(|_| waiting(scene, Waker::noop())));
        assert_eq!(Counting::bytes() - before, 100 * alone);
    });
}

// === U6 ===

/// Unparks a thread, and counts.
struct Unpark {
    thread: std::thread::Thread,
    wakes: AtomicUsize,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.thread.unpark();
    }
}

/// Polls to the end on this thread, whenever it is woken; answers the output and the polls.
fn count_polls<F: Future>(future: F) -> (F::Output, usize) {
    let mut future = std::pin::pin!(future);
    let unpark = Arc::new(Unpark { thread: std::thread::current(), wakes: AtomicUsize::new(0) });
    let waker = Waker::from(unpark.clone());
    for polls in 1.. {
        let wakes = unpark.wakes.load(Ordering::Relaxed);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, polls);
        }
        while unpark.wakes.load(Ordering::Relaxed) == wakes {
            std::thread::park();
        }
    }
    unreachable!("it ends before polls run out")
}

fn block_on<F: Future>(future: F) -> F::Output {
    count_polls(future).0
}

/// Polls as an executor does: once, and again whenever it was woken. Answers whether it is done, and the polls.
fn poll_while_woken(scene: &dyn Scene, future: &mut Waiting<'_>, counts: &Counts) -> (bool, usize) {
    for polls in 1..100 {
        let woken = counts.woken.times();
        if poll(future, &counts.waker).is_ready() {
            return (true, polls);
        }
        scene.turn();
        if counts.woken.times() == woken {
            return (false, polls);
        }
    }
    panic!("it wakes itself whenever it is polled");
}

#[test]
fn u6_one_poll_until_it_waits_and_one_when_it_is_served() {
    for_every_scene(|row, scene| {
        let counts = Counts::new();
        let mut future = scene.wait();
        let (done, polls) = poll_while_woken(scene, &mut future, &counts);
        assert!(!done, "it waits");
        assert_eq!(polls, row.polls, "polls until it waits");
        scene.serve();
        assert_eq!(poll_while_woken(scene, &mut future, &counts), (true, 1), "it is served");
    });
}

/// As above where several threads wait at once: a wait that was woken for nothing, or polls that cost others theirs.
#[test]
fn u6_on_several_threads_as_well() {
    for_every_row(|row| {
        let Some(anywhere) = row.anywhere.as_ref().filter(|_| row.stands(Test::Threads)) else { return };
        let shared = anywhere();
        let scene = shared.as_scene();
        std::thread::scope(|threads| {
            let others = [(); 2].map(|()| threads.spawn(|| count_polls(shared.wait_anywhere())));
            while scene.waiters() < others.len() {
                std::thread::yield_now();
            }
            while others.iter().any(|other| !other.is_finished()) {
                scene.serve();
                std::thread::yield_now();
            }
            for other in others {
                let ((), polls) = other.join().expect("no panic");
                assert!(polls <= row.polls_among_threads, "{polls} polls");
            }
        });
    });
}

#[test]
fn u6_nobody_is_woken_while_nothing_happens() {
    for_every_scene(|row, scene| {
        let counts = Counts::new();
        let mut future = waiting(scene, &counts.waker);
        counts.begin(scene);
        for _ in 0..100 {
            scene.turn();
        }
        assert_eq!(counts.times(), 0);
        scene.serve();
        counts.assert_woken(row);
        assert!(poll(&mut future, &counts.waker).is_ready());
        assert_waiters(row, scene, 0);
    });
}
