//! The directories that are ours: the store's, and the job's private one.
//!
//! In the private directory, `d/MOUNT-NODE` is the empty real directory that stands for a projected
//! one, as on Linux, and `c/MOUNT/PATH` the clone of a file, for programs and libraries: the name
//! of a program and what lies beside it stay what they are. Both tell the node to whoever has the
//! path, so a descriptor says by itself what it is, after dup, fork and exec, and when it was passed.

use super::buffer::PathBuffer;
use core::str;
use vrift_policy::Errno;
use vrift_projection::{NodeRef, Projection};
use vrift_store::Hash;

/// Absolute, normal paths, links resolved.
#[derive(Copy, Clone, Debug)]
pub struct Places<'p> {
    /// The store's root.
    pub store: &'p [u8],
    /// The job's private directory.
    pub private: &'p [u8],
}

/// What one of our own paths is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// A blob.
    Blob(Hash),
    /// What stands for a node.
    Node(NodeRef),
    /// Something else of ours.
    Other,
}

impl Places<'_> {
    /// Whether a normal path is at or below one of ours.
    pub(super) fn hold(&self, path: &[u8]) -> bool {
        below(path, self.store).is_some() || below(path, self.private).is_some()
    }

    /// `STORE/blobs/ab/DIGITS`.
    pub(super) fn blob(&self, hash: &Hash, out: &mut PathBuffer) -> Result<(), Errno> {
        let hex = hash.to_hex();
        let hex = hex.as_str().as_bytes();
        let first = hex.get(..2).ok_or(Errno::EIO)?;
        out.clear();
        for part in [self.store, b"/blobs/", first, b"/", hex] {
            out.push(part)?;
        }
        Ok(())
    }

    /// `PRIVATE/d/MOUNT-NODE`.
    pub(super) fn stand_in(&self, node: NodeRef, out: &mut PathBuffer) -> Result<(), Errno> {
        out.clear();
        out.push(self.private)?;
        out.push(b"/d/")?;
        number(node.mount.into(), out)?;
        out.push(b"-")?;
        number(node.node, out)
    }

    /// `PRIVATE/c/MOUNT/PATH`, PATH from the mount's root.
    pub(super) fn clone(
        &self,
        projection: &Projection,
        node: NodeRef,
        out: &mut PathBuffer,
    ) -> Result<(), Errno> {
        let mount = projection.mount(node.mount).ok_or(Errno::EACCES)?;
        path_of(projection, node, out)?;
        let at = mount.at().as_os_str().as_encoded_bytes().len();
        out.drop_front(at);
        let mut digits = PathBuffer::new();
        number(node.mount.into(), &mut digits)?;
        for part in [digits.bytes(), b"/c/", self.private] {
            out.push_front(part)?;
        }
        Ok(())
    }

    /// What a path is, if it is one of ours.
    pub(super) fn own(&self, path: &[u8], projection: &Projection) -> Option<Own> {
        if let Some(rest) = below(path, self.private) {
            let node = rest.strip_prefix(b"/d/").and_then(node_of);
            let node = node.or_else(|| cloned(rest.strip_prefix(b"/c/")?, projection));
            return Some(node.map_or(Own::Other, Own::Node));
        }
        let rest = below(path, self.store)?;
        let hash = rest.strip_prefix(b"/blobs/").and_then(hash_of);
        Some(hash.map_or(Own::Other, Own::Blob))
    }
}

/// Writes the absolute path of a node, as the process knows it.
pub(super) fn path_of(
    projection: &Projection,
    node: NodeRef,
    out: &mut PathBuffer,
) -> Result<(), Errno> {
    out.clear_for_front();
    let mut fits = Ok(());
    let told = projection.path_backwards(node, &mut |part| {
        if fits.is_ok() {
            fits = out.push_front(part);
        }
    });
    told.map_err(|_| Errno::EIO)?;
    fits
}

/// What follows `dir` in a path at or below it.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(dir)?;
    (rest.is_empty() || rest.first() == Some(&b'/')).then_some(rest)
}

fn number(mut value: u32, out: &mut PathBuffer) -> Result<(), Errno> {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return out.push(&digits[at..]);
        }
    }
}

/// `MOUNT-NODE`, and nothing after it.
fn node_of(name: &[u8]) -> Option<NodeRef> {
    let dash = name.iter().position(|&byte| byte == b'-')?;
    let (mount, node) = (parse(&name[..dash])?, parse(&name[dash + 1..])?);
    Some(NodeRef { mount: u16::try_from(mount).ok()?, node })
}

fn parse(digits: &[u8]) -> Option<u32> {
    // `u32::from_str` would take a `+`.
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// `MOUNT/PATH`.
fn cloned(rest: &[u8], projection: &Projection) -> Option<NodeRef> {
    let slash = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    let mut node = NodeRef::root(u16::try_from(parse(&rest[..slash])?).ok()?);
    projection.mount(node.mount)?;
    for name in rest[slash..].split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        node = projection.lookup(node, name).ok()??;
    }
    Some(node)
}

/// `ab/DIGITS`.
fn hash_of(rest: &[u8]) -> Option<Hash> {
    let (first, hex) = (rest.get(..2)?, rest.get(3..)?);
    let ours = rest.get(2) == Some(&b'/') && hex.starts_with(first);
    ours.then(|| str::from_utf8(hex).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Own, Places, hash_of, node_of};
    use crate::shim::buffer::PathBuffer;
    use vrift_projection::{NodeRef, Projection, RealKind};
    use vrift_store::Hash;

    #[test]
    fn our_own_paths_tell_what_they_are() {
        let places = Places { store: b"/s", private: b"/s/jobs/j" };
        let projection = Projection::new(Vec::new(), &|_| RealKind::Missing).expect("no mounts");
        let mut path = PathBuffer::new();
        let hash = Hash::of(b"content");
        places.blob(&hash, &mut path).expect("room");
        assert_eq!(places.own(path.bytes(), &projection), Some(Own::Blob(hash)));
        for (mount, node) in [(0, 0), (7, 4_294_967_295), (u16::MAX, 10)] {
            let node = NodeRef { mount, node };
            places.stand_in(node, &mut path).expect("room");
            assert_eq!(places.own(path.bytes(), &projection), Some(Own::Node(node)));
        }
        assert_eq!(places.own(b"/s/refs/x", &projection), Some(Own::Other));
        assert_eq!(places.own(b"/s", &projection), Some(Own::Other));
        assert_eq!(places.own(b"/sx", &projection), None);
    }

    #[test]
    fn what_is_nearly_one_of_ours_is_none() {
        for name in ["", "-", "1-", "-1", "1-2-3", "+1-2", "1-2/", "65536-1", "1-4294967296"] {
            assert_eq!(node_of(name.as_bytes()), None, "{name}");
        }
        let hex = Hash::of(b"x").to_hex();
        let hex = hex.as_str();
        assert!(hash_of(format!("{}/{hex}", &hex[..2]).as_bytes()).is_some());
        for rest in [format!("zz/{hex}"), format!("{}{hex}", &hex[..2]), hex.to_uppercase()] {
            assert_eq!(hash_of(rest.as_bytes()), None, "{rest}");
        }
    }
}
