//! What a user wrote, repeated in a message that must stay one line.

/// The text as it is, save that control characters are escaped and that bytes which aren't UTF-8
/// show as `\xHH`.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn one_line_and_nothing_lost() {
        assert_eq!(shown("/a=b\\,\"é".as_bytes()), "/a=b\\,\"é");
        assert_eq!(shown(b"a\nb\x1b[31m\xff"), "a\\nb\\u{1b}[31m\\xff");
    }
}
