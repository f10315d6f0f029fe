//! Rows of what waits for tasks, for a time and for generators.

use crate::scene::{OnLoop, Only, Row, Test, Waiting, end, on_loop};
use evenloop_core::After;
use evenloop_coroutine::{AsyncGenerator, LocalAsyncGenerator};
use evenloop_executor::{
    AsCompleted, BorrowingGroup, RemoteTask, ReturnWhen, Task, TaskGroup, as_completed, create_task, gather,
    gather_all, gather_settled, shield, staggered_race, try_gather, wait, wait_for,
};
use evenloop_sync::Event;
use evenloop_time::{Interval, interval_at, sleep, sleep_on, sleep_until, sleep_until_on};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// A limit that no test meets.
const FAR: Duration = Duration::from_secs(1_000_000);

const THROUGH_MUT: &str = "it is awaited through `&mut`, so one waits at a time";
const NOT_TOLD: &str = "how many wait is not told";
const A_WAKE_EACH: &str = "a child's end, its start and the body's end wake whoever conducts them";
const ITS_CHILDREN: &str = "its children are dropped with it, and each tells it so";
const A_ROUND: &str =
    "`FuturesUnordered` asks to be polled again after a round in which it has polled everybody";
const A_START_AND_A_ROUND: &str =
    "a child's start wakes the group, which looks once more after a round of all";
const SEVERAL_WAKERS: &str = "it keeps more wakers than one, and of their destructors only one may panic";

/// What tasks wait for, and one thing that outlives those who wait for it.
struct Among<T> {
    event: Arc<Event>,
    only: Only<T>,
}

impl<T> Among<T> {
    fn new() -> Self {
        Self { event: Arc::new(Event::new()), only: Only::default() }
    }

    /// Ends with the event.
    fn work(&self) -> impl Future<Output = ()> + Send + use<T> {
        let event = self.event.clone();
        async move { event.wait().await }
    }

    fn poke(&self) {
        end((self.event.is_set(), format!("{:?}", self.event)));
        self.event.set();
    }
}

/// The work, as one that may fail and does not.
async fn well(work: impl Future<Output = ()>) -> Result<(), ()> {
    work.await;
    Ok(())
}

type Amid<T> = OnLoop<Among<T>>;

type Gathered = OnLoop<(fn(Waiting<'static>) -> Waiting<'static>, Among<Waiting<'static>>)>;

/// Waits for tasks that it makes, and that end with it.
fn of_its_own(name: &'static str, wait: for<'a> fn(&'a Amid<()>) -> Waiting<'a>) -> Row {
    let waiters = |on: &Amid<()>| on.of.event.statistics().waiters;
    on_loop(name, Among::new, wait, |on| on.of.event.set(), waiters, |on| on.of.poke())
        .without(Test::Once, A_WAKE_EACH)
        .without(Test::PanicsAgain, SEVERAL_WAKERS)
}

/// Waits for something that goes on when the wait is dropped.
fn of_another<T: 'static>(name: &'static str, wait: for<'a> fn(&'a Amid<T>) -> Waiting<'a>) -> Row {
    on_loop(name, Among::new, wait, |on| on.of.event.set(), |_| 0, |on| on.of.poke())
        .without(Test::Many, THROUGH_MUT)
        .without(Test::Count, NOT_TOLD)
        .without(Test::PanicsAgain, SEVERAL_WAKERS)
}

/// Makes tasks of its children, which run on when it is dropped.
fn a_gather(name: &'static str, gather: fn(Waiting<'static>) -> Waiting<'static>) -> Row {
    let wait: for<'a> fn(&'a Gathered) -> Waiting<'a> = |on| {
        on.inside(async {
            let mut gather = on.of.1.only.or_put(|| (on.of.0)(Box::pin(on.of.1.work())));
            gather.as_mut().await;
            gather.over();
        })
    };
    on_loop(name, move || (gather, Among::new()), wait, |on| on.of.1.event.set(), |_| 0, |on| on.of.1.poke())
        .without(Test::Many, THROUGH_MUT)
        .without(Test::Count, NOT_TOLD)
        .without(Test::PanicsAgain, SEVERAL_WAKERS)
        .sets_out_in(2, A_ROUND)
}

/// Waits for a second.
fn a_second(name: &'static str, wait: for<'a> fn(&'a OnLoop<()>) -> Waiting<'a>) -> Row {
    let serve = |on: &OnLoop<()>| on.clock.advance(SECOND);
    on_loop(name, || (), wait, serve, |_| 0, |on| end((on.event_loop.time(), on.event_loop.statistics())))
        .without(Test::Count, NOT_TOLD)
}

fn times() -> Vec<Row> {
    vec![
        a_second("time::sleep", |on| on.inside(sleep(SECOND))),
        a_second("time::sleep_on", |on| on.inside(sleep_on(on.event_loop.runtime(), SECOND))),
        a_second("time::sleep_until", |on| on.inside(sleep_until(on.event_loop.time() + SECOND))),
        a_second("time::sleep_until_on", |on| {
            on.inside(sleep_until_on(on.event_loop.runtime(), on.event_loop.time() + SECOND))
        }),
        a_second("core::After::new", |on| {
            let timers = on.event_loop.runtime().timers_for("After::new").expect("it has some").clone();
            on.inside(async { end(After::new(timers, SECOND).await) })
        })
        .without(Test::PanicsAgain, SEVERAL_WAKERS),
        on_loop(
            "time::Interval::tick",
            Only::<Interval>::default,
            |on| {
                on.inside(async {
                    let mut due = on.of.or_put(|| interval_at(on.event_loop.time() + SECOND, SECOND));
                    end(due.tick().await);
                })
            },
            |on| on.clock.advance(SECOND),
            |_| 0,
            |on| end(on.event_loop.time()),
        )
        .without(Test::Many, THROUGH_MUT)
        .without(Test::Count, NOT_TOLD),
    ]
}

fn tasks() -> Vec<Row> {
    vec![
        of_another("executor::Task::join", |on| {
            on.inside(async {
                let mut task = on.of.only.or_put(|| create_task(on.of.work()));
                end(task.join().await);
                task.over();
            })
        }),
        of_another("executor::create_task, awaited", |on| {
            on.inside(async {
                let mut task = on.of.only.or_put(|| create_task(on.of.work()));
                (&mut *task).await;
                task.over();
            })
        }),
        of_another("executor::shield", |on| {
            on.inside(async {
                let mut task = on.of.only.or_put(|| create_task(on.of.work()));
                shield(&mut *task).await;
                task.over();
            })
        }),
        of_another("executor::wait_for", |on| {
            on.inside(async {
                let mut task = on.of.only.or_put(|| create_task(on.of.work()));
                end(wait_for(&mut *task, FAR).await);
                task.over();
            })
        }),
        of_another::<Vec<Task<()>>>("executor::wait", |on| {
            on.inside(async {
                let mut tasks = on.of.only.or_put(|| vec![create_task(on.of.work())]);
                end(wait(&mut tasks, ReturnWhen::AllCompleted).await);
                tasks.over();
            })
        })
        .sets_out_in(2, A_ROUND),
        of_another::<AsCompleted<()>>("executor::AsCompleted::next", |on| {
            on.inside(async {
                let mut ends = on.of.only.or_put(|| as_completed([on.of.work()]));
                end(ends.next().await);
                ends.over();
            })
        })
        .sets_out_in(2, A_ROUND),
        of_another::<RemoteTask<()>>("executor::Handle::spawn", |on| {
            on.inside(async {
                let mut task =
                    on.of.only.or_put(|| on.event_loop.handle().spawn(on.of.work()).expect("it runs"));
                end((&mut *task).await);
                task.over();
            })
        }),
        a_gather("executor::gather", |work| Box::pin(async { end(gather((work,)).await) })),
        a_gather("executor::gather_all", |work| Box::pin(async { end(gather_all([work]).await) })),
        a_gather("executor::gather_settled", |work| Box::pin(async { end(gather_settled((work,)).await) })),
        a_gather("executor::try_gather", |work| {
            let fallible = well(work);
            Box::pin(async { end(try_gather((fallible,)).await) })
        }),
        of_its_own("executor::staggered_race", |on| {
            let work = on.of.work();
            on.inside(async {
                let attempt = well(work);
                end(staggered_race([attempt], None).await);
            })
        }),
        of_its_own("executor::TaskGroup::run", |on| {
            on.inside(async {
                let group = TaskGroup::run(async |group| {
                    let work = on.of.work();
                    group.create_task(well(work));
                    Ok(())
                });
                end(group.await);
            })
        }),
        of_its_own("executor::TaskGroup::start", |on| {
            on.inside(async {
                let group = TaskGroup::run(async |group| {
                    let work = on.of.work();
                    let child = group.start(|started| async move {
                        work.await;
                        started.started(());
                        Ok::<_, ()>(())
                    });
                    end(child.await);
                    Ok(())
                });
                end(group.await);
            })
        }),
        of_its_own("executor::Child::join", |on| {
            on.inside(async {
                let group = TaskGroup::run(async |group| {
                    let work = on.of.work();
                    let mut child = group.create_task(well(work));
                    end(child.join().await);
                    Ok(())
                });
                end(group.await);
            })
        }),
        of_its_own("executor::BorrowingGroup::run", |on| {
            on.inside(async {
                let group = BorrowingGroup::run(async |group| {
                    group.start_soon(well(on.of.event.wait()));
                    Ok(())
                });
                end(group.await);
            })
        })
        .without(Test::Silence, ITS_CHILDREN)
        .sets_out_in(3, A_START_AND_A_ROUND),
        of_its_own("executor::BorrowedChild::join", |on| {
            on.inside(async {
                let group = BorrowingGroup::run(async |group| {
                    let mut child = group.start_soon(well(on.of.event.wait()));
                    end(child.join().await);
                    Ok(())
                });
                end(group.await);
            })
        })
        .without(Test::Silence, ITS_CHILDREN)
        .sets_out_in(3, A_START_AND_A_ROUND),
    ]
}

fn generators() -> Vec<Row> {
    vec![
        of_another::<LocalAsyncGenerator<'static, u8>>("coroutine::AsyncGenerator::next", |on| {
            on.inside(async {
                let mut generator = on.of.only.or_put(|| {
                    let event = on.of.event.clone();
                    let body = AsyncGenerator::new(async move |mut co| {
                        event.wait().await;
                        while co.yield_(1).await.is_ok() {
                            event.wait().await;
                        }
                    });
                    body.boxed_local()
                });
                end(generator.next().await);
            })
        }),
        of_another::<LocalAsyncGenerator<'static, u8>>("coroutine::AsyncGenerator::aclose", |on| {
            on.inside(async {
                let mut generator = on.of.only.or_put(|| {
                    let event = on.of.event.clone();
                    let body = AsyncGenerator::new(async move |mut co| {
                        while co.yield_(1).await.is_ok() {}
                        event.wait().await;
                    });
                    body.boxed_local()
                });
                end(generator.next().await); // `None` at once while it is closing
                generator.aclose().await;
                generator.over();
            })
        }),
    ]
}

/// What waits on a loop, without a descriptor.
pub(crate) fn rows() -> Vec<Row> {
    [times(), tasks(), generators()].into_iter().flatten().collect()
}
