//! What a call asks of which paths, as a trace tells it.

use super::{Call, socket};
use crate::table::{At, Handler, OpenForm};
use crate::trace::current::{Asked, Want};
use crate::trace::event::Kind;
use vrift_policy::{Operation, RenameFlags};

/// The name in the address of a Unix socket; an address of another family has none.
fn address(op: Operation, at: u64) -> Asked {
    let (follow, want) = match op {
        Operation::BindSocket => (false, Want::Make(Kind::Other)),
        _ => (true, Want::Connect),
    };
    Asked::by_address(socket::name_at(at), follow, want)
}

/// The paths of a call and what it wants with them: none for calls that the trace leaves out (those
/// that only ask about a descriptor, or are about processes), at most two.
pub fn asked(call: &Call<'_>) -> Vec<Asked> {
    use Handler as H;
    let caller = call.caller;
    let one = |at: At, follow: bool, want: Want| vec![Asked::new(call.caller, at, follow, want)];
    match call.row.handler {
        H::Open(form) => {
            let (at, flags) = match form {
                OpenForm::Open => (At { dirfd: None, path: 0 }, caller.int(1)),
                OpenForm::Creat => {
                    (At { dirfd: None, path: 0 }, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC)
                }
                OpenForm::OpenAt => (At { dirfd: Some(0), path: 1 }, caller.int(2)),
                OpenForm::OpenAt2 => {
                    // `struct open_how` begins with the flags, of which all have 32 bits.
                    let mut flags = [0u8; 4];
                    let low = if cfg!(target_endian = "little") { 0 } else { 4 };
                    let _ = caller.read_exact(caller.arg(2).wrapping_add(low), &mut flags);
                    (At { dirfd: Some(0), path: 1 }, i32::from_ne_bytes(flags))
                }
            };
            let exclusive = libc::O_CREAT | libc::O_EXCL;
            let follow = flags & libc::O_NOFOLLOW == 0 && flags & exclusive != exclusive;
            one(at, follow, Want::Open(flags))
        }
        H::Stat { at, follow, .. } | H::Lacking { at, follow, .. } => {
            one(at, call.follows(follow), Want::Stat)
        }
        H::Access { at, flags } => {
            let flags = flags.map_or(0, |i| caller.int(i));
            let follow = flags & super::AT_SYMLINK_NOFOLLOW == 0;
            one(at, follow, Want::Access(caller.int(at.path + 1)))
        }
        H::ReadLink(at) => one(at, false, Want::ReadLink),
        H::StatFs { .. } => one(At { dirfd: None, path: 0 }, true, Want::Stat),
        H::GetXattr(follow) | H::ListXattr(follow) => {
            one(At { dirfd: None, path: 0 }, call.follows(follow), Want::Stat)
        }
        H::GetXattrAt | H::ListXattrAt => {
            let follow = caller.int(2) & super::AT_SYMLINK_NOFOLLOW == 0;
            one(At { dirfd: Some(0), path: 1 }, follow, Want::Stat)
        }
        H::Watch => one(At { dirfd: None, path: 1 }, true, Want::Stat),
        H::ChDir => one(At { dirfd: None, path: 0 }, true, Want::Enter),
        H::ExecVe => one(At { dirfd: None, path: 0 }, true, Want::Exec),
        H::ExecVeAt => {
            let follow = caller.int(4) & super::AT_SYMLINK_NOFOLLOW == 0;
            one(At { dirfd: Some(0), path: 1 }, follow, Want::Exec)
        }
        H::Make { at, op } => {
            let kind = match op {
                Operation::MakeDirectory => Kind::Dir,
                Operation::MakeSymlink => Kind::Link,
                _ => Kind::Other,
            };
            one(at, false, Want::Make(kind))
        }
        H::Remove { at, op, flags } => {
            let by_flag = flags.is_some_and(|i| caller.int(i) & libc::AT_REMOVEDIR != 0);
            one(at, false, Want::Remove(by_flag || op == Operation::RemoveDirectory))
        }
        H::Rename { old, new, flags } => {
            let flags = RenameFlags::from_raw(flags.map_or(0, |i| caller.int(i).cast_unsigned()));
            let (from, to) = if flags.has(RenameFlags::EXCHANGE) {
                (Want::Exchange, Want::Exchange)
            } else {
                (Want::MoveFrom, Want::MoveTo(!flags.has(RenameFlags::NO_REPLACE)))
            };
            vec![Asked::new(caller, old, false, from), Asked::new(caller, new, false, to)]
        }
        H::Link { old, new, flags } => {
            let follow = flags.is_some_and(|i| caller.int(i) & super::AT_SYMLINK_FOLLOW != 0);
            vec![
                Asked::new(caller, old, follow, Want::LinkFrom),
                Asked::new(caller, new, false, Want::MoveTo(false)),
            ]
        }
        H::Change { at, follow, .. } => one(at, call.follows(follow), Want::Change),
        H::FdChange(_) | H::Ioctl => vec![Asked::by_descriptor(0, Want::Change)],
        H::Flock | H::Lease => vec![Asked::by_descriptor(0, Want::Lock)],
        H::Socket(op) => vec![address(op, caller.arg(1))],
        H::SocketCall => match socket::unpacked(call) {
            Some((op, _, at, _)) => vec![address(op, at)],
            None => Vec::new(),
        },
        H::Deny(_, path) if path < 6 => one(At { dirfd: None, path }, false, Want::Change),
        _ => Vec::new(),
    }
}
