//! Names as a person sees them: bytes that could confuse a reader or steer a terminal are escaped.
//!
//! Only for messages and terminals. Whatever a program reads gets the bytes themselves.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Shows bytes as text: printable UTF-8 as it is, the rest as `\n`, `\xff` or `\u{202e}`.
#[derive(Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

/// Shows a path, see [`Shown`].
#[must_use]
pub fn shown(path: &Path) -> Shown<'_> {
    Shown(path.as_os_str().as_bytes())
}

/// Characters that print nothing or turn the writing direction.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    c if is_hidden(c) => write!(f, "{}", c.escape_default())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mislead_is_escaped() {
        assert_eq!(Shown("größe 日本".as_bytes()).to_string(), "größe 日本");
        assert_eq!(Shown(b"a\nb\xff\x1b[31m\\").to_string(), "a\\nb\\xff\\u{1b}[31m\\\\");
        assert_eq!(Shown("a\u{202e}b\u{200b}".as_bytes()).to_string(), "a\\u{202e}b\\u{200b}");
        assert_eq!(Shown(b"").to_string(), "");
    }
}
