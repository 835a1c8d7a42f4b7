//! rename, renameat, renameat2: across the edge EXDEV, inside EROFS.

use super::{Call, DONE, Verdict, make::note_link};
use crate::resolve::holder::{Held, Holder, Last, mount_id, must_be_directory};
use crate::resolve::{Found, NAME_MAX, RealPlace};
use crate::table::At;
use crate::writable::names;
use nix::sys::stat::{SFlag, lstat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::{Errno, RenameFlags, Side, Target, decide_rename};

/// Answers the family.
pub fn handle(call: &Call<'_>, old: At, new: At, flags: Option<u8>) -> Result<Verdict, Errno> {
    let flags = flags
        .map_or(RenameFlags::NONE, |i| RenameFlags::from_raw(call.caller.int(i).cast_unsigned()));
    let (from, to) = (call.find(old, false), call.find(new, false));
    if let (Ok(Found::Kernel(a)), Ok(Found::Kernel(b))) = (&from, &to)
        && !holds(call, old, a)
        && !holds(call, new, b)
    {
        notice(call, (old, a), (new, b));
        return Ok(Verdict::CONTINUE);
    }
    // Any two real places will do: only the flags are asked about.
    let nowhere = Side::Real(Target::File);
    if decide_rename(nowhere, nowhere, flags).is_some() {
        return Err(Errno::EINVAL);
    }
    let a = call.held(old)?;
    must_be_there(&a)?;
    let b = call.held(new)?;
    must_be_there(&b)?;
    if let Some(e) = answer(call, &a, &b, flags)? {
        let path = match (&a.holder, &b.holder) {
            (Holder::Node(node), _) => a.path_in(call.job.path(*node)),
            (_, Holder::Node(node)) => b.path_in(call.job.path(*node)),
            (Holder::Real { path, .. }, _) => a.path_in(path.clone().unwrap_or_default()),
        };
        return Err(call.job.refused(call.row.name, e, path));
    }
    if let (Holder::Node(old_dir), Holder::Node(new_dir)) = (&a.holder, &b.holder) {
        return names::rename(call, (*old_dir, &a), (*new_dir, &b), flags).map(|()| DONE);
    }
    if is_same(&a, &b) && a.mount_point(call.job).is_some() {
        // Nothing is done, even to a mount point.
        return Ok(DONE);
    }
    // Real on both sides, and seldom come here: what is known of real directories starts anew.
    call.job.real_dirs.clear();
    let paths: Vec<(u8, Vec<u8>)> = [(old, &a), (new, &b)]
        .iter()
        .filter_map(|(at, held)| Some((at.path, held.foreign()?)))
        .collect();
    if paths.is_empty() { Ok(Verdict::CONTINUE) } else { Ok(Verdict::Redirect(paths)) }
}

fn holds(call: &Call<'_>, at: At, place: &RealPlace) -> bool {
    call.real_path(at, place).is_some_and(|path| call.job.must_stay(&path))
}

/// Both names are the kernel's: what changes with them in what is known of real directories.
pub fn notice(call: &Call<'_>, (old, a): (At, &RealPlace), (new, b): (At, &RealPlace)) {
    note_link(call, old, a);
    note_link(call, new, b);
    if is_directory(call, old, a) {
        call.job.real_dirs.clear();
    }
}

/// What do_renameat2() of fs/namei.c says: of the directories that hold the names, then of the
/// edge between them, of `.` and `..`, and only then of the names.
fn answer(
    call: &Call<'_>,
    from: &Held,
    to: &Held,
    flags: RenameFlags,
) -> Result<Option<Errno>, Errno> {
    if let (Holder::Real { .. }, Holder::Real { .. }) = (&from.holder, &to.holder) {
        if is_same(from, to) && flags == RenameFlags::NONE {
            return Ok(None);
        }
        let decided = decide_rename(real_side(call, from), real_side(call, to), flags);
        if decided.is_some() && mount_of(from)? != mount_of(to)? {
            return Ok(Some(Errno::EXDEV));
        }
        if decided.is_some() {
            dots(from, to, flags)?;
            if from.name.len() > NAME_MAX || to.name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
        }
        if decided.is_some_and(|e| e != Errno::ENOENT && e != Errno::EEXIST) {
            tangled(from, to, flags)?;
            let may = |held: &Held| held.may_change(call.job, call.caller);
            if !may(from) || !may(to) {
                return Err(Errno::EACCES);
            }
        }
        return Ok(decided);
    }
    let side = |held: &Held| match held.holder {
        Holder::Node(node) => Side::Projected {
            mount: node.mount,
            mode: call.job.mode(node),
            target: Target::Missing,
        },
        Holder::Real { .. } => Side::Real(Target::Missing),
    };
    let decided = decide_rename(side(from), side(to), flags);
    if decided != Some(Errno::EXDEV) {
        dots(from, to, flags)?;
    }
    Ok(decided)
}

/// A real directory that holds a name: the kernel would look for it first.
fn must_be_there(held: &Held) -> Result<(), Errno> {
    match &held.holder {
        Holder::Real { path: Some(path), .. } => must_be_directory(path),
        _ => Ok(()),
    }
}

/// `.`, `..` and `/` can't be renamed.
fn dots(from: &Held, to: &Held, flags: RenameFlags) -> Result<(), Errno> {
    if !matches!(from.last, Last::Name { .. }) {
        return Err(Errno::EBUSY);
    }
    if !matches!(to.last, Last::Name { .. }) {
        let keeps = flags.has(RenameFlags::NO_REPLACE);
        return Err(if keeps { Errno::EEXIST } else { Errno::EBUSY });
    }
    Ok(())
}

/// The mount of the real directory that holds a name.
fn mount_of(held: &Held) -> Result<Option<u64>, Errno> {
    match &held.holder {
        Holder::Real { path: Some(dir), .. } => mount_id(dir),
        _ => Ok(None),
    }
}

/// The same name in the same real directory.
fn is_same(from: &Held, to: &Held) -> bool {
    let is_name = |held: &Held| matches!(held.last, Last::Name { .. });
    let path = real_path(from);
    is_name(from) && is_name(to) && path.is_some() && path == real_path(to)
}

/// What is said of two real names before it matters that one is a mount point: a slash after what
/// is no directory, and a directory that is moved into itself or out over itself.
fn tangled(from: &Held, to: &Held, flags: RenameFlags) -> Result<(), Errno> {
    let (Some(old), Some(new)) = (real_path(from), real_path(to)) else { return Ok(()) };
    let is_directory = |path: &[u8]| kind_of(path) == Some(SFlag::S_IFDIR);
    let slash = |held: &Held| held.last == (Last::Name { slash: true });
    let swaps = flags.has(RenameFlags::EXCHANGE);
    let comes = if swaps { &new } else { &old };
    if (slash(from) && !is_directory(&old)) || (slash(to) && !is_directory(comes)) {
        return Err(Errno::ENOTDIR);
    }
    let within = |path: &[u8], above: &[u8]| {
        path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    if within(&new, &old) {
        return Err(Errno::EINVAL);
    }
    if within(&old, &new) {
        return Err(if swaps { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    Ok(())
}

/// What kind of thing is at a real path; None: nothing is.
fn kind_of(path: &[u8]) -> Option<SFlag> {
    let found = lstat(OsStr::from_bytes(path)).ok()?;
    Some(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT)
}

/// The path of a name in a real directory.
fn real_path(held: &Held) -> Option<Vec<u8>> {
    match &held.holder {
        Holder::Real { path: Some(dir), .. } => Some(held.path_in(dir.clone())),
        _ => None,
    }
}

/// A name in a real directory in the words of the decision table.
fn real_side(call: &Call<'_>, held: &Held) -> Side {
    let Some(path) = real_path(held) else { return Side::Real(Target::File) };
    if held.mount_point(call.job).is_some() || call.job.must_stay(&path) {
        return Side::Real(Target::MountPoint);
    }
    Side::Real(match kind_of(&path) {
        Some(SFlag::S_IFDIR) => Target::Directory,
        Some(_) => Target::File,
        None => Target::Missing,
    })
}

/// Is the real thing a directory? Then what is known below it moves too.
fn is_directory(call: &Call<'_>, at: At, place: &RealPlace) -> bool {
    let Some(path) = call.real_path(at, place) else { return true };
    kind_of(&path) == Some(SFlag::S_IFDIR)
}
