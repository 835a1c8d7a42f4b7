//! The filter that a runtime has loaded: which calls would pass it unseen.
//!
//! A profile may name too little, and a name that the runtime's libseccomp doesn't know is dropped
//! without a word. The filter itself can be read back from a stopped task
//! (`PTRACE_SECCOMP_GET_FILTER`; CAP_SYS_ADMIN, a kernel with CONFIG_CHECKPOINT_RESTORE).

use super::Complaint;
use crate::filter::interpreter::{self, Call};
use crate::filter::{CLONE_NEWUSER, F_SETLEASE};
use crate::held::{Attached, Held, HoldError};
use crate::listener::Listener;
use crate::sys::seccomp::{Instruction, Notif};
use crate::sys::trace::seccomp_filter;
use crate::table::{Arch, Handler, IOCTLS, Row, in_containers};
use nix::errno::Errno;

/// As many filters as a task is thought to have at most.
const MOST: usize = 64;

/// Names of calls, or why they are not known.
type Unseen = Result<Vec<&'static str>, Complaint>;

/// The calls of the supervisor's table that pass the filters of the task behind `notif`. That one
/// is sent back to the start of its call, which comes again, if this is `Ok`; else it still waits.
/// The inner error says why the filters can't be read.
pub fn unseen(listener: &Listener, notif: &Notif) -> Result<Unseen, Complaint> {
    let tid = i32::try_from(notif.pid).map_err(|e| e.to_string())?;
    let why = |e: HoldError| match e {
        HoldError::Refused(reason) => reason,
        HoldError::Gone => "the task is gone".into(),
        HoldError::Ptrace(e) => format!("ptrace: {e}"),
    };
    let pending = listener.take_up(notif);
    let attached = match Attached::if_possible(tid, &pending) {
        Ok(attached) => attached,
        Err(e) => {
            pending.put_aside();
            return Err(why(e));
        }
    };
    let held = Held::stop(attached, Arch::NATIVE, pending).map_err(why)?;
    let filters = all_of(tid);
    // The call is made again, as if a signal had come.
    held.finish(-513).map_err(why)?;
    Ok(filters.map(|filters| pass(&filters)).map_err(|e| format!("PTRACE_SECCOMP_GET_FILTER: {e}")))
}

fn all_of(tid: i32) -> Result<Vec<Vec<Instruction>>, Errno> {
    let mut filters = Vec::new();
    for index in 0..MOST {
        match seccomp_filter(tid, index) {
            Ok(filter) => filters.push(filter),
            Err(Errno::ENOENT) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(filters)
}

/// The names of the calls that go on in the kernel unasked.
fn pass(filters: &[Vec<Instruction>]) -> Vec<&'static str> {
    let of = |arch: Arch| {
        move |row: &&'static Row| {
            let Some(nr) = row.number(arch) else { return false };
            let call = Call { nr, arch: arch.audit(), args: sample(row) };
            passes(filters, &call)
        }
    };
    let compat = cfg!(target_arch = "x86_64");
    in_containers()
        .filter(|row| of(Arch::NATIVE)(row) || compat && of(Arch::I386)(row))
        .map(|row| row.name)
        .collect()
}

/// Arguments with which the call has to be asked about.
fn sample(row: &Row) -> [u64; 6] {
    match row.handler {
        Handler::Ioctl => [0, IOCTLS[0].0.into(), 0, 0, 0, 0],
        Handler::Lease => [0, F_SETLEASE.into(), 0, 0, 0, 0],
        Handler::Unshare => [CLONE_NEWUSER.into(), 0, 0, 0, 0, 0],
        // bind
        Handler::SocketCall => [2, 0, 0, 0, 0, 0],
        _ => [0; 6],
    }
}

/// Of several filters' verdicts the strictest counts: the lowest, as a signed number.
fn passes(filters: &[Vec<Instruction>], call: &Call) -> bool {
    let verdicts = filters.iter().filter_map(|filter| interpreter::run(filter, call));
    let action = |verdict: u32| (verdict & 0xffff_0000).cast_signed();
    let strictest = verdicts.map(|(verdict, _)| action(verdict)).min();
    strictest.is_some_and(|action| {
        [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG].map(u32::cast_signed).contains(&action)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{self, Needs};

    #[test]
    fn the_supervisors_own_filter_lets_nothing_pass_and_an_open_one_all() {
        let needs = Needs {
            mounts: true,
            writable: true,
            record: true,
            probes: true,
            refuse_io_uring: true,
            exec_cookie: 0x5eed_1234,
            ..Needs::default()
        };
        let own = filter::compile(&needs);
        assert_eq!(pass(std::slice::from_ref(&own)), Vec::<&str>::new());
        let open = filter::allow_all();
        let all = pass(std::slice::from_ref(&open));
        assert!(all.contains(&"openat") && all.contains(&"execve"), "{all:?}");
        assert_eq!(pass(&[open, own]), Vec::<&str>::new(), "the stricter of two counts");
    }
}
