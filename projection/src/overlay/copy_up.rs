//! Copying a file of the manifest to the upper directory, where it can be written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use rustix::fs::{
    Mode, OFlags, SeekFrom, Timespec, Timestamps, XattrFlags, fchmod, fsetxattr, ftruncate,
    futimens, seek,
};
use vrift_policy::Errno;

use super::state::{Body, Update};
use super::{Overlay, damaged, errno, io_errno, platform};
use crate::kind::Kind;

/// What a copy of a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// To be read: it stays as the manifest has it, and is not kept.
    Reading,
    /// To be changed.
    Writing,
    /// To be cut to no length: nothing is copied.
    Truncating,
}

impl Overlay {
    /// Sees to it that a file's content is in the upper directory. `source` opens what the manifest
    /// has, if it is needed; `most` is the size up to which a file is copied for reading where
    /// its blocks can't be shared.
    ///
    /// Gives whether it is there now: always, but for a large file that is only to be read.
    ///
    /// # Errors
    /// What the file system said, ENOSPC, EDQUOT and EIO among it.
    pub fn copy_up(
        &self,
        node: u32,
        what: For,
        most: u64,
        source: impl FnOnce() -> Result<File, Errno>,
    ) -> Result<bool, Errno> {
        let is_there = || self.read().get(node).map(|known| known.body.clone());
        match is_there() {
            Some(Body::Upper) => return Ok(true),
            Some(Body::Clean) if what == For::Reading => return Ok(true),
            _ => {}
        }
        let _turn = Turn::wait(self, node);
        match is_there() {
            Some(Body::Upper) => return Ok(true),
            Some(Body::Clean) if what == For::Reading => return Ok(true),
            Some(Body::Clean) => return self.settle(node, Body::Upper).map(|()| true),
            _ => {}
        }
        let size = self.read().base.node(node).map_err(damaged)?.size;
        let whole = if what == For::Truncating { None } else { Some(source()?) };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let file = self.upper().open(node, flags, Mode::RUSR | Mode::WUSR).map_err(errno)?;
        let filled = match &whole {
            None => Ok(true),
            Some(source) => fill(source, &file, size, what, most),
        };
        let done = match filled {
            Ok(true) => self.dress(node, &file),
            Ok(false) => {
                self.undo_copy(node);
                return Ok(false);
            }
            Err(e) => Err(io_errno(&e)),
        };
        let body = if what == For::Reading { Body::Clean } else { Body::Upper };
        done.and_then(|()| self.settle(node, body))
            .inspect_err(|_| self.undo_copy(node))
            .map(|()| true)
    }

    /// Removes what was copied only to be read, when no task is left that could read it: the disk needs
    /// not write it, and the next job not sweep it.
    pub fn forget_copies(&self) {
        let mut state = self.write();
        let copied = state.known_nodes().filter(|(_, known)| known.body == Body::Clean);
        let copies: Vec<u32> = copied.map(|(node, _)| node).collect();
        for node in copies {
            self.upper().remove(node);
            if let Ok(known) = state.know(node, None) {
                known.body = Body::Base;
            }
        }
    }

    /// From now on the node's file counts.
    fn settle(&self, node: u32, body: Body) -> Result<(), Errno> {
        let mut state = self.write();
        if body == Body::Clean {
            // Not written down: after the job it is as it was.
            state.know(node, None).map_err(damaged)?.body = body;
            return Ok(());
        }
        self.change(&mut state, &[Update::Node { node, kind: Kind::File, body }])
    }

    /// Gives a copy the attributes that the manifest has.
    fn dress(&self, node: u32, file: &OwnedFd) -> Result<(), Errno> {
        let state = self.read();
        let found = state.base.node(node).map_err(damaged)?;
        for (name, value) in found.xattrs() {
            fsetxattr(file, name, value, XattrFlags::empty()).map_err(errno)?;
        }
        fchmod(file, platform::mode(found.mode)).map_err(errno)?;
        let time = Timespec { tv_sec: found.mtime_sec, tv_nsec: i64::from(found.mtime_nsec) };
        futimens(file, &Timestamps { last_access: time, last_modification: time }).map_err(errno)
    }
}

/// The right to copy one node up; others wait.
struct Turn<'o> {
    overlay: &'o Overlay,
    node: u32,
}

impl<'o> Turn<'o> {
    fn wait(overlay: &'o Overlay, node: u32) -> Turn<'o> {
        let (copying, ended) = &overlay.copying;
        let mut nodes = copying.lock().unwrap_or_else(PoisonError::into_inner);
        while !nodes.insert(node) {
            nodes = ended.wait(nodes).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { overlay, node }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (copying, ended) = &self.overlay.copying;
        copying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.node);
        ended.notify_all();
    }
}

/// Makes `to` have the content of `from`: shared blocks, else a copy that keeps holes.
fn fill(from: &File, to: &OwnedFd, size: u64, what: For, most: u64) -> io::Result<bool> {
    if platform::share_extents(from, to) {
        return Ok(true);
    }
    if what == For::Reading && size > most {
        return Ok(false);
    }
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = seek(from, SeekFrom::Hole(data)).unwrap_or(size).min(size);
        copy_range(from, to, data, end)?;
        at = end.max(data + 1);
    }
    Ok(true)
}

fn copy_range(from: &File, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let left = usize::try_from(end - read).unwrap_or(usize::MAX);
        match platform::copy_some(from, &mut read, to, &mut written, left) {
            Ok(0) => break,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            // Between these two files the kernel can't: as far as it got.
            Err(_) => return copy_by_hand(from, to, read, end),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let to = File::from(to.as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; 1 << 18];
    let mut at = start;
    while at < end {
        let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let n = from.read_at(&mut buffer[..want], at)?;
        if n == 0 {
            break;
        }
        to.write_all_at(&buffer[..n], at)?;
        at += n as u64;
    }
    Ok(())
}
