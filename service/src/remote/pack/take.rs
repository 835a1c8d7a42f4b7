//! Getting blobs out of packs: pieces that lie near each other come by one request.

use std::ops::Range;
use std::sync::Arc;

use object_store::{GetOptions, GetRange, ObjectStoreExt};
use tokio::task::spawn_blocking;
use vrift_store::{Hash, Store};

use super::super::blob::{Pieces, taken};
use super::super::error::RemoteError;
use super::super::place::Remote;
use super::super::transfer::{Budget, Transfer};
use super::format::{map_object, pack_object, read_map};
use super::{PackMap, Piece};

/// What isn't needed is fetched as well up to so many bytes, rather than asked for anew after it.
const GAP: u64 = 16 << 10;
/// Bytes of one request, about: several are under way at once.
const LONGEST: u64 = 1 << 20;
/// What lies so near in the pack comes with a blob that is needed at once.
const NEAR: u64 = 32 << 10;

/// A stretch of a pack, and the blobs that are wanted of it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Stretch {
    pack: Hash,
    range: Range<u64>,
    pieces: Vec<Piece>,
}

impl PackMap {
    /// Divides blobs into stretches of packs and those that lie in none.
    pub fn divide(&self, blobs: &[(Hash, u64)]) -> (Vec<Stretch>, Vec<(Hash, u64)>) {
        let (mut packed, mut single) = (Vec::new(), Vec::new());
        for &(hash, size) in blobs {
            match self.places.get(&hash) {
                Some(place) => packed.push(*place),
                None => single.push((hash, size)),
            }
        }
        packed.sort_unstable();
        let mut stretches: Vec<Stretch> = Vec::new();
        for (pack, i) in packed {
            let (id, piece) = (self.packs[pack].0, self.packs[pack].1[i]);
            match stretches.last_mut() {
                Some(last) if last.pack == id && last.takes(&piece) => last.push(piece),
                _ => stretches.push(Stretch::new(id, piece)),
            }
        }
        (stretches, single)
    }

    /// The stretch of one blob alone; None: it lies in no pack.
    pub fn alone(&self, blob: &Hash) -> Option<Stretch> {
        let &(pack, i) = self.places.get(blob)?;
        let (id, pieces) = &self.packs[pack];
        Some(Stretch::new(*id, pieces[i]))
    }

    /// The stretch around one blob; None: it lies in no pack.
    pub fn around(&self, blob: &Hash) -> Option<Stretch> {
        let &(pack, i) = self.places.get(blob)?;
        let (id, pieces) = &self.packs[pack];
        let piece = pieces[i];
        let from = u64::from(piece.at).saturating_sub(NEAR);
        let to = piece.end() + NEAR;
        let first = pieces.partition_point(|other| u64::from(other.at) < from);
        let mut near = pieces[first..].iter().take_while(|other| other.end() <= to);
        let mut stretch = Stretch::new(*id, *near.next()?);
        near.for_each(|other| stretch.push(*other));
        Some(stretch)
    }
}

impl Stretch {
    fn new(pack: Hash, piece: Piece) -> Stretch {
        Stretch { pack, range: piece.at.into()..piece.end(), pieces: vec![piece] }
    }

    fn takes(&self, piece: &Piece) -> bool {
        u64::from(piece.at) <= self.range.end + GAP && piece.end() - self.range.start <= LONGEST
    }

    fn push(&mut self, piece: Piece) {
        self.range.end = self.range.end.max(piece.end());
        self.pieces.push(piece);
    }
}

/// Where the blobs (in ascending order) of a manifest lie in packs.
pub(in super::super) async fn map_of(
    remote: &Remote,
    manifest: &Hash,
    blobs: &[(Hash, u64)],
) -> Result<PackMap, RemoteError> {
    let name = map_object(manifest);
    let found = match remote.objects.get(&remote.path(&name)?).await {
        Ok(found) => found,
        // S3 says the second of what isn't there to who may not list. A blob that is in a pack alone
        // is then told to be missing.
        Err(
            object_store::Error::NotFound { .. } | object_store::Error::PermissionDenied { .. },
        ) => return Ok(PackMap::default()),
        Err(error) => return Err(remote.failed("read", &name, &error)),
    };
    // As long as it can be: each blob in a pack of its own.
    if found.meta.size > 64 + 44 * blobs.len() as u64 {
        return Err(remote.junk(name, format!("it has {} bytes", found.meta.size)));
    }
    let bytes = found.bytes().await.map_err(|error| remote.failed("read", &name, &error))?;
    read_map(&bytes, blobs).map_err(|why| remote.junk(name, why))
}

/// Fetches a stretch, and its blobs into the store; with `again` in the place of those that are there.
pub(in super::super) async fn download(
    remote: &Remote,
    store: Arc<Store>,
    stretch: Stretch,
    again: bool,
    budget: &Budget,
    progress: &Transfer,
) -> Result<(), RemoteError> {
    let name = pack_object(&stretch.pack);
    let length = stretch.range.end - stretch.range.start;
    let _memory = budget.take(length).await;
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // None of some services is a range of no bytes.
    if length > 0 {
        let range = Some(GetRange::Bounded(stretch.range.clone()));
        let options = GetOptions { range, ..GetOptions::default() };
        let found = remote.objects.get_opts(&remote.path(&name)?, options).await;
        let found = found.map_err(|error| remote.failed("read", &name, &error))?;
        let mut coming = Pieces::of(remote, &name, found);
        while let Some(bytes) = coming.next().await? {
            content.extend_from_slice(&bytes);
            if content.len() as u64 > length {
                break;
            }
        }
    }
    if content.len() as u64 != length {
        let why = format!("{} bytes of it came instead of {length}", content.len());
        return Err(remote.junk(name, why));
    }
    let sizes: Vec<u32> = stretch.pieces.iter().map(|piece| piece.size).collect();
    let remote = remote.clone();
    spawn_blocking(move || publish(&store, &remote, &stretch, &content, again)).await??;
    sizes.into_iter().for_each(|size| progress.did(size.into()));
    Ok(())
}

fn publish(
    store: &Store,
    remote: &Remote,
    stretch: &Stretch,
    content: &[u8],
    again: bool,
) -> Result<(), RemoteError> {
    for Piece { blob, at, size } in &stretch.pieces {
        // What came along with what was asked for may be here.
        if !again && store.has_blob(blob, (*size).into())? {
            continue;
        }
        let from = u64::from(*at).saturating_sub(stretch.range.start);
        let rest = usize::try_from(from).ok().and_then(|from| content.get(from..));
        let bytes = rest.and_then(|rest| rest.get(..*size as usize)).unwrap_or_default();
        let take = || {
            let mut incoming = store.incoming((*size).into())?;
            incoming.write(bytes)?;
            if again {
                incoming.into_blob_again(blob)
            } else {
                incoming.into_blob(blob).map(|_| ())
            }
        };
        let name = format!("{}, in it blob {blob},", pack_object(&stretch.pack));
        taken(remote, &name, take())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(name: u8, at: u32, size: u32) -> Piece {
        Piece { blob: Hash::of(&[name]), at, size }
    }

    #[test]
    fn neighbours_come_together_and_far_ones_apart() {
        let pack = Hash::of(b"pack");
        let all = [piece(1, 0, 10), piece(2, 10, 0), piece(3, 10, 90), piece(4, 60_000, 10)];
        let mut map = PackMap::default();
        map.add(pack, all.to_vec());
        let wanted = |names: &[u8]| {
            let blobs: Vec<_> = names.iter().map(|name| (Hash::of(&[*name]), 10)).collect();
            map.divide(&blobs)
        };
        let stretch = |range, pieces: &[Piece]| Stretch { pack, range, pieces: pieces.to_vec() };
        assert_eq!(wanted(&[9]), (vec![], vec![(Hash::of(&[9]), 10)]));
        let near = stretch(0..100, &[all[0], all[2]]);
        assert_eq!(wanted(&[3, 4, 1]).0, [near, stretch(60_000..60_010, &all[3..])]);
        assert_eq!(map.around(&Hash::of(&[2])), Some(stretch(0..100, &all[..3])));
        assert_eq!(map.around(&Hash::of(&[4])), Some(stretch(60_000..60_010, &all[3..])));
        assert_eq!(map.around(&Hash::of(&[9])), None);
        assert_eq!(map.alone(&Hash::of(&[3])), Some(stretch(10..100, &all[2..3])));
        assert_eq!(map.alone(&Hash::of(&[9])), None);
    }

    #[test]
    fn a_stretch_is_bounded() {
        let pieces: Vec<_> = (0..200).map(|i| piece(i, u32::from(i) * 60_000, 60_000)).collect();
        let blobs: Vec<_> = pieces.iter().map(|piece| (piece.blob, 60_000)).collect();
        let mut map = PackMap::default();
        map.add(Hash::of(b"pack"), pieces.clone());
        let (stretches, _) = map.divide(&blobs);
        assert!(stretches.iter().all(|s| s.range.end - s.range.start <= LONGEST));
        let back: Vec<Piece> = stretches.into_iter().flat_map(|s| s.pieces).collect();
        assert_eq!(back, pieces);
    }
}
