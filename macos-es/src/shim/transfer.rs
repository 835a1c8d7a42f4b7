//! The calls that name two places: rename, link, clonefile, exchangedata.

use super::answer::Shim;
use super::buffer::PathBuffer;
use super::real::{Base, Sys};
use super::verdict::Look;
use super::walk::{Found, Way};
use vrift_policy::{Errno, RenameFlags, Side, Target, decide_link, decide_rename};
use vrift_projection::{Holder, NodeRef};

/// Which of the two paths the original call is given anew; they are in the buffers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Moved {
    /// The first one.
    pub from: bool,
    /// The second one.
    pub to: bool,
}

/// A place that a call names.
struct Named {
    side: Option<Side>,
    moved: bool,
}

impl<S: Sys> Shim<'_, S> {
    /// rename, renameat, renamex_np, exchangedata. The flags are Linux's: `RENAME_EXCL` is
    /// `NO_REPLACE`, `RENAME_SWAP` is `EXCHANGE`.
    ///
    /// # Errors
    /// What the process is told.
    pub fn rename(
        &self,
        from: (Base, &[u8]),
        to: (Base, &[u8]),
        flags: RenameFlags,
        from_out: &mut PathBuffer,
        to_out: &mut PathBuffer,
    ) -> Result<Moved, Errno> {
        let decide = |from, to| decide_rename(from, to, flags);
        self.both(from, to, false, (from_out, to_out), decide)
    }

    /// link, linkat, clonefile: `follow` whether a link that the first path ends in is followed.
    ///
    /// # Errors
    /// What the process is told.
    pub fn link(
        &self,
        from: (Base, &[u8]),
        to: (Base, &[u8]),
        follow: bool,
        from_out: &mut PathBuffer,
        to_out: &mut PathBuffer,
    ) -> Result<Moved, Errno> {
        self.both(from, to, follow, (from_out, to_out), decide_link)
    }

    /// fclonefileat: the first place is an open file.
    ///
    /// # Errors
    /// What the process is told.
    pub fn link_descriptor(
        &self,
        fd: i32,
        to: (Base, &[u8]),
        from_out: &mut PathBuffer,
        to_out: &mut PathBuffer,
    ) -> Result<Moved, Errno> {
        let from = match self.known(fd, from_out) {
            Some(super::descriptors::Known::Node(node)) => Some(self.side(node)?),
            _ => None,
        };
        let to = self.named(to, false, to_out)?;
        let moved = Moved { from: false, to: to.moved };
        if from.is_none() && to.side.is_none() {
            return Ok(moved);
        }
        let to_side = self.real_side(to.side, to_out)?;
        match decide_link(from.unwrap_or(Side::Real(Target::File)), to_side) {
            Some(errno) => Err(errno),
            None => Ok(moved),
        }
    }

    fn both(
        &self,
        from: (Base, &[u8]),
        to: (Base, &[u8]),
        follow: bool,
        (from_out, to_out): (&mut PathBuffer, &mut PathBuffer),
        decide: impl FnOnce(Side, Side) -> Option<Errno>,
    ) -> Result<Moved, Errno> {
        let a = self.named(from, follow, from_out)?;
        let b = self.named(to, false, to_out)?;
        let moved = Moved { from: a.moved, to: b.moved };
        if a.side.is_none() && b.side.is_none() {
            return Ok(moved);
        }
        let (a, b) = (self.real_side(a.side, from_out)?, self.real_side(b.side, to_out)?);
        match decide(a, b) {
            Some(errno) => Err(errno),
            None => Ok(moved),
        }
    }

    /// What a path names; no side for a real place that holds no mount, which is the system's.
    fn named(
        &self,
        place: (Base, &[u8]),
        follow: bool,
        out: &mut PathBuffer,
    ) -> Result<Named, Errno> {
        let way = Way { follow, ..Way::default() };
        let found = self.resolve(place, way, Look::Thorough, out)?;
        let side = match found {
            Found::Real | Found::At => self
                .projection()
                .real_holds_mount_point(out.bytes())
                .then_some(Side::Real(Target::MountPoint)),
            Found::Missing(dir) => Some(self.within(dir, Target::Missing)),
            Found::Node(node) => Some(self.side(node)?),
        };
        Ok(Named { side, moved: found == Found::At })
    }

    fn within(&self, dir: NodeRef, target: Target) -> Side {
        Side::Projected { mount: dir.mount, mode: self.projection().mode(dir), target }
    }

    /// The side of a node: which directory holds its name.
    fn side(&self, node: NodeRef) -> Result<Side, Errno> {
        let target = self.target(node)?;
        if target == Target::MountPoint {
            return Ok(Side::Real(target));
        }
        match self.check(self.projection().holder(node))? {
            Holder::Node(dir) => Ok(self.within(dir, target)),
            Holder::Real(_) => Ok(Side::Real(Target::MountPoint)),
        }
    }

    /// What stands at a real place beside one of ours; errors of its parents come first.
    fn real_side(&self, side: Option<Side>, path: &mut PathBuffer) -> Result<Side, Errno> {
        match side {
            Some(side) => Ok(side),
            None => Ok(Side::Real(self.sys().kind(path.c_str()?)?)),
        }
    }
}
