//! getdents, getdents64: projected directories, and real ones that hold a mount point.
//!
//! The position in a directory stream is the descriptor's own offset, which dup and fork share
//! and lseek sets: it is read and set on a duplicate of the descriptor. A projected directory's
//! positions are the projection's; a real directory's are its file system's, and what a mount
//! adds there comes with the first batch, at the position of the entry before it.

use super::{Call, Verdict};
use crate::caller::job_errno;
use crate::job::Spot;
use crate::listener::Answer;
use crate::sys::proc::PathBuffer;
use crate::sys::process::{descriptor_of_task, getdents64};
use crate::table::Arch;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{Whence, lseek};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use vrift_policy::Errno;
use vrift_projection::NodeRef;
use vrift_store::NodeKind;

/// The most that one answer carries; a caller with a larger buffer asks again.
const BATCH: usize = 256 * 1024;

/// getdents(fd, buf, count) and getdents64.
pub fn handle(call: &Call<'_>, legacy: bool) -> Result<Verdict, Errno> {
    let fd = call.caller.int(0);
    let mut buf: PathBuffer = [0; 4096];
    let Ok(text) = call.caller.descriptor(fd, &mut buf) else { return Ok(Verdict::CONTINUE) };
    let form = match (legacy, call.caller.arch) {
        (false, _) => Form::Modern,
        (true, Arch::I386) => Form::Narrow,
        (true, _) => Form::Legacy,
    };
    let count = usize::try_from(call.caller.arg(2) & 0xffff_ffff).unwrap_or(0).min(BATCH);
    let out = match call.job.spot(call.caller, text, Some(fd))? {
        Spot::Node(node) => {
            call.must_be_opened(fd)?;
            if call.job.attr(node)?.kind != NodeKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            projected(call, fd, node, Records::new(form, count))?
        }
        Spot::Real => {
            let (added, removed) = differences(call, text)?;
            if added.is_empty() && removed.is_empty() {
                return Ok(Verdict::CONTINUE);
            }
            real(call, fd, count, form, &added, &removed)?
        }
        _ => return Ok(Verdict::CONTINUE),
    };
    call.caller.write(call.caller.arg(1), &out)?;
    Ok(Verdict::Answer(Answer::Value(i64::try_from(out.len()).map_err(|_| Errno::EINVAL)?)))
}

fn projected(
    call: &Call<'_>,
    fd: i32,
    node: NodeRef,
    mut records: Records,
) -> Result<Vec<u8>, Errno> {
    let stream = descriptor_of_task(call.caller.tid, fd)
        .map_err(call.job.errno("listing of a directory"))?;
    call.caller.confirm()?;
    let start = lseek(&stream, 0, Whence::SeekCur).map_err(job_errno)?;
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    let mut position = start;
    for entry in call.job.check(call.job.projection.entries(node, start))? {
        let entry = call.job.check(entry)?;
        if !records.push(entry.ino, entry.next, kind_type(entry.kind), entry.name) {
            if records.bytes.is_empty() {
                return Err(Errno::EINVAL);
            }
            break;
        }
        position = entry.next;
    }
    if position != start {
        let position = i64::try_from(position).map_err(|_| Errno::EOVERFLOW)?;
        lseek(&stream, position, Whence::SeekSet).map_err(job_errno)?;
    }
    Ok(records.bytes)
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
    removed: &HashSet<Vec<u8>>,
) -> Result<Vec<u8>, Errno> {
    let stream = descriptor_of_task(call.caller.tid, fd)
        .map_err(call.job.errno("listing of a directory"))?;
    call.caller.confirm()?;
    let first = lseek(&stream, 0, Whence::SeekCur).map_err(job_errno)? == 0;
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
            if over.is_none() && removed.contains(entry.name) {
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
            return Ok(records.bytes);
        }
    }
}

fn kind_type(kind: NodeKind) -> u8 {
    match kind {
        NodeKind::File => libc::DT_REG,
        NodeKind::Directory => libc::DT_DIR,
        NodeKind::Symlink => libc::DT_LNK,
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
