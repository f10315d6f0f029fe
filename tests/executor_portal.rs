//! Loops on threads of their own, and calls into them.

use evenloop_executor::{EventLoop, Portal, PortalProvider, create_task, finally, yield_now};
use evenloop_tests::panic_of;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[test]
fn calls_run_on_the_loops_thread_one_beside_the_other() {
    let portal = Portal::start(evenloop::new_event_loop).unwrap();
    let there = portal.call(|| async { thread::current().id() }).unwrap();
    assert_ne!(there, thread::current().id());
    // Neither the future nor what it holds can change threads.
    let held = portal.call(|| {
        let held = Rc::new(6);
        async move {
            yield_now().await;
            *held * 7
        }
    });
    assert_eq!(held.unwrap(), 42);

    let (send, receive) = mpsc::channel();
    let queue = Arc::new(evenloop_sync::Queue::<u8>::new(0));
    let inside = queue.clone();
    let waits = portal.handle().spawn_with(move || async move {
        send.send("waits").unwrap();
        inside.get().await.unwrap()
    });
    assert_eq!(receive.recv().unwrap(), "waits");
    portal.call(move || async move { queue.put(9).await.unwrap() }).unwrap();
    assert_eq!(waits.unwrap().join_blocking().unwrap(), 9);
}

#[test]
fn a_call_that_panics_says_so_and_the_loop_goes_on() {
    let portal = Portal::start(EventLoop::new).unwrap();
    let fails = async || -> () { panic!("in a call") };
    let error = portal.call(fails).unwrap_err();
    assert_eq!(error.to_string(), "the task panicked: in a call");
    let making = |fails: bool| {
        assert!(!fails, "while making it");
        async {}
    };
    assert!(portal.call(move || making(true)).unwrap_err().is_panic());
    assert_eq!(portal.call(|| async { 1 }).unwrap(), 1);
}

#[test]
fn stopping_cancels_what_is_left_and_waits_for_its_clean_up() {
    let portal = Portal::start(EventLoop::new).unwrap();
    let cleaned = Arc::new(AtomicUsize::new(0));
    let inside = cleaned.clone();
    let task = portal.handle().spawn_with(move || {
        let clean_up = async move {
            yield_now().await;
            inside.fetch_add(1, Ordering::Relaxed);
        };
        finally(pending::<()>(), clean_up)
    });
    let task = task.unwrap();
    portal.call(|| async {}).unwrap(); // it has started
    let handle = portal.handle().clone();
    portal.close();
    assert_eq!(cleaned.load(Ordering::Relaxed), 1);
    assert!(task.join_blocking().unwrap_err().is_cancelled());
    assert!(handle.is_closed());
    let error = handle.call_blocking(|| async {}).unwrap_err();
    assert_eq!(error.to_string(), "the task was cancelled: the event loop is closed");
    assert!(handle.spawn_with(|| async {}).is_err());
}

#[test]
fn finishing_waits_for_the_tasks_and_what_they_spawn() {
    let portal = Portal::start(evenloop::new_event_loop).unwrap();
    let (send, receive) = mpsc::channel();
    let task = portal.handle().spawn_with(move || async move {
        evenloop::sleep(Duration::from_millis(5)).await;
        create_task(async move {
            evenloop::sleep(Duration::from_millis(5)).await;
            send.send("the child").unwrap();
        })
        .detach();
    });
    task.unwrap().detach();
    portal.join();
    assert_eq!(receive.try_recv().unwrap(), "the child");
}

#[test]
fn cancelling_a_call_before_and_after_it_was_made() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let held = Arc::new(());
    let make = || {
        let held = held.clone();
        move || async move {
            let _held = held;
            pending::<()>().await;
        }
    };
    let early = handle.spawn_with(make()).unwrap();
    early.cancel();
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.run_once(Some(Duration::ZERO));
    assert!(early.join_blocking().unwrap_err().is_cancelled());
    assert_eq!(Arc::strong_count(&held), 1);

    let late = handle.spawn_with(make()).unwrap();
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.run_once(Some(Duration::ZERO));
    late.cancel();
    event_loop.run_once(Some(Duration::ZERO));
    event_loop.run_once(Some(Duration::ZERO));
    assert!(late.join_blocking().unwrap_err().is_cancelled());

    let never = handle.spawn_with(make()).unwrap();
    drop(event_loop);
    assert!(never.join_blocking().unwrap_err().is_cancelled());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn waiting_for_oneself_says_so() {
    let portal = Arc::new(Portal::start(EventLoop::new).unwrap());
    let inside = portal.clone();
    let message = portal.call(move || async move { panic_of(|| inside.call(|| async {})) }).unwrap();
    assert!(message.starts_with("`call_blocking` on the loop's own thread"), "{message}");
}

#[test]
fn a_portal_dropped_by_its_own_loop_stops_without_waiting_for_itself() {
    let portal = Portal::start(EventLoop::new).unwrap();
    let handle = portal.handle().clone();
    let (send, receive) = mpsc::channel::<Portal>();
    let ends = handle
        .spawn_with(move || async move {
            drop(receive.recv().unwrap());
            1
        })
        .unwrap();
    send.send(portal).unwrap();
    assert_eq!(ends.join_blocking().unwrap(), 1);
    while !handle.is_closed() {
        thread::yield_now();
    }
}

#[test]
fn a_loop_that_cannot_be_made_panics_where_it_was_asked_for() {
    assert_eq!(panic_of(|| Portal::start(|| panic!("no loop today"))), "no loop today");
}

#[test]
fn a_provider_starts_at_the_first_use_and_stops_after_the_last() {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    static LOOP: PortalProvider = PortalProvider::new(|| {
        STARTED.fetch_add(1, Ordering::Relaxed);
        EventLoop::new()
    });
    assert_eq!(format!("{LOOP:?}"), "PortalProvider [leases: 0]");
    let first = LOOP.lease().unwrap();
    let second = LOOP.lease().unwrap();
    let id = || async { thread::current().id() };
    assert_eq!(first.call(id).unwrap(), second.call(id).unwrap());
    let handle = first.handle().clone();
    drop(first);
    assert!(!handle.is_closed());
    drop(second);
    assert!(handle.is_closed());
    assert_eq!(LOOP.lease().unwrap().call(|| async { 3 }).unwrap(), 3);
    assert_eq!(STARTED.load(Ordering::Relaxed), 2);
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| LOOP.lease().unwrap().call(|| async { 1 }).unwrap());
        }
    });
    assert_eq!(format!("{LOOP:?}"), "PortalProvider [leases: 0]");
}
