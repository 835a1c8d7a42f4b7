//! What the daemon counts, for `status`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Most connections at once, and of one user that isn't the store's owner or root.
const MOST: usize = 128;
const MOST_OF_ONE: usize = 24;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that wait for their turn.
    pub queue: AtomicU64,
    /// Requests that are being done.
    pub running: AtomicU64,
    /// Requests done.
    pub done: AtomicU64,
    /// Requests failed.
    pub failed: AtomicU64,
    /// Requests refused.
    pub refused: AtomicU64,
    /// Clients sent away.
    pub turned_away: AtomicU64,
    /// Contents that published trees need.
    pub needed_blobs: AtomicU64,
    /// Contents that came and were new.
    pub new_blobs: AtomicU64,
    /// Their bytes.
    pub new_bytes: AtomicU64,
}

/// One more, until it is dropped.
pub struct Counted<'a>(&'a AtomicU64);

impl Counted<'_> {
    pub fn one(counter: &AtomicU64) -> Counted<'_> {
        counter.fetch_add(1, Relaxed);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Counters {
    /// The part of the needed contents that didn't have to come.
    pub fn hit_rate(&self) -> Option<f64> {
        let (needed, new) = (self.needed_blobs.load(Relaxed), self.new_blobs.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = |part: u64, of: u64| part as f64 / of as f64;
        (needed > 0).then(|| rate(needed.saturating_sub(new), needed))
    }
}

/// The connections that there are, by user.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<u32, usize>>);

impl Clients {
    /// Lets one more in, unless there are too many.
    pub fn enter(&self, uid: u32, master: bool) -> bool {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = clients.values().sum();
        let own = clients.get(&uid).copied().unwrap_or(0);
        // Others can't take all the room that there is.
        let room = if master { MOST } else { MOST - MOST_OF_ONE };
        if all >= room || (!master && own >= MOST_OF_ONE) {
            return false;
        }
        clients.insert(uid, own + 1);
        true
    }

    /// One has gone.
    pub fn leave(&self, uid: u32) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = clients.get_mut(&uid) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&uid);
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// Blocking threads are never short: each connection has one at most, and some are for the rest.
pub const THREADS: usize = MOST + 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_the_room() {
        let clients = Clients::default();
        let entered = (0..MOST).filter(|_| clients.enter(9, false)).count();
        assert_eq!(entered, MOST_OF_ONE);
        assert!(clients.enter(10, false));
        let many = (0..1000u32).filter(|i| clients.enter(100 + i, false)).count();
        assert_eq!(many + entered + 1, MOST - MOST_OF_ONE);
        assert!(clients.enter(0, true), "there is room for root");
        clients.leave(9);
        clients.leave(0);
        assert!(clients.enter(0, true) && clients.count() == MOST - MOST_OF_ONE);
    }

    #[test]
    fn the_hit_rate_is_what_was_there() {
        let counters = Counters::default();
        assert_eq!(counters.hit_rate(), None);
        counters.needed_blobs.store(8, Relaxed);
        counters.new_blobs.store(2, Relaxed);
        assert_eq!(counters.hit_rate(), Some(0.75));
    }
}
