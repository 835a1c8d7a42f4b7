//! Which system calls a job makes, and the profile that comes of it.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};
    use vrift_tests::containers::{Bundle, Runtime, rounds};
    use vrift_tests::traces::{events, traced};
    use vrift_tests::{World, binaries, need};

    /// What is not handed over.
    const UNTOLD: [&str; 9] = [
        "exit",
        "exit_group",
        "restart_syscall",
        "rt_sigreturn",
        "sigreturn",
        "clone",
        "clone3",
        "fork",
        "vfork",
    ];

    const SCRIPT: &str = "make -s -C WORK clean all && sleep 0.01 & wait $!";

    fn world() -> World {
        let world = World::new();
        world.file("work/Makefile", "all: app\n\t./app | cat | tr a-z A-Z\napp: main.o\n\tgcc -o $@ $^\n\tstrip $@\nmain.o: main.c\n\tgcc -c -o $@ $<\nclean:\n\trm -f app main.o\n");
        world.file("work/main.c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); }\n");
        world
    }

    fn script(world: &World) -> String {
        SCRIPT.replace("WORK", world.path("work").to_str().expect("text"))
    }

    /// Records a run; returns the names of its calls.
    fn record(world: &World, trace: &Path) -> BTreeSet<String> {
        let options = ["-q", "--record-syscalls"];
        let told = traced(world, trace, &options, ["sh", "-c", &script(world)]).run().ok();
        assert!(told.out().contains("HELLO"), "{told:?}");
        let calls = events(trace);
        let calls = calls.iter().filter(|event| event["event"] == "syscall");
        calls.map(|event| event["call"].as_str().expect("a name").to_owned()).collect()
    }

    fn export(args: &[&str], traces: &[&Path]) -> Output {
        let mut command = Command::new(binaries::vrift_trace());
        command.args(["profile", "export"]).args(args).args(traces).output().expect("it runs")
    }

    fn profile_of(args: &[&str], trace: &Path) -> Value {
        let made = export(args, &[trace]);
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        assert_eq!(made.stdout, export(args, &[trace, trace]).stdout, "the same bytes again");
        serde_json::from_slice(&made.stdout).expect("JSON")
    }

    /// The profile with one call less.
    fn without(mut profile: Value, name: &str) -> Value {
        let mut removed = 0;
        for rule in profile["syscalls"].as_array_mut().expect("rules") {
            let names = rule["names"].as_array_mut().expect("names");
            let before = names.len();
            names.retain(|n| n != name);
            removed += before - names.len();
        }
        assert_eq!(removed, 1, "{name} was there once");
        profile
    }

    #[test]
    fn the_calls_are_those_that_strace_says() {
        let strace = need!("the calls that strace says", vrift_tests::skip::program("strace"));
        let world = world();
        let ours = record(&world, &world.path("t"));
        let mut theirs = BTreeSet::new();
        for round in 0..5 {
            let log = world.path(format!("strace.{round}"));
            let mut command = vec![strace.as_os_str().to_owned()];
            command.extend(["-f", "-qq", "-o"].map(Into::into));
            command.push(log.clone().into());
            command.extend(["sh".into(), "-c".into(), script(&world).into()]);
            world.native(command).run().ok();
            for line in fs::read_to_string(log).expect("a log").lines() {
                let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
                let call = call.strip_prefix("<... ").unwrap_or(call);
                let end = call.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                theirs.extend(call.get(..end.unwrap_or(0)).map(str::to_owned));
            }
        }
        theirs.retain(|name| !name.is_empty() && !UNTOLD.contains(&name.as_str()));
        assert!(theirs.len() > 30, "{theirs:?}");
        let missed: Vec<_> = theirs.difference(&ours).collect();
        // A signal that came at another moment is no difference.
        let chance = ["rt_sigsuspend", "futex", "sched_yield", "wait4"];
        let more: Vec<_> =
            ours.difference(&theirs).filter(|n| !chance.contains(&n.as_str())).collect();
        assert!(missed.iter().all(|n| chance.contains(&n.as_str())), "missed {missed:?}");
        assert!(more.is_empty(), "strace does not know of {more:?}");
    }

    #[test]
    fn what_a_profile_would_refuse_is_told_at_once() {
        let world = world();
        let trace = world.path("t");
        record(&world, &trace);
        let whole = profile_of(&["--runtime", "none"], &trace);
        let verify = |name: &str, profile: &Value| {
            let file = world.file(name, profile.to_string());
            let words = [binaries::vrift_trace().into_os_string(), "profile".into()];
            let job = world.native(words).arg("verify").arg(file).arg("--");
            job.args(["sh", "-c", &script(&world)]).run()
        };
        let told = verify("whole", &whole);
        assert_eq!(told.code(), 0, "{told:?}");
        assert!(told.out().contains("HELLO"));
        let less = without(without(without(whole, "pipe2"), "execve"), "rt_sigreturn");
        let told = verify("less", &less);
        assert_eq!(told.code(), 1, "{told:?}");
        assert!(told.out().contains("HELLO"), "the job is not hindered");
        let said = told.err();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(lines[0].contains("refused: execve: SCMP_ACT_ERRNO 38, "), "{said}");
        assert!(
            lines[1].contains("refused: pipe2: SCMP_ACT_ERRNO 38, ")
                && lines[1].contains("(process "),
            "{said}"
        );
        assert!(
            lines[1].ends_with(r#"add {"names":["pipe2"],"action":"SCMP_ACT_ALLOW"}"#),
            "{said}"
        );
        assert!(lines[2].contains("rt_sigreturn"), "{said}");
    }

    #[test]
    fn arguments_and_forms_are_those_asked_for() {
        let world = World::new();
        let trace = world.path("t");
        let options = ["-q", "--record-syscalls"];
        traced(&world, &trace, &options, ["cat", "/etc/passwd"]).run().ok();
        let by_hand = fs::read_to_string(&trace).expect("a trace");
        let first = by_hand.lines().find(|line| line.contains("\"syscall\"")).expect("one");
        let call = |value: u64| {
            let mut event: Value = serde_json::from_str(first).expect("JSON");
            event["call"] = "ioctl".into();
            event["index"] = 1.into();
            event["value"] = value.into();
            format!("{event}\n")
        };
        let (before, end) = by_hand.trim_end().rsplit_once('\n').expect("lines");
        world.file("more", format!("{before}\n{}{}{end}\n", call(0x5401), call(0xc010_7a7a)));
        let more = world.path("more");
        let whole = profile_of(&["--runtime", "none"], &more).to_string();
        assert!(whole.contains("\"ioctl\"") && !whole.contains("3222305402"), "{whole}");
        let narrow = profile_of(&["--runtime", "none", "--arguments"], &more);
        let rules = narrow["syscalls"].as_array().expect("rules");
        let of_ioctl = |rule: &&Value| rule["names"].to_string().contains("\"ioctl\"");
        let ioctl: Vec<_> = rules.iter().filter(of_ioctl).collect();
        assert!(ioctl.iter().all(|r| r["args"][0]["value"] == 0xffff_ffff_u64), "{ioctl:?}");
        assert!(ioctl.iter().any(|r| r["args"][0]["valueTwo"] == 0xc010_7a7a_u64), "{ioctl:?}");
        let unit = export(&["--format", "systemd"], &[&more]);
        let unit = String::from_utf8_lossy(&unit.stdout).into_owned();
        let begins = unit.starts_with("[Service]\nSystemCallFilter=");
        assert!(begins && unit.contains(" openat "), "{unit}");
        let pod = |path| export(&["--format", "k8s", "--localhost-profile", path], &[&more]);
        let said = String::from_utf8_lossy(&pod("profiles/p.json").stderr).into_owned();
        assert!(said.ends_with("    localhostProfile: \"profiles/p.json\"\n"), "{said}");
        for bad in ["/p.json", "../p.json", ""] {
            assert_eq!(pod(bad).status.code(), Some(125), "{bad:?}");
        }
    }

    #[test]
    fn what_was_not_recorded_is_not_exported() {
        let world = World::new();
        let trace = world.path("t");
        traced(&world, &trace, &["-q"], ["true"]).run().ok();
        let made = export(&[], &[&trace]);
        assert_eq!(made.status.code(), Some(125));
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(said.contains("--record-syscalls") && said.lines().count() == 1, "{said}");
    }

    #[test]
    fn a_job_over_a_mount_is_recorded_too() {
        let world = world();
        world.file("tree/f", "content\n");
        world.ingest(world.path("tree"), "tree");
        let trace = world.path("t");
        let at = world.path("mnt");
        let mount = format!("{}=tree,mode=overlay", at.display());
        let at = at.display();
        let script = format!("cp /bin/cat {at}/cat && {at}/cat {at}/f && chmod 600 {at}/f");
        let options = ["-q", "--record-syscalls", "-m", &mount];
        let told = traced(&world, &trace, &options, ["sh", "-c", &script]).run().ok();
        assert_eq!(told.out(), "content\n");
        let calls = events(&trace);
        let has = |name: &str| calls.iter().any(|e| e["event"] == "syscall" && e["call"] == name);
        for name in ["execve", "openat", "read", "fchmodat", "brk", "mmap"] {
            assert!(has(name), "{name}");
        }
        assert!(!has("ptrace") && !has("execveat"), "those were the supervisor's");
    }

    #[test]
    fn a_build_runs_under_its_profile_and_without_a_call_it_does_not() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let runtimes = need!("containers", Runtime::all_usable());
        let world = world();
        let trace = world.path("t");
        record(&world, &trace);
        let script = script(&world);
        let argv = ["/bin/sh", "-c", &script];
        for round in 0..rounds() {
            for runtime in runtimes {
                for no_new_privileges in [true, false] {
                    let name = ["--runtime", runtime.name(), "--no-new-privileges"];
                    let args = if no_new_privileges { &name[..] } else { &name[..2] };
                    let profile = profile_of(args, &trace);
                    let run = |profile: Value| {
                        let bundle = Bundle::new(&world, runtime, &argv)
                            .no_new_privileges(no_new_privileges)
                            .profile(profile);
                        let told = bundle.run(&world).run();
                        bundle.delete(&world);
                        told
                    };
                    let which =
                        format!("{runtime:?}, noNewPrivileges {no_new_privileges}, {round}");
                    let told = run(profile.clone()).ok();
                    assert!(told.out().contains("HELLO"), "{which}: {told:?}");
                    // As podman and containerd do it: made first, started later.
                    let app = world.path("work/app");
                    fs::remove_file(&app).expect("it was built");
                    let bundle = Bundle::new(&world, runtime, &argv)
                        .no_new_privileges(no_new_privileges)
                        .profile(profile.clone());
                    bundle.begin(&world, &["create"]);
                    bundle.call(&world, "start", &[]).run().ok();
                    bundle.expect_stopped(&world);
                    bundle.delete(&world);
                    assert!(app.exists(), "{which}: created and started");
                    if round == 0 {
                        let told = run(without(profile.clone(), "pipe2"));
                        assert!(!told.out().contains("HELLO"), "{which}, no pipe2: {told:?}");
                        // runc needs more than the job does; crun, with noNewPrivileges, does not.
                        if runtime == Runtime::Runc || !no_new_privileges {
                            let told = run(profile_of(&["--runtime", "none"], &trace));
                            let out = told.out();
                            assert!(!out.contains("HELLO"), "{which}, for no runtime: {told:?}");
                        }
                        let told = run(without(profile, "execve"));
                        assert!(!told.out().contains("HELLO"), "{which}, no execve: {told:?}");
                    }
                }
            }
        }
    }
}
