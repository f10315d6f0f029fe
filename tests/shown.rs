//! What errors say, and what things without a test of their own are shown as.

use evenloop_core::NotSpawned;
use evenloop_core::cancel::Reason;
use evenloop_coroutine::Coroutine;
use evenloop_executor::finally;
use evenloop_streams::SignalKind;
use evenloop_sync::{GetNowaitError, PutNowaitError, Queue};
use std::borrow::Cow;

#[test]
fn a_queues_errors_say_which_and_give_the_item_back() {
    let queue = Queue::new(1);
    assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueEmpty));
    assert_eq!(GetNowaitError::QueueEmpty.to_string(), "the queue is empty");
    queue.put_nowait(1).unwrap();
    let full = queue.put_nowait(2).unwrap_err();
    assert!(matches!(full, PutNowaitError::QueueFull(2)));
    assert_eq!((format!("{full:?}"), full.to_string()), ("QueueFull".into(), "the queue is full".into()));
    assert_eq!(full.into_inner(), 2);

    queue.shutdown(true);
    let over = queue.put_nowait(3).unwrap_err();
    assert_eq!(format!("{over:?}, {over}"), "QueueShutDown, the queue was shut down");
    assert_eq!(over.into_inner(), 3);
    let over = evenloop::EventLoop::new().run_until_complete(queue.put(4)).unwrap_err();
    assert_eq!(format!("{over:?}, {over}"), "QueueShutDown, the queue was shut down");
    assert_eq!(over.into_inner(), 4);
    assert_eq!(queue.get_nowait(), Err(GetNowaitError::QueueShutDown));
    assert_eq!(GetNowaitError::QueueShutDown.to_string(), "the queue was shut down and is empty");
}

#[test]
fn a_reason_is_words_or_none() {
    let shown = |reason: Reason| format!("{reason:?}, {reason}");
    assert_eq!(shown(().into()), "Reason, cancelled");
    assert_eq!(shown("enough".into()), "Reason(\"enough\"), cancelled: enough");
    assert_eq!(shown(Cow::Borrowed("enough").into()), "Reason(\"enough\"), cancelled: enough");
    assert_eq!(shown(Cow::from(format!("{} s", 5)).into()), "Reason(\"5 s\"), cancelled: 5 s");
}

#[test]
fn signals_have_their_names() {
    let names = [
        (SignalKind::HANGUP, "SIGHUP"),
        (SignalKind::INTERRUPT, "SIGINT"),
        (SignalKind::QUIT, "SIGQUIT"),
        (SignalKind::TERMINATE, "SIGTERM"),
        (SignalKind::KILL, "SIGKILL"),
        (SignalKind::STOP, "SIGSTOP"),
        (SignalKind::CONTINUE, "SIGCONT"),
        (SignalKind::USER_1, "SIGUSR1"),
        (SignalKind::USER_2, "SIGUSR2"),
        (SignalKind::CHILD, "SIGCHLD"),
        (SignalKind::WINDOW_CHANGE, "SIGWINCH"),
        (SignalKind::from_raw(40), "signal 40"),
    ];
    for (kind, name) in names {
        assert_eq!(format!("{kind:?}"), name);
    }
}

#[test]
fn what_was_refused_is_not_shown_but_why() {
    let refused = NotSpawned { value: "a secret", why: "the event loop is closed" };
    assert_eq!(refused.to_string(), "not spawned: the event loop is closed");
    assert_eq!(format!("{refused:?}"), "NotSpawned { why: \"the event loop is closed\", .. }");
}

#[test]
fn what_has_nothing_to_show_shows_its_name() {
    assert_eq!(format!("{:?}", finally(async {}, async {})), "Finally { .. }");
    let mut body = Coroutine::new(async |mut co| {
        assert_eq!(format!("{co:?}"), "Co");
        let yields = co.yield_(1);
        assert_eq!(format!("{yields:?}"), "Yield");
        yields.await;
    });
    assert_eq!(body.by_ref().values().collect::<Vec<_>>(), [1]);
}
