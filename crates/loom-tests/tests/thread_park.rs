//! Models of core's `ThreadPark`.

use evenloop_core::shim::{StdArc, UnsafeCell, thread};
use evenloop_core::{Park, ThreadPark};
use evenloop_loom_tests::model;

/// Data that one thread writes before it unparks another.
struct Witness(UnsafeCell<u32>);

// SAFETY: the models below claim that park and unpark order all access; loom checks the claim.
unsafe impl Send for Witness {}
// SAFETY: as above.
unsafe impl Sync for Witness {}

/// Does a parked thread see what was written before the unpark, and does every unpark end the park?
#[test]
fn unpark_races_park() {
    model(|| {
        let mut park = ThreadPark::new();
        let unparker = park.unparker();
        let witness = StdArc::new(Witness(UnsafeCell::new(0)));
        let other = thread::spawn({
            let witness = witness.clone();
            move || {
                // SAFETY: the owner reads only after this unpark.
                witness.0.with_mut(|cell| unsafe { *cell = 1 });
                unparker.unpark();
            }
        });
        park.park(None).unwrap();
        // SAFETY: the writer unparked us, and writes no more.
        assert_eq!(witness.0.with(|cell| unsafe { *cell }), 1);
        other.join().unwrap();
    });
}
