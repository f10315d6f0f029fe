//! The water marks: when whoever writes is asked to pause, and when to go on.
//!
//! Pure. `paused` is the only state, so each order comes once, by turns.
//!
//! F1. low ≤ high.
//! F2. `rose` answers true only if not paused, and then it is; `fell` the other way round.

/// asyncio's marks: 64 KiB, and a quarter of it.
pub(crate) const HIGH: usize = 64 * 1024;

/// asyncio's high mark for TLS.
#[cfg(feature = "tls")]
pub(crate) const HIGH_TLS: usize = 512 * 1024;

/// What one connection's marks are, and whether its protocol is paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    high: usize,
    low: usize,
    /// What `high` is if nobody says.
    default_high: usize,
    paused: bool,
}

impl Flow {
    pub(crate) fn new(default_high: usize) -> Self {
        Self { high: default_high, low: default_high / 4, default_high, paused: false }
    }

    pub(crate) fn limits(&self) -> (usize, usize) {
        (self.low, self.high)
    }

    /// Derives the mark that is not given.
    ///
    /// # Panics
    ///
    /// The low mark is higher than the high one.
    pub(crate) fn set_limits(&mut self, high: Option<usize>, low: Option<usize>) {
        let high = high.unwrap_or_else(|| low.map_or(self.default_high, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high / 4);
        assert!(
            low <= high,
            "`set_write_buffer_limits` needs a low mark no higher than the high one, not {low} and {high}"
        );
        (self.high, self.low) = (high, low); // F1
    }

    /// For a connection that goes over to TLS: marks that nobody has set follow.
    #[cfg(feature = "tls")]
    pub(crate) fn set_default(&mut self, default_high: usize) {
        if (self.low, self.high) == (self.default_high / 4, self.default_high) {
            (self.low, self.high) = (default_high / 4, default_high);
        }
        self.default_high = default_high;
    }

    /// So many are unsent now. True: call `pause_writing` (F2).
    #[must_use = "true: call `pause_writing`"]
    pub(crate) fn rose(&mut self, unsent: usize) -> bool {
        let pauses = !self.paused && unsent > self.high;
        self.paused |= pauses;
        pauses
    }

    /// So many are still unsent. True: call `resume_writing` (F2).
    #[must_use = "true: call `resume_writing`"]
    pub(crate) fn fell(&mut self, unsent: usize) -> bool {
        let resumes = self.paused && unsent <= self.low;
        self.paused &= !resumes;
        resumes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_that_is_not_given_is_derived() {
        let limits = |high, low| {
            let mut flow = Flow::new(HIGH);
            flow.set_limits(high, low);
            flow.limits()
        };
        assert_eq!(Flow::new(HIGH).limits(), (16_384, 65_536));
        assert_eq!(limits(None, None), (16_384, 65_536));
        assert_eq!(limits(Some(100), None), (25, 100));
        assert_eq!(limits(None, Some(100)), (100, 400));
        assert_eq!(limits(Some(100), Some(100)), (100, 100));
        assert_eq!(limits(Some(0), None), (0, 0));
        assert_eq!(limits(None, Some(usize::MAX)), (usize::MAX, usize::MAX));
    }

    #[test]
    #[should_panic(expected = "`set_write_buffer_limits` needs a low mark no higher than the high one")]
    fn a_low_mark_above_the_high_one_is_a_mistake() {
        Flow::new(HIGH).set_limits(Some(1), Some(2));
    }

    #[test]
    fn each_order_comes_once_by_turns() {
        let mut flow = Flow::new(100);
        assert!(!flow.rose(100)); // at the mark is not above it
        assert!(flow.rose(101));
        assert!(!flow.rose(1000));
        assert!(!flow.fell(26));
        assert!(flow.fell(25));
        assert!(!flow.fell(0));
        assert!(flow.rose(101));
    }
}
