//! From (base, path) to the place it names, with as little as can be asked of the system.

use super::answer::Shim;
use super::buffer::PathBuffer;
use super::descriptors::Known;
use super::places::Own;
use super::real::{Base, Sys};
use super::verdict::Look;
use super::walk::{Found, Walk, Way};
use vrift_policy::Errno;
use vrift_projection::walk::{Step, components, is_absolute};
use vrift_projection::{Kind, NodeRef};

/// Where a relative path begins.
enum Start {
    Node(NodeRef),
    /// The directory whose path is in the buffer.
    Real,
    /// The system knows what to say: no directory, a bad descriptor, a directory that is gone.
    Nowhere,
}

impl<S: Sys> Shim<'_, S> {
    /// Where a path leads. What of the path is needed afterwards is in `out`.
    pub(super) fn resolve(
        &self,
        (base, path): (Base, &[u8]),
        way: Way,
        look: Look,
        out: &mut PathBuffer,
    ) -> Result<Found, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= self.platform().path_max {
            return Err(Errno::ENAMETOOLONG);
        }
        let start = if is_absolute(path) {
            out.clear();
            Start::Real
        } else {
            self.start(base, out)?
        };
        match start {
            Start::Nowhere => Ok(Found::Real),
            Start::Node(node) => Walk::from_node(self, node, out, way).run(path),
            Start::Real => {
                let quick = look == Look::Quick && !self.covers_real();
                if quick && self.is_far(out, path)? {
                    return Ok(Found::Real);
                }
                Walk::from_real(self, out, way).run(path)
            }
        }
    }

    fn start(&self, base: Base, out: &mut PathBuffer) -> Result<Start, Errno> {
        let fd = match base {
            Base::Descriptor(fd) => fd,
            Base::Current => {
                if let Some(Known::Node(node)) = self.current.get() {
                    return Ok(Start::Node(node));
                }
                let known = self.current.get();
                if out.fill(|room| self.sys().current_path(room)).is_err() {
                    return Ok(Start::Nowhere);
                }
                return Ok(match self.own(out.bytes()) {
                    Some(Own::Node(node)) => {
                        self.current.set(Some(Known::Node(node)));
                        Start::Node(node)
                    }
                    // Nothing of ours is there for the process, wherever it was started.
                    Some(_) => return Err(Errno::ENOENT),
                    None => {
                        if known.is_none() {
                            self.current.set(Some(Known::Real));
                        }
                        Start::Real
                    }
                });
            }
        };
        match self.known(fd, out) {
            Some(Known::Node(node)) => {
                if self.attr(node)?.kind != Kind::Directory {
                    return Err(Errno::ENOTDIR);
                }
                Ok(Start::Node(node))
            }
            _ if out.fill(|room| self.sys().descriptor_path(fd, room)).is_err() => {
                Ok(Start::Nowhere)
            }
            _ => Ok(Start::Real),
        }
    }

    /// What a descriptor is, by a hint that is confirmed or by its path. `None`: the system can't
    /// say. Uses `scratch`.
    pub(super) fn known(&self, fd: i32, scratch: &mut PathBuffer) -> Option<Known> {
        let identity = self.sys().identity(fd).ok()?;
        if let Some(known) = self.descriptors.get(fd, identity) {
            return Some(known);
        }
        scratch.fill(|room| self.sys().descriptor_path(fd, room)).ok()?;
        let known = match self.own(scratch.bytes()) {
            Some(Own::Node(node)) => Known::Node(node),
            // Which of its names it was opened by, nobody knows any more: the first.
            Some(Own::Blob(hash)) => Known::Node(self.projection().by_blob(&hash).next()?.ok()?),
            Some(Own::Other) => return None,
            None => Known::Real,
        };
        self.descriptors.set(fd, identity, known);
        Some(known)
    }

    fn own(&self, path: &[u8]) -> Option<Own> {
        self.places().own(path, self.projection())
    }

    /// Is a path, by its text alone, under no mount, above none, and none of ours? One with `..` is
    /// not taken at its word. `base` is the real directory that a relative path begins at; it is
    /// left as it was.
    fn is_far(&self, base: &mut PathBuffer, path: &[u8]) -> Result<bool, Errno> {
        let length = base.bytes().len();
        if base.bytes() == b"/" {
            base.clear();
        }
        let mut far = true;
        for component in components(path) {
            match component.step {
                Step::Current => {}
                Step::Parent => far = false,
                Step::Name(name) | Step::TooLong(name) => {
                    base.push(b"/")?;
                    base.push(name)?;
                }
            }
        }
        if base.is_empty() {
            base.push(b"/")?;
        }
        let far = far
            && !self.projection().may_concern(base.bytes())
            && !self.places().hold(base.bytes());
        base.truncate(length);
        Ok(far)
    }
}
