//! Rules with `enforce = "landlock"`: what the kernel itself keeps a job from, whatever races.
//!
//! Landlock (Documentation/userspace-api/landlock.rst) takes rights away from everything and gives
//! them back to trees. So where a rule takes something from one tree, every other entry of the
//! directories above it is given its rights by itself: what is made in one of these directories
//! later has none. What is opened by the supervisor, and handed over, is not asked about.

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    PathFdError, RestrictSelfError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, make_bitflags,
};
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vrift_policy::{Access, Enforce, Pattern, Rules};

/// What is needed: renames between directories and truncation, Linux 6.2.
const LEAST: ABI = ABI::V3;

/// What a job is kept from.
pub struct Walls {
    ruleset: RulesetCreated,
}

/// Why a job can't be kept from it.
#[derive(Debug, thiserror::Error)]
pub enum WallsError {
    /// The kernel is too old, or was made or started without it.
    #[error(
        "this kernel has no Landlock, or one before Linux 6.2 ({0}); leave `enforce = \"landlock\"` \
         out of the policy, and the supervisor alone enforces its rules"
    )]
    Missing(String),
    /// A path could not be opened or given its rights.
    #[error("Landlock rule for {}: {error}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        error: String,
    },
}

type Rights = BitFlags<AccessFs>;

/// A tree that some rule speaks of.
struct Tree<'r> {
    path: PathBuf,
    by: &'r Pattern,
}

/// The patterns that count, the most specific first.
struct Plan<'r> {
    trees: Vec<Tree<'r>>,
    handled: Rights,
}

impl Walls {
    /// What the rules with `enforce` keep a job from; None: there are none. The job runs
    /// programs from the store, and changes what is below its `own` directories, come what may.
    ///
    /// # Errors
    /// The kernel lacks it, or a directory can't be looked at.
    pub fn of(
        rules: &Rules,
        store: Option<&Path>,
        own: &[&Path],
    ) -> Result<Option<Walls>, WallsError> {
        let plan = Plan::of(rules);
        if plan.handled.is_empty() {
            return Ok(None);
        }
        let missing = |e: RulesetError| WallsError::Missing(e.to_string());
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(plan.handled)
            .map_err(missing)?;
        let mut walls = Walls { ruleset: ruleset.create().map_err(missing)? };
        let mut given = Vec::new();
        plan.give(Path::new("/"), &mut given);
        let run = make_bitflags!(AccessFs::{ReadFile | Execute});
        given.extend(store.map(|path| (path.to_path_buf(), run)));
        given.extend(own.iter().map(|path| (path.to_path_buf(), all())));
        for (path, rights) in given {
            walls = walls.with(&path, rights & plan.handled)?;
        }
        Ok(Some(walls))
    }

    fn with(self, path: &Path, rights: Rights) -> Result<Walls, WallsError> {
        let fault = |error: String| WallsError::Path { path: path.to_owned(), error };
        let fd = match PathFd::new(path) {
            Ok(fd) => fd,
            // Gone since it was listed, or not to be reached by this user at all.
            Err(PathFdError::OpenCall { .. }) => return Ok(self),
            Err(e) => return Err(fault(e.to_string())),
        };
        let directory = std::fs::metadata(path).is_ok_and(|found| found.is_dir());
        let rights = if directory { rights } else { rights & AccessFs::from_file(LEAST) };
        if rights.is_empty() {
            return Ok(self);
        }
        let ruleset = self.ruleset.add_rule(PathBeneath::new(fd, rights));
        Ok(Walls { ruleset: ruleset.map_err(|e| fault(e.to_string()))? })
    }

    /// Keeps this process and all that it starts from it, for ever. Needs `no_new_privs` or
    /// CAP_SYS_ADMIN, as the filter does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn raise(&self) -> Result<(), Errno> {
        let errno = |e: &std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EPERM));
        let ruleset = self.ruleset.try_clone().map_err(|e| errno(&e))?;
        match ruleset.no_new_privs(false).restrict_self() {
            Ok(_) => Ok(()),
            Err(RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall {
                source, ..
            })) => Err(errno(&source)),
            Err(_) => Err(Errno::EPERM),
        }
    }
}

impl<'r> Plan<'r> {
    fn of(rules: &'r Rules) -> Plan<'r> {
        let wall = |p: &Pattern| p.enforce == Some(Enforce::Landlock);
        let mut handled = Rights::empty();
        for pattern in rules.patterns().iter().filter(|p| wall(p)) {
            handled |= match pattern.access {
                Some(Access::Deny) => all(),
                Some(Access::ReadOnly) => AccessFs::from_write(LEAST),
                Some(Access::Hide | Access::ReadWrite) | None => Rights::empty(),
            };
            if pattern.exec == Some(false) {
                handled |= AccessFs::Execute;
            }
        }
        if !handled.is_empty() {
            // What isn't given is taken, whether it is spoken of or not.
            handled |= AccessFs::Refer;
        }
        let trees = rules.patterns().iter().filter(|p| wall(p) || p.widens()).filter_map(|by| {
            let (path, _) = by.tree()?;
            Some(Tree { path, by })
        });
        Plan { trees: trees.collect(), handled }
    }

    /// The rights to what is in `dir`, or to `dir` where it is a file, if no tree below says
    /// otherwise.
    fn rights(&self, dir: &Path) -> Rights {
        let inside = dir.join("any name");
        let mut on = self.trees.iter().filter(|t| t.by.matches(inside.as_os_str().as_bytes()));
        if !on.clone().any(|tree| tree.by.enforce.is_some()) {
            return all();
        }
        let rights = match on.clone().find_map(|tree| tree.by.access) {
            Some(Access::Hide | Access::Deny) => Rights::empty(),
            Some(Access::ReadOnly) => make_bitflags!(AccessFs::{ReadFile | Execute}),
            Some(Access::ReadWrite) | None => all(),
        };
        match on.find_map(|tree| tree.by.exec) {
            Some(false) => rights & !BitFlags::from(AccessFs::Execute),
            Some(true) | None => rights,
        }
    }

    /// Gives `path` its rights, or, where something below has less, each of its entries.
    fn give(&self, path: &Path, given: &mut Vec<(PathBuf, Rights)>) {
        let rights = self.rights(path);
        let below = || self.trees.iter().filter(|t| t.path != path && t.path.starts_with(path));
        if below().all(|tree| self.rights(&tree.path).contains(rights & self.handled)) {
            given.push((path.to_owned(), rights));
            // Rights add up on the way down.
            given.extend(below().map(|tree| (tree.path.clone(), self.rights(&tree.path))));
            return;
        }
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            // A link has no rights of its own, and opened it would be what it leads to.
            if entry.file_type().is_ok_and(|kind| !kind.is_symlink()) {
                let entry = entry.path();
                if self.trees.iter().any(|tree| tree.path.starts_with(&entry)) {
                    self.give(&entry, given);
                } else {
                    given.push((entry, rights));
                }
            }
        }
    }
}

/// Everything but listing a directory: what is given there holds below, so a directory above a
/// denied one could not be listed.
fn all() -> Rights {
    AccessFs::from_all(LEAST) & !BitFlags::from(AccessFs::ReadDir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use vrift_policy::{Policy, Surroundings};

    /// The rights given on each path below a directory, by a letter each: r, w, x.
    fn given(policy: &str) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let top = dir.path().canonicalize().expect("its own path");
        for name in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(top.join(name)).expect("directories");
        }
        fs::write(top.join("a/f"), "").expect("a file");
        std::os::unix::fs::symlink("/etc", top.join("a/l")).expect("a link");
        let text = policy.replace('@', top.to_str().expect("UTF-8"));
        let policy = Policy::parse(&format!("version = 1\n{text}"), Path::new("p")).expect("good");
        let rules = Rules::new(&policy.rules, [], &Surroundings::default()).expect("good");
        let plan = Plan::of(&rules);
        let mut all = Vec::new();
        plan.give(Path::new("/"), &mut all);
        let letters =
            [(AccessFs::ReadFile, 'r'), (AccessFs::WriteFile, 'w'), (AccessFs::Execute, 'x')];
        let mut lines: Vec<String> = all
            .iter()
            .filter_map(|(path, rights)| {
                let name = path.strip_prefix(&top).ok()?.display();
                let letters = letters.iter().filter(|(one, _)| rights.contains(*one));
                Some(format!("{name} {}", letters.map(|(_, letter)| *letter).collect::<String>()))
            })
            .collect();
        lines.sort();
        lines
    }

    fn rule(path: &str, rest: &str) -> String {
        format!("[[rule]]\npaths = [{path:?}]\n{rest}\n")
    }

    const DENY: &str = "access = \"deny\"\nenforce = \"landlock\"";
    const KEEP: &str = "access = \"read-only\"\nenforce = \"landlock\"";

    #[test]
    fn what_is_not_taken_is_given_beside_it() {
        assert_eq!(given(&rule("@/a/b", DENY)), ["a/b ", "a/d rwx", "a/f rwx", "e rwx"]);
        assert_eq!(given(&rule("@/a/b/**", KEEP)), ["a/b rx", "a/d rwx", "a/f rwx", "e rwx"]);
        assert_eq!(given(&rule("@/none", DENY)), ["a rwx", "e rwx"]);
    }

    #[test]
    fn what_is_opened_again_is_given_by_itself() {
        let text = rule("@/a", KEEP) + &rule("@/a/b", "access = \"read-write\"");
        assert_eq!(given(&text), ["a rx", "a/b rwx", "e rwx"]);
        let text =
            rule("@/a", "exec = false\nenforce = \"landlock\"") + &rule("@/a/b", "exec = true");
        assert_eq!(given(&text), ["a rw", "a/b rwx", "e rwx"]);
        let text = rule("@/a", KEEP) + &rule("@/a/b/c", DENY);
        assert_eq!(given(&text), ["a/b/c ", "a/d rx", "a/f rx", "e rwx"]);
    }

    #[test]
    fn without_enforce_there_are_no_walls() {
        let policy = Policy::parse(
            "version = 1\n[[rule]]\npaths = [\"/a\"]\naccess = \"deny\"\n",
            Path::new("p"),
        );
        let policy = policy.expect("good");
        let rules = Rules::new(&policy.rules, [], &Surroundings::default()).expect("good");
        assert!(Walls::of(&rules, None, &[]).expect("nothing is asked of the kernel").is_none());
    }
}
