//! What fails in the middle: the supervisor, its keeper, a task, the store. Each ends with an
//! answer, in time, and leaves nothing behind.

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};
    use vrift_tests::job::{MARK, expect_no_leftovers, new_mark, patience};
    use vrift_tests::{Guest, World, binaries, guest, need, tree};

    const KILL: i32 = 9;

    /// A world with a mount `p` of a file, a directory, a script and a program.
    fn world(program: Option<&Path>) -> (World, PathBuf) {
        let world = World::new();
        world.file("src/f", "text\n");
        world.file("src/d/x", "more\n");
        let script = world.file("src/script", "#!/bin/sh\nexit 0\n");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("chmod");
        if let Some(program) = program {
            fs::copy(program, world.path("src/program")).expect("copy of the program");
        }
        world.dir("scratch");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        (world, p)
    }

    /// Work of every kind, without an end.
    const BUSY: &str = "cd $P/d; for i in 1 2 3 4; do (while :; do cat ../f x; ls -l ..; (cd ..; \
        ./script); /bin/true; cat ../../src/f; stat absent; done >/dev/null 2>&1) & done; wait";

    /// A job that runs until it is killed.
    struct Running {
        child: Child,
        mark: String,
        world: World,
    }

    impl Running {
        fn start() -> Running {
            let (world, p) = world(None);
            let mark = new_mark();
            let child = Command::new(binaries::vrift_trace())
                .args(["--summary=text", "-m"])
                .arg([p.as_os_str(), OsStr::new("=t")].join(OsStr::new("")))
                .args(["--", "sh", "-c", BUSY])
                .env("P", &p)
                .env("VR_THE_SOURCE", world.store())
                .env("TMPDIR", world.path("tmp"))
                .env(MARK, &mark)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("vrift-trace starts");
            Running { child, mark, world }
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.child.id()).expect("a process id")
        }

        /// The keeper: where there is none yet, as soon as there is.
        fn keeper(&self) -> i32 {
            soon("keeper", || children(self.pid()).into_iter().find(|c| !children(*c).is_empty()))
        }

        /// The status, or a failure after ten seconds; and what was said on stderr.
        fn end(&mut self) -> (std::process::ExitStatus, String) {
            let started = Instant::now();
            let status = loop {
                if let Some(status) = self.child.try_wait().expect("wait") {
                    break status;
                }
                if started.elapsed() > Duration::from_secs(10) * patience() {
                    let picture = vrift_tests::hang::picture(&self.mark);
                    vrift_tests::hang::kill(&self.mark);
                    panic!("no end within ten seconds\n{picture}");
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            expect_no_leftovers(&self.mark, "a busy job");
            let mut said = String::new();
            let stderr = self.child.stderr.as_mut().expect("piped");
            std::io::Read::read_to_string(stderr, &mut said).expect("stderr");
            (status, said)
        }

        fn jobs(&self) -> usize {
            fs::read_dir(self.world.store().join("jobs")).map_or(0, Iterator::count)
        }

        /// A job after it works, and sweeps what was left.
        fn next_job_is_well(&self) {
            let p = self.world.path("p");
            let got = self.world.trace(&[(&p, "t")], ["cat".into(), p.join("f")]).run().ok();
            assert_eq!(got.out(), "text\n");
            assert_eq!(self.jobs(), 0, "the next job sweeps");
        }
    }

    fn send(pid: i32, signal: i32) {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = Signal::from_named_raw(signal).expect("a signal");
        // Gone already: that is one of the moments.
        let _ = kill_process(Pid::from_raw(pid).expect("a process"), signal);
    }

    /// The children of a process; none when it is gone.
    fn children(pid: i32) -> Vec<i32> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        text.unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect()
    }

    /// What `look` finds within five seconds.
    fn soon(what: &str, look: impl Fn() -> Option<i32>) -> i32 {
        let end = Instant::now() + Duration::from_secs(5) * patience();
        while Instant::now() < end {
            if let Some(pid) = look() {
                return pid;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        panic!("no {what} was seen");
    }

    /// Moments from the very start to the middle of the work.
    fn moments(count: u32) -> impl Iterator<Item = Duration> {
        (0..count).map(|n| Duration::from_micros(u64::from(n * n) * 700 + u64::from(n % 7) * 131))
    }

    fn kill_after(moment: Duration, whom: impl Fn(&Running) -> Option<i32>) -> Running {
        let running = Running::start();
        std::thread::sleep(moment);
        if let Some(pid) = whom(&running) {
            send(pid, KILL);
        }
        running
    }

    #[test]
    fn a_job_ends_with_its_supervisor() {
        for moment in moments(24) {
            let mut running = kill_after(moment, |job| Some(job.pid()));
            let (status, _) = running.end();
            assert_eq!(status.code(), None, "killed after {moment:?}: {status}");
            running.next_job_is_well();
        }
    }

    #[test]
    fn a_job_ends_with_its_keeper() {
        for moment in moments(24) {
            let mut running = kill_after(moment, |job| Some(job.keeper()));
            let (status, said) = running.end();
            assert_eq!(status.code(), Some(125), "killed after {moment:?}: {status}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert_eq!(running.jobs(), 0, "the supervisor sweeps");
            running.next_job_is_well();
        }
    }

    /// Nobody is left to end such a job; what is promised is that the next one works and sweeps.
    #[test]
    fn what_both_left_behind_is_swept() {
        let mut running = Running::start();
        std::thread::sleep(Duration::from_millis(200));
        let supervisor = running.pid();
        let keeper = running.keeper();
        send(supervisor, 19); // SIGSTOP: it must not tidy up while the keeper is killed
        send(keeper, KILL);
        send(supervisor, KILL);
        let _ = running.child.wait();
        vrift_tests::hang::kill(&running.mark);
        running.end();
        running.next_job_is_well();
    }

    #[test]
    fn a_killed_command_is_a_status_and_takes_the_rest_along() {
        let mut told = 0;
        for moment in moments(16) {
            let first = |job: &Running| children(job.pid()).into_iter().flat_map(children).next();
            let mut running = kill_after(Duration::ZERO, |job| {
                soon("command", || first(job));
                std::thread::sleep(moment);
                first(job)
            });
            let (status, said) = running.end();
            // So early that it was not supervised yet it is no job.
            if status.code() != Some(125) {
                assert_eq!(status.code(), Some(137), "killed after {moment:?}: {said}");
                assert!(said.contains("exit status 137"), "{said}");
                told += 1;
            }
            running.next_job_is_well();
        }
        assert!(told > 4, "only {told} commands were killed");
    }

    #[test]
    fn a_task_may_die_in_every_call() {
        for how in [Guest::Dynamic, Guest::Static, Guest::Bits32] {
            let program = need!(&format!("faults::victims::{how:?}"), guest("adversary", how));
            let (world, p) = world(Some(&program));
            let argv = [program.as_os_str(), "victims".as_ref(), p.as_os_str(), "30".as_ref()];
            let job = world.trace(&[(&p, "t")], argv).cwd(world.path("scratch")).timeout(120);
            let got = job.run().ok();
            assert!(got.out().ends_with("0 breaches\n"), "{got}");
            assert!(!got.err().contains("defect"), "{got}");
        }
    }

    #[test]
    fn ten_thousand_processes_come_and_go() {
        let program = need!("faults::crowd", guest("adversary", Guest::Static));
        let (world, p) = world(Some(&program));
        let argv = [program.as_os_str(), "crowd".as_ref(), p.as_os_str(), "10000".as_ref()];
        let got = world.trace(&[(&p, "t")], argv).timeout(300).run().ok();
        assert!(got.out().starts_with("10000 processes\n"), "{got}");
        assert_eq!(got.err(), "", "{got}");
    }

    /// With hardly a descriptor of its own the supervisor says so, in the job and in the summary,
    /// and never gives a wrong answer.
    #[test]
    fn a_supervisor_without_descriptors_says_so() {
        let (world, p) = world(None);
        let mut refused = 0;
        for limit in 6..40 {
            let script = format!(
                "ulimit -n {limit}; exec {} --summary=text -m {}=t -- sh -c 'for i in 1 2 3 4 5 6; \
                 do cat {1}/f & (cd {1}/d && cat x) & {1}/script & ls {1} & done; wait; cat {1}/f'",
                binaries::vrift_trace().display(),
                p.display()
            );
            let got = world.sh(&script).timeout(60).run();
            for line in got.out().lines() {
                let known = ["text", "more", "d", "f", "script"].contains(&line);
                assert!(known, "limit {limit}: {line}: {got}");
            }
            assert!(!got.err().contains("defect"), "limit {limit}: {got}");
            assert!(!got.err().contains("panicked"), "limit {limit}: {got}");
            if got.code() == 125 {
                assert_eq!(got.err().lines().count(), 1, "limit {limit}: {got}");
            }
            if got.code() == 0 && !got.out().ends_with("text\n") {
                panic!("limit {limit}: the last read gave nothing and no error: {got}");
            }
            refused += u32::from(got.code() != 0);
        }
        assert!(refused > 0, "the limit was never too low: the test tests nothing");
        let enough = world.trace(&[(&p, "t")], ["cat".into(), p.join("f")]).run().ok();
        assert_eq!(enough.out(), "text\n");
    }

    /// The one blob with this content.
    fn blob_of(world: &World, content: &[u8]) -> PathBuf {
        let hex = blake3::hash(content).to_hex();
        world.store().join("blobs").join(&hex[..2]).join(hex.as_str())
    }

    /// A job that reads `f` and `d/x` and says what came of it: `f` is EIO, with a reason in the
    /// summary, and what is whole is still read.
    #[track_caller]
    fn f_is_an_error(world: &World, p: &Path, what: &str) {
        let script = format!("cat {0}/f; cat {0}/d/x; cp {0}/f copy && echo copied", p.display());
        let got = world
            .native([binaries::vrift_trace().as_os_str()])
            .args(["--summary=text", "-m"])
            .arg([p.as_os_str(), OsStr::new("=t")].join(OsStr::new("")))
            .args(["--", "sh", "-c", &script])
            .timeout(30)
            .run();
        assert_eq!(got.out(), "more\n", "{what}: {got}");
        assert!(got.err().contains("Input/output error"), "{what}: {got}");
        let told = |l: &str| l.contains("blob") && (l.contains("lost") || l.contains("damaged"));
        assert!(got.err().lines().any(told), "{what}: {got}");
    }

    #[test]
    fn a_blob_that_is_gone_is_an_error() {
        let (world, p) = world(None);
        let world = world.without_store_check();
        fs::remove_file(blob_of(&world, b"text\n")).expect("the blob");
        f_is_an_error(&world, &p, "removed");
    }

    #[test]
    fn a_blob_that_goes_while_a_job_runs_is_an_error() {
        let (world, p) = world(None);
        let world = world.without_store_check();
        let blob = blob_of(&world, b"text\n");
        let script = format!(
            "cat {0}/f; exec 3< {0}/f; echo x > go; until [ -e gone ]; do sleep 0.02; done; \
             cat {0}/f; cat <&3; cat {0}/d/x",
            p.display()
        );
        let got = std::thread::scope(|scope| {
            let job = world.trace_sh(&[(&p, "t")], &script).cwd(world.path("scratch")).timeout(30);
            let running = scope.spawn(move || job.run());
            while !world.path("scratch/go").exists() && !running.is_finished() {
                std::thread::sleep(Duration::from_millis(2));
            }
            fs::remove_file(&blob).expect("the blob");
            world.file("scratch/gone", "");
            running.join().expect("the job")
        });
        assert_eq!(got.out(), "text\ntext\nmore\n", "what was open stays: {got}");
        assert!(got.err().contains("Input/output error"), "{got}");
        assert!(got.err().contains("the store lost this blob"), "{got}");
    }

    #[test]
    fn a_damaged_blob_is_an_error_and_never_wrong_bytes() {
        type Damage = (&'static str, fn(&Path));
        let damages: [Damage; 8] = [
            ("another byte", |blob| fs::write(blob, "tExt\n").expect("write")),
            ("cut short", |blob| fs::write(blob, "tex").expect("write")),
            ("empty", |blob| fs::write(blob, "").expect("write")),
            ("longer", |blob| fs::write(blob, "text\nmore\n").expect("write")),
            ("a directory", |blob| fs::create_dir(blob).expect("mkdir")),
            ("a link to itself", |blob| std::os::unix::fs::symlink(blob, blob).expect("symlink")),
            ("a link to a device", |blob| {
                std::os::unix::fs::symlink("/dev/zero", blob).expect("symlink");
            }),
            ("a fifo", |blob| {
                let made = Command::new("mkfifo").arg(blob).status().expect("mkfifo");
                assert!(made.success());
            }),
        ];
        for (what, damage) in damages {
            let (world, p) = world(None);
            let world = world.without_store_check();
            let blob = blob_of(&world, b"text\n");
            fs::remove_file(&blob).expect("the blob");
            damage(&blob);
            f_is_an_error(&world, &p, what);
        }
    }

    /// Cut short anywhere, or with a bit turned anywhere: the job is not started and one line says
    /// why, or what is damaged is an error for the job; no wrong name, no wrong byte, no crash.
    #[test]
    fn a_damaged_manifest_is_told() {
        let (world, p) = world(None);
        tree::numbered(&world.path("more"), 40);
        world.ingest(world.path("more"), "other");
        let world = world.without_store_check();
        let list = || -> Vec<PathBuf> {
            let all = fs::read_dir(world.store().join("manifests")).expect("manifests").flatten();
            all.map(|e| e.path()).collect()
        };
        let look = format!("cd {0} && ls -lR . && cat f d/x && readlink f; true", p.display());
        let run = || world.trace_sh(&[(&p, "t")], &look).timeout(30).run();
        let right = run().ok().out();
        let named = world.vrift(["refs"]).run().ok().out();
        let manifest = list()
            .into_iter()
            .find(|m| {
                let name = m.file_name().expect("a name").to_string_lossy().into_owned();
                named.lines().any(|l| l.starts_with("t ") && l.contains(&name[..12]))
                    || fs::read(m).is_ok_and(|b| b.windows(6).any(|w| w == b"script"))
            })
            .expect("the manifest of t");
        let whole = fs::read(&manifest).expect("the manifest");
        fs::set_permissions(&manifest, fs::Permissions::from_mode(0o644)).expect("chmod");
        let mut told = 0;
        let mut check = |what: String| {
            let got = run();
            assert!(!got.err().contains("panicked"), "{what}: {got}");
            if got.code() == 125 {
                told += 1;
                assert_eq!(got.err().lines().count(), 1, "{what}: {got}");
            } else {
                let wrong = got.out() != right && !got.err().contains("rror");
                assert!(!wrong, "{what}: other than it was, and nobody says so: {got}");
            }
        };
        for part in 0..24 {
            fs::write(&manifest, &whole[..whole.len() * part / 24]).expect("write");
            check(format!("cut to {part}/24"));
        }
        for at in (0..whole.len()).step_by((whole.len() / 60).max(1)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&manifest, &bytes).expect("write");
            check(format!("bit {} of byte {at} of {}", at % 8, whole.len()));
        }
        fs::write(&manifest, &whole).expect("write");
        assert_eq!(run().ok().out(), right, "whole again");
        assert!(told >= 24, "only {told} of these were told at the start");
    }

    /// Arguments of every shape reach the same end.
    #[test]
    fn a_job_whose_command_is_not_there_leaves_nothing() {
        let (world, p) = world(None);
        for (argv, code) in [("/absent", 127), ("p/d", 126), ("p/f", 126), ("p/absent", 127)] {
            let argv = [OsString::from(argv)];
            let got = world.trace(&[(&p, "t")], argv).run();
            assert_eq!(got.code(), code, "{got}");
            assert_eq!(got.err().lines().count(), 1, "{got}");
        }
    }
}
