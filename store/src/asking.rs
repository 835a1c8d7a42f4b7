//! What a job's supervisor and the process that fetches blobs for it say to each other, over two
//! pipes: who fetches says [`HELLO`] first, then answers each [`Asked`] with one [`Answer`], in any
//! order. Every message has a known greatest length.
//!
//! What must never happen here: a message that isn't whole, or is of another version, is taken for
//! one that is.

use std::io::{self, Read, Write};

use crate::hash::{HASH_LEN, Hash};

/// The first bytes of who fetches. Another version has others.
pub const HELLO: &[u8; 16] = b"vrift fetching 1";
/// Longest reason in an answer, in bytes.
const LONGEST: usize = 1024;
/// An answer without its reason: the blob, whether it failed, the reason's length.
const HEAD: usize = HASH_LEN + 3;

/// "See to it that this blob is in the store."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The tree that needs it: its note says where it comes from.
    pub manifest: Hash,
    /// The blob.
    pub blob: Hash,
    /// Its size in bytes.
    pub size: u64,
}

/// "It is there", or why it isn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The blob that was asked for.
    pub blob: Hash,
    /// Why it can't be had, in one line.
    pub failed: Option<String>,
}

impl Asked {
    const LEN: usize = 2 * HASH_LEN + 8;

    /// As it is sent. So short that a pipe takes it whole or not at all.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = [self.manifest.as_bytes(), self.blob.as_bytes(), &self.size.to_le_bytes()[..]];
        parts.concat()
    }

    /// The next one; None at the end.
    ///
    /// # Errors
    /// Nothing can be read, or it ends within a message.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Asked>> {
        let mut bytes = [0; Asked::LEN];
        if !read_message(from, &mut bytes)? {
            return Ok(None);
        }
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[2 * HASH_LEN..]);
        let (manifest, blob) = (hash(&bytes), hash(&bytes[HASH_LEN..]));
        Ok(Some(Asked { manifest, blob, size: u64::from_le_bytes(size) }))
    }
}

impl Answer {
    /// Sends it. What is too long of a reason is cut off.
    ///
    /// # Errors
    /// Nobody reads any more.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let reason = self.failed.as_deref().unwrap_or_default();
        let end = (0..=LONGEST.min(reason.len())).rev().find(|&at| reason.is_char_boundary(at));
        let reason = &reason.as_bytes()[..end.unwrap_or(0)];
        let mut bytes = Vec::with_capacity(HEAD + reason.len());
        bytes.extend(self.blob.as_bytes());
        bytes.push(self.failed.is_some().into());
        // At most LONGEST.
        bytes.extend(u16::try_from(reason.len()).unwrap_or(0).to_le_bytes());
        bytes.extend(reason);
        to.write_all(&bytes)?;
        to.flush()
    }

    /// The next one; None at the end.
    ///
    /// # Errors
    /// Nothing can be read, it ends within a message, or that is none.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Answer>> {
        let mut head = [0; HEAD];
        if !read_message(from, &mut head)? {
            return Ok(None);
        }
        let [failed, low, high] = [head[HASH_LEN], head[HASH_LEN + 1], head[HASH_LEN + 2]];
        let length = usize::from(u16::from_le_bytes([low, high]));
        if failed > 1 || length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut reason = vec![0; length];
        from.read_exact(&mut reason)?;
        let reason = String::from_utf8(reason).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(Some(Answer { blob: hash(&head), failed: (failed == 1).then_some(reason) }))
    }
}

fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; HASH_LEN];
    hash.copy_from_slice(&bytes[..HASH_LEN]);
    Hash::from_bytes(hash)
}

/// Fills `bytes`; false where there is nothing any more.
fn read_message(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let (first, rest) = bytes.split_at_mut(1);
    loop {
        match from.read(first) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    from.read_exact(rest).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read() {
        let asked = Asked { manifest: Hash::of(b"tree"), blob: Hash::of(b"blob"), size: 1 << 40 };
        let sent = asked.to_bytes();
        assert_eq!(Asked::read(&mut &sent[..]).expect("whole"), Some(asked));
        assert_eq!(Asked::read(&mut &[][..]).expect("the end"), None);
        for failed in [None, Some(String::new()), Some("größer".into())] {
            let answer = Answer { blob: asked.blob, failed };
            let mut sent = Vec::new();
            answer.write(&mut sent).expect("memory");
            assert_eq!(Answer::read(&mut &sent[..]).expect("whole"), Some(answer));
            for end in 1..sent.len() {
                Answer::read(&mut &sent[..end]).expect_err("cut off");
            }
        }
        for end in 1..sent.len() {
            Asked::read(&mut &sent[..end]).expect_err("cut off");
        }
    }

    #[test]
    fn a_reason_is_bounded_on_both_sides() {
        let answer = Answer { blob: Hash::of(b""), failed: Some("ä".repeat(5000)) };
        let mut sent = Vec::new();
        answer.write(&mut sent).expect("memory");
        assert!(sent.len() <= HEAD + LONGEST);
        let read = Answer::read(&mut &sent[..]).expect("whole").expect("one");
        assert_eq!(read.failed, Some("ä".repeat(LONGEST / 2)));
        let nonsense = |at: usize, byte: u8| {
            let mut sent = sent.clone();
            sent[at] = byte;
            Answer::read(&mut &sent[..]).expect_err("nonsense");
        };
        nonsense(HASH_LEN, 2);
        nonsense(HASH_LEN + 2, 0xff);
        nonsense(HEAD, 0xff);
    }
}
