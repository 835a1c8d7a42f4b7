//! A directory in which jobs make their private trees, one after the other or at once.
//!
//! Whoever makes a tree sweeps those first whose jobs are gone: a finished tree (`job-…`) is its
//! job's as long as its lease is locked. While a tree is being made (`new-…`) its maker holds a
//! shared lock on the base; who gets that alone knows that no maker is there.

use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// How a tree is called once its lease is locked.
pub const FINISHED: &str = "job-";
/// How it is called before.
pub const UNFINISHED: &str = "new-";

/// Being in a base to make a tree; over when dropped.
pub struct Base {
    _lock: Flock<fs::File>,
}

impl Base {
    /// Makes the base if it is not there, sweeps it, and keeps others from sweeping what is being
    /// made.
    pub fn enter(base: &Path) -> io::Result<Base> {
        match fs::DirBuilder::new().mode(0o755).create(base) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Err(_) => must_be_ours(base)?,
            Ok(()) => {}
        }
        let mut dir = fs::File::open(base)?;
        sweep(base, FINISHED, is_free);
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(alone) => {
                sweep(base, UNFINISHED, |_| true);
                dir = alone.unlock().map_err(|(_, e)| io::Error::from(e))?;
            }
            Err((back, _)) => dir = back,
        }
        shared(dir).map(|lock| Base { _lock: lock })
    }
}

/// Waits for who sweeps just now, but not for ever: it may have been stopped.
fn shared(mut dir: fs::File) -> io::Result<Flock<fs::File>> {
    const TRIES: u32 = 2000;
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 0..TRIES {
        match Flock::lock(dir, FlockArg::LockSharedNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => dir = back,
            Err((_, e)) => return Err(e.into()),
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "another job has been tidying up there for too long",
    ))
}

/// In a directory that others can write to, somebody else may have been first: programs are run
/// from what is made here.
fn must_be_ours(base: &Path) -> io::Result<()> {
    const OTHERS_WRITE: u32 = 0o022;
    let found = fs::symlink_metadata(base)?;
    let above = fs::metadata(base.parent().unwrap_or(Path::new("/")))?;
    let me = nix::unistd::geteuid().as_raw();
    // Where it stands only its owner could have made it: it is as good as what stands beside it.
    let private = above.mode() & OTHERS_WRITE == 0;
    if found.is_dir() && (private || (found.uid() == me && found.mode() & OTHERS_WRITE == 0)) {
        return Ok(());
    }
    let reason = format!("{} is there already and is somebody else's", base.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// Removes one job's tree, whatever the modes of its directories.
pub fn remove(root: &Path) {
    if let Err(e) = fs::remove_dir_all(root)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("could not remove the job's directory {}: {e}", root.display());
    }
}

/// Is no job behind this finished tree?
fn is_free(tree: &Path) -> bool {
    match fs::File::open(tree.join("lease")) {
        Ok(lease) => Flock::lock(lease, FlockArg::LockExclusiveNonblock).is_ok(),
        // A finished tree has one until it is removed; who began to may have been killed.
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Removes what is called so and has been left.
fn sweep(base: &Path, prefix: &str, left: impl Fn(&Path) -> bool) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) && left(&path) {
            remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::private::Private;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn trees_made_at_once_do_not_sweep_each_other() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let jobs = base.path().join("jobs");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let tree = Private::create(std::slice::from_ref(&jobs)).expect("a tree");
                        assert!(tree.root().join("d").exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&jobs).expect("it is there").count(), 0);
    }

    #[test]
    fn a_place_that_others_can_write_to_is_not_taken() {
        let shared = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o1777)).expect("chmod");
        let base = shared.path().join("vrift-0");
        fs::create_dir(&base).expect("a directory");
        fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(Private::create(std::slice::from_ref(&base)).is_err(), "others can write to it");
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(Private::create(std::slice::from_ref(&base)).is_ok(), "ours alone");
        let link = shared.path().join("vrift-1");
        std::os::unix::fs::symlink(&base, &link).expect("a link");
        assert!(Private::create(&[link]).is_err(), "a link leads elsewhere");
    }

    #[test]
    fn a_tree_whose_job_is_gone_is_swept_and_a_living_one_stays() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let dead = base.path().join("job-dead");
        fs::create_dir(&dead).expect("a directory");
        fs::write(dead.join("lease"), "").expect("a lease");
        fs::create_dir(base.path().join("new-dead")).expect("a directory");
        // Its job was killed while it removed the tree.
        fs::create_dir_all(base.path().join("job-half/d/0-1")).expect("a directory");
        let living = Private::create(&[base.path().to_owned()]).expect("a tree");
        assert!(!dead.exists() && !base.path().join("job-half").exists());
        assert!(!base.path().join("new-dead").exists(), "nobody is making it");
        let other = Private::create(&[base.path().to_owned()]).expect("a tree");
        assert!(living.root().exists() && other.root().exists());
    }
}
