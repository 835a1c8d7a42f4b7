//! Push: what a tree needs and the remote lacks goes up, then the manifest, then the ref.
//!
//! Whoever stops in between has lost nothing: what arrived is found there by the next push.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::ObjectStoreExt;
use tokio::task::spawn_blocking;
use vrift_store::{Hash, Manifest, Store, StoreError};

use super::blob::{PART, blob_object, upload, upload_file};
use super::error::RemoteError;
use super::pack::{self, PackMap};
use super::place::{Kind, Remote};
use super::refs;
use super::transfer::{Budget, RefSpec, Transfer, blobs_of, move_all};

/// From so many blobs on, the remote is asked for its list instead of for each of them.
const LISTED_FROM: usize = 256;
/// A remote that holds so many times more than is looked for isn't listed to its end.
const LISTED_MOST: usize = 64;

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The ref on the remote.
    pub name: String,
    /// What it names now.
    pub manifest: Hash,
    /// Blobs that the tree needs.
    pub blobs: u64,
    /// Of these the remote lacked.
    pub new_blobs: u64,
    /// Bytes in these.
    pub new_bytes: u64,
}

/// Pushes a tree of `store`.
///
/// # Errors
/// The tree isn't whole here, the remote fails, or the ref there was moved meanwhile. The ref is then
/// as it was; blobs that were sent stay, for the next try.
pub async fn push(
    store: &Arc<Store>,
    remote: &Remote,
    spec: &RefSpec,
    progress: &Arc<Transfer>,
) -> Result<Pushed, RemoteError> {
    let id = store.resolve(&spec.source)?;
    let manifest = store.manifest(&id)?;
    manifest.check()?;
    let blobs = blobs_of(&manifest).map_err(|why| {
        let spec = spec.source.clone().into_bytes();
        RemoteError::Spec { spec, why }
    })?;
    remote.check_format(true).await?;
    let seen = refs::see(remote, &spec.name).await?;

    let (mut packs, missing) = missing(remote, &blobs).await?;
    progress.expect(&missing);
    let mut single = missing.clone();
    let small = take_small(&manifest, &mut single)?;
    packs.add_all(pack::send(store, remote, &small, progress).await?);
    send(store, remote, &single, progress).await?;
    let known = size_there(remote, &manifest_object(&id)).await? == Some(manifest.file_len());
    if !known || !missing.is_empty() {
        settle(remote).await?;
    }
    // Before the manifest, so that nobody looks for its blobs in vain.
    pack::send_map(remote, &id, &packs, &blobs).await?;
    if !known {
        send_manifest(store, remote, &manifest).await?;
    }
    refs::set(remote, &spec.name, seen.as_ref(), &id).await?;
    Ok(Pushed {
        name: spec.name.clone(),
        manifest: id,
        blobs: blobs.len() as u64,
        new_blobs: missing.len() as u64,
        new_bytes: missing.iter().map(|(_, size)| size).sum(),
    })
}

async fn send(
    store: &Arc<Store>,
    remote: &Remote,
    blobs: &[(Hash, u64)],
    progress: &Arc<Transfer>,
) -> Result<(), RemoteError> {
    let budget = Budget::new();
    let sent = move_all(remote.options.jobs, blobs.iter().copied(), |(hash, size)| {
        let (store, remote, budget) = (Arc::clone(store), remote.clone(), budget.clone());
        let progress = Arc::clone(progress);
        async move {
            upload(&remote, store, hash, size, &budget).await?;
            progress.did(size);
            Ok(())
        }
    });
    sent.await.map(drop)
}

/// Takes what is small out of the missing blobs, where that is worth packs, in the order of the tree.
fn take_small(
    manifest: &Manifest,
    missing: &mut Vec<(Hash, u64)>,
) -> Result<Vec<(Hash, u64)>, RemoteError> {
    let is_small = |(_, size): &(Hash, u64)| *size <= pack::SMALL;
    if missing.iter().filter(|blob| is_small(blob)).count() < pack::WORTH {
        return Ok(Vec::new());
    }
    let (small, others): (Vec<_>, Vec<_>) = missing.drain(..).partition(is_small);
    *missing = others;
    let mut left: HashSet<Hash> = small.iter().map(|(hash, _)| *hash).collect();
    let mut ordered = Vec::with_capacity(small.len());
    for id in 0..manifest.len() {
        let node = manifest.node(id)?;
        if let Some(blob) = node.blob
            && left.remove(&blob)
        {
            ordered.push((blob, node.size));
        }
    }
    Ok(ordered)
}

/// Waits until the disk of a remote that is a directory has all that was sent.
async fn settle(remote: &Remote) -> Result<(), RemoteError> {
    let Kind::Directory(root) = &remote.kind else { return Ok(()) };
    let root = root.clone();
    spawn_blocking(move || {
        let dir = std::fs::File::open(&root).map_err(StoreError::io("open", &root))?;
        rustix::fs::syncfs(&dir).map_err(StoreError::io("write to the disk", &root))
    })
    .await??;
    Ok(())
}

/// The manifest comes after all that it names.
async fn send_manifest(
    store: &Arc<Store>,
    remote: &Remote,
    manifest: &Manifest,
) -> Result<(), RemoteError> {
    let (name, size) = (manifest_object(&manifest.id()), manifest.file_len());
    let path = store.root().join(&name);
    let failed = StoreError::io("read", &path);
    if size > PART as u64 {
        let file = std::fs::File::open(&path).map_err(failed)?;
        return upload_file(remote, (file, &path), &name, size, &Budget::new(), None).await;
    }
    let content = std::fs::read(&path).map_err(failed)?;
    let sent = remote.durable.put(&remote.path(&name)?, content.into()).await;
    sent.map(|_| ()).map_err(|error| remote.failed("write", &name, &error))
}

pub(super) fn manifest_object(id: &Hash) -> String {
    format!("manifests/{id}")
}

/// The length of an object; None when there is none.
async fn size_there(remote: &Remote, name: &str) -> Result<Option<u64>, RemoteError> {
    match remote.objects.head(&remote.path(name)?).await {
        Ok(meta) => Ok(Some(meta.size)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(remote.failed("look at", name, &error)),
    }
}

/// Which of these blobs the remote has in packs, and which it lacks, or has in another length.
async fn missing(
    remote: &Remote,
    blobs: &[(Hash, u64)],
) -> Result<(PackMap, Vec<(Hash, u64)>), RemoteError> {
    let (mut packs, mut there, mut complete) = (PackMap::default(), HashSet::new(), false);
    if blobs.len() >= LISTED_FROM {
        packs = pack::see(remote, blobs, blobs.len() * LISTED_MOST).await?;
        (there, complete) = list(remote, blobs).await?;
    }
    let known = |hash: &Hash| packs.holds(hash) || there.contains(hash);
    let mut rest: Vec<_> = blobs.iter().filter(|(hash, _)| !known(hash)).copied().collect();
    if !complete {
        rest = asked_for(remote, rest).await?;
    }
    Ok((packs, rest))
}

/// Which of these blobs aren't there, asked for each.
async fn asked_for(
    remote: &Remote,
    blobs: Vec<(Hash, u64)>,
) -> Result<Vec<(Hash, u64)>, RemoteError> {
    let asked = futures_util::stream::iter(blobs).map(|(hash, size)| async move {
        let found = size_there(remote, &blob_object(&hash)).await?;
        Ok::<_, RemoteError>((found != Some(size)).then_some((hash, size)))
    });
    let mut asked = asked.buffer_unordered(remote.options.jobs);
    let mut missing = Vec::new();
    while let Some(found) = asked.next().await {
        missing.extend(found?);
    }
    Ok(missing)
}

/// Which of these blobs the remote lists, and whether it was listed to its end.
async fn list(
    remote: &Remote,
    blobs: &[(Hash, u64)],
) -> Result<(HashSet<Hash>, bool), RemoteError> {
    let (mut there, mut count) = (HashSet::new(), 0);
    let complete = remote.list("blobs", |name, size| {
        if let Ok(hash) = name.parse::<Hash>()
            && let Ok(at) = blobs.binary_search_by(|(blob, _)| blob.cmp(&hash))
            && blobs[at].1 == size
        {
            there.insert(hash);
        }
        count += 1;
        if count >= blobs.len() * LISTED_MOST {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let complete = complete.await?;
    Ok((there, complete))
}
