//! `calls BASE OTHER`: times single system calls and prints JSON, `{name: {min, median}}` in ns; with
//! `--tasks N` what each of N processes got done that made one call at once.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vrift_bench::Failure;
use vrift_bench::guest::{self, Effort, crowd};

/// Times single system calls on a fixture tree. Run it natively on a real tree, under `floor` on
/// the same, and under `vrift-trace` on its projection.
#[derive(Debug, Parser)]
#[command(name = "calls", version)]
struct Options {
    /// The fixture tree (`vrift-bench --make-fixture DIR` makes one)
    base: PathBuf,
    /// A real file of 4096 bytes that is under no mount
    other: PathBuf,
    /// Batches for each operation
    #[arg(long, default_value_t = 11)]
    batches: usize,
    /// Length of a batch in milliseconds
    #[arg(long, default_value_t = 10)]
    batch_ms: u64,
    /// Only operations whose name contains this (repeatable)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Not this operation (repeatable)
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Have so many processes make one call at once, the one that --only names; prints for each the
    /// calls it got done, and the time of 99 of 100 of them and of the longest in ns
    #[arg(long, value_name = "N", requires = "only")]
    tasks: Option<usize>,
    /// How long they do so, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "tasks")]
    task_ms: u64,
    /// Be one of these processes
    #[arg(long, hide = true, requires = "only", conflicts_with = "tasks")]
    member: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let only = options.only.first().map_or("", String::as_str);
    if options.member {
        return crowd::member(&options.base, &options.other, only);
    }
    if let Some(tasks) = options.tasks {
        let length = Duration::from_millis(options.task_ms);
        return print(&crowd::measure(&options.base, &options.other, only, tasks, length)?);
    }
    let effort =
        Effort { batches: options.batches, batch: Duration::from_millis(options.batch_ms.max(1)) };
    print(&guest::measure(&options.base, &options.other, effort, &options.only, &options.without)?)
}

fn print(figures: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string(figures)
        .map_err(|error| Failure::io("cannot write JSON")(error.into()))?;
    writeln!(std::io::stdout(), "{json}").map_err(Failure::io("cannot write to stdout"))
}
