//! What can go wrong with a daemon, in one line each.

use std::io;
use std::path::{Path, PathBuf};

use vrift_store::StoreError;
use vrift_store::text::shown;

use crate::codec::CodecError;
use crate::message::{Hello, PROTOCOL, Reply, VERSION};

/// Why the daemon can't be had, or can't do it.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A system call failed.
    #[error("can't {what} the daemon of store {}: {source}", shown(root))]
    Io {
        /// What was tried, as in "can't {what} the daemon".
        what: &'static str,
        /// The store.
        root: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another one is there.
    #[error("a daemon of store {} is at work already", shown(root))]
    Taken {
        /// The store.
        root: PathBuf,
    },
    /// There is none, and it is needed.
    #[error(
        "store {} is another user's (uid {owner}) and its daemon isn't running: they start it with `vrift daemon start`, or use a --store of yours",
        shown(root)
    )]
    NotRunning {
        /// The store.
        root: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Somebody else's store.
    #[error(
        "store {} belongs to uid {owner}: its daemon has to run as that user, not as uid {uid}",
        shown(root)
    )]
    NotOwner {
        /// The store.
        root: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// Others could put something else in the daemon's place.
    #[error(
        "{} has to belong to uid {owner} and be writable for nobody else: change its owner and mode, or remove it",
        shown(path)
    )]
    Open {
        /// The directory, or a file in it.
        path: PathBuf,
        /// Whose it has to be.
        owner: u32,
    },
    /// Who answers isn't the store's owner.
    #[error(
        "what answers as the daemon of store {} runs as uid {uid}, and the store belongs to uid {owner}: it is told nothing",
        shown(root)
    )]
    Stranger {
        /// The store.
        root: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who answers.
        uid: u32,
    },
    /// The daemon is of another version.
    #[error(
        "the daemon of store {} is vrift {} (protocol {}), this is vrift {VERSION} (protocol {PROTOCOL}): use that version, or `vrift daemon restart` with this one",
        shown(root),
        hello.version.escape_debug(),
        hello.vrift
    )]
    Version {
        /// The store.
        root: PathBuf,
        /// What it said.
        hello: Hello,
    },
    /// It doesn't speak as it should.
    #[error("the daemon of store {} can't be understood: {source}", shown(root))]
    Speech {
        /// The store.
        root: PathBuf,
        /// What is wrong.
        source: CodecError,
    },
    /// It answers another question.
    #[error("the daemon of store {} answers oddly: {reply}", shown(root))]
    Odd {
        /// The store.
        root: PathBuf,
        /// What it said.
        reply: String,
    },
    /// It ended, or was killed.
    #[error(
        "the daemon of store {} ended meanwhile; nothing is half-done: run it again",
        shown(root)
    )]
    Ended {
        /// The store.
        root: PathBuf,
    },
    /// It is silent.
    #[error("the daemon of store {} doesn't answer: look after process {pid}", shown(root))]
    Silent {
        /// The store.
        root: PathBuf,
        /// Its process.
        pid: u32,
    },
    /// The user may not.
    #[error("the daemon of store {} refuses: {why}", shown(root))]
    Refused {
        /// The store.
        root: PathBuf,
        /// Why.
        why: String,
    },
    /// It tried and failed.
    #[error("{why}")]
    Failed {
        /// In whole.
        why: String,
    },
    /// The configuration says something that it may not.
    #[error("{}:{line}: {message}", shown(path))]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
}

impl DaemonError {
    /// An answer to another question.
    #[must_use]
    pub fn odd(root: &Path, reply: &Reply) -> DaemonError {
        DaemonError::Odd { root: root.to_owned(), reply: format!("{reply:?}") }
    }

    /// For `map_err`: "can't `what` the daemon of store …".
    pub fn io<E: Into<io::Error>>(
        what: &'static str,
        root: &Path,
    ) -> impl FnOnce(E) -> DaemonError {
        move |source| DaemonError::Io { what, root: root.to_owned(), source: source.into() }
    }
}

impl From<DaemonError> for StoreError {
    /// For who stores through the daemon.
    fn from(error: DaemonError) -> StoreError {
        match error {
            DaemonError::Store(error) => error,
            error => StoreError::Outlet { why: error.to_string() },
        }
    }
}
