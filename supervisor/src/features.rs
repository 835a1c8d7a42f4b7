//! What the running kernel has, where it takes part in the answers, and what of it is not to be
//! used: older kernels can be tried on a newer one.

use crate::sys::process::knows_call;
use crate::table::{Arch, ROWS};
use std::ffi::OsStr;

/// Names the features that are done without, separated by commas.
pub const VARIABLE: &str = "VRIFT_WITHOUT";

/// Features that a job does without though the kernel may have them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Without {
    /// `wait-killable`: as before Linux 5.19.
    pub wait_killable: bool,
    /// `sync-wake-up`: as before Linux 6.6.
    pub sync_wake_up: bool,
}

impl Without {
    /// Reads [`VARIABLE`].
    pub fn of_environment() -> Result<Without, String> {
        Without::parse(&std::env::var_os(VARIABLE).unwrap_or_default())
    }

    fn parse(text: &OsStr) -> Result<Without, String> {
        let mut without = Without::default();
        for word in text.to_string_lossy().split(',').filter(|word| !word.is_empty()) {
            match word {
                "wait-killable" => without.wait_killable = true,
                "sync-wake-up" => without.sync_wake_up = true,
                _ => {
                    return Err(format!(
                        "{VARIABLE}: there is no {word}; it takes wait-killable and sync-wake-up"
                    ));
                }
            }
        }
        Ok(without)
    }
}

/// The calls that this kernel doesn't have, of those that came after Linux 5.14 and so may be
/// missing. From [`AbsentCalls::FIRST`] on a call has one number on all architectures.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AbsentCalls(u64);

impl AbsentCalls {
    /// process_mrelease (5.15).
    const FIRST: u32 = 448;

    /// Asks the kernel for each call of the table.
    pub fn of_this_kernel() -> AbsentCalls {
        AbsentCalls::among(ROWS.iter().filter_map(|row| row.number(Arch::NATIVE)))
    }

    fn among(numbers: impl IntoIterator<Item = u32>) -> AbsentCalls {
        let young = numbers.into_iter().filter_map(|nr| Some((nr, Self::bit(nr)?)));
        let absent = young.filter(|(nr, _)| !knows_call(*nr));
        AbsentCalls(absent.fold(0, |all, (_, bit)| all | bit))
    }

    fn bit(nr: u32) -> Option<u64> {
        1u64.checked_shl(nr.checked_sub(Self::FIRST)?)
    }

    /// Is `nr` one of them?
    pub fn has(self, nr: u32) -> bool {
        Self::bit(nr).is_some_and(|bit| self.0 & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_features_can_be_done_without() {
        let parse = |text: &str| Without::parse(text.as_ref());
        assert_eq!(parse(""), Ok(Without::default()));
        let both = Without { wait_killable: true, sync_wake_up: true };
        assert_eq!(parse("sync-wake-up,wait-killable"), Ok(both));
        assert!(parse("wait-killable,speed").is_err_and(|e| e.contains("no speed")));
    }

    #[test]
    fn a_call_that_no_kernel_has_is_absent() {
        const NEVER: u32 = 511;
        const PROCESS_MRELEASE: u32 = 448;
        let absent = AbsentCalls::among([NEVER, PROCESS_MRELEASE, 0]);
        assert!(absent.has(NEVER));
        // Known by its errno alone: the oldest kernels that this runs on have it.
        assert!(!absent.has(PROCESS_MRELEASE));
        assert!(!absent.has(0) && !absent.has(u32::MAX));
    }
}
