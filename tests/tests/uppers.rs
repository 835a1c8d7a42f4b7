//! Where an overlay keeps what changed: what a copy costs and what it keeps, an upper that is full,
//! one that is another job's or another tree's, and one whose job was killed.

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    use vrift_tests::job::{MARK, PATH, expect_no_leftovers, new_mark, patience};
    use vrift_tests::oracle::generate::Random;
    use vrift_tests::oracle::mutate::steps;
    use vrift_tests::oracle::script::{Sequence, write};
    use vrift_tests::oracle::whole::{Without, differences, make_readable};
    use vrift_tests::oracle::writable::plant;
    use vrift_tests::oracle::{self};
    use vrift_tests::store_guard::{Snapshot, damage};
    use vrift_tests::{Job, Outcome, World, binaries, hang, need, skip};

    fn is_root() -> bool {
        rustix::process::getuid().is_root()
    }

    /// A world with a small tree `t`, the path `p` where it is projected, and `upper` for it.
    fn world() -> (World, PathBuf, PathBuf) {
        let world = World::new();
        world.file("src/f", "text\n");
        world.file("src/d/x", "more\n");
        world.ingest(world.path("src"), "t");
        let (p, upper) = (world.path("p"), world.path("upper"));
        (world, p, upper)
    }

    /// A file system on a loop device, until it is dropped, whatever the test comes to.
    struct Disk(PathBuf);

    impl Drop for Disk {
        fn drop(&mut self) {
            let gone = Job::new(["umount"]).arg(&self.0).run();
            assert!(gone.code() == 0 || std::thread::panicking(), "{gone}");
        }
    }

    /// Waits until a job has made the file `started`, or has ended without.
    fn until_started<T>(started: &Path, job: &std::thread::ScopedJoinHandle<'_, T>) {
        let deadline = Instant::now() + Duration::from_secs(20) * patience();
        while !started.exists() && !job.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kept(upper: &Path) -> String {
        format!("t,mode=overlay,upper={}", upper.display())
    }

    /// One line that names `words`, status 125, and the command not run.
    #[track_caller]
    fn refused(job: Job, words: &[&str]) {
        let got = job.run().expect(125);
        assert!(got.err().starts_with("vrift-trace: "), "{got}");
        assert_eq!(got.err().trim_end().lines().count(), 1, "more than one line: {got}");
        assert_eq!(got.out(), "", "the command was run: {got}");
        for word in words {
            assert!(got.err().contains(word), "it does not name {word}: {got}");
        }
        assert!(!got.err().contains("panicked") && !got.err().contains("Os {"), "{got}");
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_job() {
        let (world, p, upper) = world();
        let first = "cd $0; echo changed >f; mkdir new; mv d/x new/y; rmdir d; ln -s f link; echo private >g; rm g";
        let argv = |script: &str| {
            ["sh".into(), "-ec".into(), script.into(), p.clone().into()] as [OsString; 4]
        };
        world.trace(&[(&p, &kept(&upper))], argv(first)).run().ok();
        assert!(upper.is_dir() && !p.exists());
        let second = "cd $0; cat f new/y link; ls; test ! -e d";
        let got = world.trace(&[(&p, &kept(&upper))], argv(second)).run().ok();
        assert_eq!(got.out(), "changed\nmore\nchanged\nf\nlink\nnew\n");
        // Without it the tree is what it was.
        let got = world.trace(&[(&p, "t,mode=overlay")], argv("cat $0/f $0/d/x")).run().ok();
        assert_eq!(got.out(), "text\nmore\n");
    }

    #[test]
    fn a_copy_that_was_only_read_goes_with_the_job() {
        let (world, p, upper) = world();
        let (started, go) = (world.path("started"), world.path("go"));
        let files = || fs::read_dir(upper.join("f")).map_or(0, Iterator::count);
        let script = format!(
            "cd {}; cat f d/x; touch {}; while [ ! -e {} ]; do sleep 0.02; done; echo last >>d/x",
            p.display(),
            started.display(),
            go.display()
        );
        std::thread::scope(|scope| {
            let job = scope.spawn(|| world.trace_sh(&[(&p, &kept(&upper))], &script).run());
            until_started(&started, &job);
            let during = files();
            fs::write(&go, "").expect("go");
            assert_eq!(job.join().expect("the job").ok().out(), "text\nmore\n");
            assert_eq!(during, 2, "files read, copied so that they can change");
        });
        assert_eq!(files(), 1, "the one that was changed");
        let script = format!("cd {}; cat f d/x", p.display());
        let got = world.trace_sh(&[(&p, &kept(&upper))], &script).run().ok();
        assert_eq!(got.out(), "text\nmore\nlast\n");
    }

    #[test]
    fn a_second_job_on_one_upper_is_refused() {
        let (world, p, upper) = world();
        let (started, go) = (world.path("started"), world.path("go"));
        let script = format!(
            "echo first >$0/f; touch {}; while [ ! -e {} ]; do sleep 0.02; done; cat $0/f",
            started.display(),
            go.display()
        );
        let argv: [OsString; 4] = ["sh".into(), "-ec".into(), script.into(), p.clone().into()];
        std::thread::scope(|scope| {
            let first = scope.spawn(|| world.trace(&[(&p, &kept(&upper))], argv).run());
            until_started(&started, &first);
            let second = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                refused(
                    world.trace(&[(&p, &kept(&upper))], ["echo", "ran"]),
                    &[&upper.display().to_string()],
                );
                // Another upper is no matter.
                let other = kept(&world.path("other"));
                world.trace(&[(&p, &other)], ["true"]).run().ok();
            }));
            fs::write(&go, "").expect("go");
            let first = first.join().expect("the first job").ok();
            assert_eq!(first.out(), "first\n");
            second.expect("the second job");
        });
        // When the first has ended, it's the next one's turn.
        world.trace(&[(&p, &kept(&upper))], ["true"]).run().ok();
    }

    #[test]
    fn an_upper_of_another_tree_is_refused_and_left_as_it_is() {
        let (world, p, upper) = world();
        world.trace_sh(&[(&p, &kept(&upper))], &format!("echo x >{}/new", p.display())).run().ok();
        world.file("src/more", "another tree\n");
        world.ingest(world.path("src"), "t");
        let before = differences(&upper, &upper, Without::default());
        assert!(before.is_empty());
        let copy = world.path("copy-of-upper");
        Job::new(["cp", "-a"]).arg(&upper).arg(&copy).run().ok();
        refused(
            world.trace(&[(&p, &kept(&upper))], ["echo", "ran"]),
            &[&upper.display().to_string()],
        );
        assert_eq!(differences(&copy, &upper, Without::default()), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_upper_is_refused_and_left_as_it_is() {
        let (world, p, upper) = world();
        let mine = world.file("mine/precious", "not to be touched\n");
        let file = world.file("file", "a file\n");
        let inside = p.join("inside");
        let in_store = world.store().join("blobs/upper");
        for (what, named) in [
            (mine.parent().expect("mine"), "mine"),
            (&file, "file"),
            (&inside, "inside"),
            (&in_store, "blobs"),
            (Path::new("/proc/nothing/upper"), "/proc/nothing"),
        ] {
            refused(world.trace(&[(&p, &kept(what))], ["echo", "ran"]), &[named]);
        }
        assert_eq!(fs::read(&mine).expect("mine"), b"not to be touched\n");
        assert_eq!(fs::read_dir(world.path("mine")).expect("mine").count(), 1);
        assert!(!in_store.exists() && !upper.exists());
        for bad in ["t,mode=overlay,upper=", "t,upper=/tmp/x", "t,mode=overlay,uper=/tmp/x"] {
            refused(world.trace(&[(&p, bad)], ["echo", "ran"]), &[]);
        }
    }

    /// A copy keeps the holes, all that is known of the file, and its inode number.
    #[test]
    fn a_sparse_file_stays_sparse() {
        let world = World::new();
        let file = fs::File::create(world.dir("src").join("sparse")).expect("create");
        file.set_len(1 << 30).expect("set_len");
        file.write_all_at(b"in the middle", 500 << 20).expect("write");
        drop(file);
        fs::hard_link(world.path("src/sparse"), world.path("src/twin")).expect("link");
        Job::new(["touch", "-d", "@1234567890.123456789"]).arg(world.path("src/sparse")).run().ok();
        world.ingest(world.path("src"), "t");
        let (p, upper) = (world.path("p"), world.path("upper"));
        let script = "cd $0; before=$(stat -c '%i %Y %y %s %h %a' sparse); chmod u+x sparse; chmod u-x sparse; after=$(stat -c '%i %Y %y %s %h %a' sparse)
            [ \"$before\" = \"$after\" ] || echo \"$before <> $after\"
            echo end >>sparse; stat -c '%i %s %h' sparse twin | uniq -c | sed 's/^ *\\([0-9]*\\) [0-9]*/\\1/'
            dd if=sparse bs=1M skip=500 count=1 status=none | head -c 13; echo; tail -c 4 twin";
        let argv: [OsString; 4] = ["sh".into(), "-ec".into(), script.into(), p.clone().into()];
        let got = world.trace(&[(&p, &kept(&upper))], argv).timeout(120).run().ok();
        assert_eq!(got.out(), "2 1073741828 2\nin the middle\nend\n");
        let used = Job::new(["du", "-sk"]).arg(&upper).run().ok().out();
        let kib: u64 = used.split_whitespace().next().and_then(|n| n.parse().ok()).expect("du");
        assert!(kib < 8 << 10, "{kib} KiB in the upper");
    }

    /// Runs `argv` with a tmpfs of `size` at `$world/small`.
    fn on_small(world: &World, size: &str, argv: Vec<OsString>) -> Outcome {
        let small = world.dir("small");
        let script = "size=$1 at=$2; shift 2; mount -t tmpfs -o size=$size,mode=777 none \"$at\" || exit 120
            if [ \"$(id -u)\" = 0 ]; then exec \"$@\"; fi; exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\"";
        let mut all: Vec<OsString> = vec!["unshare".into(), "--mount".into()];
        if !is_root() {
            all.extend(["--map-current-user", "--keep-caps"].map(OsString::from));
        }
        all.extend(["sh", "-c", script, "sh", size].map(OsString::from));
        all.push(small.into());
        all.extend(argv);
        world.native(all).run()
    }

    /// ENOSPC is the job's, at the call that needs the room; what was there stays, and with room
    /// made it goes on. The same as in a plain directory that is full.
    #[test]
    fn a_full_upper_says_so_and_loses_nothing() {
        let name = "uppers::a_full_upper_says_so_and_loses_nothing";
        need!(name, oracle::possible());
        let world = World::new();
        let large: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
        world.file("src/large", &large);
        world.file("src/f", "text\n");
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let script = "cd $0; sum=$(cksum <large)
            (echo more >>large) 2>&1 | sed 's/.*: //'; [ \"$sum\" = \"$(cksum <large)\" ] && echo as it was
            dd if=/dev/zero of=new bs=64k count=64 2>&1 | sed -n 's/.*: \\(No space\\)/\\1/p'; [ $(stat -c %s new) -gt 100000 ] && echo partly written
            (echo y >>f) 2>&1 | sed 's/.*: //'; cat f; rm new; echo z >>f; cat f; echo w >g; cat g; rm g; ls";
        let mut argv: Vec<OsString> = vec![binaries::vrift_trace().into(), "--quiet".into()];
        let mount = format!("{}={}", p.display(), kept(&world.path("small/upper")));
        argv.extend(["-m", &mount, "--", "sh", "-c", script].map(OsString::from));
        argv.push(p.into());
        let got = on_small(&world, "2M", argv).ok();
        assert_eq!(
            got.out(),
            "No space left on device\nas it was\nNo space left on device\npartly written\n\
             No space left on device\ntext\ntext\nz\nw\nf\nlarge\n",
            "{got}"
        );
    }

    /// As a full one, EDQUOT: a btrfs subvolume's, whose limit holds for root too.
    #[test]
    fn a_quota_says_so_and_loses_nothing() {
        let name = "uppers::a_quota_says_so_and_loses_nothing";
        if !is_root() {
            // Nothing that a machine could have: only root mounts a loop device.
            return;
        }
        let world = World::new();
        let large: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
        world.file("src/large", &large);
        world.file("src/f", "text\n");
        world.ingest(world.path("src"), "t");
        let image = world.path("image");
        fs::File::create(&image).and_then(|f| f.set_len(256 << 20)).expect("image");
        need!(name, skip::program("mkfs.btrfs").and(skip::program("btrfs")));
        let disk = world.dir("disk");
        let prepare = "mkfs.btrfs -q $0 && mount -o loop $0 $1 && btrfs subvolume create $1/sub &&
            btrfs quota enable $1 && btrfs qgroup limit 8M $1/sub";
        if world.native(["sh", "-c", prepare]).arg(&image).arg(&disk).run().code() != 0 {
            let _ = Job::new(["umount"]).arg(&disk).run();
            skip!(name, "can't mount a btrfs with quotas on a loop device here");
        }
        let disk = Disk(disk);
        let p = world.path("p");
        let script = "cd $0; sum=$(cksum <large)
            dd if=/dev/zero of=new bs=64k count=400 2>&1 | sed -n 's/.*: \\(Disk quota\\)/\\1/p'; [ $(stat -c %s new) -gt 1000000 ] && echo partly written
            (echo more >>large) 2>&1 | sed 's/.*: //'; [ \"$sum\" = \"$(cksum <large)\" ] && echo as it was; cat f; ls";
        let argv: [OsString; 4] = ["sh".into(), "-c".into(), script.into(), p.clone().into()];
        let got = world.trace(&[(&p, &kept(&disk.0.join("sub/upper")))], argv).run();
        assert_eq!(
            got.ok().out(),
            "Disk quota exceeded\npartly written\nDisk quota exceeded\nas it was\ntext\nf\nlarge\nnew\n"
        );
    }

    #[test]
    fn a_gibibyte_is_copied_by_reflink_at_once() {
        let name = "uppers::a_gibibyte_is_copied_by_reflink_at_once";
        if !is_root() {
            // Nothing that a machine could have: only root mounts a loop device.
            return;
        }
        let world = World::new();
        let image = world.path("image");
        fs::File::create(&image).and_then(|f| f.set_len(3 << 30)).expect("image");
        let made = Job::new(["mkfs.btrfs", "-q"]).arg(&image).run().code() == 0
            || Job::new(["mkfs.xfs", "-q", "-m", "reflink=1"]).arg(&image).run().code() == 0;
        if !made {
            skip!(name, "neither mkfs.btrfs nor mkfs.xfs");
        }
        let disk = world.dir("disk");
        if Job::new(["mount", "-o", "loop"]).arg(&image).arg(&disk).run().code() != 0 {
            skip!(name, "can't mount a loop device here");
        }
        let disk = Disk(disk);
        gibibyte(&world, &disk.0);
    }

    fn gibibyte(world: &World, disk: &Path) {
        let (source, store, p) = (disk.join("source"), disk.join("store"), world.path("p"));
        fs::create_dir(&source).expect("source");
        let make = "yes 'a gibibyte of it' | head -c 1073741824 >$0/large";
        world.native(["sh", "-c", make]).arg(&source).timeout(120).run().ok();
        let on_disk = |job: Job| job.env("VR_THE_SOURCE", &store).timeout(120);
        on_disk(world.vrift(["ingest", "--name", "t"]).arg(&source)).run().ok();
        let before = Snapshot::of(&store);
        // The first use of a blob reads it to see whether it is whole, whatever the use. That it
        // was is remembered from two seconds after its last change on (docs/STORE.md).
        std::thread::sleep(Duration::from_millis(2500));
        let look = world.trace(&[(&p, "t")], ["cmp".into(), p.join("large"), source.join("large")]);
        on_disk(look).run().ok();
        // The shell's own redirection: no other program is started between the two times.
        let script =
            "a=$EPOCHREALTIME; : >>$0/large; b=$EPOCHREALTIME; echo $(( ${b/./} - ${a/./} ))
            echo end >>$0/large; stat -c %s $0/large; tail -c 4 $0/large";
        let mut took: Vec<u64> = (0..3)
            .map(|_| {
                let argv: [OsString; 4] =
                    ["bash".into(), "-c".into(), script.into(), p.clone().into()];
                let job = world.trace(&[(&p, "t,mode=overlay")], argv);
                let said = on_disk(job).run().ok().out();
                let mut lines = said.lines();
                let took = lines.next().and_then(|us| us.parse().ok()).expect("microseconds");
                assert_eq!(lines.collect::<Vec<_>>(), ["1073741828", "end"]);
                took
            })
            .collect();
        took.sort_unstable();
        eprintln!("copy of 1 GiB by reflink: {took:?} us");
        assert!(took[1] < 20_000 * u64::from(patience()), "{took:?} us");
        assert_eq!(damage(&store, &before), Vec::<String>::new());
    }

    /// How a killed job's upper is compared: the tree of the steps that were done, or of one more.
    struct Killed {
        world: World,
        guest: PathBuf,
        sequence: Sequence,
    }

    impl Killed {
        fn at(&self) -> PathBuf {
            self.world.path("at/mnt")
        }

        fn text(&self, steps: usize) -> Vec<u8> {
            write(&[self.sequence[..steps].to_vec()], &self.world.path("at"))
        }

        /// Starts the job, kills it (or its supervisor alone) when `steps` answers have come and then
        /// `wait` has passed, and gives how many answers had come.
        fn kill_after(&self, steps: usize, wait: Duration, supervisor_alone: bool) -> usize {
            let mark = new_mark();
            let mut mount = self.at().into_os_string();
            mount.push("=");
            mount.push(kept(&self.world.path("upper")));
            let mut child = Command::new(binaries::vrift_trace())
                .args(["--quiet", "-m"])
                .arg(&mount)
                .arg("--")
                .arg(&self.guest)
                .env_clear()
                .env("PATH", PATH)
                .env("VR_THE_SOURCE", self.world.store())
                .env("TMPDIR", self.world.path("tmp"))
                .env(MARK, &mark)
                .current_dir(self.world.path(""))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("vrift-trace starts");
            let text = self.text(self.sequence.len());
            let mut stdin = child.stdin.take().expect("piped");
            let feeder =
                std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, &text)));
            let mut stdout = child.stdout.take().expect("piped");
            let (report, reports) = std::sync::mpsc::channel();
            let reader = std::thread::spawn(move || {
                let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                    said.extend_from_slice(&buffer[..n]);
                    let _ = report.send(answered(&said));
                }
                answered(&said)
            });
            let deadline = Instant::now() + Duration::from_secs(20) * patience();
            while reports.recv_timeout(deadline - Instant::now()).is_ok_and(|n| n < steps) {}
            std::thread::sleep(wait);
            if supervisor_alone {
                child.kill().expect("kill");
            } else {
                hang::kill(&mark);
            }
            child.wait().expect("wait");
            // Killed alone, it takes the job with it.
            expect_no_leftovers(&mark, "the killed job");
            feeder.join().expect("feeder");
            // The line that ends a sequence is no answer.
            reader.join().expect("reader").min(self.sequence.len())
        }

        fn plain_after(&self, steps: usize) -> PathBuf {
            let (at, aside) = (self.at(), self.world.path("aside"));
            for old in [&at, &aside] {
                if old.exists() {
                    make_readable(old);
                    Job::new(["rm", "-rf"]).arg(old).run().ok();
                }
            }
            self.world.vrift(["export", "tree"]).arg(&at).run().ok();
            self.world.native([&self.guest]).stdin(self.text(steps)).run().ok();
            // A directory that its owner may not write to can't be moved.
            make_readable(&at);
            fs::rename(&at, &aside).expect("set aside");
            aside
        }
    }

    /// How many answers were given before the supervisor was gone: without it the kernel says ENOSYS
    /// to what it would have been asked, until the job is ended.
    fn answered(said: &[u8]) -> usize {
        let mut lines: Vec<&[u8]> = said.split(|b| *b == b'\n').collect();
        lines.pop();
        let gone = lines.iter().position(|line| line.starts_with(b"-ENOSYS"));
        gone.unwrap_or(lines.len())
    }

    #[test]
    fn killed_at_any_moment_it_is_whole() {
        let name = "uppers::killed_at_any_moment_it_is_whole";
        let guest = need!(name, oracle::guest(true));
        let mut random = Random::new(20_261_124);
        let mut reached = Vec::new();
        for round in 0..20 {
            let world = World::new();
            plant(&world.path("src"));
            world.ingest(world.path("src"), "tree");
            world.ingest(world.path("src"), "t");
            world.dir("at");
            let mut sequence = steps(&mut random, 1500, is_root());
            // That is how the end is known, so nothing may say it that an older kernel doesn't have.
            sequence.retain(|step| !step.starts_with("fchmodat2") && !step.starts_with("file_"));
            let killed = Killed { world, guest: guest.clone(), sequence };
            let steps = 1 + random.below(1400);
            let wait = Duration::from_micros(random.below(2000) as u64);
            let done = killed.kill_after(steps, wait, round % 3 == 2);
            assert!(done > 0, "round {round}: the job did nothing");
            let commit = format!("{},commit=after", kept(&killed.world.path("upper")));
            // A killed process has no environment any more while it still closes what it held.
            let deadline = Instant::now() + Duration::from_secs(5) * patience();
            let next = loop {
                let next = killed.world.trace(&[(&killed.at(), &commit)], ["true"]).run();
                if !next.err().contains("in use by another job") || Instant::now() > deadline {
                    break next;
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            next.ok();
            let out = killed.world.path("out");
            killed.world.vrift(["export", "after"]).arg(&out).run().ok();
            make_readable(&out);
            let found = [done, done + 1].map(|steps| {
                let plain = killed.plain_after(steps.min(killed.sequence.len()));
                make_readable(&plain);
                differences(&plain, &out, Without::default())
            });
            assert!(
                found.iter().any(Vec::is_empty),
                "round {round}: after {done} steps, the last {:?}, the upper is neither that nor of one more:\n{}\n or\n{}",
                &killed.sequence[done.saturating_sub(1)..(done + 2).min(killed.sequence.len())],
                found[0].join("\n"),
                found[1].join("\n")
            );
            reached.push(done);
        }
        eprintln!("killed after so many steps: {reached:?}");
        assert!(reached.iter().filter(|n| **n < 1500).count() >= 10, "{reached:?}");
    }
}
