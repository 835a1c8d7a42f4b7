//! statfs, fstatfs: the store's file system, read-only.

use super::{Call, Verdict};
use crate::caller::job_errno;
use crate::listener::Answer;
use crate::resolve::Found;
use crate::table::At;
use std::os::fd::AsFd;
use vrift_policy::Errno;

const PATH: At = At { dirfd: None, path: 0 };

/// statfs(path, buf).
pub fn by_path(call: &Call<'_>) -> Result<Verdict, Errno> {
    match call.find(PATH, true)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(0, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(_) => give(call),
    }
}

/// fstatfs(fd, buf).
pub fn by_descriptor(call: &Call<'_>) -> Result<Verdict, Errno> {
    match call.node_of_descriptor(call.caller.int(0))? {
        Some(_) => give(call),
        None => Ok(Verdict::CONTINUE),
    }
}

fn give(call: &Call<'_>) -> Result<Verdict, Errno> {
    const ST_RDONLY: u64 = 1;
    const ST_VALID: u64 = 0x20;
    let store = call.job.store.as_ref().ok_or(Errno::EIO)?;
    let mut bytes = crate::sys::statfs::fstatfs_bytes(store.blobs.as_fd()).map_err(job_errno)?;
    // f_flags is the word after f_frsize; libc keeps it private.
    let at = std::mem::offset_of!(libc::statfs, f_frsize) + 8;
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    let flags = u64::from_ne_bytes(word) | ST_RDONLY | ST_VALID;
    bytes[at..at + 8].copy_from_slice(&flags.to_ne_bytes());
    call.caller.write(call.caller.arg(1), &bytes)?;
    Ok(Verdict::Answer(Answer::Value(0)))
}
