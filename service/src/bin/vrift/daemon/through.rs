//! What `vrift` has the daemon do, because the store is another user's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use vrift_client::message::Counts;
use vrift_client::{Bytes, Client, DaemonError, Pulled, Reply, Request, Upload};
use vrift_service::remote::{Ahead, RefSpec, Repaired, Transfer};
use vrift_store::collect::Collected;
use vrift_store::protect::Protected;
use vrift_store::{
    Damage, Hash, IngestError, IngestOptions, Ingested, Progress, Store, StoreError, Verified,
};

use crate::output::{Failure, with_progress};

/// Hashes in one message, which has room for 1,900.
const MOST_HASHES: usize = 1500;

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
        other => Err(DaemonError::odd(store.root(), &other).into()),
    }
}

/// `vrift protect`, `vrift unprotect`
pub fn protected(mut client: Client, request: &Request) -> Result<Protected, Failure> {
    match client.ask(request, &mut |_| ())? {
        Reply::Protected(done) => Ok(done),
        other => Err(client.odd(&other).into()),
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
    let request = Request::Pull {
        remote: text(remote)?,
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
        other => Err(DaemonError::odd(store.root(), &other).into()),
    }
}

/// Contents of a tree that was pulled without them: how many came, and how many are still missing.
pub fn prefetch(
    store: &Store,
    manifest: &Hash,
    blobs: &[Hash],
    transfer: &Transfer,
) -> Result<Ahead, Failure> {
    let mut client = Client::needed(store)?;
    let mut all = Ahead::default();
    for blobs in blobs.chunks(MOST_HASHES) {
        let request = Request::Prefetch { manifest: *manifest, blobs: blobs.to_vec() };
        let said = client.ask(&request, &mut |said| {
            if let Reply::Working { entries, bytes } = said {
                transfer.done_blobs.store(all.new_blobs + entries, Relaxed);
                transfer.done_bytes.store(all.new_bytes + bytes, Relaxed);
            }
        })?;
        match said {
            Reply::Fetched { blobs, bytes, absent } => {
                all.new_blobs += blobs;
                all.new_bytes += bytes;
                all.absent_blobs = absent;
            }
            other => return Err(DaemonError::odd(store.root(), &other).into()),
        }
    }
    Ok(all)
}

/// `vrift verify --repair`
pub fn repair(
    store: &Store,
    tree: Option<&Hash>,
    remote: &OsStr,
) -> Result<(Verified, Repaired), Failure> {
    let mut client = Client::needed(store)?;
    let request = Request::Repair { tree: tree.copied(), remote: text(remote)? };
    let mut done = Repaired::default();
    let last = with_progress("repair", |progress| {
        client.ask(&request, &mut |said| match said {
            Reply::Repaired { path } => done.files.push(file(path)),
            Reply::Damaged { path, what, .. } => {
                let (path, what) = (file(path), what.clone());
                done.left.push(Damage { path, what, quarantined: false });
            }
            said => follow(said, progress),
        })
    })?;
    let Reply::Verified(counts) = last else {
        return Err(DaemonError::odd(store.root(), &last).into());
    };
    Ok((verified(counts), done))
}

/// A remote as the daemon takes it.
fn text(remote: &OsStr) -> Result<String, Failure> {
    remote.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new("the daemon takes a remote whose name is text only: do it as who may write")
    })
}

fn file(path: &Bytes) -> PathBuf {
    OsString::from_vec(path.0.clone()).into()
}

/// What is done or not: `vrift tag`, `vrift rm`.
pub fn simple(store: &Store, request: &Request) -> Result<(), Failure> {
    match Client::needed(store)?.ask(request, &mut |_| ())? {
        Reply::Done => Ok(()),
        other => Err(DaemonError::odd(store.root(), &other).into()),
    }
}

/// `vrift verify --quarantine`
pub fn quarantine(store: &Store, tree: Option<&Hash>) -> Result<Verified, Failure> {
    let mut damage = Vec::new();
    let mut client = Client::needed(store)?;
    let request = Request::Quarantine { tree: tree.copied() };
    let last = with_progress("verify", |progress| {
        client.ask(&request, &mut |said| {
            if let Reply::Damaged { path, what, quarantined } = said {
                let (path, what, quarantined) = (file(path), what.clone(), *quarantined);
                damage.push(Damage { path, what, quarantined });
            }
            follow(said, progress);
        })
    })?;
    let Reply::Verified(counts) = last else {
        return Err(DaemonError::odd(store.root(), &last).into());
    };
    let mut report = verified(counts);
    report.damage = damage;
    Ok(report)
}

fn verified(counts: Counts) -> Verified {
    let mut report = Verified::default();
    (report.blobs, report.bytes) = (counts.blobs, counts.bytes);
    (report.manifests, report.refs) = (counts.manifests, counts.refs);
    (report.absent, report.protected) = (counts.absent, counts.protected);
    report
}

fn follow(said: &Reply, progress: &Progress) {
    if let Reply::Working { entries, bytes } = said {
        progress.entries.store(*entries, Relaxed);
        progress.bytes.store(*bytes, Relaxed);
    }
}
