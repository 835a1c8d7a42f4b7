//! `calls BASE OTHER`: times single system calls and prints JSON, `{name: {min, median}}` in ns.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vrift_bench::Failure;
use vrift_bench::guest::{self, Effort};

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
    let effort =
        Effort { batches: options.batches, batch: Duration::from_millis(options.batch_ms.max(1)) };
    let times = guest::measure(&options.base, &options.other, effort, &options.only)?;
    let json = serde_json::to_string(&times)
        .map_err(|error| Failure::io("cannot write JSON")(error.into()))?;
    writeln!(std::io::stdout(), "{json}").map_err(Failure::io("cannot write to stdout"))
}
