//! Which processes are the job's: a tree by (pid, version), grown by fork, renamed by exec.

use super::event::{EsEvent, Process, ProcessKey, What};
use std::collections::HashMap;

/// A process of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number in the trace, from 1; it stays through exec.
    pub number: u32,
    /// Its parent's number; None of the first one.
    pub parent: Option<u32>,
    /// Its fork was not told: its parent's pid says that it belongs here.
    pub guessed: bool,
}

/// The job's processes that are alive.
#[derive(Debug, Default)]
pub struct ProcessTree {
    members: HashMap<ProcessKey, Member>,
    /// The version that a pid has now.
    versions: HashMap<i32, u32>,
    /// The pid of the first process, until an event tells its version.
    awaited: Option<i32>,
    last: u32,
}

impl ProcessTree {
    /// A tree that begins with the job's first process.
    #[must_use]
    pub fn of(first: ProcessKey) -> ProcessTree {
        let mut tree = ProcessTree::default();
        tree.add(first, None, false);
        tree
    }

    /// A tree that begins with the process of this pid, whichever version the first event tells. The
    /// process has to be there until then, so that nobody else is given its pid.
    #[must_use]
    pub fn awaiting(pid: i32) -> ProcessTree {
        ProcessTree { awaited: Some(pid), ..ProcessTree::default() }
    }

    fn add(&mut self, key: ProcessKey, parent: Option<u32>, guessed: bool) -> u32 {
        self.last += 1;
        let number = self.last;
        self.put(key, Member { number, parent, guessed });
        number
    }

    fn put(&mut self, key: ProcessKey, member: Member) {
        // A pid that was given anew: the end of the old one was not told.
        if let Some(old) = self.versions.insert(key.pid, key.version)
            && old != key.version
        {
            self.members.remove(&ProcessKey { pid: key.pid, version: old });
        }
        self.members.insert(key, member);
    }

    /// The process of the job that a key is.
    #[must_use]
    pub fn get(&self, key: ProcessKey) -> Option<&Member> {
        self.members.get(&key)
    }

    /// How many there have been.
    #[must_use]
    pub const fn known(&self) -> u32 {
        self.last
    }

    /// How many are alive.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes note of an event, before it is decided about. The numbers of processes that are new
    /// with it, oldest first.
    pub fn note(&mut self, event: &EsEvent) -> Vec<u32> {
        let mut new = Vec::new();
        new.extend(self.adopt(&event.process));
        match &event.what {
            What::Fork(child) => {
                let parent = self.get(event.process.key).map(|member| member.number);
                // Told already: the child's first event overtook its fork.
                if parent.is_some() && self.get(child.key).is_none() {
                    new.push(self.add(child.key, parent, false));
                }
            }
            What::Exec { target, .. } => {
                if let Some(member) = self.members.remove(&event.process.key) {
                    self.put(target.key, member);
                }
            }
            _ => {}
        }
        new
    }

    /// Takes note that a process has ended, after its last event was dealt with.
    pub fn ended(&mut self, key: ProcessKey) {
        if self.members.remove(&key).is_some() && self.versions.get(&key.pid) == Some(&key.version)
        {
            self.versions.remove(&key.pid);
        }
    }

    /// A process whose fork was lost, or not told yet: its parent is one of ours.
    fn adopt(&mut self, process: &Process) -> Option<u32> {
        let (key, parent) = (process.key, process.parent);
        if self.members.contains_key(&key) || process.client {
            return None;
        }
        if self.awaited == Some(key.pid) {
            self.awaited = None;
            return Some(self.add(key, None, false));
        }
        // The same pid with a version that is not known: an exec that was not told.
        if let Some(&version) = self.versions.get(&key.pid)
            && version < key.version
            && let Some(member) = self.members.remove(&ProcessKey { pid: key.pid, version })
        {
            // A pid given anew, to a child of somebody else, looks the same but for the parent.
            let mother = member.parent.and_then(|number| self.pid_of(number));
            if mother.is_none_or(|pid| pid == parent) {
                self.put(key, member);
                return None;
            }
            self.versions.remove(&key.pid);
        }
        let version = *self.versions.get(&parent)?;
        let parent = self.get(ProcessKey { pid: parent, version })?.number;
        Some(self.add(key, Some(parent), true))
    }

    fn pid_of(&self, number: u32) -> Option<i32> {
        let mut all = self.members.iter();
        all.find(|(_, member)| member.number == number).map(|(key, _)| key.pid)
    }
}
