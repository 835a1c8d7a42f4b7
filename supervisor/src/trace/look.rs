//! A look at a real path just before the kernel does what a call asks: what the trace says of
//! calls that go on there. Permissions are not looked at, but for access(2).

use super::current::{Named, Want};
use super::event::Kind;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::AccessFlags;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::Errno;

/// What was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look {
    /// What stands there.
    pub kind: Option<Kind>,
    /// What the kernel will say, as far as this tells.
    pub err: Option<Errno>,
}

/// Looks where `named` leads, for task `tid`. None: it is projected, or no path was read.
pub fn at(named: &Named, tid: i32) -> Option<Look> {
    let given = named.given.as_deref().filter(|path| !path.is_empty())?;
    let (path, follow) = match &named.place {
        Some(place) if place.real => (Cow::Borrowed(place.text.as_slice()), false),
        Some(_) => return None,
        None if given.first() == Some(&b'/') => (Cow::Borrowed(given), named.asked.follow),
        None => {
            let whole = [format!("/proc/{tid}/cwd/").as_bytes(), given].concat();
            (Cow::Owned(whole), named.asked.follow)
        }
    };
    let path = OsStr::from_bytes(&path);
    let follow = if follow { AtFlags::empty() } else { AtFlags::AT_SYMLINK_NOFOLLOW };
    let found = fstatat(nix::fcntl::AT_FDCWD, path, follow);
    Some(match &found {
        Ok(stat) => Look { kind: Some(kind(stat)), err: refusal(named.asked.want, stat, path) },
        Err(e) => Look { kind: None, err: missing(named.asked.want, *e, path) },
    })
}

fn kind(stat: &FileStat) -> Kind {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Dir,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }
}

/// What is said of something that is there.
fn refusal(want: Want, stat: &FileStat, path: &OsStr) -> Option<Errno> {
    let kind = kind(stat);
    let directory = kind == Kind::Dir;
    match want {
        Want::Open(flags) => {
            let has = |bits: i32| flags & bits == bits;
            let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
            if has(libc::O_PATH) {
                let strict = has(libc::O_DIRECTORY) && !directory;
                return strict.then_some(Errno::ENOTDIR);
            }
            if has(libc::O_CREAT | libc::O_EXCL) {
                Some(Errno::EEXIST)
            } else if kind == Kind::Link {
                Some(Errno::ELOOP)
            } else if has(libc::O_DIRECTORY) && !directory {
                Some(Errno::ENOTDIR)
            } else if directory && (writes || has(libc::O_CREAT)) && !has(libc::O_TMPFILE) {
                Some(Errno::EISDIR)
            } else {
                None
            }
        }
        Want::Access(mode) => {
            let mode = AccessFlags::from_bits_truncate(mode);
            if mode.is_empty() {
                return None;
            }
            nix::unistd::access(path, mode).err().map(crate::caller::job_errno)
        }
        Want::ReadLink => (kind != Kind::Link).then_some(Errno::EINVAL),
        Want::Enter => (!directory).then_some(Errno::ENOTDIR),
        Want::Exec => {
            let runnable = kind == Kind::File && stat.st_mode & 0o111 != 0;
            (!runnable).then_some(Errno::EACCES)
        }
        Want::Make(_) | Want::MoveTo(false) => Some(Errno::EEXIST),
        Want::Remove(true) => (!directory).then_some(Errno::ENOTDIR),
        Want::Remove(false) => directory.then_some(Errno::EISDIR),
        Want::Stat
        | Want::MoveFrom
        | Want::MoveTo(true)
        | Want::Exchange
        | Want::LinkFrom
        | Want::Change
        | Want::Connect
        | Want::Lock => None,
    }
}

/// What is said of something that is not there.
fn missing(want: Want, e: nix::errno::Errno, path: &OsStr) -> Option<Errno> {
    let makes = match want {
        Want::Open(flags) => flags & libc::O_CREAT != 0,
        Want::Make(_) | Want::MoveTo(_) => true,
        _ => false,
    };
    let new = makes
        && e == nix::errno::Errno::ENOENT
        && std::path::Path::new(path).parent().is_some_and(std::path::Path::is_dir);
    (!new).then(|| crate::caller::job_errno(e))
}
