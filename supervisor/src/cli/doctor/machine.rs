//! What the machine's settings and file systems allow. Nothing is left behind: the only files
//! made here never have a name.

use super::Check;
use crate::read_only::ReadOnly;
use crate::sys::clone::clone_file;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use vrift_store::Store;

/// Fewer descriptors than this may run out in a job with many processes.
const FEW: u64 = 1024;

/// The checks.
pub fn checks() -> Vec<Check> {
    let mut out = vec![yama()];
    match store_directory() {
        Ok(dir) => {
            out.push(read_only(&dir));
            out.extend(store(&dir));
        }
        Err(reason) => out.push(Check::missing(
            "store",
            format!("it has no place ({reason})"),
            "set VR_THE_SOURCE to a directory",
        )),
    }
    out.push(temporary());
    out.push(descriptors());
    out
}

fn yama() -> Check {
    const NAME: &str = "Yama";
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let Ok(scope) = scope else {
        return Check::ok(NAME, "not in use: nothing restricts ptrace of descendants");
    };
    let scope = scope.trim();
    match scope {
        "0" | "1" => Check::ok(NAME, format!("ptrace_scope is {scope}: descendants may be traced")),
        "2" if has_cap_sys_ptrace() => {
            Check::ok(NAME, "ptrace_scope is 2, and this user has CAP_SYS_PTRACE")
        }
        _ => Check::needed(
            NAME,
            format!("ptrace_scope is {scope}: descendants may not be traced"),
            if scope == "3" {
                "set kernel.yama.ptrace_scope = 1 in /etc/sysctl.d and restart the machine"
            } else {
                "sysctl kernel.yama.ptrace_scope=1"
            },
        ),
    }
}

/// Bit 19 of the effective capabilities.
fn has_cap_sys_ptrace() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|caps| caps & (1 << 19) != 0)
}

/// Where the user's store is or would be: the nearest directory that exists.
pub fn store_directory() -> Result<PathBuf, String> {
    let root = Store::default_root().map_err(|e| e.to_string())?;
    let root = if root.is_absolute() {
        root
    } else {
        std::env::current_dir().map_err(|e| e.to_string())?.join(root)
    };
    root.ancestors()
        .find(|dir| dir.is_dir())
        .map(Path::to_owned)
        .ok_or_else(|| format!("there is no directory above {}", root.display()))
}

/// Whether the kernel itself keeps descriptors from changing the store.
fn read_only(dir: &Path) -> Check {
    const NAME: &str = "store: read-only";
    match ReadOnly::possible(dir) {
        Ok(()) => Check::ok(NAME, "what jobs are handed comes from a read-only mount"),
        Err(e) => Check::missing(
            NAME,
            format!(
                "there can be no mount or user namespace ({}): jobs run, but are kept from racing \
                 for the store's descriptors by looking only",
                e.desc()
            ),
            "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, or \
             kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
}

/// Can nothing be run from this directory's file system?
pub fn is_noexec(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

/// Can files be made in this directory?
pub fn is_writable(dir: &Path) -> bool {
    access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

fn store(dir: &Path) -> Vec<Check> {
    let shown = dir.display();
    let mut out = Vec::new();
    out.push(if !is_noexec(dir) {
        Check::ok("store: exec", format!("{shown}: programs can be run from its file system"))
    } else {
        let meaning = format!("{shown}: its file system is noexec: no projected program runs");
        let fix = "put the store elsewhere: VR_THE_SOURCE=DIR";
        if is_writable(dir) {
            Check::needed("store: exec", meaning, fix)
        } else {
            Check::ok("store: exec", format!("{shown}: noexec, but runnable copies go elsewhere"))
        }
    });
    if !is_writable(dir) {
        out.push(Check::slower(
            "store: write",
            format!("{shown}: it can be read only: runnable copies are made anew for each job"),
            "make it writable for this user, or set VR_THE_SOURCE to a directory that is",
        ));
        return out;
    }
    match nameless(dir) {
        Ok(_) => out.push(Check::ok("store: O_TMPFILE", "a process that is killed leaves nothing")),
        Err(e) => {
            out.push(Check::slower(
                "store: O_TMPFILE",
                format!("{shown}: {e}: files are made under temporary names"),
                "put the store on ext4, XFS, btrfs or tmpfs",
            ));
        }
    }
    out.push(match clone(dir) {
        Ok(()) => Check::ok("store: FICLONE", "copies share their blocks"),
        Err(e) => Check::slower(
            "store: FICLONE",
            format!("{shown}: {e}: what is ingested, and projected programs, are copied in full"),
            "put the store on XFS or btrfs, beside what is ingested",
        ),
    });
    out
}

/// A file without a name; it is gone when closed.
fn nameless(dir: &Path) -> Result<File, Errno> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    open(dir, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

fn clone(dir: &Path) -> Result<(), Errno> {
    let make = || match nameless(dir) {
        Ok(file) => Ok(file),
        Err(_) => tempfile::tempfile_in(dir)
            .map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
    };
    let (mut from, to) = (make()?, make()?);
    from.write_all(&[b'v'; 4096]).map_err(|_| Errno::EIO)?;
    clone_file(&to, &from)
}

fn temporary() -> Check {
    const NAME: &str = "TMPDIR: exec";
    let dir = std::env::temp_dir();
    if is_noexec(&dir) {
        Check::missing(
            NAME,
            format!("{}: noexec: what a build makes there and then runs fails", dir.display()),
            "set TMPDIR to a directory on another file system",
        )
    } else {
        Check::ok(NAME, format!("{}: programs can be run there", dir.display()))
    }
}

fn descriptors() -> Check {
    const NAME: &str = "RLIMIT_NOFILE";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Err(e) => Check::missing(NAME, format!("it can't be read: {e}"), "allow prlimit64"),
        Ok((soft, hard)) if hard < FEW => Check::missing(
            NAME,
            format!("{soft}, at most {hard}: a job with many processes may get EMFILE"),
            "raise the hard limit: ulimit -Hn 4096, or nofile in limits.conf",
        ),
        Ok((soft, hard)) => Check::ok(NAME, format!("{soft}, raised to {hard} for the supervisor")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_a_directory_leaves_nothing_in_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let checks = store(dir.path());
        assert_eq!(checks.len(), 3, "{checks:?}");
        let left = std::fs::read_dir(dir.path()).expect("it is there").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn noexec_is_what_the_list_of_mounts_says() {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
        let fields: Vec<Vec<_>> = mounts.lines().map(|l| l.split(' ').collect()).collect();
        // The root is there once and can't be covered; others may be out of reach or covered.
        let root = fields.iter().rev().find(|f| f[1] == "/").expect("there is a root");
        let noexec = root[3].split(',').any(|o| o == "noexec");
        assert_eq!(is_noexec(Path::new("/")), noexec);
        assert!(!is_writable(Path::new("/nonexistent")));
    }
}
