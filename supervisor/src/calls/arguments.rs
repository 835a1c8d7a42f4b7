//! What a call's other arguments are refused for before the kernel looks at its path, and what
//! makes a call do nothing at all: so that a projected path is refused for the same reason.
//!
//! Only for the native layout of arguments; a 32-bit caller is told what its path deserves.

use super::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, Call};
use crate::caller::PATH_MAX;
use crate::table::{Arch, At};
use vrift_policy::{Errno, Operation};

/// `XATTR_NAME_MAX` with its NUL.
pub const ATTRIBUTE_NAME: usize = 256;
/// `XATTR_SIZE_MAX`.
const ATTRIBUTE_SIZE: u64 = 65_536;
const PAGE: u64 = 4096;
const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// What the kernel makes of the arguments by themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Arguments {
    /// The call does nothing and says so, whatever its path.
    pub idle: bool,
    /// Refused, but only once the path is found.
    pub after_look_up: Option<Errno>,
}

/// mknod's mode (may_mknod() of fs/namei.c) and symlink's target.
pub fn before_making(call: &Call<'_>, op: Operation) -> Result<(), Errno> {
    let at = u8::from(call.row.name.ends_with("at"));
    match op {
        Operation::MakeNode => match call.caller.int(at + 1).cast_unsigned() & 0o170_000 {
            0 | 0o100_000 | 0o020_000 | 0o060_000 | 0o010_000 | 0o140_000 => Ok(()),
            0o040_000 => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        },
        Operation::MakeSymlink => {
            let mut buf = [0u8; PATH_MAX];
            match call.caller.read_path(call.caller.arg(0), &mut buf)? {
                [] => Err(Errno::ENOENT),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The arguments of a call that changes what its path or descriptor stands for; `flags` is the
/// argument that may hold `AT_EMPTY_PATH`.
pub fn before_changing(
    call: &Call<'_>,
    at: At,
    op: Operation,
    flags: Option<u8>,
) -> Result<Arguments, Errno> {
    if call.caller.arch != Arch::NATIVE {
        return Ok(Arguments::default());
    }
    let times = if op == Operation::ChangeTimes { times(call)? } else { Arguments::default() };
    if times.idle {
        return Ok(times);
    }
    if let Some(flags) = flags.map(|i| call.caller.int(i)) {
        let by_number = at_is_null(call, at) && op == Operation::ChangeTimes;
        let known = if by_number { 0 } else { AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH };
        if flags & !known != 0 {
            return Err(Errno::EINVAL);
        }
    }
    let name = call.row.name;
    match op {
        Operation::Truncate if call.caller.arg(at.path + 1).cast_signed() < 0 => Err(Errno::EINVAL),
        Operation::ChangeTimes => Ok(times),
        Operation::SetXattr if name == "setxattrat" => {
            let args = attribute_arguments(call)?;
            set_attribute(call, 3, args.value, args.size, args.flags)
        }
        Operation::SetXattr => {
            let size = call.caller.arg(3);
            set_attribute(call, 1, call.caller.arg(2), size, call.caller.int(4))
        }
        Operation::RemoveXattr => {
            attribute_name(call, if name == "removexattrat" { 3 } else { 1 })?;
            Ok(Arguments::default())
        }
        Operation::SetFlags if name == "file_setattr" => {
            let size = call.caller.arg(3);
            sized(size, 24)?;
            let mut attributes = [0u8; 24];
            call.caller.read_exact(call.caller.arg(2), &mut attributes)?;
            Ok(Arguments::default())
        }
        _ => Ok(Arguments::default()),
    }
}

fn at_is_null(call: &Call<'_>, at: At) -> bool {
    at.dirfd.is_some() && call.caller.arg(at.path) == 0 && call.dirfd(at) != libc::AT_FDCWD
}

/// A structure that may grow: copy_struct_from_user() and its callers.
fn sized(size: u64, least: u64) -> Result<(), Errno> {
    if size > PAGE {
        return Err(Errno::E2BIG);
    }
    if size < least { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The name of an extended attribute, as import_xattr_name() reads it.
pub fn attribute_name(
    call: &Call<'_>,
    argument: u8,
) -> Result<([u8; ATTRIBUTE_NAME], usize), Errno> {
    let mut buf = [0u8; ATTRIBUTE_NAME];
    let n = call.caller.read_some(call.caller.arg(argument), &mut buf)?;
    match buf[..n].iter().position(|&b| b == 0) {
        Some(0) => Err(Errno::ERANGE),
        Some(end) => Ok((buf, end)),
        None if n < ATTRIBUTE_NAME => Err(Errno::EFAULT),
        None => Err(Errno::ERANGE),
    }
}

/// setxattr_copy() of fs/xattr.c.
fn set_attribute(
    call: &Call<'_>,
    name: u8,
    value: u64,
    size: u64,
    flags: i32,
) -> Result<Arguments, Errno> {
    const CREATE_OR_REPLACE: i32 = 3;
    if flags & !CREATE_OR_REPLACE != 0 {
        return Err(Errno::EINVAL);
    }
    attribute_name(call, name)?;
    if size > ATTRIBUTE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut content = vec![0u8; usize::try_from(size).map_err(|_| Errno::E2BIG)?];
    call.caller.read_exact(value, &mut content)?;
    Ok(Arguments::default())
}

/// `struct xattr_args`: the last arguments of setxattrat and getxattrat, in memory.
pub struct AttributeArguments {
    /// The value's address.
    pub value: u64,
    /// Its size.
    pub size: u64,
    /// What setxattr takes as flags.
    pub flags: i32,
}

/// (dirfd, path, at_flags, name, args, size): what `args` points to.
pub fn attribute_arguments(call: &Call<'_>) -> Result<AttributeArguments, Errno> {
    sized(call.caller.arg(5), 16)?;
    let mut args = [0u8; 16];
    call.caller.read_exact(call.caller.arg(4), &mut args)?;
    let (value, rest) = args.split_at(8);
    let (size, flags) = rest.split_at(4);
    let size = u32::from_ne_bytes(size.try_into().map_err(|_| Errno::EINVAL)?);
    Ok(AttributeArguments {
        value: u64::from_ne_bytes(value.try_into().map_err(|_| Errno::EINVAL)?),
        size: size.into(),
        flags: i32::from_ne_bytes(flags.try_into().map_err(|_| Errno::EINVAL)?),
    })
}

/// utimensat and its elders (fs/utimes.c): microseconds are looked at before the path,
/// nanoseconds after it, and two `UTIME_OMIT` do nothing.
fn times(call: &Call<'_>) -> Result<Arguments, Errno> {
    let (argument, words) = match call.row.name {
        "utime" => (1, 2),
        "utimes" => (1, 4),
        _ => (2, 4),
    };
    let address = call.caller.arg(argument);
    if address == 0 {
        return Ok(Arguments::default());
    }
    let mut bytes = [0u8; 32];
    call.caller.read_exact(address, &mut bytes[..words * 8])?;
    let word = |i: usize| {
        let mut word = [0u8; 8];
        word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
        i64::from_ne_bytes(word)
    };
    let fractions = [word(1), word(3)];
    match call.row.name {
        "utime" => Ok(Arguments::default()),
        "utimensat" => {
            let odd =
                |n: &i64| !(0..1_000_000_000).contains(n) && *n != UTIME_NOW && *n != UTIME_OMIT;
            Ok(Arguments {
                idle: fractions == [UTIME_OMIT; 2],
                after_look_up: fractions.iter().any(odd).then_some(Errno::EINVAL),
            })
        }
        _ if fractions.iter().any(|n| !(0..1_000_000).contains(n)) => Err(Errno::EINVAL),
        _ => Ok(Arguments::default()),
    }
}
