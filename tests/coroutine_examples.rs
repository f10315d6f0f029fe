//! The examples about coroutines print what this file computes, for the durations and seeds that are asked for.

use std::collections::HashMap;
use std::process::Command;

/// What an example prints, to standard output and to standard error.
fn example(name: &str, arguments: &str) -> (String, String) {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "evenloop", "--example", name, "--"]);
    // A sanitizer's flags are for the tests: the build scripts and macros of this build would not start with them.
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"] {
        command.env_remove(flags);
    }
    let output = command.args(arguments.split_whitespace()).output().expect("cargo runs");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{name} {arguments}: {error}");
    (String::from_utf8(output.stdout).unwrap(), error)
}

/// Both printers' lines in the order of their times; at equal times the first printer, which is resumed first.
#[test]
fn generator_round_robin_interleaves_two_printers() {
    for (three, ten, end) in [(3.0, 10.0, 31.0), (2.0, 7.0, 20.0), (0.5, 0.3, 4.0)] {
        let arguments = format!("--virtual --three {three} --ten {ten} --for {end}");
        let mut lines = vec![];
        for (rank, (interval, name)) in [(three, "three"), (ten, "ten")].into_iter().enumerate() {
            let times = (0..).map(|n| f64::from(n) * interval).take_while(|time| *time < end);
            lines.extend(
                times.map(|time| ((time * 1e3).round() as u64, rank, format!("{time:5.1} - {name}\n"))),
            );
        }
        lines.sort();
        let expected: String = lines.into_iter().map(|(_, _, line)| line).collect();
        assert_eq!(example("generator_round_robin", &arguments).0, expected, "{arguments}");
    }
}

#[test]
fn deque_scheduler_keeps_results_and_errors_by_id() {
    for (three, times, steps, fails) in [(3.0, 2, 3, 2), (1.5, 3, 5, 1), (0.7, 1, 2, 6)] {
        let arguments = format!("--virtual --three {three} --times {times} --steps {steps} --fails {fails}");
        let (printed, _) = example("deque_scheduler", &arguments);
        let mut expected = vec![];
        // The first turns, in which everybody has something to say.
        for turn in 1..=(steps.max(fails) + 1) {
            match turn {
                turn if turn <= steps => expected.push(format!("counting {turn}")),
                turn if turn == steps + 1 => expected.push(format!("task 0 completed: counted to {steps}")),
                _ => {}
            }
            match turn {
                turn if turn <= fails => expected.push(format!("{} before the failure", fails - turn)),
                turn if turn == fails + 1 => {
                    expected.push(format!("task 1 failed: no luck after {fails}"));
                }
                _ => {}
            }
            if turn == 1 {
                expected.push("  0.0 - keep alive".into());
            }
        }
        for time in 1..times {
            expected.push(format!("{:5.1} - keep alive", f64::from(time) * three));
        }
        expected.push(format!("task 2 completed: printed {times} times"));
        expected.push(format!(r#"completed: {{0: "counted to {steps}", 2: "printed {times} times"}}"#));
        expected.push(format!(r#"failed: {{1: "no luck after {fails}"}}"#));
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{arguments}");
    }
}

#[test]
fn coroutine_object_prints_each_step() {
    for (first, second) in [(1, 2), (5, 8), (-3, 40)] {
        let (printed, _) = example("coroutine_object", &format!("--first {first} --second {second}"));
        let sum = first + second;
        let expected = format!(
            r#"new: Coroutine [not started]
  body: started
start: Yielded(0)
  body: received {first}
send {first}: Yielded({first})
  body: received {second}
send {second}: Yielded({sum})
  body: caught "start again"
throw: Ok(Yielded(0))
  body: received {second}
send {second}: Yielded({second})
  body: clean-up
throw stop: Ok(Returned("total {second}"))
now: Coroutine [done]
send: the coroutine has ended: it returned, was closed, or panicked
throw: comes back as "too late"
  body: started
start another: Yielded(0)
close
  body: clean-up
now: Coroutine [done]
send: the coroutine has ended: it returned, was closed, or panicked
"#
        );
        assert_eq!(printed, expected);
    }
}

/// The user and the loop of `arrow_keys`, without any coroutine: what is printed, and how many keys are lost.
fn walk(period: f64, look: f64, steps: usize, seed: u64) -> (Vec<String>, u32) {
    let mut random = fastrand::Rng::with_seed(seed);
    let names = HashMap::from([
        ('r', ("right", 1, 0)),
        ('l', ("left", -1, 0)),
        ('u', ("up", 0, 1)),
        ('d', ("down", 0, -1)),
    ]);
    let (mut lines, mut dots, mut lost) = (vec![], String::new(), 0);
    let (mut x, mut y, mut seen) = (0, 0, 0);
    for turn in 0_u32.. {
        let millis = |seconds: f64| (seconds * 1e3).round() as u64;
        let periods = u64::from(turn) * millis(look) / millis(period) + 1;
        let mut present = None;
        while seen < periods {
            lost += u32::from(present.is_some());
            let pressed = random.f64() < 0.3;
            present = random.choice(['r', 'l', 'u', 'd']).filter(|_| pressed);
            seen += 1;
        }
        let Some(key) = present else {
            dots.push('.');
            continue;
        };
        let (name, right, up) = names[&key];
        (x, y) = (x + right, y + up);
        lines.push(std::mem::take(&mut dots));
        lines.push(format!("{name}: at {x}, {y}"));
        if lines.len() == 2 * steps {
            let seconds = f64::from(turn + 1) * look;
            lines.push(format!("bye: at {x}, {y} after {seconds:.1} s, {lost} key presses lost"));
            break;
        }
    }
    (lines, lost)
}

#[test]
fn arrow_keys_move_the_character_and_lost_ones_are_counted() {
    for (period, look, steps, seed) in [(1.0, 1.0, 5, 444), (0.1, 1.0, 5, 7), (0.5, 0.25, 8, 9)] {
        let arguments = format!("--virtual --period {period} --look {look} --steps {steps} --seed {seed}");
        let (printed, warnings) = example("arrow_keys", &arguments);
        let (expected, lost) = walk(period, look, steps, seed);
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{arguments}");
        assert_eq!(warnings.contains("warning"), lost > 0, "{arguments}: {warnings}");
        if lost > 0 {
            assert!(warnings.trim_end().ends_with(&format!("{lost} so far")), "{warnings}");
        }
    }
}

#[test]
fn async_generator_cleans_up_when_the_consumer_leaves_early() {
    for (row, close, enough, patience) in [(1.0, 0.5, 2, 2.0), (0.5, 0.25, 4, 1.3), (2.0, 1.0, 1, 8.5)] {
        let arguments =
            format!("--virtual --row {row} --close {close} --enough {enough} --patience {patience}");
        let mut expected = vec![format!("{close:5.1} opened")];
        let at = |n: u32| close + f64::from(n) * row;
        expected.extend((1..=enough).map(|n| format!("{:5.1} row {n}", at(n))));
        expected.push(format!("{:5.1} nobody wants more", at(enough)));
        expected.push(format!("{:5.1} closed", at(enough) + close));
        expected.push(format!("{:5.1} after the first consumer", at(enough) + close));
        expected.push(format!("{close:5.1} opened"));
        expected.extend((1..).take_while(|n| at(*n) < patience).map(|n| format!("{:5.1} row {n}", at(n))));
        expected.push(format!("{:5.1} closed", patience + close));
        expected.push(format!("{:5.1} after the second consumer: cancelled", patience + close));
        let (printed, _) = example("async_generator", &arguments);
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{arguments}");
    }
}
