//! What the first process does before it loads the filter: a mount namespace of the job's own, with
//! the trees in it and without the store.
//!
//! Root needs no more than that namespace. Anybody else needs a user namespace first, in which this
//! user alone is mapped, so that the job has the rights that its user has, and none besides once its
//! command is executed. A file system in a user namespace takes its descriptor from `/dev/fuse` as it
//! was opened there.
//!
//! Whatever the mounts cover is out of the job's reach: the filter refuses every call that could take
//! one away, and in a namespace of a task's own (`unshare -Urm`) the kernel holds them together.

use super::aliases;
use crate::job::Job;
use crate::status::Status;
use crate::sys::process::{self, Forked};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The right to mount, as a bit.
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// The device that a file system's server opens.
const DEVICE: &str = "/dev/fuse";

/// What is mounted for a job.
#[derive(Debug)]
pub struct Mounting {
    /// Directories that the job does not get to see.
    hidden: Vec<PathBuf>,
    /// The mount points, outer ones first.
    points: Vec<Point>,
    /// Who owns what is projected.
    owner: (u32, u32),
    /// A user namespace is needed first.
    unprivileged: bool,
}

/// One of them.
#[derive(Clone, Debug)]
struct Point {
    /// The mount's number.
    number: u16,
    at: PathBuf,
    /// What is named as its source.
    source: String,
    read_only: bool,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failed {
    step: Step,
    /// Of what there are several, which.
    which: u16,
    errno: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Namespace = 1,
    Identity = 2,
    Propagation = 3,
    Hide = 4,
    Device = 5,
    Mount = 6,
    HandOver = 7,
    Look = 8,
}

impl Mounting {
    /// What is to be mounted for `job`.
    pub fn of(job: &Job) -> Mounting {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let points = job.projection.mounts().iter().zip(0u16..);
        let mut points: Vec<_> = points
            .map(|(m, number)| Point {
                number,
                at: m.at().to_owned(),
                source: format!("vrift:{}", m.manifest().id()),
                read_only: m.overlay().is_none(),
            })
            .collect();
        points.sort_by(|a, b| a.at.cmp(&b.at));
        let mut hidden: Vec<PathBuf> = job.hidden_roots().map(path).collect();
        let others: Vec<PathBuf> = hidden.iter().flat_map(|dir| aliases::of(dir)).collect();
        hidden.extend(others);
        hidden.sort();
        // What lies in another one is gone with that, and can't be mounted on.
        hidden.dedup_by(|dir, above| dir.starts_with(above));
        Mounting { hidden, points, owner: (job.uid, job.gid), unprivileged: !may_mount() }
    }

    /// The same for a mount point alone, to see whether it can be had.
    pub fn at(point: &Path) -> Mounting {
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (at, source) = (point.to_owned(), "vrift".to_owned());
        let points = vec![Point { number: 0, at, source, read_only: true }];
        Mounting { hidden: Vec::new(), points, owner, unprivileged: !may_mount() }
    }

    /// Puts this process into a mount namespace of its own and mounts everything there. What /proc
    /// tells of the processes `own` is not seen there either. Each file system's descriptor is handed
    /// to `hand_over`, with the mount's number.
    pub fn mount(
        &self,
        own: &[u32],
        mut hand_over: impl FnMut(u16, OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Failed> {
        let at = |step, which| move |e: Errno| Failed { step, which, errno: e as i32 };
        let none: Option<&str> = None;
        if self.unprivileged {
            let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
            unshare(flags).map_err(at(Step::Namespace, 0))?;
            self.stay_who_it_is().map_err(at(Step::Identity, 0))?;
        } else {
            unshare(CloneFlags::CLONE_NEWNS).map_err(at(Step::Namespace, 0))?;
        }
        // Nothing of this is to be seen outside; what is mounted there later comes in.
        let apart = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(none, "/", none, apart, none).map_err(at(Step::Propagation, 0))?;
        // A device that root makes in an overlay is one, as anywhere.
        let harmless = MsFlags::MS_NOSUID;
        let fixed = harmless | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
        let own: BTreeSet<&u32> = own.iter().collect();
        let processes = own.iter().map(|pid| PathBuf::from(format!("/proc/{pid}")));
        for (dir, which) in self.hidden.iter().cloned().chain(processes).zip(0u16..) {
            let options = Some("size=4k,nr_inodes=2,mode=0555");
            mount(Some("vrift"), &dir, Some("tmpfs"), fixed | MsFlags::MS_NOEXEC, options)
                .map_err(at(Step::Hide, which))?;
        }
        for (point, which) in self.points.iter().zip(0u16..) {
            let device = OpenOptions::new().read(true).write(true).open(DEVICE);
            let device: OwnedFd =
                device.map_err(|e| errno(&e)).map_err(at(Step::Device, which))?.into();
            let options = self.options(&device);
            let (source, kind) = (Some(point.source.as_str()), Some("fuse.vrift"));
            let flags = if point.read_only { fixed } else { harmless };
            mount(source, &point.at, kind, flags, Some(options.as_str()))
                .map_err(at(Step::Mount, which))?;
            hand_over(point.number, device).map_err(at(Step::HandOver, which))?;
        }
        Ok(())
    }

    /// Looks at each tree for the first time, which waits until it is served: until then the kernel
    /// knows nothing of its root.
    pub fn look(&self) -> Result<(), Failed> {
        for (point, which) in self.points.iter().zip(0u16..) {
            let found = std::fs::metadata(&point.at).map_err(|e| errno(&e));
            found.map_err(|e| Failed { step: Step::Look, which, errno: e as i32 })?;
        }
        Ok(())
    }

    /// The options of fuse(4): permissions are the kernel's to ask for, and every task of the job may
    /// look.
    fn options(&self, device: &OwnedFd) -> String {
        use std::os::fd::AsRawFd;
        let (uid, gid) = self.owner;
        format!(
            "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions,allow_other",
            device.as_raw_fd()
        )
    }

    /// In the new user namespace this user and group have the numbers that they have outside. A user
    /// may map its own alone, and only with setgroups(2) given up (user_namespaces(7)).
    fn stay_who_it_is(&self) -> Result<(), Errno> {
        let (uid, gid) = self.owner;
        let say = |file: &str, text: &str| {
            let path = format!("/proc/self/{file}");
            let mut file = OpenOptions::new().write(true).open(path).map_err(|e| errno(&e))?;
            file.write_all(text.as_bytes()).map_err(|e| errno(&e))
        };
        say("setgroups", "deny")?;
        say("uid_map", &format!("{uid} {uid} 1"))?;
        say("gid_map", &format!("{gid} {gid} 1"))
    }

    /// The same without what lies in another mount, and can only be mounted where that is served.
    fn outermost(&self) -> Mounting {
        let inner =
            |at: &Path| self.points.iter().any(|outer| outer.at != at && at.starts_with(&outer.at));
        let points = self.points.iter().filter(|point| !inner(&point.at)).cloned().collect();
        Mounting { hidden: self.hidden.clone(), points, ..*self }
    }

    /// Does all of it in a process that ends at once, which nothing is served for.
    ///
    /// # Errors
    /// Why it can't be had, and what to do.
    pub fn try_out(&self) -> Result<(), String> {
        self.outermost().try_all()
    }

    fn try_all(&self) -> Result<(), String> {
        let os = |what: &str, e: Errno| format!("{what}: {e}");
        let (from, to) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
            .map_err(|e| os("a pipe to try it out", e))?;
        match process::fork_single_threaded().map_err(|e| os("a process to try it out", e))? {
            Forked::Child => {
                if let Err(failed) = self.mount(&[], |_, _| Ok(())) {
                    let _ = nix::unistd::write(&to, &failed.message());
                }
                process::exit_now(0);
            }
            Forked::Parent(child) => {
                drop(to);
                let mut said = Vec::new();
                let read = File::from(from).read_to_end(&mut said);
                let _ = nix::sys::wait::waitpid(child, None);
                match (read, Failed::parse(&said)) {
                    (Err(e), _) => Err(format!("trying it out: {e}")),
                    (Ok(_), Some(failed)) => Err(self.told(failed)),
                    (Ok(_), None) => Ok(()),
                }
            }
        }
    }

    /// What went wrong, and after a semicolon what to do.
    pub fn told(&self, failed: Failed) -> String {
        let e = Errno::from_raw(failed.errno);
        let which = usize::from(failed.which);
        let point = || self.points.get(which).map(|point| point.at.display().to_string());
        let hidden = || self.hidden.get(which).map(|dir| dir.display().to_string());
        match failed.step {
            Step::Namespace if self.unprivileged => format!(
                "no user namespace can be made here ({e}), which anybody but root needs to mount; \
                 allow it (sysctl user.max_user_namespaces, \
                 kernel.apparmor_restrict_unprivileged_userns=0; in a container: CAP_SYS_ADMIN)"
            ),
            Step::Namespace => format!(
                "no mount namespace can be made here ({e}); a container has to allow unshare(2)"
            ),
            Step::Identity => format!(
                "this user can't be mapped into a user namespace ({e}); allow it (sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0)"
            ),
            Step::Propagation => format!("mounts can't be kept apart here ({e}); run it elsewhere"),
            Step::Hide => format!(
                "{} can't be hidden from the job by a mount ({e}); use --view notify",
                hidden().unwrap_or_else(|| "what /proc tells of the supervisor".into())
            ),
            Step::Device => format!(
                "{DEVICE} can't be opened ({e}); {}",
                match e {
                    Errno::EACCES => "let everybody open it, as udev does: chmod 0666 /dev/fuse",
                    Errno::EPERM => "the container has to be given the device",
                    _ => "the kernel's module is missing: modprobe fuse",
                }
            ),
            Step::Mount => format!(
                "mount at {}: the file system can't be mounted ({e}); the user namespace, or the \
                 container, has to allow mount(2) of FUSE",
                point().unwrap_or_default()
            ),
            Step::Look => format!(
                "mount at {}: nothing answers in the mounted tree ({e}); run it with VRIFT_DEBUG=1 and \
                 report what it says",
                point().unwrap_or_default()
            ),
            Step::HandOver => {
                format!("the file system's descriptor can't be handed over ({e}); try it again")
            }
        }
    }
}

impl Failed {
    const LENGTH: usize = 7;

    /// As bytes, for the process that tells it.
    pub fn message(self) -> Vec<u8> {
        let mut message = vec![self.step as u8];
        message.extend(self.which.to_ne_bytes());
        message.extend(self.errno.to_ne_bytes());
        message
    }

    /// Reads [`Failed::message`].
    pub fn parse(message: &[u8]) -> Option<Failed> {
        let message: &[u8; Failed::LENGTH] = message.try_into().ok()?;
        let [step, w0, w1, e @ ..] = *message;
        let step = match step {
            1 => Step::Namespace,
            2 => Step::Identity,
            3 => Step::Propagation,
            4 => Step::Hide,
            5 => Step::Device,
            6 => Step::Mount,
            7 => Step::HandOver,
            8 => Step::Look,
            _ => return None,
        };
        let (which, errno) = (u16::from_ne_bytes([w0, w1]), i32::from_ne_bytes(e));
        Some(Failed { step, which, errno })
    }
}

/// May this process mount as it is?
fn may_mount() -> bool {
    Status::of("self").and_then(|s| s.set("CapEff:")).is_some_and(|c| c & CAP_SYS_ADMIN != 0)
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_read_as_it_was_told() {
        for step in [Step::Namespace, Step::Hide, Step::Device, Step::Mount, Step::HandOver] {
            let failed = Failed { step, which: 300, errno: libc::EPERM };
            assert_eq!(Failed::parse(&failed.message()), Some(failed));
        }
        assert_eq!(Failed::parse(b""), None);
        assert_eq!(Failed::parse(&[9; 7]), None);
    }

    #[test]
    fn each_failure_says_what_to_do_in_one_line() {
        let mounting = Mounting::at(Path::new("/somewhere"));
        for step in [Step::Namespace, Step::Identity, Step::Device, Step::Mount] {
            let told = mounting.told(Failed { step, which: 0, errno: libc::EACCES });
            assert!(!told.contains('\n') && told.contains("EACCES"), "{told}");
        }
    }
}
