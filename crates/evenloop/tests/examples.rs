//! The examples on the virtual clock, each with durations and seeds other than its own. What they should print is computed
//! here, from the rule that the example is to show.

mod support;

use support::{Served, lines};

#[test]
fn say_after_takes_the_sum_and_then_the_longest() {
    for (first, second) in [(1.0, 2.0), (0.5, 0.25), (40.0, 3600.0)] {
        let printed = lines("say_after", &format!("--virtual --first {first} --second {second}"));
        let beside = if first < second { ["hello", "world"] } else { ["world", "hello"] };
        let expected = [
            "hello".to_owned(),
            "world".to_owned(),
            format!("one after the other: {:.2} s", first + second),
            beside[0].to_owned(),
            beside[1].to_owned(),
            format!("tasks created first: {:.2} s", f64::max(first, second)),
        ];
        assert_eq!(printed, expected);
    }
}

#[test]
fn periodic_prints_each_at_its_own_interval() {
    for (three, ten, end) in [(3, 10, 31), (2, 7, 15)] {
        let printed = lines("periodic", &format!("--virtual --three {three} --ten {ten} --for {end}"));
        // Both at the same instant: the first printer is the first in line.
        let expected: Vec<_> = (0..end)
            .flat_map(|second| [(second % three, second, "three"), (second % ten, second, "ten")])
            .filter(|(rest, ..)| *rest == 0)
            .map(|(_, second, name)| format!("{second:3}.00 - {name}"))
            .collect();
        assert_eq!(printed, expected);
    }
}

#[test]
fn lock_is_released_on_every_way_out() {
    for pause in [1.0, 30.0] {
        let printed = lines("lock", &format!("--virtual --pause {pause}"));
        let expected = [
            format!("{:.2} s: cancelled while it held the lock: true", pause / 2.0),
            "deposit: Ok(100)".to_owned(),
            "deposit: Err(\"nothing to deposit beside 100\")".to_owned(),
            "deposit: Ok(120)".to_owned(),
            format!("{:.2} s: Lock [unlocked, waiters: 0]", pause * 3.5),
            "120 in it".to_owned(),
        ];
        assert_eq!(printed, expected);
    }
}

#[test]
fn event_releases_all_who_wait() {
    for (delay, runners) in [(3.0, 3), (60.0, 5)] {
        let printed = lines("event", &format!("--virtual --delay {delay} --runners {runners}"));
        let mut expected = vec![format!("Event [unset, waiters: {runners}]")];
        expected.extend((1..=runners).map(|number| format!("runner {number} starts after {delay:.2} s")));
        expected.push("Event [unset, waiters: 0]".to_owned());
        assert_eq!(printed, expected);
    }
}

#[test]
fn condition_serves_guests_as_soon_as_there_is_enough() {
    for (cooking, guests) in [(2.0, 3), (0.5, 4)] {
        let printed = lines("condition", &format!("--virtual --cooking {cooking} --guests {guests}"));
        // The first guest eats one, the second waits for two more, and so on.
        let served = |wants: u32| f64::from(wants * (wants + 1) / 2) * cooking;
        let mut expected: Vec<_> =
            (1..=guests).map(|wants| format!("{:.2} s: {wants} eaten, 0 left", served(wants))).collect();
        expected.push("Condition [waiters: 0], 0 dishes left".to_owned());
        assert_eq!(printed, expected);
    }
}

#[test]
fn semaphore_admits_so_many_at_a_time_in_order() {
    for (downloads, at_once, each) in [(5_u32, 2_u32, 1.0), (9, 4, 2.5)] {
        let flags = format!("--virtual --downloads {downloads} --at-once {at_once} --each {each}");
        let printed = lines("semaphore", &flags);
        let begins = |number: u32| f64::from((number - 1) / at_once) * each;
        for number in 1..=downloads {
            let begin = format!("{:.2} s: download {number} starts,", begins(number));
            assert!(printed[number as usize - 1].starts_with(&begin), "{printed:?}");
        }
        let end = begins(downloads) + each;
        let last = format!("{end:.2} s: all done, Semaphore [value: {at_once}, waiters: 0]");
        assert_eq!(printed.last(), Some(&last));
    }
}

#[test]
fn bounded_semaphore_lends_again_what_came_back() {
    for (connections, used) in [(2_u32, 1.5), (3, 20.0)] {
        let flags = format!("--virtual --connections {connections} --use {used}");
        let printed = lines("bounded_semaphore", &flags);
        for number in 1..=2 * connections {
            let at = f64::from((number - 1) / connections) * used;
            let begin = format!("{at:.2} s: connection for user {number},");
            assert!(printed[number as usize - 1].starts_with(&begin), "{printed:?}");
        }
        let last = "once more: the bounded semaphore was released too often".to_owned();
        assert_eq!(printed.last(), Some(&last));
    }
}

#[test]
fn barrier_keeps_rounds_in_step() {
    for (workers, rounds, unit) in [(3_u32, 2_u32, 1.0), (5, 3, 0.25)] {
        let flags = format!("--virtual --workers {workers} --rounds {rounds} --unit {unit}");
        let expected: Vec<_> = (1..=rounds)
            .flat_map(|round| {
                let begin = f64::from((round - 1) * workers) * unit;
                let done = move |worker: u32| {
                    let at = begin + f64::from(worker) * unit;
                    let before = worker - 1;
                    format!("{at:.2} s: worker {worker} done, Barrier [waiters: {before}/{workers}]")
                };
                let over = begin + f64::from(workers) * unit;
                (1..=workers).map(done).chain([format!("{over:.2} s: round {round} is over")])
            })
            .collect();
        assert_eq!(lines("barrier", &flags), expected);
    }
}

#[test]
fn limiter_lends_more_when_the_limit_grows() {
    for (jobs, each, later) in [(4_u32, 1.0, 3_u32), (6, 4.0, 2)] {
        let printed = lines("limiter", &format!("--virtual --jobs {jobs} --each {each} --later {later}"));
        // One token works from 0, the others from half a job on.
        let mut free: Vec<f64> = (0..later).map(|token| if token == 0 { 0.0 } else { each / 2.0 }).collect();
        let mut begins = Vec::new();
        for _ in 0..jobs {
            let next = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("a token");
            begins.push(*next);
            *next += each;
        }
        let runs: Vec<_> = printed.iter().filter(|line| line.contains(" runs, ")).collect();
        assert_eq!(runs.len(), begins.len());
        for ((line, begin), job) in runs.into_iter().zip(begins).zip(1..) {
            assert!(line.starts_with(&format!("{begin:.2} s: job {job} runs,")), "{printed:?}");
        }
        assert!(printed[1].starts_with("borrower 1 holds a token"), "{printed:?}");
        assert!(
            printed.last().is_some_and(|line| line.ends_with(&format!("[borrowed: 0/{later}, waiters: 0]")))
        );
    }
}

#[test]
fn rwlock_lets_readers_read_together_and_nobody_overtake_the_writer() {
    for each in [1.0, 7.0] {
        let printed = lines("rwlock", &format!("--virtual --each {each}"));
        let at = |turn: f64, what: &str| format!("{:.2} s: {what}", turn * each);
        let expected = [
            at(1.0, "read version 1"),
            at(1.0, "read version 1"),
            at(2.0, "wrote version 2"),
            at(3.0, "read version 2"),
            at(3.0, "read version 2"),
            "RwLock [readers: 0, waiters: 0]".to_owned(),
        ];
        assert_eq!(printed, expected);
    }
}

#[test]
fn blocked_loop_makes_all_late_and_names_the_culprit() {
    for (block, first, second) in [(3.0, 1.0, 2.0), (30.0, 7.0, 40.0)] {
        let flags = format!("--virtual --block {block} --first {first} --second {second}");
        let printed = lines("blocked_loop", &flags);
        let late = |seconds: f64| format!("slept {seconds} s: {:.2} s late", f64::max(block - seconds, 0.0));
        let source = include_str!("../examples/blocked_loop.rs");
        let line =
            1 + source.lines().position(|line| line.contains("let culprit")).expect("it is spawned there");
        let debug = format!("debug: 'culprit' spawned at line {line}: it took {block:.3}s");
        assert_eq!(printed, [debug, late(first), late(second)]);
    }
}

#[test]
fn count_takes_one_pause_beside_and_their_sum_behind() {
    for (pause, times) in [(1.0, 3), (2.5, 4)] {
        let printed = lines("count", &format!("--virtual --pause {pause} --times {times}"));
        let beside = [vec!["One"; times], vec!["Two"; times]].concat();
        let behind = ["One", "Two"].repeat(times);
        let expected: Vec<_> = (beside.into_iter().map(str::to_owned))
            .chain([format!("concurrent: {pause:.2} s")])
            .chain(behind.into_iter().map(str::to_owned))
            .chain([format!("synchronous: {:.2} s", pause * times as f64)])
            .collect();
        assert_eq!(printed, expected);
    }
}

/// The coroutines draw from one row of numbers, so who draws when decides what each sees. This replays the rule: the
/// next one to wake draws next, and whoever started to wait first wakes first.
#[test]
fn make_random_draws_in_the_order_of_waking() {
    for seed in [444, 7, 1] {
        let printed = lines("make_random", &format!("--virtual --seed {seed}"));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut waking: Vec<(u32, usize, usize)> = (0..3).map(|index| (0, index, index)).collect();
        let (mut begun, mut drawn, mut expected) = (3, [0; 3], Vec::new());
        while let Some(first) = (0..waking.len()).min_by_key(|&n| (waking[n].0, waking[n].1)) {
            let (now, _, index) = waking.remove(first);
            let value = random.u8(0..=10);
            if now == 0 {
                expected.push(format!("Initiated make_random({index})."));
            }
            if value <= 9 - index as u8 {
                expected.push(format!("make_random({index}) == {value} too low; retrying."));
                waking.push((now + index as u32 + 1, begun, index));
                begun += 1;
            } else {
                expected.push(format!("---> Finished: make_random({index}) == {value}"));
                drawn[index] = value;
            }
        }
        expected.push(String::new());
        expected.push(format!("r1: {}, r2: {}, r3: {}", drawn[0], drawn[1], drawn[2]));
        let plain: Vec<_> = printed.iter().map(|line| without_colours(line)).collect();
        assert_eq!(plain, expected, "seed {seed}");
    }
}

fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once('m').expect("a colour ends with m").1;
    }
    plain + rest
}

#[test]
fn chained_takes_as_long_as_the_longest_chain() {
    for (seed, chains) in [(444, 3), (5, 20)] {
        let printed = lines("chained", &format!("--virtual --seed {seed} --chains {chains}"));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pause = || (random.f64() * 10.0).round();
        let sums: Vec<f64> = (0..chains).map(|_| pause() + pause()).collect();
        for (n, sum) in sums.iter().enumerate() {
            let n = n + 1;
            let line = format!(
                "-->Chained result{n} => result{n}-2 derived from result{n}-1 (took {sum:.2} seconds)."
            );
            assert!(printed.contains(&line), "{line}\n{printed:#?}");
        }
        let longest = sums.iter().copied().fold(0.0, f64::max);
        assert_eq!(printed.last().unwrap(), &format!("Program finished in {longest:.2} seconds."));
    }
}

#[test]
fn gather_keeps_the_order_of_its_arguments() {
    for (pause, squares) in [(1.0, 3), (0.25, 5)] {
        let printed = lines("gather", &format!("--virtual --pause {pause} --squares {squares}"));
        let values: Vec<u64> = (1..=squares).map(|x| x * x).collect();
        assert_eq!(printed[0], format!("{values:?} in {pause:.2} s"));
        assert_eq!(printed[1], format!("1 and \"two\" in {pause:.2} s"));
        assert!(
            printed[2].starts_with("Ok(4) and Err(") && printed[2].ends_with(&format!("in {pause:.2} s"))
        );
    }
}

#[test]
fn transaction_rolls_back_before_the_time_out_reports() {
    for (step, limit, undo) in [(1.0, 2.5, 2.0), (0.5, 4.0, 30.0)] {
        let flags = format!("--virtual --step {step} --limit {limit} --undo {undo}");
        let accounts = r#"{"alice": 70, "bob": 30}"#;
        let (first, second) = (step * 2.0, step * 2.0 + limit + undo);
        let expected = [
            format!("{first:.2} s: transfer of 30: Ok(Ok(())), {accounts}"),
            "    rolling back 1 step(s), the end was: Cancelled(Reason(\"deadline\"))".to_owned(),
            format!("{second:.2} s: transfer of 20: Err(Elapsed), {accounts}"),
            format!("{:.2} s: transfer of 500: Ok(Err(\"not enough money\")), {accounts}", second + step),
        ];
        assert_eq!(lines("transaction", &flags), expected);
    }
}

#[test]
fn of_nested_deadlines_the_one_that_strikes_reports() {
    for (near, far, clean_up) in [(1.0, 3.0, 0.5), (2.0, 10.0, 3.0)] {
        let flags = format!("--virtual --near {near} --far {far} --clean-up {clean_up}");
        let cut_off = |name: &str, who: &str| {
            format!("{name}: {near:.2} s to go; the {who} one has elapsed after {:.2} s", near + clean_up)
        };
        let expected = [
            cut_off("inner is nearer", "inner"),
            cut_off("outer is nearer", "outer"),
            cut_off("both at once", "outer"),
            format!("quick enough: {near:.2} s to go; done after {:.2} s", near / 2.0),
            format!("moved: done after {:.2} s", near / 2.0 + far),
        ];
        assert_eq!(lines("nested_deadlines", &flags), expected);
    }
}

#[test]
fn supervisor_restarts_with_longer_pauses_and_gives_up() {
    for (life, pause, restarts) in [(2.0, 0.5, 3), (10.0, 1.0, 2)] {
        let flags = format!("--virtual --life {life} --pause {pause} --restarts {restarts}");
        // Two lives and one pause, if the fragile one lives as long.
        let learned = life + pause + life;
        let mut expected = vec![
            format!("{life:.2} s: learner: the task panicked: this is hard; again in {pause:.2} s"),
            format!("{life:.2} s: fragile: broke; again in {pause:.2} s"),
            format!("{learned:.2} s: learner has ended well"),
        ];
        let (mut now, mut next) = (learned, pause * 2.0);
        for _ in 1..restarts {
            expected.push(format!("{now:.2} s: fragile: broke; again in {next:.2} s"));
            now += next + life;
            next *= 2.0;
        }
        now += life / 2.0;
        expected.push(format!("{now:.2} s: steady was cancelled, and has cleaned up"));
        expected.push(format!(
            "{now:.2} s: unhandled errors in a task group (1 error): fragile is given up: broke"
        ));
        assert_eq!(lines("supervisor", &flags), expected);
    }
}

#[test]
fn loop_life_runs_callbacks_in_the_order_of_their_time() {
    for (first, second) in [(1.0, 2.0), (30.0, 7.0)] {
        let printed = lines("loop_life", &format!("--virtual --first {first} --second {second}"));
        let mut timed: [(f64, &str); 2] = [(first, "call_at, first"), (second, "call_later, second")];
        timed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut expected = vec![
            "new: EventLoop [idle, tasks: 0, ready: 0]".to_owned(),
            "a callback of the same pass runs after what was ready".to_owned(),
            "run_until_complete gave 42".to_owned(),
            "cancelled: true".to_owned(),
            "0.00 s: call_soon".to_owned(),
            "0.00 s: call_later, no delay".to_owned(),
        ];
        expected.extend(timed.map(|(at, what)| format!("{at:.2} s: {what}")));
        expected.push(format!("stopped after {:.2} s", f64::max(first, second) + first));
        expected.extend(
            [
                "in the one pass",
                "one pass is over",
                "in the next run",
                "from another thread",
                "closed: EventLoop [closed, tasks: 0, ready: 0]",
                "afterwards: not spawned: the event loop is closed",
            ]
            .map(str::to_owned),
        );
        assert_eq!(printed, expected);
    }
}

#[test]
fn tasks_are_pending_then_running_then_finished() {
    for work in [1.0, 60.0] {
        let printed = lines("tasks", &format!("--virtual --work {work}"));
        let expected = [
            "before: Pending, worker is number 2".to_owned(),
            "<Task pending name='worker'".to_owned(),
            "no result yet: true".to_owned(),
            "during: Running".to_owned(),
            format!("{:.2} s: Pending", work * 0.75),
            "called back: worker ended with a Value".to_owned(),
            format!("{:.2} s: Finished", work * 1.5),
            "after: Finished, result Some(42)".to_owned(),
            "the task was cancelled: no longer wanted".to_owned(),
            "main ends".to_owned(),
            "left behind: the event loop ends".to_owned(),
            format!("{:.2} s: cleaned up", work * 3.5),
        ];
        assert_eq!(printed, expected);
    }
}

#[test]
fn as_completed_gives_the_shortest_first() {
    for (seed, downloads, unit) in [(444, 5, 1.0), (7, 8, 0.5)] {
        let flags = format!("--virtual --seed {seed} --downloads {downloads} --unit {unit}");
        let mut lengths: Vec<u32> = (1..=downloads).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut lengths);
        let mut expected = vec![format!("asked for: {lengths:?}")];
        expected.extend((1..=downloads).map(|length| {
            let place = lengths.iter().position(|&other| other == length).expect("each is there once");
            let (at, left) = (f64::from(length) * unit, downloads - length);
            // Main is the first task.
            format!("{at:.2} s: Task-{} gave {length}, {left} to come", place + 2)
        }));
        assert_eq!(lines("as_completed", &flags), expected);
    }
}

#[test]
fn wait_returns_when_it_was_told_to() {
    for (tasks, unit) in [(4_u32, 1.0), (6, 20.0)] {
        let names = |units: std::ops::RangeInclusive<u32>| {
            units.rev().map(|units| format!("job-{units}")).collect::<Vec<_>>().join(" ")
        };
        let line = |what: &str, until: u32| {
            let at = f64::from(until) * unit;
            let (done, pending) = (names(2..=until), names(until + 1..=tasks + 1));
            format!("{what}: {at:.2} s, done: {done}; pending: {pending}")
        };
        let expected = [
            line("ALL_COMPLETED", tasks + 1),
            line("FIRST_COMPLETED", 2),
            line("FIRST_EXCEPTION", 3), // the first odd one
            "in time: false, still pending: 1".to_owned(),
        ];
        assert_eq!(lines("wait", &format!("--virtual --tasks {tasks} --unit {unit}")), expected);
    }
}

#[test]
fn chess_exhibition_takes_an_hour_from_board_to_board() {
    for (boards, pairs, master, opponent) in [(24, 30, 5, 55), (3, 4, 5, 20), (10, 7, 2, 3)] {
        let flags =
            format!("--virtual --boards {boards} --pairs {pairs} --master {master} --opponent {opponent}");
        let clock = |seconds: u64| format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        // The master goes round, and waits at a board whose opponent still thinks.
        let mut ready = vec![0; boards];
        let mut now = 0;
        for _ in 0..pairs {
            for board in &mut ready {
                now = u64::max(now, *board) + master;
                *board = now + opponent;
            }
        }
        let expected = [
            format!("one board after another: {}", clock(boards as u64 * pairs * (master + opponent))),
            format!("from board to board: {}", clock(now)),
            format!("the last reply: {}", clock(now + opponent)),
        ];
        assert_eq!(lines("chess_exhibition", &flags), expected);
        if boards == 24 {
            assert!(expected[0].ends_with(" 12:00:00") && expected[1].ends_with(" 1:00:00"));
        }
    }
}

#[test]
fn cpu_bound_work_on_a_pool_leaves_the_loop_alone() {
    for (jobs, below) in [(8, 60_000_u32), (3, 100_000)] {
        let printed = lines("cpu_bound", &format!("--jobs {jobs} --below {below}"));
        let primes = (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count();
        let late = |line: &str, begin: &str| {
            let begin = format!("{begin}: {} primes in ", jobs * primes);
            let rest =
                line.strip_prefix(&begin).unwrap_or_else(|| panic!("{line} does not begin with {begin}"));
            let late =
                rest.split("the clock was ").nth(1).and_then(|rest| rest.split(' ').next()).expect("so late");
            let (number, unit) = late.split_at(late.find(char::is_alphabetic).unwrap_or(late.len()));
            let number: f64 = number.parse().expect("a number");
            number
                * match unit {
                    "s" => 1e3,
                    "ms" => 1.0,
                    "µs" => 1e-3,
                    _ => 1e-6,
                }
        };
        let [blocked, pooled] = &printed[..] else { panic!("{printed:?}") };
        let (blocked, pooled) = (late(blocked, "on the loop"), late(pooled, "on a pool"));
        assert!(pooled < blocked / 2.0, "{pooled} ms on a pool, {blocked} ms on the loop");
    }
}

#[test]
fn protocol_is_told_in_order_and_datagrams_come_back() {
    for (datagrams, megabytes) in [(2, 20), (5, 40)] {
        let printed = lines("protocol", &format!("{datagrams} {megabytes}"));
        let mut expected = vec![
            "connection_made".to_owned(),
            "data_received, for the first time".to_owned(),
            format!("eof_received, after {} bytes", megabytes << 20),
            "connection_lost: None".to_owned(),
            "the sender was paused on its way: true".to_owned(),
        ];
        expected.extend((1..=datagrams).rev().map(|left| format!("datagram_received: ping {left}")));
        expected.push("connection_lost: None".to_owned());
        assert_eq!(printed, expected);
    }
}

#[test]
fn both_chats_carry_what_is_said_to_everybody_else() {
    for (server, users) in [("chat_streams", 3), ("chat_protocol", 5)] {
        let served = Served::start(server);
        let printed = lines("chat_client", &format!("{} {users}", served.port));
        let heard = |number: u32| {
            let others = (1..=users).filter(|other| *other != number);
            let hellos: Vec<_> = others.map(|other| format!("user {other}: hello from {other}")).collect();
            format!("user {number} heard {}", hellos.join(", "))
        };
        assert_eq!(printed, (1..=users).map(heard).collect::<Vec<_>>(), "{server}");
    }
}
