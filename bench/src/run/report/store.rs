//! The tables of the store.

use std::fmt::{self, Write};

use crate::run::build::mebibytes;
use crate::run::stats::ratio;
use crate::run::store::{Group, Manifests, Store};

use super::number;

pub(super) fn tables(out: &mut impl Write, store: &Store) -> fmt::Result {
    writeln!(out, "\n### The store")?;
    for group in &store.groups {
        steps(out, group)?;
    }
    if !store.absent.is_empty() {
        writeln!(out, "\nNot installed: {}.", store.absent.join(", "))?;
    }
    store.manifests.as_ref().map_or(Ok(()), |manifests| starts(out, manifests))
}

fn steps(out: &mut impl Write, group: &Group) -> fmt::Result {
    let mebibytes = mebibytes(group.bytes);
    writeln!(out, "\n{} files, {} MiB; seconds, medians.\n", group.files, number(Some(mebibytes)))?;
    writeln!(
        out,
        "| what | s, median | files/s | MiB/s | CPU s | ÷ | of | CPU ÷ | peak, MiB | aim, files/s |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|---|--:|--:|--:|")?;
    let files = u32::try_from(group.files).map(f64::from).ok();
    for step in &group.steps {
        let by = step.by.and_then(|by| group.steps.get(by));
        let cost = &step.cost;
        let (wall, cpu) = (cost.wall.median(), cost.cpu.median());
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            step.label,
            number(wall),
            number(ratio(files, wall)),
            number(ratio(Some(mebibytes), wall)),
            number(cpu),
            number(by.and_then(|by| ratio(wall, by.cost.wall.median()))),
            by.map_or("", |by| &by.label),
            number(by.and_then(|by| ratio(cpu, by.cost.cpu.median()))),
            number(cost.peak.median()),
            step.aim.map_or_else(String::new, |aim| format!("≥ {aim}")),
        )?;
    }
    Ok(())
}

fn starts(out: &mut impl Write, manifests: &Manifests) -> fmt::Result {
    writeln!(out, "\n| start | ms, median | ms over `true` | peak, MiB |\n|---|--:|--:|--:|")?;
    let native = manifests.native.took.median();
    let mounted = manifests.mounted.iter().map(|mounted| {
        (format!("`vrift-trace -m … -- true`, {} files", mounted.files), &mounted.start)
    });
    let others = [
        ("`true`".to_owned(), &manifests.native),
        ("`floor -- true`".to_owned(), &manifests.floor),
    ];
    for (label, start) in others.into_iter().chain(mounted) {
        let took = start.took.median();
        let over = took.zip(native).map(|(took, native)| took - native);
        let peak = start.peak.median();
        writeln!(out, "| {label} | {} | {} | {} |", number(took), number(over), number(peak))?;
    }
    Ok(())
}
