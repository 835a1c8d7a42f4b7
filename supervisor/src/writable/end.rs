//! What becomes of a writable mount's changes when the job has ended: thrown away, kept, or made a
//! manifest that a ref then names.

use super::{ingest, through};
use crate::job::Job;
use std::fmt::Write;
use std::path::PathBuf;
use vrift_policy::OnExit;
use vrift_projection::overlay::{CommitError, Overlay, Tree, Upper};
use vrift_store::{Hash, Manifest, Store, StoreError};

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
    /// How kept changes are called, to be asked for later: at last, or until they are committed.
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
            OnExit::Commit(name) => commit(overlay, &view.store, name, end.expected.as_ref())
                .map_err(|line| match &end.called {
                    None => line,
                    Some(called) => format!(
                        "{line}; the changes are kept: vrift-trace diff|commit|discard {called}"
                    ),
                })
                .inspect(|_| {
                    if end.called.is_some() {
                        // Empty by now, and as such in nobody's way if it can't be removed.
                        if let Err(e) = Upper::remove_directory(overlay.upper().path()) {
                            tracing::debug!("{e}");
                        }
                    }
                }),
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
    if store.is_writable() {
        ingest::rest(overlay, store).map_err(|e| e.to_string())?;
    }
    overlay.forget_copies();
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
    let nothing = |e: PublishError| format!("nothing was committed: {e}");
    // Open until something names it, so that no collection takes it.
    let (tree, manifest) = if store.is_writable() {
        let (tree, manifest) = publish(overlay, store).map_err(nothing)?;
        store.move_ref(name, expected, &tree.id).map_err(|e| {
            format!(
                "{e}; the job's tree is in the store as {}: `vrift tag {} NAME` gives it a name",
                tree.id, tree.id
            )
        })?;
        (tree, Some(manifest))
    } else {
        (through::commit(overlay, store, name, expected).map_err(nothing)?, None)
    };
    if overlay.upper().is_kept() {
        // Its changes are in the manifest now; what the next job changes is on top of that.
        let upper = overlay.upper();
        Upper::reset(upper.path(), &tree.id, upper.lease()).map_err(|e| e.to_string())?;
    }
    drop(manifest);
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

/// The tree as it is now, and its manifest, which is in the store with all that it names. No
/// collection takes any of it as long as the manifest is open.
pub fn publish(overlay: &Overlay, store: &Store) -> Result<(Tree, Manifest), PublishError> {
    let tree = || {
        let tree = overlay.tree(&|file| ingest::put(store, None, file))?;
        // The contents are on disk before a manifest speaks of them.
        store.sync()?;
        Ok::<_, PublishError>(tree)
    };
    let base = overlay.base();
    let made = tree()?;
    let hold = store.hold()?;
    if let Some(manifest) = store.put_tree(&hold, &made.bytes, &made.id, Some(&base))? {
        return Ok((made, manifest));
    }
    // What was stored while the job ran was collected since: nothing named it.
    overlay.forget_stored();
    let made = tree()?;
    match store.put_tree(&hold, &made.bytes, &made.id, Some(&base))? {
        Some(manifest) => Ok((made, manifest)),
        None => Err(StoreError::Vanishing { root: store.root().to_owned() }.into()),
    }
}

/// Why a job's tree can't be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It can't be put together.
    #[error(transparent)]
    Tree(#[from] CommitError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What would be in the manifest can't be looked at.
    #[error("can't write a manifest to look at: {0}")]
    Scratch(#[source] std::io::Error),
    /// What was written isn't a manifest.
    #[error(transparent)]
    Manifest(#[from] vrift_store::ManifestError),
}
