//! What a whole test finds: how much was compared, what differed as it is meant to, and the rest,
//! each kind of disagreement shrunk once.
//!
//! - `VRIFT_ORACLE_OPS`: how many random operations are asked.
//! - `VRIFT_ORACLE_SEED`: another sequence than the one every run of the tests asks; `new` makes
//!   the seed of the time, and prints it.

use super::compare::{Ask, Mismatch, compare, name};
use super::differences::{Difference, NOT_YET_WRITTEN, UNTOLD};
use super::script::Sequence;
use super::shrink::shrink;
use std::collections::BTreeMap;

/// What is asked when nothing else is wanted.
const SEED: u64 = 20_261_123;
/// How many failures are shown.
const SHOWN: usize = 8;

/// The seed of this run.
///
/// # Panics
/// When `VRIFT_ORACLE_SEED` is no number.
pub fn seed() -> u64 {
    match std::env::var("VRIFT_ORACLE_SEED").as_deref() {
        // What fails for one fails for everybody, until somebody asks for more.
        Err(_) => SEED,
        Ok("new") => std::time::UNIX_EPOCH
            .elapsed()
            .map_or(SEED, |t| u64::try_from(t.as_millis()).unwrap_or(SEED)),
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("VRIFT_ORACLE_SEED={text}: {e}")),
    }
}

/// The number that a variable asks for, which is above 0.
///
/// # Panics
/// When it is something else.
pub fn wanted(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| {
        let number = text.parse().ok().filter(|n| *n > 0);
        number.unwrap_or_else(|| panic!("{variable}={text}: no whole number above 0"))
    })
}

/// What a whole test found.
#[derive(Debug)]
pub struct Tally {
    meant: &'static [Difference],
    compared: usize,
    calls: BTreeMap<String, (usize, usize)>,
    reasons: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
    /// How often each call and its answers were met, and the first of them: one cause shows in
    /// many sequences.
    seen: BTreeMap<String, (usize, String)>,
    /// Where the kernel itself answered now this, now that.
    unsure: Vec<String>,
}

impl Tally {
    /// Nothing yet; `meant` may differ.
    pub fn new(meant: &'static [Difference]) -> Self {
        Self {
            meant,
            compared: 0,
            calls: BTreeMap::new(),
            reasons: BTreeMap::new(),
            failures: Vec::new(),
            seen: BTreeMap::new(),
            unsure: Vec::new(),
        }
    }

    /// How many answers were compared.
    pub fn compared(&self) -> usize {
        self.compared
    }

    /// Whether there are as many failures as are shown.
    pub fn has_seen_enough(&self) -> bool {
        self.failures.len() >= SHOWN
    }

    /// Asks both sides, and makes the first of each kind of disagreement as short as it gets.
    ///
    /// # Errors
    /// Why this machine can't be its own oracle.
    pub fn batch(&mut self, ask: &Ask<'_>, all: &[Sequence]) -> Result<(), String> {
        let answers = ask(all)?;
        let result = compare(all, &answers, self.meant);
        self.compared += result.compared;
        for (call, (times, errors)) in result.calls {
            let known = self.calls.entry(call).or_default();
            known.0 += times;
            known.1 += errors;
        }
        for (reason, count) in result.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        let mut wrong = result.wrong;
        if !wrong.is_empty() {
            wrong = self.repeated(ask, all, wrong)?;
        }
        for mismatch in wrong {
            let known = self.seen.entry(kind(all, &mismatch)).or_default();
            known.0 += 1;
            if known.0 == 1 {
                known.1 = example(all, &mismatch);
            }
            if known.0 == 1 && self.failures.len() < SHOWN {
                self.failures.push(shrink(ask, self.meant, all, &mismatch).to_string());
            }
        }
        Ok(())
    }

    /// Asks again, and keeps what differs but where the kernel answers otherwise than before:
    /// under renames elsewhere it counts links twice, and says ELOOP to a chain of 21.
    fn repeated(
        &mut self,
        ask: &Ask<'_>,
        all: &[Sequence],
        wrong: Vec<Mismatch>,
    ) -> Result<Vec<Mismatch>, String> {
        let [kernel, _] = ask(all)?;
        let (kept, unsure): (Vec<_>, Vec<_>) = wrong.into_iter().partition(|m: &Mismatch| {
            kernel.0[m.sequence].get(m.operation).is_none_or(|again| *again == m.kernel)
        });
        self.unsure.extend(unsure.iter().map(|m: &Mismatch| example(all, m)));
        Ok(kept)
    }

    /// Records that the trees differ when all is done, which no single answer showed.
    pub fn differs(&mut self, what: String) {
        let known = self.seen.entry("(the trees at the end)".into()).or_default();
        known.0 += 1;
        if known.0 == 1 {
            self.failures.push(what);
        }
    }

    /// Prints what was found.
    ///
    /// # Panics
    /// When the sides disagree in what is not meant, or the kernel with itself too often.
    pub fn report(&self, what: &str) {
        let errors: usize = self.calls.values().map(|(_, errors)| errors).sum();
        let mut text = format!(
            "oracle: {what}: {} answers compared, {errors} of them errors\n ",
            self.compared
        );
        for (call, (times, errors)) in &self.calls {
            text.push_str(&format!(" {call}:{times}-{errors}"));
        }
        text.push('\n');
        for (reason, count) in &self.reasons {
            text.push_str(&format!("  {count:6} meant: {reason}\n"));
        }
        for m in &self.unsure {
            text.push_str(&format!("  the kernel is not sure:{m}\n"));
        }
        print!("{text}");
        assert!(self.unsure.len() <= 1 + self.compared / 10_000, "{text}");
        for seldom in [UNTOLD, NOT_YET_WRITTEN] {
            let met = self.reasons.get(seldom).copied().unwrap_or_default();
            assert!(met <= 1 + self.compared / 20_000, "too often: {seldom}: {text}");
        }
        if self.seen.is_empty() {
            return;
        }
        let kinds: Vec<String> =
            self.seen.iter().map(|(kind, (n, first))| format!("  {n:5} x {kind}{first}")).collect();
        panic!(
            "{text}{what}: the kernel and the projection disagree in {} ways:\n{}\n\n\
             the shortest sequences of {}:\n{}",
            kinds.len(),
            kinds.join("\n"),
            self.failures.len(),
            self.failures.join("\n\n")
        );
    }
}

/// Call and results, without operands: what counts as the same failure.
fn kind(all: &[Sequence], mismatch: &Mismatch) -> String {
    let call = all[mismatch.sequence].get(mismatch.operation).map_or("(end)", String::as_str);
    let call = name(call);
    // The number of a descriptor is of no interest; whether there is one is.
    let short = |answer: &str| {
        let first = answer.split(' ').next().unwrap_or_default();
        if first.parse::<u32>().is_ok_and(|n| n > 0) { "N".to_owned() } else { first.to_owned() }
    };
    format!("{call}: kernel {} projected {}", short(&mismatch.kernel), short(&mismatch.projected))
}

/// The call and both answers as they are, but no longer than a few lines.
fn example(all: &[Sequence], mismatch: &Mismatch) -> String {
    let call = all[mismatch.sequence].get(mismatch.operation).map_or("(end)", String::as_str);
    let short = |text: &str| text.chars().take(160).collect::<String>();
    let (kernel, projected) = (short(&mismatch.kernel), short(&mismatch.projected));
    format!("\n            {}\n            {kernel}\n            {projected}", short(call))
}
