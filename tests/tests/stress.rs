//! Two users and eight jobs share a store: they ingest, build, commit and collect, while jobs and the
//! daemon are killed at random. In the end every manifest is whole, and nothing is left.
//!
//! `VRIFT_STRESS_SECONDS` says how long (20), `VRIFT_STRESS_SEED` which way it begins.

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::{Duration, Instant};
    use vrift_tests::job::{MARK, PATH, new_mark};
    use vrift_tests::shared::{AS_NOBODY, Daemon, NOBODY, configure, home_of_nobody};
    use vrift_tests::{World, binaries, hang};

    const JOBS: u64 = 8;
    /// What a command may take, on a machine that is busy with seven others.
    const LONGEST: Duration = Duration::from_secs(60);
    const BASE: usize = 40;

    fn number(name: &str) -> Option<u64> {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
    }

    /// Which way a worker goes: splitmix64.
    struct Way(u64);

    impl Way {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % end
        }
    }

    struct Stress {
        world: World,
        mark: String,
        end: Instant,
        /// The commands that run. Who kills or reaps one holds the lock.
        running: Mutex<Vec<Child>>,
        done: AtomicU64,
        killed: AtomicU64,
        refused: AtomicU64,
    }

    /// How a command ended.
    struct Ended {
        status: ExitStatus,
        out: String,
        err: String,
    }

    struct Worker<'a> {
        all: &'a Stress,
        number: u64,
        nobody: bool,
        dir: PathBuf,
        way: Way,
        round: u64,
        /// The content of `wN/tree`, if that is known.
        tree: Option<String>,
    }

    impl Worker<'_> {
        fn command(&self, program: &Path, args: &[&str]) -> Ended {
            let mut command = Command::new(program);
            // A new one each time: what was killed before may have the last word in the old one.
            let file = |name: &str| {
                let path = self.dir.join(name);
                let _ = fs::remove_file(&path);
                File::create(path).expect("a file")
            };
            command
                .args(args)
                .env_clear()
                .env("PATH", PATH)
                .env("LC_ALL", "C")
                .env("HOME", self.dir.join("home"))
                .env("TMPDIR", self.dir.join("home"))
                .env("VR_THE_SOURCE", self.all.world.store())
                .env(MARK, &self.all.mark)
                .current_dir(self.dir.join("home"))
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(file("stdout"))
                .stderr(file("stderr"));
            if self.nobody {
                command.uid(NOBODY).gid(NOBODY);
            }
            let began = Instant::now();
            let id = {
                let mut running = self.all.running();
                let child = command.spawn().expect("it starts");
                let id = child.id();
                running.push(child);
                id
            };
            let status = loop {
                {
                    let mut running = self.all.running();
                    let at = running.iter().position(|child| child.id() == id).expect("ours");
                    if running[at].try_wait().expect("wait").is_some() {
                        break running.swap_remove(at).wait().expect("wait");
                    }
                }
                if began.elapsed() > LONGEST {
                    let picture = hang::picture(&self.all.mark);
                    hang::kill(&self.all.mark);
                    panic!("no end of {} {args:?}\n{picture}", program.display());
                }
                std::thread::sleep(Duration::from_millis(3));
            };
            let read = |name: &str| {
                String::from_utf8_lossy(&fs::read(self.dir.join(name)).expect("a file"))
                    .into_owned()
            };
            Ended { status, out: read("stdout"), err: read("stderr") }
        }

        fn vrift(&self, args: &[&str]) -> Option<String> {
            self.ran(args, &self.command(&binaries::vrift(), args))
        }

        fn trace(&self, args: &[&str]) -> Option<String> {
            let args = [&["-q"], args].concat();
            self.ran(&args, &self.command(&binaries::vrift_trace(), &args))
        }

        /// What a command said that wasn't killed, and that nobody's end kept from working.
        fn ran(&self, args: &[&str], ended: &Ended) -> Option<String> {
            let (status, err) = (ended.status, &ended.err);
            // A job's supervisor may be killed, and its job then ends by a signal too.
            if status.signal() == Some(9) || status.code() == Some(128 + 9) {
                return None;
            }
            let excused = [
                "ended meanwhile; nothing is half-done",
                "its daemon isn't running",
                "another `vrift gc` is at work",
            ];
            if status.code() == Some(125) && excused.iter().any(|part| err.contains(part)) {
                assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
                self.all.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            assert!(
                status.success(),
                "worker {} {args:?}: {status}\n{err}{}",
                self.number,
                ended.out
            );
            self.all.done.fetch_add(1, Ordering::Relaxed);
            Some(ended.out.clone())
        }

        fn step(&mut self) {
            self.round += 1;
            match self.way.below(10) {
                0..=2 => self.build(),
                3..=5 => self.ingest(),
                6 | 7 => self.commit(),
                8 => drop(self.vrift(&["gc", "--grace", "0"])),
                _ => self.check(),
            }
        }

        /// Reads everything, runs a program of the tree's, and writes beside it.
        fn build(&self) {
            let script = "cd /vrift/base && cat f* | cksum && ./program done >$HOME/built && cat $HOME/built";
            let said = self.trace(&["-m", "/vrift/base=base", "--", "/bin/sh", "-c", script]);
            if let Some(said) = said {
                assert!(said.starts_with(&self.all.sum()) && said.ends_with("done\n"), "{said}");
            }
        }

        fn name(&self, what: &str) -> String {
            format!("w{}/{what}", self.number)
        }

        /// Stores a tree that shares some contents with others.
        fn ingest(&mut self) {
            let content = format!("worker {} round {}\n", self.number, self.round);
            let dir = self.dir.join("home/tree");
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir(&dir).expect("mkdir");
            fs::write(dir.join("own"), &content).expect("write");
            for n in 0..15 {
                let shared = self.way.below(60);
                fs::write(dir.join(format!("s{n}")), format!("shared {shared}\n")).expect("write");
            }
            if self.round.is_multiple_of(5) {
                let large = vec![u8::try_from(self.round % 251).expect("small"); 5 << 20];
                fs::write(dir.join("large"), large).expect("write");
            }
            let (name, dir) = (self.name("tree"), dir.display().to_string());
            self.tree = None;
            if self.vrift(&["ingest", &dir, "--name", &name]).is_some() {
                self.tree = Some(content);
            }
        }

        /// Is what was stored last still what it was?
        fn check(&self) {
            let name = self.name("tree");
            let Some(content) = &self.tree else { return };
            if let Some(said) = self.vrift(&["cat", &format!("{name}:own")]) {
                assert_eq!(said, *content);
            }
            let mount = format!("/vrift/tree={name}");
            let script = "cat /vrift/tree/own && cat /vrift/tree/s* >/dev/null";
            if let Some(said) = self.trace(&["-m", &mount, "--", "/bin/sh", "-c", script]) {
                assert_eq!(said, *content);
            }
        }

        /// Changes a tree in place and commits it.
        fn commit(&self) {
            let name = self.name("commit");
            let mount = format!("/vrift/w=base,mode=overlay,commit={name}");
            let script = format!(
                "cd /vrift/w && echo changed {0} >f1 && mv f2 moved && mkdir new && cp f3 new/ && rm f4",
                self.round
            );
            let args = ["-m", &mount, "--", "/bin/sh", "-c", &script];
            if self.trace(&args).is_some()
                && let Some(said) = self.vrift(&["cat", &format!("{name}:f1")])
            {
                assert_eq!(said, format!("changed {}\n", self.round));
            }
        }
    }

    impl Stress {
        fn running(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
            self.running.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn sum(&self) -> String {
            fs::read_to_string(self.world.path("sum")).expect("the sum")
        }

        fn worker(&self, number: u64, seed: u64) {
            let nobody = number % 2 == 1;
            let dir = self.world.dir(format!("w{number}"));
            let home = dir.join("home");
            fs::create_dir(&home).expect("mkdir");
            if nobody {
                chown(&home, Some(NOBODY), Some(NOBODY)).expect("chown");
            }
            let way = Way(seed.wrapping_add(number));
            let mut worker = Worker { all: self, number, nobody, dir, way, round: 0, tree: None };
            while Instant::now() < self.end {
                worker.step();
            }
        }

        /// Kills commands and the daemon, which is started again each time.
        fn killer(&self, seed: u64) {
            let (mut way, store) = (Way(seed), self.world.store());
            let mut daemon = Daemon::run(&store);
            while Instant::now() < self.end {
                std::thread::sleep(Duration::from_millis(100 + way.below(500)));
                if way.below(4) == 0 {
                    daemon.kill();
                    self.killed.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(way.below(200)));
                    daemon = Daemon::run(&store);
                    continue;
                }
                let mut running = self.running();
                let count = running.len() as u64;
                if count > 0 {
                    let at = usize::try_from(way.below(count)).expect("small");
                    running[at].kill().expect("kill");
                    self.killed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// The changes that a user's jobs keep.
    fn kept(home: &Path) -> Vec<PathBuf> {
        let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        let stores = list(&home.join(".cache/vrift")).map(|store| store.path().join("uppers"));
        stores
            .flat_map(|uppers| list(&uppers).map(|upper| upper.path()).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn two_users_and_eight_jobs_share_a_store() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can become somebody else
        }
        let seconds = number("VRIFT_STRESS_SECONDS").unwrap_or(20);
        let seed = number("VRIFT_STRESS_SEED").unwrap_or_else(|| {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time");
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        });
        println!("VRIFT_STRESS_SEED={seed}");
        let world = World::new().without_store_check();
        home_of_nobody(&world, "nobody");
        for n in 0..BASE {
            world.file(format!("base/f{n}"), format!("content {n}\n").repeat(200));
        }
        fs::copy("/bin/echo", world.path("base/program")).expect("echo is everywhere");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(world.path("base/program"), mode).expect("chmod");
        world.ingest(world.path("base"), "base");
        world.sh("cd base && cat f* | cksum >../sum").run().ok();
        configure(&world.store(), "version = 1\ningest = [\"nobody\"]\ncollect = [\"nobody\"]\n");

        let stress = Stress {
            world,
            mark: new_mark(),
            end: Instant::now() + Duration::from_secs(seconds),
            running: Mutex::default(),
            done: AtomicU64::new(0),
            killed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        std::thread::scope(|scope| {
            let stress = &stress;
            for number in 0..JOBS {
                scope.spawn(move || stress.worker(number, seed));
            }
            scope.spawn(move || stress.killer(seed ^ 1));
        });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (done, killed) = (count(&stress.done), count(&stress.killed));
        println!("{done} done, {killed} killed, {} turned away", count(&stress.refused));
        assert!(done > JOBS && killed > 0, "{done} done, {killed} killed");

        // Of what was killed, whatever is still about has nowhere to be.
        let began = Instant::now();
        while hang::any(&stress.mark) {
            assert!(began.elapsed() < LONGEST, "{}", hang::picture(&stress.mark));
            std::thread::sleep(Duration::from_millis(20));
        }
        let world = &stress.world;
        let daemon = Daemon::run(&world.store());
        world.vrift(["verify"]).timeout(120).run().ok();
        assert_eq!(fs::read_dir(world.store().join("tmp")).expect("tmp").count(), 0);
        world.vrift(["gc", "--grace", "0"]).timeout(120).run().ok();
        world.vrift(["verify"]).timeout(120).run().ok();
        let refs = world.vrift(["refs"]).run().ok().out();
        assert!(refs.lines().count() > 1, "{refs}");
        for name in refs.lines().filter_map(|line| line.split(' ').next()) {
            let to = world.path("export").join(name.replace('/', "-"));
            world.dir("export");
            world.vrift(["export", name]).arg(&to).timeout(120).run().ok();
        }
        // What nobody's jobs could not commit, as they or the daemon were killed, they do now.
        let (mut committed, mut empty) = (0, 0);
        for number in (1..JOBS).step_by(2) {
            let home = world.path(format!("w{number}/home"));
            for upper in kept(&home) {
                let name = upper.file_name().and_then(OsStr::to_str).expect("a name").to_owned();
                let to = format!("w{number}/{name}");
                let trace = binaries::vrift_trace();
                let commit = world.native([trace]).args(["commit", &name, &to]);
                let said = commit.behind(AS_NOBODY).env("HOME", &home).run();
                if said.code() == 125 && said.err().contains("there are no changes in it") {
                    // Killed before it had begun, or after its end.
                    let discard = world.native([binaries::vrift_trace()]).args(["discard", &name]);
                    discard.behind(AS_NOBODY).env("HOME", &home).run().ok();
                    assert!(!upper.exists(), "{}", upper.display());
                    empty += 1;
                    continue;
                }
                said.ok();
                assert!(!upper.exists(), "{}", upper.display());
                committed += 1;
            }
        }
        println!("{committed} commits made up for, {empty} had nothing");
        world.vrift(["verify"]).timeout(120).run().ok();
        daemon.kill();
        // The next job tidies up after those that were killed.
        world.trace(&[(Path::new("/vrift/base"), "base")], ["true"]).run().ok();
        assert_eq!(fs::read_dir(world.store().join("jobs")).expect("jobs").count(), 0);
    }
}
