//! What can go wrong with a store, in words that say what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::hash::Hash;
use crate::manifest::{BuildError, ManifestError};
use crate::text::{Shown, shown};

/// Why something in the store can't be read or done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("can't {what} {}: {source}{}", shown(path), advice(source))]
    Io {
        /// What was tried, as in "can't {what} PATH".
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Neither VR_THE_SOURCE nor XDG_DATA_HOME nor HOME says where the store is.
    #[error("no place for the store: set VR_THE_SOURCE, or HOME, or name it with --store")]
    NoRoot,
    /// There is nothing at the root.
    #[error(
        "no store at {}: `vrift ingest` makes one, or name another with --store or VR_THE_SOURCE",
        shown(path)
    )]
    Missing {
        /// The store's root.
        path: PathBuf,
    },
    /// There is something else at the root.
    #[error(
        "{} is not a store: {what}; name another place with --store or VR_THE_SOURCE",
        shown(path)
    )]
    NotAStore {
        /// The store's root.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// Another program version made the store.
    #[error(
        "store {} has format {found:?}, this program knows format 1: use the program that made it",
        shown(path)
    )]
    Version {
        /// The store's root.
        path: PathBuf,
        /// What its `format` file says.
        found: String,
    },
    /// A blob isn't there.
    #[error(
        "blob {hash} is missing from store {}: ingest its tree again, `vrift verify` names what else is missing",
        shown(root)
    )]
    MissingBlob {
        /// The blob.
        hash: Hash,
        /// The store's root.
        root: PathBuf,
    },
    /// A blob's content isn't what its name says.
    #[error(
        "blob {hash} in store {} is damaged: `vrift verify --quarantine` puts it aside, then ingest its tree again",
        shown(root)
    )]
    DamagedBlob {
        /// The blob.
        hash: Hash,
        /// The store's root.
        root: PathBuf,
    },
    /// A manifest isn't there.
    #[error("manifest {hash} is missing from store {}: ingest its tree again", shown(root))]
    MissingManifest {
        /// The manifest.
        hash: Hash,
        /// The store's root.
        root: PathBuf,
    },
    /// A manifest can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A manifest's content isn't what its name says.
    #[error("manifest {} holds another manifest ({found}): ingest its tree again", shown(path))]
    MisnamedManifest {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Hash,
    },
    /// A tree can't be described by a manifest.
    #[error("can't make a manifest: {0}")]
    Build(#[from] BuildError),
    /// Not a possible name for a ref.
    #[error("{name:?} can't be a ref's name: {why}")]
    RefName {
        /// The name.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A ref's name is another's directory, or the other way round.
    #[error(
        "can't set ref {name:?}: {other:?} is a ref already, and one can't hold the other; choose another name, or `vrift rm` it"
    )]
    RefConflict {
        /// The ref.
        name: String,
        /// The one in its way.
        other: String,
    },
    /// A ref was to be moved from one manifest to another, and isn't where it was expected.
    #[error(
        "ref {name:?} was moved meanwhile and is left as it is: it {}",
        moved(expected.as_ref(), found.as_ref())
    )]
    RefMoved {
        /// The ref.
        name: String,
        /// What it was expected to name; None when it wasn't to exist.
        expected: Option<Hash>,
        /// What it names.
        found: Option<Hash>,
    },
    /// A ref's file holds something else than a hash.
    #[error("ref {name:?} is damaged: set it again with `vrift tag` or `vrift ingest --name`")]
    DamagedRef {
        /// The ref.
        name: String,
    },
    /// The head of an upper directory, or the store's note of one, says nothing that is known.
    #[error(
        "can't tell which manifest the changes in {} belong to: it is damaged; end its job, or throw the changes away with `vrift-trace discard`",
        shown(path)
    )]
    DamagedUpper {
        /// The upper directory, or the note.
        path: PathBuf,
    },
    /// A ref, or changes that are kept, name a manifest that isn't there.
    #[error(
        "{by} names manifest {hash}, which is missing: ingest its tree again, or remove the name"
    )]
    Dangling {
        /// What names it.
        by: String,
        /// The manifest.
        hash: Hash,
    },
    /// The file system of the store can't protect files in this way.
    #[error("the file system of store {} has no {what}; nothing was protected", shown(root))]
    NoProtection {
        /// The store's root.
        root: PathBuf,
        /// What it hasn't.
        what: &'static str,
    },
    /// The user may not protect files, or take protection away.
    #[error(
        "the blobs of store {} can't be protected or unprotected by this user: it takes root (CAP_LINUX_IMMUTABLE; for fs-verity the right to write to them)",
        shown(root)
    )]
    MayNotProtect {
        /// The store's root.
        root: PathBuf,
    },
    /// Blobs that were stored a moment ago are gone, and no collection can have taken them.
    #[error("something removes blobs from store {} by itself: keep it out of there", shown(root))]
    Vanishing {
        /// The store's root.
        root: PathBuf,
    },
    /// Who should have stored something for us didn't.
    #[error("{why}")]
    Outlet {
        /// In whole.
        why: String,
    },
    /// Another collection is at work.
    #[error("another `vrift gc` is at work in store {}: wait for its end", shown(root))]
    Collecting {
        /// The store's root.
        root: PathBuf,
    },
    /// Nothing has that name.
    #[error(
        "{} is no ref, hash or manifest in store {}: `vrift refs` lists what there is",
        Shown(spec),
        shown(root)
    )]
    Unknown {
        /// What was asked for.
        spec: Vec<u8>,
        /// The store's root.
        root: PathBuf,
    },
    /// A prefix that fits more than one manifest.
    #[error("{prefix} fits {count} manifests: give more digits")]
    Ambiguous {
        /// The digits given.
        prefix: String,
        /// How many manifests begin with them.
        count: usize,
    },
}

fn moved(expected: Option<&Hash>, found: Option<&Hash>) -> String {
    match (expected, found) {
        (Some(expected), Some(found)) => {
            format!("names {found}; `vrift diff {expected} {found}` shows what changed")
        }
        (Some(expected), None) => format!("named {expected} and is gone"),
        (None, found) => {
            let found = found.map_or_else(String::new, Hash::to_string);
            format!("wasn't to exist yet and names {found}")
        }
    }
}

/// What to do about the errors that a user can do something about.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space and run it again, nothing is half-done",
        io::ErrorKind::QuotaExceeded => "; your quota is used up, nothing is half-done",
        io::ErrorKind::PermissionDenied => "; check its owner and mode, or choose another --store",
        io::ErrorKind::ReadOnlyFilesystem => "; choose a --store on a writable file system",
        _ => "",
    }
}

impl StoreError {
    /// For `map_err`: "can't `what` `path`: …".
    pub fn io<E: Into<io::Error>>(
        what: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> StoreError {
        move |source| StoreError::Io { what, path: path.as_ref().to_owned(), source: source.into() }
    }
}
