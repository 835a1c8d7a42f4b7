//! Updates as bytes: one record of the journal for each change.
//!
//! ```text
//! record   length of the payload (4 bytes) · its check (8 bytes, of its BLAKE3) · payload
//! payload  updates, one after the other
//! update   1 node kind body | 2 directory name 0 seconds nanoseconds
//!          | 3 directory name node seconds nanoseconds
//! body     0 (in the upper directory) | 1 meta | 2 target meta
//! meta     mode uid gid atime mtime ctime, count of attributes, each a name and a value
//! ```
//! Numbers are little-endian, strings have their length (4 bytes) in front.

use vrift_store::Hash;

use super::meta::{Meta, Time};
use super::state::{Body, Update};
use crate::kind::Kind;

/// Bytes before a payload.
const HEAD: usize = 12;
/// The longest payload: a rename's two directories and nodes are far from it.
const LONGEST: usize = 1 << 24;

/// One record.
pub(crate) fn encode(updates: &[Update]) -> Vec<u8> {
    let mut out = Out(vec![0; HEAD]);
    for update in updates {
        match update {
            Update::Node { node, kind, body } => {
                let kind = Kind::ALL.iter().position(|known| known == kind).unwrap_or(0);
                out.byte(1);
                out.number(*node);
                out.byte(u8::try_from(kind).unwrap_or(0));
                out.body(body);
            }
            Update::Name { dir, name, node, time } => {
                out.byte(if node.is_some() { 3 } else { 2 });
                out.number(*dir);
                out.string(name);
                node.iter().for_each(|node| out.number(*node));
                out.time(*time);
            }
        }
    }
    let length = u32::try_from(out.0.len() - HEAD).unwrap_or(u32::MAX);
    let check = check(&out.0[HEAD..]);
    out.0[..4].copy_from_slice(&length.to_le_bytes());
    out.0[4..HEAD].copy_from_slice(&check);
    out.0
}

fn check(payload: &[u8]) -> [u8; 8] {
    let mut check = [0; 8];
    check.copy_from_slice(&Hash::of(payload).as_bytes()[..8]);
    check
}

/// The first record's updates, and its length; `None`: what is there is no whole record.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Vec<Update>, usize)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST)?;
    let payload = bytes.get(HEAD..HEAD + length)?;
    if check(payload) != bytes[4..HEAD] {
        return None;
    }
    let mut rest = In(payload);
    let mut updates = Vec::new();
    while !rest.0.is_empty() {
        updates.push(rest.update()?);
    }
    Some((updates, HEAD + length))
}

struct Out(Vec<u8>);

impl Out {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn string(&mut self, bytes: &[u8]) {
        self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn time(&mut self, (seconds, nanoseconds): Time) {
        self.0.extend(seconds.to_le_bytes());
        self.number(nanoseconds);
    }

    fn body(&mut self, body: &Body) {
        match body {
            Body::Base | Body::Clean | Body::Upper => self.byte(0),
            Body::Directory(meta) => {
                self.byte(1);
                self.meta(meta);
            }
            Body::Symlink { target, meta } => {
                self.byte(2);
                self.string(target);
                self.meta(meta);
            }
        }
    }

    fn meta(&mut self, meta: &Meta) {
        for number in [meta.mode, meta.uid, meta.gid] {
            self.number(number);
        }
        for time in [meta.atime, meta.mtime, meta.ctime] {
            self.time(time);
        }
        self.number(u32::try_from(meta.xattrs.len()).unwrap_or(u32::MAX));
        for (name, value) in &meta.xattrs {
            self.string(name);
            self.string(value);
        }
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    fn time(&mut self) -> Option<Time> {
        Some((self.take().map(i64::from_le_bytes)?, self.number()?))
    }

    fn update(&mut self) -> Option<Update> {
        match self.byte()? {
            1 => {
                let node = self.number()?;
                let kind = *Kind::ALL.get(usize::from(self.byte()?))?;
                let body = match self.byte()? {
                    0 => Body::Upper,
                    1 => Body::Directory(self.meta()?),
                    2 => Body::Symlink { target: self.string()?.into(), meta: self.meta()? },
                    _ => return None,
                };
                Some(Update::Node { node, kind, body })
            }
            what @ (2 | 3) => {
                let (dir, name) = (self.number()?, self.string()?.into());
                let node = if what == 3 { Some(self.number()?) } else { None };
                Some(Update::Name { dir, name, node, time: self.time()? })
            }
            _ => None,
        }
    }

    fn meta(&mut self) -> Option<Meta> {
        let [mode, uid, gid] = [self.number()?, self.number()?, self.number()?];
        let [atime, mtime, ctime] = [self.time()?, self.time()?, self.time()?];
        let count = self.number()?;
        let mut xattrs = Vec::new();
        for _ in 0..count {
            xattrs.push((self.string()?.into(), self.string()?.into()));
        }
        Some(Meta { mode, uid, gid, atime, mtime, ctime, xattrs })
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Kind, Meta, Update, decode, encode};

    fn some() -> Vec<Update> {
        let mut meta = Meta::new(0o1755, (1000, 100));
        meta.set_xattr(b"user.a", Some(b"\xff\0"));
        meta.mtime = (-7, 999_999_999);
        vec![
            Update::Node { node: 9, kind: Kind::Directory, body: Body::Directory(meta.clone()) },
            Update::Name { dir: 0, name: b"a\xff".as_slice().into(), node: Some(9), time: (5, 6) },
            Update::Name { dir: 3, name: b"b".as_slice().into(), node: None, time: (5, 6) },
            Update::Node { node: 10, kind: Kind::Fifo, body: Body::Upper },
            Update::Node {
                node: 11,
                kind: Kind::Symlink,
                body: Body::Symlink { target: b"../x".as_slice().into(), meta },
            },
        ]
    }

    #[test]
    fn records_are_read_back() {
        let mut bytes = encode(&some());
        let whole = bytes.len();
        bytes.extend(encode(&[]));
        assert_eq!(decode(&bytes), Some((some(), whole)));
        assert_eq!(decode(&bytes[whole..]), Some((Vec::new(), 12)));
    }

    #[test]
    fn what_is_cut_or_changed_is_no_record() {
        let bytes = encode(&some());
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(decode(&bad), None, "{at}");
        }
    }
}
