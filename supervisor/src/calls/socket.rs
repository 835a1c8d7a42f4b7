//! bind and connect of Unix sockets whose address is a projected path.

use super::make::new_name;
use super::{Call, Verdict};
use crate::access;
use crate::resolve::holder::{Holder, held};
use crate::resolve::{AT_FDCWD, Found, resolve};
use crate::sys::proc::PathBuffer;
use vrift_policy::{Errno, Operation, Outcome, decide};

/// Size of `struct sockaddr_un`.
const ADDRESS: usize = 110;

/// bind(fd, addr, len) and connect(fd, addr, len).
pub fn handle(call: &Call<'_>, op: Operation) -> Result<Verdict, Errno> {
    with_address(call, op, call.caller.int(0), call.caller.arg(1), call.caller.int(2))
}

/// socketcall(call, args): the arguments are three words of 32 bits in memory.
pub fn multiplexed(call: &Call<'_>) -> Result<Verdict, Errno> {
    let op = match call.caller.int(0) {
        2 => Operation::BindSocket,
        3 => Operation::ConnectSocket,
        _ => return Ok(Verdict::CONTINUE),
    };
    let mut args = [0u8; 12];
    if call.caller.read_exact(call.caller.arg(1), &mut args).is_err() {
        return Ok(Verdict::CONTINUE);
    }
    let word = |i: usize| u32::from_ne_bytes([args[i], args[i + 1], args[i + 2], args[i + 3]]);
    with_address(call, op, word(0).cast_signed(), word(4).into(), word(8).cast_signed())
}

fn with_address(
    call: &Call<'_>,
    op: Operation,
    fd: i32,
    address_at: u64,
    len: i32,
) -> Result<Verdict, Errno> {
    let len = usize::try_from(len).unwrap_or(0);
    // What unix_validate_addr() refuses, and names of no file.
    if len <= 2 || len > ADDRESS {
        return Ok(Verdict::CONTINUE);
    }
    let mut address = [0u8; ADDRESS];
    if call.caller.read_exact(address_at, &mut address[..len]).is_err() {
        return Ok(Verdict::CONTINUE);
    }
    let family = i32::from(u16::from_ne_bytes([address[0], address[1]]));
    let name = address[2..len].split(|&b| b == 0).next().unwrap_or_default();
    if family != libc::AF_UNIX || name.is_empty() {
        // Another family, or an abstract name.
        return Ok(Verdict::CONTINUE);
    }
    let job = call.job;
    let mut buf: PathBuffer = [0; 4096];
    if !call.caller.descriptor(fd, &mut buf).is_ok_and(|text| text.starts_with(b"socket:")) {
        // The kernel says what it is instead.
        return Ok(Verdict::CONTINUE);
    }
    let connects = op == Operation::ConnectSocket;
    if !connects {
        return bind(call, op, name, len);
    }
    match resolve(job, call.caller, AT_FDCWD, name, true)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => elsewhere(call, &path, len),
        Found::Missing { .. } => Err(Errno::ENOENT),
        Found::Node(node) => {
            let target = job.target(node)?;
            if op.permission_first(target).is_some()
                && !access::may(job, call.caller, &job.attr(node)?, access::WRITE)
            {
                return Err(Errno::EACCES);
            }
            match decide(op, job.mode(node), target) {
                Outcome::Serve => Err(Errno::ECONNREFUSED),
                Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
            }
        }
    }
}

/// bind makes a name, as mknod does; only that a name that is there already is EADDRINUSE.
fn bind(call: &Call<'_>, op: Operation, name: &[u8], len: usize) -> Result<Verdict, Errno> {
    let job = call.job;
    if let Ok(Found::Kernel(_) | Found::Magic(_)) = resolve(job, call.caller, AT_FDCWD, name, false)
    {
        return Ok(Verdict::CONTINUE);
    }
    let held = held(job, call.caller, AT_FDCWD, name)?;
    let parent = match (&held.holder, held.mount_point(job), held.foreign()) {
        (Holder::Node(parent), ..) => *parent,
        (_, Some(_), _) => return Err(Errno::EADDRINUSE),
        (_, None, Some(path)) => return elsewhere(call, &path, len),
        (_, None, None) => return Ok(Verdict::CONTINUE),
    };
    let (target, node) = match new_name(call, &held, parent, false) {
        Err(Errno::EEXIST) => return Err(Errno::EADDRINUSE),
        other => other?,
    };
    match decide(op, job.mode(parent), target) {
        Outcome::Serve => Err(Errno::EROFS),
        Outcome::Refuse(e) => Err(job.refused(call.row.name, e, job.path(node))),
    }
}

/// The same call with the real path as the address, if that fits where the caller's was.
fn elsewhere(call: &Call<'_>, path: &[u8], len: usize) -> Result<Verdict, Errno> {
    const FAMILY: usize = 2;
    if FAMILY + path.len() > len || call.row.name == "socketcall" {
        call.job.counters.fail(format!(
            "{}: {} is reached through a mount, and does not fit the socket's address; use a \
             shorter path that does not lead through the mount",
            call.row.name,
            String::from_utf8_lossy(path)
        ));
        return Err(Errno::EADDRNOTAVAIL);
    }
    let mut address = vec![0u8; len];
    address[..FAMILY].copy_from_slice(&1u16.to_ne_bytes()); // AF_UNIX
    address[FAMILY..FAMILY + path.len()].copy_from_slice(path);
    Ok(Verdict::Redirect(vec![(1, address)]))
}
