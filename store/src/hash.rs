//! The name of content: a BLAKE3 hash and its one textual form.
//!
//! Everything in a store is addressed by a [`struct@Hash`]. Its text is 64 lower-case hexadecimal digits
//! and nothing else; upper case is refused, so that one hash never has two file names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Length of a hash in bytes.
pub const HASH_LEN: usize = 32;

/// A BLAKE3 hash (256 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash([u8; HASH_LEN]);

/// The text isn't a hash: it has to be 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: 64 lower-case hexadecimal digits are needed")]
pub struct HashParseError;

impl Hash {
    /// Wraps the bytes of a hash that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; HASH_LEN]) -> Self {
        Hash(bytes)
    }

    /// Hashes `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        blake3::hash(content).into()
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_LEN] {
        &self.0
    }

    /// The 64 digits without an allocation.
    #[must_use]
    pub fn to_hex(&self) -> HexHash {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0u8; HASH_LEN * 2];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        HexHash(out)
    }
}

/// The text of a [`struct@Hash`], kept on the stack.
#[derive(Clone, Copy)]
pub struct HexHash([u8; HASH_LEN * 2]);

impl HexHash {
    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII digits are ever written, so the empty string can't come out.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Hash(*hash.as_bytes())
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = HashParseError;

    fn try_from(text: String) -> Result<Self, HashParseError> {
        text.parse()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_hex().as_str())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = HashParseError;

    fn from_str(text: &str) -> Result<Self, HashParseError> {
        fn digit(c: u8) -> Result<u8, HashParseError> {
            match c {
                b'0'..=b'9' => Ok(c - b'0'),
                b'a'..=b'f' => Ok(c - b'a' + 10),
                _ => Err(HashParseError),
            }
        }
        let text = text.as_bytes();
        if text.len() != HASH_LEN * 2 {
            return Err(HashParseError);
        }
        let mut bytes = [0u8; HASH_LEN];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Hash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let hash = Hash::of(b"");
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse::<Hash>(), Ok(hash));
    }

    #[test]
    fn one_spelling_only() {
        let text = Hash::of(b"x").to_string();
        assert_eq!(text.to_uppercase().parse::<Hash>(), Err(HashParseError));
        assert_eq!(text[1..].parse::<Hash>(), Err(HashParseError));
        assert_eq!(format!("{text}0").parse::<Hash>(), Err(HashParseError));
        assert_eq!(text.replace(&text[..1], "g").parse::<Hash>(), Err(HashParseError));
        assert_eq!("".parse::<Hash>(), Err(HashParseError));
        assert_eq!("é".repeat(32).parse::<Hash>(), Err(HashParseError));
    }
}
