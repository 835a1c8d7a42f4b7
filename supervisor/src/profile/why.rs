//! Why a call is in a profile: who made it first, with what, how often, and did it ever succeed.

use crate::report::Model;
use crate::trace::event::{Op, Syscall};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use vrift_events::printable;

/// What the traces say of one call.
#[derive(Default)]
struct Uses<'a> {
    runs: BTreeSet<usize>,
    first: Option<(&'a Model, &'a Syscall)>,
    path: Option<&'a Op>,
    answers: Answers<'a>,
    /// What a look just before says, where the answer is the kernel's own.
    looks: Answers<'a>,
}

/// How calls ended.
#[derive(Default)]
struct Answers<'a> {
    succeeded: bool,
    errors: BTreeSet<&'a str>,
}

/// A line for each call: who made it first, with which path or argument, in how many of the traces,
/// and whether it ever succeeded, as far as the trace says.
pub fn why(traces: &[(String, Model)]) -> Vec<String> {
    let mut uses: BTreeMap<&str, Uses<'_>> = BTreeMap::new();
    for (at, (_, trace)) in traces.iter().enumerate() {
        for call in &trace.syscalls {
            let entry = uses.entry(&call.call).or_default();
            entry.runs.insert(at);
            entry.first.get_or_insert((trace, call));
        }
        for op in &trace.ops {
            let Some(entry) = uses.get_mut(&*op.call) else { continue };
            let (model, first) = entry.first.unzip();
            let by_first = first.is_some_and(|call| call.process == op.process);
            if by_first && model.is_some_and(|model| std::ptr::eq(model, trace)) {
                entry.path = entry.path.or(Some(op));
            }
            let ends = if op.looked { &mut entry.looks } else { &mut entry.answers };
            match &op.err {
                None => ends.succeeded = true,
                Some(errno) => {
                    ends.errors.insert(errno);
                }
            }
        }
    }
    let all = traces.len();
    uses.iter().map(|(name, uses)| format!("{name}: {}", uses.told(all))).collect()
}

impl Uses<'_> {
    fn told(&self, all: usize) -> String {
        let mut line = String::new();
        if let Some((model, call)) = self.first {
            line += &model.caller(call);
            if let (Some(index), Some(value)) = (call.index, call.value) {
                let _ = write!(line, ", with argument {index} = {value:#x}");
            }
        }
        if let Some(op) = self.path {
            let _ = write!(line, ", with {}", printable(op.place()));
        }
        let _ = write!(
            line,
            ", in {} of {all} {}",
            self.runs.len(),
            if all == 1 { "run" } else { "runs" }
        );
        line + "; " + &self.success()
    }

    fn success(&self) -> String {
        let Uses { answers, looks, .. } = self;
        let failed = |of: &Answers<'_>| of.errors.iter().copied().collect::<Vec<_>>().join(", ");
        if answers.succeeded {
            return "succeeded".into();
        }
        if looks.succeeded {
            return "succeeded, as far as a look just before it can say".into();
        }
        match (failed(answers), failed(looks)) {
            (none, nor) if none.is_empty() && nor.is_empty() => {
                "whether it succeeded is not recorded".into()
            }
            (all, none) if none.is_empty() => format!("never succeeded: {all}"),
            (none, all) if none.is_empty() => {
                format!("never succeeded, as far as looks can say: {all}")
            }
            (all, looks) => format!("never succeeded: {all}, and by looks {looks}"),
        }
    }
}
