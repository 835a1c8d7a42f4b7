//! Paths of Unix sockets.

use super::{Answer, base, entry, errno, set_errno, state};
use crate::sys::interpose::interpose;
use core::ffi::{c_int, c_uint, c_void};
use core::mem::{MaybeUninit, offset_of};
use libc::{iovec, msghdr, sockaddr, sockaddr_un, socklen_t};
use vrift_macos_es::shim::{Look, PathBuffer, Verdict, darwin};
use vrift_policy::{Errno, Operation};

/// An address as a call has it.
type Address = (*const sockaddr, socklen_t);

const PATH_AT: usize = offset_of!(sockaddr_un, sun_path);

/// The path in an address, if it is a Unix socket's.
fn path<'a>((address, length): Address) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    if address.is_null() || length <= PATH_AT {
        return None;
    }
    // SAFETY: the caller's address has that length, which is more than its head's.
    let family = unsafe { (*address).sa_family };
    if c_int::from(family) != libc::AF_UNIX {
        return None;
    }
    // SAFETY: as above.
    let path =
        unsafe { core::slice::from_raw_parts(address.cast::<u8>().add(PATH_AT), length - PATH_AT) };
    path.split(|&byte| byte == 0).next().filter(|path| !path.is_empty())
}

/// Asks about an address, and has `real` make the call with it, or with one that the system finds.
fn sent<R: Answer>(operation: Operation, address: Address, real: impl Fn(Address) -> R) -> R {
    let (Some(state), Some(path)) = (state(), path(address)) else { return real(address) };
    entry(|| {
        let before = errno();
        let mut out = PathBuffer::new();
        let place = (base(darwin::AT_FDCWD), path);
        // Asked for thoroughly at once: a socket is not connected often.
        let verdict = state.shim.by_path(operation, place, true, Look::Thorough, &mut out)?;
        set_errno(before);
        match verdict {
            Verdict::Pass => Ok(real(address)),
            Verdict::PassAt => {
                let mut other = MaybeUninit::<sockaddr_un>::zeroed();
                // SAFETY: an address is numbers, for which zeroes are good.
                let other = unsafe { other.assume_init_mut() };
                let bytes = out.bytes();
                // The NUL has to fit, too.
                let room = other.sun_path.get_mut(..=bytes.len()).ok_or(Errno::ENAMETOOLONG)?;
                for (to, from) in room.iter_mut().zip(bytes) {
                    *to = from.cast_signed();
                }
                let length = PATH_AT + bytes.len() + 1;
                other.sun_len = u8::try_from(length).map_err(|_| Errno::ENAMETOOLONG)?;
                other.sun_family = u8::try_from(libc::AF_UNIX).map_err(|_| Errno::EAFNOSUPPORT)?;
                Ok(real(((&raw const *other).cast(), other.sun_len.into())))
            }
            // No socket is in a mount, and the table refuses all else.
            _ => Err(Errno::EIO),
        }
    })
}

/// `sa_endpoints_t`.
#[repr(C)]
#[derive(Copy, Clone)]
struct Endpoints {
    interface: c_uint,
    source: *const sockaddr,
    source_length: socklen_t,
    target: *const sockaddr,
    target_length: socklen_t,
}

/// `struct msghdr_x`.
#[repr(C)]
#[derive(Copy, Clone)]
struct Message {
    header: msghdr,
    length: usize,
}

/// sendmsg_x: as many as go out as they came; one that has to be sent elsewhere goes alone.
fn several(
    messages: *const Message,
    count: c_uint,
    real: impl Fn(*const Message, c_uint) -> isize,
) -> isize {
    if state().is_none() || messages.is_null() {
        return real(messages, count);
    }
    let named = |number: c_uint| {
        // SAFETY: the caller's own list, of that length.
        let header = unsafe { &(*messages.add(number as usize)).header };
        path((header.msg_name.cast_const().cast(), header.msg_namelen)).is_some()
    };
    match (0..count).find(|number| named(*number)) {
        None => real(messages, count),
        Some(0) => {
            // SAFETY: as above.
            let first = unsafe { *messages };
            let address = (first.header.msg_name.cast_const().cast(), first.header.msg_namelen);
            sent(Operation::ConnectSocket, address, |(address, length)| {
                let mut one = first;
                one.header.msg_name = address.cast_mut().cast();
                one.header.msg_namelen = length;
                real(&raw const one, 1)
            })
        }
        Some(before) => real(messages, before),
    }
}

const CONNECT: Operation = Operation::ConnectSocket;

interpose! {
    ["bind"] (fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, real => {
        sent(Operation::BindSocket, (address, length), |(address, length)| real(fd, address, length))
    }
    ["connect" "connect$NOCANCEL"] (fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, real => {
        sent(CONNECT, (address, length), |(address, length)| real(fd, address, length))
    }
    ["connectx"] (fd: c_int, points: *const Endpoints, association: u32, flags: c_uint, data: *const iovec, count: c_uint, length: *mut usize, connection: *mut u32) -> c_int, real => {
        if points.is_null() {
            return real(fd, points, association, flags, data, count, length, connection);
        }
        // SAFETY: the caller's own.
        let ends = unsafe { *points };
        let address = (ends.target, ends.target_length);
        sent(CONNECT, address, |(target, target_length)| {
            if (target, target_length) == address {
                return real(fd, points, association, flags, data, count, length, connection);
            }
            let ends = Endpoints { target, target_length, ..ends };
            real(fd, &raw const ends, association, flags, data, count, length, connection)
        })
    }
    ["sendto" "sendto$NOCANCEL"] (fd: c_int, from: *const c_void, size: usize, flags: c_int, address: *const sockaddr, length: socklen_t) -> isize, real => {
        sent(CONNECT, (address, length), |(address, length)| real(fd, from, size, flags, address, length))
    }
    ["sendmsg" "sendmsg$NOCANCEL"] (fd: c_int, message: *const msghdr, flags: c_int) -> isize, real => {
        if message.is_null() {
            return real(fd, message, flags);
        }
        // SAFETY: the caller's own.
        let header = unsafe { *message };
        let address: Address = (header.msg_name.cast_const().cast(), header.msg_namelen);
        sent(CONNECT, address, |(other, length)| {
            if (other, length) == address {
                return real(fd, message, flags);
            }
            let mut header = header;
            header.msg_name = other.cast_mut().cast();
            header.msg_namelen = length;
            real(fd, &raw const header, flags)
        })
    }
    ["sendmsg_x"] (fd: c_int, messages: *const Message, count: c_uint, flags: c_int) -> isize, real => {
        several(messages, count, |messages, count| real(fd, messages, count, flags))
    }
}
