//! Where the two systems differ: limits, the numbers of errors, and the few answers of a read-only
//! file system that macOS gives otherwise than Linux.

use vrift_policy::{Errno, Mode, Operation, Outcome, Target, decide};

/// An answer of macOS's that is not Linux's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is done.
    pub operation: Operation,
    /// What is found.
    pub target: Target,
    /// What macOS answers.
    pub outcome: Outcome,
    /// Where that is known from.
    pub source: &'static str,
}

/// A system's limits and answers.
#[derive(Debug)]
pub struct Platform {
    /// `PATH_MAX`, the NUL included.
    pub path_max: usize,
    /// Links that may be followed on one way.
    pub max_links: u32,
    /// Answers that are not Linux's.
    pub differences: &'static [Difference],
}

/// Linux: for the tests.
pub const LINUX: Platform = Platform {
    path_max: vrift_projection::walk::PATH_MAX,
    max_links: vrift_projection::walk::MAX_LINKS,
    differences: &[],
};

/// macOS (`bsd/sys/syslimits.h`, `bsd/sys/param.h`).
pub const DARWIN: Platform =
    Platform { path_max: 1024, max_links: 32, differences: DARWIN_DIFFERENCES };

const fn differs(
    operation: Operation,
    target: Target,
    outcome: Outcome,
    source: &'static str,
) -> Difference {
    Difference { operation, target, outcome, source }
}

const LOOKED_UP_FIRST: &str = "bsd/vfs/vfs_syscalls.c: the name is looked up before anything else";
const OPEN_EXISTING: &str =
    "bsd/vfs/vfs_vnops.c, vn_authorize_open_existing: EISDIR for FWRITE and O_TRUNC only";
const RMDIR: &str = "bsd/vfs/vfs_syscalls.c, vn_authorize_rmdir: ENOTDIR before the right is asked";
const UNLINK_ROOT: &str = "unlink(2): EBUSY, a mount point";
const NOT_A_SOCKET: &str = "connect(2): ENOTSOCK, the file is not a socket";

/// Read in the XNU sources and the manual pages, and not tried: the first session on a Mac asks.
const DARWIN_DIFFERENCES: &[Difference] = {
    use Operation as O;
    use Outcome::{Refuse, Serve};
    use Target as T;
    &[
        differs(O::Unlink, T::Missing, Refuse(Errno::ENOENT), LOOKED_UP_FIRST),
        differs(O::RemoveDirectory, T::Missing, Refuse(Errno::ENOENT), LOOKED_UP_FIRST),
        differs(O::RemoveDirectory, T::File, Refuse(Errno::ENOTDIR), RMDIR),
        differs(O::RemoveDirectory, T::Symlink, Refuse(Errno::ENOTDIR), RMDIR),
        differs(O::Unlink, T::MountPoint, Refuse(Errno::EBUSY), UNLINK_ROOT),
        differs(O::CreateFile, T::Directory, Serve, OPEN_EXISTING),
        differs(O::CreateFile, T::MountPoint, Serve, OPEN_EXISTING),
        differs(O::ConnectSocket, T::File, Refuse(Errno::ENOTSOCK), NOT_A_SOCKET),
        differs(O::ConnectSocket, T::Directory, Refuse(Errno::ENOTSOCK), NOT_A_SOCKET),
        differs(O::ConnectSocket, T::Symlink, Refuse(Errno::ENOTSOCK), NOT_A_SOCKET),
        differs(O::ConnectSocket, T::MountPoint, Refuse(Errno::ENOTSOCK), NOT_A_SOCKET),
    ]
};

impl Platform {
    /// What becomes of an operation in a read-only mount.
    #[must_use]
    pub fn decide(&self, operation: Operation, target: Target) -> Outcome {
        let mut differences = self.differences.iter();
        let other = differences.find(|row| row.operation == operation && row.target == target);
        other.map_or_else(|| decide(operation, Mode::ReadOnly, target), |row| row.outcome)
    }
}

/// Linux's number and Darwin's, where they differ (`bsd/sys/errno.h`). ENODATA is what Linux says
/// of an extended attribute that is not there; Darwin says ENOATTR. EOPNOTSUPP is Darwin's ENOTSUP,
/// which its file systems say.
const NUMBERS: &[(Errno, i32)] = &[
    (Errno::EAGAIN, 35),
    (Errno::EDEADLK, 11),
    (Errno::ENAMETOOLONG, 63),
    (Errno::ENOLCK, 77),
    (Errno::ENOSYS, 78),
    (Errno::ENOTEMPTY, 66),
    (Errno::ELOOP, 62),
    (Errno::ENODATA, 93),
    (Errno::EOVERFLOW, 84),
    (Errno::EILSEQ, 92),
    (Errno::EUSERS, 68),
    (Errno::ENOTSOCK, 38),
    (Errno::EDESTADDRREQ, 39),
    (Errno::EMSGSIZE, 40),
    (Errno::EPROTOTYPE, 41),
    (Errno::ENOPROTOOPT, 42),
    (Errno::EPROTONOSUPPORT, 43),
    (Errno::EOPNOTSUPP, 45),
    (Errno::EAFNOSUPPORT, 47),
    (Errno::EADDRINUSE, 48),
    (Errno::EADDRNOTAVAIL, 49),
    (Errno::ECONNRESET, 54),
    (Errno::ENOBUFS, 55),
    (Errno::EISCONN, 56),
    (Errno::ENOTCONN, 57),
    (Errno::ETIMEDOUT, 60),
    (Errno::ECONNREFUSED, 61),
    (Errno::EALREADY, 37),
    (Errno::EINPROGRESS, 36),
    (Errno::ESTALE, 70),
    (Errno::EDQUOT, 69),
    (Errno::ECANCELED, 89),
];

/// Up to here the numbers are the same, but for EAGAIN and EDEADLK.
const COMMON: i32 = 34;

/// Darwin's number of an error.
#[must_use]
pub fn darwin_number(errno: Errno) -> i32 {
    let other = NUMBERS.iter().find(|(ours, _)| *ours == errno).map(|(_, number)| *number);
    let common = (errno.raw() <= COMMON).then_some(errno.raw());
    // Nothing here says any other.
    other.or(common).unwrap_or(Errno::EIO.raw())
}

/// The error that has this number on Darwin; EIO for one that Linux has no name for.
#[must_use]
pub fn of_darwin(number: i32) -> Errno {
    let other = NUMBERS.iter().find(|(_, theirs)| *theirs == number).map(|(ours, _)| *ours);
    let common = (1..=COMMON).contains(&number).then(|| Errno::from_raw(number)).flatten();
    other.or(common).unwrap_or(Errno::EIO)
}

#[cfg(test)]
mod tests {
    use super::{COMMON, DARWIN, LINUX, NUMBERS, darwin_number, of_darwin};
    use vrift_policy::{Errno, Mode, Operation, Target, decide};

    /// The errno table against Linux's: equal, but for what is listed, and what is listed differs.
    #[test]
    fn the_tables_are_equal_but_for_what_is_listed() {
        let mut differences = 0;
        for operation in Operation::ALL {
            for target in Target::ALL {
                let linux = decide(operation, Mode::ReadOnly, target);
                assert_eq!(LINUX.decide(operation, target), linux);
                let listed = DARWIN
                    .differences
                    .iter()
                    .filter(|row| (row.operation, row.target) == (operation, target));
                let listed = listed.count();
                let equal = DARWIN.decide(operation, target) == linux;
                assert_eq!(listed, usize::from(!equal), "{operation:?} of {target:?}");
                differences += listed;
            }
        }
        assert_eq!(differences, DARWIN.differences.len());
    }

    #[test]
    fn numbers_lead_there_and_back() {
        for (errno, number) in NUMBERS {
            assert_eq!(darwin_number(*errno), *number);
            assert_eq!(of_darwin(*number), *errno);
        }
        for number in (1..=COMMON).filter(|number| ![11].contains(number)) {
            let errno = Errno::from_raw(number).expect("an errno");
            assert_eq!(darwin_number(of_darwin(number)), number, "{errno:?}");
        }
        assert_eq!(darwin_number(Errno::EROFS), 30);
        assert_eq!(darwin_number(Errno::EXDEV), 18);
        assert_eq!(of_darwin(9999), Errno::EIO);
    }

    /// Every errno that the tables can say has a number of its own.
    #[test]
    fn every_answer_has_a_number() {
        for operation in Operation::ALL {
            for target in Target::ALL {
                if let vrift_policy::Outcome::Refuse(errno) = DARWIN.decide(operation, target) {
                    let number = darwin_number(errno);
                    assert!(number != Errno::EIO.raw(), "{errno:?}");
                    assert_eq!(of_darwin(number), errno);
                }
            }
        }
    }
}
