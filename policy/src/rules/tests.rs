//! Which rule decides, and how quickly it is known that none does.

use std::collections::HashSet;
use std::path::Path;

use super::{Grant, RealTarget, Rules, Spoken, Surroundings, decide_exec, decide_rule};
use super::{decide_rule_link, decide_rule_rename};
use crate::{Errno, Operation, Policy, RenameFlags};

fn rules(text: &str) -> Rules {
    rules_with(text, &[])
}

fn rules_with(text: &str, mounts: &[&str]) -> Rules {
    let policy = Policy::parse(&format!("version = 1\n{text}"), Path::new("p")).expect(text);
    let around = Surroundings { home: Some("/home/u".into()), ..Surroundings::default() };
    Rules::new(&policy.rules, mounts.iter().map(Path::new), &around).expect(text)
}

/// A rule for each line: patterns, `=`, access.
fn table(lines: &str) -> String {
    lines
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(paths, access)| {
            let paths: Vec<_> = paths.split_whitespace().map(|p| format!("{p:?}")).collect();
            format!("[[rule]]\npaths = [{}]\naccess = {:?}\n", paths.join(","), access.trim())
        })
        .collect()
}

fn grants(rules: &Rules, expected: &[(&str, Grant)]) {
    for (path, grant) in expected {
        assert_eq!(rules.at(path.as_bytes()).grant, *grant, "{path}");
    }
}

#[test]
fn the_most_specific_pattern_decides() {
    let rules = rules(&table(
        "/src = read-only
         /src/out = read-write
         /src/out/keep/** = deny
         /src/**/secret = hide
         /etc/shadow = deny
         ~/.ssh/** = hide",
    ));
    grants(
        &rules,
        &[
            ("/src", Grant::ReadOnly),
            ("/src/a/b", Grant::ReadOnly),
            ("/src/a/secret", Grant::Hide),
            ("/src/a/secret/x", Grant::Hide),
            ("/src/out", Grant::ReadWrite),
            ("/src/out/secret", Grant::ReadWrite),
            ("/src/out/keep", Grant::ReadWrite),
            ("/src/out/keep/x", Grant::Deny),
            ("/srcs", Grant::ReadWrite),
            ("/etc", Grant::ReadWrite),
            ("/etc/shadow", Grant::Deny),
            ("/home/u/.ssh", Grant::ReadWrite),
            ("/home/u/.ssh/id", Grant::Hide),
        ],
    );
}

#[test]
fn of_two_that_are_alike_the_first_decides() {
    let rules = rules(&table("/a/*.k = deny\n/a/x.? = hide\n/b = deny\n/b = hide"));
    grants(&rules, &[("/a/x.k", Grant::Deny), ("/a/x.j", Grant::Hide), ("/b", Grant::Deny)]);
    let by = rules.at(b"/a/x.k").by.expect("a rule");
    assert_eq!((by.text.as_str(), by.origin.to_string().as_str()), ("/a/*.k", "p:3"));
}

#[test]
fn the_way_to_what_is_open_again_stays_open() {
    let rules = rules_with(
        &table("~/** = hide\n~/p/src = read-write\n/opt = deny\n/opt/t/bin = read-only"),
        &["/opt/m/deps", "/home/u/x/mount"],
    );
    grants(
        &rules,
        &[
            ("/home/u", Grant::ReadWrite),
            ("/home/u/.ssh", Grant::Hide),
            ("/home/u/p", Grant::ReadOnly),
            ("/home/u/p/other", Grant::Hide),
            ("/home/u/p/src", Grant::ReadWrite),
            ("/home/u/p/src/x", Grant::ReadWrite),
            ("/home/u/x", Grant::ReadOnly),
            ("/home/u/x/other", Grant::Hide),
            ("/opt", Grant::Search),
            ("/opt/t", Grant::Search),
            ("/opt/t/other", Grant::Deny),
            ("/opt/t/bin/cc", Grant::ReadOnly),
            ("/opt/m", Grant::Search),
        ],
    );
}

#[test]
fn what_no_rule_can_concern_is_known_at_once() {
    let rules = rules(&table(
        "/a/b/c = deny\n/a/b/c/d = hide\n/a-x = deny\n/a/b-/* = deny\n~/.ssh/** = hide",
    ));
    for (path, expected) in [
        ("/a/b/c", true),
        ("/a/b/c/d/e", true),
        ("/a/b/cc", false),
        ("/a/b", false),
        ("/a", false),
        ("/", false),
        ("/a-x", true),
        ("/a-x/y", true),
        ("/a-", false),
        ("/a/b-", true),
        ("/a/b-/x", true),
        ("/home/u/.ssh/id", true),
        ("/home/u/.sshd", false),
        ("/zzz", false),
    ] {
        assert_eq!(rules.may_concern(path.as_bytes()), expected, "{path}");
    }
    assert!(!Rules::default().may_concern(b"/a"));
    let all = self::rules(&table("/**/*.pem = deny"));
    assert!(all.may_concern(b"/") && all.may_concern(b"/x"));
    let root = self::rules(&table("/ = read-only"));
    grants(&root, &[("/", Grant::ReadOnly), ("/x", Grant::ReadOnly)]);
}

#[test]
fn whatever_a_rule_speaks_of_may_be_concerned() {
    let rules =
        rules(&table("/a/b = deny\n/a/*/c = hide\n/d/**/e = deny\n/f? = deny\n/g/** = deny"));
    let names = ["a", "b", "c", "d", "e", "ff", "g", "h"];
    for one in names {
        for two in names {
            for three in names {
                for path in
                    [format!("/{one}"), format!("/{one}/{two}"), format!("/{one}/{two}/{three}")]
                {
                    let verdict = rules.at(path.as_bytes());
                    let plain = rules.patterns().iter().find(|p| p.glob.matches(path.as_bytes()));
                    assert_eq!(verdict.by.map(|p| &p.text), plain.map(|p| &p.text), "{path}");
                    let cut = path.rfind('/').unwrap_or(0);
                    let (dir, name) = (&path[..cut.max(1)], &path[cut + 1..]);
                    if verdict.by.is_some() {
                        let spoken = match rules.spoken_in(dir.as_bytes()) {
                            Spoken::All | Spoken::Alike => true,
                            Spoken::Names(all) => all.iter().any(|n| **n == *name.as_bytes()),
                        };
                        assert!(spoken, "{path}");
                    }
                }
            }
        }
    }
}

#[test]
fn names_that_are_spoken_of() {
    let rules = rules(&table("/etc/shadow = deny\n/a/*/c = deny\n~/.ssh/** = hide"));
    let none = Spoken::Names(Vec::new());
    assert_eq!(rules.spoken_in(b"/"), none);
    assert_eq!(rules.spoken_in(b"/etc"), Spoken::Names(vec![b"shadow".as_slice().into()]));
    assert_eq!(rules.spoken_in(b"/a"), Spoken::All);
    assert_eq!(rules.spoken_in(b"/a/x"), Spoken::Names(vec![b"c".as_slice().into()]));
    assert_eq!(rules.spoken_in(b"/a/x/c"), Spoken::All);
    assert_eq!(rules.spoken_in(b"/home/u"), none);
    assert_eq!(rules.spoken_in(b"/home/u/.ssh"), Spoken::All);
    let rules =
        self::rules(&table("/a = read-only\n/a/b/c/* = hide\n/a/k = read-write\n/d = deny"));
    for (dir, spoken) in [
        ("/a", Spoken::All),
        ("/a/x", Spoken::Alike),
        ("/a/x/y", Spoken::Alike),
        ("/a/k", Spoken::Alike),
        ("/a/b", Spoken::All),
        ("/a/b/c", Spoken::All),
        ("/d", Spoken::All),
    ] {
        assert_eq!(rules.spoken_in(dir.as_bytes()), spoken, "{dir}");
    }
}

#[test]
fn exec_is_asked_apart_from_access() {
    let rules = rules(
        "[[rule]]\npaths = [\"/tmp\"]\nexec = false\n\
         [[rule]]\npaths = [\"/tmp/x\"]\naccess = \"read-only\"\n\
         [[rule]]\npaths = [\"/tmp/x/bin\"]\nexec = true\n",
    );
    for (path, grant, runs) in [
        ("/tmp/a", Grant::ReadWrite, false),
        ("/tmp/x/a", Grant::ReadOnly, false),
        ("/tmp/x/bin/a", Grant::ReadOnly, true),
        ("/usr", Grant::ReadWrite, true),
    ] {
        let verdict = rules.at(path.as_bytes());
        assert_eq!((verdict.grant, verdict.no_exec.is_none()), (grant, runs), "{path}");
    }
    assert_eq!(decide_exec(Operation::Execute, RealTarget::File), Some(Errno::EACCES));
    assert_eq!(decide_exec(Operation::TestExecute, RealTarget::Directory), None);
    assert_eq!(decide_exec(Operation::Read, RealTarget::File), None);
}

#[test]
fn directories_above_a_rule_stay() {
    let rules = rules(&table("~/.ssh/** = hide\n/b/*/out = read-only\n/b/k/out/x = read-write"));
    let lost = |from: &str, to: &str| rules.lost_by_moving(from.as_bytes(), to.as_bytes());
    assert!(lost("/home/u", "/home/v").is_some());
    assert!(lost("/home/u/.ssh", "/home/u/ssh").is_some());
    assert!(lost("/home/u/work", "/home/u/done").is_none());
    assert!(lost("/b/one", "/b/two").is_none());
    assert!(lost("/b/one", "/c").is_some());
}

fn only_looks_at_the_name(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::Stat | O::OpenPath | O::StatFs | O::MakeHandle)
}

#[test]
fn what_is_hidden_is_not_there_for_anything() {
    for operation in Operation::ALL {
        for target in RealTarget::ALL {
            let errno = decide_rule(operation, Grant::Hide, target);
            assert_eq!(errno, Some(Errno::ENOENT), "{operation:?} {target:?}");
            assert_eq!(decide_rule(operation, Grant::ReadWrite, target), None);
        }
    }
}

/// Whatever is not refused by a rule here is refused by the kernel, or tells nothing of what is
/// inside.
#[test]
fn nothing_of_a_denied_file_is_told_or_changed() {
    for operation in Operation::ALL {
        for target in [RealTarget::File, RealTarget::Special] {
            use Operation as O;
            let errno = decide_rule(operation, Grant::Deny, target);
            let said_by_the_kernel = matches!(
                operation,
                O::ReadLink // EINVAL
                    | O::List | O::EnterDirectory | O::MakeTempFile // ENOTDIR
                    | O::CreateExclusive | O::MakeDirectory | O::MakeNode | O::MakeSymlink // EEXIST
                    | O::BindSocket // EADDRINUSE
            ) || (operation == O::Truncate
                && target == RealTarget::Special); // EINVAL
            if only_looks_at_the_name(operation) || said_by_the_kernel {
                assert_eq!(errno, None, "{operation:?} {target:?}");
            } else {
                assert_eq!(errno, Some(Errno::EACCES), "{operation:?} {target:?}");
            }
        }
    }
}

#[test]
fn a_way_can_be_searched_and_not_listed() {
    use Operation as O;
    let way = |operation| decide_rule(operation, Grant::Search, RealTarget::Directory);
    assert_eq!((way(O::EnterDirectory), way(O::TestExecute), way(O::Stat)), (None, None, None));
    assert_eq!(way(O::List), Some(Errno::EACCES));
    assert_eq!(way(O::RemoveDirectory), Some(Errno::EACCES));
}

#[test]
fn names_that_two_places_share() {
    use Grant::{Deny, Hide, ReadOnly, ReadWrite};
    use RealTarget::{File, Missing};
    const NONE: RenameFlags = RenameFlags::NONE;
    for (from, to, flags, errno) in [
        ((ReadWrite, File), (ReadWrite, File), NONE, None),
        ((ReadOnly, Missing), (ReadWrite, Missing), NONE, Some(Errno::EROFS)),
        ((ReadWrite, File), (ReadOnly, Missing), NONE, Some(Errno::EROFS)),
        ((Hide, File), (ReadOnly, Missing), NONE, Some(Errno::ENOENT)),
        ((ReadWrite, File), (Hide, Missing), NONE, Some(Errno::ENOENT)),
        ((Deny, File), (ReadWrite, Missing), NONE, Some(Errno::EACCES)),
        ((Deny, Missing), (ReadWrite, Missing), NONE, None),
        ((Deny, File), (ReadWrite, File), RenameFlags::NO_REPLACE, None),
        ((ReadWrite, File), (Deny, Missing), RenameFlags::EXCHANGE, None),
        ((ReadOnly, File), (ReadOnly, File), RenameFlags::from_raw(8), None),
    ] {
        assert_eq!(decide_rule_rename(from, to, flags), errno, "{from:?} {to:?} {flags:?}");
    }
    for (from, to, errno) in [
        ((ReadWrite, File), (ReadWrite, Missing), None),
        ((ReadOnly, File), (ReadWrite, Missing), Some(Errno::EROFS)),
        ((ReadWrite, File), (ReadOnly, Missing), Some(Errno::EROFS)),
        ((ReadOnly, File), (ReadWrite, File), None),
        ((Deny, File), (ReadWrite, Missing), Some(Errno::EACCES)),
        ((Hide, File), (ReadWrite, File), Some(Errno::ENOENT)),
        ((ReadWrite, Missing), (ReadOnly, Missing), None),
    ] {
        assert_eq!(decide_rule_link(from, to), errno, "{from:?} {to:?}");
    }
}

#[test]
fn every_grant_is_reached() {
    let rules = rules(&table("/a = hide\n/b = deny\n/b/c = read-write\n/d = read-only"));
    let all: HashSet<Grant> =
        [b"/a", b"/b", b"/d", b"/e"].iter().map(|p| rules.at(*p).grant).collect();
    assert_eq!(all.len(), 4);
    assert_eq!(rules.at(b"/b/x").grant, Grant::Deny);
}
