//! A hand-written awaitable that talks to a hand-written loop; async functions are the pipe between the two.
//!
//! A simulated user presses an arrow key now and then. The loop looks at the keyboard once a `--look`, and resumes the
//! character with what it saw; the awaitable at the other end waits until that is a key. Keys that come faster than the
//! loop looks are lost, and counted, with a warning.
//!
//! ```text
//! cargo run -p evenloop --example arrow_keys
//! cargo run -p evenloop --example arrow_keys -- --virtual --period 0.1 --seed 7
//! ```

mod support;

use evenloop::coroutine::{Co, Coroutine, Resumed};
use evenloop::time::{Clock, VirtualClock};
use std::io::Write as _;
use std::time::{Duration, Instant};
use support::options;

#[derive(Clone, Copy)]
enum Key {
    Right,
    Left,
    Up,
    Down,
}

// === The framework: the awaitable and the loop, at the two ends of the pipe ===

/// What an async function needs in order to wait for keys.
struct Keyboard<'a>(Co<'a, Option<Key>, ()>);

impl Keyboard<'_> {
    /// Waits until a key is pressed: asks the loop, look by look.
    async fn key(&mut self) -> Key {
        loop {
            if let Some(key) = self.0.yield_(()).await {
                println!();
                return key;
            }
            print!(".");
            std::io::stdout().flush().expect("standard output is open");
        }
    }
}

/// The simulated user: every period a key, or none.
struct User {
    clock: Clock,
    random: fastrand::Rng,
    period: Duration,
    start: Instant,
    /// Periods that have been looked at, or missed.
    seen: u32,
    lost: u32,
}

impl User {
    /// The key of the present period, if one was pressed and has not been looked at.
    fn look(&mut self) -> Option<Key> {
        let now = (self.clock.now() - self.start).as_nanos() / self.period.as_nanos();
        let now = u32::try_from(now).expect("an example does not run that long") + 1;
        let mut key = None;
        let mut missed = 0;
        while self.seen < now {
            missed += u32::from(key.is_some());
            key = self.press();
            self.seen += 1;
        }
        if missed > 0 {
            self.lost += missed;
            eprintln!(
                "warning: {missed} key presses came between two looks and are lost, {} so far",
                self.lost
            );
        }
        key
    }

    fn press(&mut self) -> Option<Key> {
        let pressed = self.random.f64() < 0.3;
        let key = self.random.choice([Key::Right, Key::Left, Key::Up, Key::Down]);
        key.filter(|_| pressed)
    }
}

// === The program: async functions ===

async fn one_step(keyboard: &mut Keyboard<'_>, at: &mut (i32, i32)) {
    let (name, by) = match keyboard.key().await {
        Key::Right => ("right", (1, 0)),
        Key::Left => ("left", (-1, 0)),
        Key::Up => ("up", (0, 1)),
        Key::Down => ("down", (0, -1)),
    };
    *at = (at.0 + by.0, at.1 + by.1);
    println!("{name}: at {}, {}", at.0, at.1);
}

async fn move_character(mut keyboard: Keyboard<'_>, steps: u32) -> (i32, i32) {
    let mut at = (0, 0);
    for _ in 0..steps {
        one_step(&mut keyboard, &mut at).await;
    }
    at
}

fn main() {
    let options = options(
        "Arrow keys, an awaitable and a loop of one's own",
        &[
            ("period", 1.0, "seconds between two chances of a key press"),
            ("look", 1.0, "seconds between two looks of the loop"),
            ("steps", 5.0, "steps to go"),
        ],
    );
    let clock = if options.virtual_clock { VirtualClock::new().into() } else { Clock::Real };
    let (period, look) = (options.seconds("period"), options.seconds("look"));
    let (start, random) = (clock.now(), options.random());
    let mut user = User { clock: clock.clone(), random, period, start, seen: 0, lost: 0 };

    let steps = options.number("steps") as u32;
    let mut character = Coroutine::new(async |co| move_character(Keyboard(co), steps).await);
    let mut seen = None;
    let end = loop {
        match character.resume(seen) {
            Resumed::Yielded(()) => {}
            Resumed::Returned(at) => break at,
        }
        seen = user.look();
        clock.sleep_blocking(look);
    };
    let seconds = (clock.now() - start).as_secs_f64();
    println!("bye: at {}, {} after {seconds:.1} s, {} key presses lost", end.0, end.1, user.lost);
}
