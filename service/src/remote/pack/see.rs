//! Which packs a remote has, for a push.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use futures_util::StreamExt;
use object_store::ObjectStoreExt;
use vrift_store::Hash;

use super::super::error::RemoteError;
use super::super::place::Remote;
use super::format::{RECORD, index_object, read_index};
use super::{PackMap, Piece};

/// Where these blobs (in ascending order) lie in packs of the remote. Indexes of more than `most`
/// blobs in all aren't read: what is missed so is sent again, which costs, and harms nothing.
pub(in super::super) async fn see(
    remote: &Remote,
    blobs: &[(Hash, u64)],
    most: usize,
) -> Result<PackMap, RemoteError> {
    let (packs, indexes) = list(remote, most).await?;
    let wanted = |piece: &Piece| {
        let at = blobs.binary_search_by(|(blob, _)| blob.cmp(&piece.blob));
        at.is_ok_and(|at| blobs[at].1 == u64::from(piece.size))
    };
    let read = futures_util::stream::iter(indexes).map(|pack| async move {
        let name = index_object(&pack);
        let found = remote.objects.get(&remote.path(&name)?).await;
        let failed = |error| remote.failed("read", &name, &error);
        let bytes = found.map_err(failed)?.bytes().await.map_err(failed)?;
        Ok::<_, RemoteError>((pack, read_index(&bytes)))
    });
    let mut read = read.buffer_unordered(remote.options.jobs);
    let mut map = PackMap::default();
    while let Some(found) = read.next().await {
        // One that is damaged says nothing; its blobs are sent again.
        let (pack, Ok(pieces)) = found? else { continue };
        // So does one whose pack isn't there whole.
        let whole = pieces.last().map_or(0, Piece::end);
        if packs.get(&pack) == Some(&whole) {
            map.add(pack, pieces.into_iter().filter(wanted).collect());
        }
    }
    Ok(map)
}

/// The lengths of all packs, and those that have an index.
async fn list(
    remote: &Remote,
    most: usize,
) -> Result<(HashMap<Hash, u64>, HashSet<Hash>), RemoteError> {
    let (mut packs, mut indexes, mut blobs) = (HashMap::new(), HashSet::new(), 0);
    let listed = remote.list("packs", |name, size| {
        let (pack, is_index) = match name.strip_suffix(".index") {
            Some(pack) => (pack, true),
            None => (name, false),
        };
        // Something else's name.
        let Ok(pack) = pack.parse::<Hash>() else { return ControlFlow::Continue(()) };
        if is_index {
            blobs += usize::try_from(size).unwrap_or(usize::MAX) / RECORD;
            if blobs > most {
                return ControlFlow::Break(());
            }
            indexes.insert(pack);
        } else {
            packs.insert(pack, size);
        }
        ControlFlow::Continue(())
    });
    listed.await?;
    Ok((packs, indexes))
}
