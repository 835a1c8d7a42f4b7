//! The one decision table: what is done on a projected path × what is found there → the outcome.
//!
//! The oracle is a read-only bind mount of the same tree: each row was asked of the kernel
//! (`tests/kernel.rs` asks again at every run where it may mount). Looking a path
//! up is done before: `ENOENT` and `ENOTDIR` for what lies above the last component, `ELOOP`,
//! `ENAMETOOLONG` and trailing slashes are the resolver's answers and come first, as in the
//! kernel. Renames and links name two places: see [`decide_rename`](crate::decide_rename) and
//! [`decide_link`](crate::decide_link).

use crate::{Errno, Mode};

/// What a job wants to do with the last component of a projected path.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// stat, lstat, statx, `access(F_OK)`, `access(R_OK)` once the mode bits allow it.
    Stat,
    /// `access(X_OK)`, once the mode bits allow it.
    TestExecute,
    /// `access(W_OK)`. See [`Operation::permission_first`].
    TestWrite,
    /// readlink.
    ReadLink,
    /// open with `O_PATH`.
    OpenPath,
    /// open with `O_RDONLY`.
    Read,
    /// open with `O_DIRECTORY`.
    List,
    /// execve, once the mode bits allow it.
    Execute,
    /// chdir, chroot.
    EnterDirectory,
    /// `inotify_add_watch`.
    Watch,
    /// statfs.
    StatFs,
    /// getxattr, listxattr.
    GetXattr,
    /// `name_to_handle_at`. Not the bind mount's answer: a handle would lead past every path, and
    /// a file system may lack them.
    MakeHandle,
    /// connect to a unix socket, sendto. See [`Operation::permission_first`].
    ConnectSocket,
    /// open with `O_WRONLY` or `O_RDWR`. See [`Operation::permission_first`].
    OpenWrite,
    /// open with `O_TRUNC`, whatever the access mode, without `O_CREAT`.
    OpenTruncate,
    /// open with `O_CREAT|O_RDONLY`, not exclusive. Served: open what is there.
    CreateFile,
    /// open with `O_CREAT` and `O_WRONLY` or `O_RDWR`, without `O_TRUNC`, not exclusive. See
    /// [`Operation::permission_first`].
    CreateWrite,
    /// open with `O_CREAT` and `O_TRUNC`, whatever the access mode, not exclusive; creat.
    CreateTruncate,
    /// open with `O_CREAT|O_EXCL`.
    CreateExclusive,
    /// open with `O_TMPFILE`: the target is the directory it names.
    MakeTempFile,
    /// mkdir.
    MakeDirectory,
    /// mknod, mkfifo.
    MakeNode,
    /// symlink: the target is the new name.
    MakeSymlink,
    /// bind of a unix socket.
    BindSocket,
    /// unlink.
    Unlink,
    /// rmdir, `unlinkat(AT_REMOVEDIR)`.
    RemoveDirectory,
    /// truncate by path. See [`Operation::permission_first`].
    Truncate,
    /// chmod, fchmod, `fchmodat2`.
    ChangeMode,
    /// chown, lchown, fchown, also with -1, -1.
    ChangeOwner,
    /// utimensat and its elders. (Two `UTIME_OMIT` do nothing, not even look the path up.)
    ChangeTimes,
    /// setxattr.
    SetXattr,
    /// removexattr, also of one that isn't there.
    RemoveXattr,
    /// `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`, `file_setattr`, and every other ioctl that changes
    /// an inode.
    SetFlags,
}

/// What the last component of the path names.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nothing: the parent is a projected directory that has no such name.
    Missing,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link that is not followed. Calls that always follow links never meet one.
    Symlink,
    /// A mount point, or a directory above one, that must stay where it is. Its name is held by a
    /// real directory. (Where a projected directory holds it, it is a [`Target::Directory`]: its
    /// holder can't change anyway, and the kernel says so first.)
    MountPoint,
}

impl Target {
    /// Every kind, in the order of the table's columns.
    pub const ALL: [Target; 5] =
        [Target::Missing, Target::File, Target::Directory, Target::Symlink, Target::MountPoint];
}

/// What is to be done about an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answer from the projection.
    Serve,
    /// Refuse with this errno.
    Refuse(Errno),
}

/// A right that the mode bits must give.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Any of the `w` bits that apply to the caller.
    Write,
}

/// One operation's outcomes, a column for each [`Target`].
type Row = [Outcome; 5];

const SERVE: Outcome = Outcome::Serve;
const EACCES: Outcome = Outcome::Refuse(Errno::EACCES);
const EADDRINUSE: Outcome = Outcome::Refuse(Errno::EADDRINUSE);
const EBUSY: Outcome = Outcome::Refuse(Errno::EBUSY);
const ECONNREFUSED: Outcome = Outcome::Refuse(Errno::ECONNREFUSED);
const EEXIST: Outcome = Outcome::Refuse(Errno::EEXIST);
const EINVAL: Outcome = Outcome::Refuse(Errno::EINVAL);
const EISDIR: Outcome = Outcome::Refuse(Errno::EISDIR);
const ELOOP: Outcome = Outcome::Refuse(Errno::ELOOP);
const ENOENT: Outcome = Outcome::Refuse(Errno::ENOENT);
const ENOTDIR: Outcome = Outcome::Refuse(Errno::ENOTDIR);
const EOPNOTSUPP: Outcome = Outcome::Refuse(Errno::EOPNOTSUPP);
const EROFS: Outcome = Outcome::Refuse(Errno::EROFS);

impl Operation {
    /// Every operation, in the order of the table.
    pub const ALL: [Operation; 34] = [
        Operation::Stat,
        Operation::TestExecute,
        Operation::TestWrite,
        Operation::ReadLink,
        Operation::OpenPath,
        Operation::Read,
        Operation::List,
        Operation::Execute,
        Operation::EnterDirectory,
        Operation::Watch,
        Operation::StatFs,
        Operation::GetXattr,
        Operation::MakeHandle,
        Operation::ConnectSocket,
        Operation::OpenWrite,
        Operation::OpenTruncate,
        Operation::CreateFile,
        Operation::CreateWrite,
        Operation::CreateTruncate,
        Operation::CreateExclusive,
        Operation::MakeTempFile,
        Operation::MakeDirectory,
        Operation::MakeNode,
        Operation::MakeSymlink,
        Operation::BindSocket,
        Operation::Unlink,
        Operation::RemoveDirectory,
        Operation::Truncate,
        Operation::ChangeMode,
        Operation::ChangeOwner,
        Operation::ChangeTimes,
        Operation::SetXattr,
        Operation::RemoveXattr,
        Operation::SetFlags,
    ];

    /// The table for a read-only mount.
    #[rustfmt::skip]
    const fn read_only(self) -> Row {
        use Operation as O;
        match self {
            //                      Missing   File          Directory     Symlink       MountPoint
            O::Stat            => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::TestExecute     => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::TestWrite       => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
            O::ReadLink        => [ENOENT,  EINVAL,       EINVAL,       SERVE,        EINVAL],
            O::OpenPath        => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::Read            => [ENOENT,  SERVE,        SERVE,        ELOOP,        SERVE],
            O::List            => [ENOENT,  ENOTDIR,      SERVE,        ENOTDIR,      SERVE],
            O::Execute         => [ENOENT,  SERVE,        EACCES,       ELOOP,        EACCES],
            O::EnterDirectory  => [ENOENT,  ENOTDIR,      SERVE,        ENOTDIR,      SERVE],
            O::Watch           => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::StatFs          => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::GetXattr        => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::MakeHandle      => [ENOENT,  EOPNOTSUPP,   EOPNOTSUPP,   EOPNOTSUPP,   EOPNOTSUPP],
            O::ConnectSocket   => [ENOENT,  ECONNREFUSED, ECONNREFUSED, ECONNREFUSED, ECONNREFUSED],
            O::OpenWrite       => [ENOENT,  EROFS,        EISDIR,       ELOOP,        EISDIR],
            O::OpenTruncate    => [ENOENT,  EROFS,        EISDIR,       ELOOP,        EISDIR],
            O::CreateFile      => [EROFS,   SERVE,        EISDIR,       ELOOP,        EISDIR],
            O::CreateWrite     => [EROFS,   EROFS,        EISDIR,       ELOOP,        EISDIR],
            O::CreateTruncate  => [EROFS,   EROFS,        EISDIR,       ELOOP,        EISDIR],
            O::CreateExclusive => [EROFS,   EEXIST,       EEXIST,       EEXIST,       EEXIST],
            O::MakeTempFile    => [ENOENT,  ENOTDIR,      EROFS,        ENOTDIR,      EROFS],
            O::MakeDirectory   => [EROFS,   EEXIST,       EEXIST,       EEXIST,       EEXIST],
            O::MakeNode        => [EROFS,   EEXIST,       EEXIST,       EEXIST,       EEXIST],
            O::MakeSymlink     => [EROFS,   EEXIST,       EEXIST,       EEXIST,       EEXIST],
            O::BindSocket      => [EROFS,   EADDRINUSE,   EADDRINUSE,   EADDRINUSE,   EADDRINUSE],
            O::Unlink          => [EROFS,   EROFS,        EROFS,        EROFS,        EISDIR],
            O::RemoveDirectory => [EROFS,   EROFS,        EROFS,        EROFS,        EBUSY],
            O::Truncate        => [ENOENT,  EROFS,        EISDIR,       EINVAL,       EISDIR],
            O::ChangeMode      => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
            O::ChangeOwner     => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
            O::ChangeTimes     => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
            O::SetXattr        => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
            O::RemoveXattr     => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
            O::SetFlags        => [ENOENT,  EROFS,        EROFS,        EROFS,        EROFS],
        }
    }

    /// The table for a copy-on-write mount: what is there may be changed, names may not.
    #[rustfmt::skip]
    const fn copy_on_write(self) -> Row {
        use Operation as O;
        match self {
            //                      Missing   File          Directory     Symlink       MountPoint
            O::TestWrite       => [ENOENT,  SERVE,        EROFS,        EROFS,        EROFS],
            O::OpenWrite       => [ENOENT,  SERVE,        EISDIR,       ELOOP,        EISDIR],
            O::OpenTruncate    => [ENOENT,  SERVE,        EISDIR,       ELOOP,        EISDIR],
            O::CreateWrite     => [EROFS,   SERVE,        EISDIR,       ELOOP,        EISDIR],
            O::CreateTruncate  => [EROFS,   SERVE,        EISDIR,       ELOOP,        EISDIR],
            O::Truncate        => [ENOENT,  SERVE,        EISDIR,       EINVAL,       EISDIR],
            O::ChangeMode | O::ChangeOwner | O::ChangeTimes | O::SetXattr | O::RemoveXattr
            | O::SetFlags      => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            _ => self.read_only(),
        }
    }

    /// The table for an overlay: as a plain directory.
    #[rustfmt::skip]
    const fn overlay(self) -> Row {
        use Operation as O;
        match self {
            //                      Missing   File          Directory     Symlink       MountPoint
            O::TestWrite       => [ENOENT,  SERVE,        SERVE,        SERVE,        SERVE],
            O::CreateFile | O::CreateWrite | O::CreateTruncate
                               => [SERVE,   SERVE,        EISDIR,       ELOOP,        EISDIR],
            O::CreateExclusive => [SERVE,   EEXIST,       EEXIST,       EEXIST,       EEXIST],
            O::MakeTempFile    => [ENOENT,  ENOTDIR,      SERVE,        ENOTDIR,      SERVE],
            O::MakeDirectory | O::MakeNode | O::MakeSymlink
                               => [SERVE,   EEXIST,       EEXIST,       EEXIST,       EEXIST],
            O::BindSocket      => [SERVE,   EADDRINUSE,   EADDRINUSE,   EADDRINUSE,   EADDRINUSE],
            O::Unlink          => [ENOENT,  SERVE,        EISDIR,       SERVE,        EISDIR],
            O::RemoveDirectory => [ENOENT,  ENOTDIR,      SERVE,        ENOTDIR,      EBUSY],
            _ => self.copy_on_write(),
        }
    }

    /// The right that the kernel checks on the target itself before it says `EROFS`: without it
    /// the answer is `EACCES`. Everywhere else `EROFS` comes first, whoever asks. (truncate has
    /// been one of these since Linux 6.8.)
    #[must_use]
    pub const fn permission_first(self, target: Target) -> Option<Permission> {
        use Operation as O;
        match (self, target) {
            (O::TestWrite, Target::File | Target::Directory | Target::MountPoint)
            | (O::OpenWrite | O::CreateWrite | O::Truncate, Target::File)
            | (O::ConnectSocket, Target::File | Target::Directory | Target::MountPoint) => {
                Some(Permission::Write)
            }
            _ => None,
        }
    }
}

/// What becomes of `operation` on a place in a mount of mode `mode`, where `target` is found.
///
/// In a writable mount, what the mode bits of the directory and of the target say comes besides.
#[must_use]
pub const fn decide(operation: Operation, mode: Mode, target: Target) -> Outcome {
    let row = match mode {
        Mode::ReadOnly => operation.read_only(),
        Mode::CopyOnWrite => operation.copy_on_write(),
        Mode::Overlay => operation.overlay(),
    };
    match target {
        Target::Missing => row[0],
        Target::File => row[1],
        Target::Directory => row[2],
        Target::Symlink => row[3],
        Target::MountPoint => row[4],
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Outcome, Target, decide};
    use crate::{Errno, Mode};

    /// Whether the operation can only look, whatever it finds.
    fn only_looks(operation: Operation) -> bool {
        use Operation as O;
        matches!(
            operation,
            O::Stat
                | O::TestExecute
                | O::ReadLink
                | O::OpenPath
                | O::Read
                | O::List
                | O::Execute
                | O::EnterDirectory
                | O::Watch
                | O::StatFs
                | O::GetXattr
        )
    }

    #[test]
    fn nothing_that_could_change_a_read_only_mount_is_served() {
        for operation in Operation::ALL {
            for target in Target::ALL {
                let outcome = decide(operation, Mode::ReadOnly, target);
                // O_CREAT|O_RDONLY of a file that is there makes nothing.
                let harmless = only_looks(operation)
                    || (operation == Operation::CreateFile && target == Target::File);
                assert!(
                    harmless || matches!(outcome, Outcome::Refuse(_)),
                    "{operation:?} of {target:?}: {outcome:?}"
                );
            }
        }
    }

    #[test]
    fn copy_on_write_changes_no_names() {
        use Operation as O;
        for operation in Operation::ALL {
            let makes =
                matches!(decide(operation, Mode::CopyOnWrite, Target::Missing), Outcome::Serve);
            assert!(!makes, "{operation:?} of what is not there");
        }
        for operation in [O::Unlink, O::RemoveDirectory, O::MakeTempFile] {
            for target in Target::ALL {
                let outcome = decide(operation, Mode::CopyOnWrite, target);
                assert_eq!(outcome, decide(operation, Mode::ReadOnly, target), "{operation:?}");
            }
        }
        let outcome = decide(O::OpenWrite, Mode::CopyOnWrite, Target::File);
        assert_eq!(outcome, Outcome::Serve);
    }

    #[test]
    fn an_overlay_is_never_read_only() {
        for operation in Operation::ALL {
            for target in Target::ALL {
                let outcome = decide(operation, Mode::Overlay, target);
                assert_ne!(outcome, Outcome::Refuse(Errno::EROFS), "{operation:?} of {target:?}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_never_served() {
        for operation in Operation::ALL {
            let outcome = decide(operation, Mode::ReadOnly, Target::Missing);
            assert!(
                matches!(outcome, Outcome::Refuse(Errno::ENOENT | Errno::EROFS)),
                "{operation:?}: {outcome:?}"
            );
        }
    }

    /// The rows of the design's page that one place decides, as a user of the kernel knows them.
    #[test]
    fn the_well_known_answers() {
        use Operation as O;
        use Target as T;
        for (operation, target, errno) in [
            (O::MakeDirectory, T::Missing, Errno::EROFS),
            (O::MakeDirectory, T::Directory, Errno::EEXIST),
            (O::BindSocket, T::File, Errno::EADDRINUSE),
            (O::RemoveDirectory, T::Missing, Errno::EROFS),
            (O::Unlink, T::Missing, Errno::EROFS),
            (O::OpenWrite, T::Missing, Errno::ENOENT),
            (O::CreateWrite, T::Missing, Errno::EROFS),
            (O::CreateExclusive, T::Symlink, Errno::EEXIST),
            (O::CreateFile, T::Directory, Errno::EISDIR),
            (O::List, T::File, Errno::ENOTDIR),
            (O::Read, T::Symlink, Errno::ELOOP),
            (O::MakeTempFile, T::Directory, Errno::EROFS),
            (O::ChangeOwner, T::Missing, Errno::ENOENT),
            (O::Truncate, T::Directory, Errno::EISDIR),
            (O::ConnectSocket, T::File, Errno::ECONNREFUSED),
            (O::RemoveDirectory, T::MountPoint, Errno::EBUSY),
            (O::Unlink, T::MountPoint, Errno::EISDIR),
            (O::MakeHandle, T::File, Errno::EOPNOTSUPP),
        ] {
            let outcome = decide(operation, Mode::ReadOnly, target);
            assert_eq!(outcome, Outcome::Refuse(errno), "{operation:?} of {target:?}");
        }
        assert_eq!(decide(O::CreateFile, Mode::ReadOnly, T::File), Outcome::Serve);
    }

    #[test]
    fn all_lists_each_operation_once() {
        let all: std::collections::HashSet<Operation> = Operation::ALL.into_iter().collect();
        assert_eq!(all.len(), Operation::ALL.len());
        // `SetFlags` is the last one of the enum: a new one must be put into `ALL`, too.
        assert_eq!(Operation::SetFlags as usize + 1, Operation::ALL.len());
    }
}
