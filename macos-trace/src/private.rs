//! The job's own directory: what the shim makes real lies here. It goes with the job.
//!
//! Who makes one holds a lock on its `lease`, so that one whose maker was killed is known, and removed
//! by that user's next job.

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

/// What their names begin with.
const PREFIX: &str = "vrift-job-";

/// What they do until their lease is locked: nobody's to sweep.
const UNFINISHED: &str = "vrift-new-";

/// The directories in it that the shim expects: stand-ins, clones.
const INSIDE: [&str; 2] = ["d", "c"];

/// A job's directory; removed when dropped.
#[derive(Debug)]
pub struct Private {
    root: PathBuf,
    /// Locked as long as the job runs.
    _lease: File,
}

/// A store's directory for them, which a new store hasn't got.
pub fn of_store(store: &Path) -> PathBuf {
    let jobs = store.join("jobs");
    // Where it can't be made, nor can anything in it, and what is made there says so.
    if DirBuilder::new().mode(0o755).create(&jobs).is_ok() {
        let _ = hand_over(store, &jobs);
    }
    jobs
}

/// By `sudo`, root makes it in a store that is somebody else's, whose later jobs are to make theirs there.
fn hand_over(store: &Path, jobs: &Path) -> io::Result<()> {
    let owner = store.metadata()?;
    // Never through a link: whose the store is could put one there.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let jobs = File::from(rustix::fs::open(jobs, flags, Mode::empty())?);
    fchown(jobs, Some(owner.uid()), Some(owner.gid()))
}

impl Private {
    /// Makes one below the first of `bases` that can be written to, for `user`'s processes.
    pub fn create(bases: &[PathBuf], user: Option<(u32, u32)>) -> io::Result<Private> {
        let mut failure = io::Error::other("no place was given");
        for base in bases {
            match Private::below(base, user) {
                Ok(private) => return Ok(private),
                Err(e) => failure = io::Error::new(e.kind(), format!("{}: {e}", base.display())),
            }
        }
        Err(failure)
    }

    fn below(base: &Path, user: Option<(u32, u32)>) -> io::Result<Private> {
        sweep(base);
        let made = tempfile::Builder::new().prefix(UNFINISHED).rand_bytes(8).tempdir_in(base)?;
        let lease = File::create(made.path().join("lease"))?;
        flock(&lease, FlockOperation::NonBlockingLockExclusive)?;
        let (uid, gid) = user.map_or((None, None), |(uid, gid)| (Some(uid), Some(gid)));
        for name in INSIDE {
            let dir = made.path().join(name);
            DirBuilder::new().mode(0o755).create(&dir)?;
            chown(&dir, uid, gid)?;
        }
        fs::set_permissions(made.path(), Permissions::from_mode(0o755))?;
        chown(made.path(), uid, gid)?;
        let name = made.path().file_name().unwrap_or_default().to_string_lossy();
        let name = name.replacen(UNFINISHED, PREFIX, 1);
        // Without links, as paths of its own are known to the shim.
        let root = base.canonicalize()?.join(name);
        fs::rename(made.path(), &root)?;
        let _ = made.keep();
        Ok(Private { root, _lease: lease })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(e) = remove(&self.root) {
            eprintln!("vrift-trace: {}: {e}; remove it by hand", self.root.display());
        }
    }
}

/// Removes what jobs left that were killed. What can't be removed now is left to another job.
fn sweep(base: &Path) {
    let Ok(entries) = base.read_dir() else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        // In a directory that is everybody's, another user's may lead anywhere.
        let ours = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own);
        if !ours || !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(lease) = File::open(entry.path().join("lease")) else { continue };
        if flock(&lease, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = remove(&entry.path());
        }
    }
}

/// Removes a tree, in which directories may be without w and clones of protected blobs immutable.
fn remove(path: &Path) -> io::Result<()> {
    let mut dirs = vec![path.to_owned()];
    while let Some(dir) = dirs.pop() {
        fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        for entry in dir.read_dir()? {
            let entry = entry?;
            #[cfg(target_os = "macos")]
            crate::sys::clear_flags(&entry.path())?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::{PREFIX, Private};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_a_killed_job_left_goes_with_the_next_one() {
        let base = tempfile::tempdir().expect("a directory");
        let bases = [base.path().join("none"), base.path().to_owned()];
        let names = || {
            let entries = base.path().read_dir().expect("listed");
            entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
        };
        let first = Private::create(&bases, None).expect("the first");
        let root = first.root().to_owned();
        let inside = root.join("d/0-3");
        fs::create_dir(&inside).expect("made");
        fs::write(inside.join("file"), "x").expect("written");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o555)).expect("no w");
        // Its lock is gone, and it is not.
        let left = base.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join("c/0")).expect("made");
        fs::write(left.join("lease"), "").expect("written");
        let other = base.path().join("another");
        fs::create_dir(&other).expect("made");
        let second = Private::create(&bases, None).expect("the second");
        assert!(root.is_dir() && !left.exists() && other.is_dir());
        drop(first);
        assert!(!root.exists());
        drop(second);
        assert_eq!(names(), ["another"]);
    }
}
