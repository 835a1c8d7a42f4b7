//! The supervisor of a container lives where the container lives.
//!
//! Everything that answers calls takes a real path for what it is here. So instead of translating
//! paths, the supervisor enters the container's mount namespace, makes itself a copy of it, and
//! from then on a path means to it what it means to the container. What it needs of its own is
//! hung into that copy, where the container can't see it: this machine's /proc (over the
//! container's, whose numbers mean nothing here) and the store. Only the job's private tree is in
//! the container's namespace too, read-only, for a program's interpreter is opened by its path.
//!
//! ```text
//! /dev/.vrift-XXXXXXXX       a tmpfs, in the container's namespace and in the copy
//!     job                    the private tree: read-only there, writable here
//!     store                  empty there, the store here
//! ```

use super::Complaint;
use crate::sys::mount::{attach, detached_copy, restrict_recursively};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a directory of ours may be made, the best first: /dev is a tmpfs in nearly all containers.
const PLACES: [&str; 4] = ["/dev", "/run", "/tmp", "/"];

/// What is taken along into the container.
pub struct Luggage {
    store: OwnedFd,
    proc: OwnedFd,
    /// The private tree for us, and for the container.
    private: [OwnedFd; 2],
}

impl Luggage {
    /// Packs what is at these paths outside.
    pub fn of(store: &Path, private: &Path) -> Result<Luggage, Complaint> {
        let copy = |dir: &Path, below| {
            detached_copy(dir, below).map_err(|e| format!("open_tree({}): {e}", dir.display()))
        };
        let shown = copy(private, false)?;
        restrict_recursively(shown.as_fd()).map_err(|e| format!("mount_setattr: {e}"))?;
        let private = [copy(private, false)?, shown];
        Ok(Luggage { store: copy(store, false)?, proc: copy(Path::new("/proc"), true)?, private })
    }
}

/// Being in a copy of a container's mount namespace.
pub struct Entered {
    /// The container's own.
    namespace: File,
    /// The directory of ours; None where the container has no mounts of ours.
    pub place: Option<PathBuf>,
}

impl Entered {
    /// Enters the container that process `pid` is in. This process must have one thread.
    pub fn container_of(pid: i32, luggage: Option<&Luggage>) -> Result<Entered, Complaint> {
        let failed = |what: &'static str| move |e: Errno| format!("{what}: {e}");
        let opened = |name: &str, flags: i32| {
            let path = format!("/proc/{pid}/{name}");
            let made = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path);
            made.map_err(|e| format!("{path}: {e}"))
        };
        let namespace = opened("ns/mnt", 0)?;
        let root = opened("root", libc::O_PATH | libc::O_DIRECTORY)?;
        let proc = match luggage {
            Some(_) => None,
            None => {
                Some(detached_copy(Path::new("/proc"), true).map_err(failed("open_tree(/proc)"))?)
            }
        };
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)
            .map_err(failed("entering the container's mount namespace"))?;
        nix::unistd::fchdir(&root).map_err(failed("entering the container's root"))?;
        nix::unistd::chroot(".").map_err(failed("entering the container's root"))?;
        let place = luggage.map(|luggage| hang_up(luggage.private[1].as_fd())).transpose()?;
        let mut entered = Entered { namespace, place };
        let done = entered.retire(luggage, proc.as_ref());
        if done.is_err() {
            entered.leave();
        }
        done.map(|()| entered)
    }

    /// Goes on in a copy of the namespace, with what only we see.
    fn retire(
        &mut self,
        luggage: Option<&Luggage>,
        proc: Option<&OwnedFd>,
    ) -> Result<(), Complaint> {
        let failed = |what: &'static str| move |e: Errno| format!("{what}: {e}");
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed("unshare(CLONE_NEWNS)"))?;
        let nothing: Option<&Path> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .map_err(failed("making mounts private"))?;
        if let (Some(luggage), Some(place)) = (luggage, &self.place) {
            attach(luggage.private[0].as_fd(), &place.join("job"))
                .map_err(failed("mounting the job's directory"))?;
            attach(luggage.store.as_fd(), &place.join("store"))
                .map_err(failed("mounting the store"))?;
        }
        let proc = proc.or(luggage.map(|luggage| &luggage.proc));
        let Some(proc) = proc else { return Ok(()) };
        attach(proc.as_fd(), Path::new("/proc")).map_err(|e| {
            format!(
                "mounting /proc: {e}; the container's root has to have a directory of that name"
            )
        })
    }

    /// Takes our own mount off the private tree, which could not be removed under it.
    pub fn let_go(&self) {
        if let Some(place) = &self.place
            && let Err(e) = umount2(&place.join("job"), MntFlags::MNT_DETACH)
        {
            tracing::debug!("{}: {e}", place.display());
        }
    }

    /// Takes what is ours away from the container again, from a thread of its own.
    pub fn leave(&self) {
        let Some(place) = &self.place else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let gone = unshare(CloneFlags::CLONE_FS)
                    .and_then(|()| setns(self.namespace.as_fd(), CloneFlags::CLONE_NEWNS))
                    .and_then(|()| umount2(place, MntFlags::MNT_DETACH));
                match gone {
                    Ok(()) => drop(fs::remove_dir(place)),
                    Err(e) => tracing::debug!("{} stays: {e}", place.display()),
                }
            });
        });
    }
}

/// Makes the directory of ours in the container's namespace, with the private tree in it.
fn hang_up(private: std::os::fd::BorrowedFd<'_>) -> Result<PathBuf, Complaint> {
    let random = crate::sys::process::random().map_err(|e| format!("getrandom: {e}"))?;
    let name = format!(".vrift-{:08x}", u32::from_ne_bytes(random));
    let mut reason = String::new();
    for above in PLACES {
        // A link would lead who knows where; with a mount of ours in it, it could be turned later.
        if !fs::symlink_metadata(above).is_ok_and(|m| m.is_dir()) {
            continue;
        }
        let place = Path::new(above).join(&name);
        match fs::DirBuilder::new().mode(0o755).create(&place) {
            Ok(()) => {
                let done = fill(&place, private);
                if done.is_err() {
                    let _ = umount2(&place, MntFlags::MNT_DETACH);
                    let _ = fs::remove_dir(&place);
                }
                return done.map(|()| place);
            }
            Err(e) => reason = format!("{above}: {e}"),
        }
    }
    Err(format!(
        "the container has no directory in which one for its supervisor can be made ({reason}); \
         give it a tmpfs at /dev, /run or /tmp"
    ))
}

fn fill(place: &Path, private: std::os::fd::BorrowedFd<'_>) -> Result<(), Complaint> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = Some("size=16k,mode=0755");
    mount(Some("vrift"), place, Some("tmpfs"), flags, options)
        .map_err(|e| format!("a tmpfs at {}: {e}", place.display()))?;
    for name in ["job", "store"] {
        fs::DirBuilder::new()
            .mode(0o755)
            .create(place.join(name))
            .map_err(|e| format!("{}: {e}", place.join(name).display()))?;
    }
    attach(private, &place.join("job"))
        .map_err(|e| format!("mounting the job's directory: {e}"))?;
    let again = flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_BIND;
    let nothing: Option<&Path> = None;
    mount(nothing, place, nothing, again, nothing).map_err(|e| format!("{}: {e}", place.display()))
}
