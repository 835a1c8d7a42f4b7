//! The table of crowds.

use std::fmt::{self, Write};

use crate::run::contention::Row;
use crate::run::stats::ratio;

use super::number;

pub(super) fn table(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(
        out,
        "\n### Many at once\n\nThousands of calls in a second, of all processes together, medians; what is divided \
         is the time for each. 99 of 100 calls \
         take that many microseconds at most, for the process that fares worst. The slowest process's \
         share is 1 when all get the same.\n"
    )?;
    writeln!(
        out,
        "| call, processes | native, 1000/s | floor | vrift-trace | ÷ native | ÷ floor | p99 native, µs | floor | vrift-trace | share native | floor | vrift-trace |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in rows {
        let [native, floor, trace] = [&row.native, &row.floor, &row.trace];
        write!(out, "| {}, {}", row.label, row.tasks)?;
        for served in [native, floor, trace] {
            write!(out, " | {}", number(served.calls.median().map(|calls| calls / 1e3)))?;
        }
        for by in [native, floor] {
            write!(out, " | {}", number(ratio(by.calls.median(), trace.calls.median())))?;
        }
        for served in [native, floor, trace] {
            write!(out, " | {}", number(served.worst_p99.median()))?;
        }
        for served in [native, floor, trace] {
            write!(out, " | {}", number(served.share.median()))?;
        }
        writeln!(out, " |")?;
    }
    Ok(())
}
