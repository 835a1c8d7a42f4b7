//! By when an event has to be answered.
//!
//! A client that misses a deadline is ended by the system, and the event is allowed. So the answer
//! goes out when four fifths of the time have passed, whatever it is by then.

/// Of the time that ES gives, how much is used: in hundredths.
pub const USED: u64 = 80;

/// The time for one answer, in nanoseconds of the machine's clock.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    received: u64,
    deadline: u64,
}

impl Budget {
    /// From when the event was received until its deadline.
    #[must_use]
    pub const fn new(received: u64, deadline: u64) -> Budget {
        Budget { received, deadline }
    }

    /// The moment to answer at the latest. At once, for a deadline that has passed.
    #[must_use]
    pub const fn answer_by(self) -> u64 {
        let whole = self.deadline.saturating_sub(self.received);
        // Hours of nanoseconds times 80 fit; a deadline of years is cut short, which is harmless.
        self.received.saturating_add(whole.saturating_mul(USED) / 100)
    }

    /// Nanoseconds that are left; 0: answer now.
    #[must_use]
    pub const fn left(self, now: u64) -> u64 {
        self.answer_by().saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn four_fifths_are_used() {
        let budget = Budget::new(1_000, 2_000);
        assert_eq!(budget.answer_by(), 1_800);
        assert_eq!(budget.left(1_000), 800);
        assert_eq!(budget.left(1_799), 1);
        assert_eq!(budget.left(1_800), 0);
        assert_eq!(budget.left(9_999), 0);
    }

    #[test]
    fn odd_deadlines_are_answered_at_once_or_in_time() {
        assert_eq!(Budget::new(2_000, 1_000).left(2_000), 0);
        assert_eq!(Budget::new(5, 5).left(5), 0);
        let forever = Budget::new(0, u64::MAX);
        assert!(forever.answer_by() < u64::MAX && forever.left(0) > 0);
        assert!(Budget::new(u64::MAX - 1, u64::MAX).answer_by() >= u64::MAX - 1);
    }
}
