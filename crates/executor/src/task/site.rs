//! Where a task was spawned, in four bytes.
//!
//! The compiler keeps its `Location`s among the program's constants, and those lie within 2 GiB of each other. So how far
//! one is from another says which it is. One that lies elsewhere, in a library that was loaded while the program ran, does
//! not fit: then the task keeps the address in its annex.

use std::panic::Location;
use std::ptr;

/// How far a location lies from [`ANCHOR`].
#[derive(Clone, Copy)]
pub(super) struct Site(i32);

const _: () = assert!(align_of::<Location<'static>>() > Site::MARK as usize);

static ANCHOR: Location<'static> = *Location::caller();

impl Site {
    /// That of the anchor, where nothing is spawned.
    pub(super) const NOWHERE: Self = Self(0);
    /// A bit that the bits of a site do not have: locations are aligned.
    pub(super) const MARK: u32 = 1;

    #[inline]
    pub(super) const fn to_bits(self) -> u32 {
        self.0 as u32
    }

    /// The bits must be those of a site.
    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits as i32)
    }

    /// A location that does not fit.
    pub(super) const FAR: Self = Self(i32::MIN);

    #[inline]
    pub(super) fn of(location: &'static Location<'static>) -> Option<Self> {
        let address = ptr::from_ref(location).expose_provenance();
        let distance = address.wrapping_sub(ptr::from_ref(&ANCHOR).addr()) as isize;
        i32::try_from(distance).ok().filter(|&distance| distance != Self::FAR.0).map(Self)
    }

    /// The location; `None` if it did not fit.
    pub(super) fn get(self) -> Option<&'static Location<'static>> {
        if self.0 == Self::FAR.0 {
            return None;
        }
        let address = ptr::from_ref(&ANCHOR).addr().wrapping_add_signed(self.0 as isize);
        // SAFETY: `of` measured the distance from a location that lives for ever, and exposed it.
        Some(unsafe { &*ptr::with_exposed_provenance(address) })
    }
}

#[cfg(all(test, not(evenloop_loom)))]
mod tests {
    use super::*;
    use evenloop_core::shim::OnceLock;

    #[test]
    fn a_location_of_the_program_is_found_again() {
        let here = Location::caller();
        let site = Site::of(here).expect("the program is smaller than 2 GiB");
        assert!(ptr::eq(site.get().unwrap(), here));
    }

    #[test]
    fn one_that_lies_far_away_is_refused() {
        static FAR: OnceLock<Vec<Location<'static>>> = OnceLock::new();
        // Large enough to be a mapping of its own.
        let far = FAR.get_or_init(|| vec![*Location::caller(); 100_000]);
        let distance = far[0..1].as_ptr().addr().abs_diff(ptr::from_ref(&ANCHOR).addr());
        if distance > 1 << 31 {
            assert!(Site::of(&far[0]).is_none());
        }
        assert!(Site::FAR.get().is_none());
    }
}
