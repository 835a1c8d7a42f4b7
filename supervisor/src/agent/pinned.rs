//! The container as something that can be ended for certain: whatever dies, its build doesn't go on
//! half supervised.

use super::numbers::Numbers;
use crate::status::Status;
use crate::sys::process::{pidfd_open, pidfd_signal};
use nix::errno::Errno;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How often the members of a container without a pid namespace of its own are looked for.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// A container's processes, held so that no other ones are taken for them.
pub struct Pinned {
    /// The first process of the descriptor.
    first: i32,
    pidfd: OwnedFd,
    /// The namespace's own first process, with which all of it ends.
    init: Option<OwnedFd>,
    /// The control group; None: the container has none for itself.
    group: Option<String>,
}

impl Pinned {
    /// The container that process `pid` is in.
    ///
    /// # Errors
    /// The process is gone.
    pub fn of(pid: i32) -> Result<Pinned, Errno> {
        let pidfd = pidfd_open(pid)?;
        let numbers = Numbers::of(pid).ok().flatten();
        let init = numbers.and_then(|numbers| numbers.here(1)).and_then(|pid| pidfd_open(pid).ok());
        // One that the agent or the runtime is in is not the container's alone.
        let runtime = Status::of(pid).and_then(|status| status.number::<i32>("PPid:"));
        let others = [group_of("self"), group_of(&runtime.unwrap_or(0).to_string())];
        let group =
            group_of(&pid.to_string()).filter(|group| !others.contains(&Some(group.clone())));
        Ok(Pinned { first: pid, pidfd, init, group })
    }

    /// The same, of one of its threads.
    pub fn of_thread(tid: i32) -> Result<Pinned, Errno> {
        let leader = Status::of(tid).and_then(|status| status.number("Tgid:"));
        Pinned::of(leader.ok_or(Errno::ESRCH)?)
    }

    /// Ends every process of the container.
    pub fn end(&self) {
        if let Some(init) = &self.init {
            let _ = pidfd_signal(init.as_fd(), libc::SIGKILL);
            let _ = pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
            return;
        }
        let mut met: HashSet<i32> = HashSet::new();
        if pidfd_signal(self.pidfd.as_fd(), 0).is_ok() {
            met.insert(self.first);
        }
        for _ in 0..ROUNDS {
            let left = self.members(&mut met);
            let _ = pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
            for &pid in &left {
                let _ = crate::sys::process::kill(pid, libc::SIGKILL);
            }
            if left.is_empty() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Those in the group, or below the first process: all that were met, and their children.
    fn members(&self, met: &mut HashSet<i32>) -> Vec<i32> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<i32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let mut parents = Vec::new();
        for &pid in &all {
            let Some(status) = Status::of(pid) else { continue };
            parents.push((pid, status.number::<i32>("PPid:").unwrap_or(0)));
        }
        let mut left: HashSet<i32> = HashSet::new();
        loop {
            let before = met.len();
            let below = parents.iter().filter(|(_, above)| met.contains(above));
            let below: Vec<i32> = below.map(|(pid, _)| *pid).collect();
            met.extend(below);
            if met.len() == before {
                break;
            }
        }
        if let Some(group) = &self.group {
            let inside = |pid: &&i32| group_of(&pid.to_string()).as_ref() == Some(group);
            left.extend(all.iter().filter(inside));
        }
        left.extend(all.iter().filter(|pid| met.contains(pid)));
        let ours = |pid: &i32| *pid != own && is_filtered(*pid) && !is_ended(*pid);
        left.into_iter().filter(ours).collect()
    }
}

fn group_of(pid: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

/// All that a container's processes are has the filter: it is passed on, and never taken away.
fn is_filtered(pid: i32) -> bool {
    const FILTER: u32 = 2;
    Status::of(pid).and_then(|status| status.number("Seccomp:")) == Some(FILTER)
}

/// Only its parent has yet to take notice.
fn is_ended(pid: i32) -> bool {
    Status::of(pid).is_none_or(|status| status.is_dead())
}
