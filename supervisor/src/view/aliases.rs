//! Other paths of a directory: those that bind mounts of it, or of what holds it, give it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A line of `/proc/PID/mountinfo`, as far as it matters here (proc_pid_mountinfo(5)).
struct Mount {
    /// `major:minor`.
    device: Vec<u8>,
    /// What of the file system is seen there.
    root: PathBuf,
    at: PathBuf,
}

/// Every other path by which the directory `dir`, a path without links, can be reached here.
pub fn of(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let identity = |path: &Path| path.metadata().map(|m| (m.dev(), m.ino())).ok();
    let own = identity(dir);
    // Some other mount may stand over it.
    candidates(dir, &text)
        .into_iter()
        .filter(|path| own.is_some() && identity(path) == own)
        .collect()
}

/// Where the directory would be seen, if nothing stood over it.
fn candidates(dir: &Path, mountinfo: &[u8]) -> Vec<PathBuf> {
    let mounts: Vec<Mount> = mountinfo.split(|&b| b == b'\n').filter_map(mount).collect();
    // Of mounts at the same place the last one is on top.
    let holds = mounts.iter().filter(|mount| dir.starts_with(&mount.at));
    let Some(own) = holds.max_by_key(|mount| mount.at.components().count()) else {
        return Vec::new();
    };
    let Ok(below) = dir.strip_prefix(&own.at) else { return Vec::new() };
    let inside = joined(&own.root, below);
    let same = mounts.iter().filter(|mount| mount.device == own.device);
    let seen =
        same.filter_map(|mount| Some(joined(&mount.at, inside.strip_prefix(&mount.root).ok()?)));
    seen.filter(|path| path != dir).collect()
}

fn joined(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&b| b == b' ').skip(2);
    let device = words.next()?.to_vec();
    let (root, at) = (unescaped(words.next()?), unescaped(words.next()?));
    Some(Mount { device, root, at })
}

/// Spaces, tabs, line ends and backslashes stand there as three octal digits.
fn unescaped(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|d| first == b'\\' && d.iter().all(u8::is_ascii_digit));
        let value = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 22 0:30 / /home rw - btrfs /dev/vdb rw\n\
        31 22 254:0 /var/s /mnt/a\\040b rw - ext4 /dev/vda rw\n\
        32 22 254:0 /var/s/store/blobs /mnt/blobs rw - ext4 /dev/vda rw\n\
        33 22 0:30 / /copy rw - btrfs /dev/vdb rw\n";

    fn seen(dir: &str) -> Vec<PathBuf> {
        candidates(Path::new(dir), MOUNTS)
    }

    #[test]
    fn a_bind_mount_of_what_holds_it_is_another_path() {
        assert_eq!(seen("/var/s/store"), [Path::new("/mnt/a b/store")]);
        assert_eq!(seen("/var/s"), [Path::new("/mnt/a b")]);
        assert_eq!(seen("/home/u/store"), [Path::new("/copy/u/store")]);
        assert_eq!(seen("/mnt/a b/store"), [Path::new("/var/s/store")]);
        assert_eq!(seen("/var/other"), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_there_is_read() {
        // Whatever the machine has mounted: the temporary directory is no path of another one.
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().canonicalize().expect("it is there");
        assert!(!of(&dir).contains(&dir));
    }
}
