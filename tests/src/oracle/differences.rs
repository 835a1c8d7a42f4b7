//! The deliberate differences between a projected tree and the kernel's own: a list for each mode,
//! each entry with its reason, as narrow as it can be told from the answers.

use std::sync::OnceLock;

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
#[derive(Debug)]
pub struct Case<'a> {
    /// The call's name, without the `c.` of the C library's form.
    name: &'a str,
    words: &'a [&'a str],
    kernel: &'a str,
    projected: &'a str,
}

/// What may differ, as narrow as it can be told from the answers.
#[derive(Debug)]
pub struct Difference {
    reason: &'static str,
    applies: fn(&Case<'_>) -> bool,
    goes_on: bool,
}

/// Of a read-only projection, beside a read-only bind mount.
pub const READ_ONLY: &[Difference] = &[
    Difference {
        reason: "link: a new name in a mount for a file outside is EXDEV, as everywhere across \
                 the edge, where a bind mount says EROFS before it looks at the old name",
        applies: |c| {
            matches!(c.name, "link" | "linkat") && c.kernel == "-EROFS" && c.projected == "-EXDEV"
        },
        goes_on: true,
    },
    NO_HANDLES,
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
    NO_XDEV,
    FOR_IOCTLS,
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
    AT_THE_END,
    FCHDIR,
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
];

/// Where the test isn't root. As root both sides are in a world of read-only mounts, and cross one.
const NO_XDEV: Difference = Difference {
    reason: "openat2: NO_XDEV; the kernel's side of the test is a mount by itself, which an \
             absolute path crosses",
    applies: |c| {
        c.name == "openat2" && c.kernel == "-EXDEV" && c.words.iter().any(|w| w.ends_with(",1"))
    },
    goes_on: false,
};

/// Of a read-only tree that is mounted as a FUSE file system, beside a read-only bind mount.
pub const MOUNTED: &[Difference] = &[
    Difference {
        reason: "rights: a read-only file system says EROFS before it asks for rights, a read-only \
                 bind mount of a writable one after it",
        applies: |c| c.kernel == "-EACCES" && c.projected == "-EROFS",
        goes_on: true,
    },
    Difference {
        reason: "connect: likewise EROFS before the kernel looks whether it is a socket at all",
        applies: |c| c.name == "connect" && c.kernel == "-ECONNREFUSED" && c.projected == "-EROFS",
        goes_on: true,
    },
    Difference {
        reason: "getxattr: in a user namespace the kernel says of ACLs that FUSE has none \
                 (EOPNOTSUPP), where a disk has none set (ENODATA)",
        applies: |c| {
            let of_acls = c.words.iter().any(|word| word.starts_with("=system.posix_acl_"));
            of_acls && c.kernel == "-ENODATA" && c.projected == "-EOPNOTSUPP"
        },
        goes_on: true,
    },
    Difference {
        reason: "O_DIRECT: reads need not be aligned, as disks want them",
        applies: |c| {
            let reads = ["read", "pread", "pread64", "readv", "preadv", "sendfile"];
            let poured = c.name == "pour"
                && c.kernel.starts_with("sendfile=-EINVAL")
                && !c.projected.starts_with("sendfile=-");
            poured
                || reads.contains(&c.name) && c.kernel == "-EINVAL" && !c.projected.starts_with('-')
        },
        // The one has moved on, the other not.
        goes_on: false,
    },
    Difference {
        reason: "ELOOP at the end of many links: the kernel goes on counting where it begins a walk \
                 anew, which it does when something of it is no longer in its cache (fs/namei.c)",
        applies: |c| {
            // Both chains are followed to their ends when nothing is counted twice.
            let long = |word: &&str| word.contains("chain-39") || word.contains("chain-40");
            c.projected == "-ELOOP" && c.words.iter().any(long)
        },
        goes_on: false,
    },
    Difference {
        reason: "openat2: RESOLVE_CACHED is EAGAIN for what is no longer in the kernel's cache",
        applies: |c| {
            let cached = |word: &&str| word.starts_with("how:") && word.ends_with(",0x20");
            c.name == "openat2" && c.projected == "-EAGAIN" && c.words.iter().any(cached)
        },
        goes_on: false,
    },
    NO_XDEV,
    FOR_IOCTLS,
    NO_HANDLES,
    AT_THE_END,
];

/// What later kernels answer otherwise than earlier ones: the projection answers as the latest do,
/// and before the release named first it is the kernel that differs.
///
/// All of them were met on 6.1 and none on 6.18. Where the releases come from: 6.5 the manual page
/// (`AT_HANDLE_FID`); 6.11 commit 0ef625bba6fb, which was asked to be taken back to 6.10; 6.14 Linus's
/// merge of fsnotify_hsm_for_v6.14-rc1, whose change of `vfs_truncate` it is. 6.10 (Linus's patch
/// is of April 2024) and 6.13 (the rework below setxattrat, which is of 6.13) are inferred from
/// dates, and not verified.
const BEFORE: &[((u32, u32), Difference)] = &[
    (
        (6, 5),
        Difference {
            reason: "name_to_handle_at: before 6.5 AT_HANDLE_FID is a flag like any unknown one",
            applies: |c| {
                c.name == "name_to_handle_at" && c.kernel == "-EINVAL" && c.words.contains(&"0x200")
            },
            goes_on: true,
        },
    ),
    (
        (6, 10),
        Difference {
            reason: "linkat: before 6.10 AT_EMPTY_PATH is ENOENT to all but CAP_DAC_READ_SEARCH",
            applies: |c| {
                c.name == "linkat"
                    && c.kernel == "-ENOENT"
                    && c.projected.starts_with('-')
                    && c.words.last().is_some_and(|flags| ["0x1000", "0x1400"].contains(flags))
            },
            goes_on: true,
        },
    ),
    (
        (6, 11),
        Difference {
            reason: "statx, newfstatat: before 6.11 no path is EFAULT, even with AT_EMPTY_PATH",
            applies: |c| {
                matches!(c.name, "statx" | "newfstatat" | "fstatat")
                    && c.kernel == "-EFAULT"
                    && c.words.get(2) == Some(&"null")
            },
            // What follows tells inodes apart by those that were seen.
            goes_on: false,
        },
    ),
    (
        (6, 13),
        Difference {
            reason: "setxattr and its like: before 6.13 the path is looked up, and whether its \
                     mount is read-only, before the name and the value are looked at",
            applies: |c| {
                c.name.contains("xattr")
                    && c.kernel.starts_with('-')
                    && ["-EFAULT", "-E2BIG", "-EINVAL", "-ERANGE"].contains(&c.projected)
            },
            goes_on: true,
        },
    ),
    (
        (6, 14),
        Difference {
            reason: "truncate: before 6.14 a read-only mount comes before the file's mode",
            applies: |c| c.name == "truncate" && c.kernel == "-EROFS" && c.projected == "-EACCES",
            goes_on: true,
        },
    ),
];

/// Major and minor number of the kernel that this runs on.
pub fn release() -> (u32, u32) {
    static RELEASE: OnceLock<(u32, u32)> = OnceLock::new();
    *RELEASE.get_or_init(|| {
        let uname = rustix::system::uname();
        let text = uname.release().to_string_lossy();
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => panic!("a kernel's release: {text}"),
        }
    })
}

/// Of every read-only mount.
const FOR_IOCTLS: Difference = Difference {
    reason: "open: access mode 3, which gives a descriptor for ioctls alone, is refused as one for \
             writing",
    applies: |c| {
        opened_flags(c.kernel).is_some_and(|flags| flags & 3 == 3) && c.projected == "-EROFS"
    },
    goes_on: false,
};

/// Of every read-only mount.
const NO_HANDLES: Difference = Difference {
    reason: "name_to_handle_at: EOPNOTSUPP for what is projected, as a handle would lead past every \
             path to the store",
    applies: |c| c.name == "name_to_handle_at" && c.projected == "-EOPNOTSUPP",
    goes_on: true,
};

/// Of every read-only mount.
const AT_THE_END: Difference = Difference {
    reason: "read: of a directory at its end; some file systems have positions there that no read \
             could start from",
    applies: |c| c.name == "read" && c.kernel == "-EINVAL" && c.projected == "-EISDIR",
    goes_on: true,
};

/// Of every projected mount.
const FCHDIR: Difference = Difference {
    reason: "fchdir: a directory that may be read but not searched can be entered by its \
             descriptor, as what stands for it may be searched by everybody",
    applies: |c| c.name == "fchdir" && c.kernel == "-EACCES" && c.projected == "0",
    goes_on: false,
};

/// Of writable mounts.
const NAMES_OF_ONE_FILE: Difference = Difference {
    reason: "links of /proc: a descriptor's file that has, or had, several names is told by any of \
             them",
    applies: |c| {
        let by_descriptor = c.words.iter().any(|word| word.contains("/proc/self/fd/"));
        let told = |answer: &str| !answer.starts_with('-');
        by_descriptor
            && (c.name == "readlink" && told(c.kernel) && told(c.projected)
                || c.name == "realpath" && (c.kernel == "-ENOENT" || told(c.kernel)))
    },
    goes_on: true,
};

/// Why a write may not be told (docs/SEMANTICS.md, inotify): so rarely that more of it is an error.
pub const UNTOLD: &str = "inotify: who watches a directory is not told of writes, and their close, \
                          through descriptors that were opened before its first watch";

/// Why a hole may be told elsewhere (lseek(2), ext4's delayed allocation), as seldom.
pub const NOT_YET_WRITTEN: &str = "lseek: what is allocated and zeroed is a hole or data by whether \
                                   it was written back yet, which no caller can tell";

const HOLES: Difference = Difference {
    reason: NOT_YET_WRITTEN,
    applies: |c| {
        let found = |answer: &str| answer.bytes().all(|b| b.is_ascii_digit());
        let asks = c.words.last().is_some_and(|whence| ["3", "4"].contains(whence));
        c.name == "lseek" && asks && found(c.kernel) && found(c.projected)
    },
    goes_on: false,
};

/// The events that an answer tells, by mask and name.
fn events(answer: &str) -> Vec<&str> {
    answer.split(' ').take_while(|word| *word != "=").filter(|word| !word.is_empty()).collect()
}

/// Whether all that the projection left out is `IN_MODIFY` and `IN_CLOSE_WRITE` of names in a watched
/// directory.
fn leaves_out_writes(kernel: &str, projected: &str) -> bool {
    let mut told = events(projected).into_iter().peekable();
    let mut untold = events(kernel);
    untold.retain(|event| told.next_if_eq(event).is_none());
    let of_writing = |event: &&str| event.starts_with("2:") || event.starts_with("8:");
    untold.iter().all(of_writing) && told.next().is_none()
}

/// Of an overlay, beside a plain directory.
pub const OVERLAY: &[Difference] = &[
    FCHDIR,
    NAMES_OF_ONE_FILE,
    Difference {
        reason: UNTOLD,
        applies: |c| c.name == "events" && leaves_out_writes(c.kernel, c.projected),
        goes_on: true,
    },
    HOLES,
    Difference {
        reason: "open: O_TMPFILE in a directory that was removed; ext4 says EPERM, others ENOENT",
        applies: |c| {
            c.kernel == "-ENOENT"
                && c.projected == "-EPERM"
                && c.words.iter().any(|flags| flags.starts_with("0202"))
        },
        goes_on: true,
    },
    Difference {
        reason: "O_TMPFILE: F_GETFL does not show it, as the file has a name in the upper directory",
        applies: |c| {
            let [kernel, projected] = [c.kernel, c.projected].map(opened_flags);
            kernel.is_some_and(|flags| flags & TEMPORARY == TEMPORARY)
                && kernel.map(|flags| flags & !TEMPORARY) == projected
                && without_flags(c.kernel) == without_flags(c.projected)
        },
        goes_on: true,
    },
];

/// Of an overlay that is mounted as a FUSE file system, beside a plain directory.
pub const MOUNTED_OVERLAY: &[Difference] = &[
    Difference {
        reason: "lseek: the positions in a directory end where its size says, on ext4 at the last hash",
        applies: |c| {
            let asks = c.words.last().is_some_and(|whence| ["2", "3", "4"].contains(whence));
            let number = |answer: &str| answer.parse::<u64>().ok();
            let beyond = number(c.kernel).is_some_and(|at| at > 1 << 62) || c.kernel == "-EINVAL";
            c.name == "lseek" && asks && (beyond || c.projected == "-ENXIO")
        },
        goes_on: false,
    },
    Difference {
        reason: "lseek: a file is data from its begin to its end, as far as the kernel tells",
        applies: |c| {
            let number = |answer: &str| answer.bytes().all(|b| b.is_ascii_digit());
            let asks = c.words.last().is_some_and(|whence| ["3", "4"].contains(whence));
            let kernel = number(c.kernel) || c.kernel == "-ENXIO";
            c.name == "lseek" && asks && kernel && number(c.projected)
        },
        goes_on: false,
    },
];

/// Of a copy-on-write mount, beside a plain directory.
pub const COPY_ON_WRITE: &[Difference] = &[
    FCHDIR,
    NAMES_OF_ONE_FILE,
    HOLES,
    Difference {
        reason: "access: nobody may write to a directory, as no name comes or goes",
        applies: |c| {
            // On aarch64 access is the C library's alone, whose results are written otherwise.
            matches!(c.name, "access" | "faccessat2")
                && matches!(c.kernel, "0" | " = 0" | "-EACCES")
                && c.projected == "-EROFS"
        },
        goes_on: true,
    },
];

/// `O_TMPFILE`.
const TEMPORARY: u32 = 0o20_200_000;
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
pub fn judge(meant: &[Difference], call: &str, kernel: &str, projected: &str) -> Verdict {
    if kernel == projected {
        return Verdict::Equal;
    }
    let mut words: Vec<&str> = call.split(' ').collect();
    while words.first().is_some_and(|w| w.starts_with(['>', '&'])) {
        words.remove(0);
    }
    let name = words.first().map_or("", |n| n.strip_prefix("c.").unwrap_or(n));
    let case = Case { name, words: &words, kernel, projected };
    let older = BEFORE.iter().filter(|(first, _)| release() < *first).map(|(_, d)| d);
    meant
        .iter()
        .chain(older)
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
    use super::{BEFORE, OVERLAY, READ_ONLY, Verdict, judge, release};

    #[test]
    fn only_what_is_listed_may_differ() {
        assert_eq!(judge(READ_ONLY, "stat =x #144", "-ENOENT", "-ENOENT"), Verdict::Equal);
        assert_eq!(judge(READ_ONLY, "stat =x #144", "-ENOENT", "-EIO"), Verdict::Wrong);
        assert!(matches!(
            judge(READ_ONLY, "link =x =y", "-EROFS", "-EXDEV"),
            Verdict::Meant { goes_on: true, .. }
        ));
        assert_eq!(judge(READ_ONLY, "rename =x =y", "-EROFS", "-EXDEV"), Verdict::Wrong);
        assert!(
            READ_ONLY.iter().chain(BEFORE.iter().map(|(_, d)| d)).all(|d| d.reason.contains(": "))
        );
    }

    #[test]
    fn only_writes_may_be_left_out_of_what_a_watch_tells() {
        let judge = |kernel, projected| judge(OVERLAY, "events @5", kernel, projected);
        assert!(matches!(judge(" 2:g = 0", " = 0"), Verdict::Meant { .. }));
        assert!(matches!(judge(" 2:g 8:g = 0", " = 0"), Verdict::Meant { .. }));
        assert!(matches!(judge(" 100:a 2:g 200:a = 0", " 100:a 200:a = 0"), Verdict::Meant { .. }));
        assert_eq!(judge(" 100:a 2:g = 0", " 2:g = 0"), Verdict::Wrong);
        assert_eq!(judge(" = 0", " 2:g = 0"), Verdict::Wrong);
        assert_eq!(judge(" 2 = 0", " = 0"), Verdict::Wrong);
        assert_eq!(judge(" 100:a 200:a = 0", " 200:a 100:a = 0"), Verdict::Wrong);
    }

    #[test]
    fn only_an_older_kernel_may_answer_as_older_ones_did() {
        let meant = judge(READ_ONLY, "truncate =x 0", "-EROFS", "-EACCES") != Verdict::Wrong;
        assert_eq!(meant, release() < (6, 14));
    }
}
