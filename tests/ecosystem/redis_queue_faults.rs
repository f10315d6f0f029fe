//! `RemoteQueue` when workers and the server die: every item is counted, and none is lost.

use evenloop::streams::TcpListener;
use evenloop::{create_task, sleep, timeout};
use evenloop_ecosystem_tests::{Redis, wait_until};
use evenloop_redis::{GetError, PutError, RemoteQueue};
use futures::future::{Either, join_all, select};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WORKER: &str = "EVENLOOP_TEST_WORKER";

fn options(url: &str) -> evenloop_redis::Options<u32> {
    RemoteQueue::<u32>::options(url, "jobs")
        .visibility(Duration::from_millis(500))
        .patience(Duration::from_secs(10))
}

/// What a worker's process does: this test, in a process of its own. In the test run itself it has nothing to do.
#[test]
fn worker() {
    let Ok(url) = std::env::var(WORKER) else { return };
    evenloop::run(async {
        let jobs = options(&url).open().await.unwrap();
        let done = RemoteQueue::<u32>::open(&url, "done").await.unwrap();
        while let Ok(job) = jobs.get().await {
            sleep(Duration::from_millis(5)).await;
            done.put_once(&job.to_string(), *job).await.unwrap();
            let _ = job.task_done().await; // another worker may have it by now
        }
    });
}

fn start_worker(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker", "--test-threads=1"])
        .env(WORKER, url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn workers_that_are_killed_in_the_middle_lose_nothing() {
    let Some(redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let jobs = options(&url).open().await.unwrap();
        let done = RemoteQueue::<u32>::open(&url, "done").await.unwrap();
        for n in 0..300 {
            jobs.put(n).await.unwrap();
        }
        // Only now, or on a busy machine little is left by the time the last is put.
        let mut workers = [start_worker(&url), start_worker(&url)];
        // Three are killed while they have items.
        for at in [0, 1, 0] {
            let before = done.qsize().await.unwrap();
            let more = async {
                while done.qsize().await.unwrap() < before + 20 {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(Duration::from_secs(20), more).await.expect("the workers work");
            workers[at].kill().unwrap();
            workers[at].wait().unwrap();
            workers[at] = start_worker(&url);
        }
        timeout(Duration::from_secs(60), jobs.join()).await.expect("all is done").unwrap();
        jobs.shutdown(false).await.unwrap(); // the workers end
        let mut seen = BTreeSet::new();
        while let Ok(item) = done.get_nowait().await {
            assert!(seen.insert(*item), "{} was put once", *item);
            item.task_done().await.unwrap();
        }
        assert_eq!(seen, (0..300).collect());
        for worker in &mut workers {
            wait_until("a worker whose queue is shut down ends", || worker.try_wait().unwrap().is_some());
        }
    });
}

#[test]
fn a_server_that_is_killed_and_started_again_loses_nothing() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let queue = options(&url).open().await.unwrap();
        let consumer = create_task({
            let queue = queue.clone();
            async move {
                let mut seen = BTreeSet::new();
                loop {
                    match queue.get().await {
                        Ok(item) => {
                            seen.insert(*item);
                            let _ = item.task_done().await;
                        }
                        Err(GetError::ShutDown) => return seen,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        for n in 0..400 {
            if n % 100 == 50 {
                redis.kill(); // what was asked just now is not answered
                redis.restart();
            }
            queue.put(n).await.unwrap();
        }
        queue.shutdown(false).await.unwrap();
        let seen = timeout(Duration::from_secs(30), consumer).await.expect("it ends");
        assert_eq!(seen, (0..400).collect());
    });
}

#[test]
fn a_put_that_a_broken_connection_makes_uncertain_is_not_put_twice() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let queue = options(&url).open().await.unwrap();
        // Puts are under way while the server dies.
        let puts = (0..50).map(|n| {
            let queue = queue.clone();
            create_task(async move { queue.put(n).await.unwrap() })
        });
        let puts: Vec<_> = puts.collect();
        sleep(Duration::from_millis(2)).await;
        redis.kill();
        redis.restart();
        for put in puts {
            put.await;
        }
        let mut seen = Vec::new();
        while let Ok(item) = queue.get_nowait().await {
            seen.push(*item);
            item.task_done().await.unwrap();
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn when_the_patience_is_over_the_item_comes_back() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let queue = RemoteQueue::<u32>::options(&url, "jobs")
            .patience(Duration::from_millis(300))
            .open()
            .await
            .unwrap();
        redis.kill();
        let begin = Instant::now();
        let error = queue.put(7).await.unwrap_err();
        assert!(matches!(&error, PutError::Broken(7, _)), "{error}");
        assert!(error.to_string().contains("`put` on the remote queue"), "{error}");
        assert!(begin.elapsed() >= Duration::from_millis(300));
        redis.restart();
        queue.put(error.into_inner()).await.unwrap();
        assert_eq!(*queue.get().await.unwrap(), 7);
    });
}

/// Each waited for the connection that another one tried to make, and then tried itself: the last learned of it after nine
/// seconds.
#[test]
fn the_patience_of_many_callers_is_that_of_one() {
    let Some(redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let (patience, response_limit) = (Duration::from_millis(500), Duration::from_millis(200));
        let options = RemoteQueue::<u32>::options(&url, "jobs");
        let queue = options.patience(patience).response_limit(response_limit).open().await.unwrap();
        redis.stop();
        let begin = Instant::now();
        let calls = (0..40).map(|_| {
            let queue = queue.clone();
            async move {
                queue.qsize().await.unwrap_err();
                begin.elapsed()
            }
        });
        let took = join_all(calls).await;
        assert!(took.iter().all(|took| *took >= patience), "{took:?}");
        assert!(took.iter().all(|took| *took < patience + Duration::from_secs(2)), "{took:?}");
    });
}

/// The last try began within the patience and took as long as the server might have.
#[test]
fn the_patience_ends_a_try_that_is_under_way() {
    let Some(redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let (patience, response_limit) = (Duration::from_millis(2200), Duration::from_secs(2));
        let options = RemoteQueue::<u32>::options(&url, "jobs");
        let queue = options.patience(patience).response_limit(response_limit).open().await.unwrap();
        redis.stop();
        let begin = Instant::now();
        let error = queue.qsize().await.unwrap_err();
        assert!(error.to_string().contains("no answer in 2s"), "{error}");
        assert!((patience..2 * response_limit).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    });
}

#[test]
fn of_many_callers_one_makes_the_connection() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.url();
    evenloop::run(async {
        let options = RemoteQueue::<u32>::options(&url, "jobs");
        let queue = options.patience(Duration::from_millis(500)).open().await.unwrap();
        redis.kill();
        // In its place somebody who takes connections and closes them.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, redis.port()).into()).unwrap();
        let calls = join_all((0..100).map(|_| queue.qsize()));
        let mut connections = 0;
        let count = async {
            loop {
                drop(listener.accept().await.unwrap());
                connections += 1;
            }
        };
        match select(pin!(count), pin!(calls)).await {
            Either::Left((never, _)) => never,
            Either::Right((outcomes, _)) => assert!(outcomes.iter().all(Result::is_err)),
        }
        // A few for each of half a dozen tries, and those of the watcher.
        assert!((2..100).contains(&connections), "{connections}");
    });
}
