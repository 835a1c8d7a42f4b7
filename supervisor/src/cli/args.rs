//! Options and subcommands, with their help.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Run a build over a stored tree, from outside of its processes.
///
/// The command sees the mounted manifests at their paths, reads them at full speed, and can't
/// change them. Exit status: the command's own; 128+N when signal N ended it; 125 when
/// vrift-trace itself failed; 126 found but not executable; 127 not found.
#[derive(Debug, Parser)]
#[command(
    name = "vrift-trace",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  vrift-trace demo                                  a tour on a sample project
  vrift ingest ~/src/hello --name hello             store a tree
  vrift-trace -m /vrift/hello=hello -- sh -c '/vrift/hello/configure && make -j2'
  vrift-trace -p ci.toml -- make test               mounts and settings from a policy file
  vrift-trace doctor                                what this machine can do

A command that is called like a subcommand is given after --: vrift-trace -- demo"
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
    /// A self-contained tour: store a sample project, build it projected, see a change refused
    #[command(after_help = "Example:\n  vrift-trace demo\n  vrift-trace demo --keep /tmp/tour")]
    Demo(DemoOptions),
    /// Run a real projected open, exec and write here, and name one fix per missing feature
    #[command(after_help = "Example:\n  vrift-trace doctor --json | jq .ok")]
    Doctor(Json),
    /// Every system call that is supervised and what is done with it
    #[command(after_help = "Example:\n  vrift-trace syscalls | grep xattr")]
    Syscalls(Table),
    /// Shell completions on stdout
    #[command(
        after_help = "Example:\n  vrift-trace completions bash > ~/.local/share/bash-completion/completions/vrift-trace"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The man page on stdout
    #[command(after_help = "Example:\n  vrift-trace man | man -l -")]
    Man,
}

/// Options of `demo`.
#[derive(Args, Debug)]
pub struct DemoOptions {
    /// Work in this directory, which must not exist, and leave it there [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Forms of the table.
#[derive(Args, Debug)]
pub struct Table {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print the page docs/SYSCALLS.md
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
}

/// Output to parse.
#[derive(Args, Debug)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
