//! Many at once: processes, threads, jobs. Each must end, and with the right answers.

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use vrift_tests::{Guest, World, guest, need, tree};

    #[test]
    fn a_hundred_concurrent_cats_twenty_times() {
        let world = World::new();
        tree::numbered(&world.path("src"), 100);
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = format!(
            "cd {}; for i in $(seq 0 99); do cat $i & done | sort -n | cksum; wait",
            p.display()
        );
        let want = world.sh("seq 0 99 | cksum").run().ok().out();
        for round in 0..20 {
            let got = world.trace_sh(&[(&p, "t")], &script).timeout(30).run().ok();
            assert_eq!(got.out(), want, "round {round}: {got}");
        }
    }

    #[test]
    fn make_j16_of_five_hundred_files_twenty_times() {
        let world = World::new();
        let mut makefile = String::from("SRC ?= src\nall:");
        for n in 0..500 {
            write!(makefile, " o{n}").expect("string");
            world.file(format!("src/d{}/f{n}", n % 7), format!("content of {n}\n"));
        }
        makefile.push('\n');
        for n in 0..500 {
            writeln!(makefile, "o{n}: $(SRC)/d{}/f{n}\n\t@cat $< > $@", n % 7).expect("string");
        }
        world.file("src/Makefile", &makefile);
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = format!(
            "rm -rf $TMPDIR/out; mkdir $TMPDIR/out; cd $TMPDIR/out && make -s -j16 -f {0}/Makefile SRC={0} && cat o* | sort | cksum",
            p.display()
        );
        let want = world.sh("cat src/d*/f* | sort | cksum").run().ok().out();
        for round in 0..20 {
            let got = world.trace_sh(&[(&p, "t")], &script).timeout(120).run().ok();
            assert_eq!(got.out(), want, "round {round}: {got}");
        }
    }

    fn threads(how: Guest) {
        let name = format!("threads::{how:?}");
        let program = need!(&name, guest("threads", how));
        let world = World::new();
        tree::numbered(&world.path("src"), 60);
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let argv =
            [program.into_os_string(), p.clone().into(), "60".into(), "32".into(), "10".into()];
        world.trace(&[(&p, "t")], argv).timeout(120).run().ok();
    }

    #[test]
    fn threads_with_their_own_working_directories() {
        threads(Guest::Dynamic);
    }

    #[test]
    fn threads_of_a_static_program() {
        threads(Guest::Static);
    }

    #[test]
    fn threads_of_a_32_bit_program() {
        threads(Guest::Bits32);
    }

    #[test]
    fn several_jobs_share_a_store() {
        let world = World::new();
        tree::numbered(&world.path("src"), 50);
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        std::thread::scope(|scope| {
            let jobs: Vec<_> = (0..8)
                .map(|_| {
                    let job = world.trace_sh(
                        &[(&p, "t")],
                        &format!(
                            "cd {}; for i in $(seq 0 49); do cat $i; done | cksum",
                            p.display()
                        ),
                    );
                    scope.spawn(move || job.run().ok().out())
                })
                .collect();
            let mut sums: Vec<_> = jobs.into_iter().map(|j| j.join().expect("job")).collect();
            sums.dedup();
            assert_eq!(sums.len(), 1, "{sums:?}");
        });
    }

    #[test]
    fn a_job_inside_a_job_says_what_is_wrong_or_works() {
        let world = World::new();
        world.file("src/f", "text\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let inner = format!(
            "{} --quiet -- cat {}/f",
            vrift_tests::binaries::vrift_trace().display(),
            p.display()
        );
        let got = world.trace_sh(&[(&p, "t")], &inner).run();
        if got.code() != 0 {
            // One listener for each task tree is the kernel's rule: a clear line and 125.
            assert_eq!(got.code(), 125, "{got}");
            assert_eq!(got.err().lines().count(), 1, "{got}");
        } else {
            assert_eq!(got.out(), "text\n");
        }
    }

    #[test]
    fn killed_tasks_leave_nothing_hanging() {
        let world = World::new();
        tree::numbered(&world.path("src"), 200);
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = format!(
            "cd {}; for i in $(seq 40); do (while :; do cat * >/dev/null; ls -l >/dev/null; done) & k=$!; sleep 0.0$((i % 10)); kill -9 $k; done; wait 2>/dev/null; cat 7",
            p.display()
        );
        let got = world.trace(&[(&p, "t")], ["bash", "-c", &script]).timeout(60).run().ok();
        assert_eq!(got.out(), "7\n");
    }
}
