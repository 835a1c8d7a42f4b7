//! What the kernel knows of a mounted tree's nodes, and descriptors of changed files.
//!
//! Opening asks nobody, so whether a file is open is not known here. What is: how often the kernel was
//! told of a node, and when it has forgotten it, which it doesn't while the node is open. So a file that
//! loses its last name is kept by a descriptor until then.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most descriptors of files that have a name.
const MOST: usize = 256;

/// By node.
#[derive(Default)]
pub struct Held(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// How often the kernel was told of each, less what it has forgotten.
    told: HashMap<u32, u64>,
    /// What has no name any more.
    nameless: HashMap<u32, Arc<File>>,
    /// What was written to last, for reading and writing.
    named: HashMap<u32, Arc<File>>,
    /// The same, the oldest first; of what is forgotten by now there may still be a number.
    order: VecDeque<u32>,
}

impl Held {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel is told of a node.
    pub fn told(&self, node: u32) {
        *self.inner().told.entry(node).or_default() += 1;
    }

    /// The kernel forgets so many times that it was told.
    pub fn forget(&self, node: u32, times: u64) {
        let mut inner = self.inner();
        let left = inner.told.get(&node).map_or(0, |told| told.saturating_sub(times));
        if left > 0 {
            inner.told.insert(node, left);
            return;
        }
        inner.told.remove(&node);
        // What is closed by it is closed without the lock.
        let gone = (inner.nameless.remove(&node), inner.named.remove(&node));
        drop(inner);
        drop(gone);
    }

    /// What is kept of a node without a name.
    pub fn nameless(&self, node: u32) -> Option<Arc<File>> {
        self.inner().nameless.get(&node).cloned()
    }

    /// Keeps what is losing its last name.
    pub fn keep_nameless(&self, node: u32, file: Arc<File>) {
        self.inner().nameless.insert(node, file);
    }

    /// It has a name after all.
    pub fn drop_nameless(&self, node: u32) {
        let gone = self.inner().nameless.remove(&node);
        drop(gone);
    }

    /// A descriptor for reading and writing, if there is one.
    pub fn writable(&self, node: u32) -> Option<Arc<File>> {
        self.inner().named.get(&node).cloned()
    }

    /// Keeps a descriptor for reading and writing, in the place of the oldest if there are many.
    pub fn keep_writable(&self, node: u32, file: File) -> Arc<File> {
        let file = Arc::new(file);
        let mut gone = Vec::new();
        let mut inner = self.inner();
        if inner.named.insert(node, Arc::clone(&file)).is_none() {
            inner.order.push_back(node);
        }
        while inner.named.len() > MOST || inner.order.len() > 2 * MOST {
            let Some(oldest) = inner.order.pop_front() else { break };
            gone.extend(inner.named.remove(&oldest));
        }
        drop(inner);
        drop(gone);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        tempfile::tempfile().expect("a file")
    }

    #[test]
    fn what_has_no_name_is_kept_until_it_is_forgotten() {
        let held = Held::default();
        held.told(7);
        held.told(7);
        held.keep_nameless(7, Arc::new(file()));
        held.forget(7, 1);
        assert!(held.nameless(7).is_some());
        held.forget(7, 1);
        assert!(held.nameless(7).is_none());
    }

    #[test]
    fn there_are_never_many_descriptors() {
        let held = Held::default();
        for node in 0..1000 {
            held.keep_writable(node, file());
            // Some are forgotten before they are the oldest.
            if node % 3 == 0 {
                held.forget(node, 1);
            }
        }
        assert!(held.writable(999).is_none() && held.writable(998).is_some());
        assert!(held.writable(0).is_none() && held.writable(1).is_none());
        let inner = held.inner();
        assert!(inner.named.len() <= MOST && inner.order.len() <= 2 * MOST);
    }
}
