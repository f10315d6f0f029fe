//! Context variables: who sees what, from task to task, callback to callback, thread to thread.

use evenloop::ContextVar;
use evenloop::context::Context;
use evenloop_executor::{
    EventLoop, ThreadPool, call_soon, create_eager_task, create_task, gather, to_thread, yield_now,
};
use evenloop_streams::AsyncFd;
use evenloop_streams::signal::{SignalKind, add_signal_handler};
use evenloop_sync::Future;
use evenloop_tests::give_way;
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

static USER: ContextVar<u32> = ContextVar::new("user");

/// Sets the variable for good.
fn set(value: u32) {
    drop(USER.set(value));
}

#[test]
fn a_task_has_a_copy_of_its_spawners_context() {
    EventLoop::new().run_until_complete(async {
        set(1);
        let child = create_task(async {
            let inherited = USER.get();
            yield_now().await;
            let untouched = USER.get();
            set(2);
            yield_now().await;
            (inherited, untouched, USER.get())
        });
        yield_now().await;
        set(3); // after the spawn: the child does not see it
        assert_eq!(child.await, (Some(1), Some(1), Some(2)));
        assert_eq!(USER.get(), Some(3));
    });
    assert_eq!(USER.get(), None, "what a task sets stays in the loop");
}

#[test]
fn the_main_task_has_a_copy_of_the_threads_context() {
    set(7);
    let event_loop = EventLoop::new();
    let early = event_loop.create_task(async { USER.get() });
    set(8);
    let seen = event_loop.run_until_complete(async {
        let seen = USER.get();
        set(9);
        (seen, early.await)
    });
    assert_eq!(seen, (Some(8), Some(7)));
    assert_eq!(USER.get(), Some(8));
}

#[test]
fn tasks_without_variables_do_not_see_those_of_others() {
    let event_loop = EventLoop::new();
    let plain = event_loop.create_task(async {
        for _ in 0..3 {
            assert_eq!(USER.get(), None);
            yield_now().await;
        }
    });
    event_loop
        .create_task(async {
            set(1);
            pending::<()>().await;
        })
        .detach();
    event_loop.run_until_complete(plain);
}

#[test]
fn callbacks_run_in_the_context_in_which_they_were_registered() {
    let event_loop = EventLoop::new();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = |what: &'static str| {
        let seen = seen.clone();
        move || seen.borrow_mut().push((what, USER.get()))
    };
    event_loop.run_until_complete(async {
        set(1);
        call_soon(note("soon"));
        let task = create_task(async {
            set(100); // not for callbacks on this task
        });
        let done = note("done");
        task.add_done_callback(move |_, _| done());
        set(2);
        let done = note("done later");
        task.add_done_callback(move |_, _| done());
        set(3);
        task.await;
        let done = note("done before");
        create_task(async {}).add_done_callback(move |_, _| done());
        set(4);
        yield_now().await;
        yield_now().await;
    });
    assert_eq!(
        *seen.borrow(),
        [("soon", Some(1)), ("done", Some(1)), ("done later", Some(2)), ("done before", Some(3))]
    );
    // What a callback sets is gone with it.
    event_loop.call_soon(|| set(5));
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(USER.get(), None);
}

#[test]
fn a_futures_callbacks_run_in_the_context_in_which_they_were_registered() {
    let event_loop = EventLoop::new();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let future = Future::<u8>::new();
    event_loop.run_until_complete(async {
        let told = seen.clone();
        future.add_done_callback(move |_| told.lock().unwrap().push(USER.get()));
        set(1);
        let told = seen.clone();
        future.add_done_callback(move |_| told.lock().unwrap().push(USER.get()));
        set(2);
        future.set_result(0).unwrap();
        yield_now().await;
        yield_now().await;
    });
    assert_eq!(*seen.lock().unwrap(), [None, Some(1)]);
}

#[test]
fn to_thread_hands_the_context_on_and_a_pool_does_not() {
    let pool = ThreadPool::new(1);
    EventLoop::new().run_until_complete(async {
        set(1);
        let on_thread = to_thread(|| {
            let seen = USER.get();
            set(2);
            seen
        });
        assert_eq!(on_thread.await, Some(1));
        assert_eq!(USER.get(), Some(1));
        assert_eq!(to_thread(|| USER.get()).await, Some(1), "the thread kept nothing");
        assert_eq!(pool.run(|| USER.get()).await, None);
    });
}

#[test]
fn what_comes_from_another_thread_brings_that_threads_context() {
    let event_loop = EventLoop::new();
    let handle = event_loop.handle();
    let (task, callback) = std::thread::spawn(move || {
        set(5);
        let seen = Arc::new(std::sync::Mutex::new(None));
        let told = seen.clone();
        let call = move || *told.lock().unwrap() = USER.get();
        drop(handle.call_soon_threadsafe(call).unwrap());
        (handle.spawn(async { USER.get() }).unwrap(), seen)
    })
    .join()
    .unwrap();
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!(task.join_blocking().unwrap(), Some(5));
    assert_eq!(*callback.lock().unwrap(), Some(5));
}

#[test]
fn an_eager_task_does_not_touch_its_spawners_variables() {
    EventLoop::new().run_until_complete(async {
        set(1);
        let child = create_eager_task(async {
            assert_eq!(USER.get(), Some(1));
            set(2);
            yield_now().await;
            USER.get()
        });
        assert_eq!(USER.get(), Some(1));
        assert_eq!(child.await, Some(2));
    });
}

#[test]
fn children_of_gather_have_copies() {
    EventLoop::new().run_until_complete(async {
        set(1);
        async fn child(value: u32) -> Option<u32> {
            set(value);
            give_way().await;
            USER.get()
        }
        assert_eq!(gather([child(10), child(20)]).await, [Some(10), Some(20)]);
        assert_eq!(USER.get(), Some(1));
    });
}

#[test]
fn destructors_of_a_cancelled_task_and_the_hook_run_in_its_context() {
    struct Asks(Rc<Cell<Option<u32>>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.set(USER.get());
        }
    }
    let hooked = Rc::new(Cell::new(None));
    let inside = hooked.clone();
    let event_loop = EventLoop::builder().on_unhandled(move |_| inside.set(USER.get())).build();
    let (dropped, failed) = (Rc::new(Cell::new(None)), Rc::new(Cell::new(None)));
    let asks = Asks(dropped.clone());
    let waits = event_loop.create_task(async move {
        set(4);
        let _asks = asks;
        pending::<()>().await;
    });
    let asks = Asks(failed.clone());
    event_loop
        .create_task(async move {
            set(6);
            let _asks = asks;
            panic!("with a user");
        })
        .detach();
    event_loop.run_once(Some(Duration::ZERO));
    waits.cancel("test");
    event_loop.run_once(Some(Duration::ZERO));
    assert_eq!((dropped.get(), failed.get(), hooked.get()), (Some(4), Some(6), Some(6)));
    assert_eq!(waits.context().run(|| USER.get()), Some(4));
    assert_eq!(USER.get(), None);
}

#[test]
fn a_task_can_be_spawned_in_another_context() {
    EventLoop::new().run_until_complete(async {
        let elsewhere = Context::new();
        set(1);
        let here = Context::current();
        let plain = elsewhere.run(|| create_task(async { USER.get() }));
        set(2);
        let earlier = here.run(|| create_task(async { USER.get() }));
        assert_eq!((plain.await, earlier.await), (None, Some(1)));
    });
}

#[test]
fn callbacks_of_descriptors_and_signals_run_in_the_context_in_which_they_were_registered() {
    evenloop_tests::on_loop(async {
        let seen = Rc::new(Cell::new((None, None)));
        let (reading, writing) = std::os::unix::net::UnixStream::pair().unwrap();
        let reading = Rc::new(AsyncFd::new(reading).unwrap());
        set(1);
        let reader = seen.clone();
        reading.add_reader(move || reader.set((USER.get(), reader.get().1))).unwrap();
        set(2);
        let handler = seen.clone();
        let heard = move || handler.set((handler.get().0, USER.get()));
        let _handler = add_signal_handler(SignalKind::WINDOW_CHANGE, heard).unwrap();
        set(3);
        (&writing).write_all(b"x").unwrap();
        evenloop_tests::raise(Signal::WINCH);
        while seen.get().0.is_none() || seen.get().1.is_none() {
            yield_now().await;
        }
        assert_eq!(seen.get(), (Some(1), Some(2)));
        reading.remove_reader();
    });
}

#[test]
fn a_runners_programs_share_their_variables() {
    let runner = evenloop::Runner::new();
    runner.run(async { set(1) }).unwrap();
    assert_eq!(USER.get(), None);
    let seen = runner.run(async {
        let seen = USER.get();
        set(2);
        seen
    });
    assert_eq!(seen.unwrap(), Some(1));
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runner.run(async {
            set(3);
            panic!("after setting")
        })
    }));
    assert!(panics.is_err());
    assert_eq!(runner.run(async { USER.get() }).unwrap(), Some(3));
}

#[test]
fn values_are_dropped_with_the_last_task_that_has_them() {
    static HELD: ContextVar<Arc<()>> = ContextVar::new("held");
    let value = Arc::new(());
    let event_loop = EventLoop::new();
    event_loop.run_until_complete(async {
        drop(HELD.set(value.clone()));
        create_task(yield_now()).await;
        create_task(pending::<()>()).detach();
    });
    assert_eq!(Arc::strong_count(&value), 2);
    drop(event_loop);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn under_another_host_a_scope_carries_the_variables() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let seen = tokio.block_on(async {
        let with = USER.scope(3, async {
            tokio::task::yield_now().await;
            let inner = Context::current();
            tokio::spawn(inner.scope(async { USER.get() })).await.unwrap()
        });
        with.await
    });
    assert_eq!(seen, Some(3));
}

#[test]
fn a_servers_connections_have_what_was_set_when_it_started() {
    use evenloop::streams::{StreamReader, StreamWriter};
    evenloop::run(async {
        set(5);
        let serve = |mut reader: StreamReader, mut writer: StreamWriter| async move {
            assert!(reader.readline().await.is_ok());
            writer.write(format!("{:?}\n", USER.get()).as_bytes()).unwrap();
            set(100); // this connection's own
            writer.drain().await.unwrap();
        };
        let server = evenloop::start_server(serve, "127.0.0.1:0".parse().unwrap()).unwrap();
        set(6);
        let port = server.local_addr().unwrap().port();
        for _ in 0..2 {
            let (mut reader, mut writer) = evenloop::open_connection("127.0.0.1", port).await.unwrap();
            writer.write(b"who?\n").unwrap();
            writer.drain().await.unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"Some(5)\n");
        }
    });
}

#[test]
fn a_protocol_is_called_in_the_context_in_which_its_server_started() {
    use evenloop::streams::{Protocol, Transport, create_server};
    #[derive(Default)]
    struct Tells(std::cell::OnceCell<Transport>);
    impl Protocol for Tells {
        fn connection_made(&self, transport: Transport) {
            assert_eq!(USER.get(), Some(5));
            set(8);
            self.0.set(transport).expect("called once");
        }
        fn data_received(&self, _: &[u8]) {
            let transport = self.0.get().unwrap();
            transport.write(format!("{:?}\n", USER.get()).as_bytes()).unwrap();
        }
    }
    evenloop::run(async {
        set(5);
        let server = create_server(Tells::default, "127.0.0.1:0".parse().unwrap()).unwrap();
        set(6);
        let port = server.local_addr().unwrap().port();
        for _ in 0..2 {
            let (mut reader, mut writer) = evenloop::open_connection("127.0.0.1", port).await.unwrap();
            writer.write(b"who?\n").unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"Some(8)\n", "a copy, kept from call to call");
        }
    });
}
