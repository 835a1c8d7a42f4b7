//! The one table of system calls: what each is called, its numbers, where its paths are, and what
//! the supervisor does with it.
//!
//! The filter, the dispatch, the documentation and `vrift-trace syscalls` are all made from
//! [`ROWS`]. A call that names or changes files and has no row is a hole: a test compares the
//! table with the kernel's own list.

pub mod names;
pub mod origin;
mod rows;

pub use rows::ROWS;
use vrift_policy::Errno;
use vrift_policy::Operation;

/// The instruction set whose numbers and registers a call uses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit x86, on an x86_64 kernel.
    I386,
}

impl Arch {
    /// The arch of this build.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Arch = Arch::X86_64;
    /// The arch of this build.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Arch = Arch::Aarch64;

    /// What the kernel calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::I386 => "i386",
        }
    }

    /// The `AUDIT_ARCH_*` word that `seccomp_data.arch` carries (`include/uapi/linux/audit.h`).
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::I386 => 0x4000_0003,
        }
    }
}

/// Where a call has a path: the directory descriptor's argument, if it has one, and the path's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct At {
    /// Index of the directory descriptor among the arguments; None: the current directory.
    pub dirfd: Option<u8>,
    /// Index of the path's address.
    pub path: u8,
}

/// Is the last component's link followed?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Follow {
    /// Never, as lstat(2) and unlink(2).
    No,
    /// Always, as stat(2) and truncate(2).
    Yes,
    /// Unless `AT_SYMLINK_NOFOLLOW` (0x100) is in this argument.
    Unless(u8),
    /// Only if `AT_SYMLINK_FOLLOW` (0x400) is in this argument.
    OnlyIf(u8),
}

/// The layouts in which a call gives back a file's metadata.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatLayout {
    /// The native 64-bit `struct stat`.
    Native,
    /// `struct statx`: flags in argument 2, mask in 3, buffer in 4.
    Statx,
    /// i386's `struct stat64`.
    Stat64,
    /// i386's `struct stat`, whose device number has 16 bits: EOVERFLOW for a projected file, as
    /// for every device that does not fit.
    Narrow,
}

/// What the open family's members look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpenForm {
    /// open(path, flags, mode)
    Open,
    /// creat(path, mode)
    Creat,
    /// openat(dirfd, path, flags, mode)
    OpenAt,
    /// openat2(dirfd, path, how, size)
    OpenAt2,
}

/// What is done with a call; one module of `calls/` for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Handler {
    /// open, openat, openat2, creat.
    Open(OpenForm),
    /// The stat family by path: the path, whether links are followed, buffer, layout. The flag
    /// argument, where there is one, may hold `AT_EMPTY_PATH`.
    Stat { at: At, follow: Follow, buf: u8, flags: Option<u8>, layout: StatLayout },
    /// fstat(fd, buf).
    FStat(StatLayout),
    /// access, faccessat (mode in the argument after the path), faccessat2 (then flags).
    Access { at: At, flags: Option<u8> },
    /// readlink, readlinkat: buffer and size follow the path.
    ReadLink(At),
    /// getdents64 or, with `legacy`, getdents.
    GetDents { legacy: bool },
    /// getcwd(buf, size).
    GetCwd,
    /// statfs(path, buf); with `sized`, statfs64(path, size, buf).
    StatFs { sized: bool },
    /// fstatfs(fd, buf); with `sized`, fstatfs64(fd, size, buf).
    FStatFs { sized: bool },
    /// getxattr and lgetxattr: path, name, value, size.
    GetXattr(Follow),
    /// fgetxattr(fd, name, value, size).
    FGetXattr,
    /// listxattr and llistxattr: path, list, size.
    ListXattr(Follow),
    /// getxattrat(dirfd, path, flags, name, args, size).
    GetXattrAt,
    /// listxattrat(dirfd, path, flags, list, size).
    ListXattrAt,
    /// flistxattr(fd, list, size).
    FListXattr,
    /// Makes a new name: mkdir, mknod, symlink.
    Make { at: At, op: Operation },
    /// unlink, rmdir; unlinkat says which by `AT_REMOVEDIR` in the given argument.
    Remove { at: At, op: Operation, flags: Option<u8> },
    /// rename family: old, new, flags.
    Rename { old: At, new: At, flags: Option<u8> },
    /// link, linkat: old, new, flags.
    Link { old: At, new: At, flags: Option<u8> },
    /// Changes what a name stands for: truncate, chmod, chown, utimes, setxattr. `null_is_fd`: a
    /// null path means the directory descriptor itself (utimensat, futimesat).
    Change { at: At, op: Operation, follow: Follow, empty: Option<u8>, null_is_fd: bool },
    /// The same by descriptor in argument 0: fchmod, fchown, fsetxattr, fremovexattr.
    FdChange(Operation),
    /// ioctl: only the requests of [`IOCTLS`] are asked for.
    Ioctl,
    /// bind(fd, addr, len) and connect(fd, addr, len).
    Socket(Operation),
    /// i386's socketcall(call, args): bind and connect among others.
    SocketCall,
    /// getsockname(fd, addr, len) and getpeername.
    SocketName,
    /// chdir(path).
    ChDir,
    /// execve(path, argv, envp).
    ExecVe,
    /// execveat(dirfd, path, argv, envp, flags).
    ExecVeAt,
    /// inotify_add_watch(fd, path, mask).
    Watch,
    /// A read of something the projection does not have: the errno for a projected path.
    Lacking { at: At, follow: Follow, errno: Errno },
    /// prctl: `PR_SET_DUMPABLE` to 0 is said to have worked and does nothing, in the filter alone,
    /// where the supervisor could not see into the task any more.
    PrCtl,
    /// Acts on the process in this argument; refused for the supervisor's own.
    Process { pid: u8, act: Act },
    /// fcntl: only `F_SETLEASE` is asked for.
    Lease,
    /// flock(fd, operation).
    Flock,
    /// unshare: only a new user namespace is asked for, and noted.
    Unshare,
    /// Refused whatever its arguments, and the summary says why. The argument is the path that it
    /// is told with.
    Deny(Errno, u8),
    /// Refused whatever its arguments, by the filter alone; no notification.
    Refuse(Errno),
}

/// The last number of the kernel that the table was made for, 6.18's file_setattr; all
/// architectures number new calls alike. A later one may name files in ways that nothing here
/// knows of, so it is counted and named in the summary.
pub const LAST_KNOWN: u32 = 469;

/// What a call does to a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Sends the signal in this argument.
    Signal(u8),
    /// Sets the limits in argument 2, unless that is null.
    Limit,
    /// Traces it, reads or writes its memory, takes its processors away, or holds it otherwise.
    Attach,
}

/// When the filter asks for a call at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// Whenever the job has mounts, and, unless it is of mounts alone, whenever it has rules.
    Mounts,
    /// With a mount that can be written to.
    Writable,
    /// Also without mounts: what was opened, run and changed is recorded.
    Record,
    /// Also without mounts when look-ups are recorded (`[trace] probes`).
    Probes,
    /// `[syscalls] io_uring = "enosys"`.
    IoUring,
    /// With mounts or rules, where the supervisor has no privilege over tasks that are not dumpable.
    Unprivileged,
}

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in the kernel's table.
    pub name: &'static str,
    /// Its number on x86_64.
    pub x86_64: Option<u16>,
    /// Its number on aarch64.
    pub aarch64: Option<u16>,
    /// Its number on i386.
    pub i386: Option<u16>,
    /// What is done with it.
    pub handler: Handler,
    /// When.
    pub need: Need,
    /// One line for the public table.
    pub note: &'static str,
}

impl Handler {
    /// Does the call change what paths mean, go round them, or act on a process?
    pub const fn guards(self) -> bool {
        matches!(self, Handler::Deny(..) | Handler::Refuse(_) | Handler::Process { .. })
    }

    /// Does the call only ever ask about what a descriptor stands for, which no rule for real paths
    /// changes?
    pub const fn is_of_mounts_alone(self) -> bool {
        matches!(
            self,
            Handler::FStat(_)
                | Handler::GetCwd
                | Handler::FStatFs { .. }
                | Handler::FGetXattr
                | Handler::FListXattr
                | Handler::Lease
                | Handler::Flock
        )
    }
}

impl Row {
    /// The call's number on `arch`, if it is there.
    pub fn number(&self, arch: Arch) -> Option<u32> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
            Arch::I386 => self.i386,
        }
        .map(u32::from)
    }
}

/// ioctl requests that change an inode through a descriptor opened for reading
/// (`include/uapi/linux/fs.h`, `fsverity.h`, `fscrypt.h`).
pub const IOCTLS: &[(u32, &str)] = &[
    (0x4008_6602, "FS_IOC_SETFLAGS"),
    (0x4004_6602, "FS_IOC32_SETFLAGS"),
    (0x401c_5820, "FS_IOC_FSSETXATTR"),
    (0x4008_7602, "FS_IOC_SETVERSION"),
    (0x4080_6685, "FS_IOC_ENABLE_VERITY"),
    (0x800c_6613, "FS_IOC_SET_ENCRYPTION_POLICY"),
];

/// ioctl requests that get EPERM whatever their descriptor: `USERFAULTFD_IOC_NEW` makes what
/// userfaultfd(2) makes.
pub const REFUSED_IOCTLS: &[u32] = &[0xaa00];

/// The calls that the supervisor of a container has to be asked about, or that have to be refused
/// there: the container's filter is not the supervisor's own, and may let them pass.
///
/// Not among them: acting on the supervisor's processes, which a container with process numbers of
/// its own can't name, and making a process undumpable, which keeps nobody out who has the rights
/// that an agent needs.
pub fn in_containers() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| !matches!(row.handler, Handler::Process { .. } | Handler::PrCtl))
}

/// Rows by number for one architecture: `lookup[number]` is the row's index plus one, 0 for none.
pub struct Dispatch {
    by_number: Vec<u16>,
}

impl Dispatch {
    /// Builds the look-up for `arch`.
    pub fn new(arch: Arch) -> Dispatch {
        let mut by_number = vec![0u16; 512];
        for (index, row) in (1u16..).zip(ROWS) {
            if let Some(nr) = row.number(arch)
                && let Some(slot) = by_number.get_mut(nr as usize)
            {
                *slot = index;
            }
        }
        Dispatch { by_number }
    }

    /// The row of call `nr`.
    pub fn row(&self, nr: i32) -> Option<&'static Row> {
        let index = *self.by_number.get(usize::try_from(nr).ok()?)?;
        ROWS.get(usize::from(index.checked_sub(1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The numbers are those of the `syscalls` crate, which makes them from the kernel's headers.
    #[test]
    fn numbers_agree_with_the_kernel_headers() {
        let mut wrong = Vec::new();
        for row in ROWS {
            let number = |arch| names::number(arch, row.name).and_then(|nr| u16::try_from(nr).ok());
            let [x86, arm, i386] = [Arch::X86_64, Arch::Aarch64, Arch::I386].map(number);
            // The crate is older than the newest calls: those it does not know are compared with
            // nothing here, and named so that this can't hide a typing error.
            let newer = [
                "setxattrat",
                "getxattrat",
                "listxattrat",
                "removexattrat",
                "open_tree_attr",
                "file_getattr",
                "file_setattr",
            ];
            if x86.is_none() && newer.contains(&row.name) {
                assert!(row.x86_64.is_some_and(|n| (463..470).contains(&n)), "{}", row.name);
                continue;
            }
            let theirs = [x86, arm, i386];
            let ours = [row.x86_64, row.aarch64, row.i386];
            if ours != theirs {
                wrong.push(format!("{}: {ours:?}, the headers say {theirs:?}", row.name));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_call_stands_once() {
        let mut names = HashSet::new();
        let mut numbers = HashSet::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            for arch in [Arch::X86_64, Arch::Aarch64, Arch::I386] {
                if let Some(nr) = row.number(arch) {
                    assert!(numbers.insert((arch.audit(), nr)), "{} shares a number", row.name);
                }
            }
        }
    }

    #[test]
    fn dispatch_finds_rows_by_number() {
        let d = Dispatch::new(Arch::X86_64);
        assert_eq!(d.row(257).map(|r| r.name), Some("openat"));
        assert_eq!(d.row(0).map(|r| r.name), None);
        assert_eq!(d.row(-1).map(|r| r.name), None);
        assert_eq!(d.row(100_000).map(|r| r.name), None);
    }
}
