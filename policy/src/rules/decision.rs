//! What becomes of an operation on a real path, by what the rules grant there.
//!
//! `read-only` is the kernel's read-only bind mount, and made from that table
//! ([`decide`](crate::decide)). `deny` is a file or directory of mode 0000, in a directory that the
//! caller can't write to and that, like it, is somebody else's. `tests/kernel.rs` asks the kernel
//! both. `None` leaves the operation to the kernel, which may still refuse it.

use crate::{Errno, Mode, Operation, Outcome, RenameFlags, Target, decide};

/// What the rules let a job do with a path.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Grant {
    /// Nothing: it isn't there.
    Hide,
    /// Nothing but to learn that it is there.
    Deny,
    /// As [`Grant::Deny`], for a directory on the way to what is open again: names in it can be
    /// looked up, as with mode 0111.
    Search,
    /// To look, not to change.
    ReadOnly,
    /// What the kernel allows.
    ReadWrite,
}

/// What is found at a real path.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RealTarget {
    /// Nothing, in a directory that is there.
    Missing,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link that is not followed.
    Symlink,
    /// A device, a fifo, a socket: what is written there does not change the file system.
    Special,
}

impl RealTarget {
    /// Every kind.
    pub const ALL: [RealTarget; 5] = [
        RealTarget::Missing,
        RealTarget::File,
        RealTarget::Directory,
        RealTarget::Symlink,
        RealTarget::Special,
    ];
}

/// The errno of `operation` on a path with this grant, or None when it is the kernel's business.
#[must_use]
pub const fn decide_rule(operation: Operation, grant: Grant, target: RealTarget) -> Option<Errno> {
    match grant {
        Grant::Hide => Some(Errno::ENOENT),
        Grant::Search
            if matches!(operation, Operation::EnterDirectory | Operation::TestExecute) =>
        {
            None
        }
        Grant::Deny | Grant::Search => denied(operation, target),
        Grant::ReadOnly => read_only(operation, target),
        Grant::ReadWrite => None,
    }
}

/// The errno of running, or of asking whether it may be run, where a rule says `exec = false`: as
/// on a file system mounted `noexec`.
#[must_use]
pub const fn decide_exec(operation: Operation, target: RealTarget) -> Option<Errno> {
    match (operation, target) {
        (Operation::Execute | Operation::TestExecute, RealTarget::File) => Some(Errno::EACCES),
        _ => None,
    }
}

/// Everything but `EROFS` the kernel says by itself.
const fn read_only(operation: Operation, target: RealTarget) -> Option<Errno> {
    use Operation as O;
    let same = match target {
        RealTarget::Missing => Target::Missing,
        RealTarget::File => Target::File,
        RealTarget::Directory => Target::Directory,
        RealTarget::Symlink => Target::Symlink,
        RealTarget::Special => match operation {
            // sb_permission() and mnt_want_write() leave out what has no content on the disk.
            O::TestWrite
            | O::OpenWrite
            | O::OpenTruncate
            | O::CreateFile
            | O::CreateWrite
            | O::CreateTruncate
            | O::Truncate
            | O::ConnectSocket => return None,
            _ => Target::File,
        },
    };
    match decide(operation, Mode::ReadOnly, same) {
        Outcome::Refuse(Errno::EROFS) => Some(Errno::EROFS),
        _ => None,
    }
}

const fn denied(operation: Operation, target: RealTarget) -> Option<Errno> {
    use Operation as O;
    use RealTarget as T;
    let refuses = match operation {
        // Nothing is learnt of what is inside.
        O::Stat | O::OpenPath | O::StatFs | O::MakeHandle => false,
        O::CreateExclusive | O::MakeDirectory | O::MakeNode | O::MakeSymlink | O::BindSocket => {
            matches!(target, T::Missing)
        }
        O::CreateFile | O::CreateWrite | O::CreateTruncate => {
            matches!(target, T::Missing | T::File | T::Special)
        }
        O::Read | O::OpenWrite | O::OpenTruncate | O::Execute => match target {
            T::File | T::Special => true,
            // To be written to or run: the kernel says EISDIR, EACCES.
            T::Directory => matches!(operation, O::Read),
            T::Missing | T::Symlink => false,
        },
        O::List | O::EnterDirectory | O::MakeTempFile => matches!(target, T::Directory),
        O::ReadLink => matches!(target, T::Symlink),
        O::Truncate => matches!(target, T::File),
        O::TestExecute
        | O::TestWrite
        | O::Watch
        | O::GetXattr
        | O::ConnectSocket
        | O::Unlink
        | O::RemoveDirectory
        | O::ChangeMode
        | O::ChangeOwner
        | O::ChangeTimes
        | O::SetXattr
        | O::RemoveXattr
        | O::SetFlags => !matches!(target, T::Missing),
    };
    if refuses { Some(Errno::EACCES) } else { None }
}

/// The errno of a rename between two names, or None when it is the kernel's business.
///
/// Rules are no mounts: both sides have the same device number, so there is no edge between them
/// and no `EXDEV`.
#[must_use]
pub fn decide_rule_rename(
    from: (Grant, RealTarget),
    to: (Grant, RealTarget),
    flags: RenameFlags,
) -> Option<Errno> {
    if !flags.is_valid() {
        return None;
    }
    if from.0 == Grant::Hide || to.0 == Grant::Hide {
        return Some(Errno::ENOENT);
    }
    if from.0 == Grant::ReadOnly || to.0 == Grant::ReadOnly {
        return Some(Errno::EROFS);
    }
    let missing = from.1 == RealTarget::Missing
        || (flags.has(RenameFlags::EXCHANGE) && to.1 == RealTarget::Missing);
    let kept = flags.has(RenameFlags::NO_REPLACE) && to.1 != RealTarget::Missing;
    let shut = |grant| matches!(grant, Grant::Deny | Grant::Search);
    (!missing && !kept && (shut(from.0) || shut(to.0))).then_some(Errno::EACCES)
}

/// The errno of a link, or None when it is the kernel's business. What may not be changed gets no
/// other name, by which it could be.
#[must_use]
pub fn decide_rule_link(from: (Grant, RealTarget), to: (Grant, RealTarget)) -> Option<Errno> {
    if from.0 == Grant::Hide || to.0 == Grant::Hide {
        return Some(Errno::ENOENT);
    }
    if from.1 == RealTarget::Missing || to.1 != RealTarget::Missing {
        return None;
    }
    if from.0 == Grant::ReadOnly || to.0 == Grant::ReadOnly {
        return Some(Errno::EROFS);
    }
    let shut = |grant| matches!(grant, Grant::Deny | Grant::Search);
    (shut(from.0) || shut(to.0)).then_some(Errno::EACCES)
}
