//! The command line, as data: help, completions and man pages all come from here.

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

const ABOUT: &str = "Looks after a content-addressed store of file trees.

A tree that is ingested becomes a manifest (names, modes, times, links) and blobs (contents, each stored once). `vrift-trace` shows such trees to a build as if they were on disk.";

const ENVIRONMENT: &str = "Environment:
  VR_THE_SOURCE  the store's directory [default: $XDG_DATA_HOME/vrift/the_source, or ~/.local/share/vrift/the_source]
  NO_COLOR       when set, no colours

Exit status: 0; 1 when a comparison found differences, or a check damage, or an ingest files that can't be read; 125 when something failed, with one line on stderr.

Examples:
  vrift ingest node_modules --name deps      store a tree
  vrift ls deps:lodash -l                    look into it
  vrift diff deps deps-new                   what changed
  vrift export deps /tmp/copy                make it a real tree again
  vrift verify                               is everything whole?
  vrift push deps s3://bucket/trees          share it with other machines";

const PUSH_HELP: &str = "Remotes: a directory or file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX. Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*).

What was sent before an interruption isn't sent again. When somebody else moves a ref there meanwhile, it is left alone, and the status is 125.

Examples:
  vrift push deps s3://bucket/trees
  vrift push deps toolchain/gcc-12 /mnt/share/trees
  vrift push deps:deps-2024 gs://bucket";

const PULL_HELP: &str = "Remotes: a directory (also a store's own) or file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, http(s)://HOST/PREFIX. Credentials come from the environment (AWS_*, GOOGLE_*, AZURE_*).

What came before an interruption isn't fetched again. The ref is set when everything is there.

Examples:
  vrift pull s3://bucket/trees deps
  vrift pull https://trees.example.org toolchain/gcc-12:gcc
  vrift pull --lazy s3://bucket/trees toolchain/gcc-12
  vrift pull --lazy --profile build.trace s3://bucket/trees toolchain/gcc-12";

/// `vrift`
#[derive(Debug, Parser)]
#[command(
    name = "vrift",
    version,
    about = "Looks after a content-addressed store of file trees",
    long_about = ABOUT,
    after_long_help = ENVIRONMENT,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// The store's directory
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub store: Option<PathBuf>,

    /// Print JSON: one object, or one object on each line for lists
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store a directory tree; never changes it
    #[command(after_help = "Examples:
  vrift ingest node_modules --name deps
  vrift ingest . --name src/main --exclude .git --exclude '*.o'

Sockets, fifos and devices are left out with a warning. When a file can't be read, it is named, the status is 1, and REF stays what it was.")]
    Ingest(Ingest),

    /// List a stored tree
    #[command(after_help = "Examples:
  vrift ls deps
  vrift ls deps:lodash -l
  vrift ls deps -R | wc -l
  vrift ls deps -R --json | jq -r 'select(.size > 1e6) | .path'")]
    Ls(Ls),

    /// Write a stored file to standard output
    #[command(after_help = "Example:
  vrift cat deps:lodash/package.json")]
    Cat {
        /// A file in a tree
        #[arg(value_name = "REF:PATH")]
        file: OsString,
    },

    /// Show what differs between two trees; status 1 when something does
    #[command(after_help = "Letters: A added, D deleted, M modified, R renamed with equal content.

Examples:
  vrift diff deps deps-new
  vrift diff deps deps-new --no-times")]
    Diff {
        /// The old tree
        #[arg(value_name = "A")]
        old: OsString,
        /// The new tree
        #[arg(value_name = "B")]
        new: OsString,
        /// Don't report entries of which only the time differs
        #[arg(long)]
        no_times: bool,
    },

    /// List all refs and the manifests they name
    #[command(after_help = "Example:
  vrift refs --json")]
    Refs,

    /// Give a manifest another name
    #[command(after_help = "Examples:
  vrift tag deps deps-before-upgrade
  vrift tag 3f9a01c2 release/1.0")]
    Tag {
        /// Ref, hash, at least 8 digits of one, or manifest file
        #[arg(value_name = "REF")]
        from: OsString,
        /// The new name
        #[arg(value_name = "NEW")]
        new: String,
    },

    /// Remove a ref; the manifest and its blobs stay
    #[command(after_help = "Example:
  vrift rm deps-before-upgrade")]
    Rm {
        /// The ref
        #[arg(value_name = "REF")]
        name: String,
    },

    /// Write a stored tree to a directory
    #[command(
        after_help = "Modes, times, user.* attributes and hard links come back as they were. A blob is never hard-linked.

Examples:
  vrift export deps /tmp/deps
  vrift export deps /tmp/deps --link copy"
    )]
    Export {
        /// The tree
        #[arg(value_name = "REF")]
        from: OsString,
        /// Where to: a directory that is empty or doesn't exist
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        to: PathBuf,
        /// How contents get there: shared extents where possible, always, or never
        #[arg(long, value_enum, default_value_t = Link::Auto)]
        link: Link,
    },

    /// Read everything again and check it; status 1 when something is damaged
    #[command(after_help = "Examples:
  vrift verify            all blobs, manifests and refs
  vrift verify deps       one tree and the blobs it needs
  vrift verify --quarantine
  vrift verify --repair s3://bucket/trees     fetch what is damaged or missing again")]
    Verify {
        /// Check only this tree
        #[arg(value_name = "REF")]
        tree: Option<OsString>,
        /// Move damaged blobs to the store's quarantine/: the next ingest of their contents stores
        /// them anew
        #[arg(long)]
        quarantine: bool,
        /// Fetch damaged and missing blobs and manifests from this remote; status 1 only when some
        /// damage is left
        #[arg(long, value_name = "URL", conflicts_with = "quarantine")]
        repair: Option<OsString>,
        /// How the remote is asked
        #[command(flatten)]
        asking: Asking,
    },

    /// Send trees to a remote: what it lacks of their blobs, then the manifests, then the refs
    #[command(after_help = PUSH_HELP)]
    Push {
        /// Ref, hash, at least 8 digits of one; with :NAME the ref gets that name there
        #[arg(value_name = "REF[:NAME]", required = true)]
        refs: Vec<OsString>,
        /// The remote: a directory, or the URL of a service
        #[arg(value_name = "URL", value_hint = ValueHint::DirPath)]
        remote: OsString,
        /// How the remote is asked
        #[command(flatten)]
        asking: Asking,
    },

    /// Get trees from a remote: what is missing here of their blobs, each checked by its hash
    #[command(after_help = PULL_HELP)]
    Pull {
        /// The remote: a directory, or the URL of a service
        #[arg(value_name = "URL", value_hint = ValueHint::DirPath)]
        remote: OsString,
        /// A ref there, or HASH:NAME; with :NAME it gets that name here
        #[arg(value_name = "REF[:NAME]", required = true)]
        refs: Vec<OsString>,
        /// Get the manifests only, and note in the store where their blobs are: a job fetches those
        /// of files that it opens
        #[arg(long)]
        lazy: bool,
        /// With --lazy: get what an earlier job read, too, as its trace says (`vrift-trace -o TRACE`)
        #[arg(long, value_name = "TRACE", requires = "lazy", value_hint = ValueHint::FilePath)]
        profile: Option<PathBuf>,
        /// How the remote is asked
        #[command(flatten)]
        asking: Asking,
    },

    /// Fetch blobs for a running job
    #[command(hide = true, after_help = crate::fetch::HELP)]
    Fetch(crate::fetch::Fetch),

    /// Remove what nothing names any more
    #[command(after_help = crate::gc::HELP)]
    Gc(crate::gc::Gc),

    /// Keep blobs from being changed or removed, by their owner and root too
    #[command(after_help = crate::protect::HELP)]
    Protect(crate::protect::Protect),

    /// Take protection from blobs
    #[command(after_help = crate::protect::UNPROTECT_HELP)]
    Unprotect(crate::protect::Unprotect),

    /// Let other users have done what they may, by a process of the store's owner
    #[command(after_help = crate::daemon::HELP)]
    Daemon {
        /// What to do with it
        #[command(subcommand)]
        what: crate::daemon::What,
    },

    /// Show how much is stored and what sharing saves
    #[command(after_help = "Example:
  vrift stats --json")]
    Stats,

    /// Print a completion script for a shell
    #[command(after_help = "Example:
  vrift completions bash > ~/.local/share/bash-completion/completions/vrift")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Print the man page, or write one for each command to a directory
    #[command(after_help = "Examples:
  vrift man | man -l -
  vrift man --dir ~/.local/share/man/man1")]
    Man {
        /// Write the pages of all commands here
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// How a remote is asked.
#[derive(Debug, Args)]
pub struct Asking {
    /// Requests to the remote at once
    #[arg(long, short = 'J', value_name = "N", default_value = "32")]
    pub requests: NonZeroUsize,

    /// Give up on a service that is silent for so long, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub timeout: NonZeroU32,
}

/// `vrift ingest`
#[derive(Debug, Args)]
pub struct Ingest {
    /// The directory to store
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,

    /// The ref that names the result
    #[arg(long, value_name = "REF")]
    pub name: String,

    /// Leave out what fits GLOB; without a slash it fits names at any depth, with one the path
    /// below DIR, and `**` crosses slashes
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,

    /// Threads [default: one for each CPU]
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// Don't wait for the disk: faster, but a power failure soon after may cost the tree (for
    /// stores that can be made again)
    #[arg(long)]
    pub no_sync: bool,
}

/// `vrift ls`
#[derive(Debug, Args)]
pub struct Ls {
    /// Ref, hash, at least 8 digits of one, or manifest file; and a path in it
    #[arg(value_name = "REF[:PATH]")]
    pub tree: OsString,

    /// Show modes, link counts, sizes, times (UTC) and link targets
    #[arg(short, long)]
    pub long: bool,

    /// Everything below, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// How `export` gets contents to their place.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Link {
    /// Shared extents where the file systems can, else copies
    Auto,
    /// Shared extents, or fail
    Reflink,
    /// Copies
    Copy,
}

impl From<Link> for vrift_store::LinkMode {
    fn from(link: Link) -> Self {
        match link {
            Link::Auto => Self::Auto,
            Link::Reflink => Self::Reflink,
            Link::Copy => Self::Copy,
        }
    }
}
