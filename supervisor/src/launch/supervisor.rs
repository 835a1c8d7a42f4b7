//! The supervisor process: starts the keeper and the receivers, and waits.

use super::first::{self, Failure, Handed};
use super::keeper::{self, Report};
use super::signals::{self, Came};
use super::{LaunchError, OURS, Plan, leftover};
use crate::fetch;
use crate::filter::{self, Needs};
use crate::job::Job;
use crate::listener::Listener;
use crate::private::Private;
use crate::receiver::Pool;
use crate::sys::process::{self, Forked};
use crate::view;
use crate::writable::{end, ingest};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a job ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The exit status for the user.
    pub status: u8,
    /// From the start of the command to its end.
    pub wall: Duration,
    /// Processes that were still there and were ended.
    pub ended: u32,
}

/// Runs the job; returns the exit status.
pub fn run(
    plan: &Plan,
    mut job: Job,
    closing: impl FnOnce(&Job, &Outcome),
) -> Result<u8, LaunchError> {
    // Only for the case that the keeper is killed: then its wards come to us.
    process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
        .map_err(LaunchError::os("prctl(PR_SET_CHILD_SUBREAPER)"))?;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(LaunchError::os("socketpair"))?;
    let fetching = fetch::start(&job, plan.fetch_limit).map_err(LaunchError::Fetcher)?;
    let mask = signals::block().map_err(LaunchError::os("sigprocmask"))?;
    let supervisor = std::process::id();
    let fetcher = fetching.as_ref().map_or(supervisor, fetch::Started::process);
    let started = Instant::now();
    let keeper = match process::fork_single_threaded().map_err(LaunchError::os("fork"))? {
        Forked::Child => {
            // Who fetches is told of the supervisor's end by that of its pipe.
            drop((ours, fetching));
            keeper::run(plan, &mask, &theirs, (supervisor, fetcher), job.private.as_ref());
        }
        Forked::Parent(child) => child.as_raw(),
    };
    drop(theirs);
    job.own_pids = [supervisor, keeper.unsigned_abs(), fetcher];
    let listening = fetching.map(fetch::Started::listen).transpose();
    let listening = listening.map_err(|e| LaunchError::Fetcher(format!("no thread for it: {e}")));
    let (job, supervised) = match listening {
        Ok(fetcher) => {
            let job = Arc::new(Job { fetcher, ..job });
            let supervised = supervise(plan, &job, &ours);
            (job, supervised)
        }
        Err(e) => (Arc::new(job), Err(e)),
    };
    let (report, failure) = match supervised {
        Ok(_pool) => {
            wait_for(keeper);
            last_words(&ours)
        }
        Err(e) => {
            let _ = process::kill(keeper, libc::SIGKILL);
            leftover::end_all(|_, _| {});
            return Err(e);
        }
    };
    // If the keeper was killed, its wards are ours now. Who fetches is wanted by nobody any more.
    job.private.iter().for_each(Private::make_room);
    leftover::end_all(|_, _| {});
    // The receivers still hold the job, so nothing of it is dropped.
    let tidy = || job.private.iter().for_each(Private::tidy);
    let Some(report) = report else {
        tidy();
        return Err(LaunchError::KeeperGone);
    };
    let mut outcome = Outcome {
        status: exit_status(report.status),
        wall: started.elapsed(),
        ended: report.ended,
    };
    if let Some(failure) = failure {
        outcome.status = failure.report(&plan.command);
    }
    let (told, failed) = end::finish(&job);
    for line in told.iter().chain(&failed) {
        eprintln!("vrift-trace: {line}");
    }
    if !failed.is_empty() {
        outcome.status = OURS;
    }
    closing(&job, &outcome);
    tidy();
    Ok(outcome.status)
}

/// Takes the listener over and starts the receivers.
fn supervise(plan: &Plan, job: &Arc<Job>, from: &OwnedFd) -> Result<Arc<Pool>, LaunchError> {
    let received = loop {
        match first::receive(from, plan) {
            Ok(Handed::Device(mount, device)) => view::serve(job, mount, device)
                .map_err(|e| LaunchError::View(format!("no thread to serve it: {e}")))?,
            Ok(Handed::Listener(listener, killable)) => break Ok((listener, killable)),
            Err(e) => break Err(e),
        }
    };
    // From here on the job's tasks may not look into this process.
    process::prctl(libc::PR_SET_DUMPABLE, 0).map_err(LaunchError::os("prctl(PR_SET_DUMPABLE)"))?;
    raise_descriptor_limit();
    let (listener, wait_killable) = received?;
    let listener = Listener::new(listener, wait_killable, !plan.without.sync_wake_up);
    if let Some(recorder) = &job.recorder {
        recorder.start().map_err(|e| LaunchError::Trace(e.to_string()))?;
    }
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tracing::debug!("{:?}, {count} receivers", listener.features);
    if let Err(e) = ingest::start(job) {
        // What it would have done is done at the end.
        tracing::warn!("changed files are stored at the job's end only: {e}");
    }
    let passes = plan
        .needs
        .syscalls
        .then(|| filter::compile(&Needs { syscalls: false, own_pids: job.own_pids, ..plan.needs }));
    Pool::start(Arc::clone(job), listener, count, None, passes)
        .map_err(|e| LaunchError::Filter(format!("no thread for a receiver: {e}")))
}

/// The descriptors of blobs pass through this process: it may need many at once.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!("RLIMIT_NOFILE stays at {soft}: {e}");
    }
}

/// Waits for the keeper and passes signals on.
fn wait_for(keeper: i32) {
    loop {
        while let Some((pid, _)) = process::reap() {
            if pid == keeper {
                return;
            }
        }
        if let Came::PassOn(signal) = signals::wait() {
            let _ = process::kill(keeper, signal);
        }
    }
}

/// What keeper and first process said before they ended.
fn last_words(from: &OwnedFd) -> (Option<Report>, Option<Failure>) {
    let (mut report, mut failure) = (None, None);
    let mut message = [0u8; 16];
    while let Ok(n @ 1..) = recv(from.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
        if let Some(r) = Report::parse(&message[..n]) {
            report = Some(r);
        } else if let Some(f) = Failure::parse(&message[..n]) {
            failure = Some(f);
        }
    }
    (report, failure)
}

fn exit_status(status: i32) -> u8 {
    let number = if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    };
    u8::try_from(number).unwrap_or(OURS)
}
