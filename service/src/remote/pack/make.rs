//! Making packs: the small blobs that a remote lacks, neighbours of the tree beside each other, as
//! what needs one of them often needs the next.

use std::sync::Arc;

use object_store::ObjectStoreExt;
use tokio::task::spawn_blocking;
use vrift_store::{Hash, Store};

use super::super::blob::read_whole;
use super::super::error::RemoteError;
use super::super::place::Remote;
use super::super::transfer::{Budget, Transfer, move_all};
use super::format::{index_object, map_object, pack_object, write_index, write_map};
use super::{PackMap, Piece};

/// A pack is closed when it has so many bytes, or so many blobs: what an interruption loses, and what
/// is moved at once.
const LARGEST: u64 = 4 << 20;
const MOST: usize = 4096;

/// Sends these blobs in packs, in this order, and says where they are now.
pub(in super::super) async fn send(
    store: &Arc<Store>,
    remote: &Remote,
    blobs: &[(Hash, u64)],
    progress: &Arc<Transfer>,
) -> Result<Vec<(Hash, Vec<Piece>)>, RemoteError> {
    let budget = Budget::new();
    move_all(remote.options.jobs, parts(blobs), |part| {
        let (store, remote, budget) = (Arc::clone(store), remote.clone(), budget.clone());
        let progress = Arc::clone(progress);
        async move {
            let sent = send_one(store, &remote, part, &budget).await?;
            sent.1.iter().for_each(|piece| progress.did(piece.size.into()));
            Ok(sent)
        }
    })
    .await
}

/// The blobs of each pack.
fn parts(blobs: &[(Hash, u64)]) -> Vec<Vec<(Hash, u64)>> {
    let mut parts: Vec<Vec<(Hash, u64)>> = Vec::new();
    let mut bytes = 0;
    for &(hash, size) in blobs {
        match parts.last_mut() {
            Some(part) if part.len() < MOST && bytes + size <= LARGEST => {
                part.push((hash, size));
                bytes += size;
            }
            _ => {
                parts.push(vec![(hash, size)]);
                bytes = size;
            }
        }
    }
    parts
}

async fn send_one(
    store: Arc<Store>,
    remote: &Remote,
    part: Vec<(Hash, u64)>,
    budget: &Budget,
) -> Result<(Hash, Vec<Piece>), RemoteError> {
    let _memory = budget.take(part.iter().map(|(_, size)| size).sum()).await;
    let (content, pieces) = spawn_blocking(move || fill(&store, &part)).await??;
    let pack = Hash::of(&content);
    let put = async |name: String, content: Vec<u8>| {
        let sent = remote.objects.put(&remote.path(&name)?, content.into()).await;
        sent.map_err(|error| remote.failed("write", &name, &error))
    };
    put(pack_object(&pack), content).await?;
    put(index_object(&pack), write_index(&pieces)).await?;
    Ok((pack, pieces))
}

fn fill(store: &Store, part: &[(Hash, u64)]) -> Result<(Vec<u8>, Vec<Piece>), RemoteError> {
    let (mut content, mut pieces) = (Vec::new(), Vec::with_capacity(part.len()));
    for &(blob, size) in part {
        let (at, whole) = (content.len(), read_whole(store, &blob, size)?);
        content.extend_from_slice(&whole);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        pieces.push(Piece { blob, at: number(at), size: number(whole.len()) });
    }
    Ok((content, pieces))
}

/// Says beside a manifest, whose blobs are `blobs`, which of them lie in packs.
pub(in super::super) async fn send_map(
    remote: &Remote,
    manifest: &Hash,
    packs: &PackMap,
    blobs: &[(Hash, u64)],
) -> Result<(), RemoteError> {
    if packs.is_empty() {
        return Ok(());
    }
    let (name, content) = (map_object(manifest), write_map(packs, blobs));
    let sent = remote.durable.put(&remote.path(&name)?, content.into()).await;
    sent.map(drop).map_err(|error| remote.failed("write", &name, &error))
}

impl PackMap {
    /// Adds what was sent.
    pub fn add_all(&mut self, packs: Vec<(Hash, Vec<Piece>)>) {
        packs.into_iter().for_each(|(pack, pieces)| self.add(pack, pieces));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_are_bounded_and_lose_nothing() {
        let blob = |i: u32, size| (Hash::of(&i.to_le_bytes()), size);
        let tiny: Vec<_> = (0..10_000).map(|i| blob(i, 10)).collect();
        let sizes = |blobs| parts(blobs).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(&tiny), [MOST, MOST, 10_000 - 2 * MOST]);
        assert_eq!(parts(&tiny).concat(), tiny);
        let large: Vec<_> = (0..100).map(|i| blob(i, 64 << 10)).collect();
        assert_eq!(sizes(&large), [64, 36]);
        assert_eq!(parts(&large).concat(), large);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
