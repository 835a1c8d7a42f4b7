//! The receivers: one thread for each CPU, each answers where it receives.
//!
//! A handler that has to wait for the task itself (a rewritten call) says so, and another thread
//! takes its place as receiver meanwhile, so that there is always one. Where a handler has to wait
//! and can't know it (memory whose pages a slow file system provides, a file on it), the watch
//! notices that nobody receives, and starts another receiver.

use crate::caller::Caller;
use crate::calls::{self, Call};
use crate::filter::interpreter;
use crate::job::Job;
use crate::listener::{Answer, Listener, Pending, Received};
use crate::sys::seccomp::{Instruction, Notif};
use crate::table::{Arch, Dispatch, Handler};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The most threads; beyond, a waiting handler keeps its place.
const MOST: usize = 2048;
/// How often it is looked whether a call is left lying.
const LOOK: Duration = Duration::from_millis(250);

/// What a receiver makes for a task has the mode that the task's umask leaves: its own must not
/// take anything away, and threads share theirs.
pub fn own_umask() -> nix::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    Ok(())
}

/// The receivers of one job.
pub struct Pool {
    job: Arc<Job>,
    listener: Listener,
    native: Dispatch,
    compat: Dispatch,
    /// Where every call is recorded, the filter that there would be without: what it lets pass was
    /// handed over for that alone.
    passes: Option<Vec<Instruction>>,
    /// Threads that receive, or will when they have answered.
    free: AtomicUsize,
    threads: AtomicUsize,
}

impl Pool {
    /// Starts `count` receivers. One of them answers `first`, which has been received already.
    pub fn start(
        job: Arc<Job>,
        listener: Listener,
        count: usize,
        first: Option<Notif>,
        passes: Option<Vec<Instruction>>,
    ) -> std::io::Result<Arc<Pool>> {
        let pool = Arc::new(Pool {
            job,
            listener,
            native: Dispatch::new(Arch::NATIVE),
            compat: Dispatch::new(Arch::I386),
            passes,
            free: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
        });
        pool.spawn(first)?;
        for _ in 1..count {
            pool.spawn(None)?;
        }
        let watched = Arc::clone(&pool);
        std::thread::Builder::new()
            .name("watch".into())
            .stack_size(64 * 1024)
            .spawn(move || watched.watch())?;
        Ok(pool)
    }

    fn spawn(self: &Arc<Self>, first: Option<Notif>) -> std::io::Result<()> {
        let pool = Arc::clone(self);
        self.free.fetch_add(1, Ordering::SeqCst);
        self.threads.fetch_add(1, Ordering::SeqCst);
        let started = std::thread::Builder::new()
            .name("receiver".into())
            .stack_size(512 * 1024)
            .spawn(move || {
                if let Err(e) = own_umask() {
                    tracing::error!("a umask of its own for a receiver: {e}");
                }
                if let Some(notif) = first {
                    pool.answer(&notif, pool.listener.take_up(&notif));
                }
                pool.receive();
            });
        if started.is_err() {
            self.free.fetch_sub(1, Ordering::SeqCst);
            self.threads.fetch_sub(1, Ordering::SeqCst);
        }
        started.map(drop)
    }

    /// Starts another receiver whenever a call was there at two looks and none was received
    /// between them: all receivers wait for something then. Where that goes on, twice as many.
    fn watch(self: Arc<Self>) {
        let (mut seen, mut more) = (None, 1);
        loop {
            std::thread::sleep(LOOK);
            let received = self.job.counters.notifications.load(Ordering::Relaxed);
            match self.listener.look() {
                Received::End => return,
                Received::Nothing => (seen, more) = (None, 1),
                Received::Call(()) if seen != Some(received) => seen = Some(received),
                Received::Call(()) => {
                    tracing::debug!("every receiver waits: {more} more");
                    for _ in 0..more {
                        if self.threads.load(Ordering::SeqCst) < MOST
                            && let Err(e) = self.spawn(None)
                        {
                            tracing::warn!("no thread for another receiver: {e}");
                        }
                    }
                    more *= 2;
                }
            }
        }
    }

    /// Does `work`, which waits for a task, while another thread receives.
    pub fn while_waiting<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let others = self.free.fetch_sub(1, Ordering::SeqCst) - 1;
        if others == 0
            && self.threads.load(Ordering::SeqCst) < MOST
            && let Err(e) = self.spawn(None)
        {
            tracing::warn!("no thread for another receiver: {e}");
        }
        let result = work();
        self.free.fetch_add(1, Ordering::SeqCst);
        result
    }

    fn receive(self: Arc<Self>) {
        let mut notif: Notif = crate::sys::seccomp::empty_notification();
        loop {
            match self.listener.receive(&mut notif) {
                Ok(Received::Call(pending)) => self.answer(&notif, pending),
                Ok(Received::Nothing) => {}
                Ok(Received::End) => return,
                Err(e) => {
                    tracing::error!("receiving notifications: {e}");
                    return;
                }
            }
        }
    }

    fn answer(self: &Arc<Self>, notif: &Notif, pending: Pending<'_>) {
        let arch = if notif.data.arch == Arch::NATIVE.audit() { Arch::NATIVE } else { Arch::I386 };
        let tid = i32::try_from(notif.pid).unwrap_or(0);
        let table = if arch == Arch::NATIVE { &self.native } else { &self.compat };
        let row = table.row(notif.data.nr);
        if let Some(container) = &self.job.container
            && container.is_runtimes(tid, row.map(|row| row.handler))
        {
            return pending.answer(&Answer::Continue);
        }
        if self.job.counters.task(tid) {
            self.count_process(tid);
            self.job.users.see(self.job.proc(), tid);
        }
        if let (Some(passes), Some(recorder)) = (&self.passes, &self.job.recorder) {
            let data = &notif.data;
            let nr = u32::try_from(data.nr).unwrap_or(u32::MAX);
            let is_exec =
                row.is_some_and(|row| matches!(row.handler, Handler::ExecVe | Handler::ExecVeAt));
            recorder.call(&self.job, tid, (arch, nr), is_exec, &data.args);
            let call = interpreter::Call { nr, arch: data.arch, args: data.args };
            let verdict = interpreter::run(passes, &call);
            if verdict.is_some_and(|(verdict, _)| verdict == libc::SECCOMP_RET_ALLOW) {
                return pending.answer(&Answer::Continue);
            }
        }
        let Some(row) = row else {
            self.job.counters.unknown(arch, notif.data.nr);
            return pending.answer(&Answer::Continue);
        };
        let (blocked, called_away) = (std::cell::Cell::new(false), std::cell::Cell::new(false));
        let late = std::cell::RefCell::default();
        let caller = Caller {
            listener: &self.listener,
            counters: &self.job.counters,
            id: pending.id(),
            proc: self.job.proc(),
            tid,
            nr: notif.data.nr,
            arch,
            args: notif.data.args,
            called_away: &called_away,
            blocked: &blocked,
            late: &late,
        };
        let call = Call { job: &self.job, caller: &caller, row, pool: self };
        // A handler that panics has dropped `pending`, which answers EIO.
        let run = std::panic::AssertUnwindSafe(|| calls::dispatch(&call, pending));
        if std::panic::catch_unwind(run).is_err() {
            self.job
                .counters
                .fail(format!("{}: a defect of vrift-trace's; please report it", row.name));
        }
    }

    /// A task that was not seen before is a process if it leads its thread group.
    fn count_process(&self, tid: i32) {
        if crate::sys::trace::signal_thread(tid, tid, 0).is_ok() {
            self.job.counters.processes.fetch_add(1, Ordering::Relaxed);
        }
    }
}
