//! Podman for the tests: containers of a directory that shares this machine's /usr, with everything
//! that podman keeps in the test's own world.

use crate::containers::Runtime;
use crate::job::Job;
use crate::skip::program;
use crate::world::World;
use std::path::{Path, PathBuf};

/// Podman in a world.
#[derive(Debug)]
pub struct Podman {
    rootfs: PathBuf,
}

impl Podman {
    /// Podman, if it can be used here, by root.
    ///
    /// # Errors
    /// A sentence for [`skip!`](crate::skip!): it is not installed.
    pub fn usable() -> Result<(), String> {
        program("podman").map(drop)
    }

    /// Podman with its state in this world.
    ///
    /// # Panics
    /// When the root directory of its containers can't be made.
    pub fn new(world: &World) -> Podman {
        let rootfs = world.dir("podman/rootfs");
        for name in ["proc", "dev", "sys", "usr", "etc", "tmp", "run"] {
            world.dir(rootfs.join(name));
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let link = Path::new("/").join(name).read_link();
            let target = link.unwrap_or_else(|_| Path::new("usr").join(name));
            std::os::unix::fs::symlink(target, rootfs.join(name)).expect("a link");
        }
        Podman { rootfs }
    }

    /// Runs `argv` in a container; what is at `WORLD/work` is there at the same path.
    pub fn run(&self, world: &World, runtime: Runtime, options: &[&str], argv: &[&str]) -> Job {
        let work = world.dir("work");
        let bind = |at: &Path, mode: &str| format!("--volume={0}:{0}:{mode}", at.display());
        // See Runtime::job: of these, crun takes a hybrid hierarchy for a mistake.
        let script =
            "[ ! -d /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified; exec \"$@\"";
        let job = world.native(["unshare", "-m", "--propagation", "private", "sh", "-c", script]);
        let state = world.path("podman");
        let state = |name: &str| state.join(name);
        let job = job.args(["podman", "podman", "--events-backend", "none", "--cgroup-manager"]);
        let job = job.args(["cgroupfs", "--runtime", runtime.name()]);
        let job = job.arg("--root").arg(state("root")).arg("--runroot").arg(state("run"));
        let job = job.arg("--tmpdir").arg(state("tmp"));
        // Limits that a machine without CAP_SYS_RESOURCE may set; no network but its own loopback.
        let job = job.args(["run", "--rm", "--network=none"]);
        let job = job.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]);
        // Of the two, runc does not know how to do without control groups.
        let job = if runtime == Runtime::Crun { job.arg("--cgroups=disabled") } else { job };
        let job = job.arg(bind(Path::new("/usr"), "ro")).arg(bind(&work, "rw"));
        let job = job.args(options).arg("--rootfs").arg(&self.rootfs);
        job.args(argv)
    }
}
