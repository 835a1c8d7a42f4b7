//! The store that a job or a subcommand works on.

use super::Complaint;
use super::args::Cli;
use crate::job::StoreView;
use crate::launch;
use std::fs::File;
use std::path::{Path, PathBuf};
use vrift_store::Store;

/// Where the store is: as it was named, or at its usual place.
pub fn store_root(given: Option<&Path>) -> Result<PathBuf, Complaint> {
    match given {
        Some(root) => Ok(root.to_owned()),
        None => Store::default_root().map_err(|e| e.to_string()),
    }
}

/// The store, for what is done without a job.
pub fn store(cli: &Cli) -> Result<Store, Complaint> {
    Store::open(&store_root(cli.store.as_deref())?).map_err(|e| e.to_string())
}

/// The store that a job reads.
pub fn open_store(cli: &Cli) -> Result<StoreView, Complaint> {
    view(&store_root(cli.store.as_deref())?)
}

/// Opens a store; `who` would have to run outside of a job that this one is in.
pub fn open(root: &Path, who: &str) -> Result<Store, Complaint> {
    Store::open(root).map_err(|e| {
        // A job does not get to see the store it runs over: that is not the reason to tell.
        match launch::is_nested() {
            true => format!("{}; run {who} outside of it", launch::NESTED),
            false => e.to_string(),
        }
    })
}

/// Opens a store for a running job.
pub fn view(root: &Path) -> Result<StoreView, Complaint> {
    let store = open(root, "vrift-trace")?;
    let physical =
        store.root().canonicalize().map_err(|e| format!("{}: {e}", store.root().display()))?;
    let blobs = physical.join("blobs");
    let fd =
        File::open(&blobs).map_err(|e| format!("{}: {e}; run `vrift verify`", blobs.display()))?;
    let mut prefix = blobs.into_os_string().into_encoded_bytes();
    prefix.push(b'/');
    let root = physical.into_os_string().into_encoded_bytes();
    Ok(StoreView { store, blobs: fd.into(), blobs_prefix: prefix, root, whole: Default::default() })
}
