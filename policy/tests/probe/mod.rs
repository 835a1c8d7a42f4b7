//! One system call for each operation of the table, and what the kernel says to it.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, IFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps,
    XattrFlags, inotify,
};
use rustix::io::Errno;
use vrift_policy::{Operation, Target};

type Answer = (&'static str, Result<(), Errno>);

/// Asks the kernel in each form that the operation has; in none where it can't be asked, because
/// the call always follows links, or because the table means to differ.
pub fn ask(operation: Operation, target: Target, path: &Path) -> Vec<Answer> {
    use Operation as O;
    let follows = matches!(
        operation,
        O::EnterDirectory
            | O::Truncate
            | O::ConnectSocket
            | O::StatFs
            | O::Execute
            | O::ChangeMode
            | O::SetFlags
    );
    if follows && target == Target::Symlink {
        return Vec::new();
    }
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    match operation {
        O::MakeHandle => Vec::new(),
        O::Stat => vec![("lstat", rustix::fs::lstat(path).map(drop))],
        O::TestExecute => {
            vec![("faccessat", rustix::fs::accessat(CWD, path, Access::EXEC_OK, nofollow))]
        }
        O::TestWrite => {
            vec![("faccessat", rustix::fs::accessat(CWD, path, Access::WRITE_OK, nofollow))]
        }
        O::ReadLink => vec![("readlink", rustix::fs::readlink(path, Vec::new()).map(drop))],
        O::OpenPath => vec![("O_PATH", open(path, OFlags::PATH))],
        O::Read => vec![("O_RDONLY", open(path, OFlags::RDONLY))],
        O::List => vec![("O_DIRECTORY", open(path, OFlags::DIRECTORY))],
        O::Execute => vec![("exec", std(Command::new(path).status()))],
        O::EnterDirectory => vec![("chdir", rustix::process::chdir(path))],
        O::Watch => vec![("inotify", watch(path))],
        O::StatFs => vec![("statfs", rustix::fs::statfs(path).map(drop))],
        O::GetXattr => {
            vec![("llistxattr", rustix::fs::llistxattr(path, &mut [0_u8; 4096]).map(drop))]
        }
        O::ConnectSocket => vec![("connect", std(UnixStream::connect(path)))],
        O::OpenWrite => vec![
            ("O_WRONLY", open(path, OFlags::WRONLY)),
            ("O_RDWR", open(path, OFlags::RDWR)),
            ("O_APPEND", open(path, OFlags::WRONLY | OFlags::APPEND)),
        ],
        O::OpenTruncate => vec![
            ("O_RDONLY", open(path, OFlags::TRUNC)),
            ("O_WRONLY", open(path, OFlags::TRUNC | OFlags::WRONLY)),
        ],
        O::CreateFile => vec![("O_RDONLY", open(path, OFlags::CREATE))],
        O::CreateWrite => vec![
            ("O_WRONLY", open(path, OFlags::CREATE | OFlags::WRONLY)),
            ("O_RDWR", open(path, OFlags::CREATE | OFlags::RDWR)),
        ],
        O::CreateTruncate => vec![
            ("O_RDONLY", open(path, OFlags::CREATE | OFlags::TRUNC)),
            ("creat", open(path, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY)),
        ],
        O::CreateExclusive => vec![
            ("O_RDONLY", open(path, OFlags::CREATE | OFlags::EXCL)),
            ("O_WRONLY", open(path, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)),
        ],
        O::MakeTempFile => vec![("O_TMPFILE", open(path, OFlags::TMPFILE | OFlags::WRONLY))],
        O::MakeDirectory => vec![("mkdir", rustix::fs::mkdir(path, Mode::RWXU))],
        O::MakeNode => {
            vec![("mkfifo", rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0))]
        }
        O::MakeSymlink => vec![("symlink", rustix::fs::symlink("anything", path))],
        O::BindSocket => vec![("bind", std(UnixListener::bind(path)))],
        O::Unlink => vec![("unlink", rustix::fs::unlink(path))],
        O::RemoveDirectory => vec![("rmdir", rustix::fs::rmdir(path))],
        O::Truncate => vec![("truncate", truncate(path))],
        O::ChangeMode => vec![("chmod", rustix::fs::chmod(path, Mode::RUSR))],
        O::ChangeOwner => vec![
            (
                "same owner",
                rustix::fs::chownat(CWD, path, Some(rustix::process::getuid()), None, nofollow),
            ),
            ("-1, -1", rustix::fs::chownat(CWD, path, None, None, nofollow)),
        ],
        O::ChangeTimes => {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let times = Timestamps { last_access: zero, last_modification: zero };
            vec![("utimensat", rustix::fs::utimensat(CWD, path, &times, nofollow))]
        }
        O::SetXattr => {
            vec![("lsetxattr", rustix::fs::lsetxattr(path, "user.x", b"1", XattrFlags::empty()))]
        }
        O::RemoveXattr => vec![("lremovexattr", rustix::fs::lremovexattr(path, "user.x"))],
        O::SetFlags => vec![("FS_IOC_SETFLAGS", set_flags(path))],
    }
}

/// `renameat2` with flags as they are, valid or not.
pub fn rename(from: &Path, to: &Path, bits: u32) -> Result<(), Errno> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::from_bits_retain(bits))
}

/// `linkat` that does not follow `from`.
pub fn link(from: &Path, to: &Path) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())
}

fn open(path: &Path, flags: OFlags) -> Result<(), Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(drop)
}

fn watch(path: &Path) -> Result<(), Errno> {
    let queue = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    let flags = inotify::WatchFlags::CREATE | inotify::WatchFlags::DONT_FOLLOW;
    inotify::add_watch(queue, path, flags).map(drop)
}

fn truncate(path: &Path) -> Result<(), Errno> {
    nix::unistd::truncate(path, 0).map_err(|errno| Errno::from_raw_os_error(errno as i32))
}

fn set_flags(path: &Path) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::ioctl_setflags(file, IFlags::NOATIME)
}

fn std<T>(result: std::io::Result<T>) -> Result<(), Errno> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(number) => Err(Errno::from_raw_os_error(number)),
            None => panic!("not the kernel's answer: {error}"),
        },
    }
}
