//! The supervisor of one container: a process of its own, from the hand-over to the last task's
//! end.

use super::container::Container;
use super::enter::{Entered, Luggage};
use super::numbers::Numbers;
use super::pinned::Pinned;
use super::{Charge, Complaint, Settings, complain, loaded, tell};
use crate::cli::furnish::{Ground, furnish};
use crate::cli::{run, stores};
use crate::job::Job;
use crate::listener::{Listener, Received};
use crate::private::Private;
use crate::receiver::Pool;
use crate::status::Status;
use crate::sys::seccomp::{self, Notif};
use crate::sys::{caught, process};
use crate::twin::Twins;
use crate::users;
use crate::writable::{end, ingest};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vrift_policy::View;

/// How long a poll lasts at most: a signal is noted, and ends none.
const LOOK: Duration = Duration::from_millis(200);

/// Why a container is not supervised any more.
enum End {
    /// Its last task is gone.
    Over,
    /// The agent is gone, or this process was told to end.
    Alone,
}

/// Runs in the process forked for it; returns its exit status: 0 unless the agent has to end the
/// container.
pub fn run(charge: Charge, settings: &Settings) -> u8 {
    // Terminal keys are the agent's.
    let _ = nix::unistd::setsid();
    let id = charge.handover.id.clone();
    match supervise(charge, settings) {
        Ok(()) => 0,
        Err(reason) => {
            complain(&id, &reason);
            1
        }
    }
}

/// Errors: why the container can't be supervised; it has been ended if it was known.
fn supervise(charge: Charge, settings: &Settings) -> Result<(), Complaint> {
    crate::launch::raise_descriptor_limit();
    let Charge { handover, link, trace } = charge;
    let id = handover.id;
    let metadata = handover.metadata;
    let outside = handover.listener.try_clone().map_err(|e| format!("dup: {e}"))?;
    let listener = Listener::new(handover.listener, false, true);
    let Some(mut notif) = first_call(&listener, &outside, &link, settings)? else {
        tell(settings, &id, "it ended before its first call");
        return Ok(());
    };
    let first = leader(&notif)?;
    let pinned = Pinned::of(first).map_err(|e| format!("its first process {first}: {e}"))?;
    send(link.as_raw_fd(), &first.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL)
        .map_err(|e| format!("the agent: {e}"))?;
    let ended = |reason: Complaint| {
        pinned.end();
        format!("{reason}; the container was ended")
    };
    match loaded::unseen(&listener, &notif) {
        Ok(seen) => {
            if let (Err(reason), true) = (&seen, settings.strict) {
                return Err(ended(unread(reason)));
            }
            let unseen = seen.unwrap_or_default();
            if !unseen.is_empty() {
                let told = format!(
                    "its filter does not ask about {}: what they do is neither seen nor projected; \
                     make its profile with `vrift-trace profile notify`",
                    unseen.join(" ")
                );
                if settings.strict {
                    return Err(ended(told));
                }
                complain(&id, &told);
            }
            match first_call(&listener, &outside, &link, settings)? {
                Some(again) => notif = again,
                None => return Ok(()),
            }
        }
        Err(reason) if settings.strict => {
            return Err(ended(unread(&reason)));
        }
        Err(reason) => tracing::debug!("{id}: its filter is not looked at: {reason}"),
    }
    let trace = trace.as_deref();
    let (job, entered) = prepare((&id, &metadata), first, trace, settings).map_err(ended)?;
    let job = Arc::new(job);
    if let Some(recorder) = &job.recorder {
        recorder.start().map_err(|e| ended(format!("no thread for the trace: {e}")))?;
    }
    if let Err(e) = ingest::start(&job) {
        tracing::warn!("changed files are stored at the container's end only: {e}");
    }
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pool = Pool::start(Arc::clone(&job), listener, count, Some(notif), None)
        .map_err(|e| ended(format!("no thread for a receiver: {e}")))?;
    let traced = trace.map_or(String::new(), |path| format!(", traced to {}", path.display()));
    tell(settings, &id, &format!("supervised{traced}"));
    if let End::Alone = wait(&outside, &link, settings) {
        complain(&id, "the agent is gone; the container is ended");
        pinned.end();
        let _ = wait(&outside, &outside, settings);
        if !job.ends.mounts.is_empty() {
            complain(&id, "what it changed in mounts is thrown away");
        }
    } else {
        conclude(&id, &job, settings);
    }
    finish(&id, &job);
    entered.let_go();
    job.private.iter().for_each(Private::tidy);
    entered.leave();
    drop(pool);
    tell(settings, &id, "ended");
    Ok(())
}

fn unread(reason: &str) -> Complaint {
    format!("its filter can't be read back ({reason}), and --strict asks for that")
}

/// Waits for the first call; None: there will be none.
fn first_call(
    listener: &Listener,
    outside: &OwnedFd,
    link: &OwnedFd,
    settings: &Settings,
) -> Result<Option<Notif>, Complaint> {
    let mut notif = seccomp::empty_notification();
    loop {
        let events = PollFlags::POLLIN;
        match look(outside.as_fd(), events, link.as_fd(), settings)? {
            Some(Seen::Call) => {}
            Some(Seen::End) => return Ok(None),
            Some(Seen::Alone) => {
                super::end_of_listener(outside);
                return Ok(None);
            }
            None => continue,
        }
        match listener.receive(&mut notif) {
            Ok(Received::Call(pending)) => {
                // It is taken up again by the receivers.
                pending.put_aside();
                return Ok(Some(notif));
            }
            Ok(Received::Nothing) => {}
            Ok(Received::End) => return Ok(None),
            Err(e) => return Err(format!("receiving its first call: {e}")),
        }
    }
}

enum Seen {
    Call,
    End,
    Alone,
}

fn look(
    listener: BorrowedFd<'_>,
    events: PollFlags,
    link: BorrowedFd<'_>,
    settings: &Settings,
) -> Result<Option<Seen>, Complaint> {
    let mut fds = [PollFd::new(listener, events), PollFd::new(link, PollFlags::empty())];
    let count = if settings.outlive { 1 } else { 2 };
    let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds[..count], timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(format!("poll: {e}")),
    }
    let has = |fd: &PollFd<'_>, flag| fd.revents().is_some_and(|events| events.contains(flag));
    Ok(if has(&fds[0], PollFlags::POLLHUP) {
        Some(Seen::End)
    } else if (count == 2 && has(&fds[1], PollFlags::POLLHUP)) || caught::caught().is_some() {
        Some(Seen::Alone)
    } else {
        has(&fds[0], PollFlags::POLLIN).then_some(Seen::Call)
    })
}

/// Waits for the container's end.
fn wait(outside: &OwnedFd, link: &OwnedFd, settings: &Settings) -> End {
    loop {
        match look(outside.as_fd(), PollFlags::empty(), link.as_fd(), settings) {
            Ok(Some(Seen::End)) => return End::Over,
            Ok(Some(Seen::Alone)) | Err(_) => return End::Alone,
            Ok(Some(Seen::Call) | None) => {}
        }
    }
}

/// The process that a notification's task belongs to.
fn leader(notif: &Notif) -> Result<i32, Complaint> {
    let tid = i32::try_from(notif.pid).unwrap_or(0);
    if tid == 0 {
        return Err(
            "its processes have no number here: the agent has to run in the machine's pid \
                    namespace, or in one above the container's"
                .into(),
        );
    }
    let leader = Status::of(tid).and_then(|status| status.number("Tgid:"));
    leader.ok_or_else(|| format!("its first task {tid} is gone"))
}

/// Enters the container and makes the job.
fn prepare(
    (id, metadata): (&str, &str),
    first: i32,
    trace: Option<&Path>,
    settings: &Settings,
) -> Result<(Job, Entered), Complaint> {
    let numbers = Numbers::of(first).map_err(|e| format!("/proc/{first}/ns/pid: {e}"))?;
    let parent = Status::of(first).and_then(|status| status.number("PPid:")).unwrap_or(0);
    let owner = users::root_of(first).unwrap_or((0, 0));
    // Made out there, to be filled from in there.
    let trace = trace.map(|path| {
        let file = File::options().write(true).open(path);
        file.map_err(|e| format!("trace {}: {e}", path.display()))
    });
    let trace = trace.transpose()?;
    let outside = match &settings.store {
        Some(store) => Some((store, private_tree(store)?)),
        None => None,
    };
    let luggage = outside.as_ref().map(|(store, private)| Luggage::of(store, private.root()));
    let luggage = luggage.transpose()?;
    let entered = Entered::container_of(first, luggage.as_ref())?;
    let made = (|| {
        let (store, private, twins) = match (&entered.place, outside) {
            (Some(place), Some((outside, private))) => {
                let store = place.join("store");
                let rest = private.root().strip_prefix(outside).map_err(|e| e.to_string())?;
                let home = store.join(rest);
                let private = private.moved(place.join("job"), place.clone(), home);
                let private = private.map_err(|e| format!("the job's directory: {e}"))?;
                let twins = Twins::new(private.root().join("x"));
                (Some(stores::view(&store)?), Some(private), twins)
            }
            _ => (None, None, Twins::default()),
        };
        let ground = Ground { store, private, twins, owner, quiet: settings.quiet };
        let mut job = furnish(ground, &settings.mounts)?;
        job.rules = run::rules(&settings.policy, &settings.mounts)?;
        job.own_pids = [std::process::id(), parent, parent];
        job.container = Some(Container::new(first, numbers));
        if let Some(trace) = &trace {
            let path = PathBuf::from(format!("/proc/self/fd/{}", trace.as_raw_fd()));
            let pairs = metadata.split(',').filter(|pair| !pair.is_empty());
            let command = ["container", id].into_iter().chain(pairs);
            let command: Vec<OsString> = command.map(OsString::from).collect();
            let recorder =
                run::recorder(&path, &command, &settings.policy, &job, &settings.mounts, false);
            job.recorder = Some(Arc::new(recorder?));
        }
        Ok(job)
    })();
    match made {
        Ok(job) => Ok((job, entered)),
        Err(reason) => {
            entered.leave();
            Err(reason)
        }
    }
}

/// The job's own directories. They are in the store, which is all that is taken along.
fn private_tree(store: &Path) -> Result<Private, Complaint> {
    Private::create(&[store.join("jobs")])
        .map_err(|e| format!("no place for the job's own directories: {e}"))
}

/// Keeps or commits what a container that came to its end has changed.
fn conclude(id: &str, job: &Job, settings: &Settings) {
    job.private.iter().for_each(Private::make_room);
    let (told, failed) = end::finish(job);
    for line in &told {
        tell(settings, &id, line);
    }
    for line in &failed {
        complain(&id, line);
    }
}

/// Tells what failed, and ends the trace.
fn finish(id: &str, job: &Job) {
    job.private.iter().for_each(Private::make_room);
    for line in job.counters.failures_told() {
        complain(&id, &line);
    }
    if let Some(recorder) = &job.recorder {
        let ms = u64::try_from(process::processor_time().as_millis()).unwrap_or(u64::MAX);
        recorder.finish(0, 0, ms);
    }
}

/// What a policy asks for that can't be had in a container.
pub fn unsupported(settings: &Settings) -> Option<Complaint> {
    if settings.policy.job.view == Some(View::Mount) {
        return Some(
            "[job] view = \"mount\": into a container nothing is mounted; leave the key out".into(),
        );
    }
    let upper = settings.mounts.iter().find(|mount| mount.upper.is_some());
    if let Some(mount) = upper {
        return Some(format!(
            "mount at {}: an upper directory of its own can't be reached from a container; use \
             on_exit = \"keep\" or \"commit:REF\"",
            mount.at.display()
        ));
    }
    if let Some(rule) = settings.policy.rules.iter().find(|rule| rule.enforce.is_some()) {
        return Some(format!(
            "{}: enforce: a container's processes can't be put behind Landlock from outside; leave \
             it out",
            rule.origin
        ));
    }
    let mut patterns = settings.policy.rules.iter().flat_map(|rule| &rule.paths);
    let relative = patterns.find(|path| !path.pattern.starts_with('/'));
    relative.map(|path| {
        format!(
            "{}: {}: a container has neither home nor directory of the agent's; give an absolute \
             path",
            path.origin, path.pattern
        )
    })
}
