//! `floor [OPTIONS] -- CMD…`: runs a command under the least supervisor and passes its exit status.

use std::ffi::{CString, OsString};
use std::num::NonZero;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vrift_bench::Failure;
use vrift_bench::floor::{self, answers::Answers};

/// The least supervisor: it is notified of every call that names a file, reads the path and lets
/// the kernel go on. What it costs is the floor for anything built on user notification.
#[derive(Debug, Parser)]
#[command(name = "floor", version)]
struct Options {
    /// Answer read-only look-ups and opens of this path from memory, as a projection would
    /// (repeatable; a file, a symbolic link or a path that is not there)
    #[arg(long, value_name = "PATH")]
    answer: Vec<OsString>,
    /// Receiving threads [default: one for each CPU]
    #[arg(long, value_name = "N")]
    receivers: Option<NonZero<usize>>,
    /// Write what the run was (notifications, kernel features) to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::from(125)
        }
    }
}

fn run(options: Options) -> Result<u8, Failure> {
    let argv = options
        .command
        .into_iter()
        .map(|arg| {
            CString::new(arg.into_vec()).map_err(|error| Failure::io("bad argument")(error.into()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let answers = Answers::prepare(options.answer)?;
    let report = floor::supervise(&argv, answers, options.receivers)?;
    if let Some(path) = options.report {
        let json = serde_json::to_vec(&report)
            .map_err(|error| Failure::io("cannot write the report as JSON")(error.into()))?;
        std::fs::write(&path, json)
            .map_err(Failure::io(format!("cannot write {}", path.display())))?;
    }
    Ok(report.status)
}
