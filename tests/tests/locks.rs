//! flock on projected files: one path is one lock, whoever has it open, in whichever job; each
//! rule is asked of the kernel too, on the files that were ingested.

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;
    use vrift_tests::guests::fixtures;
    use vrift_tests::job::patience;
    use vrift_tests::skip::program;
    use vrift_tests::{Job, World, need};

    /// As on Linux before 5.19: see `VRIFT_WITHOUT` in docs/RELIABILITY.md.
    const OLD: &str = "wait-killable,sync-wake-up";

    /// Lock files, as most are: all alike.
    fn ground() -> World {
        let world = World::new();
        for name in ["a", "b", "c", "dir/below"] {
            world.file(format!("src/{name}"), "");
        }
        for name in ["large", "large2"] {
            world.file(format!("src/{name}"), vec![7; 2 << 20]);
        }
        fs::hard_link(world.path("src/a"), world.path("src/hard")).expect("a hard link");
        std::os::unix::fs::symlink("a", world.path("src/link")).expect("a link");
        world.ingest(world.path("src"), "t");
        world
    }

    /// A part of the script, on the files below `place`.
    fn part(what: &str, place: &Path, more: &[&Path]) -> Vec<OsString> {
        let script = fixtures().join("locks/locks.py");
        let head: [OsString; 4] = ["python3".into(), "-B".into(), script.into(), what.into()];
        head.into_iter()
            .chain([place.into()])
            .chain(more.iter().map(|path| (*path).into()))
            .collect()
    }

    fn timed(job: Job) -> Job {
        job.timeout(60)
    }

    /// What a part says in a job is what it says of the files that were ingested.
    fn as_natively(name: &str, what: &str, mode: &str, without: &str) {
        need!(name, program("python3"));
        need!(name, program("flock"));
        let world = ground();
        let p = world.path("p");
        let reference = format!("t{mode}");
        let job = world.trace(&[(&p, &reference)], part(what, &p, &[]));
        let got = timed(job).env("VRIFT_WITHOUT", without).run().ok();
        let native = timed(world.native(part(what, &world.path("src"), &[]))).run().ok();
        assert_eq!(got.out(), native.out(), "{got}");
    }

    #[test]
    fn the_rules_are_the_kernels() {
        as_natively("the_rules_are_the_kernels", "rules", "", "");
    }

    #[test]
    fn a_lock_goes_with_the_description_and_ends_with_it() {
        let name = "a_lock_goes_with_the_description_and_ends_with_it";
        as_natively(name, "passing", "", "");
        as_natively(name, "passing", "", OLD);
    }

    #[test]
    fn who_waits_gets_the_lock_or_a_signal() {
        as_natively("who_waits_gets_the_lock_or_a_signal", "waiting", "", "");
    }

    #[test]
    fn who_waits_as_on_an_old_kernel() {
        as_natively("who_waits_as_on_an_old_kernel", "waiting", "", OLD);
    }

    #[test]
    fn files_of_a_writable_mount_have_locks_of_their_own() {
        let name = "files_of_a_writable_mount_have_locks_of_their_own";
        as_natively(name, "changes", ",mode=overlay", "");
        as_natively(name, "rules", ",mode=overlay", "");
        as_natively(name, "waiting", ",mode=overlay", "");
    }

    #[test]
    fn at_most_one_process_has_a_lock() {
        let name = "at_most_one_process_has_a_lock";
        need!(name, program("python3"));
        let world = ground();
        let p = world.path("p");
        let turns = 200 / patience().min(10);
        let number = turns.to_string();
        for without in ["", OLD] {
            let counter = world.file("counter", "0");
            let script = part("race", &p, &[&counter, Path::new(&number)]);
            // Two jobs at once, of three processes each.
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    let job = timed(world.trace(&[(&p, "t")], &script));
                    let job = job.env("VRIFT_WITHOUT", without);
                    scope.spawn(move || assert_eq!(job.run().ok().out(), "ends: [0, 0, 0]\n"));
                }
            });
            let counted = fs::read_to_string(&counter).expect("the counter");
            assert_eq!(counted, (6 * turns).to_string(), "{without}");
        }
    }

    /// One job has locks on some files, another asks for some.
    fn two_jobs(world: &World, mounts: [&Path; 2], names: [&[&str]; 2], want: &str) {
        let (ready, done) = (world.path("ready"), world.path("done"));
        let argv = |what, n: usize| {
            let mut more: Vec<&Path> = vec![&ready, &done];
            more.extend(names[n].iter().map(Path::new));
            part(what, mounts[n], &more)
        };
        std::thread::scope(|scope| {
            let first = timed(world.trace(&[(mounts[0], "t")], argv("hold", 0)));
            scope.spawn(move || {
                let got = first.run().ok();
                assert!(!got.out().contains("EAGAIN"), "{got}");
            });
            let second = timed(world.trace(&[(mounts[1], "t")], argv("ask", 1))).run().ok();
            assert_eq!(second.out(), want, "{second}");
        });
        for path in [ready, done] {
            fs::remove_file(path).expect("both jobs came to their ends");
        }
    }

    #[test]
    fn jobs_share_the_locks_of_a_manifest_at_one_place() {
        need!("jobs_share_the_locks_of_a_manifest_at_one_place", program("python3"));
        let world = ground();
        let (p, q) = (world.path("p"), world.path("q"));
        let names: [&[&str]; 2] =
            [&["a", "large", "dir"], &["hard", "b", "large", "large2", "dir", "."]];
        let want = "asked: ['EAGAIN', 'yes', 'EAGAIN', 'yes', 'EAGAIN', 'yes']\n";
        two_jobs(&world, [&p, &p], names, want);
        let want = "asked: ['yes', 'yes', 'yes', 'yes', 'yes', 'yes']\n";
        two_jobs(&world, [&p, &q], names, want);
    }

    #[test]
    fn the_tools_for_locks_work() {
        let name = "the_tools_for_locks_work";
        need!(name, program("flock"));
        let world = ground();
        let script = r#"
            cd "$1"
            flock -n a true; echo free: $?
            flock a sh -c 'flock -n a true; echo taken: $?; flock -n b true; echo other: $?'
            flock -s a flock -n -s a true; echo shared: $?
            flock a flock -w 0.3 a true; echo timed out: $?
            flock a flock -E 77 -n a true; echo conflict: $?
            ( flock -n 9 && flock -n 8 && echo both; flock -n a true; echo taken: $? ) 9<a 8<b
            exec 7<b 6<a; flock 6; flock -n b true; echo other: $?; flock -u 6; flock -n a true; echo unlocked: $?
            flock dir flock -n dir true; echo directory: $?
            (flock a sleep 0.3) & sleep 0.1; flock a echo waited; wait
        "#;
        let p = world.path("p");
        for shell in ["sh", "bash"] {
            need!(name, program(shell));
            let argv = |place: &Path| -> Vec<OsString> {
                vec![shell.into(), "-c".into(), script.into(), shell.into(), place.into()]
            };
            let got = timed(world.trace(&[(&p, "t")], argv(&p))).run().ok();
            let native = timed(world.native(argv(&world.path("src")))).run().ok();
            assert_eq!(got.out(), native.out(), "{got}");
        }
    }
}
