//! What is in the tree, and when: scopes, catchers, and futures that move from one to another.

use super::*;

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
