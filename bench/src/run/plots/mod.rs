//! The tables as pictures: for each one an SVG file with a bar for each ratio to native.

mod charts;
mod drawing;

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

use super::report::Figures;

/// What is drawn of one table.
#[derive(Debug)]
struct Chart {
    /// The file's name, without its extension.
    name: &'static str,
    title: String,
    /// What a bar is, for each of a row's bars.
    series: Vec<&'static str>,
    rows: Vec<Row>,
}

/// Bars that belong together; one that was not measured is `None`.
#[derive(Debug)]
struct Row {
    label: String,
    ratios: Vec<Option<f64>>,
}

/// Writes a file for each table of `figures` into `directory`, which is made if it isn't there; the
/// files' paths.
///
/// # Errors
/// Those of writing.
pub fn write(figures: &Figures, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(directory)
        .map_err(Failure::io(format!("cannot make {}", directory.display())))?;
    let machine = &figures.machine;
    let commit = figures.commit.as_deref().unwrap_or("no commit known");
    let mut below = format!(
        "{}, {} CPUs, {}, Linux {}; {commit}",
        machine.processor, machine.cpus, machine.architecture, machine.kernel
    );
    if machine.is_busy() {
        below.push_str("; others were running");
    }
    let mut written = Vec::new();
    for chart in charts::of(figures) {
        let path = directory.join(chart.name).with_extension("svg");
        fs::write(&path, drawing::draw(&chart, &below))
            .map_err(Failure::io(format!("cannot write {}", path.display())))?;
        written.push(path);
    }
    Ok(written)
}

/// The figures that an earlier run wrote with `--json`.
///
/// # Errors
/// The file can't be read, or isn't what a run wrote.
pub fn read(path: &Path) -> Result<Figures, Failure> {
    let text = fs::read(path).map_err(Failure::io(format!("cannot read {}", path.display())))?;
    serde_json::from_slice(&text).map_err(|error| {
        let doing = format!("{} isn't what `--json` writes", path.display());
        Failure::io(doing)(error.into())
    })
}
