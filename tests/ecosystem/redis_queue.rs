//! `RemoteQueue` against a Redis server: `Queue`'s vocabulary, and where it means something else.

use evenloop::{create_task, gather, sleep, timeout};
use evenloop_ecosystem_tests::{Redis, installed};
use evenloop_redis::{AnswerError, GetError, OpenError, PutError, RemoteQueue};
use futures::future::join;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `scenario` on a loop, with the address of a server of its own.
fn with_redis<F: Future<Output = ()>>(scenario: impl FnOnce(String) -> F) {
    let Some(redis) = Redis::start() else { return };
    evenloop::run(async {
        timeout(Duration::from_secs(30), scenario(redis.url())).await.expect("within 30 s");
    });
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(5), future).await.expect("within 5 s")
}

#[test]
fn items_come_in_the_order_in_which_they_were_put_and_join_waits_for_the_last() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<String>::open(&url, "jobs").await.unwrap();
        for word in ["a", "b", "c"] {
            queue.put(word.to_owned()).await.unwrap();
        }
        assert_eq!(queue.qsize().await.unwrap(), 3);
        let other = RemoteQueue::<String>::open(&url, "jobs").await.unwrap(); // as another process has it
        let join = create_task({
            let queue = queue.clone();
            async move { queue.join().await.unwrap() }
        });
        for word in ["a", "b", "c"] {
            let delivery = soon(other.get()).await.unwrap();
            assert_eq!((delivery.as_str(), delivery.attempts()), (word, 1));
            assert!(!join.done(), "{word} is not done");
            delivery.task_done().await.unwrap();
        }
        soon(join).await;
        assert!(matches!(queue.get_nowait().await, Err(GetError::Empty)));
    });
}

#[test]
fn who_waits_is_woken_by_a_put_on_another_connection() {
    with_redis(|url| async move {
        let (one, other) =
            join(RemoteQueue::<u32>::open(&url, "jobs"), RemoteQueue::<u32>::open(&url, "jobs")).await;
        let (one, other) = (one.unwrap(), other.unwrap());
        let got = create_task(async move { one.get().await.unwrap() });
        sleep(Duration::from_millis(100)).await; // it waits by now
        let put = Instant::now();
        other.put(7).await.unwrap();
        assert_eq!(*soon(got).await, 7);
        assert!(put.elapsed() < Duration::from_secs(2), "{:?}", put.elapsed());
    });
}

#[test]
fn the_bound_is_exact_over_all_producers() {
    with_redis(|url| async move {
        let open = || RemoteQueue::<u32>::options(&url, "jobs").maxsize(3).open();
        let queues = gather([open(), open(), open(), open()]).await.map(Result::unwrap);
        // Forty puts at once: three get in.
        let puts = (0..40_u32).map(|n| {
            let queue = queues[n as usize % 4].clone();
            async move { queue.put_nowait(n).await }
        });
        let outcomes = futures::future::join_all(puts).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        let full = outcomes.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(&full, PutError::Full(_)), "{full}");
        assert_eq!(queues[0].qsize().await.unwrap(), 3);

        // Who waits for room gets it when an item is taken, and not before.
        let put = create_task({
            let queue = queues[1].clone();
            async move { queue.put(99).await.unwrap() }
        });
        sleep(Duration::from_millis(100)).await;
        assert!(!put.done());
        let taken = queues[2].get().await.unwrap();
        soon(put).await;
        assert_eq!(queues[3].qsize().await.unwrap(), 3);
        taken.task_done().await.unwrap();
    });
}

#[test]
fn another_maxsize_is_refused() {
    with_redis(|url| async move {
        let _queue = RemoteQueue::<u32>::options(&url, "jobs").maxsize(3).open().await.unwrap();
        let error = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap_err();
        assert!(matches!(error, OpenError::Maxsize { theirs: 3, ours: 0 }));
        assert!(error.to_string().contains("`destroy`"), "{error}");
    });
}

#[test]
fn the_largest_maxsize_is_one() {
    with_redis(|url| async move {
        let open = |maxsize| RemoteQueue::<u32>::options(&url, "jobs").maxsize(maxsize).open();
        let queue = open(usize::MAX).await.unwrap();
        queue.put_nowait(1).await.unwrap();
        let error = open(usize::MAX - 1).await.unwrap_err();
        assert!(matches!(error, OpenError::Maxsize { theirs: usize::MAX, .. }), "{error}");
    });
}

#[test]
fn what_is_dropped_comes_back_after_its_time_and_not_before() {
    with_redis(|url| async move {
        let visibility = Duration::from_millis(400);
        let queue = RemoteQueue::<u32>::options(&url, "jobs").visibility(visibility).open().await.unwrap();
        queue.put(1).await.unwrap();
        let begin = Instant::now();
        drop(queue.get().await.unwrap());
        let again = soon(queue.get()).await.unwrap();
        assert_eq!((*again, again.attempts()), (1, 2));
        assert!(begin.elapsed() >= visibility - Duration::from_millis(5), "{:?}", begin.elapsed());
        again.task_done().await.unwrap();
        soon(queue.join()).await.unwrap();
    });
}

#[test]
fn who_is_late_learns_that_another_worker_has_the_item() {
    with_redis(|url| async move {
        let open = || RemoteQueue::<u32>::options(&url, "jobs").visibility(Duration::from_millis(200)).open();
        let (slow, fast) = (open().await.unwrap(), open().await.unwrap());
        slow.put(1).await.unwrap();
        let late = slow.get().await.unwrap();
        let taken_over = soon(fast.get()).await.unwrap();
        assert!(matches!(late.extend(Duration::from_secs(9)).await, Err(AnswerError::Lost)));
        let lost = late.task_done().await.unwrap_err();
        assert!(lost.to_string().contains("another worker"), "{lost}");
        taken_over.task_done().await.unwrap();
        taken_over.task_done().await.expect("who did not hear the answer may ask again");
    });
}

#[test]
fn extend_keeps_an_item_and_give_back_returns_it_at_once() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::options(&url, "jobs")
            .visibility(Duration::from_millis(200))
            .open()
            .await
            .unwrap();
        queue.put(1).await.unwrap();
        let kept = queue.get().await.unwrap();
        kept.extend(Duration::from_secs(60)).await.unwrap();
        assert!(timeout(Duration::from_millis(500), queue.get()).await.is_err(), "it is still with us");
        let getter = create_task({
            let queue = queue.clone();
            async move { queue.get().await.unwrap() }
        });
        sleep(Duration::from_millis(50)).await;
        kept.give_back().await.unwrap();
        let again = soon(getter).await;
        assert_eq!(again.attempts(), 2);
        again.task_done().await.unwrap();
    });
}

#[test]
fn what_is_given_back_waits_like_what_nobody_has_had() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::options(&url, "jobs").maxsize(1).open().await.unwrap();
        queue.put(1).await.unwrap();
        queue.get().await.unwrap().give_back().await.unwrap();
        let now = queue.statistics().await.unwrap();
        assert_eq!((now.qsize, now.taken), (1, 0));
        assert!(matches!(queue.put_nowait(2).await, Err(PutError::Full(2))));

        // Taking it again makes room.
        let put = create_task({
            let queue = queue.clone();
            async move { queue.put(2).await.unwrap() }
        });
        sleep(Duration::from_millis(100)).await;
        assert!(!put.done());
        let again = queue.get().await.unwrap();
        assert_eq!((*again, again.attempts()), (1, 2));
        let begin = Instant::now();
        soon(put).await;
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        let now = queue.statistics().await.unwrap();
        assert_eq!((now.qsize, now.taken), (1, 1));
        again.task_done().await.unwrap();
    });
}

#[test]
fn an_immediate_shutdown_throws_away_what_was_given_back() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        for n in 0..30 {
            queue.put(n).await.unwrap();
        }
        let mut taken = Vec::new();
        for _ in 0..21 {
            taken.push(queue.get().await.unwrap());
        }
        let kept = taken.pop().unwrap();
        for delivery in taken {
            delivery.give_back().await.unwrap();
        }
        assert_eq!(queue.shutdown(true).await.unwrap(), 29);
        let now = queue.statistics().await.unwrap();
        assert_eq!((now.qsize, now.taken), (0, 1));
        kept.task_done().await.unwrap();
        soon(queue.join()).await.unwrap();
        assert!(matches!(queue.get_nowait().await, Err(GetError::ShutDown)));
    });
}

#[test]
fn a_shutdown_lets_what_is_in_it_out_and_nothing_in() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::options(&url, "jobs").maxsize(2).open().await.unwrap();
        queue.put(1).await.unwrap();
        queue.put(2).await.unwrap();
        let waiting = create_task({
            let queue = queue.clone();
            async move { queue.put(3).await }
        });
        sleep(Duration::from_millis(50)).await;
        assert_eq!(queue.shutdown(false).await.unwrap(), 0);
        let refused = soon(waiting).await.unwrap_err();
        assert!(matches!(refused, PutError::ShutDown(3)), "{refused}");
        soon(queue.get()).await.unwrap().task_done().await.unwrap();
        let last = soon(queue.get()).await.unwrap();
        // It may come back, so who asks waits; when it is done, who waits is told.
        let asks = create_task({
            let queue = queue.clone();
            async move { queue.get().await }
        });
        sleep(Duration::from_millis(50)).await;
        assert!(!asks.done());
        last.task_done().await.unwrap();
        assert!(matches!(soon(asks).await, Err(GetError::ShutDown)));
    });
}

#[test]
fn an_immediate_shutdown_throws_away_what_nobody_has() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        for n in 0..1200 {
            queue.put(n).await.unwrap();
        }
        let taken = queue.get().await.unwrap();
        assert_eq!(queue.shutdown(true).await.unwrap(), 1199);
        let now = queue.statistics().await.unwrap();
        assert_eq!((now.qsize, now.taken, now.is_shut_down), (0, 1, true));
        taken.task_done().await.unwrap();
        soon(queue.join()).await.unwrap();
    });
}

#[test]
fn who_waits_on_a_queue_that_is_destroyed_is_told() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        let getter = create_task({
            let queue = queue.clone();
            async move { queue.get().await }
        });
        sleep(Duration::from_millis(50)).await;
        queue.destroy().await.unwrap();
        assert!(matches!(soon(getter).await, Err(GetError::Gone)));
        assert!(matches!(queue.put(1).await, Err(PutError::Gone(1))));
        RemoteQueue::<u32>::options(&url, "jobs").maxsize(5).open().await.unwrap();
    });
}

/// Who came back after the watcher had ended waited for news that nobody told.
#[test]
fn whoever_had_a_queue_that_was_destroyed_is_told_even_if_it_was_made_anew() {
    with_redis(|url| async move {
        let open = || async { RemoteQueue::<u32>::options(&url, "jobs").maxsize(1).open().await.unwrap() };
        let (old, destroyer) = (open().await, open().await);
        old.put(1).await.unwrap();
        let taken = old.get().await.unwrap();
        old.put(2).await.unwrap();
        let put = create_task({
            let old = old.clone();
            async move { old.put(3).await }
        });
        let join = create_task({
            let old = old.clone();
            async move { old.join().await }
        });
        sleep(Duration::from_millis(50)).await; // they wait by now
        destroyer.destroy().await.unwrap();
        let new = open().await;
        assert!(matches!(soon(put).await, Err(PutError::Gone(3))));
        soon(join).await.unwrap();

        // All that is asked later is answered at once, and touches nothing of the new queue.
        sleep(Duration::from_millis(100)).await;
        new.put(4).await.unwrap();
        for old in [&old, &destroyer] {
            assert!(matches!(soon(old.get()).await, Err(GetError::Gone)));
            assert!(matches!(old.get_nowait().await, Err(GetError::Gone)));
            assert!(matches!(soon(old.put(5)).await, Err(PutError::Gone(5))));
            assert!(matches!(old.put_once("key", 5).await, Err(PutError::Gone(5))));
            soon(old.join()).await.unwrap();
            let now = old.statistics().await.unwrap();
            assert_eq!((now.qsize, now.taken, now.is_shut_down), (0, 0, true));
            assert_eq!(old.shutdown(true).await.unwrap(), 0);
            old.destroy().await.unwrap();
        }
        let gone = taken.extend(Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(&gone, AnswerError::Gone), "{gone}");
        assert!(matches!(taken.task_done().await, Err(AnswerError::Gone)));
        let four = new.get().await.unwrap();
        assert_eq!((*four, four.attempts()), (4, 1));
        four.task_done().await.unwrap();
        new.put_nowait(6).await.unwrap();
    });
}

/// The destruction may have been the last second that a server's files do not have.
#[test]
fn what_was_gone_once_stays_gone() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        let mut connection = redis::Client::open(&*url).unwrap().get_connection().unwrap();
        let mut generation = redis::cmd("HGET");
        generation.arg("{jobs}:state").arg("generation");
        let generation: String = generation.query(&mut connection).unwrap();
        queue.destroy().await.unwrap();
        assert!(matches!(queue.get_nowait().await, Err(GetError::Gone)));
        let _back = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        let mut restore = redis::cmd("HSET");
        restore.arg("{jobs}:state").arg("generation").arg(generation);
        restore.query::<()>(&mut connection).unwrap();
        assert!(matches!(soon(queue.get()).await, Err(GetError::Gone)));
    });
}

#[test]
fn the_keys_of_a_queue_that_is_destroyed_are_forgotten() {
    with_redis(|url| async move {
        for _ in 0..2 {
            let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
            for _ in 0..2 {
                queue.put_once("order 17", 17).await.unwrap();
            }
            assert_eq!(queue.qsize().await.unwrap(), 1);
            queue.destroy().await.unwrap();
        }
    });
}

#[test]
fn a_put_that_is_repeated_under_its_key_is_put_once() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        for _ in 0..3 {
            queue.put_once("order 17", 17).await.unwrap();
        }
        queue.put_once("order 18", 18).await.unwrap();
        assert_eq!(queue.qsize().await.unwrap(), 2);
    });
}

/// `Duration::MAX` is no error, whatever it is given to, and a key is remembered for a millisecond at least.
#[test]
fn times_without_end_and_times_of_nothing_are_taken() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::options(&url, "long")
            .patience(Duration::MAX)
            .remember(Duration::MAX)
            .response_limit(Duration::MAX)
            .visibility(Duration::MAX)
            .open()
            .await
            .unwrap();
        queue.put(1).await.unwrap();
        for _ in 0..2 {
            queue.put_once("key", 2).await.unwrap();
        }
        assert_eq!(queue.qsize().await.unwrap(), 2);
        let taken = queue.get().await.unwrap();
        taken.extend(Duration::MAX).await.unwrap();
        queue.get().await.unwrap().task_done().await.unwrap();
        assert!(timeout(Duration::from_millis(50), queue.get()).await.is_err(), "it is with us");
        taken.task_done().await.unwrap();

        for (name, remember) in [("zero", Duration::ZERO), ("short", Duration::from_micros(500))] {
            let queue = RemoteQueue::<u32>::options(&url, name).remember(remember).open().await.unwrap();
            queue.put_once("key", 1).await.unwrap();
            assert_eq!(queue.qsize().await.unwrap(), 1);
        }
    });
}

/// It was in the queue, and repeating the call put it again: the key came after the item.
#[test]
fn a_put_that_fails_has_put_nothing() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_connection().unwrap();
        let generation: String =
            redis::cmd("HGET").arg("{jobs}:state").arg("generation").query(&mut connection).unwrap();
        // As a worker in another language may have it.
        let script = include_str!("../../crates/redis/src/scripts/put.lua");
        let mut put = redis::cmd("EVAL");
        put.arg(script).arg(5);
        put.arg("jobs").arg("{jobs}:news").arg("{jobs}:state").arg("{jobs}:deadlines").arg("{jobs}:put:key");
        put.arg("evenloop").arg(generation).arg("7").arg("no time");
        let error = put.query::<String>(&mut connection).unwrap_err();
        assert!(error.to_string().contains("integer"), "{error}");
        assert_eq!(queue.qsize().await.unwrap(), 0);
    });
}

#[test]
fn a_cancelled_get_takes_no_item_along() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        for _ in 0..20 {
            assert!(timeout(Duration::from_millis(5), queue.get()).await.is_err());
        }
        queue.put(1).await.unwrap();
        assert_eq!(*soon(queue.get()).await.unwrap(), 1);
    });
}

#[test]
fn an_entry_that_is_no_item_is_given_to_be_looked_at() {
    with_redis(|url| async move {
        let queue = RemoteQueue::<u32>::open(&url, "jobs").await.unwrap();
        let other = RemoteQueue::<String>::open(&url, "jobs").await.unwrap();
        other.put("no number".to_owned()).await.unwrap();
        queue.put(5).await.unwrap();
        let Err(GetError::Undecodable(what)) = queue.get().await else { panic!("it is no number") };
        assert_eq!(*what.delivery, b"\"no number\"");
        what.delivery.task_done().await.unwrap();
        assert_eq!(*queue.get().await.unwrap(), 5);
    });
}

#[test]
fn a_python_producer_and_a_rust_worker() {
    with_redis(|url| async move {
        if !installed("python3") {
            return;
        }
        #[derive(serde::Deserialize, Debug, PartialEq)]
        struct Job {
            name: String,
            size: u32,
        }
        let queue = RemoteQueue::<Job>::open(&url, "jobs").await.unwrap();
        let getter = create_task({
            let queue = queue.clone();
            async move { queue.get().await.unwrap() }
        });
        // What any client of Redis sends, written out.
        let script = r#"
import json, socket, sys
words = [b"XADD", b"jobs", b"*", b"json", json.dumps({"name": "größer", "size": 3}).encode()]
message = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(message)
assert connection.recv(1) == b"$"
"#;
        let port = url.rsplit_once(':').unwrap().1.to_owned();
        let status = Command::new("python3").args(["-c", script, &port]).status().unwrap();
        assert!(status.success());
        let job = soon(getter).await;
        assert_eq!(*job, Job { name: "größer".into(), size: 3 });
        job.task_done().await.unwrap();
    });
}

#[test]
fn bad_names_and_addresses_are_refused() {
    evenloop::run(async {
        for name in ["", "a{b}"] {
            let error = RemoteQueue::<u32>::open("redis://127.0.0.1:1", name).await.unwrap_err();
            assert!(matches!(error, OpenError::Name(_)), "{error}");
        }
        let error = RemoteQueue::<u32>::open("postgres://127.0.0.1", "jobs").await.unwrap_err();
        assert!(matches!(error, OpenError::Address { .. }), "{error}");
    });
    let error =
        futures::executor::block_on(RemoteQueue::<u32>::open("redis://127.0.0.1:1", "jobs")).unwrap_err();
    assert!(matches!(error, OpenError::NoRuntime(_)), "{error}");
}
#[test]
fn under_tokio_and_smol_it_is_the_same() {
    let Some(redis) = Redis::start() else { return };
    let scenario = |name: &'static str| {
        let url = redis.url();
        async move {
            let queue = RemoteQueue::<u32>::options(&url, name).maxsize(1).open().await.unwrap();
            let produce = async {
                for n in 0..20 {
                    queue.put(n).await.unwrap();
                }
            };
            let consume = async {
                for n in 0..20 {
                    let delivery = queue.get().await.unwrap();
                    assert_eq!(*delivery, n);
                    delivery.task_done().await.unwrap();
                }
            };
            join(produce, consume).await;
            queue.join().await.unwrap();
        }
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async { evenloop_tokio::runtime().unwrap().scope(scenario("under tokio")).await });
    smol::block_on(evenloop_smol::runtime().scope(scenario("under smol")));
}
