//! getdents, getdents64: projected directories, and real ones that hold a mount point.
//!
//! The position in a directory stream is the descriptor's own offset, which dup and fork share
//! and lseek sets: it is read and set on a duplicate of the descriptor. A projected directory's
//! positions are the projection's; a real directory's are its file system's, and what a mount
//! adds there comes with the first batch, at the position of the entry before it.

use super::Call;
use crate::caller::job_errno;
use crate::job::Spot;
use crate::listener::{Answer, Pending};
use crate::rewrite;
use crate::sys::proc::PathBuffer;
use crate::sys::process::{descriptor_of_task, getdents64};
use crate::table::Arch;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{Whence, lseek};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};
use vrift_policy::{Errno, Spoken};
use vrift_projection::{Kind, NodeRef};

/// The most that one answer carries; a caller with a larger buffer asks again.
const BATCH: usize = 256 * 1024;

/// Where an answer may be interrupted, only one is made at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a call lists, and from where on.
struct Listing {
    bytes: Vec<u8>,
    stream: OwnedFd,
    start: i64,
}

impl Listing {
    /// Who watches the directory gets to see that it was read; the stream stays where it is.
    fn show(&self) -> Result<(), Errno> {
        let position = lseek(&self.stream, 0, Whence::SeekCur).map_err(job_errno)?;
        lseek(&self.stream, 0, Whence::SeekSet).map_err(job_errno)?;
        // However little of it has room.
        let read = getdents64(self.stream.as_fd(), &mut [0; 64]);
        lseek(&self.stream, position, Whence::SeekSet).map_err(job_errno)?;
        match read {
            Ok(_) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
            Err(e) => Err(job_errno(e)),
        }
    }

    /// The stream goes back, as if nobody had read.
    fn undo(&self) {
        if let Err(e) = lseek(&self.stream, self.start, Whence::SeekSet) {
            tracing::error!("a directory's position can't be set back to {}: {e}", self.start);
        }
    }
}

/// getdents(fd, buf, count) and getdents64.
pub fn handle(call: &Call<'_>, legacy: bool, pending: Pending<'_>) {
    // A task that a signal sends back to its call asks for the same entries again: it must find
    // the stream set back by then.
    let alone = pending
        .may_be_interrupted()
        .then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let listing = match list(call, legacy) {
        Ok(Some(listing)) => listing,
        Ok(None) => return pending.answer(&Answer::Continue),
        Err(e) => return pending.answer(&Answer::Fail(e)),
    };
    // At most BATCH.
    let length = i64::try_from(listing.bytes.len()).unwrap_or(i64::MAX);
    if let Err(e) = call.caller.write(call.caller.arg(1), &listing.bytes) {
        // Before the task goes on: from then on it may have moved the stream itself.
        listing.undo();
        drop(listing);
        return pending.answer(&Answer::Fail(e));
    }
    if alone.is_none() {
        // Only the task's end keeps it from going on; its descriptor is the only one then.
        drop(listing);
        return pending.answer(&Answer::Value(length));
    }
    if !rewrite::answer_written(call, length, pending) {
        listing.undo();
    }
    drop(alone);
}

/// What the call lists; None where the kernel says it.
fn list(call: &Call<'_>, legacy: bool) -> Result<Option<Listing>, Errno> {
    let fd = call.caller.int(0);
    let mut buf: PathBuffer = [0; 4096];
    let Ok(text) = call.caller.descriptor(fd, &mut buf) else { return Ok(None) };
    let form = match (legacy, call.caller.arch) {
        (false, _) => Form::Modern,
        (true, Arch::I386) => Form::Narrow,
        (true, _) => Form::Legacy,
    };
    let count = usize::try_from(call.caller.arg(2) & 0xffff_ffff).unwrap_or(0).min(BATCH);
    match call.job.spot(call.caller, text, Some(fd))? {
        Spot::Node(node) => {
            call.must_be_opened(fd)?;
            if call.job.check(call.job.projection.kind(node))? != Kind::Directory {
                return Err(Errno::ENOTDIR);
            }
            // One that was removed (iterate_dir() of fs/readdir.c).
            if call.job.projection.is_gone(node) {
                return Err(Errno::ENOENT);
            }
            let listing = projected(call, fd, node, Records::new(form, count))?;
            if call.job.mirrored(text).is_some() {
                listing.show()?;
            }
            Ok(Some(listing))
        }
        Spot::Real => {
            let (added, removed) = differences(call, text)?;
            let spoken = || call.job.rules.spoken_in(text);
            let hides = call.job.rules.hide()
                && !matches!(spoken(), Spoken::Alike)
                && spoken() != Spoken::Names(Vec::new());
            if added.is_empty() && removed.is_empty() && !hides {
                return Ok(None);
            }
            let left_out = |name: &[u8]| {
                removed.contains(name) || hides && call.job.hidden_by_rule(text, name)
            };
            real(call, fd, count, form, &added, &left_out).map(Some)
        }
        _ => Ok(None),
    }
}

fn projected(
    call: &Call<'_>,
    fd: i32,
    node: NodeRef,
    mut records: Records,
) -> Result<Listing, Errno> {
    let stream = descriptor_of_task(call.caller.tid, fd)
        .map_err(call.job.errno("listing of a directory"))?;
    call.caller.confirm()?;
    let start = lseek(&stream, 0, Whence::SeekCur).map_err(job_errno)?;
    let from = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    let mut position = from;
    let mut full = false;
    let listed = call.job.projection.list(node, from, |entry| {
        full = !records.push(entry.ino, entry.next, entry.kind.d_type(), entry.name);
        if !full {
            position = entry.next;
        }
        !full
    });
    call.job.check(listed)?;
    if full && records.bytes.is_empty() {
        return Err(Errno::EINVAL);
    }
    if position != from {
        let position = i64::try_from(position).map_err(|_| Errno::EOVERFLOW)?;
        lseek(&stream, position, Whence::SeekSet).map_err(job_errno)?;
    }
    Ok(Listing { bytes: records.bytes, stream, start })
}

struct Added {
    name: Vec<u8>,
    ino: u64,
}

/// What a real directory's listing gains (mount points) and loses (they, and what is hidden).
fn differences(call: &Call<'_>, dir: &[u8]) -> Result<(Vec<Added>, HashSet<Vec<u8>>), Errno> {
    let mut added = Vec::new();
    let mut removed = HashSet::new();
    for entry in call.job.projection.edge(dir) {
        added.push(Added { name: entry.name.to_vec(), ino: call.job.attr(entry.node)?.ino });
        removed.insert(entry.name.to_vec());
    }
    for root in call.job.hidden_roots() {
        let cut = root.iter().rposition(|&b| b == b'/').unwrap_or(0);
        if root[..cut.max(1)] == *dir {
            removed.insert(root[cut + 1..].to_vec());
        }
    }
    Ok((added, removed))
}

fn real(
    call: &Call<'_>,
    fd: i32,
    count: usize,
    form: Form,
    added: &[Added],
    left_out: &dyn Fn(&[u8]) -> bool,
) -> Result<Listing, Errno> {
    let stream = descriptor_of_task(call.caller.tid, fd)
        .map_err(call.job.errno("listing of a directory"))?;
    call.caller.confirm()?;
    let start = lseek(&stream, 0, Whence::SeekCur).map_err(job_errno)?;
    let first = start == 0;
    // A mount point that has a directory below it stands in that one's place; the others come
    // with the first batch.
    let (placed, loose): (Vec<&Added>, Vec<&Added>) = added.iter().partition(|a| {
        fstatat(&stream, OsStr::from_bytes(&a.name), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    });
    let room: usize = if first { loose.iter().map(|a| record_len(a.name.len())).sum() } else { 0 };
    // Where not even one more entry fits, the kernel says so; it may be at the end.
    let size = count.checked_sub(room).ok_or(Errno::EINVAL)?;
    let mut batch = vec![0u8; size];
    let mut records = Records::new(form, count);
    loop {
        let n = getdents64(stream.as_fd(), &mut batch).map_err(job_errno)?;
        let mut position = 0;
        for entry in Parsed::all(&batch[..n]) {
            position = entry.off;
            let over = placed.iter().find(|a| a.name == entry.name);
            if over.is_none() && left_out(entry.name) {
                continue;
            }
            let (ino, kind) = over.map_or((entry.ino, entry.kind), |a| (a.ino, libc::DT_DIR));
            if !records.push(ino, entry.off, kind, entry.name) {
                return Err(Errno::EINVAL);
            }
        }
        if first {
            for a in &loose {
                if !records.push(a.ino, position, libc::DT_DIR, &a.name) {
                    return Err(Errno::EINVAL);
                }
            }
        }
        // A batch of nothing but hidden names is not the end.
        if n == 0 || !records.bytes.is_empty() {
            return Ok(Listing { bytes: records.bytes, stream, start });
        }
    }
}

/// How records are laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// `linux_dirent64`: the type comes before the name.
    Modern,
    /// `linux_dirent`: the type is the record's last byte.
    Legacy,
    /// The same with words of 32 bits, for i386.
    Narrow,
}

/// The longest of the forms: ino, off, reclen, the name with its NUL and the type.
fn record_len(name: usize) -> usize {
    (8 + 8 + 2 + 1 + name + 1).next_multiple_of(8)
}

struct Records {
    bytes: Vec<u8>,
    form: Form,
    limit: usize,
}

impl Records {
    fn new(form: Form, limit: usize) -> Records {
        Records { bytes: Vec::new(), form, limit }
    }

    /// Appends an entry; false if there is no room, or a number does not fit.
    fn push(&mut self, ino: u64, off: u64, kind: u8, name: &[u8]) -> bool {
        let narrow = (self.form == Form::Narrow)
            .then(|| Some((u32::try_from(ino).ok()?, u32::try_from(off & 0xffff_ffff).ok()?)));
        let len = match narrow {
            None => record_len(name.len()),
            Some(_) => (4 + 4 + 2 + name.len() + 2).next_multiple_of(4),
        };
        let Ok(short) = u16::try_from(len) else { return false };
        if self.bytes.len() + len > self.limit {
            return false;
        }
        let start = self.bytes.len();
        match narrow {
            None => {
                self.bytes.extend(ino.to_ne_bytes());
                self.bytes.extend(off.to_ne_bytes());
            }
            Some(Some((ino, off))) => {
                self.bytes.extend(ino.to_ne_bytes());
                self.bytes.extend(off.to_ne_bytes());
            }
            Some(None) => return false,
        }
        self.bytes.extend(short.to_ne_bytes());
        if self.form == Form::Modern {
            self.bytes.push(kind);
        }
        self.bytes.extend_from_slice(name);
        self.bytes.resize(start + len, 0);
        if self.form != Form::Modern
            && let Some(last) = self.bytes.last_mut()
        {
            *last = kind;
        }
        true
    }
}

struct Parsed<'b> {
    ino: u64,
    off: u64,
    kind: u8,
    name: &'b [u8],
}

impl<'b> Parsed<'b> {
    /// The records of a `getdents64` batch.
    fn all(batch: &'b [u8]) -> impl Iterator<Item = Parsed<'b>> {
        let mut rest = batch;
        std::iter::from_fn(move || {
            let word = |at: usize| -> Option<u64> {
                Some(u64::from_ne_bytes(rest.get(at..at + 8)?.try_into().ok()?))
            };
            let (ino, off) = (word(0)?, word(8)?);
            let len = usize::from(u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?));
            let record = rest.get(..len)?;
            let kind = *record.get(18)?;
            let name = record.get(19..)?.split(|&b| b == 0).next()?;
            rest = rest.get(len..)?;
            Some(Parsed { ino, off, kind, name })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_parsed_back() {
        let mut records = Records::new(Form::Modern, 100);
        assert!(records.push(7, 1, libc::DT_DIR, b"a"));
        assert!(records.push(8, 2, libc::DT_REG, b"a-longer-name"));
        assert!(!records.push(9, 3, libc::DT_REG, &[b'x'; 90]));
        let all: Vec<_> =
            Parsed::all(&records.bytes).map(|p| (p.ino, p.off, p.kind, p.name)).collect();
        assert_eq!(
            all,
            [
                (7, 1, libc::DT_DIR, b"a".as_slice()),
                (8, 2, libc::DT_REG, b"a-longer-name".as_slice()),
            ]
        );
        assert_eq!(records.bytes.len() % 8, 0);
    }

    #[test]
    fn legacy_records_end_in_their_type() {
        let mut records = Records::new(Form::Legacy, 100);
        assert!(records.push(7, 1, libc::DT_DIR, b"abc"));
        assert_eq!(records.bytes.len(), record_len(3));
        assert_eq!(records.bytes.last(), Some(&libc::DT_DIR));
        assert_eq!(&records.bytes[18..22], b"abc\0");
    }
}
