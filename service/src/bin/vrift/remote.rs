//! The commands that speak with a remote: push, pull, verify --repair.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tokio::runtime::Runtime;
use vrift_client::Pulled;
use vrift_service::remote::{
    self, Options, Profile, RefSpec, Remote, RemoteError, Repaired, Transfer, pull_lazily,
};
use vrift_store::json::put_name;
use vrift_store::text::{Shown, shown};
use vrift_store::{Hash, Store, StoreError, Verified};

use crate::Outcome;
use crate::args::Asking;
use crate::daemon::through;
use crate::output::{Failure, Out, bytes, count, with_transfer};
use crate::transfer::{check, conclude, damaged, wanted};

impl From<&Asking> for Options {
    fn from(asking: &Asking) -> Self {
        let timeout = Duration::from_secs(asking.timeout.get().into());
        Options { jobs: asking.requests.get(), timeout }
    }
}

/// What asks a remote.
pub fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(format!("can't start the threads for a remote: {error}")))
}

fn specs(arguments: &[OsString]) -> Result<Vec<RefSpec>, RemoteError> {
    arguments.iter().map(|argument| RefSpec::parse(argument)).collect()
}

/// `vrift push`
pub fn push(
    store: Store,
    refs: &[OsString],
    place: &OsStr,
    asking: &Asking,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    let specs = specs(refs)?;
    // Before a directory is made for nothing.
    for spec in &specs {
        store.resolve(&spec.source)?;
    }
    let remote = Remote::open_or_create(place, asking.into())?;
    let (store, transfer, runtime) = (Arc::new(store), Arc::new(Transfer::default()), runtime()?);
    for spec in &specs {
        let start = Instant::now();
        let done = with_transfer("push", &transfer, || {
            runtime.block_on(remote::push(&store, &remote, spec, &transfer))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        if out.json {
            out.object(&json!({
                "ref": done.name,
                "manifest": done.manifest.to_string(),
                "remote": remote.url(),
                "blobs": done.blobs,
                "new_blobs": done.new_blobs,
                "new_bytes": done.new_bytes,
                "seconds": seconds,
            }))?;
        } else {
            out.text(format_args!(
                "{}, {} sent, {}; {seconds:.2} s\n{} -> {} at {}\n",
                count(done.blobs, "blob"),
                done.new_blobs,
                bytes(done.new_bytes),
                done.name,
                done.manifest,
                remote.url(),
            ))?;
        }
    }
    Ok(Outcome::Fine)
}

/// `vrift pull`
pub fn pull(
    root: &Path,
    place: &OsStr,
    refs: &[OsString],
    (lazy, profile): (bool, Option<&Path>),
    asking: &Asking,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    let specs = specs(refs)?;
    if let Ok(store) = Store::open(root)
        && !store.is_writable()
    {
        let profile = profile.map(Profile::read).transpose()?;
        return pull_through(&store, place, &specs, (lazy, profile.as_ref()), out);
    }
    let profile = profile.map(Profile::read).transpose()?;
    let remote = Remote::open(place, asking.into())?;
    let noted = noted(place)?;
    let (transfer, runtime) = (Arc::new(Transfer::default()), runtime()?);
    for spec in &specs {
        let start = Instant::now();
        let done = with_transfer("pull", &transfer, || {
            runtime.block_on(async {
                if lazy {
                    let noted = noted.as_bytes();
                    pull_lazily(root, &remote, noted, spec, profile.as_ref(), &transfer).await
                } else {
                    remote::pull(root, &remote, spec, &transfer).await
                }
            })
        })?;
        pulled(&done, remote.url(), start.elapsed().as_secs_f64(), out)?;
    }
    Ok(Outcome::Fine)
}

/// What is noted in the store has to mean the same from any directory.
fn noted(place: &OsStr) -> Result<OsString, Failure> {
    if place.as_bytes().windows(3).any(|part| part == b"://") {
        return Ok(place.to_owned());
    }
    let failed = StoreError::io("find", Path::new(place));
    Ok(std::fs::canonicalize(place).map_err(failed)?.into_os_string())
}

/// Where this user may only read the store, its daemon asks the remote.
fn pull_through(
    store: &Store,
    place: &OsStr,
    specs: &[RefSpec],
    (lazy, profile): (bool, Option<&Profile>),
    out: &mut Out,
) -> Result<Outcome, Failure> {
    let (noted, transfer) = (noted(place)?, Transfer::default());
    let url = Shown(noted.as_bytes()).to_string();
    for spec in specs {
        let start = Instant::now();
        let done = with_transfer("pull", &transfer, || {
            let mut done = through::pull(store, &noted, spec, lazy, &transfer)?;
            if let Some(profile) = profile {
                let wanted = profile.of(&store.manifest(&done.manifest)?)?;
                let wanted: Vec<Hash> = wanted.into_iter().map(|(hash, _)| hash).collect();
                if !wanted.is_empty() {
                    let ahead = through::prefetch(store, &done.manifest, &wanted, &transfer)?;
                    (done.new_blobs, done.new_bytes) = (ahead.new_blobs, ahead.new_bytes);
                    done.absent_blobs = ahead.absent_blobs;
                }
            }
            Ok::<_, Failure>(done)
        })?;
        pulled(&done, &url, start.elapsed().as_secs_f64(), out)?;
    }
    Ok(Outcome::Fine)
}

fn pulled(done: &Pulled, url: &str, seconds: f64, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        return out.object(&json!({
            "ref": done.name,
            "manifest": done.manifest.to_string(),
            "remote": url,
            "blobs": done.blobs,
            "new_blobs": done.new_blobs,
            "new_bytes": done.new_bytes,
            "absent_blobs": done.absent_blobs,
            "seconds": seconds,
        }));
    }
    let absent = match done.absent_blobs {
        0 => String::new(),
        n => format!(", {n} left at {url}"),
    };
    out.text(format_args!(
        "{}, {} fetched, {}{absent}; {seconds:.2} s\n{} -> {}\n",
        count(done.blobs, "blob"),
        done.new_blobs,
        bytes(done.new_bytes),
        done.name,
        done.manifest,
    ))
}

/// `vrift verify --repair`
pub fn repair(
    store: Store,
    tree: Option<&OsStr>,
    place: &OsStr,
    asking: &Asking,
    out: &mut Out,
) -> Result<Outcome, Failure> {
    if !store.is_writable() {
        let tree = wanted(&store, tree)?;
        let (report, done) = through::repair(&store, tree.as_ref(), &noted(place)?)?;
        return repaired(&report, &done, out);
    }
    let remote = Remote::open(place, asking.into())?;
    let report = check(&store, tree)?;
    if report.damage.is_empty() {
        return repaired(&report, &Repaired::default(), out);
    }
    let (store, transfer, runtime) = (Arc::new(store), Arc::new(Transfer::default()), runtime()?);
    let done = with_transfer("repair", &transfer, || {
        runtime.block_on(remote::repair(&store, &remote, report.damage.clone(), &transfer))
    })?;
    repaired(&report, &done, out)
}

fn repaired(report: &Verified, done: &Repaired, out: &mut Out) -> Result<Outcome, Failure> {
    for file in &done.files {
        if out.json {
            let mut object = Map::new();
            put_name(&mut object, "repaired", file.as_os_str().as_bytes());
            out.object(&object.into())?;
        } else {
            out.text(format_args!("{}: repaired\n", shown(file)))?;
        }
    }
    for damage in &done.left {
        damaged(damage, out)?;
    }
    conclude(report, done.files.len(), done.left.len(), out)
}
