//! Starting a job and seeing it to its end.
//!
//! Three processes: the supervisor (the one that the user started), the keeper, and the job's
//! first process, each the parent of the next. The supervisor is an ancestor of every task of the
//! job, as ptrace under Yama asks, but not a parent: a parent that is also the tracer can't tell
//! its children's states from its tracees' stops (wait_consider_task() of kernel/exit.c). The
//! keeper is the parent, and adopts what others leave behind; whichever of the two is killed, the
//! other ends the job and cleans up.
//!
//! Where a job's mounts are mounted for it ([`view`](crate::view)), its first process does that before
//! it loads the filter.
//!
//! Where trees were pulled without their blobs there is a fourth, a child of the supervisor's that
//! fetches them ([`fetch`](crate::fetch)).

mod first;
mod keeper;
mod leftover;
mod signals;
mod supervisor;

pub use supervisor::{Outcome, raise_descriptor_limit};

use crate::features::Without;
use crate::filter::Needs;
use crate::job::Job;
use crate::sys::{process, seccomp};
use crate::view::Mounting;
use crate::walls::Walls;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use vrift_policy::OnLeftover;

/// The exit status for failures of vrift-trace's own.
const OURS: u8 = crate::cli::OURS;

/// What is to be run and how.
pub struct Plan {
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
    /// What the filter asks for.
    pub needs: Needs,
    /// Kernel features that are not used.
    pub without: Without,
    /// Set `no_new_privs`; without it the supervisor needs CAP_SYS_ADMIN.
    pub no_new_privs: bool,
    /// What becomes of processes that outlive the command.
    pub on_leftover: OnLeftover,
    /// The current directory lies in a mount: enter it anew once the job is supervised.
    pub enter: Option<PathBuf>,
    /// How long fetching one blob may take.
    pub fetch_limit: Duration,
    /// What is mounted for the job; None: the supervisor answers for its mounts.
    pub mounting: Option<Mounting>,
    /// What Landlock keeps the job from.
    pub walls: Option<Walls>,
}

/// Why there can't be a job inside a job.
pub const NESTED: &str = "a supervisor with a listener is at work here already (EBUSY)";

/// Does this process run under a seccomp listener? Tried in a child, as a filter stays for ever.
pub fn is_nested() -> bool {
    let Ok(forked) = process::fork_single_threaded() else { return false };
    match forked {
        process::Forked::Child => {
            let _ = process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1);
            let busy = seccomp::load_with_listener(&crate::filter::allow_all(), 0)
                .is_err_and(|e| e == nix::errno::Errno::EBUSY);
            process::exit_now(u8::from(busy));
        }
        process::Forked::Parent(child) => {
            matches!(
                nix::sys::wait::waitpid(child, None),
                Ok(nix::sys::wait::WaitStatus::Exited(_, 1))
            )
        }
    }
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
    /// The job's mounts can't be mounted.
    #[error("--view mount: {0}")]
    View(String),
    /// A trace was asked for, and its threads can't be started.
    #[error("no thread for the trace: {0}")]
    Trace(String),
    /// There are contents to fetch, and nobody to do so.
    #[error("{0}")]
    Fetcher(String),
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
