//! From a failing batch to the shortest failing sequence.

use super::compare::{Mismatch, compare};
use super::place::{Place, Who};
use super::script::Sequence;
use std::path::Path;

/// The most runs that one failure may take.
const RUNS: usize = 150;

/// A failing sequence that can't be made shorter by leaving anything out.
#[derive(Debug)]
pub struct Shortest {
    /// What must have run before it, as sequences of their own.
    pub before: Vec<Sequence>,
    /// Its operations; the last is the one that fails.
    pub operations: Sequence,
    /// What the sides said to the last.
    pub mismatch: Mismatch,
}

impl std::fmt::Display for Shortest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for sequence in &self.before {
            for operation in sequence {
                writeln!(f, "    {operation}")?;
            }
            writeln!(f, "    ===")?;
        }
        for operation in &self.operations {
            writeln!(f, "    {operation}")?;
        }
        writeln!(f, "      kernel:    {}", self.mismatch.kernel)?;
        write!(f, "      projected: {}", self.mismatch.projected)
    }
}

/// The same failure, in as few operations as possible.
pub fn shrink(place: &Place, guest: (&Path, Who), all: &[Sequence], found: &Mismatch) -> Shortest {
    let mut operations = all[found.sequence].clone();
    operations.truncate(found.operation + 1);
    let mut runs = 0;
    let mut mismatch = found.clone();
    let mut before: Vec<Sequence> = Vec::new();
    let mut fails = |before: &[Sequence], operations: &Sequence| -> Option<Mismatch> {
        runs += 1;
        if runs > RUNS {
            return None;
        }
        let mut whole = before.to_vec();
        whole.push(operations.clone());
        let answers = place.ask(guest, &whole).ok()?;
        compare(&whole, &answers).wrong.into_iter().find(|m| {
            // The same answers to the same call, or it is another failure.
            m.sequence == before.len()
                && m.operation + 1 == operations.len()
                && same(&m.kernel, &found.kernel)
                && same(&m.projected, &found.projected)
        })
    };
    match fails(&before, &operations) {
        Some(m) => mismatch = m,
        None => {
            before = all[..found.sequence].to_vec();
            if let Some(m) = fails(&before, &operations) {
                mismatch = m;
            }
        }
    }
    leave_out(&mut before, 0, |shorter| fails(shorter, &operations), &mut mismatch);
    before.retain(|sequence| !sequence.is_empty());
    let context = before.clone();
    leave_out(&mut operations, 1, |shorter| fails(&context, &shorter.to_vec()), &mut mismatch);
    for number in 0..before.len() {
        let mut sequence = before[number].clone();
        let context = before.clone();
        leave_out(
            &mut sequence,
            1,
            |shorter| {
                let mut with = context.clone();
                with[number] = shorter.to_vec();
                fails(&with, &operations)
            },
            &mut mismatch,
        );
        before[number] = sequence;
    }
    Shortest { before, operations, mismatch }
}

/// Leaves out parts of `items`, ever smaller ones, as long as it fails; the last `keep` stay.
fn leave_out<T: Clone>(
    items: &mut Vec<T>,
    keep: usize,
    mut fails: impl FnMut(&[T]) -> Option<Mismatch>,
    mismatch: &mut Mismatch,
) {
    let mut part = items.len().saturating_sub(keep);
    while part > 0 {
        let mut at = 0;
        while at + part + keep <= items.len() {
            let mut shorter = items.clone();
            shorter.drain(at..at + part);
            if let Some(m) = fails(&shorter) {
                *items = shorter;
                *mismatch = m;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
}

/// Answers are alike when their result is: the numbers in them may depend on what was left out.
fn same(a: &str, b: &str) -> bool {
    let first = |text: &str| text.trim_start().split(' ').next().map(str::to_owned);
    first(a) == first(b)
}
