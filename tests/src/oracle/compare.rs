//! Both sides' answers beside each other: the first that differs without a reason.

use super::differences::{Verdict, judge};
use super::script::{Answers, Sequence};
use std::collections::BTreeMap;

/// Two answers that should have been equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which sequence.
    pub sequence: usize,
    /// Which of its operations.
    pub operation: usize,
    /// What the kernel said.
    pub kernel: String,
    /// What the projection said.
    pub projected: String,
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Answers that were compared, those with a reason to differ included.
    pub compared: usize,
    /// How often each deliberate difference was met.
    pub reasons: BTreeMap<&'static str, usize>,
    /// The first mismatch of each sequence that has one.
    pub wrong: Vec<Mismatch>,
}

/// Compares; a sequence is left at its first mismatch, and where a deliberate difference makes
/// what follows it different.
pub fn compare(sequences: &[Sequence], [kernel, projected]: &[Answers; 2]) -> Comparison {
    let mut result = Comparison::default();
    for (number, sequence) in sequences.iter().enumerate() {
        let (mut ours, mut theirs) = (projected.0[number].iter(), kernel.0[number].iter());
        for operation in 0.. {
            let (kernel, projected) = (theirs.next(), ours.next());
            if kernel.is_none() && projected.is_none() {
                break;
            }
            let ended = "(the guest had ended)".to_owned();
            let (kernel, projected) = (kernel.unwrap_or(&ended), projected.unwrap_or(&ended));
            result.compared += 1;
            let call = sequence.get(operation).map_or("", String::as_str);
            match judge(call, kernel, projected) {
                Verdict::Equal => {}
                Verdict::Meant { reason, goes_on } => {
                    *result.reasons.entry(reason).or_default() += 1;
                    if !goes_on {
                        break;
                    }
                }
                Verdict::Wrong => {
                    result.wrong.push(Mismatch {
                        sequence: number,
                        operation,
                        kernel: kernel.clone(),
                        projected: projected.clone(),
                    });
                    break;
                }
            }
        }
    }
    result
}
