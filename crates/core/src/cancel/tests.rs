//! Every rule of `cancel`, polled by hand. Time is an instant that the test moves.

use super::*;
use crate::runtime::Runtime;
use crate::timers::{TimerKey, Timers, TimersEnded};
use futures::future::{FutureExt, join, pending, ready};
use futures::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

// === The bench ===

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a task's host and handles share.
#[derive(Clone, Default)]
struct Asked(Rc<RefCell<Requests>>);

impl Asked {
    fn request(&self, reason: &'static str) -> bool {
        self.0.borrow_mut().request(reason.into())
    }

    fn now(&self) -> Requests {
        self.0.borrow().clone()
    }

    fn uncancel(&self) -> u32 {
        self.now().uncancel()
    }

    fn count(&self) -> u32 {
        self.now().count()
    }
}

/// A task as a host would run it.
struct Task<T> {
    future: Option<Pin<Box<dyn Future<Output = T>>>>,
    root: Root,
    requests: Asked,
    woken: Arc<Woken>,
}

impl<T> Task<T> {
    fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self::with(Asked::default(), future)
    }

    /// A task that can cancel itself.
    fn with(requests: Asked, future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Some(Box::pin(future)), root: Root::new(), requests, woken: Arc::default() }
    }

    fn cancel(&self, reason: &'static str) {
        self.requests.request(reason);
    }

    fn poll(&mut self) -> Poll<Result<T, Reason>> {
        let waker = Waker::from(self.woken.clone());
        let turn = |turn| match turn {
            Turn::Go => None,
            Turn::Take(reason) => Some(Poll::Ready(Err(reason))),
        };
        if let Some(end) = turn(self.root.before(&self.requests.now(), &waker)) {
            self.future = None;
            return end;
        }
        let polled = {
            let requests = self.requests.now();
            let future = self.future.as_mut().expect("not polled after its end");
            self.root.enter(&requests, || future.as_mut().poll(&mut Context::from_waker(&waker)))
        };
        match polled {
            Poll::Ready(value) => {
                self.future = None;
                turn(self.root.finish(&self.requests.now())).unwrap_or(Poll::Ready(Ok(value)))
            }
            Poll::Pending => match turn(self.root.after(&self.requests.now(), &waker)) {
                Some(end) => {
                    self.future = None;
                    end
                }
                None => Poll::Pending,
            },
        }
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// Polls while it is woken.
    fn run(&mut self) -> Poll<Result<T, Reason>> {
        loop {
            let before = self.woken();
            let polled = self.poll();
            if polled.is_ready() || self.woken() == before {
                return polled;
            }
        }
    }
}

fn cancelled<T>(reason: &'static str) -> Poll<Result<T, Reason>> {
    Poll::Ready(Err(Reason::new(reason)))
}

#[track_caller]
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn add(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }

    fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// Ready once the test says so, woken then.
#[derive(Clone, Default)]
struct Gate(Rc<(Cell<bool>, RefCell<Vec<Waker>>)>);

impl Gate {
    fn open(&self) {
        self.0.0.set(true);
        self.0.1.take().into_iter().for_each(Waker::wake);
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.0.0.get() {
                return Poll::Ready(());
            }
            self.0.1.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Timers whose time the test moves.
struct Hand {
    start: Instant,
    state: Mutex<HandState>,
}

#[derive(Default)]
struct HandState {
    passed: Duration,
    last_key: u64,
    entries: BTreeMap<u64, (Instant, Waker)>,
    ended: bool,
}

impl Hand {
    fn new() -> (Arc<Self>, Runtime) {
        let hand = Arc::new(Self { start: Instant::now(), state: Mutex::default() });
        (hand.clone(), Runtime::builder("hand").timers(hand).build())
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn advance_to(&self, seconds: u64) {
        let now = self.at(seconds);
        let mut state = self.state.lock().unwrap();
        state.passed = now - self.start;
        let due: Vec<_> =
            state.entries.iter().filter(|(_, (at, _))| *at <= now).map(|(key, _)| *key).collect();
        let wakers: Vec<_> = due.iter().filter_map(|key| state.entries.remove(key)).collect();
        drop(state);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn end(&self) {
        let entries = {
            let mut state = self.state.lock().unwrap();
            state.ended = true;
            std::mem::take(&mut state.entries)
        };
        entries.into_values().for_each(|(_, waker)| waker.wake());
    }

    fn pending(&self) -> usize {
        self.state.lock().unwrap().entries.len()
    }
}

impl Timers for Hand {
    fn now(&self) -> Instant {
        self.start + self.state.lock().unwrap().passed
    }

    fn insert(&self, deadline: Instant, waker: &Waker) -> Result<TimerKey, TimersEnded> {
        let mut state = self.state.lock().unwrap();
        if state.ended {
            return Err(TimersEnded);
        }
        state.last_key += 1;
        let key = state.last_key;
        state.entries.insert(key, (deadline, waker.clone()));
        Ok(TimerKey::from_raw(key))
    }

    fn update(&self, key: TimerKey, deadline: Instant, waker: Option<&Waker>) -> Result<bool, TimersEnded> {
        let mut state = self.state.lock().unwrap();
        if state.ended {
            return Err(TimersEnded);
        }
        let Some(entry) = state.entries.get_mut(&key.into_raw()) else { return Ok(false) };
        entry.0 = deadline;
        if let Some(waker) = waker {
            entry.1 = waker.clone();
        }
        Ok(true)
    }

    fn remove(&self, key: TimerKey) -> bool {
        self.state.lock().unwrap().entries.remove(&key.into_raw()).is_some()
    }
}

// === Parts ===

#[test]
fn a_catcher_under_no_scope_is_inert() {
    let mut catch = Box::pin(catch_cancel(pending::<()>()));
    assert!(poll_once(catch.as_mut()).is_pending());
    assert!(format!("{catch:?}").contains("Catcher []"), "{catch:?}");
    let mut catch = Box::pin(catch_cancel(ready(7)));
    assert!(matches!(poll_once(catch.as_mut()), Poll::Ready(Ok(7))));
}

#[test]
fn a_task_that_uses_none_makes_nothing() {
    let mut task = Task::new(pending::<()>());
    assert!(task.poll().is_pending());
    assert_eq!(format!("{:?} {:?}", task.root, task.requests.now()), "Root [] Requests []");
    assert_eq!(size_of::<Root>(), size_of::<usize>());
    assert_eq!(size_of::<Requests>(), size_of::<usize>());
}

#[test]
fn a_scope_without_catchers_and_a_catcher_that_is_ready_at_once_make_no_node() {
    let mut task = Task::new(async {
        let mut scope = Scope::new();
        let mut body = Box::pin(Some(async {
            assert!(catch_cancel(ready(())).await.is_ok());
            pending::<()>().await;
        }));
        poll_fn(|cx| scope.poll(body.as_mut(), cx)).await
    });
    assert!(task.poll().is_pending());
    assert_eq!(format!("{:?}", task.root), "Root []");
}

#[test]
fn a_catcher_that_waits_is_in_the_tree_until_it_ends() {
    let gate = Gate::default();
    let mut task = Task::new({
        let gate = gate.clone();
        async move {
            assert!(catch_cancel(gate.wait()).await.is_ok());
            pending::<()>().await;
        }
    });
    assert!(task.poll().is_pending());
    assert_eq!(format!("{:?}", task.root), "Root [with catchers]");
    gate.open();
    assert!(task.poll().is_pending());
    task.cancel("now nobody catches");
    assert_eq!(task.poll(), cancelled("now nobody catches"));
}

#[test]
fn a_poll_that_panics_leaves_the_stack_as_it_was() {
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(async {
        catch_cancel(async { panic!("in a poll") }).await.ok();
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(run.as_mut()))).is_err());
    let mut catch = Box::pin(catch_cancel(pending::<()>()));
    assert!(poll_once(catch.as_mut()).is_pending());
    assert!(format!("{catch:?}").contains("Catcher []"), "nothing is left on the stack: {catch:?}");
}

#[test]
fn what_was_raised_in_a_poll_that_panicked_reaches_no_other_task() {
    type Enter = fn(&mut Root, &mut dyn FnMut());
    let ways: [Enter; 2] =
        [|root, poll| root.enter(&Requests::new(), poll), |root, poll| root.enter_bare(poll)];
    for enter in ways {
        // A host that lets the panic through, and never asks what was raised.
        let panics = || {
            enter(&mut Root::new(), &mut || {
                let _raised = raise("not for others").expect("there is a task");
                panic!("in a poll");
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        let mut other = Root::new();
        let mut catch = Box::pin(catch_cancel(pending::<()>()));
        enter(&mut other, &mut || assert!(poll_once(catch.as_mut()).is_pending()));
        assert!(!other.is_empty(), "so its host asks");
        assert!(other.take_raised().is_none());
    }
}

#[test]
fn what_a_request_kept_that_closes_is_dropped_outside_of_the_lock() {
    use super::hold::Hold;
    use super::inbox::Inbox;
    use super::marks::How;
    use super::round::Way;
    use super::tree::Node;

    /// Foreign: it looks at the inbox as it is dropped, from a thread of its own lest this one hang.
    struct Looks(Arc<Inbox>, std::sync::mpsc::Sender<bool>);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Looks {
        fn drop(&mut self) {
            let (inbox, (says, said)) = (self.0.clone(), std::sync::mpsc::channel());
            std::thread::spawn(move || says.send(inbox.open()));
            let _ = self.1.send(said.recv_timeout(Duration::from_secs(5)).is_ok());
        }
    }

    let (inbox, (told, looked)) = (Inbox::new(), std::sync::mpsc::channel());
    let home = Arc::new(Node::new(true));
    home.keep_waker(Waker::from(Arc::new(Looks(inbox.clone(), told))));
    let hold = Hold::new(Some(home));
    hold.end();
    assert!(inbox.raise("absorbed".into(), hold));
    assert!(inbox.begin_round(0, std::iter::once(Arc::new(Node::new(true)))));
    inbox.settled(0, Way::Out(How::Absorbed)).wake_others();
    assert_eq!(inbox.open(), 0);
    assert_eq!(looked.try_recv(), Ok(true), "dropped, and the inbox was not locked");
}

#[test]
fn a_catcher_that_is_moved_to_another_task_answers_that_one() {
    let shared = Rc::new(RefCell::new(Box::pin(catch_cancel(pending::<()>()))));
    let poller = |shared: Rc<RefCell<Pin<Box<CatchCancel<_>>>>>, here: Rc<Cell<bool>>| {
        poll_fn(move |cx| if here.get() { shared.borrow_mut().as_mut().poll(cx) } else { Poll::Pending })
    };
    let (first_has_it, second_has_it) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(false)));
    let mut first = Task::new(poller(shared.clone(), first_has_it.clone()));
    let mut second = Task::new(poller(shared.clone(), second_has_it.clone()));
    assert!(first.poll().is_pending());
    first_has_it.set(false);
    second_has_it.set(true);
    assert!(second.poll().is_pending());
    first.cancel("first");
    assert!(matches!(first.poll(), Poll::Ready(Err(_))), "nobody catches there any more");
    second.cancel("second");
    let Poll::Ready(Ok(Err(it))) = second.poll() else { panic!("it caught") };
    assert_eq!(it.reason().text(), Some("second"));
}

#[test]
fn a_scope_takes_its_catchers_along_to_another_task() {
    let log = Log::default();
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run({
        let log = log.clone();
        // The child of the set is not polled again by the move, yet it is found.
        async move {
            let mut set = FuturesUnordered::new();
            set.push(catch_cancel(pending::<()>()));
            let caught = set.next().await;
            log.add(caught.unwrap().unwrap_err());
        }
    }));
    {
        let mut first = Root::new();
        let requests = Requests::new();
        assert!(first.enter(&requests, || poll_once(run.as_mut())).is_pending());
    }
    let mut second = Task::new(run);
    assert!(second.poll().is_pending());
    second.cancel("second task");
    // The catcher let its `Cancelled` go, so the request is passed on; but the scope's future is ready.
    assert!(matches!(second.poll(), Poll::Ready(Ok(Ok(())))));
    assert_eq!(log.take(), ["cancelled: second task"]);
}

#[test]
fn a_future_that_outlives_its_scope_joins_the_next_one() {
    let catch = Rc::new(RefCell::new(Box::pin(catch_cancel(pending::<()>()))));
    let run_on = |scope: &CancelScope| {
        let catch = catch.clone();
        Box::pin(scope.run(poll_fn(move |cx| catch.borrow_mut().as_mut().poll(cx))))
    };
    let (first, second) = (CancelScope::new(), CancelScope::new());
    let mut run = run_on(&first);
    assert!(poll_once(run.as_mut()).is_pending());
    drop(run); // the outer one first: left out of order
    let mut run = run_on(&second);
    assert!(poll_once(run.as_mut()).is_pending());
    second.cancel("second");
    assert!(!first.cancel("first has ended"));
    assert!(matches!(poll_once(run.as_mut()), Poll::Ready(Ok(Err(_)))));
}

// === Requests and turns ===

#[test]
fn without_a_catcher_the_scope_drops_its_future_at_its_next_turn() {
    let log = Log::default();
    let scope = CancelScope::new();
    let mut task = Task::new({
        let (scope, log) = (scope.clone(), log.clone());
        async move {
            let end = scope
                .run(async {
                    let _guard = OnDrop(|| log.add("dropped"));
                    pending::<()>().await;
                })
                .await;
            log.add(end.unwrap_err());
        }
    });
    assert!(task.poll().is_pending());
    scope.cancel("enough");
    assert_eq!(task.woken(), 1);
    assert!(task.poll().is_ready());
    assert_eq!(log.take(), ["dropped", "cancelled: enough"]);
    assert!(scope.cancel_called() && scope.cancelled_caught());
}

#[test]
fn a_scope_that_is_asked_before_it_is_entered_never_runs() {
    let scope = CancelScope::new();
    scope.cancel("early");
    let mut run = Box::pin(scope.run(async { unreachable!("the body never runs") }));
    assert_eq!(poll_once(run.as_mut()), cancelled::<()>("early"));
    let mut task = Task::new(async { unreachable!("the body never runs") });
    task.cancel("early");
    assert_eq!(task.poll(), cancelled::<()>("early"));
}

#[test]
fn a_catcher_drops_its_future_and_learns_the_reason() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let caught = catch_cancel(async {
                let _guard = OnDrop(|| log.add("dropped"));
                pending::<()>().await;
            })
            .await;
            let it = caught.unwrap_err();
            log.add(&it);
            it.absorb();
            "went on"
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.poll(), Poll::Ready(Ok("went on")));
    assert_eq!(log.take(), ["dropped", "cancelled: why"]);
}

#[test]
fn the_innermost_catcher_is_asked_first_also_through_scopes() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let inner = CancelScope::new();
            let outer = catch_cancel(async {
                let end = inner
                    .run(async {
                        let it = catch_cancel(pending::<()>()).await.unwrap_err();
                        log.add("inner");
                        it.resume().await;
                    })
                    .await;
                unreachable!("{end:?}");
            })
            .await;
            log.add("outer");
            outer.unwrap_err().resume().await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["inner", "outer"]);
}

#[test]
fn a_catcher_among_children_that_are_polled_only_when_woken_is_reached() {
    let mut task = Task::new(async {
        let mut set: FuturesUnordered<_> = (0..3).map(|_| catch_cancel(pending::<()>())).collect();
        let mut reasons = Vec::new();
        while let Some(caught) = set.next().await {
            let it = caught.unwrap_err();
            reasons.push(it.reason().clone());
            it.absorb();
        }
        reasons.len()
    });
    assert!(task.poll().is_pending());
    task.cancel("all three");
    assert_eq!(task.poll(), Poll::Ready(Ok(3)));
}

#[test]
fn a_catcher_that_is_not_polled_is_passed_over() {
    let polls = Rc::new(Cell::new(true));
    let parked = |polls: Rc<Cell<bool>>| {
        let mut catch = Box::pin(catch_cancel(pending::<()>()));
        poll_fn(move |cx| if polls.get() { catch.as_mut().poll(cx) } else { Poll::Pending })
    };
    let mut task = Task::new(parked(polls.clone()));
    assert!(task.poll().is_pending());
    polls.set(false);
    task.cancel("nobody listens");
    assert!(matches!(task.poll(), Poll::Ready(Err(_))), "taken at the end of that turn");

    // It does not hold up the one around it.
    let polls = Rc::new(Cell::new(true));
    let mut task = Task::new(catch_cancel(parked(polls.clone())));
    assert!(task.poll().is_pending());
    polls.set(false);
    task.cancel("why");
    assert!(task.poll().is_pending());
    assert_eq!(task.woken(), 1, "the next round is in the next turn");
    let Poll::Ready(Ok(Err(it))) = task.poll() else { panic!("the outer one caught") };
    drop(it);
}

#[test]
fn a_catcher_that_starts_while_a_request_is_open_is_found_at_the_end_of_that_turn() {
    let requests = Asked::default();
    let mut task = Task::with(requests.clone(), async move {
        requests.request("myself");
        let it = catch_cancel(pending::<()>()).await.unwrap_err();
        it.absorb();
        5
    });
    assert!(task.poll().is_pending());
    assert_eq!(task.woken(), 1);
    assert_eq!(task.poll(), Poll::Ready(Ok(5)));
}

#[test]
fn a_task_that_cancels_itself_ends_at_its_next_suspension() {
    let requests = Asked::default();
    let log = Log::default();
    let mut task = Task::with(requests.clone(), {
        let log = log.clone();
        async move {
            requests.request("myself");
            ready(()).await;
            log.add("what is ready does not suspend");
            pending::<()>().await;
        }
    });
    assert_eq!(task.poll(), cancelled("myself"));
    assert_eq!(log.take().len(), 1);
}

#[test]
fn a_request_from_another_thread_wakes_the_scope_once() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move { scope.run(pending::<()>()).await }
    });
    assert!(task.poll().is_pending());
    let other = std::thread::spawn(move || scope.cancel("from afar"));
    assert!(other.join().unwrap());
    assert_eq!(task.woken(), 1);
    assert!(matches!(task.poll(), Poll::Ready(Ok(Err(_)))));
}

#[test]
fn uncancel_withdraws_what_nobody_delivered() {
    let mut task = Task::new(catch_cancel(pending::<()>()));
    assert!(task.poll().is_pending());
    task.cancel("one");
    task.cancel("two");
    assert_eq!(task.requests.count(), 2);
    assert_eq!(task.requests.uncancel(), 1);
    assert_eq!(task.requests.uncancel(), 0);
    assert_eq!(task.requests.uncancel(), 0);
    assert!(task.run().is_pending());
    task.cancel("three");
    assert_eq!(task.requests.count(), 1);
    let Poll::Ready(Ok(Err(it))) = task.poll() else { panic!("it caught") };
    assert_eq!(it.reasons().collect::<Vec<_>>(), [&Reason::new("three")]);
    assert!(!task.requests.request("too late"));
}

#[test]
fn uncancel_withdraws_a_mark_that_is_not_delivered_yet() {
    let requests = Asked::default();
    let mut task = Task::with(requests.clone(), async move {
        // The first branch is polled first in the turn that marked the second.
        let withdraws = poll_fn(|_| {
            requests.uncancel();
            Poll::<()>::Pending
        });
        join(withdraws, catch_cancel(pending::<()>())).await.1
    });
    assert!(task.poll().is_pending());
    task.cancel("never mind");
    assert!(task.run().is_pending());
    task.cancel("never mind either");
    assert!(task.run().is_pending());
}

// === Answers ===

#[test]
fn what_was_absorbed_is_over() {
    let gate = Gate::default();
    let mut task = Task::new({
        let gate = gate.clone();
        async move {
            catch_cancel(pending::<()>()).await.unwrap_err().absorb();
            assert!(catch_cancel(gate.wait()).await.is_ok());
            "value"
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("once");
    assert!(task.run().is_pending());
    gate.open();
    assert_eq!(task.run(), Poll::Ready(Ok("value")));
}

#[test]
fn resume_does_not_return() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let it = catch_cancel(pending::<()>()).await.unwrap_err();
            log.add("clean-up");
            it.resume().await;
            log.add("never");
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.poll(), cancelled("why"));
    assert_eq!(log.take(), ["clean-up"]);
}

#[test]
fn a_dropped_one_comes_back_at_each_following_catcher_and_ends_the_scope_at_last() {
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            for round in 0..3 {
                let caught = catch_cancel(pending::<()>()).await;
                log.add(round);
                drop(caught);
            }
            log.add("code without a suspension runs on");
            pending::<()>().await;
            log.add("never");
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["0", "1", "2", "code without a suspension runs on"]);
}

#[test]
fn a_round_ends_when_every_branch_has_answered() {
    let (left, right) = (Gate::default(), Gate::default());
    let log = Log::default();
    let mut task = Task::new({
        let (left, right, log) = (left.clone(), right.clone(), log.clone());
        async move {
            let branch = |name: &'static str, gate: Gate| {
                let log = log.clone();
                async move {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    log.add(name);
                    gate.wait().await;
                    it.absorb();
                    // A new catcher is not asked while the other branch has not answered.
                    let again = catch_cancel(gate_never()).await;
                    log.add(format!("{name} again"));
                    drop(again);
                }
            };
            join(branch("left", left), branch("right", right)).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    left.open();
    assert!(task.run().is_pending());
    right.open();
    assert!(task.run().is_pending());
    assert_eq!(log.take(), ["left", "right"], "absorbed by both: closed");
}

async fn gate_never() {
    pending::<()>().await;
}

#[test]
fn passing_on_beats_absorbing() {
    for drops_first in [true, false] {
        let log = Log::default();
        let mut task = Task::new({
            let log = log.clone();
            async move {
                let outer = catch_cancel(async {
                    let absorbs = async {
                        catch_cancel(pending::<()>()).await.unwrap_err().absorb();
                        pending::<()>().await;
                    };
                    let passes = async {
                        drop(catch_cancel(pending::<()>()).await);
                        pending::<()>().await;
                    };
                    if drops_first { join(passes, absorbs).await } else { join(absorbs, passes).await }
                })
                .await;
                log.add("outer");
                outer.unwrap_err().absorb();
            }
        });
        assert!(task.poll().is_pending());
        task.cancel("why");
        assert_eq!(task.run(), Poll::Ready(Ok(())));
        assert_eq!(log.take(), ["outer"]);
    }
}

/// One branch waits in `resume`, the other one absorbs the round after.
async fn one_resumes_and_one_absorbs_later() {
    let resumes = async {
        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
    };
    let absorbs_the_second_round = async {
        drop(catch_cancel(pending::<()>()).await);
        catch_cancel(pending::<()>()).await.unwrap_err().absorb();
        pending::<()>().await;
    };
    join(resumes, absorbs_the_second_round).await;
}

#[test]
fn who_waits_in_resume_is_not_left_behind_when_another_branch_absorbs_later() {
    let mut task = Task::new(one_resumes_and_one_absorbs_later());
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"), "the branch in `resume` cannot go on, so the task cannot");
}

#[test]
fn who_waits_in_resume_inside_of_a_catcher_is_not_left_behind_either() {
    let mut task = Task::new(async {
        let around = catch_cancel(one_resumes_and_one_absorbs_later()).await;
        around.unwrap_err().absorb();
        8
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(8)), "the catcher around both has its turn, and ends it");
}

#[test]
fn a_resume_that_outlives_the_catcher_around_it_holds_nothing() {
    let mut task = Task::new(async {
        let mut kept = None;
        let keeps = async {
            let cancelled = catch_cancel(pending::<()>()).await.unwrap_err();
            let resume = kept.insert(cancelled.resume());
            assert!(!resume.is_over());
            match resume.await {}
        };
        catch_cancel(keeps).await.unwrap_err().absorb();
        assert!(kept.as_ref().is_some_and(Resume::is_over));
        let mut turns = 0..2;
        poll_fn(|cx| {
            cx.waker().wake_by_ref();
            if turns.next().is_some() { Poll::Pending } else { Poll::Ready(8) }
        })
        .await
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(8)));
}

#[test]
fn absorbing_outside_of_a_resume_closes_the_request() {
    let mut task = Task::new(async {
        let outer = catch_cancel(async {
            catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
        })
        .await;
        outer.unwrap_err().absorb();
        8
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), Poll::Ready(Ok(8)));
}

#[test]
fn branches_without_a_catcher_run_on_meanwhile() {
    let (gate, clean) = (Gate::default(), Gate::default());
    let log = Log::default();
    let mut task = Task::new({
        let (gate, clean, log) = (gate.clone(), clean.clone(), log.clone());
        async move {
            let cleans = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                clean.wait().await;
                log.add("clean");
                it.resume().await;
            };
            let runs = async {
                gate.wait().await;
                log.add("ran on");
                pending::<()>().await;
            };
            join(cleans, runs).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    gate.open();
    assert!(task.run().is_pending());
    clean.open();
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["ran on", "clean"]);
}

#[test]
fn a_second_request_strikes_the_clean_up_too() {
    let log = Log::default();
    let body = |log: Log, protected: bool| async move {
        let it = catch_cancel(pending::<()>()).await.unwrap_err();
        log.add(&it);
        if protected {
            let second = catch_cancel(pending::<()>()).await.unwrap_err();
            log.add(&second);
            second.absorb();
            it.absorb();
        } else {
            pending::<()>().await;
        }
        "value"
    };
    let mut task = Task::new(body(log.clone(), true));
    assert!(task.poll().is_pending());
    task.cancel("one");
    assert!(task.run().is_pending());
    task.cancel("two");
    assert_eq!(task.run(), Poll::Ready(Ok("value")));
    assert_eq!(log.take(), ["cancelled: one", "cancelled: two"]);

    let mut task = Task::new(body(log.clone(), false));
    assert!(task.poll().is_pending());
    task.cancel("one");
    assert!(task.run().is_pending());
    task.cancel("two");
    assert_eq!(task.run(), cancelled("two"));
}

#[test]
fn one_delivery_bears_every_request_that_is_due() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            let end = scope
                .run(async {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    let reasons: Vec<_> =
                        it.reasons().map(|reason| reason.text().unwrap().to_owned()).collect();
                    it.absorb();
                    reasons
                })
                .await;
            end.unwrap()
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("task");
    scope.cancel("scope");
    task.cancel("task again");
    let reasons = task.poll();
    assert_eq!(reasons, Poll::Ready(Ok(vec!["task".into(), "task again".into(), "scope".into()])));
}

#[test]
fn an_answer_from_another_thread_wakes_the_scope() {
    let (send, receive) = std::sync::mpsc::channel();
    let mut task = Task::new(async move {
        send.send(catch_cancel(pending::<()>()).await.unwrap_err()).unwrap();
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending(), "unanswered");
    let before = task.woken();
    std::thread::spawn(move || drop(receive.recv().unwrap())).join().unwrap();
    assert_eq!(task.woken(), before + 1);
    assert_eq!(task.poll(), cancelled("why"));
}

#[test]
fn resume_outside_its_scope_panics() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            let it = scope.run(catch_cancel(pending::<()>())).await.unwrap().unwrap_err();
            it.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    scope.cancel("scope");
    let panic = catch_unwind(AssertUnwindSafe(|| task.poll())).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("`Cancelled::resume` needs to be awaited inside the scope"), "{message}");

    // In another task, while its own waits for the answer.
    let (send, receive) = std::sync::mpsc::channel();
    let mut task = Task::new(async move {
        send.send(catch_cancel(pending::<()>()).await.unwrap_err()).unwrap();
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("task");
    assert!(task.poll().is_pending());
    let mut other = Task::new(async move {
        receive.recv().unwrap().resume().await;
    });
    assert!(catch_unwind(AssertUnwindSafe(|| other.poll())).is_err());
}

#[test]
fn resume_in_an_outer_scope_whose_request_it_bears_waits_for_that() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            let it = scope.run(catch_cancel(pending::<()>())).await.unwrap().unwrap_err();
            it.resume().await;
        }
    });
    assert!(task.poll().is_pending());
    scope.cancel("scope");
    task.cancel("task");
    assert_eq!(task.run(), cancelled("task"));
}

// === Branches ===

#[test]
fn a_clean_up_may_wait_for_a_catcher_further_out_in_another_branch() {
    let gate = Gate::default();
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let waits = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                log.add("one waits for the other");
                gate.wait().await;
                log.add("one goes on");
                it.resume().await;
            };
            let opens = async {
                let outer = catch_cancel(async {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    log.add("the other, inside");
                    it.resume().await;
                });
                let it = outer.await.unwrap_err();
                log.add("the other, outside");
                gate.open();
                it.resume().await;
            };
            join(waits, opens).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    let expected = ["one waits for the other", "the other, inside", "the other, outside", "one goes on"];
    assert_eq!(log.take(), expected);
}

#[test]
fn a_catcher_is_asked_when_all_branches_inside_of_it_have_answered() {
    for absorbs in [false, true] {
        let gate = Gate::default();
        let log = Log::default();
        let mut task = Task::new({
            let (gate, log) = (gate.clone(), log.clone());
            async move {
                let outer = catch_cancel(async {
                    let passes = async {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    };
                    let takes_its_time = async {
                        let it = catch_cancel(pending::<()>()).await.unwrap_err();
                        gate.wait().await;
                        log.add("inside");
                        if absorbs {
                            it.absorb()
                        } else {
                            drop(it)
                        }
                        pending::<()>().await;
                    };
                    join(passes, takes_its_time).await;
                });
                let it = outer.await.unwrap_err();
                log.add("outside");
                it.absorb();
            }
        });
        assert!(task.poll().is_pending());
        task.cancel("why");
        assert!(task.run().is_pending());
        assert!(log.take().is_empty(), "the outer one waits for both");
        gate.open();
        assert_eq!(task.run(), Poll::Ready(Ok(())));
        assert_eq!(log.take(), ["inside", "outside"]);
    }
}

#[test]
fn a_branch_that_absorbs_at_any_depth_is_quiet_until_the_others_have_answered() {
    let gate = Gate::default();
    let log = Log::default();
    let mut task = Task::new({
        let (gate, log) = (gate.clone(), log.clone());
        async move {
            let absorbs = async {
                let outer = catch_cancel(async {
                    catch_cancel(async {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    })
                    .await
                    .unwrap_err()
                    .absorb();
                    log.add("absorbed");
                    pending::<()>().await;
                });
                let it = outer.await.unwrap_err();
                log.add("asked again, further out");
                it.absorb();
                pending::<()>().await;
            };
            let passes = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                gate.wait().await;
                it.resume().await;
            };
            join(absorbs, passes).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    assert_eq!(log.take(), ["absorbed"]);
    gate.open();
    assert_eq!(task.run(), cancelled("why"), "the branch in `resume` cannot go on");
    assert_eq!(log.take(), ["asked again, further out"]);
}

#[test]
fn a_catcher_that_was_next_and_leaves_tells_the_one_around_it() {
    let gate = Gate::default();
    let log = Log::default();
    let mut task = Task::new({
        let log = log.clone();
        async move {
            let waits = async {
                let it = catch_cancel(pending::<()>()).await.unwrap_err();
                gate.wait().await;
                it.resume().await;
            };
            let there = RefCell::new(None);
            let leaves = async {
                let outer = catch_cancel(async {
                    let inner = catch_cancel(async {
                        *there.borrow_mut() = catch_cancel(pending::<()>()).await.err();
                        pending::<()>().await;
                    });
                    // Polled after `inner` in the same turn: it passes on, so `inner` is next, and ends it.
                    let ends = poll_fn(|_| match there.borrow_mut().take() {
                        Some(it) => {
                            drop(it);
                            Poll::Ready(())
                        }
                        None => Poll::Pending,
                    });
                    drop(futures::future::select(Box::pin(inner), ends).await);
                    log.add("left");
                    pending::<()>().await;
                });
                let it = outer.await.unwrap_err();
                log.add("the one around");
                gate.open();
                it.resume().await;
            };
            join(waits, leaves).await;
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
    assert_eq!(log.take(), ["left", "the one around"]);
}

#[test]
fn an_answer_from_outside_makes_the_next_catcher_be_polled_where_only_the_woken_are() {
    let there = Rc::new(RefCell::new(None));
    let mut task = Task::new({
        let there = there.clone();
        async move {
            let catcher = catch_cancel(async move {
                *there.borrow_mut() = catch_cancel(pending::<()>()).await.err();
                pending::<()>().await;
            });
            let mut set: FuturesUnordered<_> = [catcher].into_iter().collect();
            set.next().await.unwrap().unwrap_err().absorb();
        }
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert!(task.run().is_pending());
    let before = task.woken();
    drop(there.borrow_mut().take());
    assert_eq!(task.woken(), before + 1);
    assert_eq!(task.run(), Poll::Ready(Ok(())));
}

#[test]
fn a_request_goes_through_ten_thousand_nested_catchers_in_one_turn() {
    let deep = || {
        for resumes in [false, true] {
            let caught = Rc::new(Cell::new(0));
            let mut nested: Pin<Box<dyn Future<Output = ()>>> = Box::pin(pending());
            for _ in 0..10_000 {
                let (inner, caught) = (nested, caught.clone());
                nested = Box::pin(async move {
                    let it = catch_cancel(inner).await.unwrap_err();
                    caught.set(caught.get() + 1);
                    if resumes {
                        match it.resume().await {}
                    }
                    drop(it);
                    pending::<()>().await;
                });
            }
            let mut task = Task::new(nested);
            assert!(task.poll().is_pending());
            task.cancel("why");
            assert_eq!(task.poll(), cancelled("why"));
            assert_eq!((caught.get(), task.woken()), (10_000, 0));
        }
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn ten_thousand_nested_catchers_dropped_around_an_open_delivery_need_no_stack_of_ours() {
    let deep = || {
        let there = Rc::new(RefCell::new(None));
        let mut nested: Pin<Box<dyn Future<Output = ()>>> = Box::pin({
            let there = there.clone();
            async move {
                *there.borrow_mut() = catch_cancel(pending::<()>()).await.err();
                pending::<()>().await;
            }
        });
        for _ in 0..10_000 {
            let inner = nested;
            nested = Box::pin(async move { drop(catch_cancel(inner).await) });
        }
        let mut task = Task::new(nested);
        assert!(task.poll().is_pending());
        task.cancel("why");
        assert!(task.poll().is_pending());
        (task, there)
    };
    let dropped = move || {
        let (task, there) = deep();
        let last = there.borrow_mut().take();
        drop(task);
        // Only the nodes are left, each held by the one inside of it.
        let nodes = std::thread::scope(|threads| {
            let send = std::thread::Builder::new().stack_size(64 << 10);
            send.spawn_scoped(threads, move || drop(last)).unwrap().join()
        });
        nodes.unwrap();
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(dropped).unwrap().join().unwrap();
}

// === Ends ===

#[test]
fn ready_wins_over_a_request_that_was_delivered() {
    let mut task = Task::new(async {
        drop(catch_cancel(pending::<()>()).await);
        "value"
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.poll(), Poll::Ready(Ok("value")));
}

#[test]
fn a_request_that_nobody_heard_ends_a_task_cancelled_and_leaves_a_scope_its_value() {
    let requests = Asked::default();
    let mut task = Task::with(requests.clone(), async move {
        requests.request("myself");
        "value"
    });
    assert_eq!(task.poll(), cancelled("myself"));

    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run({
        let scope = scope.clone();
        async move {
            scope.cancel("myself");
            "value"
        }
    }));
    assert_eq!(poll_once(run.as_mut()), Poll::Ready(Ok("value")));
    assert!(scope.cancel_called() && !scope.cancelled_caught());
}

#[test]
fn of_nested_scopes_with_one_deadline_only_the_outer_reports() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    for catches in [true, false] {
        let (outer, inner) =
            (CancelScope::with_deadline(hand.at(60)), CancelScope::with_deadline(hand.at(60)));
        let log = Log::default();
        let mut task = Task::new({
            let (outer, inner, log) = (outer.clone(), inner.clone(), log.clone());
            async move {
                let end = outer
                    .run(async {
                        let end = inner
                            .run(async {
                                if catches {
                                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                                    log.add(it.reasons().count());
                                    it.resume().await;
                                }
                                pending::<()>().await;
                            })
                            .await;
                        unreachable!("the inner one reported: {end:?}");
                    })
                    .await;
                log.add(end.unwrap_err());
            }
        });
        assert!(task.poll().is_pending());
        hand.advance_to(60);
        assert!(task.run().is_ready());
        let seen = log.take();
        assert_eq!(seen.last().unwrap(), "cancelled: deadline");
        assert_eq!(seen.len(), if catches { 2 } else { 1 });
        assert!(outer.cancelled_caught());
        assert_eq!(hand.pending(), 0);
        hand.advance_to(0);
    }
}

#[test]
fn an_inner_scope_reports_after_all_when_the_outer_request_is_absorbed() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let log = Log::default();
    let mut task = Task::new({
        let (outer, inner, log) = (outer.clone(), inner.clone(), log.clone());
        async move {
            let leaves = async {
                let end = inner
                    .run(async {
                        catch_cancel(pending::<()>()).await.unwrap_err().resume().await;
                    })
                    .await;
                log.add(format!("inner {}", end.unwrap_err()));
            };
            let absorbs = async {
                // In the first round it passes on, in the second, alone, it absorbs.
                drop(catch_cancel(pending::<()>()).await);
                catch_cancel(pending::<()>()).await.unwrap_err().absorb();
                log.add("absorbed");
            };
            let end = outer.run(join(leaves, absorbs)).await;
            log.add(format!("outer {}", end.is_ok()));
        }
    });
    assert!(task.poll().is_pending());
    outer.cancel("outer");
    inner.cancel("inner");
    assert!(task.run().is_ready());
    assert_eq!(log.take(), ["absorbed", "inner cancelled: inner", "outer true"]);
}

#[test]
fn a_nearer_scope_that_drops_a_clean_up_loses_nobodys_request() {
    let (outer, inner) = (CancelScope::new(), CancelScope::new());
    let log = Log::default();
    let mut task = Task::new({
        let (outer, inner, log) = (outer.clone(), inner.clone(), log.clone());
        async move {
            let end = outer
                .run(async {
                    let it = catch_cancel(pending::<()>()).await.unwrap_err();
                    log.add("cleaning up");
                    let end = inner
                        .run(async move {
                            let _it = it;
                            pending::<()>().await;
                        })
                        .await;
                    log.add(end.unwrap_err());
                    pending::<()>().await;
                })
                .await;
            log.add(end.unwrap_err());
        }
    });
    assert!(task.poll().is_pending());
    outer.cancel("outer");
    assert!(task.run().is_pending());
    inner.cancel("inner");
    assert!(task.run().is_ready());
    assert_eq!(log.take(), ["cleaning up", "cancelled: inner", "cancelled: outer"]);
}

#[test]
fn the_open_requests_of_scopes_inside_a_task_are_counted() {
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move {
            scope
                .run(async {
                    let _it = catch_cancel(pending::<()>()).await.unwrap_err();
                    let _keeps_the_scope_in_the_tree = catch_cancel(pending::<()>()).await;
                })
                .await
                .unwrap()
        }
    });
    assert!(task.poll().is_pending());
    assert_eq!(task.root.open_inside(), 0);
    scope.cancel("why");
    assert!(task.run().is_pending());
    assert_eq!(task.root.open_inside(), 1);
}

// === Deadlines ===

#[test]
fn a_deadline_strikes_after_the_first_poll() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(0));
    let mut run = Box::pin(scope.run(ready("without await, never late")));
    assert!(matches!(poll_once(run.as_mut()), Poll::Ready(Ok(_))));
    let scope = CancelScope::with_deadline(hand.at(0));
    let mut run = Box::pin(scope.run(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(0);
    assert_eq!(poll_once(run.as_mut()), cancelled("deadline"));
}

#[test]
fn a_deadline_can_be_moved_from_any_thread() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::new();
    let mut task = Task::new({
        let scope = scope.clone();
        async move { scope.run(pending::<()>()).await }
    });
    assert!(task.poll().is_pending());
    assert_eq!(hand.pending(), 0);
    let (there, at) = (scope.clone(), hand.at(10));
    std::thread::spawn(move || there.set_deadline(Some(at))).join().unwrap();
    assert_eq!(task.woken(), 1);
    assert!(task.run().is_pending());
    assert_eq!((hand.pending(), scope.deadline()), (1, Some(at)));
    scope.set_deadline(Some(hand.at(20)));
    assert!(task.run().is_pending());
    hand.advance_to(15);
    assert!(task.run().is_pending());
    scope.set_deadline(None);
    assert!(task.run().is_pending());
    assert_eq!(hand.pending(), 0);
    scope.set_deadline(Some(hand.at(15)));
    assert!(task.run().is_pending());
    hand.advance_to(16);
    assert!(matches!(task.run(), Poll::Ready(Ok(Err(_)))));
}

/// Showed in the example `nested_deadlines`: the turn that follows such a move had looked, and forgot it.
#[test]
fn a_deadline_that_is_moved_by_the_code_inside_counts() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    for (to, strikes_at) in [(None, None), (Some(hand.at(20)), Some(20)), (Some(hand.at(5)), Some(5))] {
        hand.state.lock().unwrap().passed = Duration::ZERO;
        let scope = CancelScope::with_deadline(hand.at(10));
        let mut run = Box::pin(scope.run({
            let scope = scope.clone();
            let mut moved = false;
            poll_fn(move |_| {
                if !std::mem::replace(&mut moved, true) {
                    scope.set_deadline(to);
                }
                Poll::<()>::Pending
            })
        }));
        assert!(poll_once(run.as_mut()).is_pending());
        for seconds in [4, 5, 10, 19, 20] {
            hand.advance_to(seconds);
            let over = poll_once(run.as_mut()).is_ready();
            assert_eq!(over, strikes_at == Some(seconds), "to {to:?}, at {seconds}");
            if over {
                break;
            }
        }
        assert_eq!(scope.cancelled_caught(), strikes_at.is_some());
    }
}

#[test]
fn a_deadline_that_fired_and_was_moved_before_anybody_looked_is_not_met() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(10));
    let mut run = Box::pin(scope.run(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(10);
    scope.set_deadline(Some(hand.at(30)));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.advance_to(30);
    assert_eq!(poll_once(run.as_mut()), cancelled("deadline"));
}

#[test]
fn when_the_timers_end_the_scope_is_cancelled_and_says_so() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let scope = CancelScope::with_deadline(hand.at(10));
    let mut run = Box::pin(scope.run(pending::<()>()));
    assert!(poll_once(run.as_mut()).is_pending());
    hand.end();
    assert_eq!(poll_once(run.as_mut()), cancelled("the runtime that kept the time has ended"));
}

#[test]
fn the_nearest_deadline_around_the_code_is_known() {
    let (hand, runtime) = Hand::new();
    let _entered = runtime.enter();
    let (near, far) = (hand.at(5), hand.at(9));
    let (outer, inner) = (CancelScope::with_deadline(near), CancelScope::with_deadline(far));
    let mut run =
        Box::pin(outer.run(async move { inner.run(async { CancelScope::nearest_deadline() }).await }));
    assert!(matches!(poll_once(run.as_mut()), Poll::Ready(Ok(Ok(Some(at)))) if at == near));
    assert_eq!(CancelScope::nearest_deadline(), None);
}

#[test]
fn a_dropped_future_sees_the_scopes_around_the_one_that_was_taken() {
    let (timers, runtime) = Hand::new();
    let _entered = runtime.enter();
    let (outer, inner) =
        (CancelScope::with_deadline(timers.at(20)), CancelScope::with_deadline(timers.at(10)));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut task = Task::new({
        let (outer, inner, seen) = (outer, inner.clone(), seen.clone());
        async move {
            let looks = OnDrop(|| seen.borrow_mut().push(CancelScope::nearest_deadline()));
            let body = async {
                let _looks = looks;
                seen.borrow_mut().push(CancelScope::nearest_deadline());
                pending::<()>().await;
            };
            outer.run(inner.run(body)).await.unwrap().unwrap_err();
        }
    });
    assert!(task.poll().is_pending());
    inner.cancel("why");
    assert!(task.poll().is_ready());
    assert_eq!(seen.take(), [Some(timers.at(10)), Some(timers.at(20))]);
}

// === Bad input ===

#[test]
fn a_scope_is_entered_once() {
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(ready(())));
    assert!(poll_once(run.as_mut()).is_ready());
    let mut again = Box::pin(scope.run(ready(())));
    let panic = catch_unwind(AssertUnwindSafe(|| poll_once(again.as_mut()))).unwrap_err();
    assert!(panic.downcast_ref::<&str>().unwrap().contains("`CancelScope::run` needs a scope"));
}

#[test]
fn a_clean_up_that_panics_passes_on() {
    // In the destructor of what was cancelled.
    let mut task = Task::new(async {
        let inner = AssertUnwindSafe(catch_cancel(async {
            let _guard = OnDrop(|| panic!("in a destructor"));
            pending::<()>().await;
        }));
        let end = inner.catch_unwind().await;
        assert!(end.is_err());
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));

    // In the code that caught.
    let mut task = Task::new(async {
        let cleans = AssertUnwindSafe(async {
            let _it = catch_cancel(pending::<()>()).await.unwrap_err();
            panic!("in a clean-up");
        });
        assert!(cleans.catch_unwind().await.is_err());
        pending::<()>().await;
    });
    assert!(task.poll().is_pending());
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"));
}

#[test]
fn marks_that_a_panicking_poll_left_are_settled_in_the_next_turn() {
    let armed = Rc::new(Cell::new(false));
    let mut task = Task::new({
        let armed = armed.clone();
        async move {
            let panics = poll_fn(move |_| {
                assert!(!armed.replace(false), "before the catcher is polled");
                Poll::<()>::Pending
            });
            let mut both = Box::pin(join(panics, catch_cancel(pending::<()>())));
            // A future that survives panics of its part.
            let _ = poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| both.as_mut().poll(cx))) {
                Ok(polled) => polled,
                Err(_) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
        }
    });
    assert!(task.poll().is_pending());
    armed.set(true);
    task.cancel("why");
    assert_eq!(task.run(), cancelled("why"), "passed over in that turn, so nobody is left to ask");
}

#[test]
fn ten_thousand_nested_scopes_are_made_cancelled_and_dropped() {
    // The compiler's own recursion through nested polls and drops needs a stack; ours has none.
    let deep = || {
        for catches_inside in [false, true] {
            let scopes: Vec<CancelScope> = (0..10_000).map(|_| CancelScope::new()).collect();
            let mut nested: Pin<Box<dyn Future<Output = ()>>> = if catches_inside {
                Box::pin(async { catch_cancel(pending::<()>()).await.unwrap_err().absorb() })
            } else {
                Box::pin(pending())
            };
            for scope in &scopes {
                let run = scope.run(nested);
                nested = Box::pin(async move {
                    let _ = run.await;
                });
            }
            let mut task = Task::new(nested);
            assert!(task.poll().is_pending());
            scopes[5_000].cancel("the one in the middle");
            assert_eq!(task.run(), Poll::Ready(Ok(())));
            assert_eq!(
                scopes.iter().filter(|scope| scope.cancelled_caught()).count(),
                usize::from(!catches_inside)
            );
        }
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(deep).unwrap().join().unwrap();
}

#[test]
fn a_waker_may_call_back_into_its_scope() {
    struct Hostile(CancelScope);
    impl Wake for Hostile {
        fn wake(self: Arc<Self>) {
            self.0.set_deadline(None);
            self.0.cancel("again");
        }
    }
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(async {
        let it = catch_cancel(pending::<()>()).await.unwrap_err();
        let count = it.reasons().count();
        it.absorb();
        count
    }));
    let waker = Waker::from(Arc::new(Hostile(scope.clone())));
    assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    scope.cancel("first");
    assert!(matches!(run.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(2))));
}

#[test]
fn the_last_waker_is_woken_and_the_one_before_is_let_go() {
    let scope = CancelScope::new();
    let mut run = Box::pin(scope.run(catch_cancel(pending::<()>())));
    let (old, new) = (Arc::<Woken>::default(), Arc::<Woken>::default());
    for woken in [&old, &new] {
        let waker = Waker::from(woken.clone());
        assert!(run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&old), 1);
    scope.cancel("why");
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
    drop(run);
    assert_eq!(Arc::strong_count(&new), 1);
}

#[test]
fn futures_may_be_sent_and_shared() {
    fn check<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let scope = CancelScope::new();
    check(&scope.run(ready(())));
    check(&catch_cancel(ready(())));
    check(&scope);
    check(&Root::new());
    check(&Requests::new());
}
