//! statfs, fstatfs: the store's file system, read-only, or that of the upper directory.

use super::{Call, Verdict};
use crate::caller::job_errno;
use crate::listener::Answer;
use crate::resolve::Found;
use crate::table::{Arch, At};
use std::os::fd::AsFd;
use vrift_policy::Errno;
use vrift_projection::NodeRef;

const PATH: At = At { dirfd: None, path: 0 };

/// statfs(path, buf).
pub fn by_path(call: &Call<'_>, sized: bool) -> Result<Verdict, Errno> {
    match call.find(PATH, true)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => Ok(Verdict::Redirect(vec![(0, path)])),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => give(call, node, sized),
    }
}

/// fstatfs(fd, buf).
pub fn by_descriptor(call: &Call<'_>, sized: bool) -> Result<Verdict, Errno> {
    match call.node_of_number()? {
        Some(node) => give(call, node, sized),
        None => Ok(Verdict::CONTINUE),
    }
}

fn give(call: &Call<'_>, node: NodeRef, sized: bool) -> Result<Verdict, Errno> {
    const RDONLY: u64 = 1;
    const ST_VALID: u64 = 0x20;
    let store = call.job.store.as_ref().ok_or(Errno::EIO)?;
    let (fd, read_only) = match call.job.overlay(node) {
        Some(overlay) => (overlay.upper().files(), 0),
        None => (store.blobs.as_fd(), RDONLY),
    };
    let mut bytes = crate::sys::statfs::fstatfs_bytes(fd).map_err(job_errno)?;
    // f_flags is the word after f_frsize; libc keeps it private.
    let at = std::mem::offset_of!(libc::statfs, f_frsize) + 8;
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    let flags = u64::from_ne_bytes(word) | read_only | ST_VALID;
    bytes[at..at + 8].copy_from_slice(&flags.to_ne_bytes());
    if call.caller.arch == Arch::I386 {
        return give_compat(call, &bytes, sized);
    }
    call.caller.write(call.caller.arg(1), &bytes)?;
    Ok(Verdict::Answer(Answer::Value(0)))
}

/// i386: `struct compat_statfs`, all words of 32 bits, or `struct compat_statfs64`, whose counts
/// have 64 (arch/x86/include/uapi/asm/statfs.h, fs/statfs.c).
fn give_compat(call: &Call<'_>, native: &[u8], sized: bool) -> Result<Verdict, Errno> {
    let word = |i: usize| {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&native[8 * i..8 * i + 8]);
        u64::from_ne_bytes(bytes)
    };
    // type, bsize, blocks, bfree, bavail, files, ffree, fsid (two halves), namelen, frsize, flags
    let fsid = &native[56..64];
    let mut out = Vec::with_capacity(84);
    let narrow = |out: &mut Vec<u8>, n: u64| {
        u32::try_from(n).map(|n| out.extend(n.to_ne_bytes())).map_err(|_| Errno::EOVERFLOW)
    };
    narrow(&mut out, word(0) & 0xffff_ffff)?;
    narrow(&mut out, word(1))?;
    for i in 2..7 {
        if sized {
            out.extend(word(i).to_ne_bytes());
        } else {
            narrow(&mut out, word(i))?;
        }
    }
    out.extend_from_slice(fsid);
    for i in 8..11 {
        narrow(&mut out, word(i))?;
    }
    out.resize(out.len() + 16, 0);
    let buf = if sized {
        // The structure's size, with or without the padding that some compilers add.
        if !matches!(call.caller.arg(1), 84 | 88) {
            return Err(Errno::EINVAL);
        }
        call.caller.arg(2)
    } else {
        call.caller.arg(1)
    };
    call.caller.write(buf, &out)?;
    Ok(Verdict::Answer(Answer::Value(0)))
}
