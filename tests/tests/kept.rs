//! What a job leaves behind: `vrift-trace diff|commit|discard JOB`, and a ref that moved meanwhile.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use vrift_tests::{Job, Outcome, World, binaries};

    const CHANGES: &str =
        "echo more >>p/f; echo new >p/new; rm p/gone; mv p/d/x p/d/y; chmod 600 p/mode";

    fn world() -> (World, PathBuf) {
        let world = World::new();
        for (name, text) in
            [("f", "text\n"), ("gone", "g\n"), ("d/x", "a text to know it by\n"), ("mode", "m\n")]
        {
            world.file(format!("src/{name}"), text);
        }
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        (world, p)
    }

    fn command(world: &World, args: &[&str]) -> Job {
        let trace = binaries::vrift_trace();
        world.native([trace.as_os_str()]).args(args)
    }

    /// Runs the changes in an overlay whose changes are kept, and gives the job's name.
    fn keep(world: &World, p: &PathBuf) -> String {
        let policy = format!(
            "version = 1\n[[mount]]\nat = {p:?}\nmanifest = \"t\"\nmode = \"overlay\"\n\
             on_exit = \"keep\"\n"
        );
        let policy = world.file("p.toml", policy);
        let policy = policy.to_str().expect("UTF-8");
        let said = command(world, &["-p", policy, "--", "sh", "-c", CHANGES]).run().ok().err();
        let (_, name) =
            said.split_once("vrift-trace diff|commit|discard ").expect("a name is told");
        name.lines().next().expect("a line").trim().to_owned()
    }

    fn uppers(world: &World) -> usize {
        fs::read_dir(world.store().join("uppers")).map_or(0, Iterator::count)
    }

    fn changed(outcome: &Outcome) -> Vec<String> {
        let mut lines: Vec<String> = outcome.out().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn kept_changes_are_told_and_committed() {
        let (world, p) = world();
        let name = keep(&world, &p);
        assert!(!p.exists(), "nothing real comes of it");
        let diff = changed(&command(&world, &["diff", &name, "--no-times"]).run().ok());
        command(&world, &["commit", &name, "after"]).run().ok();
        assert_eq!(uppers(&world), 0, "what was committed isn't kept as well");
        let told = world.vrift(["diff", "t", "after", "--no-times"]).run();
        assert_eq!(diff, changed(&told));
        assert!(diff.len() >= 5, "{diff:?}");
        let out = world.path("out");
        world.vrift(["export", "after"]).arg(&out).run().ok();
        assert_eq!(fs::read(out.join("f")).expect("f"), b"text\nmore\n");
        assert_eq!(fs::read(out.join("d/y")).expect("y"), b"a text to know it by\n");
        assert!(out.join("new").exists() && !out.join("gone").exists());
        let line = command(&world, &["diff", &name]).run().expect(125).err();
        assert!(line.lines().count() == 1 && line.contains("no changes are kept"), "{line}");
    }

    #[test]
    fn what_a_killed_job_left_half_made_is_thrown_away() {
        let (world, p) = world();
        let name = keep(&world, &p);
        let whole = world.store().join("uppers").join(name);
        let head = fs::read(whole.join("upper")).expect("its head");
        let half = |name: &str, head: Option<&[u8]>, files: bool| {
            let dir = world.dir(format!("store/uppers/{name}"));
            if let Some(head) = head {
                fs::write(dir.join(".upper"), head).expect("a head");
            }
            if files {
                fs::create_dir(dir.join("f")).expect("f");
                fs::write(dir.join("f/7"), "a file").expect("a file");
            }
        };
        half("a", None, false);
        half("b", Some(b""), false);
        half("c", Some(&head), false);
        half("d", Some(&head), true);
        for name in ["a", "b", "c", "d"] {
            command(&world, &["discard", name]).run().ok();
        }
        assert_eq!(uppers(&world), 1);
        // What no job made is nobody's to remove.
        half("e", Some(b""), true);
        half("f", None, true);
        for name in ["e", "f"] {
            let line = command(&world, &["discard", name]).run().expect(125).err();
            assert!(line.contains("it is not empty and was not made as one"), "{line}");
            assert!(world.store().join("uppers").join(name).join("f/7").exists());
        }
    }

    #[test]
    fn kept_changes_are_thrown_away_without_a_trace() {
        let (world, p) = world();
        let name = keep(&world, &p);
        assert_eq!(uppers(&world), 1);
        command(&world, &["discard", &name]).run().ok();
        assert_eq!(uppers(&world), 0);
        command(&world, &["commit", &name, "after"]).run().expect(125);
        world.vrift(["show", "after"]).run().expect(125);
    }

    /// The ref that a job is to move has to be what it was when the job began.
    #[test]
    fn a_ref_that_moved_meanwhile_is_left_as_it_is() {
        let (world, p) = world();
        world.file("other/f", "another's\n");
        world.ingest(world.path("src"), "head");
        world.ingest(world.path("other"), "other");
        let sync = world.dir("sync");
        // Somebody outside moves it while the job waits.
        let script = format!(
            "echo mine >p/f; echo >{0}/ready; until [ -e {0}/go ]; do sleep 0.01; done",
            sync.display()
        );
        let job = world.trace(&[(&p, "t,mode=overlay,commit=head")], ["sh", "-c", &script]);
        let outcome = std::thread::scope(|scope| {
            let job = scope.spawn(|| job.run());
            let began = std::time::Instant::now();
            while !sync.join("ready").exists() {
                assert!(began.elapsed().as_secs() < 60, "the job doesn't get ready");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            world.ingest(world.path("other"), "head");
            fs::write(sync.join("go"), "").expect("go");
            job.join().expect("the job")
        });
        let err = outcome.err();
        assert!(outcome.code() == 125 && err.contains("was moved meanwhile"), "{outcome}");
        assert_eq!(world.vrift(["diff", "other", "head", "--no-times"]).run().ok().out(), "");
    }
}
