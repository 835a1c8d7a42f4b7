//! What the closing summary counts.
//!
//! Counting is on every answer's way: relaxed atomics and bitmaps, no lock but for what is rare
//! and told by name (refusals, failures of ours).

use crate::table::Arch;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use vrift_policy::{Errno, Origin};

/// How many refusals and failures are told by name.
const TOLD: usize = 64;
/// `PID_MAX_LIMIT` on 64 bits.
const MAX_PID: usize = 4 * 1024 * 1024;

/// One refused change.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Refusal {
    /// The system call's name.
    pub call: &'static str,
    /// What the job got.
    pub errno: Errno,
    /// The path as it was resolved; as it was given, where there is a reason.
    pub path: Vec<u8>,
    /// Why, where it is not that a mount is read-only: for a rule, its place and reason.
    pub why: Option<Cow<'static, str>>,
    /// The rule for real paths that said so.
    pub rule: Option<Origin>,
}

/// The counts of one job.
pub struct Counters {
    /// Notifications received.
    pub notifications: AtomicU64,
    /// Look-ups: opens, stats, accesses, links read.
    pub look_ups: AtomicU64,
    /// Look-ups in a projection that found nothing.
    pub missing: AtomicU64,
    /// Opens of projected files and directories.
    pub opens: AtomicU64,
    /// Programs started, as far as an answer tells: execs of something that is there.
    pub execs: AtomicU64,
    /// Calls refused because they would have changed a projection, or what paths mean.
    pub refused: AtomicU64,
    /// Projected files opened or run, a bit for each node of each mount.
    read: Vec<Vec<AtomicU64>>,
    /// Distinct projected files opened or run.
    pub files: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Tasks seen, a bit for each thread id.
    tasks: Vec<AtomicU64>,
    /// Distinct processes seen.
    pub processes: AtomicU64,
    /// Calls newer than the table, by architecture and number.
    unknown: Mutex<BTreeMap<(&'static str, i32), u64>>,
    told: Mutex<HashMap<Refusal, u64>>,
    failures: Mutex<HashMap<String, u64>>,
    /// Failures of ours that the job saw as an errno.
    pub failed: AtomicU32,
}

impl Counters {
    /// Counters for mounts with these numbers of nodes.
    pub fn new(nodes: impl IntoIterator<Item = u32>) -> Counters {
        let bitmap = |bits: usize| (0..bits.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Counters {
            notifications: AtomicU64::new(0),
            look_ups: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            execs: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            read: nodes.into_iter().map(|n| bitmap(n as usize)).collect(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            tasks: bitmap(MAX_PID),
            processes: AtomicU64::new(0),
            unknown: Mutex::new(BTreeMap::new()),
            told: Mutex::new(HashMap::new()),
            failures: Mutex::new(HashMap::new()),
            failed: AtomicU32::new(0),
        }
    }

    /// A notification of task `tid`; true the first time the task is seen.
    pub fn task(&self, tid: i32) -> bool {
        self.notifications.fetch_add(1, Relaxed);
        usize::try_from(tid).is_ok_and(|tid| set(&self.tasks, tid))
    }

    /// A projected file's content was handed out.
    pub fn content(&self, node: vrift_projection::NodeRef, size: u64) {
        if let Some(map) = self.read.get(usize::from(node.mount))
            && set(map, node.node as usize)
        {
            self.files.fetch_add(1, Relaxed);
            self.bytes.fetch_add(size, Relaxed);
        }
    }

    /// A change was refused.
    pub fn refuse(&self, refusal: Refusal) {
        self.refused.fetch_add(1, Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD || told.contains_key(&refusal) {
            *told.entry(refusal).or_default() += 1;
        }
    }

    /// A call that the table does not know went on in the kernel.
    pub fn unknown(&self, arch: Arch, nr: i32) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() < TOLD || unknown.contains_key(&(arch.name(), nr)) {
            *unknown.entry((arch.name(), nr)).or_default() += 1;
        }
    }

    /// The calls that the table does not know: architecture, number, how often.
    pub fn unknown_calls(&self) -> Vec<(&'static str, i32, u64)> {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.iter().map(|((arch, nr), times)| (*arch, *nr, *times)).collect()
    }

    /// Something of ours failed and the job got an errno for it.
    pub fn fail(&self, reason: String) {
        self.failed.fetch_add(1, Relaxed);
        // It may hold a name that the job chose.
        let plain = !reason.contains(char::is_control);
        let reason = if plain { reason } else { vrift_events::printable(reason.as_bytes()) };
        tracing::debug!("{reason}");
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD || failures.contains_key(&reason) {
            *failures.entry(reason).or_default() += 1;
        }
    }

    /// The refusals that are told, most frequent first.
    pub fn refusals(&self) -> Vec<(Refusal, u64)> {
        sorted(&self.told)
    }

    /// The failures that are told, most frequent first.
    pub fn failures(&self) -> Vec<(String, u64)> {
        sorted(&self.failures)
    }

    /// The most frequent of them in words, for where no summary tells them.
    pub fn failures_told(&self) -> Vec<String> {
        let most = self.failures().into_iter().take(3);
        most.map(|(reason, times)| {
            let again = if times > 1 { " (repeated)" } else { "" };
            format!("{reason}{again}")
        })
        .collect()
    }
}

fn sorted<K: Clone>(map: &Mutex<HashMap<K, u64>>) -> Vec<(K, u64)> {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<(K, u64)> = map.iter().map(|(k, n)| (k.clone(), *n)).collect();
    all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    all
}

/// Sets bit `at`; true if it was not set.
fn set(map: &[AtomicU64], at: usize) -> bool {
    let Some(word) = map.get(at / 64) else { return false };
    let bit = 1u64 << (at % 64);
    word.load(Relaxed) & bit == 0 && word.fetch_or(bit, Relaxed) & bit == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use vrift_projection::NodeRef;

    #[test]
    fn files_and_tasks_count_once() {
        let c = Counters::new([100]);
        assert!(c.task(7));
        assert!(!c.task(7));
        let node = NodeRef { mount: 0, node: 99 };
        c.content(node, 10);
        c.content(node, 10);
        c.content(NodeRef { mount: 9, node: 0 }, 10);
        assert_eq!((c.files.load(Relaxed), c.bytes.load(Relaxed)), (1, 10));
        assert_eq!(c.notifications.load(Relaxed), 2);
    }

    #[test]
    fn a_reason_is_one_plain_line() {
        let c = Counters::new([]);
        c.fail("open of a\nb\x1b[2J".into());
        assert_eq!(c.failures(), [("open of a\\nb\\u{1b}[2J".to_owned(), 1)]);
    }
}
