//! Making real what the system opens by itself: the directories that stand for projected ones, and
//! clones of files, by clonefile(2) or, where the file system has none, as a copy.
//!
//! No allocation: it is done between fork and exec, too. What must never happen here: a clone under
//! its name before it is whole, or a write to a blob. A clone is made under a name of its own and
//! renamed; two processes that make the same one do no harm.

use super::real::{checked, lstat};
use super::{State, last_error};
use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicU32, Ordering};
use vrift_macos_es::shim::{Base, Look, PathBuffer, Verdict, darwin};
use vrift_policy::{Errno, Operation};
use vrift_projection::{Attr, Kind, NodeRef};

/// Makes the directory that stands for a projected one, if it is not there.
pub fn stand_in(path: &mut PathBuffer) -> Result<(), Errno> {
    directory(path.c_str()?, 0o555)
}

fn directory(path: &CStr, mode: libc::mode_t) -> Result<(), Errno> {
    // SAFETY: the path ends.
    match checked(unsafe { libc::mkdir(path.as_ptr(), mode) }) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Makes the directories above a path, from `private` on, which is there.
fn above(path: &mut PathBuffer, private: usize) -> Result<(), Errno> {
    let whole = path.bytes().len();
    let mut part = PathBuffer::new();
    let mut at = private;
    while let Some(slash) = path.bytes()[at + 1..whole].iter().position(|&byte| byte == b'/') {
        at += 1 + slash;
        part.clear();
        part.push(&path.bytes()[..at])?;
        directory(part.c_str()?, 0o755)?;
    }
    Ok(())
}

/// Makes the clone of a file or link that a verdict named, if it is not there.
pub fn file(state: &State, node: NodeRef, to: &mut PathBuffer) -> Result<(), Errno> {
    match lstat(to.c_str()?) {
        Ok(_) => return Ok(()),
        Err(Errno::ENOENT | Errno::ENOTDIR) => {}
        Err(errno) => return Err(errno),
    }
    let attr = state.shim.attr(node)?;
    above(to, state.job.private.len())?;
    let mut part = PathBuffer::new();
    unique(state, &mut part)?;
    if attr.kind == Kind::Symlink {
        let target = state.shim.projection().link_target(node).map_err(|_| Errno::EIO)?;
        let mut path = PathBuffer::new();
        path.push(&target)?;
        // SAFETY: both end.
        checked(unsafe { libc::symlink(path.c_str()?.as_ptr(), part.c_str()?.as_ptr()) })?;
    } else {
        let mut blob = PathBuffer::new();
        content(state, node, &mut blob)?;
        cloned(blob.c_str()?, part.c_str()?, &attr).inspect_err(|_| remove(&mut part))?;
    }
    // SAFETY: both end.
    checked(unsafe { libc::rename(part.c_str()?.as_ptr(), to.c_str()?.as_ptr()) })
        .map(|_| ())
        .inspect_err(|_| remove(&mut part))
}

fn remove(part: &mut PathBuffer) {
    if let Ok(path) = part.c_str() {
        // SAFETY: the path ends.
        unsafe { libc::unlink(path.as_ptr()) };
    }
}

/// A name in the private directory that nobody else uses: `p-PID-NUMBER`.
fn unique(state: &State, out: &mut PathBuffer) -> Result<(), Errno> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // SAFETY: it takes nothing and always succeeds.
    let pid = unsafe { libc::getpid() }.cast_unsigned();
    out.clear();
    out.push(state.job.private)?;
    out.push(b"/p")?;
    for number in [pid, NUMBER.fetch_add(1, Ordering::Relaxed)] {
        out.push(b"-")?;
        let digits = core::array::from_fn::<u8, 8, _>(|at| {
            b"0123456789abcdef"[(number >> (28 - 4 * at) & 15) as usize]
        });
        out.push(&digits)?;
    }
    Ok(())
}

/// The path of a file's blob.
fn content(state: &State, node: NodeRef, out: &mut PathBuffer) -> Result<(), Errno> {
    let mut path = PathBuffer::new();
    state.shim.path(node, &mut path)?;
    let (request, place) = (darwin::request(0), (Base::Current, path.bytes()));
    match state.shim.open(place, &request, Look::Thorough, out)? {
        Verdict::Blob(_) => Ok(()),
        // Its rights do not let it be read: then it is not run either.
        _ => Err(Errno::EACCES),
    }
}

fn cloned(blob: &CStr, to: &CStr, attr: &Attr) -> Result<(), Errno> {
    // SAFETY: both end.
    match checked(unsafe { libc::clonefile(blob.as_ptr(), to.as_ptr(), 0) }) {
        Ok(_) => {
            // A protected blob's flag comes with it.
            // SAFETY: the path ends.
            unsafe { libc::chflags(to.as_ptr(), 0) };
        }
        Err(Errno::EOPNOTSUPP | Errno::EXDEV | Errno::ENOSYS) => copied(blob, to)?,
        Err(errno) => return Err(errno),
    }
    let mode = libc::mode_t::try_from(attr.mode & 0o555).unwrap_or(0o555);
    let time = libc::timespec { tv_sec: attr.mtime_sec, tv_nsec: attr.mtime_nsec.into() };
    // SAFETY: the path ends, and there are two times.
    unsafe {
        checked(libc::chmod(to.as_ptr(), mode))?;
        checked(libc::utimensat(darwin::AT_FDCWD, to.as_ptr(), [time, time].as_ptr(), 0))?;
    }
    Ok(())
}

fn copied(blob: &CStr, to: &CStr) -> Result<(), Errno> {
    let made = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: both end.
    let from = checked(unsafe { libc::open(blob.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })?;
    // SAFETY: as above; the mode is what the variadic call takes.
    let to = checked(unsafe { libc::open(to.as_ptr(), made, 0o600) });
    let result = to.and_then(|to| {
        let result = all(from, to);
        // SAFETY: it was opened above.
        unsafe { libc::close(to) };
        result
    });
    // SAFETY: it was opened above.
    unsafe { libc::close(from) };
    result
}

fn all(from: c_int, to: c_int) -> Result<(), Errno> {
    let mut buffer = [0u8; 16384];
    loop {
        // SAFETY: the buffer has that room.
        let got = unsafe { libc::read(from, buffer.as_mut_ptr().cast(), buffer.len()) };
        let Ok(got) = usize::try_from(got) else { return Err(last_error()) };
        if got == 0 {
            return Ok(());
        }
        let mut left = &buffer[..got];
        while !left.is_empty() {
            // SAFETY: as many bytes as are left.
            let put = unsafe { libc::write(to, left.as_ptr().cast(), left.len()) };
            let Ok(put) = usize::try_from(put) else { return Err(last_error()) };
            left = &left[put..];
        }
    }
}

/// Makes the clone of whatever a node is, with all that is below it; its path is put into `out`.
pub fn whole(state: &State, node: NodeRef, out: &mut PathBuffer) -> Result<(), Errno> {
    let mut path = PathBuffer::new();
    state.shim.clone_path(node, &mut path)?;
    // That one grew at its front, and below a directory it has to grow at its end.
    out.clear();
    out.push(path.bytes())?;
    if state.shim.attr(node)?.kind != Kind::Directory {
        return file(state, node, out);
    }
    above(out, state.job.private.len())?;
    tree(state, node, out)
}

/// A directory of clones. What was made before is left as it is.
fn tree(state: &State, node: NodeRef, path: &mut PathBuffer) -> Result<(), Errno> {
    directory(path.c_str()?, 0o755)?;
    let (length, mut result) = (path.bytes().len(), Ok(()));
    let projection = state.shim.projection();
    let listed = projection.list(node, 2, |entry| {
        result = (|| {
            let child = projection.lookup(node, entry.name).map_err(|_| Errno::EIO)?;
            let child = child.ok_or(Errno::EIO)?;
            path.push(b"/")?;
            path.push(entry.name)?;
            match entry.kind {
                Kind::Directory => tree(state, child, path),
                _ => file(state, child, path),
            }
        })();
        path.truncate(length);
        result.is_ok()
    });
    listed.map_err(|_| Errno::EIO)?;
    result
}

/// What a path is, asked of the projection alone; None: nothing projected.
pub fn node_at(state: &State, path: &[u8]) -> Option<NodeRef> {
    let mut out = PathBuffer::new();
    let place = (Base::Current, path);
    match state.shim.by_path(Operation::Stat, place, true, Look::Quick, &mut out) {
        Ok(Verdict::Answer(node)) => Some(node),
        _ => None,
    }
}
