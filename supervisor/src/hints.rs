//! By which path a descriptor with `O_PATH` was opened, where several projected paths share one
//! content.
//!
//! Other descriptors are marked by a lock (see [`locks`](crate::locks)), which these can't have.
//! The opening task and number are kept; a descriptor that came by dup, fork or SCM_RIGHTS is
//! recognised by asking the kernel whether it shares the open file description with one that is
//! remembered (kcmp(2)). A number that was closed and used again for the same content is answered
//! by the latest opening.

use crate::sys::process::same_description;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vrift_projection::NodeRef;
use vrift_store::Hash;

/// How many openings are kept for one blob.
const KEPT: usize = 64;

#[derive(Clone, Copy)]
struct Opening {
    tid: i32,
    fd: i32,
    node: NodeRef,
}

/// The openings of a job, by content.
#[derive(Default)]
pub struct Hints {
    by_blob: Mutex<HashMap<Hash, VecDeque<Opening>>>,
}

impl Hints {
    /// Task `tid` got descriptor `fd` for `node`.
    pub fn note(&self, hash: &Hash, tid: i32, fd: i32, node: NodeRef) {
        let mut map = self.lock();
        let openings = map.entry(*hash).or_default();
        openings.retain(|o| o.tid != tid || o.fd != fd);
        if openings.len() == KEPT {
            openings.pop_back();
        }
        openings.push_front(Opening { tid, fd, node });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, VecDeque<Opening>>> {
        self.by_blob.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path that descriptor `fd` of task `tid` was opened by.
    pub fn find(&self, hash: &Hash, tid: i32, fd: i32) -> Option<NodeRef> {
        let openings = {
            let map = self.lock();
            map.get(hash)?.clone()
        };
        if let Some(o) = openings.iter().find(|o| o.tid == tid && o.fd == fd) {
            return Some(o.node);
        }
        openings
            .iter()
            .find(|o| same_description(tid, fd, o.tid, o.fd).unwrap_or(false))
            .map(|o| o.node)
    }
}
