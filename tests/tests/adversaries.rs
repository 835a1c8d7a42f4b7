//! Programs that mean harm: each of their attacks must fail, leave the store as it was, and end,
//! with the job's summary told.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use vrift_tests::store_guard::{self, Snapshot};
    use vrift_tests::{Guest, Job, Outcome, World, binaries, guest, need};

    /// A world with the store two directories down, so that what holds it can be attacked, and a
    /// mount over a real directory that has a file of its own.
    struct Arena {
        world: World,
        program: PathBuf,
        guard: Snapshot,
        listing: BTreeMap<PathBuf, String>,
    }

    impl Arena {
        fn new(program: PathBuf) -> Arena {
            let world = World::new();
            world.file("src/f", "text\n");
            world.file("src/d/x", "more\n");
            fs::copy(&program, world.path("src/program")).expect("copy of the program");
            world.file("p/secret", "what the mount covers\n");
            world.dir("scratch");
            world.dir("house/inner");
            let store = world.path("house/inner/store");
            let argv = ["ingest", "src", "--name", "t"];
            world.vrift(argv).env("VR_THE_SOURCE", &store).run().ok();
            let mut arena =
                Arena { world, program, guard: Snapshot::of(&store), listing: BTreeMap::new() };
            // What a first job makes is there from then on.
            arena.job(["true".into()]).run().ok();
            arena.listing = arena.list();
            arena
        }

        fn store(&self) -> PathBuf {
            self.world.path("house/inner/store")
        }

        fn mount(&self) -> PathBuf {
            self.world.path("p")
        }

        fn scratch(&self) -> PathBuf {
            self.world.path("scratch")
        }

        /// A job in the scratch directory, with its summary.
        fn job(&self, argv: impl IntoIterator<Item = OsString>) -> Job {
            let mut mount = self.mount().into_os_string();
            mount.push("=t");
            self.world
                .native([binaries::vrift_trace().as_os_str()])
                .env("VR_THE_SOURCE", self.store())
                .cwd(self.scratch())
                .args(["--summary=text", "-m"])
                .arg(mount)
                .arg("--")
                .args(argv)
                .timeout(120)
        }

        /// One attack and its arguments.
        fn attack(&self, name: &str, arguments: &[&Path]) -> Job {
            let own = [self.program.as_os_str(), name.as_ref(), self.mount().as_os_str()]
                .map(OsString::from);
            self.job(own.into_iter().chain(arguments.iter().map(OsString::from)))
        }

        /// Everything in the store but what jobs are expected to make: kind, mode, owner, and for
        /// what is no directory size, links and times.
        fn list(&self) -> BTreeMap<PathBuf, String> {
            let mut found = BTreeMap::new();
            let mut open = vec![self.store()];
            while let Some(path) = open.pop() {
                if ["exec", "checked"].iter().any(|made| path == self.store().join(made)) {
                    continue;
                }
                let m = fs::symlink_metadata(&path).expect("the store's own");
                let mut line = format!("{:o} {}:{} {}", m.mode(), m.uid(), m.gid(), m.ino());
                if m.is_dir() {
                    open.extend(fs::read_dir(&path).expect("listed").flatten().map(|e| e.path()));
                } else {
                    line += &format!(
                        " {} {} {}.{} {}.{}",
                        m.size(),
                        m.nlink(),
                        m.mtime(),
                        m.mtime_nsec(),
                        m.ctime(),
                        m.ctime_nsec()
                    );
                }
                found.insert(path, line);
            }
            found
        }

        /// The attack failed: by its own account, and by the store's.
        #[track_caller]
        fn held(&self, outcome: &Outcome) {
            let out = outcome.out();
            let breaches: Vec<_> = out.lines().filter(|l| l.contains("BREACH")).collect();
            assert!(breaches.is_empty(), "{}\n{outcome}", breaches.join("\n"));
            assert_eq!(outcome.code(), 0, "{outcome}");
            assert!(out.ends_with("0 breaches\n"), "it came to its end: {outcome}");
            let said = outcome.err();
            assert!(said.contains("vrift-trace: ") && said.contains("refused:"), "{outcome}");
            let wrong = store_guard::damage(&self.store(), &self.guard);
            assert!(wrong.is_empty(), "the store was harmed:\n{}", wrong.join("\n"));
            let now = self.list();
            let same = |(path, line): &(&PathBuf, &String)| self.listing.get(*path) == Some(*line);
            let other: Vec<_> = now.iter().filter(|entry| !same(entry)).collect();
            assert!(other.is_empty(), "new or changed in the store: {other:#?}");
            assert_eq!(now.len(), self.listing.len(), "something is gone from the store");
            let secret = fs::read(self.world.path("p/secret")).expect("the covered file");
            assert_eq!(secret, b"what the mount covers\n");
        }
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// The builds that attack: by the libraries' calls, without them, and in 32 bits.
    const BUILDS: [Guest; 3] = [Guest::Dynamic, Guest::Static, Guest::Bits32];

    fn everyone(what: &str, attack: impl Fn(&Arena)) {
        for how in BUILDS {
            let name = format!("adversaries::{what}::{how:?}");
            let program = match guest("adversary", how) {
                Ok(program) => program,
                Err(reason) => {
                    vrift_tests::skip::record(&name, &reason);
                    continue;
                }
            };
            attack(&Arena::new(program));
        }
    }

    #[test]
    fn a_blob_is_not_changed_through_a_descriptor() {
        everyone("descriptors", |arena| {
            let got = arena.attack("descriptors", &[&arena.scratch()]).run();
            assert!(got.out().lines().count() > 500, "the attempts were made: {got}");
            arena.held(&got);
        });
    }

    #[test]
    fn the_store_is_nowhere_by_any_path() {
        everyone("paths", |arena| {
            let blobs = arena.store().join("blobs");
            let shard = fs::read_dir(blobs).expect("blobs").flatten().next().expect("one").path();
            let blob = fs::read_dir(shard).expect("a shard").flatten().next().expect("one").path();
            let got = arena.attack("paths", &[&arena.scratch(), &arena.store(), &blob]).run();
            assert!(got.out().lines().count() > 1500, "the attempts were made: {got}");
            arena.held(&got);
        });
    }

    #[test]
    fn what_a_mount_covers_stays_covered() {
        everyone("below", |arena| {
            arena.held(&arena.attack("below", &[&arena.scratch()]).run());
        });
    }

    /// A bind mount that was there before the job is another way to the store.
    #[test]
    fn the_store_is_nowhere_by_a_bind_mount_of_it() {
        if !is_root() {
            return; // only root binds mounts outside of a job
        }
        let program = need!("adversaries::alias", guest("adversary", Guest::Dynamic));
        let arena = Arena::new(program);
        let alias = arena.world.dir("alias");
        let script = format!(
            "mount --make-rprivate / && mount --bind {0} {1} && cd {2} && exec \"$@\"",
            arena.store().display(),
            alias.display(),
            arena.scratch().display()
        );
        let argv = ["unshare", "-m", "sh", "-c", &script, "sh"].map(OsString::from);
        let mut mount = arena.mount().into_os_string();
        mount.push("=t");
        let harm = format!(
            "for way in {0} {0}/. {0}/../alias; do cat $way/format $way/blobs/*/*; ls $way/blobs; \
             chmod 777 $way/blobs $way/blobs/*; rm -rf $way/refs $way/blobs; touch $way/new; \
             (cd $way && rm -rf blobs refs; touch new; mv refs x); done 2>/dev/null | grep . && \
             echo BREACH; echo 0 breaches",
            alias.display()
        );
        let got = arena
            .world
            .native(argv)
            .env("VR_THE_SOURCE", arena.store())
            .arg(binaries::vrift_trace())
            .args(["--summary=text", "-m"])
            .arg(mount)
            .args(["--", "sh", "-c", &harm])
            .run();
        arena.held(&got);
    }

    /// Whether descriptors can be made read-only by the kernel here: without it a race for a
    /// descriptor can't be told apart, which docs/SECURITY.md says.
    fn namespaces() -> Result<(), String> {
        let flags = if is_root() { "-m" } else { "-Um" };
        let tried = Command::new("unshare").args([flags, "true"]).stderr(Stdio::null()).status();
        match tried {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("unshare {flags} is refused here")),
        }
    }

    #[test]
    fn racing_threads_do_not_reach_a_blob() {
        need!("adversaries::races", namespaces());
        everyone("races", |arena| {
            arena.held(&arena.attack("races", &[Path::new("4")]).run());
        });
    }

    #[test]
    fn garbage_in_every_argument_harms_nobody() {
        everyone("garbage", |arena| {
            arena.held(&arena.attack("garbage", &[Path::new("200")]).run());
        });
    }

    #[test]
    fn memory_that_comes_and_goes_harms_nobody() {
        everyone("memory", |arena| {
            arena.held(&arena.attack("memory", &[Path::new("2000")]).run());
        });
    }

    #[test]
    fn the_supervisor_is_not_stopped_traced_or_looked_into() {
        everyone("supervisor", |arena| {
            // The shell becomes vrift-trace, which keeps its number.
            let script = format!(
                "exec {} --summary=text -m {}=t -- {} supervisor {} $$",
                binaries::vrift_trace().display(),
                arena.mount().display(),
                arena.program.display(),
                arena.mount().display()
            );
            let got = arena.world.sh(&script).env("VR_THE_SOURCE", arena.store()).run();
            assert!(got.out().lines().count() > 200, "the attempts were made: {got}");
            arena.held(&got);
        });
    }

    #[test]
    fn namespaces_filters_and_handles_lead_round_nothing() {
        everyone("namespaces", |arena| {
            let got = arena.attack("namespaces", &[&arena.scratch(), &arena.store()]).run();
            arena.held(&got);
        });
    }

    #[test]
    fn no_limit_and_no_lease_keeps_others_waiting() {
        everyone("resources", |arena| {
            arena.held(&arena.attack("resources", &[]).run());
            arena.held(&arena.attack("lease", &[]).run());
        });
    }

    #[test]
    fn opens_that_block_keep_nobody_else_waiting() {
        everyone("fifos", |arena| {
            arena.held(&arena.attack("fifos", &[Path::new("400")]).run());
        });
    }

    /// The descriptors of a native process are all that a task of a job has, in whatever way it
    /// was started, while eight others do the same.
    #[test]
    fn no_task_has_a_descriptor_that_it_did_not_open() {
        everyone("show-descriptors", |arena| {
            let numbers = |out: &str| -> std::collections::BTreeSet<String> {
                let lines = out.lines().filter_map(|l| l.strip_prefix("descriptor "));
                lines.map(|l| l.split(' ').next().unwrap_or_default().to_owned()).collect()
            };
            let native = arena.world.path("src/program");
            let alone = arena.world.native([native.as_os_str()]).args(["show-descriptors", "src"]);
            let want = numbers(&alone.run().ok().out());
            let script = format!(
                "for i in 1 2 3 4 5 6 7 8; do {} show-descriptors {} 40 & done; wait",
                arena.program.display(),
                arena.mount().display()
            );
            let got = arena.job(["sh", "-c", &script].map(OsString::from)).run();
            assert_eq!(got.out().matches("0 breaches\n").count(), 8 * 41, "{got}");
            assert_eq!(numbers(&got.out()), want, "{got}");
            arena.held(&got);
        });
    }

    /// A file system that never answers, until it is dropped.
    struct Stalled {
        server: Child,
        at: PathBuf,
    }

    impl Stalled {
        fn at(dir: PathBuf) -> Result<Stalled, String> {
            let program = guest("adversary_fuse", Guest::Dynamic)?;
            if fs::File::open("/dev/fuse").is_err() {
                return Err("/dev/fuse can't be opened".into());
            }
            let mut server = Command::new(program)
                .arg(&dir)
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|e| e.to_string())?;
            let mut said = [0u8; 6];
            let out = server.stdout.as_mut().expect("piped");
            if std::io::Read::read_exact(out, &mut said).is_err() {
                let _ = server.wait();
                return Err("mounting a FUSE file system is refused".into());
            }
            Ok(Stalled { server, at: dir })
        }
    }

    impl Drop for Stalled {
        fn drop(&mut self) {
            let _ = self.server.kill();
            let _ = self.server.wait();
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }

    /// What waits for that file system itself can't be ended by anybody, vrift-trace included,
    /// until the file system is gone: so it goes after a while.
    #[test]
    fn memory_that_is_never_filled_keeps_nobody_else_waiting() {
        if !is_root() {
            return; // only root mounts
        }
        let program = need!("adversaries::stall", guest("adversary", Guest::Dynamic));
        let arena = Arena::new(program);
        let stalled = need!("adversaries::stall", Stalled::at(arena.world.dir("fuse")));
        let got = std::thread::scope(|scope| {
            let file = stalled.at.join("stall");
            let job = arena.attack("stall", &[&file]).timeout(60);
            let running = scope.spawn(move || job.run());
            std::thread::sleep(std::time::Duration::from_secs(15));
            drop(stalled);
            running.join().expect("the job")
        });
        assert!(got.out().contains("answered in time"), "{got}");
        arena.held(&got);
    }

    /// In a job of root's a task may be somebody else, and gets no more than that one may read.
    #[test]
    fn a_lesser_task_of_roots_is_lent_nothing_it_may_not_read() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let program = need!("adversaries::lent", guest("adversary", Guest::Static));
        let arena = Arena::new(program);
        let secret = arena.world.file("house/secret/file", "secret of root's\n");
        for (path, mode) in [("", 0o755), ("house/secret", 0o700), ("house", 0o755)] {
            let path = arena.world.path(path);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        let setpriv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let lesser = setpriv.map(OsString::from).into_iter();
        let mount = arena.mount();
        let run = mount.join("program");
        let own = [run.as_os_str(), "lent".as_ref(), mount.as_os_str(), secret.as_os_str()];
        let got = arena.job(lesser.chain(own.map(OsString::from))).run();
        arena.held(&got);
    }

    /// A store that its user can't write is protected by the kernel from whatever a job does.
    #[test]
    fn a_store_of_somebody_elses_serves_jobs() {
        if is_root() {
            return; // root may write every store
        }
        let program = need!("adversaries::others_store", guest("adversary", Guest::Dynamic));
        let arena = Arena::new(program);
        let store = arena.store();
        let chmod = |mode: u32| {
            for dir in ["jobs", "exec", ""] {
                let dir = store.join(dir);
                fs::set_permissions(dir, fs::Permissions::from_mode(mode)).expect("chmod");
            }
        };
        chmod(0o555);
        let got = arena.attack("descriptors", &[&arena.scratch()]).run();
        let runs = arena
            .job([
                "sh".into(),
                "-c".into(),
                format!(
                    "{}/program show-descriptors {}",
                    arena.mount().display(),
                    arena.mount().display()
                )
                .into(),
            ])
            .run();
        chmod(0o755);
        arena.held(&got);
        arena.held(&runs);
    }
}
