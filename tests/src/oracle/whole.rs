//! Two trees on disk compared whole, in all that a manifest keeps: names, kinds, modes, times,
//! contents, link targets, hard links and `user.*` attributes. Sockets, fifos and devices, which
//! the store leaves out, and owners aren't compared; a time that the kernel has set is "now" on
//! both sides.

use crate::job::Job;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Times of sources and fixtures are older than this (seconds since 1970); what is later was made
/// by the test. As in `fixtures/oracle/show.h`.
const YOUNGEST: i64 = 1_700_000_000;

/// What is left out of a comparison.
#[derive(Debug, Clone, Copy, Default)]
pub struct Without<'a> {
    /// Whose content isn't compared: what a tool writes there differs at every run.
    pub content_of: &'a [&'a str],
    /// Paths below which nothing is compared.
    pub below: &'a [&'a str],
    /// Times aren't compared, for they depend on when a tool was done with a file.
    pub times: bool,
}

/// Every entry below `dir`, with a line of what is compared.
///
/// # Panics
/// When the tree can't be read.
pub fn entries(dir: &Path, without: Without<'_>) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut links = HashMap::new();
    describe(dir, Path::new(""), without, &mut links, &mut all);
    all
}

fn describe(
    top: &Path,
    name: &Path,
    without: Without<'_>,
    links: &mut HashMap<(u64, u64), PathBuf>,
    all: &mut BTreeMap<PathBuf, String>,
) {
    let path = if name.as_os_str().is_empty() { top.to_owned() } else { top.join(name) };
    let m = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kind = m.mode() & 0o170_000;
    if !matches!(kind, 0o100_000 | 0o040_000 | 0o120_000) {
        return;
    }
    let mut line = format!("{:o}", m.mode());
    if !without.times {
        if m.mtime() > YOUNGEST {
            line.push_str(" now");
        } else {
            line.push_str(&format!(" {}.{:09}", m.mtime(), m.mtime_nsec()));
        }
    }
    for (attribute, value) in attributes(&path) {
        line.push_str(&format!(" {attribute:?}={value:?}"));
    }
    match kind {
        0o120_000 => {
            let target = fs::read_link(&path).expect("readlink");
            line.push_str(&format!(" -> {}", target.display()));
        }
        0o100_000 => {
            if m.nlink() > 1 {
                let first = links.entry((m.dev(), m.ino())).or_insert_with(|| name.to_owned());
                line.push_str(&format!(" = {}", first.display()));
            }
            let text = name.to_string_lossy();
            if without.content_of.iter().any(|end| text.ends_with(end)) {
                line.push_str(" (content not compared)");
            } else {
                let content = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                line.push_str(&format!(
                    " {} bytes {}",
                    content.len(),
                    &blake3::hash(&content).to_hex()[..16]
                ));
            }
        }
        _ => {
            let text = name.to_string_lossy();
            if !without.below.iter().any(|below| *below == text) {
                let mut names: Vec<OsString> = fs::read_dir(&path)
                    .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
                    .map(|entry| entry.expect("entry").file_name())
                    .collect();
                names.sort();
                for below in names {
                    describe(top, &name.join(below), without, links, all);
                }
            }
        }
    }
    all.insert(name.to_owned(), line);
}

fn attributes(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0u8; 16 << 10];
    let Ok(n) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let mut all: Vec<_> = names[..n]
        .split(|b| *b == 0)
        .filter(|name| name.starts_with(b"user."))
        .map(|name| {
            let name = OsString::from_vec(name.to_vec());
            let mut value = vec![0u8; 64 << 10];
            let n = rustix::fs::lgetxattr(path, name.as_os_str(), &mut value[..]).unwrap_or(0);
            value.truncate(n);
            (name, value)
        })
        .collect();
    all.sort();
    all
}

/// Lets this user read what a script made unreadable, so that it is compared too; root reads it as
/// it is.
pub fn make_readable(tree: &Path) {
    if !rustix::process::getuid().is_root() {
        let _ = Job::new(["chmod", "-R", "u+rwX"]).arg(tree).run();
    }
}

/// What differs between two trees, a line for each entry; none when they are the same.
pub fn differences(plain: &Path, projected: &Path, without: Without<'_>) -> Vec<String> {
    let (left, right) = (entries(plain, without), entries(projected, without));
    let mut wrong = Vec::new();
    for (name, is) in &left {
        match right.get(name) {
            Some(other) if other == is => {}
            Some(other) => wrong.push(format!("{name:?}: {is}  <>  {other}")),
            None => wrong.push(format!("{name:?}: missing ({is})")),
        }
    }
    for (name, is) in &right {
        if !left.contains_key(name) {
            wrong.push(format!("{name:?}: extra ({is})"));
        }
    }
    wrong
}

/// Fails unless both trees are the same.
///
/// # Panics
/// With what differs.
#[track_caller]
pub fn assert_same(plain: &Path, projected: &Path, without: Without<'_>) {
    let wrong = differences(plain, projected, without);
    assert!(
        wrong.is_empty(),
        "{} entries differ (plain <> projected):\n{}",
        wrong.len(),
        wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}
