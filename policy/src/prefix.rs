//! What may be a mount point.
//!
//! A mount point is compared with the job's paths byte by byte, so there must be one way only to
//! write it; and it must leave room for the names below it within `PATH_MAX`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest name of one path component (`NAME_MAX`).
pub const MAX_COMPONENT: usize = 255;

/// A mount point is shorter than this: `PATH_MAX` less 256, so that at least one longest name
/// below it can be opened by its whole path.
pub const MAX_MOUNT_POINT: usize = 4096 - 256;

/// Trees of the kernel's own that must stay as they are.
const KERNEL_TREES: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Why a path can't be a mount point. Displays as one line that names the path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It is empty.
    #[error("the mount point is empty; give an absolute path such as /vrift/deps")]
    Empty,
    /// It doesn't begin with `/`.
    #[error("mount point {:?} is not absolute; begin it with `/`", .0)]
    Relative(PathBuf),
    /// It holds a NUL byte, which no path can.
    #[error("mount point {:?} holds a NUL byte; leave it out", .0)]
    Nul(PathBuf),
    /// It is `/`, which would hide every program.
    #[error("\"/\" can't be a mount point; give a directory below it, such as /vrift")]
    Root,
    /// It isn't written in the one way that is compared.
    #[error("mount point {at:?} holds {what}; write it as {plain:?}")]
    NotNormal {
        /// The path as given.
        at: PathBuf,
        /// What is in the way.
        what: &'static str,
        /// The same place, as far as the text can tell.
        plain: PathBuf,
    },
    /// It is one of the kernel's own trees, or below one.
    #[error("mount point {at:?} is under {tree}, which is the kernel's own; choose another place")]
    KernelTree {
        /// The path as given.
        at: PathBuf,
        /// The tree.
        tree: &'static str,
    },
    /// A component is longer than the kernel takes.
    #[error(
        "mount point {at:?} has a component of {length} bytes, and {MAX_COMPONENT} is the most; shorten it"
    )]
    LongComponent {
        /// The path as given.
        at: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The whole is too long.
    #[error("the mount point has {length} bytes, and {} is the most; shorten it", MAX_MOUNT_POINT - 1)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Checks that a path may be a mount point: absolute, written without `.`, `..`, `//` or a
/// trailing slash, not `/`, not `/proc`, `/sys`, `/dev` or below one of them, no component longer
/// than [`MAX_COMPONENT`], shorter than [`MAX_MOUNT_POINT`].
///
/// # Errors
/// The first of these that does not hold.
pub fn check_mount_point(at: &Path) -> Result<(), PrefixError> {
    let bytes = at.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(PrefixError::Empty);
    }
    if bytes.len() >= MAX_MOUNT_POINT {
        return Err(PrefixError::TooLong { length: bytes.len() });
    }
    if bytes.contains(&0) {
        return Err(PrefixError::Nul(at.to_owned()));
    }
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return Err(PrefixError::Relative(at.to_owned()));
    };
    let plain = plain(rest);
    if plain == b"/" {
        return Err(PrefixError::Root);
    }
    if let Some(what) = fault(rest) {
        let plain = PathBuf::from(std::ffi::OsStr::from_bytes(&plain));
        return Err(PrefixError::NotNormal { at: at.to_owned(), what, plain });
    }
    if let Some(tree) = KERNEL_TREES.into_iter().find(|tree| at.starts_with(tree)) {
        return Err(PrefixError::KernelTree { at: at.to_owned(), tree });
    }
    if let Some(long) = rest.split(|b| *b == b'/').find(|name| name.len() > MAX_COMPONENT) {
        return Err(PrefixError::LongComponent { at: at.to_owned(), length: long.len() });
    }
    Ok(())
}

/// What keeps the part after the first slash from being normal.
fn fault(rest: &[u8]) -> Option<&'static str> {
    if rest.ends_with(b"/") && !rest.ends_with(b"//") {
        return Some("a trailing slash");
    }
    rest.split(|b| *b == b'/').find_map(|name| match name {
        b"" => Some("an empty component (`//`)"),
        b"." => Some("a `.`"),
        b".." => Some("a `..`"),
        _ => None,
    })
}

/// The path without empty components, `.` and `..`, by the text alone.
fn plain(rest: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in rest.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    let mut path = vec![b'/'];
    path.extend_from_slice(&names.join(&b'/'));
    path
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::check_mount_point;

    fn refusal(at: &str) -> String {
        check_mount_point(Path::new(at)).expect_err(at).to_string()
    }

    #[test]
    fn ordinary_places_are_taken() {
        for at in ["/vrift", "/vrift/deps", "/usr/include", "/device", "/a...b/..c", "/procs/x"] {
            assert_eq!(check_mount_point(Path::new(at)), Ok(()), "{at}");
        }
        let longest = format!("/{}", "n".repeat(255));
        assert_eq!(check_mount_point(Path::new(&longest)), Ok(()));
    }

    #[test]
    fn each_refusal_names_the_path_and_a_way_out() {
        for (at, message) in [
            ("", "the mount point is empty; give an absolute path such as /vrift/deps"),
            ("deps", "mount point \"deps\" is not absolute; begin it with `/`"),
            ("~/deps", "mount point \"~/deps\" is not absolute; begin it with `/`"),
            ("/", "\"/\" can't be a mount point; give a directory below it, such as /vrift"),
            ("//", "\"/\" can't be a mount point; give a directory below it, such as /vrift"),
            ("/..", "\"/\" can't be a mount point; give a directory below it, such as /vrift"),
            ("/a/", "mount point \"/a/\" holds a trailing slash; write it as \"/a\""),
            (
                "/a//b",
                "mount point \"/a//b\" holds an empty component (`//`); write it as \"/a/b\"",
            ),
            ("/a/./b", "mount point \"/a/./b\" holds a `.`; write it as \"/a/b\""),
            ("/a/../b", "mount point \"/a/../b\" holds a `..`; write it as \"/b\""),
            (
                "/proc",
                "mount point \"/proc\" is under /proc, which is the kernel's own; choose another place",
            ),
            (
                "/dev/shm/x",
                "mount point \"/dev/shm/x\" is under /dev, which is the kernel's own; choose another place",
            ),
            (
                "/sys/a",
                "mount point \"/sys/a\" is under /sys, which is the kernel's own; choose another place",
            ),
        ] {
            assert_eq!(refusal(at), message);
        }
        assert!(refusal("/a\0b").contains("NUL"));
    }

    #[test]
    fn lengths_are_checked_at_the_boundary() {
        let long = format!("/{}", "n".repeat(256));
        assert!(refusal(&long).contains("a component of 256 bytes, and 255 is the most"));
        let whole = |length: usize| {
            let mut path = "/nnnnnnn".repeat(length / 8);
            path.push_str(&"n".repeat(length % 8));
            path
        };
        assert_eq!(check_mount_point(Path::new(&whole(3839))), Ok(()));
        assert!(refusal(&whole(3840)).contains("has 3840 bytes, and 3839 is the most"));
    }
}
