//! The examples on the virtual clock, each with durations and seeds other than its own. What they should print is computed
//! here, from the rule that the example is to show.

mod support;

use support::lines;

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
