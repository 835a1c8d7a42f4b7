//! `vrift`: looks after the store. This file turns arguments into a command and its outcome into
//! an exit status; the commands themselves stand beside it, the work is done by the library.

mod args;
mod daemon;
mod fetch;
mod gc;
mod inspect;
mod output;
mod pages;
mod protect;
mod remote;
mod transfer;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use vrift_store::Store;

use args::{Cli, Command};
use output::{Failure, Out};

/// What a command found, when it didn't fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Status 0.
    Fine,
    /// Status 1: differences, damage, unreadable files.
    Found,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    raise_descriptor_limit();
    let mut out = Out::new(cli.json);
    let result = run(cli, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        // Whoever read our output has seen enough: `vrift ls x | head -1`.
        Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            complain(&message);
            ExitCode::from(125)
        }
    }
}

fn run(cli: Cli, out: &mut Out) -> Result<Outcome, Failure> {
    let root = || match &cli.store {
        Some(root) => Ok(root.clone()),
        None => Store::default_root(),
    };
    let open = || Store::open(&root()?);
    match cli.command {
        Command::Ingest(args) => transfer::ingest(&root()?, &args, out),
        Command::Export { from, to, link } => {
            transfer::export(&open()?, &from, &to, link.into(), out)
        }
        Command::Verify { tree, quarantine, repair: None, .. } => {
            transfer::verify(&open()?, tree.as_deref(), quarantine, out)
        }
        Command::Verify { tree, repair: Some(from), asking, .. } => {
            remote::repair(open()?, tree.as_deref(), &from, &asking, out)
        }
        Command::Push { refs, remote, asking } => {
            remote::push(open()?, &refs, &remote, &asking, out)
        }
        Command::Pull { remote, refs, lazy, profile, asking } => {
            remote::pull(&root()?, &remote, &refs, (lazy, profile.as_deref()), &asking, out)
        }
        Command::Fetch(args) => fetch::fetch(open()?, &args),
        Command::Ls(args) => inspect::ls(&open()?, &args, out),
        Command::Cat { file } => inspect::cat(&open()?, &file, out),
        Command::Diff { old, new, no_times } => inspect::diff(&open()?, &old, &new, no_times, out),
        Command::Refs => inspect::refs(&open()?, out),
        Command::Tag { from, new } => inspect::tag(&open()?, &from, &new, out),
        Command::Rm { name } => inspect::rm(&open()?, &name, out),
        Command::Gc(args) => gc::gc(&open()?, &args, out),
        Command::Protect(args) => protect::protect(&open()?, &args, out),
        Command::Unprotect(args) => protect::unprotect(&open()?, &args, out),
        Command::Daemon { what } => daemon::daemon(open()?, &what, out),
        Command::Stats => inspect::stats(&open()?, out),
        Command::Completions { shell } => pages::completions(shell, out),
        Command::Man { dir } => pages::man(dir.as_deref(), out),
    }
}

/// One line on stderr; nothing to be done if that is closed.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "vrift: {message}");
}

/// Help goes where it was asked for; a mistake is told in one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(125)
        }
        _ => {
            let text = error.render().to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
            let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
            let line = lines.join(" ").replace(" tip:", "; tip:");
            let line = line.strip_prefix("error: ").unwrap_or(&line);
            complain(&format!(
                "{}; see `vrift --help`",
                line.trim_end_matches("For more information, try '--help'.").trim_end()
            ));
            ExitCode::from(125)
        }
    }
}

/// A wide tree keeps many directories open at once; the usual soft limit of 1024 is for programs
/// that use select().
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it things work as far as they go, and fail with a clear EMFILE.
    let _ = setrlimit(Resource::Nofile, limit);
}
