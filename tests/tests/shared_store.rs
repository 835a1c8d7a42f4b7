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
        let said = world
            .native([binaries::vrift_trace()])
            .args(["-q", "-m", "/vrift/t=t,mode=overlay,commit=x", "--", "echo", "ran"])
            .behind(AS_NOBODY)
            .env("HOME", &home)
            .run()
            .expect(125);
        assert!(said.out().is_empty() && said.err().contains("may only read"), "{said}");
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
            let began = Instant::now();
            while !sync.join("ready").exists() {
                assert!(began.elapsed() < Duration::from_secs(60), "the job doesn't get ready");
                std::thread::sleep(Duration::from_millis(5));
            }
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
