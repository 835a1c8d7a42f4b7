//! Lost events: ES drops them for a client that is too slow, and only the numbers tell.
//!
//! `global_seq_num` counts all events of a client, `seq_num` those of one kind. A number that jumps
//! means that the trace is not complete. Where this program has two clients, each has its own numbers.

use super::event::EsEvent;
use std::collections::HashMap;

/// What is known of lost events.
#[derive(Debug, Default)]
pub struct Gaps {
    clients: HashMap<u8, Numbers>,
    lost: u64,
    /// Events that came with a number that had been.
    repeated: u64,
}

/// The last numbers of a client.
#[derive(Debug, Default)]
struct Numbers {
    all: Option<u64>,
    by_name: HashMap<String, u64>,
}

impl Gaps {
    /// Takes note of an event; how many were lost just before it.
    pub fn note(&mut self, event: &EsEvent) -> u64 {
        let (mut lost, mut back) = (0, false);
        let numbers = self.clients.entry(event.client).or_default();
        if let Some(seq) = event.seq {
            let known = numbers.by_name.get(&event.name).copied();
            lost = jumped(known, seq);
            back = known.is_some_and(|known| seq <= known);
            match numbers.by_name.get_mut(&event.name) {
                Some(known) => *known = seq.max(*known),
                None => drop(numbers.by_name.insert(event.name.clone(), seq)),
            }
        }
        if let Some(seq) = event.global_seq {
            // All kinds together: what was lost of this one has been counted, perhaps with another.
            lost = jumped(numbers.all, seq);
            back = numbers.all.is_some_and(|last| seq <= last);
            numbers.all = Some(numbers.all.map_or(seq, |last| last.max(seq)));
        }
        self.lost = self.lost.saturating_add(lost);
        self.repeated += u64::from(back);
        lost
    }

    /// How many events were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Is what was recorded all that happened?
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.lost == 0 && self.repeated == 0
    }
}

/// The first number of a client need not be 0: it may have been told events before.
fn jumped(last: Option<u64>, seq: u64) -> u64 {
    last.map_or(0, |last| seq.saturating_sub(last.saturating_add(1)))
}
