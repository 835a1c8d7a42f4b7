//! JSON without loss: a name that isn't UTF-8 stands readably under its key, and exactly, in
//! hexadecimal, under KEY_bytes.

use serde_json::{Map, Value};

/// Puts a name into `object`.
pub fn put_name(object: &mut Map<String, Value>, key: &str, name: &[u8]) {
    if let Ok(text) = std::str::from_utf8(name) {
        object.insert(key.to_owned(), text.into());
    } else {
        object.insert(key.to_owned(), String::from_utf8_lossy(name).into());
        object.insert(format!("{key}_bytes"), hex(name).into());
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive() {
        let mut object = Map::new();
        put_name(&mut object, "a", "ä".as_bytes());
        put_name(&mut object, "b", b"x\xff");
        let text = Value::Object(object).to_string();
        assert_eq!(text, "{\"a\":\"ä\",\"b\":\"x\u{fffd}\",\"b_bytes\":\"78ff\"}");
    }
}
