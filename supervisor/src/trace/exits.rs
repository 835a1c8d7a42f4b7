//! Which processes there are, and when they end.
//!
//! A process is heard of by its first call with a path. Its end is told by a pidfd, without a call
//! of the job being slowed. The parent of a process is the job's own and not this one, so its
//! status is no business of wait(2): it is read of the zombie in /proc, or, when its parent was
//! quicker, asked of the pidfd (`PIDFD_INFO_EXIT`, Linux 6.15).

use super::Writer;
use super::event::{Event, Exit, Start};
use crate::job::Job;
use crate::status::Status;
use crate::sys::process::{exit_code_of, pidfd_open};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

/// The event that is no process: the job is at its end.
const END: u64 = 0;

/// The processes of a job.
pub struct Exits {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    end: EventFd,
}

struct Shared {
    epoll: Epoll,
    writer: Arc<Writer>,
    /// Processes by the number of each of their threads that made a call.
    tasks: RwLock<HashMap<i32, u32, foldhash::fast::RandomState>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u32,
    waiting: HashMap<u32, (i32, OwnedFd)>,
}

impl Exits {
    /// Nothing is watched yet.
    pub fn new(writer: Arc<Writer>) -> std::io::Result<Exits> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let end = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        epoll.add(&end, EpollEvent::new(EpollFlags::EPOLLIN, END))?;
        let shared = Shared { epoll, writer, tasks: RwLock::default(), open: Mutex::default() };
        Ok(Exits { shared: Arc::new(shared), thread: Mutex::default(), end })
    }

    /// Starts the thread.
    pub fn start(&self, began: Instant) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("exits".into()).stack_size(256 * 1024);
        let started = thread.spawn(move || shared.watch(began))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        Ok(())
    }

    /// Takes notice of the ends that have come, and ends the thread.
    pub fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && self.end.write(1).is_ok()
        {
            let _ = thread.join();
        }
    }

    /// The process of task `tid`; told to the trace when it is new.
    pub fn process(&self, tid: i32, t: u64, job: &Job) -> u32 {
        let tasks = self.shared.tasks.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = tasks.get(&tid) {
            return *process;
        }
        drop(tasks);
        let mut open = self.shared.open();
        self.shared.meet(&mut open, tid, t, job)
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a task up, and at it if it is new: `open` is held, so that nobody else does.
    fn meet(&self, open: &mut Open, tid: i32, t: u64, job: &Job) -> u32 {
        let known =
            |tid| self.tasks.read().unwrap_or_else(PoisonError::into_inner).get(&tid).copied();
        if let Some(process) = known(tid) {
            return process;
        }
        let status = Status::of(tid);
        let leader = status.as_ref().and_then(|s| s.number("Tgid:")).unwrap_or(tid);
        let process = if leader == tid {
            let above = status
                .as_ref()
                .and_then(|s| s.number::<i32>("PPid:"))
                .filter(|above| *above > 1 && *above != tid && job.may_be_parent(*above, tid));
            let parent = above.map(|above| self.meet(open, above, t, job));
            open.last += 1;
            let process = open.last;
            self.writer.put(Event::Start(Start { t, process, pid: tid, parent }));
            self.wait_for(open, process, tid);
            process
        } else {
            self.meet(open, leader, t, job)
        };
        self.tasks.write().unwrap_or_else(PoisonError::into_inner).insert(tid, process);
        process
    }

    fn wait_for(&self, open: &mut Open, process: u32, pid: i32) {
        let watched = pidfd_open(pid).and_then(|pidfd| {
            self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, process.into()))?;
            open.waiting.insert(process, (pid, pidfd));
            Ok(())
        });
        if let Err(e) = watched {
            tracing::debug!("the end of process {pid} will not be told: {e}");
        }
    }

    fn watch(&self, began: Instant) {
        let mut events = [EpollEvent::empty(); 64];
        let mut last = false;
        loop {
            let timeout = if last { EpollTimeout::ZERO } else { EpollTimeout::NONE };
            let came = match self.epoll.wait(&mut events, timeout) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => {
                    tracing::warn!("ends of processes are not told any more: {e}");
                    return;
                }
            };
            let mut ends = 0;
            for event in &events[..came] {
                match u32::try_from(event.data()) {
                    Ok(process) if process > 0 => {
                        ends += 1;
                        self.ended(process, began);
                    }
                    _ => last = true,
                }
            }
            if last && ends == 0 {
                return;
            }
        }
    }

    fn ended(&self, process: u32, began: Instant) {
        let Some((pid, pidfd)) = self.open().waiting.remove(&process) else { return };
        let t = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let code = zombie_code(pid).or_else(|| exit_code_of(pidfd.as_fd()));
        // The numbers are free for others now. A call of theirs is received later than this only
        // if this thread is that late; it would be told of the process that is gone.
        self.tasks
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, other| *other != process);
        let signal = code.map(|code| code & 0x7f).filter(|signal| *signal != 0);
        self.writer.put(Event::Exit(Exit {
            t,
            process,
            status: code.filter(|_| signal.is_none()).map(|code| code >> 8 & 0xff),
            signal,
        }));
    }
}

/// The wait status of a process that has ended and that nobody has waited for yet, of
/// `/proc/PID/stat`.
fn zombie_code(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything: the fields start after the last one.
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1, and the state is the third.
    let field = |n: usize| fields.get(n - 3).copied();
    if field(3) == Some("Z") { field(52)?.parse().ok() } else { None }
}
