//! `vrift-bench`: native, floor and vrift-trace side by side, as a Markdown table and JSON.
//!
//! Exit status: 0 when every figure was taken, whatever it is; 1 when one could not be taken.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use vrift_bench::Failure;
use vrift_bench::run::calls::Ground;
use vrift_bench::run::report::{Figures, Markdown};
use vrift_bench::run::{self, Options, plots};

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vrift-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every figure was taken.
fn compare(options: &Options) -> Result<bool, Failure> {
    if let Some(directory) = &options.make_fixture {
        let mut problems = Vec::new();
        let ground = Ground::prepare(&directory.join("base"), true, &mut problems)?;
        for problem in problems {
            eprintln!("vrift-bench: no static program: {problem}");
        }
        let arguments = ground.arguments(&ground.base);
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        println!("calls {}", words.join(" "));
        return Ok(true);
    }
    if let (Some(from), Some(directory)) = (&options.from, &options.plots) {
        return draw(&plots::read(from)?, directory);
    }
    let figures = run::measure(options)?;
    let json = serde_json::to_string(&figures)
        .map_err(|error| Failure::io("cannot write JSON")(error.into()))?;
    let mut stdout = std::io::stdout();
    let print = Failure::io("cannot write to stdout");
    write!(stdout, "{}", Markdown(&figures)).map_err(print)?;
    match &options.json {
        Some(path) => std::fs::write(path, json)
            .map_err(Failure::io(format!("cannot write {}", path.display())))?,
        None => writeln!(stdout, "\n```json\n{json}\n```")
            .map_err(Failure::io("cannot write to stdout"))?,
    }
    if let Some(directory) = &options.plots {
        draw(&figures, directory)?;
    }
    Ok(figures.problems.is_empty())
}

/// Draws the tables and says where; always true.
fn draw(figures: &Figures, directory: &Path) -> Result<bool, Failure> {
    for path in plots::write(figures, directory)? {
        eprintln!("plots: {}", path.display());
    }
    Ok(true)
}
