//! One pattern of a rule: what it matches, byte by byte, and how specific it is.
//!
//! A pattern is a row of components. It matches the path that it describes and everything below
//! it, because what holds for a directory holds for what is inside.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::expand::{Fault, Piece, Surroundings, expand};

/// One component.
#[derive(Clone, Debug)]
enum Part {
    /// A name, compared byte by byte.
    Name(Box<[u8]>),
    /// A name with wildcards, as it was written, and its bytes that are none.
    Wild { matcher: GlobMatcher, plain: usize },
    /// `**`: any number of names. At the end of a pattern: at least one.
    Any,
}

/// How specific a component is; the greater wins.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Weight {
    Any,
    Wild(usize),
    Name,
}

/// How specific a pattern is. Compared component by component from the left; a pattern that has
/// ended is less specific than one that goes on.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Specificity(Vec<Weight>);

/// A pattern, ready to be matched.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    parts: Vec<Part>,
}

impl Glob {
    /// Reads a pattern as a policy file has it.
    pub(crate) fn parse(text: &str, around: &Surroundings) -> Result<Glob, Fault> {
        let expanded = expand(text, around)?;
        if expanded.first().is_none_or(|piece| *piece != Piece::Slash) {
            return Err(format!(
                "pattern {text:?} is not absolute; begin it with `/`, `~/` or `${{job}}/`"
            ));
        }
        let mut parts = Vec::new();
        for component in expanded.split(|piece| *piece == Piece::Slash) {
            if !component.is_empty() {
                parts.push(part(component, text)?);
            }
        }
        // `a/**/**` says no more than `a/**`.
        parts.dedup_by(|b, a| matches!((a, b), (Part::Any, Part::Any)));
        Ok(Glob { parts })
    }

    /// The pattern for a path as it is: it and everything below.
    pub(crate) fn of_path(path: &[u8]) -> Glob {
        Glob { parts: names(path).map(|name| Part::Name(name.into())).collect() }
    }

    /// The same pattern where the links of its literal beginning lead to.
    pub(crate) fn elsewhere(&self, follow: fn(&Path) -> Option<PathBuf>) -> Option<Glob> {
        let head = self.head();
        let to = follow(Path::new(OsStr::from_bytes(&head)))?;
        let mut there = Glob::of_path(to.as_os_str().as_bytes());
        there.parts.extend_from_slice(&self.parts[names(&head).count()..]);
        Some(there)
    }

    pub(crate) fn specificity(&self) -> Specificity {
        Specificity(
            self.parts
                .iter()
                .map(|part| match part {
                    Part::Any => Weight::Any,
                    Part::Wild { plain, .. } => Weight::Wild(*plain),
                    Part::Name(_) => Weight::Name,
                })
                .collect(),
        )
    }

    /// Does the pattern match the absolute, normal `path`, or something above it?
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        begins(&self.parts, path)
    }

    /// The components before the first wildcard, as a path; empty if there are none.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        for part in &self.parts {
            let Part::Name(name) = part else { break };
            head.push(b'/');
            head.extend_from_slice(name);
        }
        head
    }

    /// The path and whether the path itself is meant and not only what is below, where the pattern
    /// is nothing but a path or a path and `/**`.
    pub(crate) fn tree(&self) -> Option<(Vec<u8>, bool)> {
        let (whole, parts) = match self.parts.as_slice() {
            [parts @ .., Part::Any] => (false, parts),
            parts => (true, parts),
        };
        let plain = parts.iter().all(|part| matches!(part, Part::Name(_)));
        plain.then(|| (self.head(), whole))
    }

    /// Is `dir` a directory above what the pattern matches, as far as the pattern tells without
    /// `**`?
    pub(crate) fn leads_through(&self, dir: &[u8]) -> bool {
        let mut parts = self.parts.iter();
        for name in names(dir) {
            match parts.next() {
                Some(part @ (Part::Name(_) | Part::Wild { .. })) if part.is(name) => {}
                _ => return false,
            }
        }
        parts.next().is_some()
    }

    /// Would something that is matched below the directory `from` no longer be matched when the
    /// directory was at `to`?
    pub(crate) fn loses(&self, from: &[u8], to: &[u8]) -> bool {
        (0..self.parts.len()).any(|end| {
            let beginning = &self.parts[..end];
            is(beginning, from) && !is(beginning, to)
        })
    }

    /// Tells each component that may come next below the directory `dir`, which it does not match:
    /// a last name by
    /// itself, everything else as None. Names that only lead on are not told.
    pub(crate) fn next_below<'g>(&'g self, dir: &[u8], tell: &mut dyn FnMut(Option<&'g [u8]>)) {
        for (at, part) in self.parts.iter().enumerate() {
            if is(&self.parts[..at], dir) {
                match part {
                    Part::Name(name) if at + 1 == self.parts.len() => tell(Some(name)),
                    Part::Name(_) => {}
                    Part::Wild { .. } | Part::Any => tell(None),
                }
            }
        }
    }

    /// Does it match everything that `other` matches? No is said where it can't be told.
    pub(crate) fn covers(&self, other: &Glob) -> bool {
        covers(&self.parts, &other.parts)
    }

    /// The pattern up to its first `**`, with it, if that is not its end.
    pub(crate) fn until_any(&self) -> Option<Glob> {
        let at = self.parts.iter().position(|part| matches!(part, Part::Any))?;
        (at + 1 < self.parts.len()).then(|| Glob { parts: self.parts[..=at].to_vec() })
    }
}

impl Part {
    fn is(&self, name: &[u8]) -> bool {
        match self {
            Part::Name(own) => **own == *name,
            Part::Wild { matcher, .. } => matcher.is_match(OsStr::from_bytes(name)),
            Part::Any => true,
        }
    }
}

/// The names of a path, without empty ones.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/').filter(|name| !name.is_empty())
}

/// The first name of a path, and what follows it.
fn first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = path.iter().position(|&b| b != b'/')?;
    let path = &path[start..];
    let end = path.iter().position(|&b| b == b'/').unwrap_or(path.len());
    Some(path.split_at(end))
}

/// Do the parts match the path or something above it?
fn begins(parts: &[Part], path: &[u8]) -> bool {
    match parts {
        [] => true,
        [Part::Any] => first(path).is_some(),
        [Part::Any, rest @ ..] => {
            let mut path = path;
            loop {
                if begins(rest, path) {
                    return true;
                }
                let Some((_, below)) = first(path) else { return false };
                path = below;
            }
        }
        [part, rest @ ..] => {
            first(path).is_some_and(|(name, below)| part.is(name) && begins(rest, below))
        }
    }
}

/// Do the parts match exactly the path?
fn is(parts: &[Part], path: &[u8]) -> bool {
    match parts {
        [] => first(path).is_none(),
        [Part::Any] => first(path).is_some(),
        [Part::Any, rest @ ..] => {
            let mut path = path;
            loop {
                if is(rest, path) {
                    return true;
                }
                let Some((_, below)) = first(path) else { return false };
                path = below;
            }
        }
        [part, rest @ ..] => {
            first(path).is_some_and(|(name, below)| part.is(name) && is(rest, below))
        }
    }
}

fn covers(wide: &[Part], narrow: &[Part]) -> bool {
    match (wide, narrow) {
        ([], _) => true,
        ([Part::Any], [_, ..]) => true,
        ([Part::Any, rest @ ..], [Part::Any, more @ ..]) => {
            covers(wide, more) || covers(rest, narrow)
        }
        ([Part::Any, rest @ ..], [_, more @ ..]) => covers(rest, narrow) || covers(wide, more),
        // The end of it stands for one name and whatever is below.
        ([Part::Wild { matcher, .. }, rest @ ..], [Part::Any]) => {
            matcher.glob().glob() == "*" && rest.is_empty()
        }
        (
            [Part::Wild { matcher, .. }, rest @ ..],
            [Part::Wild { matcher: other, .. }, more @ ..],
        ) => {
            let (own, other) = (matcher.glob().glob(), other.glob().glob());
            (own == "*" || own == other) && covers(rest, more)
        }
        ([part, rest @ ..], [Part::Name(name), more @ ..]) => part.is(name) && covers(rest, more),
        _ => false,
    }
}

fn part(component: &[Piece], text: &str) -> Result<Part, Fault> {
    let wild = |piece: &Piece| matches!(piece, Piece::Written(b'*' | b'?' | b'[' | b'{'));
    let byte = |piece: &Piece| match piece {
        Piece::Plain(b) | Piece::Written(b) => *b,
        Piece::Slash => b'/',
    };
    let bytes: Vec<u8> = component.iter().map(byte).collect();
    if matches!(bytes.as_slice(), b"." | b"..") {
        return Err(format!("pattern {text:?} holds a `.` or `..`; write the path without"));
    }
    if !component.iter().any(wild) {
        return Ok(Part::Name(bytes.into()));
    }
    let star = Piece::Written(b'*');
    if component == [star, star] {
        return Ok(Part::Any);
    }
    if component.windows(2).any(|two| two == [star, star]) {
        return Err(format!("pattern {text:?}: `**` must stand alone between slashes; write `*`"));
    }
    // What was given by a variable or after a backslash is no wildcard to the matcher either.
    let mut glob = Vec::with_capacity(bytes.len());
    for piece in component {
        if matches!(piece, Piece::Plain(b) if b.is_ascii_punctuation()) {
            glob.push(b'\\');
        }
        glob.push(byte(piece));
    }
    let glob = String::from_utf8(glob).map_err(|_| {
        format!(
            "pattern {text:?}: a name that is not UTF-8 can't have wildcards in it; write it out"
        )
    })?;
    let built = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build();
    let matcher = built.map_err(|e| format!("pattern {text:?}: {}", e.kind()))?.compile_matcher();
    Ok(Part::Wild { matcher, plain: plain_bytes(component) })
}

/// How many bytes of a component stand for themselves: outside of `*`, `?`, `[…]` and `{…}`.
fn plain_bytes(component: &[Piece]) -> usize {
    let (mut plain, mut depth, mut class) = (0, 0_usize, false);
    for piece in component {
        match piece {
            Piece::Written(b']') if class => class = false,
            _ if class => {}
            Piece::Written(b'[') => class = true,
            Piece::Written(b'{') => depth += 1,
            Piece::Written(b'}') if depth > 0 => depth -= 1,
            Piece::Written(b'*' | b'?') => {}
            _ => plain += usize::from(depth == 0),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::super::Surroundings;
    use super::Glob;

    fn around() -> Surroundings {
        let variables = [("OUT", &b"/tmp/o*t"[..]), ("RAW", b"/r\xff"), ("EMPTY", b"")];
        Surroundings {
            home: Some("/home/u".into()),
            job: "/work/[x]".into(),
            variables: variables
                .map(|(k, v)| (k.into(), OsString::from_vec(v.to_vec())))
                .into_iter()
                .collect(),
            follow: None,
        }
    }

    fn glob(text: &str) -> Glob {
        Glob::parse(text, &around()).expect(text)
    }

    #[test]
    fn what_a_pattern_matches() {
        for (pattern, yes, no) in [
            ("/etc/shadow", &["/etc/shadow", "/etc/shadow/x"][..], &["/etc", "/etc/shadow-"][..]),
            ("/a/**", &["/a/b", "/a/b/c"], &["/a", "/ab", "/"]),
            ("/a/*", &["/a/b", "/a/b/c", "/a/.h"], &["/a", "/b/c"]),
            ("/**/k", &["/k", "/a/k", "/a/b/k", "/a/k/c"], &["/kk", "/a/kk"]),
            ("/a/**/k/**", &["/a/k/x", "/a/b/k/x"], &["/a/k", "/a/b/k", "/k/x"]),
            ("/a/*.[oc]", &["/a/x.o", "/a/.c"], &["/a/x.h", "/a/b/x.o"]),
            ("/a/{b,c?}/d", &["/a/b/d", "/a/cx/d"], &["/a/c/d", "/a/bx/d"]),
            ("/", &["/", "/a"], &[]),
            ("/**", &["/a", "/a/b"], &["/"]),
            ("~/.ssh/**", &["/home/u/.ssh/id"], &["/home/u/.ssh", "/home/u"]),
            ("~", &["/home/u", "/home/u/x"], &["/home"]),
            ("${job}/o", &["/work/[x]/o"], &["/work/x/o"]),
            ("$OUT/*", &["/tmp/o*t/a"], &["/tmp/oxt/a", "/tmp/o*t"]),
            ("/a\\*b/\\$x", &["/a*b/$x"], &["/axb/$x"]),
            ("//a//b/", &["/a/b"], &["/a"]),
            ("$EMPTY/x", &["/x"], &["/"]),
        ] {
            let glob = glob(pattern);
            for path in yes {
                assert!(glob.matches(path.as_bytes()), "{pattern} {path}");
            }
            for path in no {
                assert!(!glob.matches(path.as_bytes()), "{pattern} {path}");
            }
        }
        assert!(glob("$RAW/x").matches(b"/r\xff/x/y"));
        assert!(glob("/*/x").matches(b"/\xfe\xff/x"), "names are bytes");
    }

    #[test]
    fn each_fault_is_one_line_that_names_the_pattern() {
        for (pattern, message) in [
            ("a/b", "is not absolute"),
            ("**/x", "is not absolute"),
            ("~user/x", "is not absolute"),
            ("/a/../b", "holds a `.` or `..`"),
            ("/a**b", "`**` must stand alone"),
            ("/a/[b", "unclosed character class"),
            ("/a/{b", "unclosed alternate group"),
            ("/a/$NOT_SET/b", "the variable NOT_SET is not set"),
            ("/a/$/b", "no name follows the `$`"),
            ("/a\\", "ends in a lone backslash"),
            ("$RAW*", "is not UTF-8"),
        ] {
            let fault = Glob::parse(pattern, &around()).expect_err(pattern);
            assert!(fault.contains(message) && fault.contains("pattern"), "{pattern}: {fault}");
            assert!(!fault.contains('\n'), "{fault}");
        }
        let homeless = Surroundings { home: None, ..around() };
        assert!(Glob::parse("~/x", &homeless).expect_err("no home").contains("HOME is not set"));
    }

    #[test]
    fn the_more_specific_is_the_greater() {
        // Each is more specific than all before it.
        let order = [
            "/", "/**", "/**/k", "/*", "/*/k", "/a*", "/a*/k", "/*ab", "/a", "/a/**", "/a/*",
            "/a/*.o", "/a/b",
        ];
        for (i, less) in order.iter().enumerate() {
            for more in &order[i + 1..] {
                assert!(glob(less).specificity() < glob(more).specificity(), "{less} {more}");
            }
        }
        for (one, other) in [("/a/?", "/a/*"), ("/a/[xyz]", "/a/{b,c}"), ("/a", "/b")] {
            assert_eq!(glob(one).specificity(), glob(other).specificity(), "{one} {other}");
        }
    }

    #[test]
    fn the_way_to_what_it_matches() {
        for (pattern, yes, no) in [
            ("/a/b/c", &["/", "/a", "/a/b"][..], &["/a/b/c", "/b"][..]),
            ("/a/*/c", &["/a", "/a/x"], &["/a/x/c", "/a/x/y"]),
            ("/a/**", &["/", "/a"], &["/a/b"]),
            ("/a/**/c", &["/a"], &["/a/b"]),
        ] {
            for path in yes {
                assert!(glob(pattern).leads_through(path.as_bytes()), "{pattern} {path}");
            }
            for path in no {
                assert!(!glob(pattern).leads_through(path.as_bytes()), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn moving_a_directory_must_not_lose_what_is_below() {
        for (pattern, from, to, loses) in [
            ("/a/b/c", "/a", "/x", true),
            ("/a/b/c", "/a/b", "/a/x", true),
            ("/a/b/c", "/a/y", "/a/x", false),
            ("/a/b/c", "/y", "/a/b", false),
            ("/a/*/c", "/a/x", "/a/y", false),
            ("/a/*/c", "/a/x", "/b", true),
            ("/a/*/c/**", "/a/x/c", "/a/x/d", true),
            ("/a/**/c", "/a/x", "/a/y/z", false),
            ("/a/**/c", "/a/x", "/b", true),
        ] {
            let lost = glob(pattern).loses(from.as_bytes(), to.as_bytes());
            assert_eq!(lost, loses, "{pattern} {from} {to}");
        }
    }

    #[test]
    fn what_covers_what() {
        for (wide, narrow, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/**", true),
            ("/a/**", "/a", false),
            ("/a/*", "/a/**", true),
            ("/a/**", "/a/*", true),
            ("/a/*", "/a/b/c", true),
            ("/a/*.o", "/a/b.o", true),
            ("/a/*.o", "/a/*", false),
            ("/**/k", "/a/k", true),
            ("/**/k", "/a/**/k", true),
            ("/**/k", "/a/b", false),
            ("/a/*/c", "/a/**", false),
            ("/a/b", "/a/*", false),
        ] {
            assert_eq!(glob(wide).covers(&glob(narrow)), expected, "{wide} {narrow}");
        }
    }
}
