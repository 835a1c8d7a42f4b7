//! A look at a path just before the kernel does what a call asks: what the trace says of calls that go
//! on there. Of real paths permissions are not looked at, but for access(2).

use super::current::{Named, Want};
use super::event::Kind;
use crate::access::{self, EXECUTE, READ};
use crate::caller::Caller;
use crate::job::Job;
use crate::resolve::Found;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use nix::unistd::AccessFlags;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::{Errno, Mode};
use vrift_projection::{self as projection, Attr};

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
        Ok(stat) => {
            let mode = |mode: i32| {
                let mode = AccessFlags::from_bits_truncate(mode);
                nix::unistd::access(path, mode).err().map(crate::caller::job_errno)
            };
            let kind = kind(stat);
            Look { kind: Some(kind), err: refusal(named.asked.want, kind, stat.st_mode, mode) }
        }
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

/// Looks at what the kernel finds in a mounted tree, where the walk there came to `found`. None: it leads
/// elsewhere, or what is there can't be told.
pub fn in_tree(
    job: &Job,
    caller: &Caller<'_>,
    want: Want,
    found: &Result<Found, Errno>,
) -> Option<Look> {
    match found {
        Ok(Found::Node(node)) => {
            let attr = job.projection.attr(*node).ok()?;
            let may = |what| access::may(job, caller, &attr, what);
            let err = match job.mode(*node) {
                Mode::ReadOnly => refused_there(want, &attr, may),
                Mode::Overlay | Mode::CopyOnWrite => refused_in_overlay(want, &attr, may),
            };
            Some(Look { kind: Some(of_tree(attr.kind)), err })
        }
        Ok(Found::Missing { parent, .. }) => {
            let err = match job.mode(*parent) {
                Mode::ReadOnly if makes(want) || changes_names(want) => Some(Errno::EROFS),
                Mode::Overlay | Mode::CopyOnWrite if makes(want) => {
                    let dir = job.projection.attr(*parent).ok()?;
                    let may = access::may(job, caller, &dir, access::WRITE | EXECUTE);
                    (!may).then_some(Errno::EACCES)
                }
                _ => Some(Errno::ENOENT),
            };
            Some(Look { kind: None, err })
        }
        Err(e) => Some(Look { kind: None, err: Some(*e) }),
        Ok(Found::Kernel(_) | Found::Foreign(_) | Found::Magic(_)) => None,
    }
}

/// A kind in the trace's words.
pub fn of_tree(kind: projection::Kind) -> Kind {
    match kind {
        projection::Kind::File => Kind::File,
        projection::Kind::Directory => Kind::Dir,
        projection::Kind::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

/// What a read-only file system says of something that is there.
fn refused_there(want: Want, attr: &Attr, may: impl Fn(u32) -> bool) -> Option<Errno> {
    let kind = of_tree(attr.kind);
    let denied = |what| (!may(what)).then_some(Errno::EACCES);
    let access = |mode: i32| match mode.cast_unsigned() {
        mode if mode & access::WRITE != 0 && kind != Kind::Other => Some(Errno::EROFS),
        mode => denied(mode & 7),
    };
    let changes = match want {
        Want::Change => return Some(Errno::EROFS),
        _ if changes_names(want) => return Some(Errno::EROFS),
        Want::Open(flags) => {
            let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
            let has = |bits: i32| flags & bits == bits;
            (writes || has(libc::O_TRUNC) || has(libc::O_TMPFILE)) && !has(libc::O_PATH)
        }
        Want::Connect => kind != Kind::Other,
        _ => false,
    };
    refusal(want, kind, attr.mode, access).or_else(|| match want {
        _ if changes => Some(Errno::EROFS),
        Want::Open(flags) if flags & libc::O_PATH == 0 => denied(READ),
        Want::Enter | Want::Exec => denied(EXECUTE),
        _ => None,
    })
}

/// What is said of something that is there in a tree that can be changed. Who may take a name away isn't
/// looked at.
fn refused_in_overlay(want: Want, attr: &Attr, may: impl Fn(u32) -> bool) -> Option<Errno> {
    let denied = |what| (!may(what)).then_some(Errno::EACCES);
    let access = |mode: i32| denied(mode.cast_unsigned() & 7);
    refusal(want, of_tree(attr.kind), attr.mode, access).or_else(|| match want {
        Want::Open(flags) if flags & libc::O_PATH == 0 => {
            let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
            let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
            denied(if reads { READ } else { 0 } | if writes { access::WRITE } else { 0 })
        }
        Want::Enter | Want::Exec => denied(EXECUTE),
        _ => None,
    })
}

/// What is said of something that is there; `access` answers access(2).
fn refusal(
    want: Want,
    kind: Kind,
    mode: u32,
    access: impl Fn(i32) -> Option<Errno>,
) -> Option<Errno> {
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
        Want::Access(0) => None,
        Want::Access(mode) => access(mode),
        Want::ReadLink => (kind != Kind::Link).then_some(Errno::EINVAL),
        Want::Enter => (!directory).then_some(Errno::ENOTDIR),
        Want::Exec => {
            let runnable = kind == Kind::File && mode & 0o111 != 0;
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
    let new = makes(want)
        && e == nix::errno::Errno::ENOENT
        && std::path::Path::new(path).parent().is_some_and(std::path::Path::is_dir);
    (!new).then(|| crate::caller::job_errno(e))
}

/// Is something made where nothing is?
fn makes(want: Want) -> bool {
    match want {
        Want::Open(flags) => flags & libc::O_CREAT != 0,
        Want::Make(_) | Want::MoveTo(_) => true,
        _ => false,
    }
}

/// Are names taken away or moved, which a read-only file system refuses before it looks for them?
fn changes_names(want: Want) -> bool {
    matches!(want, Want::Remove(_) | Want::MoveFrom | Want::MoveTo(_) | Want::Exchange)
}
