//! Changes that a job left behind: `vrift-trace diff|commit|discard JOB`.
//!
//! JOB is an upper directory, or the name that a job with `on_exit = "keep"` gave for its own, which
//! are in the store's directory `uppers`.

use super::Complaint;
use crate::writable::end;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vrift_projection::overlay::{Overlay, Upper};
use vrift_store::Store;
use vrift_store::diff::{self, Style};

/// The name of this job among those whose changes are kept: when it began, and its process.
pub fn name_of_this_job() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let made = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        format!("{}-{}", now.map_or(0, |now| now.as_secs()), std::process::id())
    };
    NAME.get_or_init(made).clone()
}

/// Where the changes of the job of that name are.
pub fn place(store: &Store, name: &str) -> PathBuf {
    store.root().join("uppers").join(name)
}

/// Where JOB's changes are.
fn find(store: &Store, job: &Path) -> Result<PathBuf, Complaint> {
    let named = job.to_str().filter(|name| !name.contains('/')).map(|name| place(store, name));
    match named.filter(|place| place.is_dir()) {
        Some(place) => Ok(place),
        None if job.is_dir() => Ok(job.to_owned()),
        None => Err(format!(
            "{}: no changes are kept under this name, and it is no upper directory; kept are: {}",
            job.display(),
            known(store)
        )),
    }
}

/// The names of jobs whose changes are kept in the store.
fn known(store: &Store) -> String {
    let entries = fs::read_dir(store.root().join("uppers"));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
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

/// Lists JOB's changes. What they come to is put into the store, without a name.
pub fn diff(store: &Store, job: &Path, json: bool, times: bool) -> Result<u8, Complaint> {
    let (overlay, path) = open(store, job)?;
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let (tree, after) = end::publish(&overlay, store).map_err(|e| failed(&e))?;
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
    if is_in_store(store, &path) {
        remove(&path)?;
    }
    Ok(0)
}

/// Throws JOB's changes away.
pub fn discard(store: &Store, job: &Path) -> Result<u8, Complaint> {
    let path = find(store, job)?;
    match Upper::owner(&path).map_err(|e| e.to_string())? {
        None => return Err(format!("{}: there are no changes in it", path.display())),
        Some((manifest, lease)) if !is_in_store(store, &path) => {
            Upper::reset(&path, &manifest, &lease).map_err(|e| e.to_string())?;
        }
        Some((_, lease)) => {
            remove(&path)?;
            drop(lease);
        }
    }
    Ok(0)
}

fn is_in_store(store: &Store, path: &Path) -> bool {
    let uppers = store.root().join("uppers").canonicalize();
    uppers.is_ok_and(|uppers| path.canonicalize().is_ok_and(|path| path.starts_with(uppers)))
}

fn remove(path: &Path) -> Result<(), Complaint> {
    fs::remove_dir_all(path).map_err(|e| format!("removing {}: {e}", path.display()))
}
