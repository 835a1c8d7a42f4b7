//! Scripts for the oracle's guest, and what it answers.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Operations that follow each other in one process, as `fixtures/oracle/words.h` writes them,
/// with $P, $Q, $R, $S and $B for the places of a [`Place`](super::place::Place).
pub type Sequence = Vec<String>;

/// What the guest said: a line for each operation of each sequence, and how a sequence ended if
/// it didn't end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers(pub Vec<Vec<String>>);

/// Bytes as a script writes them.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &b in bytes {
        if b.is_ascii_graphic() && !b"%{},".contains(&b) {
            text.push(char::from(b));
        } else {
            text.push_str(&format!("%{b:02X}"));
        }
    }
    text
}

/// The text that the guest reads.
pub fn write(sequences: &[Sequence], base: &Path) -> Vec<u8> {
    let base = encode(base.as_os_str().as_bytes());
    let mut text = String::new();
    for (n, sequence) in sequences.iter().enumerate() {
        if n > 0 {
            text.push_str("===\n");
        }
        for operation in sequence {
            text.push_str(
                &operation
                    .replace("$P", &format!("{base}/mnt"))
                    .replace("$Q", &format!("{base}/mnt2"))
                    .replace("$R", &format!("{base}/w"))
                    .replace("$S", &format!("{base}/beside"))
                    .replace("$B", &base),
            );
            text.push('\n');
        }
    }
    text.into_bytes()
}

/// Reads what the guest said to `sequences`.
///
/// # Panics
/// When it said less or more than was asked.
pub fn parse(output: &[u8], sequences: &[Sequence]) -> Answers {
    let text = String::from_utf8_lossy(output);
    let mut parts: Vec<Vec<String>> =
        text.split("===\n").map(|part| part.lines().map(str::to_owned).collect()).collect();
    assert!(parts.pop().is_some_and(|rest| rest.is_empty()), "an unfinished answer: {text}");
    assert_eq!(parts.len(), sequences.len(), "an answer for each sequence");
    Answers(parts)
}
