//! The tables of what was measured beside other tools.

use std::fmt::{self, Write};

use crate::run::calls::labels;
use crate::run::peers::{Peer, Peers};
use crate::run::stats::{Samples, ratio};

use super::number;

pub(super) fn tables(out: &mut impl Write, peers: &Peers) -> fmt::Result {
    writeln!(
        out,
        "\n### Beside other tools\n\n{}, as above, and `find -size` over {} files; seconds, medians.\n",
        peers.project, peers.files
    )?;
    writeln!(
        out,
        "| tool | version | what the job gets | build | ÷ native | CPU ÷ native | walk | ÷ native | CPU ÷ native |"
    )?;
    writeln!(out, "|---|---|---|--:|--:|--:|--:|--:|--:|")?;
    let Some(native) = peers.peers.first() else { return Ok(()) };
    for peer in &peers.peers {
        write!(out, "| {} | {} | {}", peer.name, peer.version, peer.gives)?;
        for (cost, native) in [(&peer.build, &native.build), (&peer.walk, &native.walk)] {
            let wall = ratio(cost.wall.median(), native.wall.median());
            let cpu = ratio(cost.cpu.median(), native.cpu.median());
            write!(out, " | {} | {} | {}", number(cost.wall.median()), number(wall), number(cpu))?;
        }
        writeln!(out, " |")?;
    }
    if !peers.absent.is_empty() {
        writeln!(out, "\nNot installed: {}.", peers.absent.join(", "))?;
    }
    single_calls(out, native, &peers.peers[1..])
}

/// Times of single calls by native's, a column for each tool.
fn single_calls(out: &mut impl Write, native: &Peer, tools: &[Peer]) -> fmt::Result {
    if native.calls.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nSingle calls: microseconds natively, and by native's under each.\n")?;
    write!(out, "| call | native, µs |")?;
    tools.iter().try_for_each(|tool| write!(out, " {} |", tool.name))?;
    write!(out, "\n|---|--:|")?;
    tools.iter().try_for_each(|_| write!(out, "--:|"))?;
    writeln!(out)?;
    for (name, label) in labels() {
        let time = |tool: &Peer| tool.calls.get(name).and_then(Samples::median);
        let Some(native) = time(native) else { continue };
        write!(out, "| {label} | {} |", number(Some(native / 1e3)))?;
        for tool in tools {
            write!(out, " {} |", number(ratio(time(tool), Some(native))))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
