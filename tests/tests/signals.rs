//! Signals in the middle of calls, and processes that shut themselves off from their debugger.

#[cfg(test)]
mod tests {
    use vrift_tests::guests::storm_ground;
    use vrift_tests::job::patience;
    use vrift_tests::{Guest, World, guest, need, oracle};

    /// As on Linux 6.6 and later, before 6.6, before 5.19: see `VRIFT_WITHOUT` in
    /// docs/RELIABILITY.md.
    const NEW: &str = "";
    const WITHOUT_WAKE_UP: &str = "sync-wake-up";
    const OLD: &str = "wait-killable,sync-wake-up";

    fn storm(how: Guest, mode: &str, without: &str) {
        let name = format!("storm::{how:?}::{mode}::{without}");
        let program = need!(&name, guest("storm", how));
        let world = World::new();
        storm_ground(&world);
        let p = world.path("p");
        // Long enough for the signals and execs that the guest wants to have seen.
        let seconds = (3 * patience().min(4)).to_string();
        let argv = [program.into_os_string(), p.clone().into(), seconds.into(), mode.into()];
        world.trace(&[(&p, "t")], argv).env("VRIFT_WITHOUT", without).timeout(40).run().ok();
    }

    #[test]
    fn storm_with_restart() {
        storm(Guest::Dynamic, "restart", NEW);
    }

    #[test]
    fn storm_without_restart() {
        storm(Guest::Dynamic, "norestart", NEW);
    }

    #[test]
    fn storm_on_a_static_program() {
        storm(Guest::Static, "restart", NEW);
        storm(Guest::Static, "norestart", NEW);
    }

    #[test]
    fn storm_on_a_32_bit_program() {
        storm(Guest::Bits32, "restart", NEW);
    }

    #[test]
    fn storm_without_synchronous_wake_ups() {
        storm(Guest::Dynamic, "restart", WITHOUT_WAKE_UP);
        storm(Guest::Static, "norestart", WITHOUT_WAKE_UP);
    }

    #[test]
    fn storm_as_on_an_old_kernel_with_restart() {
        storm(Guest::Dynamic, "restart", OLD);
        storm(Guest::Static, "restart", OLD);
    }

    #[test]
    fn storm_as_on_an_old_kernel_without_restart() {
        storm(Guest::Dynamic, "norestart", OLD);
    }

    /// A handler may begin where an answer is being written to the stack: perl died of that.
    #[test]
    fn what_a_call_writes_is_never_written_over_a_handler() {
        let perl = need!("a timer while files are looked at", vrift_tests::skip::program("perl"));
        let world = World::new();
        world.file("t/text", "text\n");
        world.ingest(world.path("t"), "t");
        let p = world.path("p");
        let script = "use Time::HiRes qw(setitimer ITIMER_REAL); my $n = 0; \
                      $SIG{ALRM} = sub { $n++ }; setitimer(ITIMER_REAL, 0.002, 0.002); \
                      for (1..15000) { open(my $f, \"<\", \"$ARGV[0]/text\") or $!{EINTR} or die \"open: $!\"; } \
                      setitimer(ITIMER_REAL, 0); die \"$n signals\" if $n < 20;";
        let argv = [perl.as_os_str(), "-e".as_ref(), script.as_ref(), p.as_os_str()];
        for without in [NEW, OLD] {
            world.trace(&[(&p, "t")], argv).env("VRIFT_WITHOUT", without).run().ok();
        }
    }

    #[test]
    fn storm_on_a_32_bit_program_as_on_an_old_kernel() {
        storm(Guest::Bits32, "restart", OLD);
    }

    #[test]
    fn an_undumpable_program_gets_right_answers() {
        let name = "an_undumpable_program_gets_right_answers";
        let program = need!(name, guest("dumpable", Guest::Dynamic));
        let world = World::new();
        storm_ground(&world);
        let p = world.path("p");
        let argv = [program.as_os_str(), p.as_os_str()];
        let got = world.trace(&[(&p, "t")], argv).run().ok();
        let kernel = need!(name, oracle::bound(&world, &world.path("src"), &p, argv)).run().ok();
        // Whether the flag really was cleared is the supervisor's choice; the rest isn't.
        let rest = |text: String| {
            text.lines().filter(|l| !l.starts_with("dumpable=")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(rest(got.out()), rest(kernel.out()));
    }

    #[test]
    fn stop_and_continue_in_the_middle() {
        stop_and_continue(NEW);
        stop_and_continue(OLD);
    }

    #[test]
    fn a_feature_that_is_none_is_named() {
        let world = World::new();
        storm_ground(&world);
        let p = world.path("p");
        let got = world.trace(&[(&p, "t")], ["true"]).env("VRIFT_WITHOUT", "haste").run();
        let got = got.expect(125);
        assert!(got.err().contains("there is no haste"), "{got}");
    }

    /// Two openings of equal content, asked about at once: which is which must be known by then.
    #[test]
    fn equal_files_are_told_apart_at_once() {
        let world = World::new();
        for n in 0..300 {
            world.file(format!("src/{n}"), "the same in all\n");
        }
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        // cp compares what it opened with what it looked at before.
        let script = format!("mkdir $TMPDIR/$$ && cp -a {}/. $TMPDIR/$$", p.display());
        for without in [NEW, WITHOUT_WAKE_UP, OLD] {
            let job = world.trace_sh(&[(&p, "t")], &script).env("VRIFT_WITHOUT", without);
            job.run().ok();
        }
    }

    fn stop_and_continue(without: &str) {
        let world = World::new();
        storm_ground(&world);
        let p = world.path("p");
        let script = format!(
            "cd {}; (while :; do cat file; cd sub; cd ..; ./prog; done >/dev/null) & k=$!; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; kill -STOP $k; sleep 0.02; kill -CONT $k; done; sleep 0.1; kill $k; wait $k; cat file",
            p.display()
        );
        let got = world.trace(&[(&p, "t")], ["bash", "-c", &script]);
        let got = got.env("VRIFT_WITHOUT", without).timeout(30).run().ok();
        assert_eq!(got.out(), "storm\n");
    }
}
