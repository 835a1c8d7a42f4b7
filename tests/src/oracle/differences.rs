//! The deliberate differences between a projected tree and a read-only bind mount of it: one
//! list, each entry with its reason, as narrow as it can be told from the answers.

/// What to think of two answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are equal.
    Equal,
    /// They differ, and are meant to. `goes_on`: what follows can still be compared.
    Meant {
        /// Why.
        reason: &'static str,
        /// Whether both sides are in the same state after it.
        goes_on: bool,
    },
    /// They differ.
    Wrong,
}

/// One call and its two answers.
struct Case<'a> {
    /// The call's name, without the `c.` of the C library's form.
    name: &'a str,
    words: &'a [&'a str],
    kernel: &'a str,
    projected: &'a str,
}

struct Difference {
    reason: &'static str,
    applies: fn(&Case<'_>) -> bool,
    goes_on: bool,
}

const LIST: &[Difference] = &[
    Difference {
        reason: "link: a new name in a mount for a file outside is EXDEV, as everywhere across \
                 the edge, where a bind mount says EROFS before it looks at the old name",
        applies: |c| {
            matches!(c.name, "link" | "linkat") && c.kernel == "-EROFS" && c.projected == "-EXDEV"
        },
        goes_on: true,
    },
    Difference {
        reason: "name_to_handle_at: EOPNOTSUPP for what is projected, as a handle would lead past \
                 every path to the store",
        applies: |c| c.name == "name_to_handle_at" && c.projected == "-EOPNOTSUPP",
        goes_on: true,
    },
    Difference {
        reason: "file_getattr: refused for what is projected, as by file systems without flags",
        applies: |c| c.name == "file_getattr" && c.projected.starts_with('-'),
        goes_on: true,
    },
    Difference {
        reason: "openat2: RESOLVE_ flags on a projected path are ENOSYS; callers fall back to \
                 openat",
        applies: |c| c.name == "openat2" && c.projected.starts_with('-') && resolve_flags(c),
        goes_on: false,
    },
    Difference {
        reason: "openat2: NO_XDEV; the kernel's side of the test is a mount by itself, which an \
                 absolute path crosses",
        applies: |c| {
            c.name == "openat2" && c.kernel == "-EXDEV" && c.words.iter().any(|w| w.ends_with(",1"))
        },
        goes_on: false,
    },
    Difference {
        reason: "O_PATH: the C library makes its fchmodat of one, and finds that a link can't be \
                 opened",
        applies: |c| c.name == "fchmodat" && c.kernel == "-EOPNOTSUPP" && c.projected == "-ELOOP",
        goes_on: true,
    },
    Difference {
        reason: "open: access mode 3, which gives a descriptor for ioctls alone, is refused as \
                 one for writing",
        applies: |c| {
            opened_flags(c.kernel).is_some_and(|flags| flags & 3 == 3) && c.projected == "-EROFS"
        },
        goes_on: false,
    },
    Difference {
        reason: "rename, rmdir: a real directory above a mount point stays where it is, whatever \
                 else the kernel would say of it",
        applies: |c| {
            matches!(c.name, "rename" | "renameat" | "renameat2" | "rmdir" | "unlinkat" | "remove")
                && c.projected == "-EBUSY"
                && matches!(c.kernel, "-ENOTEMPTY" | "-EINVAL" | "0")
        },
        goes_on: false,
    },
    Difference {
        reason: "read: of a directory at its end; some file systems have positions there that no \
                 read could start from",
        applies: |c| c.name == "read" && c.kernel == "-EINVAL" && c.projected == "-EISDIR",
        goes_on: true,
    },
    Difference {
        reason: "fstat: a duplicate of a descriptor that is closed is known by its content alone, \
                 which another path may share",
        applies: |c| {
            let same = |key: &str| {
                let of = |answer: &str| {
                    answer.split(' ').find_map(|w| w.strip_prefix(key)).map(str::to_owned)
                };
                of(c.kernel).is_some() && of(c.kernel) == of(c.projected)
            };
            matches!(c.name, "fstat" | "newfstatat" | "statx" | "stat")
                && c.kernel.starts_with("0 ")
                && c.projected.starts_with("0 ")
                && [c.kernel, c.projected].iter().all(|a| a.contains(" mode=100"))
                && ["size=", "owner=", "blocks="].iter().all(|key| same(key))
                && TWINS
                    .iter()
                    .all(|mode| [c.kernel, c.projected].iter().any(|answer| answer.contains(mode)))
        },
        goes_on: false,
    },
    Difference {
        reason: "fchdir: a directory that may be read but not searched can be entered by its \
                 descriptor, as what stands for it may be searched by everybody",
        applies: |c| c.name == "fchdir" && c.kernel == "-EACCES" && c.projected == "0",
        goes_on: false,
    },
    Difference {
        reason: "O_PATH: of a file, F_GETFL does not show O_NOFOLLOW",
        applies: |c| {
            let flags = |answer: &str| opened_flags(answer).map(|flags| flags & !NOFOLLOW);
            flags(c.kernel).is_some_and(|flags| flags & PATH_ONLY != 0)
                && flags(c.kernel) == flags(c.projected)
                && without_flags(c.kernel) == without_flags(c.projected)
        },
        goes_on: true,
    },
    Difference {
        reason: "O_PATH: with O_NOFOLLOW on a link there is nothing that could take its place: \
                 ELOOP",
        applies: |c| {
            opened_flags(c.kernel).is_some_and(|flags| flags & PATH_ONLY != 0)
                && c.projected == "-ELOOP"
        },
        goes_on: false,
    },
];

/// The two files of the sample that have the same content.
const TWINS: [&str; 2] = [" mode=100644 ", " mode=100600 "];
const PATH_ONLY: u32 = 0o10_000_000;
const NOFOLLOW: u32 = 0o400_000;

/// Whether an openat2 asked for `RESOLVE_*`.
fn resolve_flags(case: &Case<'_>) -> bool {
    let how = case.words.iter().find_map(|word| word.strip_prefix("how:"));
    how.and_then(|how| how.split(',').nth(2)).is_some_and(|resolve| resolve != "0")
}

fn without_flags(answer: &str) -> Vec<&str> {
    answer.split(' ').filter(|word| !word.starts_with("flags=")).collect()
}

/// Compares the answers to one call.
pub fn judge(call: &str, kernel: &str, projected: &str) -> Verdict {
    if kernel == projected {
        return Verdict::Equal;
    }
    let mut words: Vec<&str> = call.split(' ').collect();
    if words.first().is_some_and(|w| w.starts_with('>')) {
        words.remove(0);
    }
    let name = words.first().map_or("", |n| n.strip_prefix("c.").unwrap_or(n));
    let case = Case { name, words: &words, kernel, projected };
    LIST.iter()
        .find(|d| (d.applies)(&case))
        .map_or(Verdict::Wrong, |d| Verdict::Meant { reason: d.reason, goes_on: d.goes_on })
}

/// The descriptor's flags in an answer.
fn opened_flags(answer: &str) -> Option<u32> {
    let flags = answer.split(' ').find_map(|w| w.strip_prefix("flags="))?;
    u32::from_str_radix(flags, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::{LIST, Verdict, judge};

    #[test]
    fn only_what_is_listed_may_differ() {
        assert_eq!(judge("stat =x #144", "-ENOENT", "-ENOENT"), Verdict::Equal);
        assert_eq!(judge("stat =x #144", "-ENOENT", "-EIO"), Verdict::Wrong);
        assert!(matches!(
            judge("link =x =y", "-EROFS", "-EXDEV"),
            Verdict::Meant { goes_on: true, .. }
        ));
        assert_eq!(judge("rename =x =y", "-EROFS", "-EXDEV"), Verdict::Wrong);
        assert!(LIST.iter().all(|d| d.reason.contains(": ")));
    }
}
