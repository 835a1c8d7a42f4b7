//! The table of whole jobs.

use std::fmt::{self, Write};

use crate::run::build::Cost;
use crate::run::jobs::Jobs;
use crate::run::stats::ratio;

use super::number;

pub(super) fn table(out: &mut impl Write, jobs: &Jobs) -> fmt::Result {
    writeln!(
        out,
        "\n### Whole jobs\n\nSeconds, medians; a floor and the native run on a real tree. The peak is the \
         supervisor's memory.\n"
    )?;
    writeln!(
        out,
        "| job | native, s | floor, s | vrift-trace, s | ÷ native | ÷ floor | CPU ÷ native | CPU ÷ floor | `-o`, s | ÷ native | ÷ floor | peak, MiB | peak `-o`, MiB | floor's peak, MiB |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    let wall = |cost: &Cost| cost.wall.median();
    let cpu = |cost: &Cost| cost.cpu.median();
    for row in &jobs.rows {
        let (native, floor) = (&row.native, &row.floor);
        let (trace, recorded) = (&row.trace, &row.recorded);
        let cells = [
            wall(native),
            wall(floor),
            wall(trace),
            ratio(wall(trace), wall(native)),
            ratio(wall(trace), wall(floor)),
            ratio(cpu(trace), cpu(native)),
            ratio(cpu(trace), cpu(floor)),
            wall(recorded),
            ratio(wall(recorded), wall(native)),
            ratio(wall(recorded), wall(floor)),
            trace.peak.median(),
            recorded.peak.median(),
            floor.peak.median(),
        ];
        writeln!(out, "| {} | {} |", row.label, cells.map(number).join(" | "))?;
    }
    if !jobs.absent.is_empty() {
        writeln!(out, "\nNot installed: {}.", jobs.absent.join(", "))?;
    }
    Ok(())
}
