//! What a trace says taken together, for the closing summary. Counted by the thread that writes.

use super::event::{Access, Event, Kind, Op};
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::time::Duration;

/// How many processes are told by name.
const TOLD: usize = 3;

/// The sums.
#[derive(Debug, Default)]
pub struct Tally {
    read: Paths,
    written: Paths,
    vain: Paths,
    running: HashMap<u32, Running>,
    slowest: Vec<Slow>,
    processes: u64,
}

/// Distinct paths, each as a hash of its bytes: a collision costs one in a count.
#[derive(Debug, Default)]
struct Paths {
    seen: HashSet<u64, foldhash::fast::RandomState>,
    hasher: foldhash::fast::RandomState,
}

impl Paths {
    fn add(&mut self, path: &[u8]) {
        let hash = self.hasher.hash_one(path);
        self.seen.insert(hash);
    }
}

#[derive(Debug)]
struct Running {
    since: u64,
    program: String,
}

/// A process that took its time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slow {
    /// From first to last.
    pub wall: Duration,
    /// The last program that it became.
    pub program: String,
}

impl Tally {
    /// Counts an event.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Start(start) => {
                self.processes += 1;
                let running = Running { since: start.t, program: format!("pid {}", start.pid) };
                self.running.insert(start.process, running);
            }
            Event::Op(op) => self.op(op),
            Event::Exit(exit) => {
                let Some(running) = self.running.remove(&exit.process) else { return };
                let wall = Duration::from_nanos(exit.t.saturating_sub(running.since));
                let at = self.slowest.partition_point(|slow| slow.wall >= wall);
                if at < TOLD {
                    self.slowest.insert(at, Slow { wall, program: running.program });
                    self.slowest.truncate(TOLD);
                }
            }
            Event::Job(_) | Event::Syscall(_) | Event::End(_) => {}
        }
    }

    fn op(&mut self, op: &Op) {
        let directory = op.kind == Some(Kind::Dir);
        match op.access {
            Access::Probe => self.vain.add(op.place()),
            _ if op.err.is_some() || directory => {}
            Access::Read => self.read.add(op.place()),
            Access::Exec => {
                self.read.add(op.place());
                if let (Some(exec), Some(running)) = (&op.exec, self.running.get_mut(&op.process)) {
                    running.program = title(exec.argv.iter().map(super::Text::shown));
                }
            }
            Access::Write | Access::Create => self.written.add(op.place()),
            Access::Delete | Access::List | Access::Stat | Access::Lock => {}
        }
    }

    /// Distinct files read or run.
    pub fn read(&self) -> usize {
        self.read.seen.len()
    }

    /// Distinct files made or changed.
    pub fn written(&self) -> usize {
        self.written.seen.len()
    }

    /// Distinct paths looked up in vain.
    pub fn vain(&self) -> usize {
        self.vain.seen.len()
    }

    /// Processes.
    pub fn processes(&self) -> u64 {
        self.processes
    }

    /// The slowest, slowest first.
    pub fn slowest(&self) -> &[Slow] {
        &self.slowest
    }
}

/// The beginning of a command line that tells it from others: at most 60 characters.
pub fn title(argv: impl Iterator<Item = String>) -> String {
    const MOST: usize = 60;
    let mut all = String::new();
    for (at, word) in argv.enumerate() {
        if at > 0 {
            all.push(' ');
            all.push_str(&word);
        } else {
            all.push_str(word.rsplit('/').next().unwrap_or(&word));
        }
        if all.chars().count() > MOST {
            all = all.chars().take(MOST - 1).collect();
            all.push('…');
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::event::{Exit, Start};

    #[test]
    fn the_slowest_come_first_and_few() {
        let mut tally = Tally::default();
        for (process, took) in [(1, 5), (2, 50), (3, 1), (4, 20), (5, 20)] {
            tally.add(&Event::Start(Start { t: 100, process, pid: 7, parent: None }));
            let t = 100 + took;
            tally.add(&Event::Exit(Exit { t, process, status: None, signal: None }));
        }
        let walls: Vec<_> = tally.slowest().iter().map(|slow| slow.wall.as_nanos()).collect();
        assert_eq!(walls, [50, 20, 20]);
        assert_eq!(tally.processes(), 5);
    }

    #[test]
    fn a_title_is_short() {
        let words = |text: &str| title(text.split(' ').map(str::to_owned));
        assert_eq!(words("/usr/bin/cc -c a.c"), "cc -c a.c");
        assert_eq!(words(&"x".repeat(99)).chars().count(), 60);
        assert_eq!(words(""), "");
    }
}
