//! Podman with profiles that were exported, and with the agent.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::fs;
    use vrift_tests::containers::{Agent, Runtime, rounds};
    use vrift_tests::podman::Podman;
    use vrift_tests::traces::{events, traced};
    use vrift_tests::{World, binaries, need};

    fn world() -> World {
        let world = World::new();
        world.file("work/Makefile", "all: app\n\t./app | cat | tr a-z A-Z\napp: main.o\n\tgcc -o $@ $^\n\tstrip $@\nmain.o: main.c\n\tgcc -c -o $@ $<\nclean:\n\trm -f app main.o\n");
        world.file("work/main.c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); }\n");
        world
    }

    fn script(world: &World) -> String {
        format!("make -s -C {} clean all", world.path("work").display())
    }

    /// The exported profile of the build, without the names that `without` says.
    fn profile(world: &World, runtime: Runtime, form: &str, without: &[&str]) -> String {
        let made = world.native([binaries::vrift_trace()]).args(["profile", "export", "--format"]);
        let made = made.args([form, "--runtime", runtime.name()]).arg(world.path("t")).run().ok();
        let mut profile: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        for rule in profile["syscalls"].as_array_mut().expect("rules") {
            let names = rule["names"].as_array_mut().expect("names");
            names.retain(|name| !without.contains(&name.as_str().unwrap_or_default()));
        }
        let name = format!("{}-{form}-{}.json", runtime.name(), without.len());
        world.file(&name, profile.to_string()).display().to_string()
    }

    #[test]
    fn a_build_runs_under_its_profile() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        need!("a build in podman", Podman::usable());
        let runtimes = need!("a build in podman", Runtime::all_usable());
        let world = world();
        let podman = Podman::new(&world);
        let options = ["-q", "--record-syscalls"];
        traced(&world, &world.path("t"), &options, ["sh", "-c", &script(&world)]).run().ok();
        let script = script(&world);
        let argv = ["/bin/sh", "-c", &script];
        for round in 0..rounds() {
            for runtime in runtimes {
                for form in ["docker", "podman"] {
                    for more in [&[][..], &["--security-opt=no-new-privileges"]] {
                        let run = |without: &[&str]| {
                            let file = profile(&world, runtime, form, without);
                            let profile = format!("--security-opt=seccomp={file}");
                            let mut options = vec![profile.as_str()];
                            options.extend(more);
                            podman.run(&world, runtime, &options, &argv).run()
                        };
                        let told = run(&[]).ok();
                        assert!(told.out().contains("HELLO"), "{runtime:?} {round}: {told:?}");
                    }
                }
                let less = profile(&world, runtime, "docker", &["pipe", "pipe2"]);
                let less = format!("--security-opt=seccomp={less}");
                let told = podman.run(&world, runtime, &[&less], &argv).run();
                assert!(!told.out().contains("HELLO"), "no pipe: {told:?}");
            }
        }
    }

    #[test]
    fn a_build_is_supervised_by_the_agent() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        need!("podman under the agent", Podman::usable());
        let runtimes = need!("podman under the agent", Runtime::all_usable());
        let world = world();
        world.file("tree/include/greeting.h", "#define GREETING \"hello\"\n");
        world.ingest(world.path("tree"), "tree");
        let source =
            "#include <greeting.h>\n#include <stdio.h>\nint main(void) { puts(GREETING); }\n";
        world.file("work/main.c", source);
        let podman = Podman::new(&world);
        let agent = Agent::start(&world, &[("/vrift", "tree")], &[]);
        let profile = world.file("notify.json", agent.profile(&world).to_string());
        let profile = format!("--security-opt=seccomp={}", profile.display());
        let script = format!("export CPATH=/vrift/include; {}", script(&world));
        let mut times = 0;
        for runtime in runtimes {
            for more in [&[][..], &["--security-opt=no-new-privileges"]] {
                let mut options = vec![profile.as_str()];
                options.extend(more);
                let argv = ["/bin/sh", "-c", &script];
                let told = podman.run(&world, runtime, &options, &argv).run().ok();
                assert!(told.out().contains("HELLO"), "{runtime:?} {more:?}: {told:?}");
                times += 1;
                agent.expect_said(": ended", times);
            }
        }
        let traces: Vec<_> = fs::read_dir(world.path("traces")).expect("traces").collect();
        assert_eq!(traces.len(), times);
        for trace in traces {
            let trace = events(&trace.expect("a trace").path());
            let header = trace.iter().any(|event| {
                event["path"] == "/vrift/include/greeting.h" && event["mount"] == "/vrift"
            });
            assert!(header, "the header is in the trace");
        }
    }
}
