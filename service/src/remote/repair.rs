//! Repair: what `verify` found damaged or missing here is fetched from a remote, and takes its place
//! once it was checked.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use vrift_store::{Damage, Hash, Manifest, Store};

use super::error::RemoteError;
use super::pack::{self, PackMap};
use super::place::Remote;
use super::pull::{absent, fetch_all, incoming_manifest, sync};
use super::transfer::{Transfer, blobs_of};

/// What could be repaired.
#[derive(Debug, Default)]
pub struct Repaired {
    /// Files of the store, relative to its root, that are whole now, in order.
    pub files: Vec<std::path::PathBuf>,
    /// Damage that remains, each with why.
    pub left: Vec<Damage>,
}

/// What the manifests say of a blob.
struct Need {
    size: u64,
    /// Those that name it: of any of them the remote may have it in a pack.
    by: Vec<Hash>,
}

/// What a damaged file of the store is.
enum Kind {
    Blob(Hash),
    Manifest(Hash),
    Other,
}

fn kind(store: &Store, path: &Path) -> Kind {
    // A ref whose manifest is missing: that one is fetched.
    if let Ok(name) = path.strip_prefix("refs")
        && let Some(Ok(Some(id))) = name.to_str().map(|name| store.ref_target(name))
    {
        return Kind::Manifest(id);
    }
    let hash = path.file_name().and_then(|name| name.to_str()?.parse::<Hash>().ok());
    match (hash, path.parent()) {
        (Some(hash), Some(parent)) if parent == Path::new("manifests") => Kind::Manifest(hash),
        (Some(hash), _) if path == Store::blob_path(&hash) => Kind::Blob(hash),
        _ => Kind::Other,
    }
}

/// Fetches what `damage` names. Manifests come first, and of those that came the blobs that are
/// missing here. A file that the remote can't give is damage that is left.
///
/// # Errors
/// There is no remote, or the store can't be written.
pub async fn repair(
    store: &Arc<Store>,
    remote: &Remote,
    damage: Vec<Damage>,
    progress: &Arc<Transfer>,
) -> Result<Repaired, RemoteError> {
    remote.check_format(false).await?;
    let mut repaired = Repaired::default();
    let mut blobs: HashMap<Hash, Damage> = HashMap::new();
    let mut at_odds = Vec::new();
    for damage in damage {
        match kind(store, &damage.path) {
            // Whole, and at odds with a blob, which may be the one that is wrong.
            Kind::Manifest(id) if is_whole(store, &id) => at_odds.push((id, damage)),
            Kind::Manifest(id) => match restore_manifest(store, remote, &id).await {
                Ok(missing) => {
                    repaired.files.push(damage.path);
                    for (hash, _) in missing {
                        let path = Store::blob_path(&hash);
                        let what = format!("is missing; manifest {id} needs it");
                        blobs.entry(hash).or_insert(Damage { path, what, quarantined: false });
                    }
                }
                Err(error) => repaired.leave(damage, error)?,
            },
            Kind::Blob(hash) => {
                blobs.insert(hash, damage);
            }
            Kind::Other => repaired.left.push(damage),
        }
    }
    let (known, damaged) = (Arc::clone(store), blobs.keys().copied().collect());
    let mut needs = spawn_blocking(move || needs_of(&known, &damaged)).await??;
    let mut maps = HashMap::new();
    for (hash, damage) in blobs {
        let Some(need) = needs.remove(&hash) else {
            let what = format!("{}; not repaired: no manifest needs it", damage.what);
            repaired.left.push(Damage { what, ..damage });
            continue;
        };
        progress.expect(&[(hash, need.size)]);
        match fetch(store, remote, &mut maps, hash, &need, progress).await {
            Ok(()) => repaired.files.push(damage.path),
            Err(error) => repaired.leave(damage, error)?,
        }
    }
    for (id, damage) in at_odds {
        if !missing(store, &store.manifest(&id)?)?.is_empty() {
            repaired.left.push(damage);
        }
    }
    sync(store).await?;
    repaired.files.sort_unstable();
    repaired.left.sort_unstable();
    Ok(repaired)
}

impl Repaired {
    /// The remote doesn't have it, or not whole; that the store can't be written ends everything.
    fn leave(&mut self, damage: Damage, error: RemoteError) -> Result<(), RemoteError> {
        match error {
            RemoteError::Service { .. } | RemoteError::Junk { .. } => {
                let what = format!("{}; not repaired: {error}", damage.what);
                self.left.push(Damage { what, ..damage });
                Ok(())
            }
            error => Err(error),
        }
    }
}

/// Fetches one blob from wherever the remote keeps it. `maps` are of the manifests that were asked for.
async fn fetch(
    store: &Arc<Store>,
    remote: &Remote,
    maps: &mut HashMap<Hash, PackMap>,
    hash: Hash,
    need: &Need,
    progress: &Arc<Transfer>,
) -> Result<(), RemoteError> {
    let blob = [(hash, need.size)];
    for by in &need.by {
        let map = match maps.entry(*by) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let blobs = blobs_of(&store.manifest(by)?).unwrap_or_default();
                unknown.insert(pack::map_of(remote, by, &blobs).await?)
            }
        };
        if map.holds(&hash) {
            return fetch_all(store, remote, map, &blob, true, progress).await;
        }
    }
    fetch_all(store, remote, &PackMap::default(), &blob, true, progress).await
}

async fn restore_manifest(
    store: &Arc<Store>,
    remote: &Remote,
    id: &Hash,
) -> Result<Vec<(Hash, u64)>, RemoteError> {
    let incoming = incoming_manifest(store, remote, id).await?;
    let hold = store.hold()?;
    let missing = missing(store, incoming.manifest())?;
    incoming.publish(&hold)?;
    Ok(missing)
}

/// Which blobs of a manifest aren't here, or not in this length.
fn missing(store: &Store, manifest: &Manifest) -> Result<Vec<(Hash, u64)>, RemoteError> {
    let damaged = |why| RemoteError::Spec { spec: manifest.id().to_string().into_bytes(), why };
    Ok(absent(store, &blobs_of(manifest).map_err(damaged)?)?)
}

fn is_whole(store: &Store, id: &Hash) -> bool {
    store.manifest(id).is_ok_and(|manifest| manifest.check().is_ok())
}

/// What whole manifests say of these blobs.
fn needs_of(store: &Store, blobs: &HashSet<Hash>) -> Result<HashMap<Hash, Need>, RemoteError> {
    let mut needs: HashMap<Hash, Need> = HashMap::new();
    for by in store.manifests()? {
        let Ok(manifest) = store.manifest(&by) else { continue };
        for (hash, size) in blobs_of(&manifest).unwrap_or_default() {
            if blobs.contains(&hash) {
                needs.entry(hash).or_insert(Need { size, by: Vec::new() }).by.push(by);
            }
        }
    }
    Ok(needs)
}
