//! From what a job needed to patterns and what each of them grants.
//!
//! Nothing is granted but what was needed, with these exceptions, without which the policy would
//! fit one run only: trees that tools bring with them are opened as far as their common directory,
//! directories that the job made belong to it, four files of a kind in one of its directories stand
//! for all of the kind, and names that are made up anew in each run are patterns.

use super::needs::{Need, Needs, within};
use super::words::{self, Words};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How much is granted; the later is more.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Nothing.
    Hide,
    /// That it is there.
    Deny,
    /// To be read.
    Read,
    /// To be changed.
    Change,
}

/// What one pattern grants.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// How much; None: other patterns say so.
    pub level: Option<Level>,
    /// To be run.
    pub run: bool,
    /// Who needed it.
    pub who: BTreeSet<String>,
}

/// Patterns, and what they grant.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan(pub BTreeMap<String, Entry>);

/// The pattern of all that no other pattern names.
pub const REST: &str = "/**";

/// How many files of a kind stand for all of it.
const OF_A_KIND: usize = 4;

/// A directory, what its files are called behind the dot, and what is needed of them.
type Kind<'p> = (&'p [u8], &'p str, Level);

/// Directories that tools bring with them; `*` is any name.
const TOOLS: &[&str] = &[
    "/usr/include",
    "/usr/lib/*",
    "/usr/lib32/*",
    "/usr/lib64/*",
    "/usr/libexec/*",
    "/usr/share/*",
    "/usr/src/*",
    "/usr/local/include",
    "/usr/local/lib/*",
    "/usr/local/libexec/*",
    "/usr/local/share/*",
    "/opt/*",
    "/nix/store/*",
    "/gnu/store/*",
];

/// The same below a home directory.
const TOOLS_AT_HOME: &[&str] = &[
    "/.rustup/toolchains/*",
    "/.cargo/registry",
    "/.cargo/git",
    "/go/pkg/mod",
    "/.m2/repository",
    "/.nvm/versions",
    "/.pyenv/versions",
    "/.local/lib/*",
];

/// Where a rule that somebody wrote decides already.
pub trait Decided {
    /// Does it say what may be done with the path?
    fn access(&self, path: &[u8]) -> bool;
    /// Does it say that it may not be run?
    fn no_exec(&self, path: &[u8]) -> bool;
}

impl Plan {
    /// Adds to what a pattern grants.
    pub fn add(&mut self, pattern: String, level: Level, who: &BTreeSet<String>) {
        let entry = self.0.entry(pattern).or_default();
        entry.level = entry.level.max(Some(level));
        entry.who.extend(who.iter().cloned());
    }

    /// Lets what a pattern matches be run.
    pub fn run(&mut self, pattern: String, who: &BTreeSet<String>) {
        let entry = self.0.entry(pattern).or_default();
        entry.run = true;
        entry.who.extend(who.iter().cloned());
    }

    /// The least plan for these needs.
    pub fn of(
        needs: &Needs,
        words: &mut Words,
        temporary: &[Vec<u8>],
        decided: &dyn Decided,
    ) -> Plan {
        made_up_names(needs, words, temporary);
        let words = &*words;
        let mut plan = Plan::default();
        plan.add(REST.into(), Level::Hide, &BTreeSet::new());
        let mut left: BTreeMap<&[u8], &Need> = BTreeMap::new();
        for (path, need) in needs {
            let rest = need.there() && !decided.access(path);
            if need.run && !decided.no_exec(path) {
                plan.run(words.pattern(path), &need.who);
            }
            if rest {
                left.insert(path, need);
            }
        }
        plan.own_trees(&mut left, words);
        plan.tool_trees(&mut left, words);
        plan.kinds(&mut left, words);
        for (path, need) in &left {
            plan.one(path, need, &left, needs, words);
        }
        plan
    }

    /// Directories that the job made, or took from their place with all that is in them.
    fn own_trees(&mut self, left: &mut BTreeMap<&[u8], &Need>, words: &Words) {
        let trees: Vec<&[u8]> = left
            .iter()
            .filter(|(_, need)| need.dir && need.changed && (need.own || need.gone))
            .map(|(path, _)| *path)
            .collect();
        for tree in trees {
            if left.contains_key(tree) {
                let who = take_within(left, tree, |_| true);
                self.add(words.pattern(tree), Level::Change, &who);
            }
        }
    }

    fn tool_trees(&mut self, left: &mut BTreeMap<&[u8], &Need>, words: &Words) {
        let mut groups: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
        for (path, need) in left.iter() {
            if let Some(root) = tool_root(path, words)
                && !need.changed
            {
                groups.entry(root).or_default().push(path);
            }
        }
        for (root, members) in groups {
            let [first, .., last] = members.as_slice() else { continue };
            // They are in order: what the first and the last share, all do.
            let common = common_directory(first, last);
            if common.len() >= root.len() {
                let who = take_within(left, common, |need| !need.changed);
                self.add(words.pattern(common), Level::Read, &who);
            }
        }
    }

    /// Files of one kind in one of the job's directories.
    fn kinds(&mut self, left: &mut BTreeMap<&[u8], &Need>, words: &Words) {
        let mut groups: BTreeMap<Kind<'_>, Vec<&[u8]>> = BTreeMap::new();
        for (path, need) in left.iter() {
            let level = level(need);
            if need.dir || need.link || level < Level::Read || words.changing.contains_key(*path) {
                continue;
            }
            if within(path, &words.job)
                && words.job.len() > 1
                && let Some((dir, kind)) = kind_of(path)
            {
                groups.entry((dir, kind, level)).or_default().push(path);
            }
        }
        for ((dir, kind, level), members) in groups {
            if members.len() >= OF_A_KIND {
                let all = members.iter().filter_map(|path| left.remove(path));
                let who = all.flat_map(|need| need.who.iter().cloned()).collect();
                self.add(format!("{}/*.{kind}", words.pattern(dir)), level, &who);
            }
        }
    }

    /// What one path needs by itself.
    fn one(
        &mut self,
        path: &[u8],
        need: &Need,
        left: &BTreeMap<&[u8], &Need>,
        needs: &Needs,
        words: &Words,
    ) {
        let pattern = words.pattern(path);
        if need.link {
            self.add(pattern.clone(), level(need).max(Level::Read), &need.who);
            self.close_target(path, left, needs, words);
            return;
        }
        let parent_listed = || {
            let parent = path.iter().rposition(|&b| b == b'/').and_then(|cut| path.get(..cut));
            parent.is_some_and(|dir| {
                left.contains_key(dir) && needs.get(dir).is_some_and(|need| need.listed)
            })
        };
        if !need.dir {
            // The names of a directory that was listed are there already.
            if level(need) > Level::Deny || !parent_listed() {
                self.add(pattern, level(need), &need.who);
            }
            return;
        }
        let level = level(need).max(Level::Read);
        // The kernel's own directories have other names in them in each run.
        if [&b"/proc"[..], b"/sys", b"/dev"].iter().any(|at| within(path, at)) {
            self.add(pattern, level, &need.who);
            return;
        }
        // The way to what is open is open.
        let leads_on = || {
            let inside = [path, b"/"].concat();
            let from = (Bound::Included(inside.as_slice()), Bound::Unbounded);
            left.range::<[u8], _>(from).next().is_some_and(|(below, _)| below.starts_with(&inside))
        };
        if need.listed || need.changed || !leads_on() || parent_listed() {
            self.closed_directory(&pattern, level, need.listed, &need.who);
        }
    }

    /// A directory, and nothing of what is in it; with `named`, the names.
    pub fn closed_directory(
        &mut self,
        pattern: &str,
        level: Level,
        named: bool,
        who: &BTreeSet<String>,
    ) {
        self.add(pattern.to_owned(), level, who);
        if named {
            self.add(format!("{pattern}/*"), Level::Deny, who);
        } else {
            self.add(format!("{pattern}/**"), Level::Hide, who);
        }
    }

    /// A rule that names a link means the place that it leads to, too, with all that is below: what
    /// was not needed of it is closed again.
    fn close_target(
        &mut self,
        link: &[u8],
        left: &BTreeMap<&[u8], &Need>,
        needs: &Needs,
        words: &Words,
    ) {
        if [&b"/proc"[..], b"/dev"].iter().any(|at| within(link, at)) {
            return;
        }
        let Ok(target) = Path::new(OsStr::from_bytes(link)).canonicalize() else { return };
        let path = target.as_os_str().as_bytes();
        // Below what is open as a whole there is nothing to close.
        if target.ancestors().any(|above| {
            self.0.get(&words.pattern(above.as_os_str().as_bytes())).is_some_and(|entry| {
                entry.level >= Some(Level::Read) && !left.contains_key(above.as_os_str().as_bytes())
            })
        }) {
            return;
        }
        let pattern = words.pattern(path);
        let who = BTreeSet::new();
        if target.is_dir() {
            self.closed_directory(&pattern, Level::Read, false, &who);
        } else if !needs.get(path).is_some_and(Need::there) {
            self.add(pattern, Level::Hide, &who);
        }
    }
}

fn level(need: &Need) -> Level {
    if need.changed {
        Level::Change
    } else if need.read || need.listed {
        Level::Read
    } else {
        Level::Deny
    }
}

/// Names that are other ones in each run: of what the job made and took away again, and of what it
/// made where temporary files are.
fn made_up_names(needs: &Needs, words: &mut Words, temporary: &[Vec<u8>]) {
    let made = needs.iter().filter_map(|(path, need)| {
        let cut = path.iter().rposition(|&b| b == b'/')?;
        let (dir, name) = (path.get(..cut)?, path.get(cut + 1..)?);
        let passes = need.gone || temporary.iter().any(|temporary| temporary == dir);
        (need.own && passes).then_some((path, dir, name))
    });
    let (mut plain, mut shapes) = (Vec::new(), BTreeSet::new());
    for (path, dir, name) in made {
        match words::made_up(name) {
            Some(pattern) => {
                shapes.insert((dir, pattern.clone()));
                words.changing.insert(path.clone(), pattern);
            }
            None => plain.push((path, dir, name)),
        }
    }
    // A name that could be a word, among others of its shape that could not.
    for (path, dir, name) in plain {
        let shape = shapes.iter().find(|(at, shape)| *at == dir && words::has_shape(name, shape));
        if let Some((_, shape)) = shape {
            words.changing.insert(path.clone(), shape.clone());
        }
    }
}

/// Takes what lies at or below `dir` out of `left`: who needed it.
fn take_within(
    left: &mut BTreeMap<&[u8], &Need>,
    dir: &[u8],
    which: impl Fn(&Need) -> bool,
) -> BTreeSet<String> {
    let all: Vec<&[u8]> = left
        .range(dir..)
        .take_while(|(path, _)| path.starts_with(dir))
        .filter(|(path, need)| within(path, dir) && which(need))
        .map(|(path, _)| *path)
        .collect();
    let taken = all.into_iter().filter_map(|path| left.remove(path));
    taken.flat_map(|need| need.who.iter().cloned()).collect()
}

/// The directory of a tool that the path lies in.
fn tool_root<'p>(path: &'p [u8], words: &Words) -> Option<&'p [u8]> {
    if words.job.len() > 1 && within(path, &words.job) {
        return None;
    }
    let homes = words.homes.iter().filter(|home| home.len() > 1 && within(path, home));
    let homes = homes.map(Vec::len);
    // Tools of another user are no less tools.
    let usual = ["/root", "/home/*"].into_iter().filter_map(|home| head(path, home));
    let within_home = homes.chain(usual).find_map(|home| {
        let rest = path.get(home..)?;
        TOOLS_AT_HOME.iter().find_map(|tool| head(rest, tool)).map(|len| home + len)
    });
    let len = within_home.or_else(|| TOOLS.iter().find_map(|tool| head(path, tool)))?;
    path.get(..len)
}

/// How much of the path is what `tool` describes.
fn head(path: &[u8], tool: &str) -> Option<usize> {
    let mut names = path.split(|&b| b == b'/');
    let mut len = 0;
    for (at, word) in tool.as_bytes().split(|&b| b == b'/').enumerate() {
        let name = names.next()?;
        if word != b"*" && word != name {
            return None;
        }
        len += name.len() + usize::from(at > 0);
    }
    Some(len)
}

/// The directory that both paths lie in.
fn common_directory<'p>(a: &'p [u8], b: &[u8]) -> &'p [u8] {
    if within(b, a) {
        return a;
    }
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let cut = a[..same].iter().rposition(|&b| b == b'/').unwrap_or(0);
    // Both may go on with a slash here: then all of it is shared.
    let whole = a.get(same) == Some(&b'/') && b.get(same) == Some(&b'/');
    &a[..if whole { same } else { cut }]
}

/// The directory and the kind of a file, `c` of `x.c`.
fn kind_of(path: &[u8]) -> Option<(&[u8], &str)> {
    let cut = path.iter().rposition(|&b| b == b'/')?;
    let name = std::str::from_utf8(&path[cut + 1..]).ok()?;
    let (stem, kind) = name.rsplit_once('.')?;
    let plain = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_alphanumeric());
    (!stem.is_empty() && plain).then_some((&path[..cut], kind))
}
