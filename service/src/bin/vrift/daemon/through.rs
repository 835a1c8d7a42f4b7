//! What `vrift` has the daemon do, because the store is another user's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use vrift_service::daemon::{Client, DaemonError, Reply, Request, Upload};
use vrift_service::remote::{Pulled, RefSpec, Transfer};
use vrift_store::collect::Collected;
use vrift_store::protect::Protected;
use vrift_store::{
    Damage, Hash, IngestError, IngestOptions, Ingested, Progress, Store, StoreError, Verified,
};

use crate::output::{Failure, with_progress};

/// `vrift ingest`
pub fn ingest(
    store: &Store,
    name: &str,
    dir: &Path,
    options: &IngestOptions,
    progress: &Progress,
) -> Result<Ingested, IngestError> {
    let upload = Upload::new(store, name, options.jobs).map_err(StoreError::from)?;
    store.ingest_through(&upload, dir, options, progress)
}

/// `vrift gc`
pub fn collect(store: &Store, grace: Duration, progress: &Progress) -> Result<Collected, Failure> {
    let request = Request::Collect { grace_seconds: grace.as_secs() };
    match Client::needed(store)?.ask(&request, &mut |said| follow(said, progress))? {
        Reply::Collected(done) => Ok(done),
        other => Err(odd(&other)),
    }
}

/// `vrift protect`, `vrift unprotect`
pub fn protected(mut client: Client, request: &Request) -> Result<Protected, Failure> {
    match client.ask(request, &mut |_| ())? {
        Reply::Protected(done) => Ok(done),
        other => Err(odd(&other)),
    }
}

/// `vrift pull`
pub fn pull(
    store: &Store,
    remote: &OsStr,
    spec: &RefSpec,
    lazy: bool,
    transfer: &Transfer,
) -> Result<Pulled, Failure> {
    let remote = remote.to_str().ok_or_else(|| {
        Failure::new(
            "the daemon takes a remote whose name is text only: pull with the right to write",
        )
    })?;
    let request = Request::Pull {
        remote: remote.to_owned(),
        source: spec.source.clone(),
        name: spec.name.clone(),
        lazy,
    };
    let said = Client::needed(store)?.ask(&request, &mut |said| {
        if let Reply::Working { entries, bytes } = said {
            transfer.done_blobs.store(*entries, Relaxed);
            transfer.done_bytes.store(*bytes, Relaxed);
        }
    })?;
    match said {
        Reply::Pulled(done) => Ok(done),
        other => Err(odd(&other)),
    }
}

/// What is done or not: `vrift tag`, `vrift rm`.
pub fn simple(store: &Store, request: &Request) -> Result<(), Failure> {
    match Client::needed(store)?.ask(request, &mut |_| ())? {
        Reply::Done => Ok(()),
        other => Err(odd(&other)),
    }
}

/// `vrift verify --quarantine`
pub fn quarantine(store: &Store, tree: Option<&Hash>) -> Result<Verified, Failure> {
    let mut report = Verified::default();
    let mut client = Client::needed(store)?;
    let request = Request::Quarantine { tree: tree.copied() };
    let last = with_progress("verify", |progress| {
        client.ask(&request, &mut |said| {
            if let Reply::Damaged { path, what, quarantined } = said {
                let path = OsString::from_vec(path.0.clone()).into();
                let (what, quarantined) = (what.clone(), *quarantined);
                report.damage.push(Damage { path, what, quarantined });
            }
            follow(said, progress);
        })
    })?;
    let Reply::Verified(counts) = last else { return Err(odd(&last)) };
    (report.blobs, report.bytes) = (counts.blobs, counts.bytes);
    (report.manifests, report.refs) = (counts.manifests, counts.refs);
    (report.absent, report.protected) = (counts.absent, counts.protected);
    Ok(report)
}

fn follow(said: &Reply, progress: &Progress) {
    if let Reply::Working { entries, bytes } = said {
        progress.entries.store(*entries, Relaxed);
        progress.bytes.store(*bytes, Relaxed);
    }
}

/// An answer to another question.
pub fn odd(reply: &Reply) -> Failure {
    let why = format!("the daemon answers oddly: {reply:?}");
    DaemonError::Failed { why }.into()
}
