//! Moving a file's content: cloned where the file system shares extents, else read once, hashed
//! and written in the same pass, holes kept as holes.
//!
//! In: an open source and an open, empty destination. What must never happen here: a mapping of a
//! file that belongs to someone else (they may truncate it, and the signal would be ours), or
//! unbounded memory for a large file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::io::Errno;

use crate::hash::Hash;
use crate::platform;

/// One read of a large file.
const BUFFER: usize = 1 << 20;
/// Unit in which runs of zeros become holes.
const BLOCK: usize = 64 << 10;

/// Which side failed: a source that can't be read is one file's matter, a destination that can't
/// be written ends the whole run.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// Reading failed.
    Read(io::Error),
    /// Writing failed.
    Write(io::Error),
}

/// Reads a file from its beginning, wherever its offset is, and leaves that alone: others may share
/// the descriptor.
pub(crate) struct FromStart<'f> {
    file: &'f File,
    at: u64,
}

impl FromStart<'_> {
    pub fn new(file: &File) -> FromStart<'_> {
        FromStart { file, at: 0 }
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let filled = self.file.read_at(buffer, self.at)?;
        self.at += filled as u64;
        Ok(filled)
    }
}

/// Is the file stored with holes?
pub(crate) fn is_sparse(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    Ok(meta.blocks().saturating_mul(512) < meta.len())
}

/// Copies `from` to `to` and hashes what was copied; stops when more than `limit` bytes have come.
/// Returns the hash and the number of bytes.
pub(crate) fn copy_hashed(
    from: &mut impl Read,
    to: &File,
    limit: u64,
    sparse: bool,
) -> Result<(Hash, u64), CopyError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = buffer_for(limit);
    let mut len = 0u64;
    loop {
        let filled = read_full(from, &mut buffer).map_err(CopyError::Read)?;
        if filled == 0 {
            break;
        }
        let bytes = &buffer[..filled];
        hasher.update(bytes);
        write_at(to, bytes, len, sparse).map_err(CopyError::Write)?;
        len += filled as u64;
        if len > limit {
            break;
        }
    }
    if sparse {
        // A hole at the end has to be given its length.
        to.set_len(len).map_err(CopyError::Write)?;
    }
    Ok((hasher.finalize().into(), len))
}

/// Hashes the rest of `from`, stopping when more than `limit` bytes have come.
pub(crate) fn hash_rest(from: &mut impl Read, limit: u64) -> io::Result<(Hash, u64)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = buffer_for(limit);
    let mut len = 0u64;
    loop {
        let filled = read_full(from, &mut buffer)?;
        if filled == 0 {
            break;
        }
        hasher.update(&buffer[..filled]);
        len += filled as u64;
        if len > limit {
            break;
        }
    }
    Ok((hasher.finalize().into(), len))
}

/// Room for the whole of a small file and one byte more, which tells that it is longer.
fn buffer_for(limit: u64) -> Vec<u8> {
    vec![0; usize::try_from(limit).map_or(BUFFER, |limit| limit.saturating_add(1).min(BUFFER))]
}

/// Reads until the buffer is full or the file ends.
pub(crate) fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let all = buffer.len();
    read_at_least(from, buffer, all)
}

/// Reads until so much of the buffer is filled, or the file ends.
pub(crate) fn read_at_least(
    from: &mut impl Read,
    buffer: &mut [u8],
    least: usize,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < least {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn write_at(to: &File, bytes: &[u8], at: u64, sparse: bool) -> io::Result<()> {
    if !sparse {
        return to.write_all_at(bytes, at);
    }
    let mut at = at;
    for block in bytes.chunks(BLOCK) {
        if block.iter().any(|&byte| byte != 0) {
            to.write_all_at(block, at)?;
        }
        at += block.len() as u64;
    }
    Ok(())
}

/// What came of an attempt to share extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloned {
    /// The destination now has the source's content.
    Done,
    /// Not this file; another may do.
    NotThis,
    /// These two file systems can't.
    Never,
}

/// Makes `to` share the extents of `from`.
pub(crate) fn clone(from: &File, to: &File) -> io::Result<Cloned> {
    match platform::share_extents(from, to) {
        Ok(()) => Ok(Cloned::Done),
        Err(Errno::XDEV | platform::UNSUPPORTED | Errno::NOTTY | Errno::NOSYS) => Ok(Cloned::Never),
        Err(Errno::INVAL | Errno::PERM | Errno::TXTBSY | Errno::ISDIR | Errno::BADF) => {
            Ok(Cloned::NotThis)
        }
        Err(errno) => Err(errno.into()),
    }
}
