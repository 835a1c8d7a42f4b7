//! What goes wrong at the start ends with one clear line, status 125 and nothing left behind;
//! what the command itself does with its end is passed on as it is.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use vrift_tests::{Guest, Job, Outcome, World, binaries, guest};

    fn world() -> (World, PathBuf) {
        let world = World::new();
        world.file("src/f", "text\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        (world, p)
    }

    /// One line on stderr that names `words`, no output, status 125, the command not run.
    #[track_caller]
    fn refused(world: &World, job: Job, words: &[&str]) {
        let before = entries(world);
        let got = job.run().expect(125);
        assert!(got.err().starts_with("vrift-trace: "), "{got}");
        assert_eq!(got.err().trim_end().lines().count(), 1, "more than one line: {got}");
        assert_eq!(got.out(), "", "the command was run: {got}");
        for word in words {
            assert!(got.err().contains(word), "it does not name {word}: {got}");
        }
        assert!(!got.err().contains("panicked") && !got.err().contains("Os {"), "{got}");
        assert_eq!(entries(world), before, "something was left behind");
    }

    fn entries(world: &World) -> Vec<PathBuf> {
        let mut all = Vec::new();
        let mut todo = vec![world.path("")];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                all.push(entry.path());
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    todo.push(entry.path());
                }
            }
        }
        // An empty jobs/ or exec/ that a first run makes is part of a store.
        all.retain(|p| !p.ends_with("store/jobs") && !p.ends_with("store/exec"));
        all.sort();
        all
    }

    fn with_mount(world: &World, mount: &str) -> Job {
        world.native([binaries::vrift_trace()]).args(["--quiet", "-m", mount, "--", "echo", "ran"])
    }

    #[test]
    fn an_unknown_ref() {
        let (world, p) = world();
        refused(&world, with_mount(&world, &format!("{}=nosuch", p.display())), &["nosuch"]);
    }

    #[test]
    fn a_nearly_right_ref_is_suggested_or_listed() {
        let (world, p) = world();
        world.ingest(world.path("src"), "dependencies");
        let got = with_mount(&world, &format!("{}=dependencis", p.display())).run().expect(125);
        assert!(
            got.err().contains("vrift refs") || got.err().contains("dependencies"),
            "what to do next: {got}"
        );
    }

    #[test]
    fn bad_prefixes() {
        let (world, _) = world();
        for bad in ["relative/path=t", "/=t", "=t", "/a/../b=t", "/proc/x=t", "/tmp/\u{1}bad/=t="] {
            refused(&world, with_mount(&world, bad), &[]);
        }
    }

    #[test]
    fn a_mount_without_a_ref() {
        let (world, p) = world();
        refused(&world, with_mount(&world, &format!("{}=", p.display())), &[]);
    }

    #[test]
    fn an_unknown_mount_option() {
        let (world, p) = world();
        refused(
            &world,
            with_mount(&world, &format!("{}=t,mode=read-onyl", p.display())),
            &["read-only"],
        );
        refused(
            &world,
            with_mount(&world, &format!("{}=t,moed=read-only", p.display())),
            &["moed"],
        );
    }

    #[test]
    fn no_store() {
        let world = World::new();
        fs::create_dir(world.path("src")).expect("mkdir");
        let job = with_mount(&world, "/vrift/x=t").env("VR_THE_SOURCE", world.path("no-store"));
        refused(&world, job, &["no-store"]);
    }

    fn manifests(world: &World) -> Vec<PathBuf> {
        fs::read_dir(world.store().join("manifests"))
            .expect("manifests")
            .flatten()
            .map(|e| e.path())
            .collect()
    }

    fn damaged(change: impl Fn(&mut Vec<u8>)) {
        let (world, p) = world();
        let world = world.without_store_check();
        let [manifest] = manifests(&world).try_into().expect("one manifest");
        let mut bytes = fs::read(&manifest).expect("manifest");
        change(&mut bytes);
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o644)).expect("chmod");
        fs::write(&manifest, bytes).expect("damage");
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o444)).expect("chmod");
        refused(&world, with_mount(&world, &format!("{}=t", p.display())), &["manifest"]);
    }

    #[test]
    fn a_manifest_with_a_flipped_bit() {
        damaged(|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        });
    }

    #[test]
    fn a_truncated_manifest() {
        damaged(|bytes| bytes.truncate(bytes.len() / 2));
    }

    #[test]
    fn an_empty_manifest() {
        damaged(Vec::clear);
    }

    #[test]
    fn a_missing_manifest() {
        let (world, p) = world();
        let world = world.without_store_check();
        for manifest in manifests(&world) {
            fs::remove_file(manifest).expect("remove");
        }
        refused(&world, with_mount(&world, &format!("{}=t", p.display())), &["manifest"]);
    }

    /// A damaged blob is found when it is opened: an errno, never its bytes, never a hang.
    #[test]
    fn a_missing_blob_is_an_error_of_that_file_only() {
        let world = World::new().without_store_check();
        world.file("src/f", "text\n");
        world.file("src/g", "other text\n");
        world.ingest(world.path("src"), "t");
        let blob = blake3::hash(b"text\n").to_hex().to_string();
        fs::remove_file(world.store().join("blobs").join(&blob[..2]).join(&blob)).expect("blob");
        let p = world.path("p");
        let script = format!(
            "cat {0}/f; cat {0}/g; wc -c < {0}/f || echo refused; stat -c %s {0}/f",
            p.display()
        );
        let got = world.trace_sh(&[(&p, "t")], &script).run().ok();
        assert_eq!(got.out(), "other text\nrefused\n5\n", "{got}");
    }

    /// Other bytes under the same name, the times put back: found at the first use, also by exec,
    /// also of a large blob that an earlier job found to be whole.
    #[test]
    fn a_blob_of_other_bytes_is_never_handed_out() {
        let world = World::new().without_store_check();
        world.file("src/f", "text\n");
        world.file("src/g", "other text\n");
        world.file("src/large", vec![b'a'; 2 << 20]);
        let program = world.file("src/program", "#!/bin/sh\necho ran\n");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = format!(
            "cd {}; cat f; cat g; ./program; head -c 3 large; cat f || echo again",
            p.display()
        );
        let job = || {
            let mount = format!("{}=t", p.display());
            let job = world.native([binaries::vrift_trace()]).args(["--summary", "-m", &mount]);
            job.args(["--", "sh", "-c", &script]).run().ok()
        };
        assert_eq!(job().out(), "text\nother text\nran\naaatext\n");
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        assert_eq!(job().out(), "text\nother text\nran\naaatext\n");
        let large = blake3::hash(&vec![b'a'; 2 << 20]).to_hex();
        assert!(world.store().join(format!("checked/{large}")).exists(), "not remembered");

        for content in [&b"text\n"[..], &fs::read(&program).expect("ours"), &vec![b'a'; 2 << 20]] {
            let hex = blake3::hash(content).to_hex().to_string();
            let blob = world.store().join("blobs").join(&hex[..2]).join(&hex);
            let time = blob.metadata().expect("there").modified().expect("a time");
            fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("chmod");
            let file = fs::File::options().write(true).open(&blob).expect("opens");
            std::os::unix::fs::FileExt::write_all_at(&file, b"X", 1).expect("writes");
            file.set_modified(time).expect("a time");
            fs::set_permissions(&blob, fs::Permissions::from_mode(0o444)).expect("chmod");
        }
        let got = job();
        assert_eq!(got.out(), "other text\nagain\n", "{got}");
        assert_eq!(got.err().matches("Input/output error").count(), 4, "{got}");
        for name in ["f", "program", "large"] {
            let reason = format!("{}/{name}: blob ", p.display());
            assert!(got.err().contains(&reason), "nothing of {name} in the summary: {got}");
        }
    }

    #[test]
    fn a_call_newer_than_the_table_is_named_in_the_summary() {
        let (world, p) = world();
        let mount = format!("{}=t", p.display());
        let job = world.native([binaries::vrift_trace()]).args(["--summary", "-m", &mount, "--"]);
        let script = "$! = 0; syscall(511); print $!{ENOSYS} ? \"as ever\" : \"$!\"";
        let got = job.args(["perl", "-e", script]).run().ok();
        assert_eq!(got.out(), "as ever", "{got}");
        assert!(got.err().contains("unknown:  system call 511 of "), "{got}");
    }

    fn with_policy(world: &World, text: &str) -> Job {
        let policy = world.file("policy.toml", text);
        world
            .native([binaries::vrift_trace()])
            .args(["--quiet".as_ref(), "-p".as_ref(), policy.as_os_str()])
            .args(["--", "echo", "ran"])
    }

    #[test]
    fn bad_policies() {
        let (world, p) = world();
        let p = p.display();
        let bad: [(String, &[&str]); 8] = [
            ("version = 1\n[[mount]]\nat = ".into(), &["policy.toml", "3"]),
            ("version = 2\n".into(), &["policy.toml", "version"]),
            ("[job]\nname = \"x\"\n".into(), &["policy.toml", "version"]),
            (
                format!("version = 1\n[[mount]]\nat = \"{p}\"\nmanifset = \"t\"\n"),
                &["policy.toml", "manifset", "manifest", "4"],
            ),
            (
                format!(
                    "version = 1\n[[mount]]\nat = \"{p}\"\nmanifest = \"t\"\nmode = \"readonly\"\n"
                ),
                &["read-only", "5"],
            ),
            ("version = 1\n[syscalls]\nio_uring = \"maybe\"\n".into(), &["enosys", "3"]),
            ("version = 1\n[sycalls]\n".into(), &["sycalls", "syscalls"]),
            ("version = 1\n[[mount]]\nat = \"relative\"\nmanifest = \"t\"\n".into(), &["relative"]),
        ];
        for (text, words) in bad {
            refused(&world, with_policy(&world, &text), words);
        }
    }

    #[test]
    fn a_policy_that_is_not_there() {
        let (world, _) = world();
        let job = world.native([binaries::vrift_trace()]).args([
            "-p",
            "nowhere.toml",
            "--",
            "echo",
            "ran",
        ]);
        refused(&world, job, &["nowhere.toml"]);
    }

    #[test]
    fn a_policy_file_mounts_and_the_default_file_is_found() {
        let (world, p) = world();
        let text = format!(
            "version = 1\n[job]\nname = \"ci\"\n[[mount]]\nat = \"{}\"\nmanifest = \"t\"\nmode = \"read-only\"\n",
            p.display()
        );
        let file = p.join("f");
        world.file("explicit.toml", &text);
        let run = |args: &[&str]| {
            let job = world
                .native([binaries::vrift_trace()])
                .arg("--quiet")
                .args(args)
                .arg("--")
                .arg("cat")
                .arg(&file);
            job.run().ok().out()
        };
        assert_eq!(run(&["-p", "explicit.toml"]), "text\n");
        world.file("vrift.toml", &text);
        assert_eq!(run(&[]), "text\n");
    }

    #[test]
    fn the_prefix_of_a_mount_that_names_none_comes_from_the_environment() {
        let (world, p) = world();
        let job = world
            .native([binaries::vrift_trace()])
            .args(["--quiet", "-m", "t", "--", "cat"])
            .arg(p.join("f"));
        assert_eq!(job.env("VRIFT_VFS_PREFIX", &p).run().ok().out(), "text\n");
    }

    #[test]
    fn no_command_or_a_bad_option_is_a_usage_error() {
        let (world, _) = world();
        for args in [&[][..], &["--nosuch", "--", "true"], &["-m"]] {
            let got = world.native([binaries::vrift_trace()]).args(args).run().expect(125);
            assert!(got.err().contains("--help") && !got.err().contains("panicked"), "{got}");
        }
    }

    fn ends(command: &[&str]) -> Outcome {
        let (world, p) = world();
        world.trace(&[(&p, "t")], command).run()
    }

    #[test]
    fn exit_codes_are_the_commands_own() {
        ends(&["true"]).expect(0);
        ends(&["false"]).expect(1);
        for code in [2, 42, 125, 126, 127, 128, 200, 255] {
            ends(&["sh", "-c", &format!("exit {code}")]).expect(code);
        }
    }

    #[test]
    fn a_signal_is_128_plus_its_number() {
        for (name, number) in
            [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("ABRT", 6), ("HUP", 1), ("PIPE", 13)]
        {
            let got = ends(&["sh", "-c", &format!("kill -{name} $$")]);
            assert_eq!(got.status.code(), Some(128 + number), "{got}");
        }
    }

    #[test]
    fn not_found_is_127_and_not_executable_126() {
        let (world, p) = world();
        let plain = world.file("plain", "no program\n");
        for (command, code) in [
            (Path::new("no-such-command-anywhere"), 127),
            (Path::new("/no/such/command"), 127),
            (&p.join("absent"), 127),
            (&plain, 126),
            (&p.join("f"), 126),
            (&p, 126),
            (Path::new("/"), 126),
        ] {
            let got = world.trace(&[(&p, "t")], [command]).run().expect(code);
            assert_eq!(got.err().trim_end().lines().count(), 1, "{got}");
            assert!(
                got.err().contains(command.to_str().expect("UTF-8")),
                "it does not name the command: {got}"
            );
        }
    }

    #[test]
    fn the_command_itself_may_be_projected() {
        let world = World::new();
        world.file("src/tool", "#!/bin/sh\necho \"$0 $*\"\nexit 7\n");
        fs::set_permissions(world.path("src/tool"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let tool = p.join("tool");
        let got = world.trace(&[(&p, "t")], [tool.as_os_str(), "a".as_ref()]).run().expect(7);
        assert_eq!(got.out(), format!("{} a\n", tool.display()));
        // Found by PATH as well.
        let by_name = world
            .trace(&[(&p, "t")], ["tool", "b"])
            .env("PATH", format!("{}:/usr/bin:/bin", p.display()));
        assert_eq!(by_name.run().expect(7).out(), format!("{} b\n", tool.display()));
    }

    #[test]
    fn stdin_stdout_and_stderr_belong_to_the_command() {
        let (world, p) = world();
        let input: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let got = world
            .trace(&[(&p, "t")], ["sh", "-c", "echo to-stderr >&2; cat"])
            .stdin(&input)
            .run()
            .ok();
        assert_eq!(got.stdout, input);
        assert_eq!(got.err(), "to-stderr\n", "vrift-trace --quiet adds something");
    }

    #[test]
    fn environment_directory_and_descriptors_pass_through() {
        let (world, p) = world();
        let dir = world.dir("some where");
        let script =
            "echo \"$A|$(pwd)|$(ulimit -n)|$(umask)\"; echo three >&3; ls /proc/self/fd | wc -l";
        let native = world.sh(&format!("exec 3>&1; {script}")).env("A", "b c").cwd(&dir).run().ok();
        let job = world
            .native(["sh", "-c", "umask 22; exec 3>&1; exec \"$@\"", "sh"])
            .arg(binaries::vrift_trace());
        let job =
            job.args(["--quiet", "-m", &format!("{}=t", p.display()), "--", "sh", "-c", script]);
        let got = job.env("A", "b c").cwd(&dir).run().ok();
        assert_eq!(got.out(), native.out(), "{got}");
    }

    #[test]
    fn a_summary_is_printed_when_it_is_asked_for() {
        let (world, p) = world();
        let job = world.native([binaries::vrift_trace()]).args([
            "--summary",
            "-m",
            &format!("{}=t", p.display()),
            "--",
        ]);
        let got = job
            .args(["sh", "-c", &format!("cat {0}/f; touch {0}/g; true", p.display())])
            .run()
            .ok();
        assert_eq!(got.out(), "text\n");
        for word in ["process", "refused", "read"] {
            assert!(got.err().contains(word), "no {word} in the summary: {got}");
        }
    }

    #[test]
    fn io_uring_is_refused_as_missing() {
        let (world, p) = world();
        let ops = guest("ops", Guest::Dynamic).expect("the plain compiler");
        let got = world.trace(&[(&p, "t")], [ops]).stdin("io_uring\n").run().ok();
        assert_eq!(got.out(), "io_uring = -1 ENOSYS\n");
    }

    /// A supervisor that is killed takes its job along, or leaves it with answers: no hang.
    #[test]
    fn a_killed_supervisor_ends_in_bounded_time() {
        let (world, p) = world();
        let world = world.without_store_check(); // whoever is killed can't sweep
        let script = format!(
            "{} --quiet -m {}=t -- sh -c 'while :; do cat {0}/f >/dev/null 2>&1 || :; ls {0} >/dev/null 2>&1; done' & k=$!; sleep 1; kill -9 $k; wait $k",
            binaries::vrift_trace().display(),
            p.display()
        )
        .replace("{0}", p.to_str().expect("UTF-8"));
        let got = world.native(["bash", "-c", &script]).timeout(15).run();
        assert_eq!(got.code(), 137, "{got}");
        // And the next run finds nothing in its way, and sweeps what the dead one left.
        world.trace_sh(&[(&p, "t")], &format!("cat {}/f", p.display())).run().ok();
        let left = fs::read_dir(world.store().join("jobs")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the killed job's directory is still there");
    }

    #[test]
    fn processes_alive_after_the_command_are_ended() {
        let (world, p) = world();
        let script = format!(
            "(setsid sh -c 'trap \"\" HUP TERM; while :; do cat {}/f; sleep 0.05; done' >/dev/null 2>&1 &) ; exit 3",
            p.display()
        );
        world.trace_sh(&[(&p, "t")], &script).timeout(20).run().expect(3);
    }
}
