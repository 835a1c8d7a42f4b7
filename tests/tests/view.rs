//! Jobs that see their mounts as file systems of their own: what they read, what they can't change,
//! what they can't reach, and what is left behind.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};
    use vrift_tests::builds::{assert_same_artefacts, source};
    use vrift_tests::guests::fixtures;
    use vrift_tests::job::{MARK, expect_no_leftovers, new_mark, patience};
    use vrift_tests::skip::program;
    use vrift_tests::{Job, Outcome, World, binaries, need, tree, view};

    /// A world with the sample tree in the store, and a directory to mount it on that has a file of
    /// its own.
    fn world() -> (World, PathBuf) {
        let (world, p) = view::world();
        world.file("p/covered", "what the mount covers\n");
        (world, p)
    }

    fn sh(world: &World, p: &Path, script: &str) -> Job {
        let job = world.trace_mounted(&[(p, "t")], ["sh", "-c", script]);
        job.env("P", p).env("STORE", world.store())
    }

    /// The mounts of this process's namespace that are ours.
    fn ours_outside() -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        // After the dash: the kind of file system, and its source.
        let ours = |line: &&str| line.split_once(" - ").is_some_and(|(_, it)| it.contains("vrift"));
        mounts.lines().filter(ours).map(str::to_owned).collect()
    }

    #[test]
    fn it_reads_what_a_disk_has() {
        let name = "view::it_reads_what_a_disk_has";
        need!(name, view::possible());
        let (world, p) = world();
        // Kinds, modes, links, owners, sizes, times, targets; then every byte, by path.
        let script = "cd \"$1\" && find . -printf '%P|%y|%m|%n|%U:%G|%s|%T@|%l\\n' | sort &&
            find . -type f -exec cksum {} + | sort && find . -printf '%P|%i\\n' | sort >/dev/null &&
            ls -laR --time-style=full-iso >/dev/null && stat -c '%i %h' f hard | uniq | wc -l &&
            cat chain-39 >/dev/null && readlink d/winding && exec ./exe one two";
        let of = |job: Job| job.run().ok();
        let disk = of(world.native(["sh", "-c", script, "sh"]).arg(world.path("src")));
        let argv = ["sh", "-c", script, "sh"].map(Into::into).into_iter();
        let seen = of(world.trace_mounted(&[(&p, "t")], argv.chain([p.clone().into_os_string()])));
        assert_eq!(seen.out(), disk.out(), "{seen}");
        assert_eq!(seen.err(), disk.err(), "{seen}");
        assert_eq!(
            fs::read_to_string(p.join("covered")).expect("outside"),
            "what the mount covers\n"
        );
    }

    #[test]
    fn attributes_statfs_locks_and_watches() {
        let name = "view::attributes_statfs_locks_and_watches";
        need!(name, view::possible().and(program("python3").map(drop)));
        let (world, p) = world();
        let script = "import os, fcntl, mmap, errno, sys
os.chdir(sys.argv[1])
if sys.argv[2] == 'attributes':
    assert os.getxattr('f', 'user.colour') == b'blue', os.listxattr('f')
    assert os.listxattr('d') == ['user.kind'], os.listxattr('d')
try: os.getxattr('f', 'user.none'); raise SystemExit('an attribute that is none')
except OSError as e: assert e.errno == errno.ENODATA, e
try: os.setxattr('f', 'user.new', b'x'); raise SystemExit('set')
except OSError as e: assert e.errno == errno.EROFS, e
assert os.statvfs('.').f_flag & os.ST_RDONLY and os.statvfs('.').f_blocks
with open('big', 'rb') as f:
    data = f.read()
    assert mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:] == data
    fcntl.flock(f, fcntl.LOCK_EX)
    with open('big', 'rb') as g:
        try: fcntl.flock(g, fcntl.LOCK_EX | fcntl.LOCK_NB); raise SystemExit('locked twice')
        except BlockingIOError: pass
    assert os.pread(f.fileno(), 10, len(data) - 4) == data[-4:] and os.pread(f.fileno(), 1, len(data)) == b''
assert not os.isatty(os.open('f', os.O_RDONLY))
assert not os.access('f', os.W_OK) and os.access('f', os.R_OK) and not os.access('f', os.X_OK)
fd = os.open('d', os.O_RDONLY)
os.rename_ok = os.listdir(fd)
assert sorted(os.rename_ok) == sorted(os.listdir(fd)), 'a directory read twice by a descriptor'
print('well')";
        let attributes =
            if tree::has_attributes(&world.path("src")) { "attributes" } else { "none" };
        let argv = ["/usr/bin/python3", "-c", script].map(Into::into).into_iter();
        let argv = argv.chain([p.clone().into_os_string(), attributes.into()]);
        let got = world.trace_mounted(&[(&p, "t")], argv).run().ok();
        assert_eq!(got.out(), "well\n", "{got}");
    }

    #[test]
    fn mounts_may_lie_in_one_another() {
        let name = "view::mounts_may_lie_in_one_another";
        need!(name, view::possible().and(program("python3").map(drop)));
        let (world, p) = world();
        world.file("other/g", "of the inner one\n");
        world.dir("other/third");
        world.ingest(world.path("other"), "inner");
        // One that covers a directory, one below directories that nobody has, and one in that.
        let at = [p.clone(), p.join("d/e"), p.join("void/made/up"), p.join("void/made/up/third")];
        let mounts: Vec<_> =
            at.iter().map(PathBuf::as_path).zip(["t", "inner", "inner", "t"]).collect();
        let script = "cd \"$1\" && find . -printf '%p|%y|%m|%n|%s|%T@|%l\\n' | sort &&
            find . -type f ! -path '*loop*' -exec cksum {} + | sort && cat d/e/g void/made/up/third/d/e/g &&
            ls -a void void/made void/made/up && cd void/made/up/third/../.. && pwd -P && cat up/g &&
            rmdir $1/void/made/up 2>/dev/null; touch void/made/new 2>/dev/null; ls $1/void/made; echo end";
        let argv = ["sh", "-c", script, "sh"].map(Into::into).into_iter();
        let argv: Vec<std::ffi::OsString> = argv.chain([p.clone().into_os_string()]).collect();
        let notified = world.trace(&mounts, &argv).run().ok();
        // In any order.
        let turned: Vec<_> = mounts.iter().rev().copied().collect();
        let mounted = world.trace_mounted(&turned, &argv).run().ok();
        assert_eq!(mounted.out(), notified.out(), "{mounted}");
        assert!(mounted.out().contains("of the inner one\ndeep\n"), "{mounted}");
        let script = "import os, sys
os.chdir(sys.argv[1])
for d in ['.', 'd', 'void', 'void/made', 'void/made/up']:
    for e in os.scandir(d):
        if e.inode() != os.lstat(e.path).st_ino: print(e.path)";
        let argv = ["/usr/bin/python3", "-c", script].map(Into::into).into_iter();
        let argv = argv.chain([p.into_os_string()]);
        let numbers = world.trace_mounted(&mounts, argv).run().ok();
        // A listing has what a mount covers, as on any disk.
        assert_eq!(numbers.out(), "d/e\nvoid/made/up\nvoid/made/up/third\n", "{numbers}");
        let chosen =
            world.trace_as(&["--summary=text", "--view", "auto"], &mounts, ["true"]).run().ok();
        assert!(!chosen.err().contains("notify"), "{chosen}");
    }

    #[test]
    fn nothing_in_it_can_be_changed() {
        let name = "view::nothing_in_it_can_be_changed";
        need!(name, view::possible());
        let (world, p) = world();
        let script = "cd $P; for try in 'touch f' 'touch new' 'mkdir new' 'rm -f f' 'rmdir void' \
            'mv f g' 'ln f g' 'ln -s f g' 'chmod 600 f' 'truncate -s 0 f' 'mknod new p' \
            'sh -c \"echo x >f\"' 'sh -c \"echo x >>f\"' 'cp /dev/null new'; do
            said=$(eval \"LC_ALL=C $try\" 2>&1) && echo \"$try: done\"
            case $said in *'Read-only file system'*) ;; *) echo \"$try: $said\" ;; esac; done
            rmdir $P 2>/dev/null && echo 'mount point removed'
            mv $P $P-moved 2>/dev/null && echo 'mount point moved'
            test -w f && echo writable; echo end";
        let got = sh(&world, &p, script).run().ok();
        assert_eq!(got.out(), "end\n", "{got}");
    }

    #[test]
    fn a_job_of_roots_may_have_other_users() {
        let name = "view::a_job_of_roots_may_have_other_users";
        if !rustix::process::getuid().is_root() {
            // Nothing that a machine could have: only root's processes can become somebody else.
            return;
        }
        need!(name, view::possible());
        let (world, p) = world();
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755))
            .expect("let others in");
        let script = "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'cd $P; cat f; \
            cat twin 2>&1; ls private 2>&1; cat d/e/g'; cat $P/twin; unshare -Ur cat $P/private/secret";
        let got = sh(&world, &p, script).run().ok();
        let expected = "hello\ncat: twin: Permission denied\n\
            ls: cannot open directory 'private': Permission denied\ndeep\nhello\nmine\n";
        assert_eq!(got.out(), expected, "{got}");
    }

    #[test]
    fn the_store_and_the_supervisor_are_out_of_reach() {
        let name = "view::the_store_and_the_supervisor_are_out_of_reach";
        need!(name, view::possible());
        let (world, p) = world();
        let blob = blake3::hash(b"hello\n").to_hex().to_string();
        let blob = world.store().join("blobs").join(&blob[..2]).join(&blob);
        assert!(blob.exists());
        // By its path, by a namespace of its own, by those of others, by taking mounts away.
        let script = "
            tried() { \"$@\" >/dev/null 2>&1 && echo \"worked: $*\"; }
            tried cat $BLOB; tried ls $STORE/blobs; tried touch $STORE/new; ls $STORE
            tried umount $STORE; tried umount -l $P; tried umount -f $P
            tried mount --bind $WORLD/src $P; tried mount -o remount,bind,rw $P
            tried mount --move $P $WORLD/tmp; tried mount -t tmpfs none $P
            tried unshare -m umount $STORE; tried unshare -Urm umount $STORE
            tried unshare -Urm mount --bind /tmp $P
            tried nsenter -t 1 -m cat $BLOB; tried chroot / true; tried pivot_root . .
            keeper=$PPID; read -r _ _ _ _ </proc/$keeper/stat && echo 'keeper seen'
            for pid in $keeper; do ls /proc/$pid; tried kill -STOP $pid; tried kill -KILL $pid
                tried cat /proc/$pid/environ /proc/$pid/maps; tried ls /proc/$pid/root/; done
            cat $P/f; ls -l /proc/self/fd | grep -E 'fuse|seccomp|store|vrift-trace'
            ls /proc/self/fd | sort -n | tr '\\n' ' '; echo; cat $P/covered";
        let got = sh(&world, &p, script)
            .env("WORLD", world.path(""))
            .env("BLOB", &blob)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .run()
            .expect(1);
        // Besides what the test's own caller left open: none of the supervisor's.
        let plain =
            world.sh("read -r _ </nowhere; ls /proc/self/fd | sort -n | tr '\\n' ' '").run();
        assert_eq!(got.out(), format!("hello\n{}\n", plain.out()), "{got}");
        assert!(blob.exists() && ours_outside().is_empty());
    }

    /// Where the store is seen by another path, it is covered there, too.
    #[test]
    fn a_bind_mount_of_the_store_is_covered_too() {
        let name = "view::a_bind_mount_of_the_store_is_covered_too";
        need!(name, view::possible());
        let (world, p) = world();
        world.dir("other place/in");
        // As this user, in a namespace that may mount.
        let mut argv = vec!["unshare", "--mount"];
        if !rustix::process::getuid().is_root() {
            argv.extend(["--map-current-user", "--keep-caps"]);
        }
        argv.extend(["sh", "-c"]);
        let script = "mount --bind \"$WORLD\" \"$WORLD/other place/in\" && cd / && ls \"$OTHER/store\" | wc -l &&
            exec \"$TRACE\" -q --view mount -m \"$P=t\" -- sh -c 'cat $P/f; ls \"$OTHER/store\" $STORE; ls \"$OTHER/src\" | head -1'";
        let got = world
            .native(argv)
            .arg(script)
            .env("WORLD", world.path(""))
            .env("OTHER", world.path("other place/in"))
            .env("STORE", world.store())
            .env("TRACE", binaries::vrift_trace())
            .env("P", &p)
            .run()
            .ok();
        let other = world.path("other place/in/store");
        let expected =
            format!("hello\n{}:\n\n{}:\nCase\n", other.display(), world.store().display());
        let (count, rest) =
            got.out().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("lines");
        assert_ne!(count, "0", "{got}");
        assert_eq!(rest, expected, "{got}");
    }

    #[test]
    fn it_is_not_seen_outside_and_goes_with_the_job() {
        let name = "view::it_is_not_seen_outside_and_goes_with_the_job";
        need!(name, view::possible());
        let (world, p) = world();
        let running = Running::start(&world, &p, "cat $P/f >$READY.new; mv $READY.new $READY; cat");
        running.wait_until_ready();
        assert_eq!(ours_outside(), Vec::<String>::new());
        let names: Vec<_> = fs::read_dir(&p).expect("outside").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let inside =
            fs::read_to_string(format!("/proc/{}/mountinfo", running.first())).expect("its mounts");
        assert!(inside.lines().any(|line| line.contains(" fuse.vrift vrift:")), "{inside}");
        let (status, _) = running.finish();
        assert_eq!(status, Some(0));
        assert_eq!(ours_outside(), Vec::<String>::new());
        let jobs = fs::read_dir(world.store().join("jobs")).map_or(0, Iterator::count);
        assert_eq!(jobs, 0, "it has no private tree");
    }

    #[test]
    fn a_killed_supervisor_or_keeper_takes_the_job_along() {
        let name = "view::a_killed_supervisor_or_keeper_takes_the_job_along";
        need!(name, view::possible());
        let (world, p) = world();
        let busy = "echo >$READY.new; mv $READY.new $READY; cd $P; \
            while :; do cat f big d/x; ls -lR .; find . -newer f; done >/dev/null 2>&1";
        for round in 0..6 {
            let running = Running::start(&world, &p, busy);
            running.wait_until_ready();
            std::thread::sleep(Duration::from_millis(20 * round));
            let whom = if round % 2 == 0 { running.pid() } else { running.keeper() };
            running.kill(whom);
            let (status, _) = running.finish();
            assert_ne!(status, Some(0));
            assert_eq!(ours_outside(), Vec::<String>::new());
        }
        let again = sh(&world, &p, "cat $P/f").run().ok();
        assert_eq!(again.out(), "hello\n");
    }

    /// Bytes that are not what the manifest says are never read, by whatever way.
    #[test]
    fn a_damaged_blob_is_an_error_and_named() {
        let name = "view::a_damaged_blob_is_an_error_and_named";
        need!(name, view::possible());
        let world = World::new().without_store_check();
        for (name, content) in [("f", "text\n"), ("g", "other text\n"), ("lost", "lost text\n")] {
            world.file(Path::new("src").join(name), content);
        }
        let program = world.file("src/program", "#!/bin/sh\necho ran\n");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        world.ingest(world.path("src"), "t");
        let blob = |content: &[u8]| {
            let hex = blake3::hash(content).to_hex().to_string();
            world.store().join("blobs").join(&hex[..2]).join(&hex)
        };
        for content in [&b"text\n"[..], b"#!/bin/sh\necho ran\n"] {
            let blob = blob(content);
            fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).expect("chmod");
            let file = fs::File::options().write(true).open(&blob).expect("opens");
            std::os::unix::fs::FileExt::write_all_at(&file, b"X", 1).expect("writes");
        }
        fs::remove_file(blob(b"lost text\n")).expect("ours");
        let p = world.dir("p");
        let script =
            "cd $P; cat f; cat g; cat lost; ./program; stat -c %s f lost; head -c 3 f; cat g";
        let job = world
            .trace_as(&["--summary", "--view=mount"], &[(&p, "t")], ["sh", "-c", script])
            .env("P", &p);
        let got = job.run().ok();
        assert_eq!(got.out(), "other text\n5\n10\nother text\n", "{got}");
        assert!(got.err().matches("Input/output error").count() >= 3, "{got}");
        for name in ["f", "program"] {
            let reason = format!("{}/{name}: blob ", p.display());
            assert!(got.err().contains(&reason), "nothing of {name} in the summary: {got}");
        }
        assert!(got.err().contains("the store lost this blob"), "{got}");
    }

    /// A program, compiled from and with what is mounted, is the same byte for byte.
    #[test]
    fn a_real_build_also_with_mounted_includes() {
        let name = "view::a_real_build_also_with_mounted_includes";
        need!(name, view::possible());
        let lua = need!(name, source("lua5.4"));
        let world = World::new();
        let (at, out, native) = (world.dir("lua"), world.path("out"), world.path("native"));
        fs::remove_dir(&at).expect("ours");
        tree::copy(&lua, &at);
        tree::copy(Path::new("/usr/include"), &world.path("include"));
        world.ingest(&at, "lua");
        world.ingest(world.path("include"), "include");
        let script = fixtures().join("builds/lua");
        let argv = [script.as_os_str(), at.as_os_str(), out.as_os_str()];
        let ran = |job: Job| job.env("SOURCE_DATE_EPOCH", "1700000000").timeout(900).run().ok();
        ran(world.native(argv));
        fs::rename(&out, &native).expect("set the native output aside");
        fs::remove_dir_all(&at).expect("the real tree");
        fs::create_dir(&at).expect("the mount point");
        let include = Path::new("/usr/include");
        ran(world.trace_mounted(&[(&at, "lua"), (include, "include")], argv));
        assert_same_artefacts(&native, &out, 30);
    }

    #[test]
    fn what_can_not_be_mounted_is_refused_in_one_line() {
        let name = "view::what_can_not_be_mounted_is_refused_in_one_line";
        need!(name, view::possible());
        let (world, p) = world();
        world.file("file", "");
        world.file(
            "rules.toml",
            "version = 1\n[[rule]]\npaths = [\"/nowhere\"]\naccess = \"deny\"\nenforce = \"landlock\"\n",
        );
        let (absent, file) = (world.path("absent"), world.path("file"));
        let mount = |at: &Path, what: &str| format!("{}={what}", at.display());
        let plain = mount(&p, "t");
        for (arguments, words) in [
            (vec!["-m".to_owned(), mount(&absent, "t")], "needs a directory that is there"),
            (vec!["-m".into(), mount(&file, "t")], "file"),
            (
                vec!["-m".into(), mount(&p, "t,mode=copy-on-write")],
                "only what is read-only or an overlay",
            ),
            (
                vec!["-m".into(), plain, "-p".into(), "rules.toml".into()],
                "is enforced by the kernel",
            ),
        ] {
            let job = world.native([binaries::vrift_trace()]).args(["-q", "--view=mount"]);
            let got = job.args(&arguments).args(["--", "touch", "started"]).run().expect(125);
            let said = got.err();
            assert!(said.contains(words), "{arguments:?}: {got}");
            assert_eq!(said.lines().count(), 1, "{arguments:?}: {got}");
            assert!(!world.path("started").exists(), "{arguments:?}: the command was started");
            // And `auto` takes notifications, unless they can't be had either.
            let job = world.native([binaries::vrift_trace()]).args(["--summary", "--view=auto"]);
            let got = job.args(&arguments).args(["--", "true"]).run();
            if got.code() == 0 {
                assert!(got.err().contains("  view:     notify: "), "{arguments:?}: {got}");
                assert!(got.err().contains(words), "{arguments:?}: {got}");
            }
        }
    }

    #[test]
    fn a_policy_says_how_and_the_summary_tells() {
        let name = "view::a_policy_says_how_and_the_summary_tells";
        need!(name, view::possible());
        let (world, p) = world();
        let policy = |view: &str| {
            let at = p.display();
            let text = format!(
                "version = 1\n[job]\nview = \"{view}\"\n[[mount]]\nat = \"{at}\"\nmanifest = \"t\"\n"
            );
            world.file("policy.toml", text);
            let job = world.native([binaries::vrift_trace()]).args(["--summary=json", "-p"]);
            let job = job.arg("policy.toml").args(["--", "sh", "-c", "cat $P/f; stat -f -c %T $P"]);
            job.env("P", &p).run()
        };
        let told = |got: &Outcome| -> serde_json::Value {
            serde_json::from_str(&got.err()).unwrap_or_else(|e| panic!("{e}: {got}"))
        };
        for view in ["mount", "auto"] {
            let got = policy(view).ok();
            assert_eq!(got.out(), "hello\nfuseblk\n", "{got}");
            let told = told(&got);
            assert_eq!((&told["view"], &told["files_read"]), (&"mount".into(), &1.into()), "{got}");
            assert!(told["look_ups"].is_null() && told["not_mounted"].is_null(), "{got}");
        }
        let got = policy("notify").ok();
        assert_eq!(told(&got)["view"], "notify", "{got}");
        let got = policy("fuse").expect(125);
        assert!(got.err().contains("notify") && got.err().contains("auto"), "{got}");
    }

    /// The current directory may lie in what the mount covers: the job starts in the mounted one.
    #[test]
    fn a_job_starts_in_the_mounted_directory() {
        let name = "view::a_job_starts_in_the_mounted_directory";
        need!(name, view::possible());
        let (world, p) = world();
        world.dir("p/d");
        let got = sh(&world, &p, "pwd -P; cat x ../f").cwd(p.join("d")).run().ok();
        assert_eq!(got.out(), format!("{}/d\nx in d\nhello\n", p.display()));
        world.dir("p/only-outside");
        let got = sh(&world, &p, "true").cwd(p.join("only-outside")).run().expect(125);
        assert!(got.err().contains("the current directory"), "{got}");
        let got = sh(&world, &p, "true").cwd(world.store().join("blobs")).run().expect(125);
        assert!(got.err().contains("the current directory"), "{got}");
    }

    /// Many tasks at once, in several trees: each name once, each byte right.
    #[test]
    fn many_tasks_read_at_the_same_time() {
        let name = "view::many_tasks_read_at_the_same_time";
        need!(name, view::possible());
        let world = World::new();
        tree::numbered(&world.path("src/many"), 3_000);
        world.file("src/large", vec![7u8; 3 << 20]);
        world.ingest(world.path("src"), "t");
        let (p, q) = (world.dir("p"), world.dir("q"));
        let script = "for i in 1 2 3 4; do for at in $P $Q; do (
                ls $at/many | sort -n | tail -1; cat $at/many/* | cksum; cksum <$at/large
                find $at -type f | wc -l; ls $at/many/absent 2>/dev/null
            ) & done; done; wait";
        let got = world
            .trace_mounted(&[(&p, "t"), (&q, "t")], ["sh", "-c", script])
            .env("P", &p)
            .env("Q", &q)
            .timeout(240)
            .run()
            .ok();
        let lines: BTreeSet<_> = got.out().lines().map(str::to_owned).collect();
        assert_eq!(got.out().lines().count(), 32, "{got}");
        assert_eq!(lines.len(), 4, "{got}");
        assert!(lines.contains("2999") && lines.contains("3001"), "{got}");
    }

    /// A job that says when it is there, and ends with its stdin.
    struct Running {
        child: Child,
        mark: String,
        ready: PathBuf,
    }

    impl Running {
        fn start(world: &World, p: &Path, script: &str) -> Running {
            let (mark, ready) = (new_mark(), world.path("ready"));
            let _ = fs::remove_file(&ready);
            let child = Command::new(binaries::vrift_trace())
                .args(["--quiet", "--view=mount", "-m"])
                .arg(format!("{}=t", p.display()))
                .args(["--", "sh", "-c", script])
                .env("P", p)
                .env("READY", &ready)
                .env("VR_THE_SOURCE", world.store())
                .env("TMPDIR", world.path("tmp"))
                .env(MARK, &mark)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("vrift-trace starts");
            Running { child, mark, ready }
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.child.id()).expect("a process id")
        }

        fn keeper(&self) -> i32 {
            *children(self.pid()).first().expect("a keeper")
        }

        fn first(&self) -> i32 {
            *children(self.keeper()).first().expect("a first process")
        }

        fn wait_until_ready(&self) {
            let end = Instant::now() + Duration::from_secs(20) * patience();
            while !self.ready.exists() {
                if Instant::now() > end {
                    vrift_tests::hang::kill(&self.mark);
                    panic!("the job did not start within 20 seconds");
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }

        fn kill(&self, pid: i32) {
            use rustix::process::{Pid, Signal, kill_process};
            let pid = Pid::from_raw(pid).expect("a process");
            kill_process(pid, Signal::KILL).expect("there and ours");
        }

        /// Its exit code, when its stdin ends; and how long that took.
        fn finish(mut self) -> (Option<i32>, Duration) {
            drop(self.child.stdin.take());
            let started = Instant::now();
            let status = loop {
                if let Some(status) = self.child.try_wait().expect("wait") {
                    break status;
                }
                if started.elapsed() > Duration::from_secs(20) * patience() {
                    let picture = vrift_tests::hang::picture(&self.mark);
                    vrift_tests::hang::kill(&self.mark);
                    panic!("no end within 20 seconds\n{picture}");
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            expect_no_leftovers(&self.mark, "a job with mounted trees");
            (status.code(), started.elapsed())
        }
    }

    /// The children of a process.
    fn children(pid: i32) -> Vec<i32> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        text.unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect()
    }
}
