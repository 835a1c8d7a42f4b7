//! Both sides' answers beside each other: the first that differs without a reason.

use super::differences::{Difference, Verdict, judge};
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
    /// How often each call was made, and how often the kernel refused it.
    pub calls: BTreeMap<String, (usize, usize)>,
    /// How often each deliberate difference was met.
    pub reasons: BTreeMap<&'static str, usize>,
    /// The first mismatch of each sequence that has one.
    pub wrong: Vec<Mismatch>,
}

/// Both sides' answers to sequences.
///
/// It fails with a sentence for [`skip!`](crate::skip!) when this machine can't be its own oracle.
pub type Ask<'a> = dyn Fn(&[Sequence]) -> Result<[Answers; 2], String> + 'a;

/// The name of the call that an operation makes, whoever makes it.
pub fn name(operation: &str) -> &str {
    operation.split(' ').find(|word| !word.starts_with(['>', '&'])).unwrap_or_default()
}

/// Compares; a sequence is left at its first mismatch, and where a deliberate difference makes
/// what follows it different.
pub fn compare(
    sequences: &[Sequence],
    [kernel, projected]: &[Answers; 2],
    meant: &[Difference],
) -> Comparison {
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
            let known = result.calls.entry(name(call).to_owned()).or_default();
            known.0 += 1;
            known.1 += usize::from(kernel.trim_start().starts_with('-'));
            match judge(meant, call, kernel, projected) {
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
