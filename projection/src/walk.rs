//! Paths taken apart as the kernel takes them apart (`link_path_walk` in `fs/namei.c`): by their
//! bytes alone, without a look at what is there.

/// The longest name of one component, bytes.
pub const NAME_MAX: usize = vrift_policy::MAX_COMPONENT;

/// The longest path that a call takes, bytes, its NUL included.
pub const PATH_MAX: usize = 4096;

/// Symbolic links that may be followed on one way before it is `ELOOP`.
pub const MAX_LINKS: u32 = 40;

/// What one component of a path is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// `.`
    Current,
    /// `..`
    Parent,
    /// A name to look up.
    Name(&'a [u8]),
    /// A name longer than [`NAME_MAX`]: `ENAMETOOLONG`, if the walk gets here at all.
    TooLong(&'a [u8]),
}

/// One component and what follows it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// What it is.
    pub step: Step<'a>,
    /// Whether no other component follows.
    pub last: bool,
    /// Whether slashes follow. After the last component they ask for a directory, and make the
    /// kernel follow a link there even if the call would not.
    pub slash: bool,
    /// What follows this component and its slashes: where to go on after a symbolic link.
    pub rest: &'a [u8],
}

/// The components of a path. Slashes at the beginning and doubled ones are passed over, as the
/// kernel does; `/` and the empty path have none.
#[derive(Copy, Clone, Debug)]
pub struct Components<'a> {
    rest: &'a [u8],
}

/// Takes a path apart. Whether it [`is_absolute`] is to be asked of the path.
#[must_use]
pub fn components(path: &[u8]) -> Components<'_> {
    Components { rest: skip_slashes(path) }
}

/// Whether a path begins at `/`.
#[must_use]
pub fn is_absolute(path: &[u8]) -> bool {
    path.first() == Some(&b'/')
}

impl<'a> Iterator for Components<'a> {
    type Item = Component<'a>;

    fn next(&mut self) -> Option<Component<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'/').unwrap_or(self.rest.len());
        let (name, after) = self.rest.split_at(end);
        let rest = skip_slashes(after);
        self.rest = rest;
        let step = match name {
            b"." => Step::Current,
            b".." => Step::Parent,
            _ if name.len() > NAME_MAX => Step::TooLong(name),
            _ => Step::Name(name),
        };
        Some(Component { step, last: rest.is_empty(), slash: !after.is_empty(), rest })
    }
}

fn skip_slashes(path: &[u8]) -> &[u8] {
    let first = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[first..]
}

/// Whether a path is absolute and has no `.`, `..`, doubled or trailing slash: what
/// [`normalise`] makes of it would be itself. Most paths of a build are.
#[must_use]
pub fn is_normal(path: &[u8]) -> bool {
    let Some(mut rest) = path.strip_prefix(b"/") else { return false };
    if rest.is_empty() {
        return true;
    }
    loop {
        // `rest` begins a component.
        if matches!(rest, [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..])
            || matches!(rest, [b'.', b'.'] | [b'.', b'.', b'/', ..])
        {
            return false;
        }
        match rest.iter().position(|byte| *byte == b'/') {
            Some(end) => rest = &rest[end + 1..],
            None => return true,
        }
    }
}

/// Writes `path`, taken from the normal directory `base` if it is relative, into `out` without
/// `.`, `..`, doubled and trailing slashes; `out` is cleared first. `..` takes away the component
/// before it, which is what the kernel does only where that is no symbolic link.
pub fn normalise(base: &[u8], path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    if !is_absolute(path) && base != b"/" {
        out.extend_from_slice(base);
    }
    for component in components(path) {
        match component.step {
            Step::Current => {}
            Step::Parent => {
                let up = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(up);
            }
            Step::Name(name) | Step::TooLong(name) => {
                out.push(b'/');
                out.extend_from_slice(name);
            }
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
}

#[cfg(test)]
mod tests {
    use super::{NAME_MAX, Step, components, is_normal, normalise};

    fn steps(path: &[u8]) -> Vec<(Step<'_>, bool, bool)> {
        components(path).map(|c| (c.step, c.last, c.slash)).collect()
    }

    #[test]
    fn components_are_the_kernels() {
        use Step::{Current, Name, Parent};
        assert_eq!(steps(b""), []);
        assert_eq!(steps(b"/"), []);
        assert_eq!(steps(b"//"), []);
        assert_eq!(steps(b"a"), [(Name(b"a"), true, false)]);
        assert_eq!(steps(b"a/"), [(Name(b"a"), true, true)]);
        assert_eq!(steps(b"/a//"), [(Name(b"a"), true, true)]);
        assert_eq!(
            steps(b"//a/.//../b\xff/..."),
            [
                (Name(b"a"), false, true),
                (Current, false, true),
                (Parent, false, true),
                (Name(b"b\xff"), false, true),
                (Name(b"..."), true, false),
            ]
        );
        assert_eq!(steps(b"./"), [(Current, true, true)]);
    }

    #[test]
    fn the_rest_is_where_a_link_goes_on() {
        let rests: Vec<&[u8]> = components(b"/a//b/c/").map(|c| c.rest).collect();
        assert_eq!(rests, [b"b/c/".as_slice(), b"c/", b""]);
    }

    #[test]
    fn long_names_are_told_at_the_boundary() {
        let longest = vec![b'n'; NAME_MAX];
        assert_eq!(steps(&longest), [(Step::Name(&longest), true, false)]);
        let longer = vec![b'n'; NAME_MAX + 1];
        assert_eq!(steps(&longer), [(Step::TooLong(&longer), true, false)]);
    }

    #[test]
    fn normal_paths() {
        let mut out = b"left over".to_vec();
        for (base, path, expected) in [
            ("/", "a", "/a"),
            ("/", "", "/"),
            ("/", "..", "/"),
            ("/base/dir", "a/./b", "/base/dir/a/b"),
            ("/base/dir", "../x", "/base/x"),
            ("/base/dir", "../../../x", "/x"),
            ("/base", "/abs//p/", "/abs/p"),
            ("/base", "/a/b/../../..", "/"),
            ("/base", ".", "/base"),
            ("/base", "..", "/"),
        ] {
            normalise(base.as_bytes(), path.as_bytes(), &mut out);
            assert_eq!(out, expected.as_bytes(), "{base} {path}");
            assert!(is_normal(&out));
        }
        for path in ["", "a", "/a/", "//a", "/a//b", "/.", "/a/..", "/a/./b"] {
            assert!(!is_normal(path.as_bytes()), "{path}");
        }
        assert!(is_normal(b"/") && is_normal(b"/...") && is_normal(b"/a/.b"));
    }
}
