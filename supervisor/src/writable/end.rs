//! What becomes of a writable mount's changes when the job has ended: thrown away, kept, or made a
//! manifest that a ref then names.

use super::ingest;
use crate::job::Job;
use std::fmt::Write;
use std::path::PathBuf;
use vrift_policy::OnExit;
use vrift_projection::overlay::{CommitError, Overlay, Tree, Upper};
use vrift_store::{Hash, Store};

/// One mount's end, as it was asked for.
pub struct MountEnd {
    /// The mount's number in the projection.
    pub mount: u16,
    /// Where it is, for messages.
    pub at: PathBuf,
    /// What becomes of its changes.
    pub what: OnExit,
    /// What the ref of a commit named when the job began.
    pub expected: Option<Hash>,
    /// How kept changes are called, to be asked for later.
    pub called: Option<String>,
}

/// The ends of all mounts.
#[derive(Default)]
pub struct Ends {
    /// One for each writable mount.
    pub mounts: Vec<MountEnd>,
    /// Only failures are told.
    pub quiet: bool,
}

/// Does what was asked for, after the last task has ended: what there is to tell, and failures.
pub fn finish(job: &Job) -> (Vec<String>, Vec<String>) {
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    ingest::stop(job);
    for end in &job.ends.mounts {
        let overlay = job.projection.mount(end.mount).and_then(|mount| mount.overlay());
        let (Some(overlay), Some(view)) = (overlay, &job.store) else { continue };
        if let Some(why) = overlay.watch_failure() {
            let at = end.at.display();
            job.counters.fail(format!("{at}: what is watched may not have told all: {why}"));
        }
        let done = match &end.what {
            OnExit::Discard => Ok(None),
            OnExit::Keep => keep(overlay, &view.store, end),
            OnExit::Commit(name) => commit(overlay, &view.store, name, end.expected.as_ref()),
        };
        match done {
            Ok(Some(line)) if !job.ends.quiet => told.push(format!("{}: {line}", end.at.display())),
            Ok(_) => {}
            Err(line) => failed.push(format!("{}: {line}", end.at.display())),
        }
    }
    (told, failed)
}

fn keep(overlay: &Overlay, store: &Store, end: &MountEnd) -> Result<Option<String>, String> {
    ingest::rest(overlay, store).map_err(|e| e.to_string())?;
    overlay.upper().sync().map_err(|e| format!("the changes may not all be on disk: {e}"))?;
    Ok(end
        .called
        .as_ref()
        .map(|called| format!("changes are kept: vrift-trace diff|commit|discard {called}")))
}

/// Makes the tree a manifest and has the ref name it.
pub fn commit(
    overlay: &Overlay,
    store: &Store,
    name: &str,
    expected: Option<&Hash>,
) -> Result<Option<String>, String> {
    let tree = tree(overlay, store).map_err(|e| format!("nothing was committed: {e}"))?;
    // The contents are on disk before a manifest speaks of them.
    let nothing = |e| format!("nothing was committed: {e}");
    store.sync().map_err(nothing)?;
    store.put_manifest(&tree.bytes, &tree.id).map_err(nothing)?;
    store.move_ref(name, expected, &tree.id).map_err(|e| {
        format!(
            "{e}; the job's tree is in the store as {}: `vrift tag {} NAME` gives it a name",
            tree.id, tree.id
        )
    })?;
    if overlay.upper().is_kept() {
        // Its changes are in the manifest now; what the next job changes is on top of that.
        let upper = overlay.upper();
        Upper::reset(upper.path(), &tree.id, upper.lease()).map_err(|e| e.to_string())?;
    }
    let mut line = format!("committed: {name} -> {}", tree.id);
    if let Some(first) = tree.left_out.first() {
        let more = tree.left_out.len() - 1;
        let _ = write!(
            line,
            "; left out, for a manifest holds files, directories and links: {}{}",
            vrift_events::printable(first),
            if more > 0 { format!(" and {more} more") } else { String::new() }
        );
    }
    Ok(Some(line))
}

/// The tree as it is now, its contents in the store.
pub fn tree(overlay: &Overlay, store: &Store) -> Result<Tree, CommitError> {
    overlay.tree(&|file| ingest::put(store, file))
}
