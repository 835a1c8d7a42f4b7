//! Which patterns may match a path: found by what they begin with, whatever their number.
//!
//! A pattern's beginning without wildcards is a path, and what the pattern matches lies at or below
//! it. So for a path only the patterns are asked that begin with it or with a directory above it.

use std::collections::HashMap;

use super::Pattern;

/// Patterns by their number in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// By what they begin with; each list in order.
    heads: HashMap<Box<[u8]>, Vec<u32>>,
    /// The same for each directory above what they begin with.
    above: HashMap<Box<[u8]>, Vec<u32>>,
}

impl Index {
    pub(super) fn new(patterns: &[Pattern]) -> Index {
        let mut index = Index::default();
        for (number, pattern) in (0..).zip(patterns) {
            let head = pattern.glob.head();
            for dir in beginnings(&head).filter(|dir| dir.len() < head.len()) {
                index.above.entry(dir.into()).or_default().push(number);
            }
            index.heads.entry(head.into()).or_default().push(number);
        }
        index
    }

    /// The patterns that begin with the absolute, normal path or above it. Each inner list is in
    /// order.
    pub(super) fn at<'i>(&'i self, path: &'i [u8]) -> impl Iterator<Item = &'i [u32]> {
        beginnings(path).filter_map(|dir| self.heads.get(dir)).map(Vec::as_slice)
    }

    /// The patterns that begin with something below the directory.
    pub(super) fn below(&self, dir: &[u8]) -> &[u32] {
        let dir = if dir == b"/" { b"" } else { dir };
        self.above.get(dir).map_or(&[], Vec::as_slice)
    }
}

/// The root, as the empty path, and each directory down to the path itself.
fn beginnings(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = if path == b"/" { b"" } else { path };
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    ends.filter_map(|end| path.get(..end)).chain([path])
}

#[cfg(test)]
mod tests {
    use super::beginnings;

    #[test]
    fn a_path_has_its_directories() {
        let all = |path: &'static str| -> Vec<&str> {
            beginnings(path.as_bytes()).map(|b| std::str::from_utf8(b).expect("text")).collect()
        };
        assert_eq!(all("/"), [""]);
        assert_eq!(all(""), [""]);
        assert_eq!(all("/a"), ["", "/a"]);
        assert_eq!(all("/a/b"), ["", "/a", "/a/b"]);
    }
}
