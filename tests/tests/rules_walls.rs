//! Rules that Landlock enforces, and writable mounts behind them.

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use vrift_tests::ruled::{Who, everybody, landlock, rows, with, world};
    use vrift_tests::{Guest, guest, need};

    /// What is in a mount that can be written to no rule speaks of, nor Landlock.
    #[test]
    fn a_writable_mount_in_a_read_only_home_can_be_written_to() {
        let name = "rules_walls::a_writable_mount_in_a_read_only_home_can_be_written_to";
        for enforce in ["", "enforce = \"landlock\"\n"] {
            if !enforce.is_empty() {
                need!(name, landlock());
            }
            let world = world();
            world.file("src/f", "stored\n");
            world.ingest(world.path("src"), "src");
            let policy = format!(
                "version = 1\n[[rule]]\npaths = [\"$W\"]\naccess = \"read-only\"\n{enforce}\
                 [[rule]]\npaths = [\"$W/tmp\"]\naccess = \"read-write\"\n"
            );
            let mount = format!("{}=src,mode=overlay", world.path("home/p").display());
            let script = "cd home/p && echo more >> f && mkdir d && mv f d/g && cat d/g && \
                          ! (echo x > ../plain) && ! mkdir ../new && echo t > ../../tmp/t";
            let more = ["--quiet", "-m", &mount];
            let job = with(&world, Who::Self_, &policy, &more, &["/bin/sh", "-c", script]);
            assert_eq!(job.run().ok().out(), "stored\nmore\n");
            assert_eq!(fs::read_to_string(world.path("home/plain")).expect("kept"), "plain\n");
        }
    }

    /// Of 32-bit calls that go on unseen the kernel itself still refuses what a rule with `enforce`
    /// forbids, and nothing else; programs run, projected ones too.
    #[test]
    fn what_landlock_enforces_needs_no_supervisor() {
        let name = "rules_walls::what_landlock_enforces_needs_no_supervisor";
        let ops = need!(name, guest("ops", Guest::Bits32));
        need!(name, landlock());
        for who in everybody() {
            for enforced in [true, false] {
                let world = world();
                let enforce = if enforced { "enforce = \"landlock\"\n" } else { "" };
                let policy = format!(
                    "version = 1\n[syscalls]\ncompat32 = \"allow\"\n\
                     [[rule]]\npaths = [\"$W/etc/shadow\", \"$W/vault\"]\naccess = \"deny\"\n{enforce}\
                     [[rule]]\npaths = [\"$W/tree\"]\naccess = \"read-only\"\n{enforce}\
                     [[rule]]\npaths = [\"$W/tree/out\"]\naccess = \"read-write\"\n\
                     [[rule]]\npaths = [\"$W/no-run\"]\nexec = false\n{enforce}"
                );
                let refused = "open 1 etc/shadow O_RDONLY
                     open 1 r/to-shadow O_RDONLY
                     open 1 vault/in/gold O_RDONLY
                     open 1 tree/f O_WRONLY
                     truncate tree/f 100
                     open 1 tree/new O_WRONLY|O_CREAT
                     unlink tree/d/g
                     exec $W/no-run/script script";
                let allowed = "open 1 tree/f O_RDONLY = 0
                     open 1 tree/out/new O_WRONLY|O_CREAT = 0
                     open 1 r/new O_WRONLY|O_CREAT = 0
                     rename r/new tree/out/newer = 0
                     open 1 etc/passwd O_RDONLY = 0
                     exec $W/r/script script = ran";
                let answer = if enforced { "-1 EACCES" } else { "?" };
                let refused: String =
                    refused.lines().map(|line| format!("{line} = {answer}\n")).collect();
                let rows = rows(&world, &format!("{refused}{allowed}"));
                let script: String = rows.iter().map(|(call, _)| format!("{call}\n")).collect();
                let ops = ops.to_str().expect("UTF-8");
                let outcome = with(&world, who, &policy, &["--quiet"], &[ops]).stdin(script).run();
                let out = outcome.ok().out();
                let mut lines = out.lines().filter(|line| !line.starts_with(" status="));
                for (call, expected) in &rows {
                    let line = lines.next().unwrap_or("(no answer)");
                    let got = line.strip_prefix(&format!("{call} = ")).unwrap_or(line);
                    let good = match expected.as_str() {
                        // Without Landlock nobody stands in the way.
                        "?" => !got.starts_with("-1") && got != "(no answer)",
                        expected => got.starts_with(expected),
                    };
                    assert!(good, "{who:?} {enforced}: {call}: {got}, not {expected}");
                }
                if enforced {
                    let kept = fs::read_to_string(world.path("tree/f")).expect("kept");
                    assert_eq!(kept, "hello\n");
                }
            }
        }
    }

    #[test]
    fn projected_programs_run_behind_walls() {
        need!("rules_walls::projected_programs_run_behind_walls", landlock());
        let world = world();
        let tool = world.file("src/tool", "#!/bin/sh\necho tool; cat etc/shadow\n");
        fs::set_permissions(&tool, Permissions::from_mode(0o755)).expect("chmod");
        fs::copy("/bin/cat", world.path("src/cat")).expect("a program");
        world.ingest(world.path("src"), "tools");
        let policy = "version = 1\n[[rule]]\npaths = [\"$W/etc/shadow\", \"$W/store\"]\n\
                      access = \"deny\"\nenforce = \"landlock\"\n";
        let mount = format!("{}=tools", world.path("p").display());
        let more = ["--quiet", "-m", &mount];
        let script = "p/tool; p/cat etc/passwd; p/cat p/tool | head -n 1; cd p && ./cat tool";
        let job = with(&world, Who::Self_, policy, &more, &["/bin/sh", "-c", script]);
        let outcome = job.run().ok();
        let out = outcome.out();
        assert!(out.starts_with("tool\nnames\n#!/bin/sh\n#!/bin/sh\n"), "{outcome}");
        assert!(!out.contains("hash"), "{outcome}");
    }
}
