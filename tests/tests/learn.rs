//! `vrift-trace learn`: a policy from a job, the job under it again, and what it refuses.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use vrift_tests::builds::source;
    use vrift_tests::traces::traced;
    use vrift_tests::{Job, World, binaries, need, skip};

    /// `vrift-trace` with these arguments in `world`'s directory `job`.
    fn trace(world: &World, args: &[&str]) -> Job {
        world.native([binaries::vrift_trace()]).cwd(world.dir("job")).args(args)
    }

    /// Learns `policy` from a script.
    fn learn(world: &World, policy: &Path, script: &str) -> Job {
        let policy = policy.to_str().expect("UTF-8");
        trace(world, &["learn", "-o", policy, "--", "/bin/sh", "-c", script]).timeout(300)
    }

    /// Runs a script by `policy`.
    fn under(world: &World, policy: &Path, script: &str) -> Job {
        let policy = policy.to_str().expect("UTF-8");
        trace(world, &["-p", policy, "--", "/bin/sh", "-c", script]).timeout(300)
    }

    fn policy(world: &World) -> PathBuf {
        world.path("p.toml")
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    const MAKEFILE: &str = "\
OBJECTS = $(patsubst %.c,%.o,$(filter-out src/luac.c,$(wildcard src/*.c)))
lua: $(OBJECTS)
\tgcc -o $@ $^ -lm -ldl
src/%.o: src/%.c
\tgcc -std=gnu99 -O0 -w -DLUA_COMPAT_5_3 -DLUA_USE_LINUX -c -o $@ $<
";

    /// Lua's sources with a makefile, nothing of them built yet.
    fn lua(world: &World, sources: &Path) {
        let _ = fs::remove_dir_all(world.path("job"));
        let job = world.dir("job");
        vrift_tests::tree::copy(&sources.join("src"), &job.join("src"));
        let _ = fs::remove_file(job.join("src/Makefile"));
        world.file("job/Makefile", MAKEFILE);
        world.file("job/src/lua5.4-deb-multiarch.h", "#define DEB_HOST_MULTIARCH \"any\"\n");
    }

    #[test]
    fn a_learnt_policy_passes_the_same_build_and_refuses_an_ssh_key() {
        let name = "learn::a_learnt_policy_passes_the_same_build_and_refuses_an_ssh_key";
        need!(name, skip::program("gcc").and(skip::program("make")));
        let sources = need!(name, source("lua5.4"));
        let world = World::new();
        world.file("home/.ssh/id_ed25519", "a secret\n");
        let policy = policy(&world);
        let build = "make -j2 && ./lua -e 'print(6 * 7)'";
        lua(&world, &sources);
        let said = learn(&world, &policy, build).run().ok();
        assert!(said.out().ends_with("42\n"), "{said}");
        let text = read(&policy);
        for part in ["\"${job}/src/*.c\"", "\"${job}/src/*.o\"", "/cc??????.s\"", "# by make"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(!text.contains("id_ed25519"), "{text}");
        let built = fs::read(world.path("job/lua")).expect("lua");

        lua(&world, &sources);
        let steal = format!("{build} && read -r key <~/.ssh/id_ed25519 && echo \"$key\"");
        let said = under(&world, &policy, &steal).run();
        assert!(said.out().ends_with("42\n"), "the build must go through: {said}");
        assert_ne!(said.code(), 0, "the key was read: {said}");
        assert!(said.err().contains("id_ed25519: No such file"), "{said}");
        assert_eq!(fs::read(world.path("job/lua")).expect("lua"), built);

        let said = trace(&world, &["policy", "check", policy.to_str().expect("UTF-8")]).run().ok();
        assert_eq!(said.out(), "", "the policy has no rule without effect");
        // The same again changes nothing, whatever ran first this time.
        lua(&world, &sources);
        learn(&world, &policy, build).run().ok();
        assert_eq!(read(&policy), text);
    }

    /// Each line of it is of another kind: temporary names, directories, descriptors, listings,
    /// look-ups in vain, programs that were made, links, locks and sockets.
    const KINDS: &str = r#"
        t=$(mktemp -d) && echo x >"$t/x" && cat "$t/x" && rm -r "$t"
        mkdir -p out/deep && echo y >out/deep/y && mv out/deep out/moved && ls out/moved
        printf '#!/bin/sh\necho made\n' >tool && chmod +x tool && ./tool
        [ ! -e /etc/no-such ] && [ ! -e ../none/no-such ] && [ -d /usr ] && echo vain
        ln -s data.1 link && cat link && readlink link && ls
        cp -p data.1 copy && touch -d @1 copy && rm -f copy nothing
        (flock 9 && echo locked) 9>lock
        wc -c </proc/self/comm && head -c 1 /dev/zero | wc -c
        /usr/bin/env true && test -x /bin/ls && test ! -w /proc/version && id -u >/dev/null
        cd sub && cat ../data.1 && cat f && cd .. && echo end
    "#;

    #[test]
    fn every_kind_of_call_is_answered_again_as_it_was() {
        let world = World::new();
        let fresh = || {
            let _ = fs::remove_dir_all(world.path("job"));
            world.file("job/data.1", "data\n");
            world.file("job/sub/f", "f\n");
            world.file("job/unread", "unread\n");
            world.file("outside", "outside\n");
        };
        fresh();
        let script = format!("set -e\n{KINDS}");
        let policy = policy(&world);
        let first = learn(&world, &policy, &script).run().ok();
        fresh();
        let again = under(&world, &policy, &script).run().ok();
        assert_eq!(again.out(), first.out(), "{}", read(&policy));
        assert_eq!(again.err(), "");
        // What was listed but not opened is there, and no more.
        let said = under(&world, &policy, "cat unread").run();
        assert!(said.err().contains("unread: Permission denied"), "{said}");
        let said = under(&world, &policy, "echo z >new || cat ../outside").run();
        assert!(said.code() != 0 && said.out().is_empty(), "{said}");
    }

    #[test]
    fn learning_again_adds_and_keeps_what_somebody_wrote() {
        let world = World::new();
        let (a, b) = (world.file("data/a", "a\n"), world.file("data/b", "b\n"));
        world.file("data/secret", "secret\n");
        let policy = policy(&world);
        let cat = |path: &Path| format!("cat {}", path.display());
        learn(&world, &policy, &cat(&a)).run().ok();
        let said = under(&world, &policy, &cat(&b)).run();
        assert_ne!(said.code(), 0, "b was not learnt yet: {said}");
        let own = format!(
            "# ours\n[[rule]]\npaths = [\"{}\"] # never\naccess = \"hide\"\nreason = \"a secret\"\n",
            world.path("data/secret").display()
        );
        fs::write(&policy, read(&policy) + &own).expect("the policy");
        let said =
            learn(&world, &policy, &format!("{}; cat data/secret ../data/secret; true", cat(&b)));
        let said = said.run().ok();
        assert!(!said.out().contains("secret"), "rules that somebody wrote hold: {said}");
        assert!(said.err().contains("1 calls were refused"), "{said}");
        assert!(read(&policy).contains(&own), "{}", read(&policy));
        let both = format!("{} {}", cat(&a), b.display());
        let said = under(&world, &policy, &both).run().ok();
        assert_eq!(said.out(), "a\nb\n");
        let said = under(&world, &policy, "cat ../data/secret").run();
        assert_ne!(said.code(), 0, "{said}");
    }

    #[test]
    fn a_check_refuses_nothing_and_lists_what_would_be() {
        let world = World::new();
        let (a, b) = (world.file("data/a", "a\n"), world.file("data/b", "b\n"));
        let policy = policy(&world);
        let cat = format!("cat {}", a.display());
        learn(&world, &policy, &cat).run().ok();
        let check = |script: &str| {
            let policy = policy.to_str().expect("UTF-8");
            trace(&world, &["learn", "--check", policy, "--", "/bin/sh", "-c", script]).run()
        };
        let said = check(&cat).ok();
        assert_eq!((said.out().as_str(), said.err().as_str()), ("a\n", ""));
        let said = check(&format!("cat {} /etc/no-such-file; echo x >new", b.display())).expect(1);
        assert_eq!(said.out(), "b\n", "nothing is refused");
        assert!(world.path("job/new").exists());
        let err = said.err();
        assert!(err.contains(&format!("would be refused: read {}: ENOENT", b.display())), "{err}");
        assert!(
            err.contains("p.toml:") && err.contains("cat /") && err.contains("create /"),
            "{err}"
        );
        assert!(!err.contains("refused: probe"), "what isn't there is not refused: {err}");
        check("exit 3").expect(3);
        // A trace tells the same without a job.
        let record = world.path("t.trace");
        traced(&world, &record, &["--quiet"], ["/bin/cat", b.to_str().expect("UTF-8")]).run().ok();
        let (p, t) = (policy.to_str().expect("UTF-8"), record.to_str().expect("UTF-8"));
        let said = trace(&world, &["learn", "--check", p, "--from", t]).run().expect(1);
        assert!(said.err().contains("would be refused: read"), "{said}");
    }

    #[test]
    fn traces_are_learnt_from_without_running_anything() {
        let world = World::new();
        let mut traces = Vec::new();
        for name in ["a", "b"] {
            let file = world.file(format!("data/{name}"), format!("{name}\n"));
            let record = world.path(format!("{name}.trace"));
            traced(&world, &record, &["--quiet"], [Path::new("/bin/cat"), &file])
                .cwd(world.dir("job"))
                .run()
                .ok();
            traces.push(record);
        }
        let policy = policy(&world);
        let files: Vec<&str> = traces.iter().map(|file| file.to_str().expect("UTF-8")).collect();
        let p = policy.to_str().expect("UTF-8");
        trace(&world, &["learn", "-o", p, "--from", files[0], files[1]]).run().ok();
        let said = trace(&world, &["-p", p, "--", "/bin/cat", "../data/a", "../data/b"]).run().ok();
        assert_eq!(said.out(), "a\nb\n");
        let said = trace(&world, &["learn", "-o", "-", "--from", files[1], files[0]]).run().ok();
        assert_eq!(said.out(), read(&policy), "the order does not matter");
    }

    #[test]
    fn mounts_of_the_job_are_in_the_policy() {
        let world = World::new();
        let tool = world.file("src/tool", "#!/bin/sh\ncat \"${0%/*}/f\"\n");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("chmod");
        world.file("src/f", "stored\n");
        world.ingest(world.path("src"), "src");
        let (policy, at) = (policy(&world), world.path("at"));
        let mount = format!("{}=src,mode=overlay", at.display());
        let script =
            format!("cd {0} && ./tool && echo more >>f && ./tool >/dev/null", at.display());
        let p = policy.to_str().expect("UTF-8");
        let said = trace(&world, &["learn", "-o", p, "-m", &mount, "--", "/bin/sh", "-c", &script]);
        assert_eq!(said.run().ok().out(), "stored\n");
        let said = under(&world, &policy, &script).run().ok();
        assert_eq!(said.out(), "stored\n", "{}", read(&policy));
        // The policy's own mount is there when it is learnt from again.
        let before = read(&policy);
        learn(&world, &policy, &script).run().ok();
        assert_eq!(read(&policy), before);
    }

    #[test]
    fn what_can_not_be_done_is_said_in_one_line() {
        let world = World::new();
        let list = world
            .file("list.toml", "version = 1\nrule = [{ paths = [\"/a\"], access = \"deny\" }]\n");
        let wrong = world.file("wrong.toml", "version = 1\n[[rule]]\npath = [\"/a\"]\n");
        let none = world.file("none.toml", "version = 1\n");
        let no_trace = world.file("no.trace", "{}\n");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (list, wrong, none, no_trace) =
            (text(&list), text(&wrong), text(&none), text(&no_trace));
        for (args, expected) in [
            (vec!["-o", list.as_str(), "--", "true"], "write each as [[rule]]"),
            (vec!["-o", &wrong, "--", "touch", "ran"], "wrong.toml:3: unknown key `path`"),
            (vec!["-o", "/no/such/p.toml", "--", "true"], "/no/such/p.toml: No such file"),
            (vec!["--check", &none, "--", "touch", "ran"], "no rule stands in it"),
            (vec!["--check", "/no/such.toml", "--", "touch", "ran"], "/no/such.toml"),
            (vec!["--from", &no_trace], "no.trace:1: "),
            (vec!["--from", "/no/such.trace"], "/no/such.trace"),
        ] {
            let said = trace(&world, &["learn"]).args(&args).run().expect(125);
            let err = said.err();
            assert!(err.contains(expected) && err.lines().count() == 1, "{args:?}: {said}");
        }
        trace(&world, &["learn"]).run().expect(125);
        trace(&world, &["learn", "--from", &no_trace, "--", "true"]).run().expect(125);
        assert!(!world.path("job/ran").exists(), "a mistake is told before anything runs");
    }
}
