//! The bytes of an index and of a map; all numbers are little-endian.
//!
//! In: what a remote sends, which may be anything. What must never happen here: a piece beyond its
//! pack's end, or memory for more than came.

use vrift_store::Hash;

use super::{PackMap, Piece};

const INDEX: &[u8] = b"vrift pack 1\n";
const MAP: &[u8] = b"vrift packs 1\n";
/// Bytes of one blob in an index: its hash and its size.
pub(super) const RECORD: usize = 36;

/// The object of a pack.
pub(super) fn pack_object(pack: &Hash) -> String {
    format!("packs/{pack}")
}

/// The object that says what is in a pack. It is written after the pack.
pub(super) fn index_object(pack: &Hash) -> String {
    format!("packs/{pack}.index")
}

/// The object that says which blobs of a manifest are in packs.
pub(super) fn map_object(manifest: &Hash) -> String {
    format!("manifests/{manifest}.packs")
}

/// The pack's blobs in their order; each begins where the one before ends.
pub(super) fn write_index(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::with_capacity(INDEX.len() + pieces.len() * RECORD);
    out.extend_from_slice(INDEX);
    for piece in pieces {
        out.extend_from_slice(piece.blob.as_bytes());
        out.extend_from_slice(&piece.size.to_le_bytes());
    }
    out
}

/// The pieces that an index tells.
pub(super) fn read_index(bytes: &[u8]) -> Result<Vec<Piece>, &'static str> {
    let records = bytes.strip_prefix(INDEX).ok_or("it is no index of a pack")?;
    let (records, []) = records.as_chunks::<RECORD>() else { return Err("it is cut short") };
    let mut at = 0u32;
    let mut pieces = Vec::with_capacity(records.len());
    for record in records {
        let (blob, size) = record.split_at(32);
        let (blob, size) = (hash(blob)?, number(size)?);
        pieces.push(Piece { blob, at, size });
        at = at.checked_add(size).ok_or("its pack would have more than 4 GiB")?;
    }
    Ok(pieces)
}

/// The map of a manifest whose blobs are `blobs`, in their order: the number of packs; then for each
/// its hash, the number of its pieces, and for each of these the blob's number and its place.
pub(super) fn write_map(map: &PackMap, blobs: &[(Hash, u64)]) -> Vec<u8> {
    let mut out = MAP.to_vec();
    let packs: Vec<(&Hash, Vec<[u8; 8]>)> = (map.packs.iter())
        .map(|(pack, pieces)| {
            let entries = pieces.iter().filter_map(|piece| {
                let blob = blobs.binary_search_by(|(blob, _)| blob.cmp(&piece.blob)).ok()?;
                let mut entry = [0; 8];
                entry[..4].copy_from_slice(&u32::try_from(blob).ok()?.to_le_bytes());
                entry[4..].copy_from_slice(&piece.at.to_le_bytes());
                Some(entry)
            });
            (pack, entries.collect())
        })
        .collect();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&count(packs.len()));
    for (pack, entries) in packs {
        out.extend_from_slice(pack.as_bytes());
        out.extend_from_slice(&count(entries.len()));
        out.extend(entries.into_iter().flatten());
    }
    out
}

/// Reads the map of a manifest whose blobs are `blobs`.
pub(super) fn read_map(bytes: &[u8], blobs: &[(Hash, u64)]) -> Result<PackMap, &'static str> {
    let mut rest = bytes.strip_prefix(MAP).ok_or("it is no map of packs")?;
    let mut map = PackMap::default();
    for _ in 0..number(cut(&mut rest, 4)?)? {
        let pack = hash(cut(&mut rest, 32)?)?;
        let count = number(cut(&mut rest, 4)?)? as usize;
        let entries = cut(&mut rest, count.checked_mul(8).ok_or("it is cut short")?)?;
        let mut pieces = Vec::with_capacity(count);
        for entry in entries.as_chunks::<8>().0 {
            let (blob, at) = entry.split_at(4);
            let blob = blobs.get(number(blob)? as usize);
            let &(blob, size) = blob.ok_or("it names a blob that the manifest doesn't have")?;
            let (at, size) = (number(at)?, u32::try_from(size).map_err(|_| "a blob is too large")?);
            at.checked_add(size).ok_or("a pack would have more than 4 GiB")?;
            pieces.push(Piece { blob, at, size });
        }
        map.add(pack, pieces);
    }
    if rest.is_empty() { Ok(map) } else { Err("it goes on after its end") }
}

fn cut<'b>(rest: &mut &'b [u8], len: usize) -> Result<&'b [u8], &'static str> {
    let (cut, left) = rest.split_at_checked(len).ok_or("it is cut short")?;
    *rest = left;
    Ok(cut)
}

fn hash(bytes: &[u8]) -> Result<Hash, &'static str> {
    Ok(Hash::from_bytes(bytes.try_into().map_err(|_| "it is cut short")?))
}

fn number(bytes: &[u8]) -> Result<u32, &'static str> {
    Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| "it is cut short")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(from: u8, sizes: &[u32]) -> Vec<Piece> {
        let mut at = 0;
        let piece = |(i, size): (usize, &u32)| {
            let blob = Hash::of(&[from, u8::try_from(i).expect("few")]);
            let piece = Piece { blob, at, size: *size };
            at += size;
            piece
        };
        sizes.iter().enumerate().map(piece).collect()
    }

    #[test]
    fn an_index_says_what_was_written() {
        let all = pieces(1, &[3, 0, 70_000]);
        assert_eq!(read_index(&write_index(&all)), Ok(all.clone()));
        let bytes = write_index(&all);
        read_index(&bytes[..bytes.len() - 1]).expect_err("cut short");
        read_index(b"<html>").expect_err("something else");
        let too_long = pieces(1, &[u32::MAX]);
        let twice = [write_index(&too_long), write_index(&too_long)[INDEX.len()..].to_vec()];
        read_index(&twice.concat()).expect_err("too long");
    }

    #[test]
    fn a_map_says_what_was_written_and_nothing_else() {
        let (one, two) = (pieces(1, &[3, 0, 5]), pieces(2, &[8, 9]));
        let mut blobs: Vec<(Hash, u64)> =
            one.iter().chain(&two[..1]).map(|p| (p.blob, u64::from(p.size))).collect();
        blobs.sort_unstable();
        let mut map = PackMap::default();
        map.add(Hash::of(b"one"), one.clone());
        // Its first is in the first pack already, its last one isn't of the manifest.
        map.add(Hash::of(b"two"), [&one[..1], &two[..]].concat());
        let bytes = write_map(&map, &blobs);
        let read = read_map(&bytes, &blobs).expect("a map");
        assert_eq!(read.packs, [(Hash::of(b"one"), one), (Hash::of(b"two"), two[..1].to_vec())]);
        for cut in 0..bytes.len() {
            read_map(&bytes[..cut], &blobs).expect_err("cut short");
        }
        read_map(&[&bytes[..], b"x"].concat(), &blobs).expect_err("too long");
        read_map(&bytes, &blobs[..2]).expect_err("a number beyond the last");
    }
}
