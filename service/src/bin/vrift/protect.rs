//! `vrift protect` and `vrift unprotect`.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;
use vrift_client::{Bytes, Client, Request};
use vrift_store::protect::{Protected, Protection, blobs_below};
use vrift_store::{Manifest, NodeId, Store, StoreError};

use crate::Outcome;
use crate::daemon::through;
use crate::inspect::open_path;
use crate::output::{Failure, Out, count};

/// What `vrift protect --help` says at its end.
pub const HELP: &str = "The blobs get the immutable flag (chattr +i), which takes root, and a file system that has it. `vrift gc` leaves protected blobs alone until they are unprotected; `vrift stats` counts them.

Examples:
  vrift protect toolchain
  vrift protect deps:lodash
  vrift protect toolchain --verity";

/// What `vrift unprotect --help` says at its end.
pub const UNPROTECT_HELP: &str = "What fs-verity protects stays so.

Examples:
  vrift unprotect deps:lodash
  vrift unprotect --all       also what no ref names any more";

/// `vrift protect`
#[derive(Debug, Args)]
pub struct Protect {
    /// A tree, or a part of one
    #[arg(value_name = "REF[:PATH]")]
    pub tree: OsString,

    /// Have the kernel check what is read instead (fs-verity), for good; what is so protected can
    /// still be removed
    #[arg(long)]
    pub verity: bool,
}

/// `vrift unprotect`
#[derive(Debug, Args)]
pub struct Unprotect {
    /// A tree, or a part of one
    #[arg(value_name = "REF[:PATH]", required_unless_present = "all")]
    pub tree: Option<OsString>,

    /// Every blob of the store
    #[arg(long, conflicts_with = "tree")]
    pub all: bool,
}

/// Protects the blobs of a tree.
pub fn protect(store: &Store, args: &Protect, out: &mut Out) -> Result<Outcome, Failure> {
    let (manifest, top, path) = open_path(store, &args.tree)?;
    let how = if args.verity { Protection::Verity } else { Protection::Immutable };
    let done = here_or_through(
        store,
        || store.protect(&blobs_below(&manifest, top)?, how),
        || Request::Protect { manifest: manifest.id(), path: Bytes(path.clone()), how },
    )?;
    told("protected", &done, out)
}

/// Takes protection from the blobs of a tree, or from all.
pub fn unprotect(store: &Store, args: &Unprotect, out: &mut Out) -> Result<Outcome, Failure> {
    let tree = args.tree.as_ref().map(|tree| open_path(store, tree)).transpose()?;
    let done = here_or_through(
        store,
        || {
            let blobs = match &tree {
                Some((manifest, top, _)) => blobs_below(manifest, *top)?,
                None => store.blobs()?,
            };
            store.unprotect(&blobs)
        },
        || {
            let part = |(manifest, _, path): &(Manifest, NodeId, Vec<u8>)| {
                (manifest.id(), Bytes(path.clone()))
            };
            Request::Unprotect { tree: tree.as_ref().map(part) }
        },
    )?;
    told("unprotected", &done, out)
}

/// By this process, where it may; else by the daemon, which may more if it was started so.
fn here_or_through(
    store: &Store,
    here: impl FnOnce() -> Result<Protected, StoreError>,
    request: impl FnOnce() -> Request,
) -> Result<Protected, Failure> {
    if !store.is_writable() {
        return through::protected(Client::needed(store)?, &request());
    }
    match here() {
        Err(error @ StoreError::MayNotProtect { .. }) => match Client::connect(store)? {
            Some(client) => through::protected(client, &request()),
            None => Err(error.into()),
        },
        done => Ok(done?),
    }
}

fn told(what: &str, done: &Protected, out: &mut Out) -> Result<Outcome, Failure> {
    if out.json {
        out.object(&json!({ "blobs": done.blobs, what: done.changed }))?;
    } else {
        let already = done.blobs - done.changed;
        let blobs = count(done.changed, "blob");
        out.text(format_args!(
            "{what} {blobs}; {already} {} so before\n",
            if already == 1 { "was" } else { "were" }
        ))?;
    }
    Ok(Outcome::Fine)
}
