//! The command line of `vrift-trace`.

mod agent;
mod args;
mod demo;
mod doctor;
pub(crate) mod furnish;
mod kept;
mod learn;
mod policy;
mod profile;
mod recorded;
mod report;
pub(crate) mod run;
pub(crate) mod stores;
mod syscalls;

pub use args::Cli;

use clap::{CommandFactory, Parser};
use std::process::ExitCode;

/// vrift-trace's own failures end with this.
pub const OURS: u8 = 125;

/// One line for the user: what, on what, why, what to do.
pub type Complaint = String;

/// Runs the program.
pub fn main() -> ExitCode {
    crate::sys::process::default_sigpipe();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // --help and --version are no failures; they go to stdout.
            let status = if e.use_stderr() { OURS } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    diagnostics();
    let done = match &cli.command {
        Some(args::Command::Agent(options)) => agent::run(options),
        Some(args::Command::Demo(options)) => demo::run(options),
        Some(args::Command::Doctor(options)) => doctor::run(options),
        Some(args::Command::Policy(command)) => policy::run(command),
        Some(args::Command::Profile(command)) => profile::run(command),
        Some(args::Command::Learn(options)) => learn::run(options),
        Some(args::Command::Report(options)) => report::report(options),
        Some(args::Command::Explain(options)) => report::explain(options),
        Some(args::Command::Syscalls(options)) => syscalls::run(options),
        Some(args::Command::Diff { job, json, no_times }) => {
            stores::store(&cli).and_then(|store| kept::diff(&store, job, *json, !no_times))
        }
        Some(args::Command::Commit { job, name }) => {
            stores::store(&cli).and_then(|store| kept::commit(&store, job, name))
        }
        Some(args::Command::Discard { job }) => {
            stores::store(&cli).and_then(|store| kept::discard(&store, job))
        }
        Some(args::Command::Completions { shell }) => {
            let mut command = Cli::command();
            clap_complete::generate(*shell, &mut command, "vrift-trace", &mut std::io::stdout());
            Ok(0)
        }
        Some(args::Command::Man) => clap_mangen::Man::new(Cli::command())
            .render(&mut std::io::stdout())
            .map(|()| 0)
            .map_err(|e| format!("writing the man page: {e}")),
        None => run::run(&cli),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(complaint) => {
            eprintln!("vrift-trace: {complaint}");
            ExitCode::from(OURS)
        }
    }
}

/// Diagnostics on stderr as `VRIFT_DEBUG` asks.
fn diagnostics() {
    let Some(filter) = std::env::var_os("VRIFT_DEBUG") else { return };
    let filter = filter.to_string_lossy();
    let filter = match filter.as_ref() {
        "" | "0" => return,
        "1" => "debug",
        other => other,
    };
    match tracing_subscriber::EnvFilter::try_new(filter) {
        Ok(filter) => {
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(std::env::var_os("NO_COLOR").is_none() && is_terminal())
                .init();
        }
        Err(e) => eprintln!("vrift-trace: VRIFT_DEBUG is no filter: {e}; try VRIFT_DEBUG=1"),
    }
}

/// Is stderr a terminal?
fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}
