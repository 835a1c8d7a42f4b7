//! Names as a trace holds them: bytes, lossless.
//!
//! JSON's strings are Unicode and a path need not be, so a name that is not UTF-8 is written as
//! `{"hex":"2f61ff"}`, and every other one as a plain string.

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::{self, Write};

/// Bytes that are mostly text: a path, an argument.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Text(Vec<u8>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people: what is not printable is escaped.
    pub fn shown(&self) -> String {
        printable(&self.0)
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Text {
        Text(bytes)
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Text {
        Text(bytes.to_vec())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => to.serialize_str(text),
            Err(_) => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hex(&self.0))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or {\"hex\": digits}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
        Ok(Text(text.into_bytes()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        let Some((key, digits)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::custom("an empty object is no name"));
        };
        if key != "hex" || map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom("a name is a string or has the one key `hex`"));
        }
        unhex(&digits).map(Text).ok_or_else(|| de::Error::custom("`hex` is not pairs of digits"))
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let value = |d: u8| char::from(d).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

/// A path for a message: what is not printable is escaped.
pub fn printable(path: &[u8]) -> String {
    path.utf8_chunks().fold(String::new(), |mut out, chunk| {
        out.extend(chunk.valid().chars().flat_map(|c| {
            if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }
        }));
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in [&b"/usr/include/\xc3\xa9.h"[..], b"", b"/a\xff\xfe\n\"", b"\x01\x7f"] {
            let text = Text::from(name);
            let json = serde_json::to_string(&text).expect("a name can be written");
            assert_eq!(serde_json::from_str::<Text>(&json).expect("and read"), text, "{json}");
        }
        let json = serde_json::to_string(&Text::from(&b"/a\xff"[..])).expect("a name");
        assert_eq!(json, r#"{"hex":"2f61ff"}"#);
    }

    #[test]
    fn names_are_shown_plainly() {
        assert_eq!(printable(b"/a\nb\xff/\xc3\xa9"), "/a\\nb\\xff/\u{e9}");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["7", "{}", r#"{"hex":"2"}"#, r#"{"hex":"zz"}"#, r#"{"heks":"2f"}"#, "[47]"] {
            assert!(serde_json::from_str::<Text>(bad).is_err(), "{bad}");
        }
    }
}
