//! `vrift gc` beside jobs: what they read, and what they write, stays.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};
    use vrift_tests::{Job, Outcome, World, binaries};

    fn world() -> (World, PathBuf) {
        // Blobs go here on purpose; `verified` looks at what is left.
        let world = World::new().without_store_check();
        for n in 0..50 {
            world.file(format!("src/d{}/f{n}", n % 5), format!("content {n}\n"));
        }
        fs::copy("/bin/echo", world.path("src/program")).expect("echo is everywhere");
        world.ingest(world.path("src"), "t");
        world.file("other/f", "another\n");
        let p = world.path("p");
        (world, p)
    }

    fn collect(world: &World) -> String {
        world.vrift(["gc", "--grace", "0"]).run().ok().out()
    }

    fn verified(world: &World) {
        world.vrift(["verify"]).run().ok();
    }

    fn blobs(world: &World) -> usize {
        let dirs = fs::read_dir(world.store().join("blobs")).expect("blobs").flatten();
        dirs.map(|dir| fs::read_dir(dir.path()).expect("blobs").count()).sum()
    }

    fn wait_for(what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs the job, and `meanwhile` while it waits at the line `WAIT` of its script.
    fn beside(world: &World, job: impl Fn(&str) -> Job, meanwhile: impl FnOnce()) -> Outcome {
        let sync = world.dir("sync");
        let wait =
            format!("echo >{0}/ready; until [ -e {0}/go ]; do sleep 0.01; done", sync.display());
        let job = job(&wait).timeout(120);
        std::thread::scope(|scope| {
            let job = scope.spawn(|| job.run());
            wait_for("the job doesn't get ready", || sync.join("ready").exists());
            meanwhile();
            fs::write(sync.join("go"), "").expect("go");
            job.join().expect("the job")
        })
    }

    #[test]
    fn a_job_reads_on_from_a_tree_that_lost_its_name() {
        for moved in [true, false] {
            let (world, p) = world();
            let read = format!(
                "cat {0}/d*/f* | sort | cksum; ls -R {0} | cksum; {0}/program it runs",
                p.display()
            );
            let want = world.trace_sh(&[(&p, "t")], &read).run().ok().out();
            fs::remove_dir_all(world.store().join("exec")).expect("the runnable copy of echo");
            let before = blobs(&world);
            let job = |wait: &str| {
                let script = format!("cat {}/d0/f0 >/dev/null; {wait}; {read}", p.display());
                world.trace_sh(&[(&p, "t")], &script)
            };
            let outcome = beside(&world, job, || {
                if moved {
                    world.ingest(world.path("other"), "t");
                } else {
                    world.vrift(["rm", "t"]).run().ok();
                }
                let said = collect(&world);
                assert!(said.starts_with("removed: 0 manifests, 0 blobs"), "{said}");
                assert!(said.contains("1 only in use"), "{said}");
            });
            assert_eq!(outcome.ok().out(), want);
            collect(&world);
            assert_eq!(blobs(&world), usize::from(moved), "{before} before the job ended");
            let twins = fs::read_dir(world.store().join("exec")).expect("exec").flatten();
            let names: Vec<_> = twins.map(|twin| twin.file_name()).collect();
            assert!(
                names.iter().all(|name| name.to_string_lossy().starts_with("real-")),
                "{names:?}"
            );
            verified(&world);
        }
    }

    /// What a job wrote is stored when it is closed, and nothing names it until the job ends.
    #[test]
    fn what_a_job_wrote_and_a_collection_took_is_committed_all_the_same() {
        let (world, p) = world();
        let before = blobs(&world);
        let job = |wait: &str| {
            let script =
                format!("for n in 1 2 3; do echo new $n >{}/new$n; done; {wait}", p.display());
            world.trace_sh(&[(&p, "t,mode=overlay,commit=after")], &script)
        };
        let outcome = beside(&world, job, || {
            wait_for("what was written isn't stored", || blobs(&world) == before + 3);
            world.vrift(["rm", "t"]).run().ok();
            let said = collect(&world);
            assert!(said.starts_with("removed: 0 manifests, 3 blobs"), "{said}");
            assert_eq!(blobs(&world), before);
        });
        outcome.ok();
        collect(&world);
        verified(&world);
        assert_eq!(blobs(&world), before + 3);
        let out = world.path("out");
        world.vrift(["export", "after"]).arg(&out).run().ok();
        assert_eq!(fs::read(out.join("new2")).expect("new2"), b"new 2\n");
    }

    fn kept(world: &World, p: &Path, mount: &str, job: &Path) {
        let script = format!("echo mine >{0}/new; rm {0}/d1/f1", p.display());
        world.trace_sh(&[(p, mount)], &script).run().ok();
        world.vrift(["rm", "t"]).run().ok();
        let before = blobs(world);
        collect(world);
        // What was stored when it was closed may go; it is still among the changes.
        assert!(blobs(world) >= 51 && blobs(world) <= before, "{} of {before}", blobs(world));
        if !job.starts_with(world.store()) {
            // A directory that can't be found now may be found again: a note tells of it.
            fs::rename(job, world.path("away")).expect("mv");
            collect(world);
            assert!(blobs(world) >= 50, "{} of {before}", blobs(world));
            fs::rename(world.path("away"), job).expect("mv");
        }
        let trace = binaries::vrift_trace();
        let command = |args: &[&str]| world.native([trace.as_os_str()]).args(args).run().ok();
        let job = job.to_str().expect("UTF-8");
        let told = command(&["diff", job, "--no-times"]).out();
        assert!(told.contains("new") && told.contains("d1/f1"), "{told}");
        command(&["commit", job, "after"]);
        collect(world);
        verified(world);
        let out = world.path("out");
        world.vrift(["export", "after"]).arg(&out).run().ok();
        assert_eq!(fs::read(out.join("new")).expect("new"), b"mine\n");
        assert!(out.join("d1/f6").exists() && !out.join("d1/f1").exists());
        world.vrift(["rm", "after"]).run().ok();
    }

    #[test]
    fn changes_that_are_kept_keep_the_tree_that_they_belong_to() {
        let (world, p) = world();
        let inside = world.dir("store/uppers").join("mine");
        kept(&world, &p, &format!("t,mode=overlay,upper={}", inside.display()), &inside);
        collect(&world);
        assert_eq!(blobs(&world), 0, "nothing is kept any more");

        let (world, p) = self::world();
        let elsewhere = world.path("elsewhere");
        kept(&world, &p, &format!("t,mode=overlay,upper={}", elsewhere.display()), &elsewhere);
        collect(&world);
        assert!(blobs(&world) > 0, "the next job begins with what was committed");
        verified(&world);
    }

    #[test]
    fn a_job_that_was_killed_keeps_nothing() {
        let (world, p) = world();
        let ready = world.path("ready");
        let mut job = std::process::Command::new(binaries::vrift_trace())
            .args(["--quiet", "-m", &format!("{}=t", p.display()), "--", "sh", "-c"])
            .arg(format!("cat {}/d0/f0 >{}; sleep 1000", p.display(), ready.display()))
            .env("VR_THE_SOURCE", world.store())
            .spawn()
            .expect("spawn");
        wait_for("the job doesn't get ready", || ready.metadata().is_ok_and(|m| m.len() > 0));
        world.vrift(["rm", "t"]).run().ok();
        assert!(collect(&world).contains("1 only in use"));
        job.kill().expect("kill");
        job.wait().expect("wait");
        wait_for("the dead job's tree stays", || {
            collect(&world);
            blobs(&world) == 0
        });
        verified(&world);
    }
}
