//! Containers for the tests: bundles that share this machine's /usr, the runtimes that run them, and
//! the agent that supervises them.

use crate::binaries;
use crate::job::{Job, MARK, PATH, patience};
use crate::skip::program;
use crate::world::World;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How often a build is repeated: once, or `VRIFT_TEST_CONTAINER_ROUNDS` times, by hand 20.
pub fn rounds() -> u32 {
    let rounds = std::env::var("VRIFT_TEST_CONTAINER_ROUNDS").ok();
    rounds.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// A container runtime.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Runtime {
    /// The reference implementation, in Go.
    Runc,
    /// The one in C that podman prefers.
    Crun,
}

impl Runtime {
    /// Both.
    pub const ALL: [Runtime; 2] = [Runtime::Runc, Runtime::Crun];

    /// Its program's name.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Runc => "runc",
            Runtime::Crun => "crun",
        }
    }

    /// Both, if they can be used here.
    ///
    /// # Errors
    /// As for [`Runtime::usable`].
    pub fn all_usable() -> Result<[Runtime; 2], String> {
        Runtime::ALL.iter().try_for_each(|runtime| runtime.usable().map(drop))?;
        Ok(Runtime::ALL)
    }

    /// Can it be used here?
    ///
    /// # Errors
    /// A sentence for [`skip!`](crate::skip!): it is not installed.
    pub fn usable(self) -> Result<Runtime, String> {
        program(self.name()).map(|_| self)
    }

    /// The runtime with these arguments, its state in the world.
    pub fn job<S: AsRef<OsStr>>(self, world: &World, args: impl IntoIterator<Item = S>) -> Job {
        let root = world.dir(format!("state-{}", self.name()));
        // crun takes a hybrid hierarchy of control groups for a mistake of the machine's.
        let hybrid = self == Runtime::Crun && Path::new("/sys/fs/cgroup/unified").is_dir();
        let job = if hybrid {
            let script = "umount /sys/fs/cgroup/unified; exec crun \"$@\"";
            world.native(["unshare", "-m", "--propagation", "private", "sh", "-c", script, "crun"])
        } else {
            world.native([self.name()])
        };
        job.arg("--root").arg(root).args(args)
    }
}

/// An OCI bundle in a world.
pub struct Bundle {
    /// Its directory.
    pub dir: PathBuf,
    /// Its config.json, written when it is run.
    pub config: Value,
    runtime: Runtime,
    id: String,
}

impl Bundle {
    /// A bundle whose process is `argv`. /usr and /etc are this machine's, and what is at
    /// `WORLD/work` is there at the same path.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn new(world: &World, runtime: Runtime, argv: &[&str]) -> Bundle {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("vrift-test-{}-{number}", std::process::id());
        let dir = world.dir(&id);
        for name in ["proc", "dev", "sys", "usr", "etc", "tmp"] {
            world.dir(dir.join("rootfs").join(name));
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let link = Path::new("/").join(name).read_link();
            let target = link.unwrap_or_else(|_| Path::new("usr").join(name));
            std::os::unix::fs::symlink(target, dir.join("rootfs").join(name)).expect("a link");
        }
        runtime.job(world, ["spec"]).cwd(&dir).run().ok();
        let text = fs::read(dir.join("config.json")).expect("the runtime made it");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        let work = world.dir("work");
        let process = &mut config["process"];
        process["terminal"] = false.into();
        process["args"] = argv.into();
        process["cwd"] = work.to_str().expect("UTF-8").into();
        process["env"] = json!([format!("PATH={PATH}"), "LC_ALL=C"]);
        process.as_object_mut().expect("an object").remove("rlimits");
        config["root"]["readonly"] = false.into();
        config["linux"].as_object_mut().expect("an object").remove("resources");
        let mounts = config["mounts"].as_array_mut().expect("a list");
        for (at, mode) in [(Path::new("/usr"), "ro"), (Path::new("/etc"), "ro"), (&work, "rw")] {
            mounts.push(json!({
                "destination": at, "source": at, "type": "bind", "options": ["rbind", mode],
            }));
        }
        mounts.push(json!({
            "destination": "/tmp/scratch", "source": "tmpfs", "type": "tmpfs", "options": ["mode=1777"],
        }));
        Bundle { dir, config, runtime, id }
    }

    /// Its process may not gain rights by an exec, or may.
    #[must_use]
    pub fn no_new_privileges(mut self, on: bool) -> Bundle {
        self.config["process"]["noNewPrivileges"] = on.into();
        self
    }

    /// With this seccomp profile.
    #[must_use]
    pub fn profile(mut self, profile: Value) -> Bundle {
        self.config["linux"]["seccomp"] = profile;
        self
    }

    /// What the runtime calls it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When its configuration can't be written.
    pub fn run(&self, world: &World) -> Job {
        self.write();
        self.runtime.job(world, ["run", &self.id]).cwd(&self.dir)
    }

    /// Makes or starts it in the background: `create`, `run -d`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn begin(&self, world: &World, verb: &[&str]) {
        self.write();
        // What the container writes goes nowhere: it would keep a pipe open. It is no process of the
        // job's, which is over when the runtime is.
        let script = "unset \"$1\"; shift; exec \"$@\" >/dev/null 2>&1 </dev/null";
        let job = self.runtime.job(world, verb).arg(&self.id);
        job.cwd(&self.dir).behind(["sh", "-c", script, "sh", MARK]).run().ok();
    }

    /// Another call of the runtime about it: `VERB ID MORE…`.
    pub fn call(&self, world: &World, verb: &str, more: &[&str]) -> Job {
        self.runtime.job(world, [verb, self.id.as_str()]).args(more).cwd(&self.dir)
    }

    /// Makes the configuration.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).expect("config.json");
    }

    /// What the runtime says of its state.
    ///
    /// # Panics
    /// When it says nothing that can be read.
    pub fn status(&self, world: &World) -> String {
        let told = self.call(world, "state", &[]).run().ok();
        let state: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        state["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until it has stopped.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn expect_stopped(&self, world: &World) {
        let until = Instant::now() + Duration::from_secs(20) * patience();
        while self.status(world) != "stopped" {
            assert!(Instant::now() < until, "{} goes on: {}", self.id, self.status(world));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Removes what the runtime knows of it, and its processes.
    pub fn delete(&self, world: &World) {
        self.runtime.job(world, ["delete", "-f", self.id.as_str()]).run();
    }
}

/// `vrift-trace agent`, until it is dropped.
pub struct Agent {
    child: Child,
    /// Where it listens.
    pub socket: PathBuf,
    log: PathBuf,
}

impl Agent {
    /// Starts one with a policy that mounts `mounts` (`AT`, `REF`); traces go to `WORLD/traces`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(world: &World, mounts: &[(&str, &str)], options: &[&str]) -> Agent {
        let mut policy = "version = 1\n".to_owned();
        for (at, name) in mounts {
            policy += &format!("[[mount]]\nat = \"{at}\"\nmanifest = \"{name}\"\n");
        }
        Agent::with_policy(world, &policy, options)
    }

    /// Starts one with this policy.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn with_policy(world: &World, policy: &str, options: &[&str]) -> Agent {
        let policy = world.file("agent.toml", policy);
        let (socket, log) = (world.path("agent.sock"), world.path("agent.log"));
        let told = fs::File::create(&log).expect("a log");
        let child = Command::new(binaries::vrift_trace())
            .arg("agent")
            .arg("--socket")
            .arg(&socket)
            .arg("--policy")
            .arg(policy)
            .arg("-o")
            .arg(world.dir("traces"))
            .args(options)
            .env_clear()
            .env("VR_THE_SOURCE", world.store())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(told)
            .spawn()
            .expect("the agent starts");
        let mut agent = Agent { child, socket, log };
        let until = Instant::now() + Duration::from_secs(20) * patience();
        while !agent.socket.exists() {
            let ended = agent.child.try_wait().expect("it is ours");
            assert!(ended.is_none() && Instant::now() < until, "no socket: {}", agent.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        agent
    }

    /// The profile for its containers.
    ///
    /// # Panics
    /// When `vrift-trace profile notify` fails.
    pub fn profile(&self, world: &World) -> Value {
        let program = binaries::vrift_trace();
        let args: [&OsStr; 4] =
            [program.as_os_str(), "profile".as_ref(), "notify".as_ref(), "--listener".as_ref()];
        let made = world.native(args).arg(&self.socket).run().ok();
        serde_json::from_slice(&made.stdout).expect("JSON")
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said `text` so often.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn expect_said(&self, text: &str, times: usize) {
        let until = Instant::now() + Duration::from_secs(20) * patience();
        while self.log().matches(text).count() < times {
            assert!(Instant::now() < until, "not {times} times {text:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The supervisors of its containers.
    pub fn supervisors(&self) -> Vec<i32> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Kills it outright.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(30) * patience();
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        assert!(std::thread::panicking(), "the agent did not end: {}", self.log());
    }
}
