use super::super::cell::TaskCell;
use super::super::raw::Own;
use super::super::sched::Sched;
use super::super::site::Site;
use super::super::state::Word;
use super::*;
use crate::current::with_current;
use crate::task::annex::Annex;
use crate::task::raw::{CALLBACK, HANDLE, LOOP, first_callback};
use crate::task::raw_task::RawTask;
use evenloop_core::Unpark;
use evenloop_core::cancel::Cancellation;
use evenloop_core::shim::{StdArc, thread};
use std::collections::HashSet;
use std::future::{Pending, poll_fn};
use std::panic::Location;
use std::task::{Poll, Waker};
use std::time::Duration;

struct Nobody;

impl Unpark for Nobody {
    fn unpark(&self) {}
}

fn a_loop() -> Sched {
    Sched::new(StdArc::new(Nobody), None)
}

fn places(sched: &Sched) -> &Places {
    &sched.shared().places
}

fn words(words: usize) -> Layout {
    Layout::array::<*const ()>(words).unwrap()
}

/// A place, with the header of a task that nobody has listed.
fn take(sched: &Sched, words: usize) -> TaskPtr {
    let shared = NonNull::from(&**sched.shared());
    // SAFETY: this thread is the owner.
    let place = unsafe { places(sched).take(self::words(words), shared) }.expect("it suits");
    let own = Own { refs: 0, flags: LOOP, site: Site::NOWHERE, id: 0, annex: Annex::EMPTY };
    let header = Header::new(Word::new(), &TaskCell::<Pending<()>>::VTABLE, false, own);
    // SAFETY: it is at least as large, and nobody else's.
    unsafe { place.write(header) };
    TaskPtr(place)
}

fn give(sched: &Sched, task: TaskPtr) {
    // SAFETY: this thread is the owner, and the callers do not use it again.
    unsafe { places(sched).give(task) }
}

/// How many places of a chunk are live (K5).
fn live(sched: &Sched, at: NonNull<Chunk>) -> u16 {
    // SAFETY: what is in a ring is there.
    let chunk = unsafe { at.as_ref() };
    let first = places(sched).rings[usize::from(chunk.words)].first.get();
    chunk.live.get() - u16::from(first == Some(at))
}

/// Of each chunk: how many places it has, and how many of them are live.
fn chunks(sched: &Sched) -> Vec<(u16, u16)> {
    let look = |at: NonNull<Chunk>| {
        // SAFETY: what is in a ring is there.
        let chunk = unsafe { at.as_ref() };
        (chunk.places, live(sched, at))
    };
    places(sched).chunks().into_iter().map(look).collect()
}

fn bytes(sched: &Sched) -> usize {
    // SAFETY: what is in a ring is there.
    let look = |at: NonNull<Chunk>| unsafe { at.as_ref() }.layout().size();
    places(sched).chunks().into_iter().map(look).sum()
}

/// K5, and that the counts are right.
fn check(sched: &Sched) {
    let mut spare = 0;
    for (words, ring) in places(sched).rings.iter().enumerate() {
        let Some(first) = ring.first.get() else { continue };
        let (mut at, mut open_ends) = (first, false);
        loop {
            // SAFETY: what is in a ring is there.
            let chunk = unsafe { at.as_ref() };
            assert_eq!(usize::from(chunk.words), words);
            assert!(!(open_ends && chunk.open.get()), "an open one behind a full one");
            open_ends |= !chunk.open.get();
            let mut free = 0;
            let mut place = chunk.free.get();
            while let Some(header) = NonNull::new(place) {
                assert_eq!(chunk_of(TaskPtr(header)), at);
                free += 1;
                // SAFETY: K4.
                place = unsafe { header.as_ref() }.below.with(|below| unsafe { *below });
            }
            assert_eq!(live(sched, at) + free, chunk.used.get());
            assert!(chunk.open.get() || live(sched, at) == chunk.places);
            spare += if chunk.live.get() == 0 { chunk.layout().size() } else { 0 };
            // SAFETY: what is in a ring is there.
            assert_eq!(unsafe { chunk.next.get().as_ref() }.prev.get(), at);
            at = chunk.next.get();
            if at == first {
                break;
            }
        }
    }
    assert_eq!(places(sched).kept_bytes.get(), spare);
    assert!(spare <= KEPT_BYTES);
}

#[test]
fn what_was_given_last_is_taken_first_and_only_by_its_own_size() {
    let sched = a_loop();
    let (one, two) = (take(&sched, 12), take(&sched, 12));
    give(&sched, one);
    give(&sched, two);
    assert_ne!(chunk_of(take(&sched, 11)), chunk_of(one));
    assert!(take(&sched, 12) == two && take(&sched, 12) == one);
    check(&sched);
}

#[test]
fn the_first_chunk_of_a_size_is_small_and_the_next_are_full() {
    let sched = a_loop();
    let tasks: Vec<_> = (0..FIRST + 2 * most(7)).map(|_| take(&sched, 7)).collect();
    let distinct: HashSet<_> = tasks.iter().map(|task| task.0).collect();
    assert_eq!(distinct.len(), tasks.len());
    let mut sizes = chunks(&sched);
    sizes.sort();
    assert_eq!(sizes, [(8, 8), (145, 145), (145, 145)]);
    assert!(bytes(&sched) < tasks.len() * 57);
    check(&sched);
}

#[test]
fn what_is_large_or_unusual_is_to_be_alone() {
    let sched = a_loop();
    let shared = NonNull::from(&**sched.shared());
    // SAFETY: this thread is the owner.
    let suits = |layout| unsafe { places(&sched).take(layout, shared) }.is_some();
    assert!(suits(words(LARGEST / WORD)));
    assert!(!suits(words(LARGEST / WORD + 1)));
    assert!(!suits(Layout::from_size_align(96, 16).unwrap()));
    assert_eq!(most(LARGEST / WORD), 16);
}

#[test]
fn so_many_bytes_of_spare_chunks_are_kept_and_the_rest_is_freed() {
    let sched = a_loop();
    let tasks: Vec<_> = (0..10_000).map(|_| take(&sched, 15)).collect();
    assert!(bytes(&sched) > 4 * KEPT_BYTES);
    check(&sched);
    for task in tasks {
        give(&sched, task);
    }
    check(&sched);
    let kept = bytes(&sched);
    assert!(kept > KEPT_BYTES - CHUNK && kept <= KEPT_BYTES + CHUNK, "{kept}");
    // They are used again before others are made.
    let again: Vec<_> = (0..1_000).map(|_| take(&sched, 15)).collect();
    assert_eq!(bytes(&sched), kept);
    check(&sched);
    again.into_iter().for_each(|task| give(&sched, task));
    places(&sched).free_empty();
    assert_eq!(bytes(&sched), 0);
    check(&sched);
}

#[test]
fn a_full_chunk_in_which_a_place_becomes_free_is_filled_before_another_is_made() {
    let sched = a_loop();
    let tasks: Vec<_> = (0..FIRST + 3 * most(60)).map(|_| take(&sched, 60)).collect();
    let before = chunks(&sched).len();
    let holes = [0, FIRST, FIRST + most(60), FIRST + 2 * most(60), 1];
    holes.iter().for_each(|&hole| give(&sched, tasks[hole]));
    check(&sched);
    let filled: HashSet<_> = holes.iter().map(|_| take(&sched, 60).0).collect();
    assert_eq!(filled, holes.iter().map(|&hole| tasks[hole].0).collect());
    assert_eq!(chunks(&sched).len(), before);
    check(&sched);
}

#[test]
fn it_does_as_its_naive_twin_does() {
    for seed in 1..20_u64 {
        let sched = a_loop();
        let mut random = seed;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let mut live: Vec<TaskPtr> = Vec::new();
        for round in 0..6_000 {
            // Waves, so that chunks become full and empty.
            let grows = if round / 1_000 % 2 == 0 { 7 } else { 3 };
            if live.is_empty() || next(10) < grows {
                let task = take(&sched, [7, 15, 60][next(3)]);
                assert!(!live.contains(&task), "seed {seed}: a place was given out twice");
                live.push(task);
            } else {
                let task = live.swap_remove(next(live.len()));
                give(&sched, task);
            }
            if round % 500 == 0 {
                check(&sched);
            }
        }
        let counted: usize = chunks(&sched).iter().map(|&(_, live)| usize::from(live)).sum();
        assert_eq!(counted, live.len(), "seed {seed}");
        live.into_iter().for_each(|task| give(&sched, task));
        check(&sched);
    }
}

// === With tasks ===

#[track_caller]
fn spawn<F: Future + 'static>(sched: &Sched, future: F) -> RawTask<F::Output> {
    sched.spawn(future, None, Location::caller())
}

/// Ends in its second turn, and leaves its waker.
fn leaves_its_waker(
    wakers: &std::rc::Rc<std::cell::RefCell<Vec<Waker>>>,
) -> impl Future<Output = ()> + use<> {
    let wakers = wakers.clone();
    poll_fn(move |cx| {
        wakers.borrow_mut().push(cx.waker().clone());
        Poll::Ready(())
    })
}

#[test]
fn all_tasks_are_listed_newest_first_wherever_they_lie() {
    let sched = a_loop();
    let _here = sched.enter();
    let mut tasks = Vec::new();
    for round in 0..100 {
        let large = [0_u8; 600];
        tasks.push(if round % 3 == 0 {
            spawn(&sched, async move {
                std::future::pending::<()>().await;
                std::hint::black_box(large);
            })
        } else {
            spawn(&sched, std::future::pending::<()>())
        });
    }
    let alone = tasks.iter().filter(|task| is_alone(task)).count();
    assert_eq!(alone, 34);
    // Their places are used again, so addresses say nothing about the age.
    for place in [50, 20, 3] {
        let task = tasks.remove(place);
        task.cancel(&Cancellation::new(""));
        drop(task);
    }
    while sched.run_ready() > 0 {}
    tasks.extend((0..5).map(|_| spawn(&sched, std::future::pending::<()>())));
    let ids: Vec<_> = tasks.iter().map(|task| task.about().id).collect();
    let listed: Vec<_> = sched.all().iter().map(|task| task.about().unwrap().id).collect();
    assert_eq!(listed, ids);
    assert_eq!(sched.alive(), 102);
    sched.close();
    assert_eq!(sched.all().len(), 0);
}

/// Says in the list when it is dropped.
struct Says(u32, std::rc::Rc<std::cell::RefCell<Vec<u32>>>);

impl Drop for Says {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

#[test]
fn callbacks_too_are_dropped_newest_first_when_the_loop_is_closed() {
    let sched = a_loop();
    let said = std::rc::Rc::default();
    let here = sched.enter();
    let mut kept = Vec::new();
    for number in 0..300 {
        let says = Says(number, std::rc::Rc::clone(&said));
        let waits = async move {
            let _says = says;
            std::future::pending::<()>().await;
        };
        // Callbacks between tasks, also some that are alone.
        match number % 50 {
            0 => kept.push(spawn(&sched, waits)),
            25 => {
                let large = [0_u8; 600];
                let waits = async move {
                    waits.await;
                    std::hint::black_box(large);
                };
                drop(sched.spawn_callback(waits, Location::caller()));
            }
            _ => drop(sched.spawn_callback(waits, Location::caller())),
        }
    }
    while sched.run_ready() > 0 {}
    let ids: Vec<_> = kept.iter().map(|task| task.about().id.get()).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    sched.close();
    assert_eq!(said.take(), (0..300).rev().collect::<Vec<_>>());
    drop(here);
}

#[test]
fn the_ages_of_callbacks_are_right_however_many_there_are() {
    let own = |flags, id| Own { refs: 0, flags, site: Site::NOWHERE, id, annex: Annex::EMPTY };
    let (task, next) = (own(0, 7), own(0, 8));
    let first = own(CALLBACK, first_callback(7) + 1);
    let last = own(CALLBACK, first_callback(8) - 1);
    let after_it = own(CALLBACK, first_callback(8) + 1);
    let ages = [&task, &first, &last, &next, &after_it].map(Own::age);
    assert!(ages.is_sorted_by(|a, b| a < b), "{ages:?}");
    assert_eq!([&task, &first, &last, &next, &after_it].map(Own::number), [7, 7, 7, 8, 8]);

    // One more than there is room for, then a task.
    let sched = a_loop();
    let _here = sched.enter();
    drop(spawn(&sched, async {}));
    sched.own(|queue| queue.last_callback = first_callback(2) - 1);
    let said = std::rc::Rc::default();
    for number in 0..3 {
        let says = Says(number, std::rc::Rc::clone(&said));
        drop(sched.spawn_callback(
            async move { drop((std::future::pending::<()>().await, says)) },
            Location::caller(),
        ));
    }
    while sched.run_ready() > 0 {}
    assert_eq!(spawn(&sched, async {}).about().id.get(), 2);
    sched.close();
    assert_eq!(said.take(), [2, 1, 0]);
}

fn is_alone<T>(task: &RawTask<T>) -> bool {
    // SAFETY: its handle is there.
    unsafe { task.task.header() }.is_alone()
}

#[test]
fn both_sides_of_the_limit_run_and_end() {
    let sched = a_loop();
    let _here = sched.enter();
    fn holds<const N: usize>(sched: &Sched) -> bool {
        let held = [7_u8; N];
        let task = spawn(sched, async move { held.iter().map(|&byte| usize::from(byte)).sum::<usize>() });
        let alone = is_alone(&task);
        while sched.run_ready() > 0 {}
        assert_eq!(task.take().unwrap().unwrap(), 7 * N);
        alone
    }
    let alone = [
        holds::<0>(&sched),
        holds::<1>(&sched),
        holds::<400>(&sched),
        holds::<440>(&sched),
        holds::<500>(&sched),
        holds::<600>(&sched),
        holds::<8_000>(&sched),
    ];
    assert_eq!(alone, [false, false, false, false, true, true, true]);
    check(&sched);
    sched.close();
    assert_eq!(bytes(&sched), 0);
}

#[test]
fn ten_thousand_large_tasks_lie_alone() {
    let sched = a_loop();
    let _here = sched.enter();
    let tasks: Vec<_> = (0..10_000_u32)
        .map(|number| {
            let held = [number; 2_048];
            spawn(&sched, async move { held[number as usize % held.len()] })
        })
        .collect();
    assert!(tasks.iter().all(is_alone));
    assert_eq!(bytes(&sched), 0);
    while sched.run_ready() > 0 {}
    for (number, task) in tasks.iter().enumerate() {
        assert_eq!(task.take().unwrap().unwrap() as usize, number);
    }
    // Out of the middle of the list, from both its ends, and the rest with the loop.
    let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    (4_000..6_000).chain(0..10).chain(9_990..10_000).for_each(|number| tasks[number] = None);
    // SAFETY: this thread is the owner.
    assert_eq!(unsafe { places(&sched).listed() }.len(), 7_980);
    sched.close();
    // SAFETY: as above.
    assert_eq!(unsafe { places(&sched).listed() }.len(), 0);
}

#[test]
fn memory_comes_back_after_a_rush() {
    let sched = a_loop();
    let _here = sched.enter();
    for _ in 0..3 {
        let tasks: Vec<_> = (0..100_000).map(|number| spawn(&sched, async move { number })).collect();
        assert!(bytes(&sched) > 100_000 * 56);
        while sched.run_ready() > 0 {}
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.take().unwrap().unwrap(), number);
        }
        check(&sched);
        assert!(bytes(&sched) <= KEPT_BYTES + CHUNK);
    }
    sched.close();
    assert_eq!(bytes(&sched), 0);
}

#[test]
fn the_places_of_settled_tasks_come_back_from_any_thread() {
    let sched = a_loop();
    let _here = sched.enter();
    let mut before = 0;
    for round in 0..20 {
        let wakers = std::rc::Rc::default();
        for _ in 0..1_000 {
            drop(spawn(&sched, leaves_its_waker(&wakers)));
        }
        while sched.run_ready() > 0 {}
        let mut wakers = wakers.take();
        assert_eq!(wakers.len(), 1_000);
        let half = wakers.split_off(500);
        drop(wakers);
        thread::spawn(move || drop(half)).join().unwrap();
        check(&sched);
        if round == 0 {
            before = bytes(&sched);
        }
        assert_eq!(bytes(&sched), before, "round {round}");
    }
    // A loop that sleeps has taken them all.
    assert!(sched.prepare_park());
    assert!(chunks(&sched).iter().all(|&(_, live)| live == 0));
    check(&sched);
}

#[test]
fn a_loop_that_only_looks_takes_the_places_of_settled_tasks_back() {
    let event_loop = crate::EventLoop::new();
    let wakers = std::rc::Rc::default();
    let core = event_loop.run_until_complete(async {
        for _ in 0..10_000 {
            drop(crate::create_task(leaves_its_waker(&wakers)));
        }
        crate::yield_now().await;
        with_current(std::rc::Rc::clone).unwrap()
    });
    let mut wakers = wakers.take();
    assert_eq!(wakers.len(), 10_000);
    while event_loop.run_once(Some(Duration::ZERO)) > 0 {}
    assert!(bytes(core.sched()) > 2 * KEPT_BYTES);
    let half = wakers.split_off(5_000);
    thread::spawn(move || drop(wakers)).join().unwrap();
    // Nothing is ready: each step looks.
    event_loop.run_once(Some(Duration::ZERO));
    let live_tasks = || chunks(core.sched()).iter().map(|&(_, live)| usize::from(live)).sum::<usize>();
    assert_eq!(live_tasks(), 5_000);
    thread::spawn(move || drop(half)).join().unwrap();
    // Something is always ready: a step looks now and then.
    let busy = event_loop.create_task(async {
        loop {
            crate::yield_now().await;
        }
    });
    for _ in 0..300 {
        event_loop.run_once(Some(Duration::ZERO));
    }
    assert_eq!(live_tasks(), 1);
    assert!(bytes(core.sched()) <= KEPT_BYTES + 4 * CHUNK);
    check(core.sched());
    drop((busy, core));
}

#[test]
fn tasks_that_outlive_their_closed_loop_keep_their_chunks() {
    let sched = a_loop();
    let wakers = std::rc::Rc::default();
    {
        let _here = sched.enter();
        for _ in 0..100 {
            drop(spawn(&sched, leaves_its_waker(&wakers)));
        }
        while sched.run_ready() > 0 {}
        sched.close();
    }
    let shared = StdArc::downgrade(sched.shared());
    let over = spawn(&sched, async {});
    assert!(over.is_over());
    drop((over, sched));
    let mut wakers = wakers.take();
    let last = wakers.pop().unwrap();
    thread::spawn(move || drop(wakers)).join().unwrap();
    assert!(shared.upgrade().is_some());
    last.wake_by_ref();
    thread::spawn(move || last.wake()).join().unwrap();
    assert!(shared.upgrade().is_none());
}

#[test]
fn a_settled_task_is_not_listed_and_its_place_is_not_looked_into() {
    let sched = a_loop();
    let _here = sched.enter();
    let wakers = std::rc::Rc::default();
    drop(spawn(&sched, leaves_its_waker(&wakers)));
    let waits = spawn(&sched, std::future::pending::<()>());
    while sched.run_ready() > 0 {}
    assert_eq!(sched.all().len(), 1);
    drop(wakers.take());
    assert_eq!(sched.all().len(), 1);
    drop(waits);
    sched.close();
}

#[test]
fn a_task_says_whether_it_is_alone_without_losing_its_functions() {
    let own = || Own { refs: 0, flags: HANDLE, site: Site::NOWHERE, id: 0, annex: Annex::EMPTY };
    for alone in [false, true] {
        let header = Header::new(Word::new(), &TaskCell::<Pending<()>>::VTABLE, alone, own());
        assert_eq!(header.is_alone(), alone);
        assert_eq!((header.vtable().name)(), std::any::type_name::<Pending<()>>());
    }
}
