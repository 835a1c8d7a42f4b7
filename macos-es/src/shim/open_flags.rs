//! The flags of open(2), by the numbers of each system.
//!
//! Darwin's are those of `bsd/sys/fcntl.h`. Linux's serve the tests, in which the same core runs
//! under libc's names.

use vrift_policy::Opening;

/// What a caller of the open family asks for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What decides about it.
    pub opening: Opening,
    /// A link that the path ends in is not followed.
    pub no_follow: bool,
    /// A link that the path ends in is opened itself (`O_SYMLINK`).
    pub link_itself: bool,
    /// No link may be on the way at all (`O_NOFOLLOW_ANY`).
    pub no_links: bool,
    /// `O_RDONLY` or `O_RDWR`.
    pub read: bool,
    /// To be run or searched, not read (`O_EXEC`).
    pub execute: bool,
    /// EINVAL, whatever the path is.
    pub invalid: bool,
    /// The flags that a blob, or what stands for a directory, is opened with.
    pub kept: i32,
}

impl Request {
    /// The rights that it takes on a file: 4 to read, 2 to write, 1 to run or search.
    pub(super) const fn rights(&self) -> u32 {
        if self.opening.path_only {
            return 0;
        }
        let read = if self.read { 4 } else { 0 };
        let write = if self.opening.write || self.opening.truncate { 2 } else { 0 };
        let execute = if self.execute { 1 } else { 0 };
        read | write | execute
    }
}

/// Darwin's numbers.
pub mod darwin {
    use super::{Opening, Request};

    /// `O_WRONLY`.
    pub const WRONLY: i32 = 1;
    /// `O_RDWR`.
    pub const RDWR: i32 = 2;
    /// `O_NOFOLLOW`.
    pub const NOFOLLOW: i32 = 0x100;
    /// `O_CREAT`.
    pub const CREAT: i32 = 0x200;
    /// `O_TRUNC`.
    pub const TRUNC: i32 = 0x400;
    /// `O_EXCL`.
    pub const EXCL: i32 = 0x800;
    /// `O_DIRECTORY`.
    pub const DIRECTORY: i32 = 0x0010_0000;
    /// `O_SYMLINK`.
    pub const SYMLINK: i32 = 0x0020_0000;
    /// `O_NOFOLLOW_ANY`.
    pub const NOFOLLOW_ANY: i32 = 0x2000_0000;
    /// `O_EXEC`; with `O_DIRECTORY` it is `O_SEARCH`.
    pub const EXEC: i32 = 0x4000_0000;
    /// `AT_FDCWD`.
    pub const AT_FDCWD: i32 = -2;
    /// `AT_SYMLINK_NOFOLLOW`.
    pub const AT_SYMLINK_NOFOLLOW: i32 = 0x20;
    /// `AT_SYMLINK_FOLLOW`.
    pub const AT_SYMLINK_FOLLOW: i32 = 0x40;
    /// `AT_REMOVEDIR`.
    pub const AT_REMOVEDIR: i32 = 0x80;

    /// Reads the flags.
    #[must_use]
    pub const fn request(flags: i32) -> Request {
        let access = flags & 3;
        let opening = Opening {
            write: access == WRONLY || access == RDWR,
            create: flags & CREAT != 0,
            exclusive: flags & EXCL != 0,
            truncate: flags & TRUNC != 0,
            directory: flags & DIRECTORY != 0,
            temporary: false,
            path_only: false,
        };
        Request {
            opening,
            no_follow: flags & NOFOLLOW != 0,
            link_itself: flags & SYMLINK != 0,
            no_links: flags & NOFOLLOW_ANY != 0,
            read: access != WRONLY && flags & EXEC == 0,
            execute: flags & EXEC != 0,
            invalid: access == 3 || flags & (CREAT | DIRECTORY) == CREAT | DIRECTORY,
            kept: flags & !(3 | CREAT | EXCL | TRUNC | NOFOLLOW | SYMLINK | NOFOLLOW_ANY),
        }
    }
}

/// Linux's numbers (`asm-generic/fcntl.h`, as x86_64 has them).
pub mod linux {
    use super::{Opening, Request};

    /// `O_CREAT`.
    pub const CREAT: i32 = 0o100;
    /// `O_EXCL`.
    pub const EXCL: i32 = 0o200;
    /// `O_TRUNC`.
    pub const TRUNC: i32 = 0o1000;
    /// `O_DIRECTORY`.
    pub const DIRECTORY: i32 = 0o200_000;
    /// `O_NOFOLLOW`.
    pub const NOFOLLOW: i32 = 0o400_000;
    /// `O_PATH`.
    pub const PATH: i32 = 0o10_000_000;
    /// `O_TMPFILE` without the `O_DIRECTORY` in it.
    pub const TMPFILE: i32 = 0o20_000_000;
    const CLOEXEC: i32 = 0o2_000_000;

    /// Reads the flags.
    #[must_use]
    pub const fn request(flags: i32) -> Request {
        // "O_PATH beats everything else."
        let path_only = flags & PATH != 0;
        let flags = if path_only { flags & (PATH | DIRECTORY | NOFOLLOW | CLOEXEC) } else { flags };
        let writes = flags & 3 != 0;
        let temporary = flags & TMPFILE != 0;
        let opening = Opening {
            write: writes,
            create: flags & CREAT != 0,
            exclusive: flags & EXCL != 0,
            truncate: flags & TRUNC != 0,
            directory: flags & DIRECTORY != 0,
            temporary,
            path_only,
        };
        let made_directory = flags & (CREAT | DIRECTORY) == CREAT | DIRECTORY;
        Request {
            opening,
            no_follow: flags & NOFOLLOW != 0,
            link_itself: path_only && flags & NOFOLLOW != 0,
            no_links: false,
            // 3 asks for both rights, and is good for ioctl alone.
            read: flags & 3 != 1,
            execute: false,
            invalid: made_directory || temporary && (flags & DIRECTORY == 0 || !writes),
            kept: flags & !(3 | CREAT | EXCL | TRUNC | NOFOLLOW),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{darwin, linux};

    #[test]
    fn what_is_kept_can_neither_make_nor_write() {
        for flags in (0..u32::BITS).flat_map(|bit| [0, 1, 2, 3].map(|a| (1i32 << (bit % 31)) | a)) {
            let kept = darwin::request(flags).kept;
            assert_eq!(kept & (3 | darwin::CREAT | darwin::TRUNC | darwin::EXCL), 0, "{flags:#x}");
            let kept = linux::request(flags).kept;
            assert_eq!(kept & (3 | linux::CREAT | linux::TRUNC | linux::EXCL), 0, "{flags:#o}");
        }
    }

    #[test]
    fn what_the_system_says_whatever_the_path_is() {
        assert!(darwin::request(3).invalid);
        assert!(darwin::request(darwin::CREAT | darwin::DIRECTORY).invalid);
        assert!(!darwin::request(darwin::CREAT | darwin::RDWR).invalid);
        assert!(linux::request(linux::TMPFILE).invalid);
        assert!(!linux::request(linux::TMPFILE | linux::DIRECTORY | 2).invalid);
    }
}
