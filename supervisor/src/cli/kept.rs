//! Changes that a job left behind: `vrift-trace diff|commit|discard JOB`.
//!
//! JOB is an upper directory, or the name that a job with `on_exit = "keep"` gave for its own, which
//! are in the store's directory `uppers`, or where the store is another user's in the user's own cache.

use super::Complaint;
use crate::user_cache::UserCache;
use crate::writable::{end, through};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vrift_projection::overlay::{Overlay, Upper};
use vrift_store::Store;
use vrift_store::diff::{self, Style};

/// Where changes are kept, in a store or in a user's cache.
const UPPERS: &str = "uppers";

/// The name under which this job's changes of a mount are kept: when it began, its process, and the
/// mount's number, but for the first.
pub fn name_of_this_job(mount: usize) -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let made = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        format!("{}-{}", now.map_or(0, |now| now.as_secs()), std::process::id())
    };
    let name = NAME.get_or_init(made);
    if mount == 0 { name.clone() } else { format!("{name}-{mount}") }
}

/// Where the changes of the job of that name go.
///
/// # Errors
/// The store is another user's, and this one has no directory of its own for it.
pub fn place(store: &Store, name: &str) -> Result<PathBuf, Complaint> {
    if store.is_writable() {
        return Ok(store.root().join(UPPERS).join(name));
    }
    let cache = own(store).ok_or_else(|| {
        format!(
            "the store {} is another user's, and there is no directory of this user's own to keep \
             changes in, below $XDG_CACHE_HOME or ~/.cache: name one with upper=DIR",
            store.root().display()
        )
    })?;
    Ok(cache.join(name))
}

/// Where this user's jobs keep their changes to trees of another user's store.
fn own(store: &Store) -> Option<PathBuf> {
    let root = store.root().canonicalize().ok()?;
    Some(UserCache::of(&root)?.root().join(UPPERS))
}

/// The directories whose entries are the changes of jobs.
fn places(store: &Store) -> Vec<PathBuf> {
    let own = if store.is_writable() { None } else { own(store) };
    std::iter::once(store.root().join(UPPERS)).chain(own).collect()
}

/// Where JOB's changes are.
fn find(store: &Store, job: &Path) -> Result<PathBuf, Complaint> {
    let named = job.to_str().filter(|name| !name.contains('/'));
    let mut named = places(store).into_iter().filter_map(|dir| Some(dir.join(named?)));
    match named.find(|place| place.is_dir()) {
        Some(place) => Ok(place),
        None if job.is_dir() => Ok(job.to_owned()),
        None => Err(format!(
            "{}: no changes are kept under this name, and it is no upper directory; kept are: {}",
            job.display(),
            known(store)
        )),
    }
}

/// The names of jobs whose changes are kept.
fn known(store: &Store) -> String {
    let mut names: Vec<String> = places(store)
        .into_iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        // Beside them are notes of those that are kept elsewhere.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Opens kept changes: the tree, and where they are.
fn open(store: &Store, job: &Path) -> Result<(Overlay, PathBuf), Complaint> {
    let path = find(store, job)?;
    let owner = Upper::owner(&path).map_err(|e| e.to_string())?;
    let Some((manifest, lease)) = owner else {
        return Err(format!("{}: there are no changes in it", path.display()));
    };
    // Taken again by the next line.
    drop(lease);
    let manifest = store.manifest(&manifest).map_err(|e| format!("{}: {e}", path.display()))?;
    let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let overlay = Overlay::kept(Arc::new(manifest), owner, &path).map_err(|e| e.to_string())?;
    Ok((overlay, path))
}

/// Lists JOB's changes. What they come to is put into the store, without a name, if that can be written.
pub fn diff(store: &Store, job: &Path, json: bool, times: bool) -> Result<u8, Complaint> {
    let (overlay, path) = open(store, job)?;
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let looked = match store.is_writable() {
        true => end::publish(&overlay, store),
        false => through::look(&overlay, store),
    };
    let (tree, after) = looked.map_err(|e| failed(&e))?;
    let mut changes = diff::diff(&overlay.base(), &after).map_err(|e| failed(&e))?;
    if !times {
        diff::without_times(&mut changes);
    }
    let mut out = std::io::stdout().lock();
    diff::write_changes(&mut out, &changes, Style::of_stdout(json))
        .map_err(|e| format!("writing to stdout: {e}"))?;
    for path in &tree.left_out {
        eprintln!("vrift-trace: {}: can't be committed", vrift_events::printable(path));
    }
    Ok(0)
}

/// Makes JOB's changes a manifest that `name` then names, and empties its directory.
pub fn commit(store: &Store, job: &Path, name: &str) -> Result<u8, Complaint> {
    let (overlay, path) = open(store, job)?;
    let expected = store.ref_target(name).map_err(|e| e.to_string())?;
    let line = end::commit(&overlay, store, name, expected.as_ref())?;
    println!("{}", line.unwrap_or_default());
    if is_named(store, &path) {
        drop(overlay);
        remove(&path)?;
    }
    Ok(0)
}

/// Throws JOB's changes away.
pub fn discard(store: &Store, job: &Path) -> Result<u8, Complaint> {
    let path = find(store, job)?;
    if is_named(store, &path) {
        // Also of a job that was killed as it began or ended.
        remove(&path)?;
        return Ok(0);
    }
    match Upper::owner(&path).map_err(|e| e.to_string())? {
        None => return Err(format!("{}: there are no changes in it", path.display())),
        Some((manifest, lease)) => {
            Upper::reset(&path, &manifest, &lease).map_err(|e| e.to_string())?;
        }
    }
    Ok(0)
}

/// Is it found by a name, rather than a directory that the user gave?
fn is_named(store: &Store, path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    places(store).iter().any(|dir| dir.canonicalize().is_ok_and(|dir| path.starts_with(dir)))
}

fn remove(path: &Path) -> Result<(), Complaint> {
    Upper::remove_directory(path).map_err(|e| e.to_string())
}
