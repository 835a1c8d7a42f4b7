//! bind and connect of Unix sockets whose address is a projected path.

use super::{Call, Verdict};
use crate::access;
use crate::resolve::{AT_FDCWD, Found, resolve};
use vrift_policy::{Errno, Operation, Outcome, Target, decide};

/// Size of `struct sockaddr_un`.
const ADDRESS: usize = 110;

/// bind(fd, addr, len) and connect(fd, addr, len).
pub fn handle(call: &Call<'_>, op: Operation) -> Result<Verdict, Errno> {
    with_address(call, op, call.caller.arg(1), call.caller.int(2))
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
    with_address(call, op, word(4).into(), word(8).cast_signed())
}

fn with_address(
    call: &Call<'_>,
    op: Operation,
    address_at: u64,
    len: i32,
) -> Result<Verdict, Errno> {
    let len = usize::try_from(len).unwrap_or(0).min(ADDRESS);
    if len <= 2 {
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
    let connects = op == Operation::ConnectSocket;
    match resolve(job, call.caller, AT_FDCWD, name, connects)? {
        Found::Kernel(_) | Found::Magic(_) => Ok(Verdict::CONTINUE),
        Found::Foreign(path) => {
            job.counters.fail(format!(
                "{}: {} is reached through a mount, and a socket's address can't be rewritten; \
                 use the path itself",
                call.row.name,
                String::from_utf8_lossy(&path)
            ));
            Err(Errno::EADDRNOTAVAIL)
        }
        Found::Missing { parent, name, .. } => {
            match decide(op, job.mode(parent), Target::Missing) {
                Outcome::Serve => Err(Errno::ENOENT),
                Outcome::Refuse(e) => {
                    let mut path = job.path(parent);
                    path.push(b'/');
                    path.extend_from_slice(&name);
                    Err(job.refused(call.row.name, e, path))
                }
            }
        }
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
