//! The chess exhibition: one master against many, one board after another and from board to board.
//!
//! The master can be at one board at a time, so she is a lock; while an opponent thinks, she is elsewhere.
//!
//! ```text
//! cargo run -p evenloop --example chess_exhibition -- --virtual
//! ```

mod support;

use evenloop::sync::Lock;
use evenloop::{gather_all, sleep};
use std::time::Duration;
use support::{Stopwatch, options};

/// One game; answers when the master made her last move in it.
async fn play(watch: &Stopwatch, master: &Lock<()>, pairs: usize, hers: Duration, theirs: Duration) -> f64 {
    let mut last_move = 0.0;
    for _ in 0..pairs {
        let at_the_board = master.acquire().await;
        sleep(hers).await;
        drop(at_the_board);
        last_move = watch.seconds();
        sleep(theirs).await;
    }
    last_move
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn main() {
    let options = options(
        "A chess master plays many amateurs",
        &[
            ("boards", 24.0, "how many opponents"),
            ("pairs", 30.0, "pairs of moves in a game"),
            ("master", 5.0, "seconds that the master takes for a move"),
            ("opponent", 55.0, "seconds that an opponent takes"),
        ],
    );
    let (boards, pairs) = (options.number("boards") as usize, options.number("pairs") as usize);
    let (hers, theirs) = (options.seconds("master"), options.seconds("opponent"));
    options.run(async move {
        let watch = Stopwatch::start();
        for _ in 0..boards {
            play(&watch, &Lock::new(()), pairs, hers, theirs).await;
        }
        println!("one board after another: {}", clock(watch.seconds()));

        let (watch, master) = (std::rc::Rc::new(Stopwatch::start()), std::rc::Rc::new(Lock::new(())));
        let games = (0..boards).map(|_| {
            let (watch, master) = (watch.clone(), master.clone());
            async move { play(&watch, &master, pairs, hers, theirs).await }
        });
        let last_moves = gather_all(games).await;
        let last_move = last_moves.into_iter().fold(0.0, f64::max);
        println!("from board to board: {}", clock(last_move));
        println!("the last reply: {}", clock(watch.seconds()));
    });
}
