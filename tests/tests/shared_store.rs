//! Jobs of another user over a store that they may only read, and the daemon beside jobs. Only root
//! can become somebody else, so nobody's own run of these tests has nothing to add.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};
    use vrift_tests::shared::{AS_NOBODY, Daemon, configure, home_of_nobody};
    use vrift_tests::{Job, World, binaries};

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    /// A world with a store of root's and a tree with programs in it.
    fn world() -> World {
        let world = World::new();
        world.file("src/data", "some data\n");
        world.file(
            "src/script",
            "#!/vrift/t/sh\nread line </vrift/t/data; echo \"script: $line\"\n",
        );
        fs::copy("/bin/echo", world.path("src/program")).expect("echo is everywhere");
        fs::copy("/bin/sh", world.path("src/sh")).expect("a shell is everywhere");
        for name in ["script", "program", "sh"] {
            let path = world.path("src").join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        world.ingest(world.path("src"), "t");
        world
    }

    /// A job of nobody's with this home.
    fn job(world: &World, home: &Path, script: &str) -> Job {
        let at = Path::new("/vrift/t");
        world.trace_sh(&[(at, "t")], script).behind(AS_NOBODY).env("HOME", home)
    }

    /// A job of nobody's that changes the tree, with what becomes of that.
    fn overlay(world: &World, home: &Path, on_exit: &str, script: &str) -> Job {
        let policy = format!(
            "version = 1\n[[mount]]\nat = \"/vrift/t\"\nmanifest = \"t\"\nmode = \"overlay\"\n\
             on_exit = \"{on_exit}\"\n"
        );
        let policy = world.file("policy.toml", policy);
        let trace = binaries::vrift_trace();
        let job = world.native([trace.as_os_str(), "-p".as_ref(), policy.as_os_str()]);
        job.args(["--", "/bin/sh", "-c", script]).behind(AS_NOBODY).env("HOME", home)
    }

    /// One of vrift-trace's commands, by nobody.
    fn command(world: &World, home: &Path, args: &[&str]) -> Job {
        let job = world.native([binaries::vrift_trace()]).args(args);
        job.behind(AS_NOBODY).env("HOME", home)
    }

    const CHANGES: &str = "cd /vrift/t && echo more >>data && mv script text && rm program";

    fn exported(world: &World, name: &str) -> String {
        let out = world.path(format!("exported-{}", name.replace('/', "-")));
        world.vrift(["export", name]).arg(&out).run().ok();
        assert!(!out.join("program").exists() && out.join("text").exists());
        fs::read_to_string(out.join("data")).expect("data")
    }

    #[test]
    fn what_a_job_changed_is_committed_through_the_daemon() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let world = world().without_store_check();
        let home = home_of_nobody(&world, "nobody");
        let daemon = Daemon::run(&world.store());
        let said = overlay(&world, &home, "commit:theirs", "echo ran").run().expect(125);
        assert!(said.out().is_empty() && said.err().contains("by `ingest = […]`"), "{said}");
        assert!(!cache(&home).join("uppers").exists(), "what isn't begun leaves nothing");
        daemon.kill();
        configure(&world.store(), "version = 1\ningest = [\"nobody\"]\n");
        let daemon = Daemon::run(&world.store());
        let large = "head -c 3000000 /dev/urandom >large";
        let script = format!("{CHANGES} && {large} && sleep 0.5 && : >last");
        let said = overlay(&world, &home, "commit:theirs", &script).run().ok();
        assert!(said.err().contains("committed: theirs -> "), "{said}");
        assert_eq!(exported(&world, "theirs"), "some data\nmore\n");
        // On top of that, and only if nobody else was faster.
        let sync = world.dir("sync");
        let script = format!(
            "{CHANGES}; echo >{0}/ready; until [ -e {0}/go ]; do sleep 0.01; done",
            sync.display()
        );
        std::os::unix::fs::chown(&sync, Some(65534), Some(65534)).expect("chown");
        let job = overlay(&world, &home, "commit:theirs", &script).timeout(120);
        let said = std::thread::scope(|scope| {
            let job = scope.spawn(|| job.run());
            until(&sync.join("ready"));
            world.vrift(["tag", "t", "theirs"]).run().ok();
            fs::write(sync.join("go"), "").expect("go");
            job.join().expect("the job")
        });
        let line = said.err();
        assert!(said.code() != 0 && line.contains("was moved meanwhile"), "{said}");
        let words = line.split_once("`vrift tag ").expect("how to name it").1;
        let tree = words.split_whitespace().next().expect("its hash").to_owned();
        world.vrift(["tag", &tree, "after"]).run().ok();
        assert_eq!(exported(&world, "after"), "some data\nmore\n");
        // What the daemon's end keeps from being stored is told, and the job's own status stays clear.
        let _ = fs::remove_file(sync.join("ready"));
        let _ = fs::remove_file(sync.join("go"));
        let job = overlay(&world, &home, "commit:theirs", &script).timeout(120);
        let said = std::thread::scope(|scope| {
            let job = scope.spawn(|| job.run());
            until(&sync.join("ready"));
            daemon.kill();
            fs::write(sync.join("go"), "").expect("go");
            job.join().expect("the job")
        });
        assert!(said.code() != 0, "{said}");
        let line = said.err();
        assert!(line.contains("nothing was committed") && line.contains("daemon"), "{said}");
        let name = line.split_once("vrift-trace diff|commit|discard ").expect("it is kept").1;
        let name = name.lines().next().expect("a line").trim();
        let _daemon = Daemon::run(&world.store());
        command(&world, &home, &["commit", name, "later"]).run().ok();
        assert_eq!(exported(&world, "later"), "some data\nmore\n");
        world.vrift(["verify"]).run().ok();
    }

    #[test]
    fn changes_are_kept_in_the_users_own_cache() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let world = world().without_store_check();
        let home = home_of_nobody(&world, "nobody");
        let keep = || {
            let said = overlay(&world, &home, "keep", CHANGES).run().ok().err();
            let told = said.split_once("vrift-trace diff|commit|discard ").expect("a name is told");
            told.1.lines().next().expect("a line").trim().to_owned()
        };
        let kept = || fs::read_dir(cache(&home).join("uppers")).map_or(0, Iterator::count);
        let name = keep();
        assert_eq!(kept(), 1);
        // To look at them takes nobody else.
        let told = command(&world, &home, &["diff", &name, "--no-times"]).run().ok().out();
        let mut told: Vec<&str> = told.lines().collect();
        told.sort_unstable();
        assert!(told.len() >= 3 && told.iter().any(|line| line.ends_with("program")), "{told:?}");
        let line = command(&world, &home, &["commit", &name, "theirs"]).run();
        assert!(line.code() != 0 && line.err().contains("daemon isn't running"), "{line}");
        assert_eq!(kept(), 1, "what can't be committed stays");
        configure(&world.store(), "version = 1\ningest = [\"nobody\"]\n");
        let _daemon = Daemon::run(&world.store());
        command(&world, &home, &["commit", &name, "theirs"]).run().ok();
        assert_eq!(kept(), 0);
        assert_eq!(exported(&world, "theirs"), "some data\nmore\n");
        let name = keep();
        command(&world, &home, &["discard", &name]).run().ok();
        assert_eq!(kept(), 0);
        let line = command(&world, &home, &["diff", &name]).run().expect(125).err();
        assert!(line.contains("no changes are kept under this name"), "{line}");
        // Without a home there is nowhere.
        fs::set_permissions(world.path("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        let said = overlay(&world, Path::new("/nonexistent"), "keep", "echo ran").run().expect(125);
        assert!(said.err().contains("name one with upper=DIR"), "{said}");
    }

    #[test]
    fn a_tree_without_its_contents_is_changed_and_filled_through_the_daemon() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let world = world().without_store_check();
        let home = home_of_nobody(&world, "nobody");
        let far = world.path("far");
        world.vrift(["push", "t"]).arg(&far).run().ok();
        let trace = world.path("trace").display().to_string();
        let job = world.native([binaries::vrift_trace()]).args(["-q", "-o", &trace]);
        job.args(["-m", "/vrift/t=t", "--", "cat", "/vrift/t/data"]).run().ok();
        fs::set_permissions(&trace, fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::remove_dir_all(world.store()).expect("the store");
        world.vrift(["ingest", "--name", "empty"]).arg(world.dir("empty")).run().ok();
        let far = far.display();
        let rights = format!(
            "version = 1\ningest = [\"nobody\"]\npull = [\"nobody\"]\nremotes = [\"{far}\"]\n"
        );
        configure(&world.store(), &rights);
        let _daemon = Daemon::run(&world.store());
        let nobody = |job: Job| job.behind(AS_NOBODY).env("HOME", &home);
        let far = far.to_string();
        let pull = |more: &[&str]| {
            nobody(world.vrift(["pull", "--lazy", &far, "t"]).args(more)).run().ok().out()
        };
        let told = pull(&[]);
        assert!(told.contains("4 left at"), "{told}");
        // What a job makes of it may lack what that lacks.
        let script = "cd /vrift/t && echo new >new && rm program";
        overlay(&world, &home, "commit:theirs", script).run().ok();
        world.vrift(["verify"]).run().ok();
        let told = world.vrift(["cat", "theirs:new"]).run().ok().out();
        assert_eq!(told, "new\n");
        let told = world.vrift(["stats", "--json"]).run().ok().out();
        assert!(told.contains("\"blobs\":1"), "{told}");
        // What an earlier job read comes at once.
        let told = pull(&["--profile", &trace]);
        assert!(told.contains("1 fetched") && told.contains("3 left at"), "{told}");
        let told = world.vrift(["cat", "t:data"]).run().ok().out();
        assert_eq!(told, "some data\n");
    }

    /// Waits for a file.
    fn until(path: &Path) {
        let began = Instant::now();
        while !path.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "the job doesn't get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn cache(home: &Path) -> PathBuf {
        let dir = fs::read_dir(home.join(".cache/vrift")).expect("a cache").next();
        dir.expect("one store").expect("its directory").path()
    }

    fn copies(home: &Path) -> Vec<(String, u64)> {
        let exec = fs::read_dir(cache(home).join("exec")).expect("copies").flatten();
        let copy = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, entry.metadata().expect("metadata").ino())
        };
        let mut copies: Vec<_> = exec.map(copy).collect();
        copies.sort();
        copies
    }

    #[test]
    fn a_job_of_another_user_runs_over_a_store_that_it_may_only_read() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let world = world();
        let home = home_of_nobody(&world, "nobody");
        let script = "cat /vrift/t/data; /vrift/t/program ran as $(id -u); /vrift/t/script";
        let expected = "some data\nran as 65534\nscript: some data\n";
        assert_eq!(job(&world, &home, script).run().ok().out(), expected);
        let first = copies(&home);
        assert!(first.len() >= 2, "program and shell: {first:?}");
        assert_eq!(job(&world, &home, script).run().ok().out(), expected);
        assert_eq!(copies(&home), first, "made once");
        assert_eq!(fs::read_dir(cache(&home).join("jobs")).expect("jobs").count(), 0);
        // In the user's own cache, and yet not for the job.
        let cache = cache(&home);
        let copy = cache.join("exec").join(&first[0].0);
        for path in [&cache, &cache.join("exec"), &copy] {
            let script = format!(
                "ls {0} 2>&1; chmod u+w {0} 2>&1; rm -rf {0}; cat {0} 2>&1; : >>{0}; [ -e {0} ] && echo there",
                path.display()
            );
            let said = job(&world, &home, &script).run();
            assert!(!said.out().contains("there"), "{said}");
            assert!(said.out().contains("No such file"), "{said}");
        }
        assert_eq!(copies(&home), first);
        // A writable mount of which nothing is kept needs no more.
        let said = world
            .native([binaries::vrift_trace()])
            .args(["-q", "-m", "/vrift/t=t,mode=overlay", "--", "/bin/sh", "-c"])
            .arg("cd /vrift/t && echo more >>data && mv sh shell && ./shell -c 'cat data'")
            .behind(AS_NOBODY)
            .env("HOME", &home)
            .run()
            .ok();
        assert_eq!(said.out(), "some data\nmore\n");
        let said = overlay(&world, &home, "commit:x", "echo ran").run().expect(125);
        assert!(said.out().is_empty() && said.err().contains("its daemon isn't running"), "{said}");
    }

    #[test]
    fn a_user_without_a_home_runs_jobs_too() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let world = world();
        home_of_nobody(&world, "nobody");
        fs::set_permissions(world.path("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        for home in [Path::new("/nonexistent"), &world.path("home")] {
            let said = job(&world, home, "/vrift/t/script; /vrift/t/program x").run().ok();
            assert_eq!(said.out(), "script: some data\nx\n");
        }
        assert_eq!(fs::read_dir(world.path("home")).expect("home").count(), 0);
    }

    #[test]
    fn jobs_go_on_when_the_daemon_dies() {
        let world = world().without_store_check();
        let daemon = Daemon::run(&world.store());
        let sync = world.dir("sync");
        let script = format!(
            "cat /vrift/t/data; echo >{0}/ready; until [ -e {0}/go ]; do sleep 0.01; done
            /vrift/t/program still; /vrift/t/script",
            sync.display()
        );
        let job = world.trace_sh(&[(Path::new("/vrift/t"), "t")], &script).timeout(120);
        let said = std::thread::scope(|scope| {
            let job = scope.spawn(|| job.run());
            until(&sync.join("ready"));
            daemon.kill();
            // What keeps the tree is the job itself, for the next daemon as well.
            world.vrift(["rm", "t"]).run().ok();
            let again = Daemon::run(&world.store());
            let said = world.vrift(["gc", "--grace", "0", "--json"]).run().ok();
            assert!(said.out().contains("\"removed_blobs\":0"), "{said}");
            again.kill();
            fs::write(sync.join("go"), "").expect("go");
            job.join().expect("the job")
        });
        assert_eq!(said.ok().out(), "some data\nstill\nscript: some data\n");
        world.vrift(["verify"]).run().ok();
        let said = world.vrift(["gc", "--grace", "0", "--json"]).run().ok();
        assert!(said.out().contains("\"removed_manifests\":1"), "{said}");
    }

    #[test]
    fn what_another_user_built_is_shared_through_the_daemon() {
        if !is_root() {
            return; // only root can become somebody else
        }
        let world = world().without_store_check();
        let home = home_of_nobody(&world, "nobody");
        configure(&world.store(), "version = 1\ningest = [\"nobody\"]\n");
        let _daemon = Daemon::run(&world.store());
        let script =
            format!("cd {} && mkdir out && /vrift/t/program built >out/file", home.display());
        job(&world, &home, &script).run().ok();
        let out = home.join("out");
        let ingest = world.vrift(["ingest", "--name", "nobody/out"]).arg(&out);
        ingest.behind(AS_NOBODY).env("HOME", &home).run().ok();
        for behind in [&AS_NOBODY[..], &[]] {
            let mounts = [(Path::new("/vrift/o"), "nobody/out")];
            let job = world.trace(&mounts, ["cat", "/vrift/o/file"]).behind(behind);
            assert_eq!(job.env("HOME", &home).run().ok().out(), "built\n");
        }
        world.vrift(["verify"]).run().ok();
    }
}
