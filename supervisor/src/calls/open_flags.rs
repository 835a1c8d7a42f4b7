//! What a caller of the open family asks for, and what build_open_flags() of fs/open.c refuses of
//! it before a path is looked at.

use super::Call;
use crate::table::{At, OpenForm};
use nix::fcntl::OFlag;
use vrift_policy::Errno;

/// What the caller asked for.
pub struct Request {
    /// Where its path is.
    pub at: At,
    /// Its flags, without those that `O_PATH` makes the kernel forget.
    pub flags: OFlag,
    /// The mode of a file that it makes.
    pub mode: u32,
    /// `RESOLVE_*` of openat2.
    pub resolve: u64,
    /// What the kernel says of all this whatever the path is.
    pub invalid: Option<Errno>,
}

const PATH_FLAGS: i32 = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH | libc::O_CLOEXEC;
/// `RESOLVE_IN_ROOT` of openat2.
pub const IN_ROOT: u64 = 0x10;
/// `O_TMPFILE` without the `O_DIRECTORY` in it.
const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// Reads the request of a call.
pub fn request(call: &Call<'_>, form: OpenForm) -> Request {
    let caller = call.caller;
    match form {
        OpenForm::Open => plain(At { dirfd: None, path: 0 }, caller.int(1), caller.int(2)),
        OpenForm::Creat => {
            let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
            plain(At { dirfd: None, path: 0 }, flags, caller.int(1))
        }
        OpenForm::OpenAt => plain(At { dirfd: Some(0), path: 1 }, caller.int(2), caller.int(3)),
        OpenForm::OpenAt2 => {
            let at = At { dirfd: Some(0), path: 1 };
            match extended(call) {
                Ok((flags, mode, resolve)) => {
                    let flags = OFlag::from_bits_retain(flags);
                    Request { at, flags, mode, resolve, invalid: None }
                }
                Err(e) => {
                    let flags = OFlag::empty();
                    Request { at, flags, mode: 0, resolve: 0, invalid: Some(e) }
                }
            }
        }
    }
}

fn plain(at: At, flags: i32, mode: i32) -> Request {
    // "O_PATH beats everything else."
    let flags = if flags & libc::O_PATH != 0 { flags & PATH_FLAGS } else { flags };
    let invalid = refused(flags);
    let flags = OFlag::from_bits_retain(flags);
    Request { at, flags, mode: mode.cast_unsigned() & 0o7777, resolve: 0, invalid }
}

/// What is refused of every form.
fn refused(flags: i32) -> Option<Errno> {
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
    let creates_directory = libc::O_CREAT | libc::O_DIRECTORY;
    let invalid = flags & creates_directory == creates_directory
        || (flags & TMPFILE != 0 && (flags & libc::O_DIRECTORY == 0 || !writes));
    invalid.then_some(Errno::EINVAL)
}

/// openat2's `struct open_how`: flags, mode, resolve, and whatever a later kernel may add.
fn extended(call: &Call<'_>) -> Result<(i32, u32, u64), Errno> {
    const SIZE: u64 = 24;
    const PAGE: u64 = 4096;
    const RESOLVE: u64 = 0x3f;
    const BENEATH: u64 = 0x08;
    const CACHED: u64 = 0x20;
    let size = call.caller.arg(3);
    if size < SIZE {
        return Err(Errno::EINVAL);
    }
    if size > PAGE {
        return Err(Errno::E2BIG);
    }
    let mut how = vec![0u8; usize::try_from(size).map_err(|_| Errno::E2BIG)?];
    call.caller.read_exact(call.caller.arg(2), &mut how)?;
    if how[24..].iter().any(|&b| b != 0) {
        return Err(Errno::E2BIG);
    }
    let word = |i: usize| {
        let mut word = [0u8; 8];
        word.copy_from_slice(&how[i..i + 8]);
        u64::from_ne_bytes(word)
    };
    let (flags, mode, resolve) = (word(0), word(8), word(16));
    let flags = i32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let valid = libc::O_ACCMODE
        | libc::O_CREAT
        | libc::O_EXCL
        | libc::O_NOCTTY
        | libc::O_TRUNC
        | libc::O_APPEND
        | libc::O_NONBLOCK
        | libc::O_SYNC
        | libc::O_DSYNC
        | libc::O_ASYNC
        | libc::O_DIRECT
        | LARGE_FILE
        | libc::O_DIRECTORY
        | libc::O_NOFOLLOW
        | libc::O_NOATIME
        | libc::O_CLOEXEC
        | libc::O_PATH
        | TMPFILE;
    let makes = flags & (libc::O_CREAT | TMPFILE) != 0;
    if flags & !valid != 0
        || resolve & !RESOLVE != 0
        || resolve & (BENEATH | IN_ROOT) == BENEATH | IN_ROOT
        || (if makes { mode & !0o7777 } else { mode }) != 0
    {
        return Err(Errno::EINVAL);
    }
    if let Some(e) = refused(flags) {
        return Err(e);
    }
    if flags & libc::O_PATH != 0 && flags & !PATH_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if resolve & CACHED != 0 && (makes || flags & libc::O_TRUNC != 0) {
        return Err(Errno::EAGAIN);
    }
    Ok((flags, u32::try_from(mode & 0o7777).unwrap_or(0), resolve))
}

/// `O_LARGEFILE` as the kernel numbers it; libc says 0 where it is always set.
#[cfg(target_arch = "x86_64")]
const LARGE_FILE: i32 = 0o100_000;
#[cfg(target_arch = "aarch64")]
const LARGE_FILE: i32 = 0o400_000;
