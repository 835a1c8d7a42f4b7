//! The command line: that of `vrift-trace` on Linux, as far as it means something here. A test holds the
//! two together (`tests/command_line.rs`).

use crate::job::Asked;
use crate::machine::Machine;
use crate::run::{self, surroundings};
use crate::{Complaint, OURS, doctor, summary};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vrift_policy::{MountSpec, Policy, SCHEMA, Severity, check};

/// The policy that is used when none is named.
const DEFAULT_POLICY: &str = "vrift.toml";

/// Subcommands of `vrift-trace` on Linux that are not here, and what to do instead. Without this the
/// word would be taken for a command to run.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("agent", "containers are Linux'"),
    ("commit", "nothing is kept of a job, since no mount can be written to"),
    ("demo", "run a command of your own over a tree that `vrift ingest` stored"),
    ("diff", "nothing is kept of a job, since no mount can be written to"),
    ("discard", "nothing is kept of a job, since no mount can be written to"),
    ("explain", "give the trace to `vrift-trace explain` on Linux: it is the same form"),
    ("learn", "give the trace to `vrift-trace learn --from` on Linux: it is the same form"),
    ("profile", "seccomp is Linux'"),
    ("report", "give the trace to `vrift-trace report` on Linux: it is the same form"),
    ("syscalls", "docs/MACOS.md says which functions the shim takes the place of"),
];

/// Run a build over a stored tree.
///
/// The command sees the mounted manifests at their paths and can't change them. Exit status: the
/// command's own; 128+N when signal N ended it; 125 when vrift-trace itself failed; 126 found but not
/// executable; 127 not found.
#[derive(Debug, Default, Parser)]
#[command(
    name = "vrift-trace",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  vrift-trace -m /vrift/hello=hello -- sh -c '/vrift/hello/configure && make -j2'
  sudo vrift-trace -o build.trace -- make           record what was read, written and refused
  vrift-trace doctor                                what this machine can do

A command that is called like a subcommand is given after --: vrift-trace -- doctor"
)]
pub struct Cli {
    /// The subcommand, if it is one.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The job's policy [default: ./vrift.toml if it exists]
    #[arg(short, long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Project the manifest REF at AT; repeatable. Without AT: $VRIFT_VFS_PREFIX, else /vrift
    #[arg(short, long = "mount", value_name = "[AT=]REF[,mode=M]")]
    pub mounts: Vec<OsString>,
    /// Record what the job does as JSON Lines (docs/TRACE.md), for `report` and `explain`
    #[arg(short = 'o', long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// The store [default: $VR_THE_SOURCE, else $XDG_DATA_HOME/vrift/the_source]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Print the closing summary on stderr, as text or JSON [default: text, on a terminal]
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text",
        conflicts_with = "quiet"
    )]
    pub summary: Option<SummaryFormat>,
    /// No closing summary
    #[arg(short, long)]
    pub quiet: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD", required = true)]
    pub job: Vec<OsString>,
}

/// How the summary is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SummaryFormat {
    /// At most ten lines.
    Text,
    /// One object.
    Json,
}

/// What is not running a job.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask this machine for what a job needs, and name one fix for what is missing
    #[command(after_help = "Example:\n  vrift-trace doctor --json | jq .ok")]
    Doctor(Json),
    /// Check a policy file, or print its schema
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Shell completions on stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The man page on stdout
    Man,
}

/// Options of `doctor`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is done with a policy file.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Name everything that is wrong with the file, and what in it can never have an effect
    Check {
        /// The policy file
        file: PathBuf,
    },
    /// A JSON Schema of the policy file on stdout, for editors
    Schema,
}

/// The command line, with what is not here.
#[must_use]
pub fn command() -> clap::Command {
    ELSEWHERE.iter().fold(Cli::command(), |command, (name, _)| {
        let rest = clap::Arg::new("rest").num_args(0..).allow_hyphen_values(true);
        let rest = rest.trailing_var_arg(true).value_parser(clap::value_parser!(OsString));
        command.subcommand(clap::Command::new(*name).hide(true).disable_help_flag(true).arg(rest))
    })
}

/// Runs the program on a machine.
pub fn main<M: Machine>(machine: &M) -> ExitCode {
    let (status, complaint) = match status(machine, std::env::args_os()) {
        Ok(status) => (status, None),
        Err(complaint) => (OURS, Some(complaint)),
    };
    if let Some(complaint) = complaint {
        eprintln!("vrift-trace: {complaint}");
    }
    ExitCode::from(status)
}

/// The exit status for a command line.
///
/// # Errors
/// One line: what could not be done.
pub fn status<M: Machine>(
    machine: &M,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<u8, Complaint> {
    let parsed = command().try_get_matches_from(arguments).and_then(|matches| {
        let elsewhere = matches
            .subcommand_name()
            .and_then(|given| ELSEWHERE.iter().find(|(name, _)| *name == given));
        match elsewhere {
            Some((name, instead)) => Ok(Err(format!("{name} isn't there on macOS: {instead}"))),
            None => Cli::from_arg_matches(&matches).map(Ok),
        }
    });
    let cli = match parsed {
        Ok(cli) => cli?,
        Err(e) => {
            // --help and --version are no failures; they go to stdout.
            let _ = e.print();
            return Ok(if e.use_stderr() { OURS } else { 0 });
        }
    };
    match &cli.command {
        Some(Command::Doctor(options)) => {
            let facts = machine.facts();
            let checks = doctor::checks(&facts, &doctor::programs(&facts));
            print(&doctor::told(&facts, &checks, options.json))?;
            Ok(u8::from(checks.iter().any(|check| check.needed)))
        }
        Some(Command::Policy(PolicyCommand::Check { file })) => findings(file),
        Some(Command::Policy(PolicyCommand::Schema)) => print(SCHEMA).map(|()| 0),
        Some(Command::Completions { shell }) => {
            let mut out = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "vrift-trace", &mut out);
            print_bytes(&out).map(|()| 0)
        }
        Some(Command::Man) => {
            let mut out = Vec::new();
            let made = clap_mangen::Man::new(Cli::command()).render(&mut out);
            made.map_err(|e| format!("writing the man page: {e}"))?;
            print_bytes(&out).map(|()| 0)
        }
        None => job(machine, &cli),
    }
}

fn print(text: &str) -> Result<(), Complaint> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), Complaint> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("writing to stdout: {e}"))
        }
        _ => Ok(()),
    }
}

fn findings(file: &Path) -> Result<u8, Complaint> {
    let found = check(file, &surroundings()?);
    // Not even read: that is no finding about it.
    if let [only] = found.as_slice()
        && only.line.is_none()
        && only.severity == Severity::Error
    {
        return Err(only.to_string());
    }
    print(&found.iter().map(|finding| format!("{finding}\n")).collect::<String>())?;
    Ok(u8::from(!found.is_empty()))
}

fn job<M: Machine>(machine: &M, cli: &Cli) -> Result<u8, Complaint> {
    let default = || Some(Path::new(DEFAULT_POLICY)).filter(|file| file.exists());
    let policy = match cli.policy.as_deref().or_else(default) {
        Some(file) => Policy::load(file).map_err(|e| e.to_string())?,
        None => Policy::default(),
    };
    let prefix =
        std::env::var_os("VRIFT_VFS_PREFIX").map_or_else(|| "/vrift".into(), PathBuf::from);
    let mut mounts = policy.mounts.clone();
    for argument in &cli.mounts {
        mounts.push(MountSpec::parse_arg(argument, &prefix).map_err(|e| e.to_string())?);
    }
    let (store, trace, command) = (cli.store.clone(), cli.trace.clone(), cli.job.clone());
    let asked = Asked { policy, mounts, store, trace, command };
    let outcome = run::run(machine, &asked)?;
    let told = match (cli.summary, cli.quiet) {
        (Some(SummaryFormat::Json), _) => summary::json(&outcome),
        (Some(SummaryFormat::Text), _) => summary::text(&outcome),
        (None, false) if std::io::stderr().is_terminal() => summary::text(&outcome),
        (None, _) => String::new(),
    };
    // Who reads it may have gone.
    let _ = std::io::stderr().write_all(told.as_bytes());
    Ok(outcome.status)
}
