//! Rules for real paths: every call is let through or refused here before its handler sees it.
//!
//! What a rule says to the way of a path, the walk itself asks (`resolve/ruled.rs`); here it is the
//! place that the path names, and what the call wants there. Where no rule can speak of the place
//! that is known with the look-up.

use super::open_flags::{self, IN_ROOT};
use super::{AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW, Call, Empty, open, socket};
use crate::access;
use crate::caller::PATH_MAX;
use crate::job::Spot;
use crate::resolve::{AT_FDCWD, Found, RealPlace, Way, proc_fs, resolve, resolve_in};
use crate::sys::proc::PathBuffer;
use crate::table::{At, Follow, Handler};
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, lstat, stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::{
    Errno, Grant, Operation, RealTarget, RenameFlags, Target, Verdict, decide_exec, decide_rule,
    decide_rule_link, decide_rule_rename,
};

const P0: At = At { dirfd: None, path: 0 };
const P1: At = At { dirfd: None, path: 1 };
const D01: At = At { dirfd: Some(0), path: 1 };

/// A real path that a rule may speak of.
struct Place {
    /// Absolute and normal, as far as it is there.
    path: Vec<u8>,
    /// It was reached by a descriptor, whatever becomes of its name.
    open: bool,
}

/// Must a call of a job without mounts be looked at by its handler all the same? Those that change
/// what is known of real directories must, and those whose answer the rules change.
pub fn needs_handler(call: &Call<'_>) -> bool {
    use Handler as H;
    matches!(
        call.row.handler,
        H::Make { .. }
            | H::Remove { .. }
            | H::Rename { .. }
            | H::Link { .. }
            | H::GetDents { .. }
            | H::ExecVe
            | H::ExecVeAt
            | H::Deny(..)
            | H::Refuse(_)
            | H::Process { .. }
            | H::Unshare
    )
}

/// Do the rules let the call pass?
///
/// # Errors
/// What the job gets if not; it has been noted for the summary.
pub fn pass(call: &Call<'_>) -> Result<(), Errno> {
    use Handler as H;
    use Operation as O;
    let caller = call.caller;
    match call.row.handler {
        H::Open(form) => {
            let request = open_flags::request(call, form);
            if request.invalid.is_some() {
                return Ok(());
            }
            let flags = request.flags;
            let exclusive = flags.contains(OFlag::O_CREAT | OFlag::O_EXCL);
            let way = Way {
                follow: !flags.contains(OFlag::O_NOFOLLOW) && !exclusive,
                creates: flags.contains(OFlag::O_CREAT),
                in_root: request.resolve & IN_ROOT != 0,
            };
            let mut buf = [0u8; PATH_MAX];
            let Ok(path) = caller.read_path(caller.arg(request.at.path), &mut buf) else {
                return Ok(());
            };
            let found = resolve_in(call.job, caller, call.dirfd(request.at), path, way);
            let plain = |place: &RealPlace| call.real_path(request.at, place);
            let Some(place) = checked(call, found, plain)? else { return Ok(()) };
            judge(call, &place, |target| open::operation(flags, column(target)))
        }
        H::Stat { at, follow, flags, .. } => {
            let flags = flags.map_or(0, |i| caller.int(i));
            one(call, at, call.follows(follow), flags, O::Stat)
        }
        H::Access { at, flags } => {
            let flags = flags.map_or(0, |i| caller.int(i));
            let mode = caller.int(at.path + 1);
            let Some(place) = named(call, at, flags & AT_SYMLINK_NOFOLLOW == 0, flags)? else {
                return Ok(());
            };
            for (bit, op) in [(4, O::Read), (2, O::TestWrite), (1, O::TestExecute)] {
                if mode & bit != 0 {
                    judge(call, &place, |_| op)?;
                }
            }
            judge(call, &place, |_| O::Stat)
        }
        H::ReadLink(at) => one(call, at, false, 0, O::ReadLink),
        H::StatFs { .. } => one(call, P0, true, 0, O::StatFs),
        H::GetXattr(follow) | H::ListXattr(follow) => {
            one(call, P0, call.follows(follow), 0, O::GetXattr)
        }
        H::GetXattrAt | H::ListXattrAt => {
            one(call, D01, call.follows(Follow::Unless(2)), caller.int(2), O::GetXattr)
        }
        H::Make { at, op } => one(call, at, false, 0, op),
        H::Remove { at, op, flags } => {
            let directory = flags.is_some_and(|i| caller.int(i) & libc::AT_REMOVEDIR != 0);
            one(call, at, false, 0, if directory { O::RemoveDirectory } else { op })
        }
        H::Rename { old, new, flags } => {
            let bits = flags.map_or(0, |i| caller.int(i).cast_unsigned());
            rename(call, old, new, RenameFlags::from_raw(bits))
        }
        H::Link { old, new, flags } => link(call, old, new, flags.map_or(0, |i| caller.int(i))),
        H::Change { at, op, follow, empty, null_is_fd } => {
            if null_is_fd && caller.arg(at.path) == 0 {
                return by_descriptor(call, call.dirfd(at), op);
            }
            let flags = empty.map_or(0, |i| caller.int(i));
            one(call, at, call.follows(follow), flags, op)
        }
        H::FdChange(op) => by_descriptor(call, caller.int(0), op),
        H::Ioctl => by_descriptor(call, caller.int(0), O::SetFlags),
        H::Socket(op) => address(call, op, caller.arg(1), caller.int(2)),
        H::SocketCall => match socket::unpacked(call) {
            Some((op, _, at, len)) => address(call, op, at, len),
            None => Ok(()),
        },
        H::Watch => {
            const IN_DONT_FOLLOW: u64 = 0x0200_0000;
            one(call, P1, caller.arg(2) & IN_DONT_FOLLOW == 0, 0, O::Watch)
        }
        // name_to_handle_at and file_getattr.
        H::Lacking { at, follow, .. } => {
            one(call, at, call.follows(follow), AT_EMPTY_PATH, O::MakeHandle)
        }
        H::ChDir => one(call, P0, true, 0, O::EnterDirectory),
        H::ExecVe => one(call, P0, true, 0, O::Execute),
        H::ExecVeAt => {
            let flags = caller.int(4);
            one(call, D01, flags & AT_SYMLINK_NOFOLLOW == 0, flags, O::Execute)
        }
        H::FStat(_)
        | H::GetDents { .. }
        | H::GetCwd
        | H::FStatFs { .. }
        | H::FGetXattr
        | H::FListXattr
        | H::PrCtl
        | H::Process { .. }
        | H::Lease
        | H::Flock
        | H::SocketName
        | H::Unshare
        | H::Deny(..)
        | H::Refuse(_) => Ok(()),
    }
}

/// May what was found be run, as the interpreter of a program that may?
pub fn may_interpret(call: &Call<'_>, found: &Found, name: &[u8]) -> Result<(), Errno> {
    match place_of(call, found, |place| last_in(place, name)) {
        Some(place) if !call.job.rules.is_empty() => judge(call, &place, |_| Operation::Execute),
        _ => Ok(()),
    }
}

/// A call that names one place and wants one thing there. `flags` may hold `AT_EMPTY_PATH`.
fn one(call: &Call<'_>, at: At, follow: bool, flags: i32, op: Operation) -> Result<(), Errno> {
    // Where looking is all it wants, the way there has said all there is to say: what is in a
    // directory whose names are alike can be looked up.
    match named_by(call, at, follow, flags, !only_looks(op))? {
        Some(place) => judge(call, &place, |_| op),
        None => Ok(()),
    }
}

/// Does no rule that lets a name be looked up refuse this?
fn only_looks(op: Operation) -> bool {
    RealTarget::ALL.iter().all(|&target| {
        decide_rule(op, Grant::ReadOnly, target).is_none() && decide_exec(op, target).is_none()
    })
}

/// The place that a path argument names. None: none that a rule could speak of, or the kernel or
/// the call's handler has something else to say of it.
fn named(call: &Call<'_>, at: At, follow: bool, flags: i32) -> Result<Option<Place>, Errno> {
    named_by(call, at, follow, flags, true)
}

/// The same; `alike`: also where the same holds for all names of a directory.
fn named_by(
    call: &Call<'_>,
    at: At,
    follow: bool,
    flags: i32,
    alike: bool,
) -> Result<Option<Place>, Errno> {
    let plain = |place: &RealPlace| if alike { call.real_path(at, place) } else { None };
    match call.find_or_empty(at, follow, Empty::flag(flags, Empty::OrNull)) {
        Ok(None) => Ok(opened(call, call.dirfd(at))),
        Ok(Some(found)) => Ok(place_of(call, &found, plain)),
        Err(e) if call.caller.blocked.get() => Err(e),
        Err(_) => Ok(None),
    }
}

fn checked(
    call: &Call<'_>,
    found: Result<Found, Errno>,
    plain: impl FnOnce(&RealPlace) -> Option<Vec<u8>>,
) -> Result<Option<Place>, Errno> {
    match found {
        Ok(found) => Ok(place_of(call, &found, plain)),
        Err(e) if call.caller.blocked.get() => Err(e),
        Err(_) => Ok(None),
    }
}

/// `plain` gives the path of a place of which only the directory was looked at.
fn place_of(
    call: &Call<'_>,
    found: &Found,
    plain: impl FnOnce(&RealPlace) -> Option<Vec<u8>>,
) -> Option<Place> {
    let named = |path: &[u8]| Place { path: path.to_vec(), open: false };
    match found {
        Found::Kernel(place) if place.path.is_none() => {
            let ruled = place.dir.as_ref().is_some_and(|dir| dir.is_ruled());
            if ruled { plain(place).map(|path| Place { path, open: false }) } else { None }
        }
        Found::Kernel(place) => {
            let path = place.path.as_deref()?;
            let cut = path.iter().rposition(|&b| b == b'/')?;
            if proc_fs::is_magic(&path[..cut], &path[cut + 1..]) {
                // Followed to the object itself.
                let mut buf: PathBuffer = [0; 4096];
                let text = crate::private::read_link_path(path, &mut buf).ok()?;
                return real(call, text);
            }
            Some(named(path))
        }
        // What keeps the kernel from taking it for a file's name says nothing here.
        Found::Foreign(path) => {
            let path = path.strip_suffix(b"/.").or(path.strip_suffix(b"/")).unwrap_or(path);
            Some(named(if path.is_empty() { b"/" } else { path }))
        }
        Found::Magic(path) => Some(named(path)),
        Found::Node(_) | Found::Missing { .. } => None,
    }
}

/// The path of the last name of `path`, in the directory that holds it.
fn last_in(place: &RealPlace, path: &[u8]) -> Option<Vec<u8>> {
    let name = path.rsplit(|&b| b == b'/').next()?;
    let dir =
        place.dir.as_ref()?.physical.strip_suffix(b"/").unwrap_or(&place.dir.as_ref()?.physical);
    Some([dir, b"/", name].concat())
}

/// What a descriptor stands for.
fn opened(call: &Call<'_>, fd: i32) -> Option<Place> {
    let mut buf: PathBuffer = [0; 4096];
    let text = match fd {
        AT_FDCWD => call.caller.cwd(&mut buf),
        fd => call.caller.descriptor(fd, &mut buf),
    };
    real(call, text.ok()?)
}

/// The place of something open that has a real name.
fn real(call: &Call<'_>, text: &[u8]) -> Option<Place> {
    match call.job.spot(call.caller, text, None) {
        Ok(Spot::Real) => Some(Place { path: text.to_vec(), open: true }),
        _ => None,
    }
}

/// What stands at a path; None: not even the directory that would hold it.
fn target_of(path: &[u8]) -> Option<RealTarget> {
    let name = OsStr::from_bytes(path);
    let Ok(found) = lstat(name) else {
        let cut = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let above = stat(OsStr::from_bytes(&path[..cut.max(1)])).ok()?;
        let directory = above.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        return directory.then_some(RealTarget::Missing);
    };
    Some(match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => RealTarget::File,
        SFlag::S_IFDIR => RealTarget::Directory,
        SFlag::S_IFLNK => RealTarget::Symlink,
        _ => RealTarget::Special,
    })
}

const fn column(target: RealTarget) -> Target {
    match target {
        RealTarget::Missing => Target::Missing,
        RealTarget::File | RealTarget::Special => Target::File,
        RealTarget::Directory => Target::Directory,
        RealTarget::Symlink => Target::Symlink,
    }
}

/// Decides about what the call wants at a place, once it is known what is there.
fn judge(
    call: &Call<'_>,
    place: &Place,
    wants: impl Fn(RealTarget) -> Operation,
) -> Result<(), Errno> {
    let job = call.job;
    let Verdict { grant, by, no_exec } = job.rules.at(&place.path);
    let open_already = place.open && grant == Grant::Hide;
    if no_exec.is_none() && (grant == Grant::ReadWrite || open_already) {
        return Ok(());
    }
    // Where not even the directory is there the kernel says so.
    let Some(target) = target_of(&place.path) else { return Ok(()) };
    let op = wants(target);
    let (errno, by) = match decide_rule(op, grant, target).filter(|_| !open_already) {
        Some(errno) => (errno, by),
        None => match no_exec.and_then(|_| decide_exec(op, target)) {
            Some(errno) => (errno, no_exec),
            None => return Ok(()),
        },
    };
    // Who may not write there hears that first.
    if errno == Errno::EROFS
        && op.permission_first(column(target)).is_some()
        && !access::may_write_real(job, call.caller, &place.path)
    {
        return Err(Errno::EACCES);
    }
    Err(job.refused_by_rule(call.row.name, errno, &place.path, by))
}

/// By the descriptor `fd`; `AT_FDCWD` is the current directory.
fn by_descriptor(call: &Call<'_>, fd: i32, op: Operation) -> Result<(), Errno> {
    match opened(call, fd) {
        Some(place) => judge(call, &place, |_| op),
        None => Ok(()),
    }
}

fn address(call: &Call<'_>, op: Operation, at: u64, len: i32) -> Result<(), Errno> {
    let mut buf = [0u8; socket::ADDRESS];
    let Some(name) = socket::file_name(call, at, len, &mut buf) else { return Ok(()) };
    let follow = op == Operation::ConnectSocket;
    let found = resolve(call.job, call.caller, AT_FDCWD, name, follow);
    match checked(call, found, |place| last_in(place, name))? {
        Some(place) => judge(call, &place, |_| op),
        None => Ok(()),
    }
}

/// One of two names that a call speaks of.
struct Side {
    path: Vec<u8>,
    target: RealTarget,
}

/// A real name and what is there, whether a rule can speak of it or not.
fn side(call: &Call<'_>, at: At, follow: bool, flags: i32) -> Result<Option<Side>, Errno> {
    let place = match call.find_or_empty(at, follow, Empty::flag(flags, Empty::Yes)) {
        Ok(None) => opened(call, call.dirfd(at)),
        Ok(Some(Found::Kernel(place))) if place.path.is_none() => {
            call.real_path(at, &place).map(|path| Place { path, open: false })
        }
        other => checked(call, other.and_then(|found| found.ok_or(Errno::ENOENT)), |_| None)?,
    };
    Ok(place.and_then(|place| {
        let target = target_of(&place.path)?;
        Some(Side { path: place.path, target })
    }))
}

fn rename(call: &Call<'_>, old: At, new: At, flags: RenameFlags) -> Result<(), Errno> {
    let (from, to) = (side(call, old, false, 0)?, side(call, new, false, 0)?);
    // A side that is projected, or not there at all: the handler or the kernel says so.
    let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
    let rules = &call.job.rules;
    let (a, b) = (rules.at(&from.path), rules.at(&to.path));
    if let Some(errno) = decide_rule_rename((a.grant, from.target), (b.grant, to.target), flags) {
        return Err(refuse_one(call, errno, (&from, a), (&to, b)));
    }
    let moves = |from: &Side, to: &Side| {
        let directory = from.target == RealTarget::Directory;
        let lost = directory.then(|| rules.lost_by_moving(&from.path, &to.path)).flatten();
        lost.map(|by| call.job.refused_by_rule(call.row.name, Errno::EBUSY, &from.path, Some(by)))
    };
    let back = flags.has(RenameFlags::EXCHANGE).then(|| moves(&to, &from)).flatten();
    moves(&from, &to).or(back).map_or(Ok(()), Err)
}

fn link(call: &Call<'_>, old: At, new: At, flags: i32) -> Result<(), Errno> {
    let from = side(call, old, flags & AT_SYMLINK_FOLLOW != 0, flags)?;
    let to = side(call, new, false, 0)?;
    let (Some(from), Some(to)) = (from, to) else { return Ok(()) };
    let (a, b) = (call.job.rules.at(&from.path), call.job.rules.at(&to.path));
    match decide_rule_link((a.grant, from.target), (b.grant, to.target)) {
        Some(errno) => Err(refuse_one(call, errno, (&from, a), (&to, b))),
        None => Ok(()),
    }
}

/// Notes the side whose rule is the reason.
fn refuse_one(
    call: &Call<'_>,
    errno: Errno,
    (from, a): (&Side, Verdict<'_>),
    (to, b): (&Side, Verdict<'_>),
) -> Errno {
    let reason = |grant: Grant| match grant {
        Grant::Hide => Errno::ENOENT,
        Grant::ReadOnly => Errno::EROFS,
        Grant::Deny | Grant::Search | Grant::ReadWrite => Errno::EACCES,
    };
    let first = a.grant != Grant::ReadWrite && reason(a.grant) == errno;
    let (side, by) = if first { (from, a.by) } else { (to, b.by) };
    call.job.refused_by_rule(call.row.name, errno, &side.path, by)
}
