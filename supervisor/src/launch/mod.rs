//! Starting a job and seeing it to its end.
//!
//! Three processes: the supervisor (the one that the user started), the keeper, and the job's
//! first process, each the parent of the next. The supervisor is an ancestor of every task of the
//! job, as ptrace under Yama asks, but not a parent: a parent that is also the tracer can't tell
//! its children's states from its tracees' stops (wait_consider_task() of kernel/exit.c). The
//! keeper is the parent, and adopts what others leave behind; whichever of the two is killed, the
//! other ends the job and cleans up.

mod first;
mod keeper;
mod leftover;
mod signals;
mod supervisor;

pub use supervisor::Outcome;

use crate::filter::Needs;
use crate::job::Job;
use std::ffi::OsString;
use std::path::PathBuf;
use vrift_policy::OnLeftover;

/// The exit status for failures of vrift-trace's own.
const OURS: u8 = crate::cli::OURS;

/// What is to be run and how.
pub struct Plan {
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
    /// What the filter asks for.
    pub needs: Needs,
    /// Set `no_new_privs`; without it the supervisor needs CAP_SYS_ADMIN.
    pub no_new_privs: bool,
    /// What becomes of processes that outlive the command.
    pub on_leftover: OnLeftover,
    /// The current directory lies in a mount: enter it anew once the job is supervised.
    pub enter: Option<PathBuf>,
}

/// Why a job could not be started or seen to its end.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A system call of ours failed.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: nix::errno::Errno,
    },
    /// The filter could not be loaded.
    #[error("can't load the seccomp filter: {0}")]
    Filter(String),
    /// The keeper was killed.
    #[error("the process that keeps the job together was killed; the job was ended with it")]
    KeeperGone,
}

impl LaunchError {
    fn os(what: &'static str) -> impl FnOnce(nix::errno::Errno) -> LaunchError {
        move |source| LaunchError::Os { what, source }
    }
}

/// Runs the job; `closing` is called when it has ended, for the summary. Returns the exit status
/// of vrift-trace.
pub fn run(plan: &Plan, job: Job, closing: impl FnOnce(&Job, &Outcome)) -> Result<u8, LaunchError> {
    supervisor::run(plan, job, closing)
}
