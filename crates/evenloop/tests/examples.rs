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
