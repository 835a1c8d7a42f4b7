//! Options and subcommands, with their help.

use crate::profile::families::Architecture;
use crate::profile::libseccomp;
use crate::profile::runtimes::Runtime;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use vrift_policy::View;

/// Run a build over a stored tree, from outside of its processes.
///
/// The command sees the mounted manifests at their paths, reads them at full speed, and can't
/// change them. Exit status: the command's own; 128+N when signal N ended it; 125 when
/// vrift-trace itself failed; 126 found but not executable; 127 not found.
#[derive(Debug, Default, Parser)]
#[command(
    name = "vrift-trace",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  vrift-trace demo                                  a tour on a sample project
  vrift ingest ~/src/hello --name hello             store a tree
  vrift-trace -m /vrift/hello=hello -- sh -c '/vrift/hello/configure && make -j2'
  vrift-trace -o build.trace -- make                record what was read, written and refused
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
    /// Record what the job does as JSON Lines (docs/TRACE.md), for `report` and `explain`
    #[arg(short = 'o', long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Record which system calls each process makes, too, for `profile export`: every call is handed
    /// over, which is slow
    #[arg(long, requires = "trace")]
    pub record_syscalls: bool,
    /// The store [default: $VR_THE_SOURCE, else $XDG_DATA_HOME/vrift/the_source]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Of trees that were pulled with --lazy: a file whose content isn't here after so long can't be
    /// opened (EIO), in seconds [default: the policy's, else 120]
    #[arg(long, value_name = "SECONDS")]
    pub fetch_timeout: Option<NonZeroU32>,
    /// How the job sees its mounts: by the supervisor's answers to its calls, or as file systems
    /// that are mounted for it alone, which is nearly as fast as a disk (docs/VIEWS.md)
    /// [default: the policy's, else notify]
    #[arg(long, value_name = "VIEW")]
    pub view: Option<ViewName>,
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

/// How a job sees its mounts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ViewName {
    /// The supervisor answers each call that names a file.
    Notify,
    /// A FUSE file system for each mount, in a mount namespace of the job's own.
    Mount,
    /// `mount` where it can be had, else `notify`.
    Auto,
}

impl From<ViewName> for View {
    fn from(name: ViewName) -> View {
        match name {
            ViewName::Notify => View::Notify,
            ViewName::Mount => View::Mount,
            ViewName::Auto => View::Auto,
        }
    }
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
    /// Check a policy file, ask what it decides, or print its schema
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Supervise the containers that runc, crun or podman start (docs/CONTAINERS.md)
    #[command(after_help = "Example:
  vrift-trace agent --socket /run/vrift.sock --policy ci.toml -o /var/log/traces")]
    Agent(AgentOptions),
    /// Seccomp profiles for containers: check, compare, take together, the agent's own
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// What a trace says: processes, inputs and outputs, refusals, or how two traces differ
    #[command(after_help = "Examples:
  vrift-trace report build.trace                            for the terminal
  vrift-trace report build.trace --html build.html          one page to browse
  vrift-trace report build.trace --format depfile --target app >app.d
  vrift-trace report new.trace --against old.trace          exit status 1 if they differ")]
    Report(ReportOptions),
    /// Why a call was refused and what would allow it; or who did what with a path
    #[command(after_help = "Examples:
  vrift-trace explain build.trace
  vrift-trace explain build.trace /vrift/deps/include/zlib.h")]
    Explain(ExplainOptions),
    /// Run a command once, or read traces, and write the least policy that fits what was done
    ///
    /// What no rule of the policy names is hidden and can't be run. A policy that is there is added
    /// to: rules, comments and keys that somebody wrote stay as they are and are obeyed. Exit status:
    /// the command's own; with --check 0 when the policy would have refused nothing.
    #[command(after_help = "Examples:
  vrift-trace learn -o ci.toml -- make                 run once, write ci.toml
  vrift-trace learn -o ci.toml -- make test            what that needs besides
  vrift-trace learn -o ci.toml --from a.trace b.trace  from jobs that ran before
  vrift-trace learn --check ci.toml -- make            what ci.toml would refuse, refusing nothing
  vrift-trace -p ci.toml -- make                       the policy at work")]
    Learn(LearnOptions),
    /// Every system call that is supervised and what is done with it
    #[command(after_help = "Example:\n  vrift-trace syscalls | grep xattr")]
    Syscalls(Table),
    /// List what a job has kept: A added, M modified, D deleted, R renamed
    #[command(after_help = "Example:\n  vrift-trace diff build/.upper")]
    Diff {
        /// An upper directory, or the name that the job gave its changes
        job: PathBuf,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
        /// Leave out what differs in its time only
        #[arg(long)]
        no_times: bool,
    },
    /// Make the changes that a job has kept a manifest, and have a ref name it
    #[command(after_help = "Example:\n  vrift-trace commit build/.upper deps")]
    Commit {
        /// An upper directory, or the name that the job gave its changes
        job: PathBuf,
        /// The ref
        #[arg(value_name = "REF")]
        name: String,
    },
    /// Throw the changes that a job has kept away
    #[command(after_help = "Example:\n  vrift-trace discard build/.upper")]
    Discard {
        /// An upper directory, or the name that the job gave its changes
        job: PathBuf,
    },
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

/// What is done with a policy file.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Name everything that is wrong with the file, and what in it can never have an effect
    ///
    /// Exit status: 0 when there is nothing to tell, 1 when there is, 125 when the file can't be
    /// read.
    #[command(after_help = "Example:\n  vrift-trace policy check vrift.toml")]
    Check {
        /// The policy file
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which rule or mount decides about a path, and what the job would get
    #[command(
        after_help = "Example:\n  vrift-trace policy explain vrift.toml read ~/.ssh/id_ed25519"
    )]
    Explain {
        /// The policy file
        file: PathBuf,
        /// What the job would do
        op: Op,
        /// The path, links in it followed
        path: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// A JSON Schema of the policy file on stdout, for editors
    #[command(after_help = "Example:\n  vrift-trace policy schema > vrift.schema.json")]
    Schema,
}

/// What a job would do with a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Op {
    /// Look it up: stat
    Stat,
    /// Open it for reading
    Read,
    /// Open it for writing
    Write,
    /// Make it: open with O_CREAT for writing
    Create,
    /// Remove it: unlink or rmdir
    Delete,
    /// List it
    List,
    /// Run it
    Exec,
}

/// Forms of an exported profile.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ProfileForm {
    /// For runc, crun, containerd
    Oci,
    /// For docker, the same text
    Docker,
    /// For podman and CRI-O, the same text
    Podman,
    /// The same text, and a pod's securityContext on stderr
    K8s,
    /// Lines for a unit of systemd, without conditions on arguments
    Systemd,
    /// The program itself, for bwrap --seccomp
    Bpf,
}

/// What is done with seccomp profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Name what runtimes don't heed in a profile, or take another way than it looks
    ///
    /// Exit status: 0 when there is nothing to tell, 1 when there is, 125 when the file can't be
    /// read.
    #[command(after_help = "Example:\n  vrift-trace profile lint --libseccomp 2.5.4 build.json")]
    Lint {
        /// Name the calls that this release of libseccomp does not know [default: the newest that is
        /// known of]
        #[arg(long, value_name = "VERSION")]
        libseccomp: Option<libseccomp::Version>,
        /// The profile, in JSON
        file: PathBuf,
    },
    /// Say what only one of two profiles has: - of the old, + of the new; exit status 1 if any
    ///
    /// `docker` and `podman` are their default profiles (./docker is a file). Rules that depend on the
    /// machine or on capabilities are taken as for a container with the engine's default
    /// capabilities on this machine.
    #[command(after_help = "Examples:
  vrift-trace profile diff old.json new.json
  vrift-trace profile diff docker build.json")]
    Diff {
        /// The old profile, in JSON, or docker, or podman
        old: PathBuf,
        /// The new profile, in the same way
        new: PathBuf,
    },
    /// Print the profile of what jobs called, recorded with --record-syscalls
    ///
    /// It is in the form that OCI runtimes, docker and podman take alike. What it allows beyond what was
    /// recorded is told on stderr.
    #[command(after_help = "Examples:
  vrift-trace -o t1 --record-syscalls -- make
  vrift-trace profile export t1 > build.json
  vrift-trace profile export --arch x86_64,aarch64 --runtime crun t1 t2 > build.json
  podman run --security-opt seccomp=build.json …")]
    Export {
        /// The traces; more than one run is better than one
        #[arg(required = true)]
        traces: Vec<PathBuf>,
        /// Allow what this runtime needs to start the job; repeatable [default: runc and crun]
        #[arg(long, value_enum, value_name = "RUNTIME")]
        runtime: Vec<Runtime>,
        /// The container has noNewPrivileges: runtimes need less then
        #[arg(long)]
        no_new_privileges: bool,
        /// Allow socket, personality, prctl, unshare, ioctl, fcntl and madvise only with the arguments
        /// that were recorded
        #[arg(long)]
        arguments: bool,
        /// For these architectures, separated by commas [default: the one that was recorded]
        #[arg(long = "arch", value_enum, value_name = "ARCH", value_delimiter = ',')]
        architectures: Vec<Architecture>,
        /// The form [default: oci, which docker and podman take too]
        #[arg(long, value_enum, value_name = "FORM", default_value_t = ProfileForm::Oci, hide_default_value = true)]
        format: ProfileForm,
        /// With k8s: where the profile will lie below the kubelet's directory for them
        #[arg(long, value_name = "PATH", required_if_eq("format", "k8s"))]
        localhost_profile: Option<PathBuf>,
        /// Print instead for each call which program made it first, with which path or argument, in how
        /// many of the traces, and whether it ever succeeded
        #[arg(long)]
        why: bool,
    },
    /// Run a job and say what a profile would refuse of it: by call, process and a line to add
    ///
    /// The profile is not loaded: every call that it would refuse is told in one run. Rules with
    /// includes and excludes are taken as docker takes them. Exit status: 1 if the profile refuses
    /// something, else the command's.
    #[command(after_help = "Example:\n  vrift-trace profile verify build.json -- make")]
    Verify {
        /// The profile, in JSON, or docker, or podman
        profile: PathBuf,
        /// The job's policy [default: ./vrift.toml if it exists]
        #[arg(short, long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Project the manifest REF at AT; repeatable
        #[arg(short, long = "mount", value_name = "[AT=]REF[,mode=M]")]
        mounts: Vec<OsString>,
        /// The store [default: $VR_THE_SOURCE, else $XDG_DATA_HOME/vrift/the_source]
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, value_name = "CMD", required = true)]
        job: Vec<OsString>,
    },
    /// Print one profile that allows what any of the given ones does
    ///
    /// The calls that not all of them have are told on stderr, each with how many do.
    #[command(
        after_help = "Example:\n  vrift-trace profile merge run1.json run2.json > build.json"
    )]
    Merge {
        /// The profiles, with the same default action
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The agent's own profile: a container that has it is supervised by `vrift-trace agent`
    ///
    /// It is the `linux.seccomp` of an OCI bundle's config.json. Every call that this version does not
    /// know of gets ENOSYS, for none may pass unseen.
    #[command(after_help = "Example:
  vrift-trace profile notify --listener /run/vrift.sock >seccomp.json
  jq --slurpfile p seccomp.json '.linux.seccomp = $p[0]' config.json")]
    Notify {
        /// The socket of the agent, an absolute path
        #[arg(long, value_name = "PATH")]
        listener: PathBuf,
        /// Told to the agent with each container, for its trace; repeatable
        #[arg(long, value_name = "K=V")]
        metadata: Vec<String>,
        /// Have signals wait while a call is looked at (crun, or runc 1.5; Linux 5.19): without, a
        /// program that handles signals without SA_RESTART sees EINTR where no file system gives it
        #[arg(long)]
        wait_killable: bool,
    },
}

/// Options of `agent`.
#[derive(Args, Debug)]
pub struct AgentOptions {
    /// Listen here; the listenerPath of the containers' seccomp profile
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// The policy of every container: mounts and rules mean the container's own paths
    #[arg(short, long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Record what each container does as DIR/ID.jsonl
    #[arg(short = 'o', long = "traces", value_name = "DIR")]
    pub traces: Option<PathBuf>,
    /// The store [default: $VR_THE_SOURCE, else $XDG_DATA_HOME/vrift/the_source]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// End a container whose filter lets calls pass unseen, or can't be read back
    #[arg(long)]
    pub strict: bool,
    /// When the agent ends or is killed, containers go on under their own supervisors [default: they
    /// are killed]
    #[arg(long)]
    pub outlive: bool,
    /// Tell failures only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Options of `demo`.
#[derive(Args, Debug)]
pub struct DemoOptions {
    /// Work in this directory, which must not exist, and leave it there [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Options of `report`.
#[derive(Args, Debug)]
pub struct ReportOptions {
    /// The trace, as `vrift-trace -o` wrote it
    pub trace: PathBuf,
    /// Write a page for the browser to FILE; it holds everything and loads nothing
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print it in this form [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Compare with another trace instead, as text or JSON
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["html", "target", "hashes"])]
    pub against: Option<PathBuf>,
    /// With json: hash the real inputs and outputs, as they are now
    #[arg(long)]
    pub hashes: bool,
    /// With depfile: the target of the rule; repeatable [default: every output]
    #[arg(long, value_name = "NAME")]
    pub target: Vec<OsString>,
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For a terminal.
    Text,
    /// Processes and the closed sets of inputs, outputs and probes.
    Json,
    /// One page for a browser.
    Html,
    /// Chrome trace events, for ui.perfetto.dev and chrome://tracing.
    Perfetto,
    /// Processes and files, for Graphviz.
    Dot,
    /// One rule for make and ninja.
    Depfile,
    /// The lines of fsatrace.
    Fsatrace,
}

/// Options of `explain`.
#[derive(Args, Debug)]
pub struct ExplainOptions {
    /// The trace, as `vrift-trace -o` wrote it
    pub trace: PathBuf,
    /// Only this path: absolute, as the job named it, or relative to the job's directory
    pub path: Option<PathBuf>,
}

/// Options of `learn`.
#[derive(Args, Debug)]
pub struct LearnOptions {
    /// The policy that is written, or added to; - is stdout
    #[arg(short, long, value_name = "POLICY", default_value = "vrift.toml")]
    pub output: PathBuf,
    /// List what POLICY would have refused instead; its rules are not obeyed meanwhile
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["output", "policy"])]
    pub check: Option<PathBuf>,
    /// Learn from traces that `vrift-trace -o` wrote, and run nothing
    #[arg(long, value_name = "TRACE", num_args = 1.., conflicts_with_all = ["job", "policy", "mounts"])]
    pub from: Vec<PathBuf>,
    /// The policy of the run [default: the one that is added to, else ./vrift.toml if it exists]
    #[arg(short, long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Project the manifest REF at AT, and write that into the policy; repeatable
    #[arg(short, long = "mount", value_name = "[AT=]REF[,mode=M]")]
    pub mounts: Vec<OsString>,
    /// The store [default: $VR_THE_SOURCE, else $XDG_DATA_HOME/vrift/the_source]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD", required_unless_present = "from")]
    pub job: Vec<OsString>,
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
