//! Changes as lines: `vrift diff` and `vrift-trace diff` say the same thing the same way.

use std::io::{self, IsTerminal, Write};

use serde_json::Map;

use super::{Aspect, Change, ChangeKind};
use crate::json::put_name;
use crate::manifest::NodeKind;
use crate::text::Shown;

/// How changes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Names are escaped, as they go to a terminal; else they are the bytes they are.
    pub escaped: bool,
    /// Letters in colour; never in JSON.
    pub coloured: bool,
}

impl Style {
    /// What standard output wants: on a terminal escaped names, and colours unless `NO_COLOR` is
    /// set.
    #[must_use]
    pub fn of_stdout(json: bool) -> Style {
        let terminal = io::stdout().is_terminal();
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { json, escaped: terminal, coloured: terminal && colours }
    }
}

/// Writes each change as a line: `A` added, `D` deleted, `M` modified, `R` renamed, the path (`.`
/// for the top, a slash after directories), and in parentheses what differs. In JSON `change`,
/// `path`, `type` and what else there is: `from`, `aspects`, `old_mode`, `new_mode`, `old_type`;
/// names that aren't UTF-8 stand exactly in `path_bytes` and `from_bytes`.
///
/// # Errors
/// `out` can't be written.
pub fn write_changes(out: &mut impl Write, changes: &[Change], style: Style) -> io::Result<()> {
    for change in changes {
        if style.json { write_json(out, change)? } else { write_text(out, change, style)? }
    }
    Ok(())
}

/// The letter, its SGR colour, where it came from, and what differs.
fn parts(change: &Change) -> (&'static str, u8, Option<&[u8]>, &[Aspect]) {
    match &change.kind {
        ChangeKind::Added => ("A", 32, None, &[]),
        ChangeKind::Deleted => ("D", 31, None, &[]),
        ChangeKind::Modified(aspects) => ("M", 33, None, aspects),
        ChangeKind::Renamed { from, also } => ("R", 36, Some(from), also),
    }
}

fn write_text(out: &mut impl Write, change: &Change, style: Style) -> io::Result<()> {
    let (letter, colour, from, aspects) = parts(change);
    if style.coloured {
        write!(out, "\x1b[{colour}m{letter}\x1b[0m ")?;
    } else {
        write!(out, "{letter} ")?;
    }
    if let Some(from) = from {
        write_name(out, from, style)?;
        out.write_all(b" -> ")?;
    }
    write_name(out, if change.path.is_empty() { b"." } else { &change.path }, style)?;
    if change.node_kind == NodeKind::Directory {
        out.write_all(b"/")?;
    }
    if !aspects.is_empty() {
        let words: Vec<String> = aspects.iter().map(aspect_text).collect();
        write!(out, " ({})", words.join(", "))?;
    }
    out.write_all(b"\n")
}

fn write_name(out: &mut impl Write, name: &[u8], style: Style) -> io::Result<()> {
    if style.escaped { write!(out, "{}", Shown(name)) } else { out.write_all(name) }
}

fn aspect_text(aspect: &Aspect) -> String {
    match aspect {
        Aspect::Kind(old, new) => format!("{} -> {}", old.name(), new.name()),
        Aspect::Mode(old, new) => format!("mode {old:04o} -> {new:04o}"),
        other => aspect_name(other).to_owned(),
    }
}

fn aspect_name(aspect: &Aspect) -> &'static str {
    match aspect {
        Aspect::Kind(..) => "type",
        Aspect::Content => "content",
        Aspect::Target => "target",
        Aspect::Mode(..) => "mode",
        Aspect::Time => "time",
        Aspect::Xattrs => "attributes",
        Aspect::Links => "hard links",
    }
}

fn write_json(out: &mut impl Write, change: &Change) -> io::Result<()> {
    let mut object = Map::new();
    let (letter, _, from, aspects) = parts(change);
    if let Some(from) = from {
        put_name(&mut object, "from", from);
    }
    object.insert("change".into(), letter.into());
    put_name(&mut object, "path", &change.path);
    object.insert("type".into(), change.node_kind.name().into());
    if !aspects.is_empty() {
        let names: Vec<&str> = aspects.iter().map(aspect_name).collect();
        object.insert("aspects".into(), names.into());
    }
    for aspect in aspects {
        match aspect {
            Aspect::Mode(old, new) => {
                object.insert("old_mode".into(), format!("{old:04o}").into());
                object.insert("new_mode".into(), format!("{new:04o}").into());
            }
            Aspect::Kind(old, _) => {
                object.insert("old_type".into(), old.name().into());
            }
            _ => {}
        }
    }
    writeln!(out, "{}", serde_json::Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(change: Change, style: Style) -> String {
        let mut out = Vec::new();
        write_changes(&mut out, &[change], style).expect("a vector takes all");
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_change_that_someone_else_found() {
        let aspects = vec![Aspect::Content, Aspect::Mode(0o644, 0o4755), Aspect::Time];
        let kind = ChangeKind::Renamed { from: b"a\n".to_vec(), also: aspects };
        let change = Change { path: b"b\xff".to_vec(), node_kind: NodeKind::File, kind };
        let text = Style { json: false, escaped: true, coloured: true };
        assert_eq!(
            shown(change.clone(), text),
            "\x1b[36mR\x1b[0m a\\n -> b\\xff (content, mode 0644 -> 4755, time)\n"
        );
        let plain = Style { escaped: false, coloured: false, ..text };
        assert_eq!(
            shown(change.clone(), plain),
            "R a\n -> b\u{fffd} (content, mode 0644 -> 4755, time)\n"
        );
        let value: serde_json::Value =
            serde_json::from_str(&shown(change, Style { json: true, ..text })).expect("JSON");
        let expected = serde_json::json!({
            "change": "R", "from": "a\n", "path": "b\u{fffd}", "path_bytes": "62ff",
            "type": "file", "aspects": ["content", "mode", "time"],
            "old_mode": "0644", "new_mode": "4755",
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn the_top_and_what_became_of_a_kind() {
        let plain = Style { json: false, escaped: false, coloured: false };
        let kind = ChangeKind::Modified(vec![Aspect::Kind(NodeKind::Symlink, NodeKind::Directory)]);
        let change = Change { path: b"x".to_vec(), node_kind: NodeKind::Directory, kind };
        assert_eq!(shown(change, plain), "M x/ (symlink -> directory)\n");
        let kind = ChangeKind::Modified(vec![Aspect::Xattrs]);
        let change = Change { path: Vec::new(), node_kind: NodeKind::Directory, kind };
        assert_eq!(shown(change, plain), "M ./ (attributes)\n");
    }
}
