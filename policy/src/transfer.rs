//! Rename and link: the operations that name two places.
//!
//! A side is described by the directory that holds the *name*: `/vrift` in the real `/` is a
//! [`Side::Real`] even if a manifest is mounted on it. Parents that can't be looked up come
//! before any answer here (`ENOENT`, `ENOTDIR`), and so do a last component `.` or `..` (`EBUSY`,
//! with `RENAME_NOREPLACE` `EEXIST` for the new name) unless the two parents are on different
//! mounts, which is `EXDEV` first.

use crate::{Errno, Mode, Target};

/// One of the two places that a rename or a link names.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// A name in a real directory. [`Target::MountPoint`]: a mount point, or a directory above one.
    Real(Target),
    /// A name in a projected directory.
    Projected {
        /// Which mount the directory belongs to.
        mount: u16,
        /// What the job may do there.
        mode: Mode,
        /// What the name names.
        target: Target,
    },
}

/// The flags of renameat2.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RenameFlags(u32);

impl RenameFlags {
    /// None: what rename and renameat mean.
    pub const NONE: RenameFlags = RenameFlags(0);
    /// `RENAME_NOREPLACE`.
    pub const NO_REPLACE: RenameFlags = RenameFlags(1);
    /// `RENAME_EXCHANGE`.
    pub const EXCHANGE: RenameFlags = RenameFlags(2);
    /// `RENAME_WHITEOUT`.
    pub const WHITEOUT: RenameFlags = RenameFlags(4);

    /// The flags as the job gave them; bits that have no meaning are kept, and refused later.
    #[must_use]
    pub const fn from_raw(bits: u32) -> RenameFlags {
        RenameFlags(bits)
    }

    /// Whether all of `flag` is set.
    #[must_use]
    pub const fn has(self, flag: RenameFlags) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether the kernel takes this combination (`do_renameat2` in `fs/namei.c`).
    pub(crate) const fn is_valid(self) -> bool {
        let known = self.0 & !7 == 0;
        let alone = self.has(RenameFlags::NO_REPLACE) || self.has(RenameFlags::WHITEOUT);
        known && !(alone && self.has(RenameFlags::EXCHANGE))
    }
}

/// The errno of a rename, or `None` when nothing here speaks against it: both names are real and
/// none is held by a mount, and it is the kernel's business; or both are in one overlay. A real name that is renamed to itself is the kernel's, too, and
/// not to be asked here: that does nothing and succeeds, even for a mount point.
#[must_use]
pub fn decide_rename(from: Side, to: Side, flags: RenameFlags) -> Option<Errno> {
    if !flags.is_valid() {
        // The kernel says so before it looks at a path.
        return Some(Errno::EINVAL);
    }
    match (from, to) {
        (Side::Real(from), Side::Real(to)) => rename_real(from, to, flags),
        (Side::Projected { mount: a, mode, .. }, Side::Projected { mount: b, .. }) if a == b => {
            within_one(mode)
        }
        _ => Some(Errno::EXDEV),
    }
}

/// Two names in one mount.
const fn within_one(mode: Mode) -> Option<Errno> {
    match mode {
        Mode::ReadOnly | Mode::CopyOnWrite => Some(Errno::EROFS),
        Mode::Overlay => None,
    }
}

/// Both names are held by real directories, where a mount point or what is above one stays.
fn rename_real(from: Target, to: Target, flags: RenameFlags) -> Option<Errno> {
    use Target::{Directory, Missing, MountPoint};
    if from != MountPoint && to != MountPoint {
        return None;
    }
    if from == Missing {
        return Some(Errno::ENOENT);
    }
    if flags.has(RenameFlags::NO_REPLACE) && to != Missing {
        return Some(Errno::EEXIST);
    }
    if flags.has(RenameFlags::EXCHANGE) {
        return Some(if to == Missing { Errno::ENOENT } else { Errno::EBUSY });
    }
    let is_directory = |target| matches!(target, Directory | MountPoint);
    if to != Missing && is_directory(from) != is_directory(to) {
        // vfs_rename compares the kinds before it asks whether either is a mount point.
        return Some(if is_directory(to) { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    Some(Errno::EBUSY)
}

/// The errno of a link, or `None` when it is the kernel's business, or one within an overlay.
///
/// `from` is the object that gets another name, after its links are followed or not: for a
/// projected object reached by a descriptor, the mount that it belongs to. Here a projected tree
/// is firmer than a bind mount, which says `EROFS` when a new name is inside and the object not.
#[must_use]
pub fn decide_link(from: Side, to: Side) -> Option<Errno> {
    let (from_target, to_target) = (target(from), target(to));
    if from_target == Target::Missing {
        return match (from, to) {
            (Side::Real(_), Side::Real(_)) => None,
            _ => Some(Errno::ENOENT),
        };
    }
    match (from, to) {
        (Side::Real(Target::MountPoint), _) | (_, Side::Real(Target::MountPoint)) => {}
        (Side::Real(_), Side::Real(_)) => return None,
        _ => {}
    }
    if to_target != Target::Missing {
        return Some(Errno::EEXIST);
    }
    match (from, to) {
        (Side::Projected { mount: a, mode, .. }, Side::Projected { mount: b, .. }) if a == b => {
            within_one(mode)
        }
        _ => Some(Errno::EXDEV),
    }
}

const fn target(side: Side) -> Target {
    match side {
        Side::Real(target) | Side::Projected { target, .. } => target,
    }
}

#[cfg(test)]
mod tests {
    use super::{RenameFlags, Side, decide_link, decide_rename};
    use crate::{Errno, Mode, Target};

    const fn real(target: Target) -> Side {
        Side::Real(target)
    }

    const fn inside(mount: u16, target: Target) -> Side {
        Side::Projected { mount, mode: Mode::ReadOnly, target }
    }

    #[test]
    fn an_overlay_takes_renames_and_links_inside() {
        let side = |mount, target| Side::Projected { mount, mode: Mode::Overlay, target };
        let (file, free) = (side(0, Target::File), side(0, Target::Missing));
        assert_eq!(decide_rename(file, free, RenameFlags::NONE), None);
        assert_eq!(
            decide_rename(file, side(1, Target::Missing), RenameFlags::NONE),
            Some(Errno::EXDEV)
        );
        assert_eq!(decide_link(file, free), None);
        assert_eq!(decide_link(file, file), Some(Errno::EEXIST));
        assert_eq!(decide_link(file, real(Target::Missing)), Some(Errno::EXDEV));
    }

    #[test]
    fn renames() {
        use Target::{Directory, File, Missing, MountPoint};
        const NONE: RenameFlags = RenameFlags::NONE;
        const KEEP: RenameFlags = RenameFlags::NO_REPLACE;
        const SWAP: RenameFlags = RenameFlags::EXCHANGE;
        for (from, to, flags, expected) in [
            // Wholly real: the kernel's business.
            (real(File), real(Missing), NONE, None),
            (real(Directory), real(Directory), SWAP, None),
            // Inside one mount.
            (inside(0, File), inside(0, Missing), NONE, Some(Errno::EROFS)),
            (inside(0, Missing), inside(0, File), KEEP, Some(Errno::EROFS)),
            // Across the edge, whatever is there.
            (inside(0, File), real(Missing), NONE, Some(Errno::EXDEV)),
            (inside(0, Missing), real(File), KEEP, Some(Errno::EXDEV)),
            (real(Directory), inside(0, Missing), NONE, Some(Errno::EXDEV)),
            (inside(0, File), inside(1, Missing), NONE, Some(Errno::EXDEV)),
            // A mount point stays where it is.
            (real(MountPoint), real(Missing), NONE, Some(Errno::EBUSY)),
            (real(Directory), real(MountPoint), NONE, Some(Errno::EBUSY)),
            (real(File), real(MountPoint), NONE, Some(Errno::EISDIR)),
            (real(MountPoint), real(File), NONE, Some(Errno::ENOTDIR)),
            (real(Missing), real(MountPoint), NONE, Some(Errno::ENOENT)),
            (real(File), real(MountPoint), KEEP, Some(Errno::EEXIST)),
            (real(File), real(MountPoint), SWAP, Some(Errno::EBUSY)),
            (real(MountPoint), real(Missing), SWAP, Some(Errno::ENOENT)),
            // Flags first.
            (inside(0, File), real(Missing), RenameFlags::from_raw(3), Some(Errno::EINVAL)),
            (inside(0, File), real(Missing), RenameFlags::from_raw(6), Some(Errno::EINVAL)),
            (inside(0, File), real(Missing), RenameFlags::from_raw(8), Some(Errno::EINVAL)),
        ] {
            assert_eq!(decide_rename(from, to, flags), expected, "{from:?} {to:?} {flags:?}");
        }
    }

    #[test]
    fn links() {
        use Target::{File, Missing, MountPoint};
        for (from, to, expected) in [
            (real(File), real(Missing), None),
            (real(Missing), real(File), None),
            (inside(0, File), real(Missing), Some(Errno::EXDEV)),
            (real(File), inside(0, Missing), Some(Errno::EXDEV)),
            (inside(0, File), inside(1, Missing), Some(Errno::EXDEV)),
            (inside(0, File), inside(0, Missing), Some(Errno::EROFS)),
            (inside(0, File), real(File), Some(Errno::EEXIST)),
            (real(File), inside(0, File), Some(Errno::EEXIST)),
            (inside(0, Missing), real(Missing), Some(Errno::ENOENT)),
            (real(Missing), inside(0, Missing), Some(Errno::ENOENT)),
            (real(File), real(MountPoint), Some(Errno::EEXIST)),
            (real(MountPoint), real(Missing), Some(Errno::EXDEV)),
        ] {
            assert_eq!(decide_link(from, to), expected, "{from:?} {to:?}");
        }
    }
}
