//! Containers of runc and crun under `vrift-trace agent`.

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::{Duration, Instant};
    use vrift_tests::containers::{Agent, Bundle, Runtime, rounds};
    use vrift_tests::traces::{done, events, place, traced};
    use vrift_tests::{World, binaries, need};

    const MAKEFILE: &str = "\
all: app
%.o: /vrift/%.c
\tgcc -c -o $@ $<
app: main.o a.o
\tgcc -o $@ $^
\tstrip $@
\t./$@ | cat | tr a-z A-Z
\t/vrift/say.sh one two
\tcd /vrift/sub && cat ../a.h
\techo x 2>/dev/null >/vrift/a.h || echo refused
clean:
\trm -f app *.o
";

    fn world() -> World {
        let world = World::new();
        world.file("tree/Makefile", MAKEFILE);
        world.file(
        "tree/main.c",
        "#include <stdio.h>\n#include \"a.h\"\nint main(void) { printf(\"hello %d\\n\", f()); }\n",
    );
        world.file("tree/a.h", "int f(void);\n");
        world.file("tree/a.c", "#include \"a.h\"\nint f(void) { return 42; }\n");
        world.file("tree/sub/text", "below\n");
        let script = world.file("tree/say.sh", "#!/vrift/dash\necho said \"$@\"\n");
        let shell = fs::canonicalize("/bin/sh").expect("a shell");
        fs::copy(shell, world.path("tree/dash")).expect("a copy");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(script, mode).expect("chmod");
        world.dir("work");
        world.ingest(world.path("tree"), "tree");
        world
    }

    /// Only root can run the agent.
    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    const MOUNTS: &[(&str, &str)] = &[("/vrift", "tree")];

    /// What a trace says but for numbers and times: each operation, and how often.
    fn operations(trace: &Path) -> BTreeMap<String, u32> {
        let mut all = BTreeMap::new();
        for mut event in events(trace) {
            if event["event"] != "op" {
                continue;
            }
            // The environment that a container's first program has is the runtime's.
            let first = event["exec"]["argv"][0] == "/usr/bin/env";
            let Some(op) = event.as_object_mut() else { continue };
            for key in ["t", "n", "process", "event"] {
                op.remove(key);
            }
            if first && let Some(exec) = op.get_mut("exec") {
                exec["env"] = Value::Null;
            }
            *all.entry(without_chance(&event.to_string())).or_insert(0) += 1;
        }
        all
    }

    /// Temporary files have names by chance, those of gcc (ccXXXXXX) and of strip (stXXXXXX), and /proc
    /// has numbers.
    fn without_chance(text: &str) -> String {
        let mut plain = String::new();
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            let temporary = name.len() == 8 && (name.starts_with("cc") || name.starts_with("st"));
            let number = plain.ends_with("/proc/") && name.parse::<u32>().is_ok();
            match (temporary, number) {
                (true, _) => plain.push_str(&format!("{}......{}", &name[..2], &word[8..])),
                (_, true) => plain.push_str(&word[name.len()..]),
                _ => plain.push_str(word),
            }
        }
        plain
    }

    fn build(work: &Path) -> Vec<String> {
        let temporary = format!("TMPDIR={}", work.display());
        let path = "PATH=/usr/bin:/bin";
        ["/usr/bin/env", "-i", path, &temporary, "/usr/bin/make", "-f", "/vrift/Makefile"]
            .map(str::to_owned)
            .to_vec()
    }

    fn expect_built(out: &str) {
        for line in ["HELLO 42", "said one two", "int f(void);", "refused"] {
            assert!(out.lines().any(|told| told == line), "no {line:?} in:\n{out}");
        }
    }

    #[test]
    fn a_build_in_a_container_leaves_the_trace_of_the_native_one() {
        if !is_root() {
            return;
        }
        let runtimes = need!("containers", Runtime::all_usable());
        let world = world();
        let work = world.path("work");
        let argv = build(&work);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let native = world.path("native.jsonl");
        let agent = Agent::start(&world, MOUNTS, &["--strict"]);
        let policy = world.path("agent.toml");
        let options = ["-p", policy.to_str().expect("UTF-8")];
        let told = traced(&world, &native, &options, &argv).cwd(&work).run().ok();
        expect_built(&told.out());
        let native = operations(&native);
        assert!(native.len() > 200, "{} operations", native.len());
        let profile = agent.profile(&world);
        for round in 0..rounds() {
            for runtime in runtimes {
                for no_new_privileges in [true, false] {
                    for name in ["app", "main.o", "a.o"] {
                        let _ = fs::remove_file(work.join(name));
                    }
                    let bundle = Bundle::new(&world, runtime, &argv)
                        .no_new_privileges(no_new_privileges)
                        .profile(profile.clone());
                    let told = bundle.run(&world).run().ok();
                    expect_built(&told.out());
                    agent.expect_said(&format!("{}: ended", bundle.id()), 1);
                    let trace = world.path("traces").join(format!("{}.jsonl", bundle.id()));
                    let contained = operations(&trace);
                    let which =
                        format!("{runtime:?}, noNewPrivileges {no_new_privileges}, {round}");
                    for (op, times) in &native {
                        assert_eq!(contained.get(op), Some(times), "{which}: natively\n{op}");
                    }
                    for (op, times) in &contained {
                        assert_eq!(native.get(op), Some(times), "{which}: in the container\n{op}");
                    }
                    bundle.delete(&world);
                }
            }
        }
    }

    #[test]
    fn create_start_and_exec_are_supervised() {
        if !is_root() {
            return;
        }
        for runtime in Runtime::ALL {
            let runtime = need!("exec into a container", runtime.usable());
            let world = world();
            let agent = Agent::start(&world, MOUNTS, &[]);
            let bundle = Bundle::new(&world, runtime, &["/bin/sleep", "600"])
                .no_new_privileges(runtime == Runtime::Runc)
                .profile(agent.profile(&world));
            bundle.begin(&world, &["create"]);
            bundle.call(&world, "start", &[]).run().ok();
            agent.expect_said(": supervised", 1);
            // The container's own numbers and paths, in /proc too.
            let script = "cat /vrift/a.h; /vrift/say.sh again; cd /vrift/sub; cat ../../proc/self/comm; \
                      readlink /proc/self/cwd; cat ../../proc/1/comm; ls -a /dev";
            let told = bundle.call(&world, "exec", &["/bin/sh", "-c", script]).run().ok();
            let out = told.out();
            let lines: Vec<&str> = out.lines().collect();
            assert_eq!(lines[0], "int f(void);", "{out}");
            assert_eq!(lines[1..5], ["said again", "cat", "/vrift/sub", "sleep"], "{out}");
            agent.expect_said(": ended", 1);
            // It took nothing away from the container, and left nothing there.
            let left = bundle.call(&world, "exec", &["/bin/ls", "-a", "/dev"]).run().ok();
            let left = left.out().lines().filter(|name| name.starts_with(".vrift")).count();
            assert_eq!(left, 1, "the container's own");
            let trace = world.path("traces").join(format!("{}.2.jsonl", bundle.id()));
            let told = events(&trace);
            let read = done(&told, "read").any(|op| place(op) == "/vrift/a.h");
            assert!(read, "{told:#?}");
            bundle.call(&world, "kill", &["KILL"]).run().ok();
            bundle.expect_stopped(&world);
            agent.expect_said(": ended", 3);
            bundle.delete(&world);
            drop(agent);
        }
    }

    /// How many the agent has open.
    fn descriptors(agent: &Agent) -> usize {
        fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("/proc").count()
    }

    #[test]
    fn eight_containers_at_once() {
        if !is_root() {
            return;
        }
        let runtime = need!("eight containers", Runtime::Crun.usable().or(Runtime::Runc.usable()));
        let world = world();
        let agent = Agent::start(&world, MOUNTS, &[]);
        let profile = agent.profile(&world);
        let before = descriptors(&agent);
        let script = "i=0; while [ $i -lt 20 ]; do cat /vrift/a.h >/dev/null && /vrift/say.sh $i; \
                  i=$((i+1)); done";
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    let bundle = Bundle::new(&world, runtime, &["/bin/sh", "-c", script])
                        .profile(profile.clone());
                    let world = &world;
                    scope.spawn(move || {
                        let told = bundle.run(world).run().ok();
                        (told.out().lines().count(), told.out().contains("said 19"), bundle)
                    })
                })
                .collect();
            for one in all {
                let (lines, last, bundle) = one.join().expect("a container");
                assert!(lines == 20 && last, "{lines} lines");
                bundle.delete(&world);
            }
        });
        agent.expect_said(": ended", 8);
        let until = Instant::now() + Duration::from_secs(10);
        while descriptors(&agent) != before {
            assert!(Instant::now() < until, "{} descriptors, {before} before", descriptors(&agent));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(agent.supervisors(), Vec::<i32>::new());
    }

    #[test]
    fn whoever_dies_no_container_goes_on_half_supervised() {
        if !is_root() {
            return;
        }
        let runtime = need!("the agent dies", Runtime::Runc.usable().or(Runtime::Crun.usable()));
        let world = world();
        let start = |agent: &Agent| {
            let script = "while :; do cat /vrift/a.h >/dev/null; done";
            let bundle = Bundle::new(&world, runtime, &["/bin/sh", "-c", script])
                .profile(agent.profile(&world));
            bundle.begin(&world, &["run", "-d"]);
            agent.expect_said(": supervised", 1);
            assert_eq!(bundle.status(&world), "running");
            bundle
        };
        // Its supervisor.
        let agent = Agent::start(&world, MOUNTS, &[]);
        let bundle = start(&agent);
        let supervisors = agent.supervisors();
        assert_eq!(supervisors.len(), 1);
        kill(supervisors[0]);
        bundle.expect_stopped(&world);
        agent.expect_said("its supervisor was killed; the container is ended", 1);
        bundle.delete(&world);
        drop(agent);
        // The agent.
        let mut agent = Agent::start(&world, MOUNTS, &[]);
        let bundle = start(&agent);
        agent.kill();
        bundle.expect_stopped(&world);
        bundle.delete(&world);
        agent.expect_said(": ended", 1);
        drop(agent);
        // An agent that is told to end, in the place of one that left its socket behind.
        fs::remove_file(world.path("agent.sock")).expect("left behind");
        let agent = Agent::start(&world, MOUNTS, &[]);
        let bundle = start(&agent);
        drop(agent);
        bundle.expect_stopped(&world);
        bundle.delete(&world);
        // One that shares this machine's process numbers.
        let agent = Agent::start(&world, MOUNTS, &[]);
        let script = "(setsid sh -c 'while :; do cat /vrift/a.h >/dev/null; done' &); sleep 600";
        let mut bundle =
            Bundle::new(&world, runtime, &["/bin/sh", "-c", script]).profile(agent.profile(&world));
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|namespace| namespace["type"] != "pid");
        bundle.begin(&world, &["run", "-d"]);
        agent.expect_said(": supervised", 1);
        kill(agent.supervisors()[0]);
        bundle.expect_stopped(&world);
        agent.expect_said("the container is ended with it", 1);
        let until = Instant::now() + Duration::from_secs(10);
        while !processes_of(&bundle).is_empty() {
            assert!(Instant::now() < until, "left: {:?}", processes_of(&bundle));
            std::thread::sleep(Duration::from_millis(5));
        }
        bundle.delete(&world);
        drop(agent);
        // Unless it was said otherwise.
        let mut agent = Agent::start(&world, MOUNTS, &["--outlive"]);
        let bundle = start(&agent);
        agent.kill();
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(bundle.status(&world), "running");
        let told = agent.log();
        bundle.call(&world, "kill", &["KILL"]).run().ok();
        bundle.expect_stopped(&world);
        agent.expect_said(": ended", 1);
        assert!(!told.contains("ended"), "{told}");
        bundle.delete(&world);
    }

    /// Processes in the container's control group.
    fn processes_of(bundle: &Bundle) -> Vec<String> {
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let inside = all.map(|entry| entry.path()).filter(|dir| {
            fs::read_to_string(dir.join("cgroup")).is_ok_and(|group| group.contains(bundle.id()))
        });
        let statuses = inside.filter_map(|dir| fs::read_to_string(dir.join("status")).ok());
        statuses.filter(|status| !status.contains("State:\tZ")).collect()
    }

    fn kill(pid: i32) {
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
    }

    #[test]
    fn junk_is_refused_and_nothing_is_left_of_a_thousand_connections() {
        if !is_root() {
            return;
        }
        let runtime =
            need!("junk for the agent", Runtime::Crun.usable().or(Runtime::Runc.usable()));
        let world = world();
        let agent = Agent::start(&world, MOUNTS, &[]);
        let before = descriptors(&agent);
        let state = json!({
            "ociVersion": "1.0.2", "fds": ["seccompFd"], "pid": 1,
            "state": {"ociVersion": "1.0.2", "id": "c", "status": "creating", "pid": 1, "bundle": "/"},
        });
        let whole = state.to_string();
        for round in 0..1000 {
            let mut connection = UnixStream::connect(&agent.socket).expect("it listens");
            let sent = match round % 4 {
                0 => "",
                1 => "no JSON at all",
                2 => &whole,
                _ => &whole[..whole.len() / 2],
            };
            // It may have been refused before all was sent.
            let _ = connection.write_all(sent.as_bytes());
        }
        agent.expect_said(
            "a connection was refused: its message is no container process state",
            500,
        );
        agent.expect_said("a connection was refused: its message came without descriptor 0", 250);
        let lines = agent.log().lines().count();
        assert_eq!(lines, 751, "one line for each: {}", agent.log());
        let until = Instant::now() + Duration::from_secs(10);
        while descriptors(&agent) != before {
            assert!(Instant::now() < until, "{} descriptors, {before} before", descriptors(&agent));
            std::thread::sleep(Duration::from_millis(10));
        }
        let bundle = Bundle::new(&world, runtime, &["/bin/cat", "/vrift/a.h"])
            .profile(agent.profile(&world));
        assert_eq!(bundle.run(&world).run().ok().out(), "int f(void);\n");
        bundle.delete(&world);
    }

    #[test]
    fn calls_that_a_profile_lets_pass_are_named_and_refused_by_strict() {
        if !is_root() {
            return;
        }
        let runtime = need!("the loaded filter", Runtime::Runc.usable().or(Runtime::Crun.usable()));
        let world = world();
        for strict in [false, true] {
            let agent = Agent::start(&world, MOUNTS, if strict { &["--strict"] } else { &[] });
            let mut profile = agent.profile(&world);
            let rules = profile["syscalls"].as_array_mut().expect("rules");
            for rule in rules.iter_mut() {
                let names = rule["names"].as_array_mut().expect("names");
                names.retain(|name| name != "readlinkat" && name != "truncate");
            }
            rules.push(json!({"names": ["readlinkat", "truncate"], "action": "SCMP_ACT_ALLOW"}));
            let bundle = Bundle::new(&world, runtime, &["/bin/echo", "on"]).profile(profile);
            let told = bundle.run(&world).run();
            agent.expect_said("its filter does not ask about readlinkat truncate: ", 1);
            assert_eq!(told.out().contains("on"), !strict, "{told}");
            assert_eq!(told.code() == 0, !strict, "{told}");
            bundle.delete(&world);
        }
    }

    #[test]
    fn a_container_in_a_user_namespace_sees_its_own_root_as_the_owner() {
        if !is_root() {
            return;
        }
        let runtime = need!("a user namespace", Runtime::Runc.usable());
        let world = world();
        let agent = Agent::start(&world, MOUNTS, &[]);
        let script = "stat -c '%u %g %a' /vrift/a.h; /vrift/say.sh so; cp /vrift/a.h /tmp/scratch/h; \
                  stat -c '%u' /tmp/scratch/h; cat /vrift/a.h";
        let mut bundle =
            Bundle::new(&world, runtime, &["/bin/sh", "-c", script]).profile(agent.profile(&world));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let linux = &mut bundle.config["linux"];
        linux["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        let rootfs = bundle.dir.join("rootfs");
        // Its root has to get there.
        for dir in rootfs.ancestors().take_while(|dir| *dir != Path::new("/tmp")) {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(dir, mode).expect("chmod");
        }
        bundle.config["process"]["cwd"] = "/".into();
        world.native(["chown", "-R", "100000:100000"]).arg(&rootfs).run().ok();
        let told = bundle.run(&world).run().ok();
        assert_eq!(told.out(), "0 0 644\nsaid so\n0\nint f(void);\n", "{}", agent.log());
        bundle.delete(&world);
    }

    #[test]
    fn changes_are_committed_and_rules_hold_in_a_container() {
        if !is_root() {
            return;
        }
        let runtime = need!("an overlay", Runtime::Crun.usable().or(Runtime::Runc.usable()));
        let world = world();
        let policy = "version = 1\n[[mount]]\nat = \"/vrift\"\nmanifest = \"tree\"\n\
                      mode = \"overlay\"\non_exit = \"commit:changed\"\n\
                      [[rule]]\npaths = [\"/tmp/scratch/secret\"]\naccess = \"hide\"\n";
        let agent = Agent::with_policy(&world, policy, &["--strict"]);
        let script = "cd /vrift; gcc -c a.c && mv a.o sub && cp /bin/echo sub/say && sub/say ran; \
                      echo x >>a.h; rm main.c; cd /tmp/scratch; mkdir secret; ls -d secret; \
                      mount -t tmpfs x /tmp/scratch 2>/dev/null; echo mount $?";
        let bundle =
            Bundle::new(&world, runtime, &["/bin/sh", "-c", script]).profile(agent.profile(&world));
        let told = bundle.run(&world).run().ok();
        assert_eq!(told.out(), "ran\nmount 32\n", "{told}");
        agent.expect_said("committed: changed", 1);
        agent.expect_said(": ended", 1);
        let changed = world.vrift(["diff", "tree", "changed"]).run();
        let changed = changed.out();
        for line in ["sub/a.o", "sub/say", "a.h", "main.c"] {
            assert!(changed.contains(line), "no {line} in {changed}");
        }
        world.remember();
        bundle.delete(&world);
    }

    #[test]
    fn a_supervisor_in_a_container_says_in_one_line_that_there_is_one() {
        if !is_root() {
            return;
        }
        let runtime =
            need!("a nested supervisor", Runtime::Crun.usable().or(Runtime::Runc.usable()));
        let world = world();
        let program = world.path("work/vrift-trace");
        fs::copy(binaries::vrift_trace(), &program).expect("a copy");
        let agent = Agent::start(&world, MOUNTS, &[]);
        let script = format!("{} -- /bin/true; echo status $?", program.display());
        let bundle = Bundle::new(&world, runtime, &["/bin/sh", "-c", &script])
            .profile(agent.profile(&world));
        let told = bundle.run(&world).run().ok();
        assert_eq!(told.out(), "status 125\n");
        assert_eq!(told.err().lines().count(), 1, "{told}");
        assert!(told.err().contains("EBUSY") && told.err().contains("already"), "{told}");
        bundle.delete(&world);
    }

    #[test]
    fn what_is_asked_for_wrongly_is_said_in_one_line() {
        let world = World::new();
        let run = |args: &[&str]| world.native([binaries::vrift_trace()]).args(args).run();
        let told = run(&["profile", "notify", "--listener", "a.sock"]);
        assert_eq!(told.code(), 125, "{told}");
        assert!(told.err().contains("absolute path"), "{told}");
        let told = run(&["profile", "notify", "--listener", "/a", "--metadata", "x"]);
        assert!(told.code() == 125 && told.err().contains("NAME=VALUE"), "{told}");
        let policy =
            world.file("p.toml", "version = 1\n[[rule]]\npaths = [\"~/x\"]\naccess = \"hide\"\n");
        let policy = policy.to_str().expect("UTF-8");
        let socket = world.path("s");
        let told = run(&["agent", "--socket", socket.to_str().expect("UTF-8"), "--policy", policy]);
        assert_eq!((told.code(), told.err().lines().count()), (125, 1), "{told}");
        let reason = match is_root() {
            true => "p.toml:3: ~/x: ",
            false => "only root",
        };
        assert!(told.err().contains(reason), "{told}");
        if !is_root() {
            return;
        }
        let policy = world.file("q.toml", "version = 1\n");
        let policy = policy.to_str().expect("UTF-8");
        let taken = world.file("taken", "");
        let told = run(&["agent", "--socket", taken.to_str().expect("UTF-8"), "--policy", policy]);
        assert!(told.code() == 125 && told.err().contains("something else is there"), "{told}");
    }
}
