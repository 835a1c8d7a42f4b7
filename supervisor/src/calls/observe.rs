//! Calls of a job without mounts, or whose mounts the kernel has: they go on there whatever is found
//! here, which only the trace is told.

use super::asked::asked;
use super::make::note_link;
use super::{Call, chain, rename, socket};
use crate::caller::Caller;
use crate::resolve::{AT_FDCWD, Found, resolve};
use crate::table::Handler;
use crate::trace::Recorder;
use std::sync::atomic::Ordering::Relaxed;
use vrift_policy::Operation;

/// Resolves what the call names, for the draft of this thread.
pub fn observe(call: &Call<'_>, recorder: &Recorder) {
    // What can't be read of a task is missing in the trace, and no failure: the job sees none.
    let caller = Caller { counters: recorder.unseen(), ..*call.caller };
    let call = &Call { job: call.job, caller: &caller, row: call.row, pool: call.pool };
    let look_up = matches!(
        call.row.handler,
        Handler::Open(_) | Handler::Stat { .. } | Handler::Access { .. } | Handler::ReadLink(_)
    );
    call.job.counters.look_ups.fetch_add(u64::from(look_up), Relaxed);
    match call.row.handler {
        Handler::ExecVe => drop(chain::plan(call, false)),
        Handler::ExecVeAt => drop(chain::plan(call, true)),
        Handler::Make { at, op: Operation::MakeSymlink } => {
            if let Ok(Found::Kernel(place)) = call.find(at, false) {
                note_link(call, at, &place);
            }
        }
        Handler::Rename { old, new, .. } => {
            let found = (call.find(old, false), call.find(new, false));
            if let (Ok(Found::Kernel(from)), Ok(Found::Kernel(to))) = &found {
                rename::notice(call, (old, from), (new, to));
            }
        }
        Handler::Link { old, new, .. } => {
            let found = (call.find(old, false), call.find(new, false));
            if let (_, Ok(Found::Kernel(place))) = &found {
                note_link(call, new, place);
            }
        }
        Handler::FdChange(_) | Handler::Flock | Handler::Lease => {}
        Handler::Socket(op) => {
            let mut address = [0u8; socket::ADDRESS];
            let (at, len) = (caller.arg(1), caller.int(2));
            if let Some(name) = socket::file_name(call, at, len, &mut address) {
                let follow = op == Operation::ConnectSocket;
                drop(resolve(call.job, call.caller, AT_FDCWD, name, follow));
            }
        }
        _ => {
            for asked in asked(call) {
                drop(call.find(asked.at, asked.follow));
            }
        }
    }
}
