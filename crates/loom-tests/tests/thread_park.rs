//! Models of core's `ThreadPark`.

use evenloop_core::shim::{StdArc, thread};
use evenloop_core::{Park, ThreadPark};
use evenloop_loom_tests::{Witness, model};

/// Does a parked thread see what was written before the unpark, and does every unpark end the park?
#[test]
fn unpark_races_park() {
    model(|| {
        let mut park = ThreadPark::new();
        let unparker = park.unparker();
        let witness = StdArc::new(Witness::new(0));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                witness.set(1);
                unparker.unpark();
            }
        });
        park.park(None).unwrap();
        assert_eq!(witness.get(), 1);
        other.join().unwrap();
    });
}
