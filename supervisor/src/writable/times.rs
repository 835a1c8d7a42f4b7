//! The times that utimensat(2) and its elders give, from the caller's memory.

use crate::calls::Call;
use crate::table::Arch;
use vrift_policy::Errno;
use vrift_projection::overlay::{Time, now};

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// What becomes of one time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum New {
    /// It stays.
    Omit,
    /// It becomes what the clock says.
    Now,
    /// It becomes this.
    At(Time),
}

impl New {
    /// The time to set; `old` stays where nothing is to be set.
    pub fn or(self, old: Time) -> Time {
        match self {
            New::Omit => old,
            New::Now => now(),
            New::At(time) => time,
        }
    }

    /// As utimensat(2) wants it.
    pub fn timespec(self) -> rustix::fs::Timespec {
        let (tv_sec, tv_nsec) = match self {
            New::Omit => (0, UTIME_OMIT),
            New::Now => (0, UTIME_NOW),
            New::At((seconds, nanoseconds)) => (seconds, i64::from(nanoseconds)),
        };
        rustix::fs::Timespec { tv_sec, tv_nsec }
    }
}

/// How a call of the family writes its times.
struct Layout {
    /// The argument with their address.
    argument: u8,
    /// Bytes of the seconds, and of the fraction.
    width: usize,
    /// The fraction of a second: none, microseconds, or nanoseconds.
    unit: Unit,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Unit {
    None,
    Micro,
    Nano,
}

fn layout(call: &Call<'_>) -> Layout {
    let narrow = call.caller.arch == Arch::I386;
    let word = if narrow { 4 } else { 8 };
    match call.row.name {
        "utime" => Layout { argument: 1, width: word, unit: Unit::None },
        "utimes" => Layout { argument: 1, width: word, unit: Unit::Micro },
        "futimesat" => Layout { argument: 2, width: word, unit: Unit::Micro },
        "utimensat_time64" => Layout { argument: 2, width: 8, unit: Unit::Nano },
        _ => Layout { argument: 2, width: word, unit: Unit::Nano },
    }
}

/// Access and modification time; a null address means now for both.
pub fn read(call: &Call<'_>) -> Result<[New; 2], Errno> {
    let layout = layout(call);
    let address = call.caller.arg(layout.argument);
    if address == 0 {
        return Ok([New::Now; 2]);
    }
    let words = if layout.unit == Unit::None { 2 } else { 4 };
    let mut bytes = [0u8; 32];
    call.caller.read_exact(address, &mut bytes[..words * layout.width])?;
    let word = |i: usize| {
        let at = i * layout.width;
        let mut word = [0u8; 8];
        word[..layout.width].copy_from_slice(&bytes[at..at + layout.width]);
        match layout.width {
            4 => i64::from(i32::from_ne_bytes([word[0], word[1], word[2], word[3]])),
            _ => i64::from_ne_bytes(word),
        }
    };
    let time = |seconds: usize, fraction: Option<usize>| {
        let seconds = word(seconds);
        let Some(fraction) = fraction.map(word) else { return Ok(New::At((seconds, 0))) };
        // 32-bit callers may leave anything in the upper half.
        let narrow = layout.width == 8 && call.caller.arch == Arch::I386;
        let fraction = if narrow { fraction & 0xffff_ffff } else { fraction };
        match (layout.unit, fraction) {
            (Unit::Nano, UTIME_NOW) => Ok(New::Now),
            (Unit::Nano, UTIME_OMIT) => Ok(New::Omit),
            (Unit::Nano, 0..1_000_000_000) => {
                Ok(New::At((seconds, u32::try_from(fraction).unwrap_or(0))))
            }
            (Unit::Micro, 0..1_000_000) => {
                Ok(New::At((seconds, u32::try_from(fraction * 1000).unwrap_or(0))))
            }
            _ => Err(Errno::EINVAL),
        }
    };
    match layout.unit {
        Unit::None => Ok([time(0, None)?, time(1, None)?]),
        _ => Ok([time(0, Some(1))?, time(2, Some(3))?]),
    }
}
