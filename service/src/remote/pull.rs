//! Pull: the manifest comes first and is checked, without a name; then the blobs that are missing
//! here, each checked; then the manifest gets its name, with collections held off for that moment;
//! then the ref moves.
//!
//! Whoever stops in between has lost nothing: blobs that arrived are found here by the next pull.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use tokio::task::spawn_blocking;
use vrift_client::Pulled;
use vrift_store::{Hash, Hold, IncomingManifest, Manifest, Origin, Store, StoreError};

use super::blob::{Pieces, download, taken};
use super::error::RemoteError;
use super::lazy;
use super::pack::{self, PackMap, Stretch};
use super::place::{Options, Remote};
use super::profile::Profile;
use super::push::manifest_object;
use super::refs;
use super::transfer::{Budget, RefSpec, Transfer, blobs_of, move_all};

/// No manifest is longer, in bytes: one of 30 million files.
pub(crate) const LONGEST_MANIFEST: u64 = 4 << 30;

/// A manifest that the store has, or will have as soon as its blobs are there.
enum Tree<'s> {
    Here(Manifest),
    Coming(IncomingManifest<'s>),
}

impl Tree<'_> {
    fn manifest(&self) -> &Manifest {
        match self {
            Tree::Here(manifest) => manifest,
            Tree::Coming(incoming) => incoming.manifest(),
        }
    }
}

/// Pulls a tree into the store at `root`, which is made if there is none and the remote has the tree.
///
/// # Errors
/// The remote fails, what it sends isn't what it says, the store can't be written, or the ref here was
/// moved meanwhile. The ref is then as it was; blobs that were whole stay, for the next try.
pub async fn pull(
    root: &Path,
    remote: &Remote,
    spec: &RefSpec,
    progress: &Arc<Transfer>,
) -> Result<Pulled, RemoteError> {
    let id = find(remote, spec).await?;
    let store = Arc::new(Store::open_or_create(root)?);
    let before = ref_here(&store, &spec.name)?;
    let tree = fetch_manifest(&store, remote, &id).await?;
    let blobs = needed(remote, tree.manifest())?;
    let mut packs = None;
    let mut new = fetch_absent(&store, remote, &id, &blobs, &mut packs, progress).await?;
    sync(&store).await?;
    let holding = Arc::clone(&store);
    let hold = spawn_blocking(move || holding.hold()).await??;
    // A collection may have taken what no manifest here named yet. Under the hold none does.
    let taken = fetch_absent(&store, remote, &id, &blobs, &mut packs, progress).await?;
    if !taken.is_empty() {
        sync(&store).await?;
    }
    new.extend(taken);
    new.sort_unstable();
    new.dedup();
    finish(&store, hold, tree, &spec.name, &before, &id)?;
    store.forget_origin(&id)?;
    Ok(Pulled {
        name: spec.name.clone(),
        manifest: id,
        blobs: blobs.len() as u64,
        new_blobs: new.len() as u64,
        new_bytes: new.iter().map(|(_, size)| size).sum(),
        absent_blobs: 0,
    })
}

/// As [`pull`], but leaves the blobs where they are: `place`, the remote as it was named, is noted in
/// the store, and [`super::OnDemand`] fetches what is needed. What `profile` says that a job needs is
/// fetched, after the tree has its name: an error then leaves that, and what came.
///
/// # Errors
/// As [`pull`].
pub async fn pull_lazily(
    root: &Path,
    remote: &Remote,
    place: &[u8],
    spec: &RefSpec,
    profile: Option<&Profile>,
    progress: &Arc<Transfer>,
) -> Result<Pulled, RemoteError> {
    let id = find(remote, spec).await?;
    let store = Arc::new(Store::open_or_create(root)?);
    let before = ref_here(&store, &spec.name)?;
    let tree = fetch_manifest(&store, remote, &id).await?;
    let blobs = needed(remote, tree.manifest())?;
    let holding = Arc::clone(&store);
    let hold = spawn_blocking(move || holding.hold()).await??;
    let missing = absent(&store, &blobs)?;
    // First, so that no manifest is ever there of which blobs are missing and nobody knows where from.
    if !missing.is_empty() {
        store.set_origin(&id, &Origin { place: place.to_vec(), tree: id })?;
    }
    let wanted = match profile {
        Some(profile) => profile.of(tree.manifest())?,
        None => Vec::new(),
    };
    finish(&store, hold, tree, &spec.name, &before, &id)?;
    let packs = match wanted.is_empty() {
        true => None,
        false => Some(pack::map_of(remote, &id, &blobs).await?),
    };
    let ahead = ahead(&store, remote, (&id, &blobs), &wanted, packs, progress).await?;
    Ok(Pulled {
        name: spec.name.clone(),
        manifest: id,
        blobs: blobs.len() as u64,
        new_blobs: ahead.new_blobs,
        new_bytes: ahead.new_bytes,
        absent_blobs: ahead.absent_blobs,
    })
}

/// What came ahead of its need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Blobs that came.
    pub new_blobs: u64,
    /// Bytes in these.
    pub new_bytes: u64,
    /// Blobs of the tree that still aren't here.
    pub absent_blobs: u64,
}

/// Fetches those of `wanted` that aren't here, of a tree that was pulled without them, from where it
/// came. Nothing, if all of it is here.
///
/// # Errors
/// The tree isn't here, or as [`pull`].
pub async fn prefetch(
    store: &Arc<Store>,
    id: &Hash,
    wanted: &[Hash],
    progress: &Arc<Transfer>,
) -> Result<Ahead, RemoteError> {
    // Open until all is here, so that no collection takes it.
    let tree = store.manifest(id)?;
    let Some(origin) = store.origin(id)? else { return Ok(Ahead::default()) };
    let remote = &Remote::open(OsStr::from_bytes(&origin.place), Options::default())?;
    remote.check_format(false).await?;
    let blobs = needed(remote, &tree)?;
    let mut known = Vec::new();
    for hash in wanted {
        if let Ok(found) = blobs.binary_search_by_key(hash, |&(hash, _)| hash) {
            known.push(blobs[found]);
        }
    }
    let packs = lazy::map_of(remote, store, &origin.tree).await?;
    ahead(store, remote, (id, &blobs), &known, Some(packs), progress).await
}

/// Fetches `wanted`, of the blobs of a tree. When none is missing any more, it is forgotten where they
/// were left.
async fn ahead(
    store: &Arc<Store>,
    remote: &Remote,
    (id, blobs): (&Hash, &[(Hash, u64)]),
    wanted: &[(Hash, u64)],
    mut packs: Option<PackMap>,
    progress: &Arc<Transfer>,
) -> Result<Ahead, RemoteError> {
    let new = fetch_absent(store, remote, id, wanted, &mut packs, progress).await?;
    let left = absent(store, blobs)?;
    if left.is_empty() || !new.is_empty() {
        sync(store).await?;
    }
    if left.is_empty() {
        store.forget_origin(id)?;
    }
    Ok(Ahead {
        new_blobs: new.len() as u64,
        new_bytes: new.iter().map(|(_, size)| size).sum(),
        absent_blobs: left.len() as u64,
    })
}

async fn find(remote: &Remote, spec: &RefSpec) -> Result<Hash, RemoteError> {
    remote.check_format(false).await?;
    match spec.source.parse() {
        Ok(id) => Ok(id),
        Err(_) => refs::target(remote, &spec.source).await,
    }
}

/// The ref here before the pull.
enum Before {
    /// It named this, or wasn't there.
    Was(Option<Hash>),
    /// It named nonsense, and may be set anew.
    Damaged,
}

fn ref_here(store: &Store, name: &str) -> Result<Before, StoreError> {
    match store.ref_target(name) {
        Err(StoreError::DamagedRef { .. }) => Ok(Before::Damaged),
        found => Ok(Before::Was(found?)),
    }
}

fn needed(remote: &Remote, manifest: &Manifest) -> Result<Vec<(Hash, u64)>, RemoteError> {
    blobs_of(manifest).map_err(|why| remote.junk(manifest_object(&manifest.id()), why))
}

/// What isn't here yet.
pub(crate) fn absent(store: &Store, blobs: &[(Hash, u64)]) -> Result<Vec<(Hash, u64)>, StoreError> {
    let mut absent = Vec::new();
    for &(hash, size) in blobs {
        if !store.has_blob(&hash, size)? {
            absent.push((hash, size));
        }
    }
    Ok(absent)
}

async fn fetch_manifest<'s>(
    store: &'s Store,
    remote: &Remote,
    id: &Hash,
) -> Result<Tree<'s>, RemoteError> {
    match store.manifest(id).and_then(|manifest| {
        manifest.check()?;
        Ok(manifest)
    }) {
        Ok(manifest) => Ok(Tree::Here(manifest)),
        Err(error @ StoreError::Io { .. }) => Err(error.into()),
        // Missing, or damaged and to be replaced.
        Err(_) => Ok(Tree::Coming(incoming_manifest(store, remote, id).await?)),
    }
}

/// Fetches a manifest and checks all of it.
pub(super) async fn incoming_manifest<'s>(
    store: &'s Store,
    remote: &Remote,
    id: &Hash,
) -> Result<IncomingManifest<'s>, RemoteError> {
    let name = manifest_object(id);
    let found = match remote.objects.get(&remote.path(&name)?).await {
        Err(object_store::Error::NotFound { .. }) => {
            return Err(remote.junk(name, "it isn't there, and a ref names it"));
        }
        found => found.map_err(|error| remote.failed("read", &name, &error))?,
    };
    let size = found.meta.size;
    if size > LONGEST_MANIFEST {
        return Err(remote.junk(name, format!("it has {size} bytes, too many for a manifest")));
    }
    let mut incoming = store.incoming(size)?;
    let mut pieces = Pieces::of(remote, &name, found);
    while let Some(bytes) = pieces.next().await? {
        taken(remote, &name, incoming.write(&bytes))?;
    }
    taken(remote, &name, incoming.into_manifest(id))
}

/// What was here already may be what an interrupted pull left, so it is made durable too.
pub(super) async fn sync(store: &Arc<Store>) -> Result<(), RemoteError> {
    let store = Arc::clone(store);
    Ok(spawn_blocking(move || store.sync()).await??)
}

/// Fetches what isn't here of the blobs of a manifest. Returns what that was. Where they lie in packs
/// is asked once, and not when nothing is missing.
async fn fetch_absent(
    store: &Arc<Store>,
    remote: &Remote,
    id: &Hash,
    blobs: &[(Hash, u64)],
    packs: &mut Option<PackMap>,
    progress: &Arc<Transfer>,
) -> Result<Vec<(Hash, u64)>, RemoteError> {
    let missing = absent(store, blobs)?;
    if missing.is_empty() {
        return Ok(missing);
    }
    let map = match packs.take() {
        Some(map) => map,
        None => pack::map_of(remote, id, blobs).await?,
    };
    progress.expect(&missing);
    fetch_all(store, remote, &map, &missing, false, progress).await?;
    *packs = Some(map);
    Ok(missing)
}

/// What is fetched by one request.
enum Fetch {
    Blob(Hash, u64),
    Stretch(Stretch),
}

/// Fetches these blobs, several at once; with `again` in the place of those that are here.
pub(super) async fn fetch_all(
    store: &Arc<Store>,
    remote: &Remote,
    packs: &PackMap,
    blobs: &[(Hash, u64)],
    again: bool,
    progress: &Arc<Transfer>,
) -> Result<(), RemoteError> {
    let budget = Budget::new();
    let (stretches, single) = packs.divide(blobs);
    let fetches = stretches.into_iter().map(Fetch::Stretch);
    let fetches = fetches.chain(single.into_iter().map(|(hash, size)| Fetch::Blob(hash, size)));
    let fetched = move_all(remote.options.jobs, fetches, |fetch| {
        let (store, remote, budget) = (Arc::clone(store), remote.clone(), budget.clone());
        let progress = Arc::clone(progress);
        async move {
            match fetch {
                Fetch::Blob(hash, size) => {
                    download(&remote, store, hash, size, again, &budget).await?;
                    progress.did(size);
                    Ok(())
                }
                Fetch::Stretch(stretch) => {
                    pack::download(&remote, store, stretch, again, &budget, &progress).await
                }
            }
        }
    });
    fetched.await.map(drop)
}

/// Everything is here, durably, and stays while `hold` lives: it gets its names.
fn finish(
    store: &Store,
    hold: Hold,
    tree: Tree<'_>,
    name: &str,
    before: &Before,
    id: &Hash,
) -> Result<(), RemoteError> {
    // Open until a ref names it, so that no collection takes it.
    let _open = match tree {
        Tree::Here(manifest) => manifest,
        Tree::Coming(incoming) => incoming.publish(&hold)?,
    };
    drop(hold);
    match before {
        Before::Was(target) => store.move_ref(name, target.as_ref(), id)?,
        Before::Damaged => store.set_ref(name, id)?,
    }
    Ok(())
}
