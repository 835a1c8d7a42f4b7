//! Every kind of caller: threads that share less than usual, children that share more, tasks in
//! namespaces, traced ones, ones without a free descriptor. Each works as over a bind mount, or
//! gets one errno, and the reason is told.

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, Permissions};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use vrift_tests::guests::storm_ground;
    use vrift_tests::{Guest, Job, Outcome, World, binaries, guest, need, oracle, skip};

    fn script(path: &Path, text: &str) {
        fs::write(path, text).expect("script");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("chmod");
    }

    /// What the guests callers and `callers_hard` are at home in.
    fn home() -> (World, PathBuf) {
        let world = World::new();
        world.file("src/f", "hello\n");
        world.file("src/d/g", "deep\n");
        let bin = world.dir("src/bin");
        let copy = |from: &Path, to: &str| {
            fs::copy(from, bin.join(to)).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        };
        copy(&guest("self", Guest::Dynamic).expect("the plain compiler"), "prog");
        match guest("self", Guest::Static) {
            Ok(program) => copy(&program, "static"),
            Err(_) => copy(&bin.join("prog"), "static"),
        }
        copy(Path::new("/bin/true"), "quiet");
        script(&bin.join("script"), "#!/bin/sh\necho \"$0 $#\"\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        (world, p)
    }

    fn is_root() -> bool {
        rustix::process::getuid().is_root()
    }

    /// Both must say the same, and end the same.
    #[track_caller]
    fn assert_same(got: &Outcome, kernel: &Outcome) {
        assert_eq!(got.out(), kernel.out(), "{got}");
        assert_eq!(got.err(), kernel.err(), "{got}");
        assert_eq!(got.code(), kernel.code(), "{got}");
    }

    /// Runs a command over the projection and over a bind mount; what it says must not be empty.
    #[track_caller]
    fn as_over_a_bind_mount<S: AsRef<OsStr>>(name: &str, world: &World, p: &Path, argv: &[S]) {
        let got = world.trace(&[(p, "t")], argv).run();
        let kernel = need!(name, oracle::bound(world, &world.path("src"), p, argv)).run();
        assert!(!kernel.stdout.is_empty(), "it says nothing: {kernel}");
        assert_same(&got, &kernel);
    }

    fn callers(name: &str, how: Guest, program: &str, what: &str, mode: &str) {
        let name = format!("callers::{name}::{how:?}");
        let program = need!(&name, guest(program, how));
        let (world, p) = home();
        let argv = [program.as_os_str(), what.as_ref(), p.as_os_str(), mode.as_ref()];
        as_over_a_bind_mount(&name, &world, &p, &argv);
    }

    #[test]
    fn threads_with_directories_of_their_own() {
        callers("fs", Guest::Dynamic, "callers", "fs", "40");
        callers("fs", Guest::Bits32, "callers", "fs", "20");
    }

    #[test]
    fn threads_with_descriptors_of_their_own() {
        callers("files", Guest::Dynamic, "callers", "files", "40");
        callers("files", Guest::Bits32, "callers", "files", "20");
    }

    #[test]
    fn children_in_their_parents_memory() {
        callers("vm", Guest::Dynamic, "callers", "vm", "1");
        callers("vm", Guest::Static, "callers", "vm", "1");
        callers("vm", Guest::Bits32, "callers", "vm", "1");
    }

    #[test]
    fn exec_from_a_thread_while_others_call_and_after_the_first_has_ended() {
        callers("thread", Guest::Dynamic, "callers", "thread", "1");
        callers("thread", Guest::Bits32, "callers", "thread", "1");
    }

    #[test]
    fn no_descriptor_left() {
        for how in [Guest::Dynamic, Guest::Bits32] {
            callers("full", how, "callers_hard", "full", "soft");
            callers("full, hard limit", how, "callers_hard", "full", "hard");
        }
    }

    #[test]
    fn a_million_descriptors_or_as_many_as_may_be_had() {
        // Root may raise the hard limit, where it has that capability, as far as the kernel goes.
        let most = "n=$(cat /proc/sys/fs/nr_open); [ $n -le 1048576 ] || n=1048576
            ulimit -n $n 2>/dev/null || ulimit -n $(ulimit -Hn); ulimit -n";
        let most = Job::new(["/bin/sh", "-c", most]).run().ok().out();
        let most = most.trim();
        assert!(most.parse::<u32>().is_ok_and(|n| n >= 4096), "too few to say anything: {most}");
        callers("many", Guest::Dynamic, "callers_hard", "many", most);
        println!("callers: {most} descriptors held by one task");
    }

    #[test]
    fn alarms_every_tenth_of_a_millisecond() {
        for how in [Guest::Dynamic, Guest::Static, Guest::Bits32] {
            callers("alarms", how, "callers_hard", "alarms", "restart");
            callers("alarms", how, "callers_hard", "alarms", "norestart");
        }
    }

    #[test]
    fn stopped_and_continued_in_rewritten_calls() {
        callers("stops", Guest::Dynamic, "callers_hard", "stops", "60");
    }

    /// A projected script is called what it is called, whatever its interpreter.
    fn titles(how: Guest) {
        let name = format!("callers::titles::{how:?}");
        let runs = need!(&name, guest("callers_title", Guest::Dynamic));
        let says = need!(&name, guest("callers_title", how));
        let world = World::new();
        let (bin, p) = (world.dir("src/bin"), world.path("p"));
        fs::copy(&says, bin.join("says")).expect("says");
        let inner = p.join("bin/says");
        script(
            &bin.join("a-script-with-a-long-name"),
            &format!("#!{} an  option \n", inner.display()),
        );
        let first = p.join("bin/a-script-with-a-long-name");
        script(&bin.join("second"), &format!("#!{}\n", first.display()));
        script(&bin.join("outer"), &format!("#!{} option\n", says.display()));
        symlink("second", bin.join("link")).expect("link");
        symlink("says", bin.join("other")).expect("link");
        world.ingest(world.path("src"), "t");
        for program in ["says", "other", "a-script-with-a-long-name", "second", "outer", "link"] {
            let program = p.join("bin").join(program);
            let argv = [runs.as_os_str(), "run".as_ref(), program.as_os_str()];
            as_over_a_bind_mount(&name, &world, &p, &argv);
        }
    }

    #[test]
    fn comm_and_cmdline_of_programs_and_scripts() {
        titles(Guest::Dynamic);
    }

    #[test]
    fn comm_and_cmdline_with_a_static_interpreter() {
        titles(Guest::Static);
    }

    #[test]
    fn comm_and_cmdline_with_a_32_bit_interpreter() {
        titles(Guest::Bits32);
    }

    #[test]
    fn ps_pgrep_and_killall_find_a_script() {
        let name = "ps_pgrep_and_killall_find_a_script";
        need!(name, skip::program("killall"));
        need!(name, skip::program("pgrep"));
        let world = World::new();
        let own = format!("vt-{}", std::process::id());
        let bin = world.dir("src/bin");
        script(&bin.join(&own), "#!/usr/bin/perl -w\n$| = 1; print \"up\\n\"; sleep 50;\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let lines = format!(
            "o=$TMPDIR/out; : >$o; {p}/bin/{own} an argument >$o & s=$!; until grep -q up $o; do sleep 0.01; done; \
             ps -o comm=,args= -p $s; [ \"$(pgrep -x {own})\" = $s ] && echo by name; \
             [ \"$(pgrep -f '^/usr/bin/perl -w {p}/bin/{own} an')\" = $s ] && echo by arguments; \
             cat /proc/$s/comm; tr '\\0' '|' </proc/$s/cmdline; killall -v {own} 2>&1 | sed \"s/$s/PID/\"; wait $s; echo $?",
            p = p.display()
        );
        as_over_a_bind_mount(name, &world, &p, &["/bin/bash", "-c", &lines]);
    }

    #[test]
    fn agents_that_shut_themselves_off() {
        let name = "agents_that_shut_themselves_off";
        need!(name, skip::program("ssh-agent"));
        need!(name, skip::program("gpg-agent"));
        let (world, p) = home();
        let lines = format!(
            "cd {p}/d && eval \"$(ssh-agent)\" >/dev/null && cat g && ssh-add -l; ../bin/script; ssh-agent -k >/dev/null; \
             export GNUPGHOME=$HOME/gnupg; mkdir -p -m 700 $GNUPGHOME; rm -f $TMPDIR/signed; \
             gpg --batch -q --passphrase '' --quick-gen-key a@b ed25519 default never 2>/dev/null; \
             gpg --batch -q -o $TMPDIR/signed --sign {p}/f && gpg --batch -q -d $TMPDIR/signed 2>/dev/null; \
             gpgconf --kill all; rm -rf $GNUPGHOME",
            p = p.display()
        );
        as_over_a_bind_mount(name, &world, &p, &["/bin/sh", "-c", &lines]);
    }

    /// /proc tells the name in the middle of everything else that is asked about a task.
    #[test]
    fn a_program_whose_name_is_no_text() {
        let name = "a_program_whose_name_is_no_text";
        let (world, p) = home();
        let shut = world.path("src/shut");
        fs::write(&shut, "for root alone\n").expect("write");
        if is_root() {
            fs::set_permissions(&shut, Permissions::from_mode(0o000)).expect("chmod");
        }
        world.ingest(world.path("src"), "t");
        let shell = world.path("").join(OsStr::from_bytes(b"\xff\xfe"));
        fs::copy("/bin/sh", &shell).expect("copy");
        let lines = "cd \"$0/d\" && read x <../shut && echo $x && ../bin/script && pwd";
        let argv = [shell.as_os_str(), "-c".as_ref(), lines.as_ref(), p.as_os_str()];
        as_over_a_bind_mount(name, &world, &p, &argv);
    }

    /// As in most containers.
    #[test]
    fn root_without_the_right_to_trace_anybody() {
        let name = "root_without_the_right_to_trace_anybody";
        if !is_root() {
            return;
        }
        let program = need!(name, guest("dumpable", Guest::Dynamic));
        let world = World::new();
        storm_ground(&world);
        let p = world.path("p");
        let mount = format!("{}=t", p.display());
        let powers = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"].map(OsStr::new);
        let trace = binaries::vrift_trace();
        let job = [trace.as_os_str(), "--quiet".as_ref(), "-m".as_ref()].into_iter().chain([
            OsStr::new(&mount),
            program.as_os_str(),
            p.as_os_str(),
        ]);
        let got = world.native(powers.into_iter().chain(job)).run().ok();
        let argv = [program.as_os_str(), p.as_os_str()];
        let kernel = need!(name, oracle::bound(&world, &world.path("src"), &p, argv)).run().ok();
        // That the flag is not cleared is what makes the rest right.
        assert_eq!(got.out(), kernel.out().replace("dumpable=0", "dumpable=1"), "{got}");
    }

    #[test]
    fn a_program_that_its_user_may_not_read() {
        let name = "a_program_that_its_user_may_not_read";
        let (world, p) = home();
        let program = world.path("shut");
        fs::copy("/bin/cat", &program).expect("copy");
        fs::set_permissions(&program, Permissions::from_mode(0o111)).expect("chmod");
        let argv = [program, p.join("f")];
        if is_root() {
            return as_over_a_bind_mount(name, &world, &p, &argv);
        }
        let got = world.trace(&[(&p, "t")], &argv).run();
        assert_ne!(got.code(), 0, "{got}");
        assert!(got.err().contains("may not be looked into"), "no reason: {got}");
    }

    /// Who owns what, and what may be read, in a user namespace of the caller's own.
    #[test]
    fn user_namespaces_of_their_own() {
        let name = "user_namespaces_of_their_own";
        let (world, p) = home();
        let secret = world.file("src/secret", "secret\n");
        fs::set_permissions(&secret, Permissions::from_mode(0o400)).expect("chmod");
        if is_root() {
            // Who isn't root can't store what it can't read.
            fs::set_permissions(&secret, Permissions::from_mode(0o000)).expect("chmod");
        }
        world.ingest(world.path("src"), "t");
        let lines = format!(
            "id -u; cd {p}; stat -c '%u %g %a %n' f d secret; find . -printf '%p %U %G\\n' | sort; \
             cat secret f; test -r secret && echo r; test -w secret && echo w; bin/script; \
             cd d; pwd -P; readlink /proc/self/cwd; stat -c '%u %g' ../../src; echo $$ >/dev/null",
            p = p.display()
        );
        for how in ["--user", "--map-root-user", "--map-current-user"] {
            let argv = ["unshare", how, "/bin/sh", "-c", &lines];
            as_over_a_bind_mount(name, &world, &p, &argv);
        }
        // Processes with other numbers than the supervisor knows them by.
        let argv = ["unshare", "--map-root-user", "--pid", "--fork", "/bin/sh", "-c", &lines];
        as_over_a_bind_mount(name, &world, &p, &argv);
        let nested =
            format!("unshare --map-root-user /bin/sh -c \"{}\"", lines.replace('$', "\\$"));
        as_over_a_bind_mount(
            name,
            &world,
            &p,
            &["unshare", "--map-root-user", "/bin/sh", "-c", &nested],
        );
        if is_root() {
            let no = "--bounding-set=-dac_override,-dac_read_search";
            let argv = ["setpriv", no, "--inh-caps=-all", "/bin/sh", "-c", &lines];
            as_over_a_bind_mount(name, &world, &p, &argv);
        }
    }

    /// What a job says with a summary; mounting, changing the root and the like must fail in it.
    fn with_summary(world: &World, p: &Path, script: &str) -> Outcome {
        let mount = format!("{}=t", p.display());
        let argv = ["--summary", "-m", &mount, "--", "/bin/sh", "-c", script];
        world.native([binaries::vrift_trace()]).args(argv).run()
    }

    #[test]
    fn another_root_or_mounts_are_refused_with_a_reason() {
        let name = "another_root_or_mounts_are_refused_with_a_reason";
        let bwrap = need!(name, skip::program("bwrap"));
        let (world, p) = home();
        let jail = world.dir("jail/p");
        fs::write(jail.join("f"), "the jail's own\n").expect("file");
        let (p_text, jail) = (p.display(), world.path("jail"));
        let mut tries = vec![
            ("unshare --map-root-user --mount true".to_owned(), "mount"),
            (format!("{} --ro-bind / / cat {p_text}/f", bwrap.display()), "mount"),
            ("nsenter --user --target $$ true".to_owned(), "setns"),
        ];
        let chroot = format!("chroot {} /bin/cat {p_text}/f", jail.display());
        tries.push((format!("unshare --map-root-user {chroot}"), "chroot"));
        if is_root() {
            tries.push((chroot, "chroot"));
            tries.push((format!("mount -t tmpfs none {p_text}"), "mount"));
        }
        for (command, call) in tries {
            let script = format!("{command} && exit 7; cat {p_text}/f; cd {p_text}/d && pwd -P");
            let got = with_summary(&world, &p, &script).ok();
            assert_eq!(got.out(), format!("hello\n{p_text}/d\n"), "{command}: {got}");
            let told = got.err().lines().any(|line| {
                line.trim_start().starts_with(&format!("{call} "))
                    && line
                        .contains("EPERM (in a job with mounts or rules paths keep their meaning)")
            });
            assert!(told, "{command}: no reason for {call}: {got}");
        }
    }

    /// What the guest `callers_hard` says over the projection.
    fn hard(name: &str, what: &str) -> Option<Outcome> {
        let program = match guest("callers_hard", Guest::Dynamic) {
            Ok(program) => program,
            Err(reason) => {
                skip::record(name, &reason);
                return None;
            }
        };
        let (world, p) = home();
        let argv = [program.as_os_str(), what.as_ref(), p.as_os_str(), "".as_ref()];
        Some(world.trace(&[(&p, "t")], argv).run().ok())
    }

    #[test]
    fn a_task_with_a_filter_of_its_own() {
        callers("filter", Guest::Dynamic, "callers_hard", "filter", "prctl");
        callers("filter", Guest::Bits32, "callers_hard", "filter", "prctl");
    }

    #[test]
    fn no_memory_for_a_page_more() {
        let Some(got) = hard("no_memory_for_a_page_more", "memory") else { return };
        assert_eq!(got.out(), "inside: ok\noutside: ENOMEM\n", "{got}");
        assert!(got.err().contains("can't be mapped into the process: ENOMEM"), "{got}");
    }

    #[test]
    fn a_task_that_landlock_confines() {
        let name = "a_task_that_landlock_confines";
        let Some(got) = hard(name, "landlock") else { return };
        if got.out().starts_with("landlock: ") {
            skip!(name, "this kernel has no Landlock: {}", got.out().trim());
        }
        let confined =
            "elsewhere: EACCES\nchdir: ok\nopen: ok\nbin/static: EACCES\nbin/static: 4d00\n";
        assert_eq!(got.out(), confined, "{got}");
        assert!(got.err().contains("its runnable copy may not be run"), "no reason: {got}");
    }

    #[test]
    fn fakeroot() {
        let name = "fakeroot";
        need!(name, skip::program("fakeroot"));
        let (world, p) = home();
        let lines = "id -u; cd $TMPDIR && rm -rf copy && cp -a $0 copy && chown -R 12:34 copy/d && stat -c '%u %g %a %n' copy/* copy/d/* && \
             tar -cf - -C copy . | tar -tvf - | awk '{print $1, $2, $6}' | sort; cd $0 && stat -c '%u %g' f && bin/script && cd d && cat g";
        let argv = |at: &Path| {
            [OsStr::new("fakeroot"), "/bin/sh".as_ref(), "-c".as_ref(), lines.as_ref(), at.as_ref()]
                .map(OsStr::to_owned)
        };
        let got = world.trace(&[(&p, "t")], argv(&p)).run().ok();
        // Not over the oracle's bind mount: in a user namespace fakeroot itself can't do all.
        assert_same(&got, &world.native(argv(&world.path("src"))).run().ok());
        assert!(got.out().contains("12 34 755 copy/d\n"), "{got}");
    }

    /// Under a tracer of the job's own look-ups, opens and reads work; what needs the task held
    /// gets EPERM, and the tracer is named. (gdb lets children go: those are as free as others.)
    fn traced(name: &str, tracer: &[&str]) {
        need!(name, skip::program(tracer[0]));
        let (world, p) = home();
        let run = |script: &str| {
            // In a file, as gdb passes arguments through a shell.
            let script = world.file("script", script);
            let argv =
                tracer.iter().map(OsStr::new).chain([OsStr::new("/bin/sh"), script.as_ref()]);
            world.trace(&[(&p, "t")], argv).run()
        };
        let p = p.display();
        let got =
            run(&format!("cat {p}/f; ls {p}/d; stat -c %s {p}/d/g; test -d {p}/x || echo no"));
        // gdb puts in lines of its own.
        for line in ["hello", "g", "5", "no"] {
            assert!(got.out().lines().any(|l| l == line), "no {line}: {got}");
        }
        assert!(!got.err().contains("vrift-trace:"), "{got}");
        for (script, call) in [
            (format!("cd {p}/d && echo entered"), "chdir"),
            (format!("exec {p}/bin/script"), "execve"),
        ] {
            let got = run(&script);
            assert!(!got.out().contains("entered") && !got.out().contains("script 0"), "{got}");
            let reason = format!("vrift-trace: {call}: EPERM, for {} (process ", tracer[0]);
            assert!(got.err().contains(&reason), "the tracer is not named: {got}");
        }
        let list = |to: &str| format!("ls /proc/$$/fd >$TMPDIR/{to}");
        let (before, after) = (list("before"), list("after"));
        let got = run(&format!(
            "{before}; cd {p}/d || cd {p}/d; {after}; cmp $TMPDIR/before $TMPDIR/after && echo none left"
        ));
        assert!(got.out().contains("none left"), "a descriptor stays behind: {got}");
    }

    #[test]
    fn traced_by_strace() {
        traced("traced_by_strace", &["strace", "-f", "-o", "/dev/null"]);
    }

    #[test]
    fn traced_by_gdb() {
        let gdb = ["gdb", "-q", "-nx", "-batch", "-ex", "run", "--args"];
        traced("traced_by_gdb", &gdb);
    }
}
