//! The rules for real paths, ready to be asked: which of them decides about a path.
//!
//! Of all patterns that match a path, or a directory above it, the most specific decides. What a
//! rule says of access and what it says of `exec` are asked for apart.

mod decision;
mod expand;
mod index;
mod pattern;

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use crate::error::PolicyError;
use crate::file::{Access, Enforce, Rule};
use crate::mount::Origin;

pub use decision::{
    Grant, RealTarget, decide_exec, decide_rule, decide_rule_link, decide_rule_rename,
};
pub use expand::Surroundings;
use index::Index;
use pattern::{Glob, Specificity};

/// One pattern of a rule.
#[derive(Clone, Debug)]
pub struct Pattern {
    glob: Glob,
    specificity: Specificity,
    /// As it was written.
    pub text: String,
    /// What the job may do there; None: this rule says nothing of it.
    pub access: Option<Access>,
    /// Whether programs there may be run; None: this rule says nothing of it.
    pub exec: Option<bool>,
    /// What else enforces it.
    pub enforce: Option<Enforce>,
    /// Why, in the policy's words.
    pub reason: Option<String>,
    /// Where the pattern stands.
    pub origin: Origin,
    /// It is not as it was written, but where the links of its beginning lead to.
    by_link: bool,
}

/// All rules of a policy.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The most specific first, else in the order of the file.
    patterns: Vec<Pattern>,
    /// Which of them to ask about a path.
    index: Index,
    /// Mount points: the way to them stays open.
    ways: Vec<Glob>,
    /// What the patterns begin with, each ended by a slash; sorted, none below another.
    heads: Vec<Box<[u8]>>,
    hides: bool,
}

/// What the rules say of a path.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'r> {
    /// What the job may do with it.
    pub grant: Grant,
    /// The pattern that says so; None: no rule speaks of it.
    pub by: Option<&'r Pattern>,
    /// The pattern that says that it may not be run, if one does.
    pub no_exec: Option<&'r Pattern>,
}

/// Which names in a directory some rule may speak of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Spoken {
    /// These, perhaps none.
    Names(Vec<Box<[u8]>>),
    /// Any; but the same holds for each, and whatever that is, it can be looked up.
    Alike,
    /// Any.
    All,
}

impl Rules {
    /// Makes a policy's rules ready. The way to each of `mounts` stays open, whatever is hidden or
    /// denied above it.
    ///
    /// # Errors
    /// One for each pattern that can't be used: `FILE:LINE: …`.
    pub fn new<'m>(
        rules: &[Rule],
        mounts: impl IntoIterator<Item = &'m Path>,
        around: &Surroundings,
    ) -> Result<Rules, Vec<PolicyError>> {
        use std::os::unix::ffi::OsStrExt;
        let (mut patterns, mut faults) = (Vec::new(), Vec::new());
        for rule in rules {
            for path in &rule.paths {
                match Glob::parse(&path.pattern, around) {
                    Ok(glob) => {
                        let other = around.follow.and_then(|follow| glob.elsewhere(follow));
                        let both =
                            [(glob, false)].into_iter().chain(other.map(|glob| (glob, true)));
                        patterns.extend(both.map(|(glob, by_link)| Pattern {
                            by_link,
                            specificity: glob.specificity(),
                            glob,
                            text: path.pattern.clone(),
                            access: rule.access,
                            exec: rule.exec,
                            enforce: rule.enforce,
                            reason: rule.reason.clone(),
                            origin: path.origin.clone(),
                        }));
                    }
                    Err(message) => faults.push(path.origin.fault(message)),
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        patterns.sort_by(|a, b| Reverse(&a.specificity).cmp(&Reverse(&b.specificity)));
        let ways = mounts.into_iter().map(|at| Glob::of_path(at.as_os_str().as_bytes())).collect();
        let heads = heads(&patterns);
        let hides = patterns.iter().any(|pattern| pattern.access == Some(Access::Hide));
        let index = Index::new(&patterns);
        Ok(Rules { patterns, index, ways, heads, hides })
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Can anything be hidden at all?
    #[must_use]
    pub fn hide(&self) -> bool {
        self.hides
    }

    /// Every pattern, the most specific first.
    #[must_use]
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Can a rule speak of this absolute, normal path? One search among the patterns' literal
    /// beginnings; nothing is allocated.
    #[must_use]
    pub fn may_concern(&self, path: &[u8]) -> bool {
        // In that order a beginning of the path comes last before it: what lies between the two
        // begins with the former, and none of these is below another.
        let ended = || path.iter().chain((path != b"/").then_some(&b'/'));
        let after = self.heads.partition_point(|head| head.iter().le(ended()));
        let Some(head) = after.checked_sub(1).and_then(|at| self.heads.get(at)) else {
            return false;
        };
        ended().take(head.len()).eq(head.iter())
    }

    /// What holds for an absolute, normal path.
    #[must_use]
    pub fn at(&self, path: &[u8]) -> Verdict<'_> {
        let mut verdict = Verdict { grant: Grant::ReadWrite, by: None, no_exec: None };
        if !self.may_concern(path) {
            return verdict;
        }
        // The first that matches, of each kind.
        let (mut access, mut run) = (u32::MAX, u32::MAX);
        let mut exec = None;
        for numbers in self.index.at(path) {
            for &number in numbers {
                if number >= access && number >= run {
                    break;
                }
                let Some(pattern) = self.pattern(number) else { continue };
                let speaks = number < access && pattern.access.is_some();
                let runs = number < run && pattern.exec.is_some();
                if (speaks || runs) && pattern.glob.matches(path) {
                    if speaks {
                        (access, verdict.by) = (number, Some(pattern));
                    }
                    if runs {
                        (run, exec) = (number, Some(pattern));
                    }
                }
            }
        }
        verdict.no_exec = exec.filter(|pattern| pattern.exec == Some(false));
        if let Some(by) = verdict.by {
            verdict.grant = self.grant(by, path);
        }
        verdict
    }

    fn grant(&self, by: &Pattern, path: &[u8]) -> Grant {
        match by.access {
            Some(Access::Hide) if self.is_way(by, path, Access::Hide) => Grant::ReadOnly,
            Some(Access::Hide) => Grant::Hide,
            Some(Access::Deny) if self.is_way(by, path, Access::Deny) => Grant::Search,
            Some(Access::Deny) => Grant::Deny,
            Some(Access::ReadOnly) => Grant::ReadOnly,
            Some(Access::ReadWrite) | None => Grant::ReadWrite,
        }
    }

    /// Does `dir`, about which `by` decides, lie above a mount point or above what a more specific
    /// pattern opens again?
    fn is_way(&self, by: &Pattern, dir: &[u8], shut: Access) -> bool {
        let opens = |access: Access| match shut {
            Access::Hide => access != Access::Hide,
            _ => matches!(access, Access::ReadOnly | Access::ReadWrite),
        };
        let leads = |number: &u32| {
            self.pattern(*number).is_some_and(|pattern| {
                pattern.access.is_some_and(opens)
                    && pattern.specificity > by.specificity
                    && pattern.glob.leads_through(dir)
            })
        };
        self.ways.iter().any(|way| way.leads_through(dir))
            || self.index.below(dir).iter().any(leads)
            || self.index.at(dir).flatten().any(leads)
    }

    fn pattern(&self, number: u32) -> Option<&Pattern> {
        self.patterns.get(usize::try_from(number).ok()?)
    }

    /// Does `dir` lead to a mount point, or to what any pattern matches?
    fn is_above_way(&self, dir: &[u8]) -> bool {
        self.ways.iter().any(|way| way.leads_through(dir))
            || self.patterns.iter().any(|pattern| pattern.glob.leads_through(dir))
    }

    /// Which names in the directory `dir` a rule may speak of.
    #[must_use]
    pub fn spoken_in(&self, dir: &[u8]) -> Spoken {
        let (mut names, mut all, mut alike) = (Vec::new(), false, false);
        for pattern in &self.patterns {
            if pattern.glob.matches(dir) {
                alike = true;
                continue;
            }
            pattern.glob.next_below(dir, &mut |name| match name {
                Some(name) => names.push(name.into()),
                None => all = true,
            });
        }
        let open = || matches!(self.at(dir).grant, Grant::ReadOnly | Grant::ReadWrite);
        match (all, alike) {
            (true, _) => Spoken::All,
            (false, false) => Spoken::Names(names),
            // On the way to something, what holds for the directory does not hold in it.
            (false, true) if names.is_empty() && open() && !self.is_above_way(dir) => Spoken::Alike,
            (false, true) => Spoken::All,
        }
    }

    /// What Landlock is to enforce and can't: the place of each pattern, and why. It knows trees
    /// only, not patterns.
    #[must_use]
    pub fn beyond_landlock(&self) -> Vec<(&Origin, String)> {
        let walls = || self.patterns.iter().filter(|p| p.enforce == Some(Enforce::Landlock));
        let whole = walls().filter(|pattern| pattern.tree().is_none()).map(|pattern| {
            let message = format!(
                "Landlock can't enforce {:?}: it takes a path, or a path with `/**` after it; \
                 write the paths out, or leave `enforce` out",
                pattern.text
            );
            (&pattern.origin, message)
        });
        let opens = |pattern: &Pattern, wall: &Pattern| {
            pattern.enforce.is_none()
                && pattern.tree().is_none()
                && pattern.widens()
                && pattern.specificity > wall.specificity
                && wall.glob.covers(&pattern.glob)
        };
        let parts = self.patterns.iter().filter_map(|pattern| {
            let wall = walls().find(|wall| opens(pattern, wall))?;
            let message = format!(
                "{:?} opens a part of {:?} ({}), which Landlock enforces: that takes a path, or a \
                 path with `/**` after it; write the paths out",
                pattern.text, wall.text, wall.origin
            );
            Some((&pattern.origin, message))
        });
        whole.chain(parts).collect()
    }

    /// Would a directory that is moved from `from` to `to` take something out of reach of a rule
    /// that forbids something? The pattern of the first such rule.
    #[must_use]
    pub fn lost_by_moving(&self, from: &[u8], to: &[u8]) -> Option<&Pattern> {
        self.patterns.iter().find(|pattern| {
            let forbids = pattern.access.is_some_and(|access| access != Access::ReadWrite);
            (forbids || pattern.exec == Some(false)) && pattern.glob.loses(from, to)
        })
    }
}

impl Pattern {
    /// The path that the pattern is, where it is nothing but a path, or a path and `/**`; and
    /// whether the path itself is meant, too.
    #[must_use]
    pub fn tree(&self) -> Option<(PathBuf, bool)> {
        use std::os::unix::ffi::OsStringExt;
        let (path, whole) = self.glob.tree()?;
        let path = if path.is_empty() { b"/".to_vec() } else { path };
        Some((std::ffi::OsString::from_vec(path).into(), whole))
    }

    /// Whether it opens something that a wider pattern may have shut.
    #[must_use]
    pub fn widens(&self) -> bool {
        matches!(self.access, Some(Access::ReadOnly | Access::ReadWrite)) || self.exec == Some(true)
    }

    /// Does it match the absolute, normal path, or something above it?
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        self.glob.matches(path)
    }

    /// Whether it can never decide anything, because `other`, which is asked before it, matches
    /// all that it matches and says something of all that it speaks of.
    pub(crate) fn is_shadowed_by(&self, other: &Pattern) -> bool {
        (self.access.is_none() || other.access.is_some())
            && (self.exec.is_none() || other.exec.is_some())
            && other.glob.covers(&self.glob)
    }

    /// Whether it says again what `other`, which got there by a link, says already: that is no
    /// mistake of whoever wrote both.
    pub(crate) fn repeats(&self, other: &Pattern) -> bool {
        other.by_link
            && (self.access, self.exec, self.enforce) == (other.access, other.exec, other.enforce)
    }

    /// Whether the file's order alone decides between the two.
    pub(crate) fn is_as_specific_as(&self, other: &Pattern) -> bool {
        self.specificity == other.specificity
    }

    /// Whether `other` shuts the directories that lead here and this pattern does not tell which
    /// of them to leave open, because `**` stands in it.
    pub(crate) fn is_out_of_reach_by(&self, other: &Pattern) -> bool {
        let open = |p: &Pattern| {
            p.access.is_none_or(|a| matches!(a, Access::ReadOnly | Access::ReadWrite))
        };
        open(self)
            && !open(other)
            && self.specificity > other.specificity
            && self.glob.until_any().is_some_and(|beginning| other.glob.covers(&beginning))
    }

    /// Whether all that it matches lies at or below the path.
    pub(crate) fn is_within(&self, path: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt;
        Glob::of_path(path.as_os_str().as_bytes()).covers(&self.glob)
    }
}

/// What the patterns begin with.
fn heads(patterns: &[Pattern]) -> Vec<Box<[u8]>> {
    let mut all: Vec<Vec<u8>> = patterns
        .iter()
        .map(|pattern| {
            let mut head = pattern.glob.head();
            head.push(b'/');
            head
        })
        .collect();
    all.sort();
    let mut heads: Vec<Box<[u8]>> = Vec::new();
    for head in all {
        if heads.last().is_none_or(|above| !head.starts_with(above)) {
            heads.push(head.into());
        }
    }
    heads
}

#[cfg(test)]
mod tests;
