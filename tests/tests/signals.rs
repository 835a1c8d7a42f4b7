//! Signals in the middle of calls, and processes that shut themselves off from their debugger.

#[cfg(test)]
mod tests {
    use std::fs;
    use vrift_tests::{Guest, World, guest, need, oracle};

    fn target(world: &World) {
        world.file("src/file", "storm\n");
        world.dir("src/sub");
        fs::copy(
            guest("self", Guest::Dynamic).expect("the plain compiler"),
            world.path("src/prog"),
        )
        .expect("prog");
        world.ingest(world.path("src"), "t");
    }

    fn storm(how: Guest, mode: &str) {
        let name = format!("storm::{how:?}::{mode}");
        let program = need!(&name, guest("storm", how));
        let world = World::new();
        target(&world);
        let p = world.path("p");
        let argv = [program.into_os_string(), p.clone().into(), "3".into(), mode.into()];
        world.trace(&[(&p, "t")], argv).timeout(40).run().ok();
    }

    #[test]
    fn storm_with_restart() {
        storm(Guest::Dynamic, "restart");
    }

    #[test]
    fn storm_without_restart() {
        storm(Guest::Dynamic, "norestart");
    }

    #[test]
    fn storm_on_a_static_program() {
        storm(Guest::Static, "restart");
        storm(Guest::Static, "norestart");
    }

    #[test]
    fn storm_on_a_32_bit_program() {
        storm(Guest::Bits32, "restart");
    }

    #[test]
    fn an_undumpable_program_gets_right_answers() {
        let name = "an_undumpable_program_gets_right_answers";
        let program = need!(name, guest("dumpable", Guest::Dynamic));
        let world = World::new();
        target(&world);
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
        let world = World::new();
        target(&world);
        let p = world.path("p");
        let script = format!(
            "cd {}; (while :; do cat file; cd sub; cd ..; ./prog; done >/dev/null) & k=$!; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; kill -STOP $k; sleep 0.02; kill -CONT $k; done; sleep 0.1; kill $k; wait $k; cat file",
            p.display()
        );
        let got = world.trace(&[(&p, "t")], ["bash", "-c", &script]).timeout(30).run().ok();
        assert_eq!(got.out(), "storm\n");
    }
}
