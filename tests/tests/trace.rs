//! Traces: what is in them, and that it is the truth.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use vrift_tests::skip::program;
    use vrift_tests::traces::{
        about, done, events, expect_end, files_read, files_read_by_strace, of, place, traced,
    };
    use vrift_tests::{World, builds, need, skip, tree};

    fn project(world: &World) {
        world.file(
            "p/Makefile",
            "app: a.o b.o\n\tcc -o $@ a.o b.o\n%.o: %.c\n\tcc -c $< -o $@\na.o b.o: t.h\n",
        );
        world.file("p/t.h", "#include <stdio.h>\nint b(void);\n");
        world.file(
            "p/a.c",
            "#include \"t.h\"\nint main(void) { printf(\"%d\\n\", b()); return 0; }\n",
        );
        world.file(
            "p/b.c",
            "#include \"t.h\"\n#include \"sub/../t.h\"\nint b(void) { return 7; }\n",
        );
        world.dir("p/sub");
        world.dir("tmp-of-the-build");
    }

    #[test]
    fn each_operation_is_told_as_it_is() {
        let world = World::new();
        let trace = world.path("t");
        let script = "echo hello >new; echo more >>new; cat new; mkdir d; mv new d/old; ln d/old d/two; \
                      ln -s d/two link; cat link; chmod 600 link; rm d/two; rmdir d 2>/dev/null; \
                      cat nowhere 2>/dev/null; ls d; exit 3";
        traced(&world, &trace, &["-q"], ["sh", "-c", script]).run().expect(3);
        let events = events(&trace);
        let is = |call: &str, path: &str, access: &str| {
            let found = of(&events, call, path);
            assert!(found.iter().any(|e| e["access"] == access), "{access} {path}: {found:#?}");
        };
        is("open", "/new", "create");
        is("open", "/new", "write");
        is("open", "/new", "read");
        is("mkdir", "/d", "create");
        is("rename", "/new", "delete");
        is("rename", "/d/old", "create");
        is("link", "/d/old", "read");
        is("link", "/d/two", "create");
        is("symlink", "/link", "create");
        is("open", "/d/two", "read");
        is("fchmodat", "/d/two", "write");
        is("unlink", "/d/two", "delete");
        is("open", "/nowhere", "probe");
        is("open", "/d", "list");
        let rename: Vec<_> = events
            .iter()
            .filter(|e| e["call"].as_str().is_some_and(|c| c.starts_with("rename")))
            .collect();
        assert_eq!(rename.len(), 2);
        assert_eq!(rename[0]["n"], rename[1]["n"]);
        assert_eq!((&rename[0]["kind"], &rename[1]["kind"]), (&"file".into(), &"file".into()));
        assert!(rename.iter().all(|e| e["looked"] == true));
        assert_eq!(of(&events, "open", "/nowhere")[0]["err"], "ENOENT");
        let shell = events.iter().find(|e| e["event"] == "start").expect("a process");
        let end = events.iter().find(|e| e["event"] == "exit" && e["process"] == shell["process"]);
        expect_end(&events, end.expect("its end"), "status", 3);
        let last = events.last().expect("events");
        assert_eq!((&last["event"], &last["status"]), (&"end".into(), &3.into()));
        assert_eq!(last["events"], events.len() - 1);
    }

    #[test]
    fn processes_have_parents_programs_and_ends() {
        let world = World::new();
        let trace = world.path("t");
        world.file("run.sh", "#!/bin/sh\nexec cat \"$1\"\n");
        let script = "chmod +x run.sh; A=1 ./run.sh run.sh >out; (kill -9 $$)";
        traced(&world, &trace, &["-q"], ["sh", "-c", script]).run().expect(137);
        let events = events(&trace);
        let exec = |name: &str| {
            let mut all = done(&events, "exec");
            all.find(|e| place(e).as_str().is_some_and(|p| p.ends_with(name))).expect(name)
        };
        let (script, cat) = (exec("/run.sh"), exec("/cat"));
        assert_eq!(script["process"], cat["process"], "exec keeps the process");
        assert_eq!(script["exec"]["argv"], serde_json::json!(["./run.sh", "run.sh"]));
        assert_eq!(
            script["exec"]["cwd"],
            world.path("").to_str().expect("text").trim_end_matches('/')
        );
        let interpreters = script["exec"]["interpreters"].to_string();
        assert!(interpreters.contains("sh") && interpreters.contains("ld-"), "{interpreters}");
        let shell = done(&events, "exec").next().expect("the shell");
        assert_eq!(script["exec"]["env"], cat["exec"]["env"]);
        assert_ne!(script["exec"]["env"], shell["exec"]["env"], "A=1 is new");
        let start = |process: &Value| {
            events
                .iter()
                .find(|e| e["event"] == "start" && e["process"] == *process)
                .expect("start")
        };
        assert_eq!(start(&cat["process"])["parent"], shell["process"]);
        assert!(start(&shell["process"]).get("parent").is_none());
        let exit = |process: &Value| {
            events.iter().find(|e| e["event"] == "exit" && e["process"] == *process).expect("exit")
        };
        expect_end(&events, exit(&cat["process"]), "status", 0);
        expect_end(&events, exit(&shell["process"]), "signal", 9);
    }

    #[test]
    fn names_that_are_no_text_come_back_byte_for_byte() {
        let world = World::new();
        let trace = world.path("t");
        let script = "f=$(printf 'a\\377b\\nc'); echo >\"$f\"; cat \"$f\"";
        traced(&world, &trace, &["-q"], ["sh", "-c", script]).run().ok();
        let events = events(&trace);
        let name = serde_json::json!({ "hex": "61ff620a63" });
        assert!(done(&events, "create").any(|e| e["path"] == name));
        assert!(done(&events, "exec").any(|e| e["exec"]["argv"][1] == name));
    }

    #[test]
    fn a_mount_is_told_with_blobs_and_refusals() {
        let world = World::new();
        world.file("src/sub/f", "content");
        world.ingest(world.path("src"), "src");
        let at = world.path("mnt");
        let policy = world.file(
            "p.toml",
            format!(
                "version = 1\n\n[[mount]]\nat = {:?}\nmanifest = \"src\"\n",
                at.to_str().expect("text")
            ),
        );
        let trace = world.path("t");
        let script = "cd mnt/sub && cat f; cat ../nope; echo >../new; mv f g; cd ../..; ln mnt/sub/f here; ls mnt >/dev/null";
        let options = ["-q", "-p", policy.to_str().expect("text")];
        traced(&world, &trace, &options, ["sh", "-c", script]).run().ok();
        let events = events(&trace);
        let read = of(&events, "open", "/mnt/sub/f");
        assert_eq!(read[0]["mount"], at.to_str().expect("text"));
        assert_eq!(read[0]["blob"], blake3::hash(b"content").to_hex().as_str());
        assert!(read[0].get("looked").is_none(), "this was answered: {}", read[0]);
        assert_eq!(of(&events, "open", "/mnt/nope")[0]["access"], "probe");
        for (call, path, errno) in [
            ("open", "/mnt/new", "EROFS"),
            ("rename", "/mnt/sub/f", "EROFS"),
            ("link", "/mnt/sub/f", "EXDEV"),
        ] {
            let refused = of(&events, call, path);
            let refused = refused
                .iter()
                .find(|e| e.get("refused").is_some())
                .unwrap_or_else(|| panic!("{call} {path}: {refused:#?}"));
            assert_eq!(refused["err"], errno);
            assert_eq!(refused["refused"]["line"], 4, "{refused}");
            assert!(refused["refused"]["file"].as_str().is_some_and(|f| f.ends_with("p.toml")));
        }
        assert!(done(&events, "list").any(|e| place(e) == at.to_str().expect("text")));
        let job = &events[0]["mounts"][0];
        assert_eq!((&job["line"], &job["mode"]), (&4.into(), &"read-only".into()));
        let said = about(&world, "explain", &trace, ["mnt/new"]).run().ok().out();
        for part in ["EROFS", "p.toml:4", "mode = \"overlay\"", "open"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_rule_is_named_with_its_line_and_what_would_allow_it() {
        let world = World::new();
        for name in ["secret", "kept", "tool"] {
            world.file(name, "#!/bin/sh\n");
        }
        let text = "version = 1\n\n[[rule]]\npaths = [\"${job}/secret\"]\naccess = \"deny\"\nreason = \"keys\"\n\
                    [[rule]]\npaths = [\"${job}/kept\"]\naccess = \"read-only\"\n\
                    [[rule]]\npaths = [\"${job}/tool\"]\nexec = false\n";
        let policy = world.file("p.toml", text);
        let trace = world.path("t");
        let options = ["--summary", "-p", policy.to_str().expect("text")];
        let script = "chmod +x tool; cat secret; cat kept; echo >kept; ./tool; true";
        let ran = traced(&world, &trace, &options, ["sh", "-c", script]).run().ok();
        let events = events(&trace);
        for (path, errno, line, hint) in [
            ("/secret", "EACCES", "p.toml:4", "access = \"read-only\""),
            ("/kept", "EROFS", "p.toml:8", "access = \"read-write\""),
            ("/tool", "EACCES", "p.toml:11", "exec = true"),
        ] {
            let told = events.iter().find(|e| {
                e.get("refused").is_some() && place(e).as_str().is_some_and(|p| p.ends_with(path))
            });
            let told = told.unwrap_or_else(|| panic!("{path} in {events:#?}"));
            assert!(told["err"] == errno && told.get("mount").is_none(), "{told}");
            let said = about(&world, "explain", &trace, [&path[1..]]).run().ok().out();
            assert!(said.contains(line) && said.contains(hint), "{path}: {said}");
            let summed =
                ran.err().lines().any(|l| l.contains(path) && l.contains(line) && l.contains(hint));
            assert!(summed, "{path}: {ran}");
        }
        let secret = events.iter().find(|e| e["refused"]["why"] == "keys").expect("the reason");
        assert_eq!(secret["access"], "read");
        assert!(done(&events, "read").any(|e| e["path"] == "kept"));
        assert!(
            done(&events, "exec").all(|e| !e["exec"]["interpreters"].to_string().contains("tool"))
        );
    }

    #[test]
    fn a_writable_mount_is_told_as_a_real_directory_is() {
        let world = World::new();
        world.file("src/sub/f", "content");
        world.ingest(world.path("src"), "src");
        let trace = world.path("t");
        let at = world.path("mnt");
        let mount = format!("{}=src,mode=overlay", at.display());
        let script = "cd mnt; cat sub/f; echo >>sub/f; cat sub/f; echo >new; mv new sub/moved; mkdir d; \
                      ln -s new d/link; rm sub/f; chmod 600 sub/moved; cat gone; mv sub other";
        let ran = traced(&world, &trace, &["-q", "-m", &mount], ["sh", "-c", script]).run().ok();
        assert_eq!(ran.out(), "contentcontent\n");
        let events = events(&trace);
        let is = |call: &str, path: &str, access: &str| {
            let found = of(&events, call, path);
            let told = found.iter().find(|e| e["access"] == access);
            let told = told.unwrap_or_else(|| panic!("{access} {path}: {found:#?}"));
            assert!(
                told["mount"] == at.to_str().expect("text") && told.get("err").is_none(),
                "{told}"
            );
            assert!(told.get("looked").is_none(), "{told}");
            (*told).clone()
        };
        let read = is("open", "/mnt/sub/f", "read");
        assert_eq!(read["blob"], blake3::hash(b"content").to_hex().as_str());
        is("open", "/mnt/sub/f", "write");
        let again = of(&events, "open", "/mnt/sub/f");
        assert!(again.last().expect("a read").get("blob").is_none(), "it is another content now");
        is("open", "/mnt/new", "create");
        is("rename", "/mnt/sub/moved", "create");
        assert_eq!(is("mkdir", "/mnt/d", "create")["kind"], "dir");
        assert_eq!(is("symlink", "/mnt/d/link", "create")["kind"], "link");
        is("unlink", "/mnt/sub/f", "delete");
        is("fchmodat", "/mnt/sub/moved", "write");
        assert_eq!(of(&events, "open", "/mnt/gone")[0]["access"], "probe");
        is("rename", "/mnt/other", "create");
        // The job made what it left behind, wherever that went.
        let said = about(&world, "report", &trace, ["--format", "json"]).run().ok();
        let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let outputs = said["outputs"].to_string();
        assert!(
            outputs.contains("/mnt/other/moved") && outputs.contains("/mnt/d/link"),
            "{outputs}"
        );
        assert!(!outputs.contains("/mnt/sub/"), "{outputs}");
    }

    #[test]
    fn what_the_policy_leaves_out_is_not_there() {
        let world = World::new();
        let policy = world.file("p.toml", "version = 1\n[trace]\nreads = false\nprobes = false\n");
        let trace = world.path("t");
        let options = ["-q", "-p", policy.to_str().expect("text")];
        traced(&world, &trace, &options, ["sh", "-c", "echo >w; cat w p.toml nowhere"])
            .run()
            .expect(1);
        let events = events(&trace);
        assert!(events.iter().all(|e| {
            !["read", "list", "stat", "probe"].contains(&e["access"].as_str().unwrap_or(""))
        }));
        assert!(done(&events, "create").any(|e| e["path"] == "w"));
    }

    fn clean(dir: &Path) {
        for name in ["a.o", "b.o", "app"] {
            fs::remove_file(dir.join(name)).expect("what was built");
        }
    }

    fn expect_same(theirs: &BTreeSet<PathBuf>, ours: &BTreeSet<PathBuf>, least: usize) {
        assert!(theirs.len() >= least, "strace saw {theirs:#?}");
        let missing: Vec<_> = theirs.difference(ours).collect();
        let more: Vec<_> = ours.difference(theirs).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "missing {missing:#?}\nmore than strace says {more:#?}"
        );
    }

    #[test]
    fn the_files_read_are_those_that_strace_says() {
        let name = "trace::the_files_read_are_those_that_strace_says";
        let strace = need!(name, program("strace"));
        let world = World::new();
        project(&world);
        let (p, tmp) = (world.path("p"), world.path("tmp-of-the-build"));
        let logs = world.dir("logs");
        let calls = "trace=open,openat,openat2,execve,execveat";
        world
            .native([
                strace.as_os_str(),
                "-ff".as_ref(),
                "-y".as_ref(),
                "-qq".as_ref(),
                "-e".as_ref(),
                calls.as_ref(),
                "-o".as_ref(),
            ])
            .arg(logs.join("log"))
            .args(["make", "-j2", "-C"])
            .arg(&p)
            .env("TMPDIR", &tmp)
            .run()
            .ok();
        clean(&p);
        let theirs = files_read_by_strace(&logs);
        let trace = world.path("t");
        traced(&world, &trace, &["-q"], ["make", "-j2", "-C"])
            .arg(&p)
            .env("TMPDIR", &tmp)
            .run()
            .ok();
        expect_same(&theirs, &files_read(&events(&trace)), 40);
        clean(&p);
        // And the same build over a projection of nothing that it needs: other ways through the
        // supervisor, the same answer.
        world.file("other/x", "");
        world.ingest(world.path("other"), "other");
        let mount = format!("{}=other", world.path("elsewhere").display());
        let options = ["-q", "-m", &mount];
        traced(&world, &trace, &options, ["make", "-j2", "-C"])
            .arg(&p)
            .env("TMPDIR", &tmp)
            .run()
            .ok();
        expect_same(&theirs, &files_read(&events(&trace)), 40);
    }

    #[test]
    fn the_files_that_redis_reads_are_those_that_strace_says() {
        let name = "trace::the_files_that_redis_reads_are_those_that_strace_says";
        let strace = need!(name, program("strace"));
        let source = need!(name, builds::source("redis"));
        let world = World::new();
        let tmp = world.dir("tmp-of-the-build");
        let place = world.path("redis");
        let make = [
            "make",
            "-C",
            "src",
            "redis-server",
            "-j2",
            "MALLOC=libc",
            "OPTIMIZATION=-O0",
            "USE_SYSTEMD=no",
        ];
        let logs = world.dir("logs");
        tree::copy(&source, &place);
        world
            .native([
                strace.as_os_str(),
                "-ff".as_ref(),
                "-y".as_ref(),
                "-qq".as_ref(),
                "--seccomp-bpf".as_ref(),
                "-e".as_ref(),
                "trace=open,openat,openat2,execve,execveat".as_ref(),
                "-o".as_ref(),
            ])
            .arg(logs.join("log"))
            .args(make)
            .cwd(&place)
            .env("TMPDIR", &tmp)
            .timeout(600)
            .run()
            .ok();
        let theirs = files_read_by_strace(&logs);
        fs::remove_dir_all(&place).expect("make room");
        tree::copy(&source, &place);
        let trace = world.path("t");
        traced(&world, &trace, &["-q"], make)
            .cwd(&place)
            .env("TMPDIR", &tmp)
            .timeout(600)
            .run()
            .ok();
        expect_same(&theirs, &files_read(&events(&trace)), 300);
        // A newcomer's question: who wrote this file, and what did it read?
        let said = about(&world, "explain", &trace, ["src/server.o"]).run().ok().out();
        assert!(said.contains("create as "), "{said}");
        let page = world.path("page.html");
        about(&world, "report", &trace, [Path::new("--html"), &page]).run().ok();
        assert!(fs::metadata(&page).expect("the page").len() < 20 << 20);
    }

    #[test]
    fn nothing_is_lost_when_the_job_is_killed() {
        let world = World::new();
        let trace = world.path("t");
        let script = "i=0; while [ $i -lt 300 ]; do : >f$i; i=$((i+1)); done; kill -9 0";
        // The whole group dies, and the supervisor is not in it.
        traced(&world, &trace, &["-q"], ["setsid", "-w", "sh", "-c", script]).run().expect(137);
        let events = events(&trace);
        for i in 0..300 {
            let name = format!("f{i}");
            assert!(done(&events, "create").any(|e| e["path"] == *name), "{name}");
        }
        assert_eq!(events.last().expect("events")["event"], "end");
        assert!(events.iter().any(|e| e["event"] == "exit"));
    }

    /// The task goes on, and ends, before its last call is told.
    #[test]
    fn the_last_call_of_a_job_is_told() {
        let world = World::new();
        world.file("src/f", "");
        world.ingest(world.path("src"), "src");
        let trace = world.path("t");
        let mount = format!("{}=src,mode=overlay", world.path("mnt").display());
        for round in 0..40 {
            traced(&world, &trace, &["-q", "-m", &mount], ["mv", "mnt/f", "mnt/g"]).run().ok();
            let events = events(&trace);
            let renamed = of(&events, "rename", "/mnt/g");
            assert!(!renamed.is_empty(), "the rename is lost in round {round}");
        }
    }

    #[test]
    fn a_killed_supervisor_leaves_a_trace_that_can_be_read() {
        let world = World::new();
        let trace = world.path("t");
        // The job's first process is the keeper's child, and the keeper the supervisor's.
        let script = "echo >first; cat first; sleep 0.5; read a b c keeper rest </proc/$$/stat; \
                      read a b c boss rest </proc/$keeper/stat; kill -9 $boss; sleep 20";
        let killed = traced(&world, &trace, &["-q"], ["sh", "-c", script]).run();
        assert_eq!(killed.code(), 137, "{killed}");
        let said = about(&world, "report", &trace, [""; 0]).run().ok();
        assert!(said.out().contains("no end") && said.out().contains("first"), "{said}");
    }

    #[test]
    fn a_full_disk_stops_the_trace_and_not_the_job() {
        let name = "trace::a_full_disk_stops_the_trace_and_not_the_job";
        let world = World::new();
        let small = world.dir("small");
        let unshare = need!(name, program("unshare"));
        let inside = format!(
            "mount -t tmpfs -o size=64k none {small} || exit 99\n\
             {program} -q -o {small}/t -- sh -c 'i=0; while [ $i -lt 60 ]; do cat /etc/passwd >/dev/null; i=$((i+1)); done; echo all done; exit 7'\n\
             echo status $?; df --output=avail {small} | tail -1; cp {small}/t {copy}",
            small = small.display(),
            program = vrift_tests::binaries::vrift_trace().display(),
            copy = world.path("copy").display(),
        );
        let user = if rustix::process::geteuid().is_root() { "--mount" } else { "-rm" };
        let ran = world
            .native([
                unshare.as_os_str(),
                user.as_ref(),
                "sh".as_ref(),
                "-c".as_ref(),
                inside.as_ref(),
            ])
            .run();
        if ran.code() == 99 || ran.err().contains("unshare failed") {
            skip!(name, "no tmpfs can be mounted here: {}", ran.err());
        }
        let ran = ran.ok();
        assert!(ran.out().contains("all done\nstatus 7"), "{ran}");
        assert_eq!(ran.err().matches("No space left on device").count(), 1, "{ran}");
        assert!(ran.err().contains("the trace ends here, the job goes on"), "{ran}");
        // What is there are whole lines.
        let events = events(&world.path("copy"));
        assert!(events.len() > 50 && events.last().expect("events")["event"] != "end");
    }

    #[test]
    fn a_trace_that_can_t_be_written_is_said_before_the_job_starts() {
        let world = World::new();
        let ran =
            traced(&world, Path::new("/nowhere/t"), &["-q"], ["touch", "ran"]).run().expect(125);
        assert_eq!(ran.err().lines().count(), 1, "{ran}");
        assert!(ran.err().contains("/nowhere/t: No such file"), "{ran}");
        assert!(!world.path("ran").exists());
    }
}
