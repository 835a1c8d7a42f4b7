//! From a failing batch to the shortest failing sequence.

use super::compare::{Ask, Mismatch, compare};
use super::differences::Difference;
use super::script::Sequence;
use std::time::{Duration, Instant};

/// The most runs that one failure may take.
const RUNS: usize = 150;
/// And the most time: on an emulated machine a run takes seconds.
const TIME: Duration = Duration::from_secs(60);

/// A failing sequence, as short as it could be made by leaving things out.
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
        let (kernel, projected) = (&self.mismatch.kernel, &self.mismatch.projected);
        writeln!(f, "      kernel:    {}", apart(kernel, projected))?;
        write!(f, "      projected: {}", apart(projected, kernel))
    }
}

/// An answer, or of a long one what the other doesn't have: a whole tree's is a page.
fn apart(answer: &str, other: &str) -> String {
    if answer.len() < 400 {
        return answer.to_owned();
    }
    let known: std::collections::HashSet<&str> = other.split(' ').collect();
    let own: Vec<&str> = answer.split(' ').filter(|word| !known.contains(word)).collect();
    format!("... {}", own.join(" ... "))
}

/// The same failure, in as few operations as is found out in bounded time.
pub fn shrink(ask: &Ask<'_>, meant: &[Difference], all: &[Sequence], found: &Mismatch) -> Shortest {
    let mut operations = all[found.sequence].clone();
    operations.truncate(found.operation + 1);
    let (mut runs, began) = (0, Instant::now());
    let mut mismatch = found.clone();
    let mut before: Vec<Sequence> = Vec::new();
    let mut fails = |before: &[Sequence], operations: &Sequence| -> Option<Mismatch> {
        runs += 1;
        if runs > RUNS || began.elapsed() > TIME {
            return None;
        }
        let mut whole = before.to_vec();
        whole.push(operations.clone());
        let answers = ask(&whole).ok()?;
        compare(&whole, &answers, meant).wrong.into_iter().find(|m| {
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
