//! Overlays that a job sees as file systems of its own: what becomes of its changes, and of what has no
//! name any more, is copied, is fetched, or lies in another mount. (What each call answers, the oracle
//! asks: `overlay`.)

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use vrift_tests::oracle::whole::{Without, assert_same};
    use vrift_tests::{Job, World, lazily, need, skip, view};

    /// A job over the tree `t` at `p` with `more` said of its mount.
    fn sh(world: &World, p: &Path, more: &str, script: &str) -> Job {
        let mount = format!("t,mode=overlay{more}");
        world.trace_mounted(&[(p, &mount)], ["sh", "-ec", script]).env("P", p).cwd(p)
    }

    fn python(world: &World, p: &Path, more: &str, script: &str) -> Job {
        let mount = format!("t,mode=overlay{more}");
        let argv = ["/usr/bin/python3", "-Sc", script];
        world.trace_mounted(&[(p, &mount)], argv).cwd(p)
    }

    fn exported(world: &World, name: &str) -> PathBuf {
        let out = world.path(format!("exported-{name}"));
        world.vrift(["export", name]).arg(&out).run().ok();
        out
    }

    #[test]
    fn changes_are_thrown_away_kept_or_committed() {
        let name = "view_changes::changes_are_thrown_away_kept_or_committed";
        need!(name, view::possible());
        let (world, p) = view::world();
        let change =
            "echo changed >f; mkdir -m 750 new; echo n >new/n; ln new/n new/m; ln -s n new/l
            rm -r d; mv exe run; chmod 4711 run; mkfifo pipe; ./run one >/dev/null
            touch -d @1600000000 new/n; test \"$(cat new/m)\" = n; test ! -e d; stat -c %h new/n";
        let got = sh(&world, &p, "", change).run().ok();
        assert_eq!(got.out(), "2\n", "{got}");
        assert_same(&world.path("src"), &exported(&world, "t"), Without::default());

        let upper = format!(",upper={}", world.path("upper").display());
        sh(&world, &p, &upper, change).run().ok();
        // Another job goes on, by whichever view.
        let on = "cat f new/m; readlink new/l; test -p pipe; echo more >>new/n; rm pipe";
        let got = sh(&world, &p, &upper, on).run().ok();
        assert_eq!(got.out(), "changed\nn\nn\n", "{got}");
        let mount = format!("t,mode=overlay{upper},commit=after");
        let last = ["sh", "-c", "cat $0/new/m; rm $0/new/l", p.to_str().expect("UTF-8")];
        let got = world.trace(&[(&p, &mount)], last).run().ok();
        assert_eq!(got.out(), "n\nmore\n", "{got}");

        // The same on a disk.
        let disk = world.path("src");
        let script = format!("cd \"$0\"\n{change}\n{on}\nrm new/l");
        world.native(["sh", "-ec", &script]).arg(&disk).run().ok();
        let times = Without { times: true, ..Without::default() };
        assert_same(&disk, &exported(&world, "after"), times);
        assert!(world.vrift(["verify"]).run().ok().err().is_empty());
        assert_eq!(fs::read_dir(&p).expect("outside").count(), 0);
    }

    #[test]
    fn what_is_open_outlives_its_name() {
        let name = "view_changes::what_is_open_outlives_its_name";
        need!(name, view::possible());
        need!(name, skip::program("python3"));
        let (world, p) = view::world();
        // More files than the supervisor keeps descriptors of; made, changed, and never changed.
        let script = "import os, stat
made = []
for i in range(400):
    fd = os.open(f'made{i}', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0 if i % 2 else 0o400)
    os.write(fd, b'first %d' % i); made.append(fd)
base = os.open('f', os.O_RDWR); untouched = os.open('twin', os.O_RDONLY)
was = os.pread(untouched, 100, 0)
for i in range(400): os.unlink(f'made{i}')
os.unlink('f'); os.unlink('hard'); os.unlink('twin'); os.mkfifo('pipe')
pipe = os.open('pipe', os.O_RDWR); os.unlink('pipe')
for i, fd in enumerate(made):
    assert os.pread(fd, 100, 0) == b'first %d' % i, i
    os.pwrite(fd, b'later', 0); os.ftruncate(fd, 5 + i); os.fchmod(fd, 0o640)
assert os.pwrite(base, b'HELLO', 0) == 5
for i, fd in enumerate(made):
    s = os.fstat(fd)
    assert (s.st_nlink, s.st_size, stat.S_IMODE(s.st_mode)) == (0, 5 + i, 0o640), (i, s)
    assert os.pread(fd, 5, 0) == b'later'
    again = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY)
    assert os.pread(again, 5, 0) == b'later'; os.close(again); os.close(fd)
assert os.pread(base, 100, 0) == b'HELLO\\n' and os.fstat(base).st_nlink == 0
assert os.pread(untouched, 100, 0) == was and os.fstat(untouched).st_nlink == 0
assert stat.S_ISFIFO(os.fstat(pipe).st_mode)
os.mkdir('gone'); here = os.open('gone', os.O_RDONLY); os.rmdir('gone')
assert os.fstat(here).st_nlink == 0 and os.listdir(here) == []
try: os.open('x', os.O_CREAT | os.O_WRONLY, dir_fd=here)
except FileNotFoundError: print('done')";
        let got = python(&world, &p, ",commit=after", script).run().ok();
        assert_eq!(got.out(), "done\n", "{got}");
        let after = exported(&world, "after");
        assert!(!after.join("f").exists() && !after.join("made1").exists());
        assert!(world.vrift(["verify"]).run().ok().err().is_empty());
    }

    #[test]
    fn large_files_are_copied_while_others_are_answered() {
        let name = "view_changes::large_files_are_copied_while_others_are_answered";
        need!(name, view::possible());
        need!(name, skip::program("python3"));
        let world = World::new();
        fs::create_dir(world.path("src")).expect("mkdir");
        let large: Vec<u8> = (0..8_u32 << 20).map(|i| (i / 7 % 251) as u8).collect();
        for i in 0..4 {
            world.file(format!("src/large{i}"), &large);
        }
        world.ingest(world.path("src"), "t");
        let p = world.dir("p");
        let script = "import mmap, os, threading
def change(i):
    fd = os.open(f'large{i}', os.O_RDWR)
    if i == 0: os.pwrite(fd, b'written', 5000000)
    if i == 1: mmap.mmap(fd, 0)[5000000:5000007] = b'written'
    if i == 2: os.truncate(f'large{i}', 6000000)
    if i == 3: os.posix_fallocate(fd, 0, 9 << 20)
    os.close(fd)
threads = [threading.Thread(target=change, args=(i,)) for i in range(4)]
for t in threads: t.start()
for i in range(200): os.stat(f'large{i % 4}'); open(f'small{i}', 'w').write('small')
for t in threads: t.join()
made = os.open('copied', os.O_RDWR | os.O_CREAT)
assert os.copy_file_range(os.open('large0', os.O_RDONLY), made, 9000, 4999000, 3) == 9000
assert os.pread(made, 7, 1003) == b'written' and os.fstat(made).st_size == 9003
for i in range(4): print(os.stat(f'large{i}').st_size)";
        let got = python(&world, &p, ",commit=after", script).run().ok();
        assert_eq!(got.out(), "8388608\n8388608\n6000000\n9437184\n", "{got}");
        let after = exported(&world, "after");
        let is = |i: usize| fs::read(after.join(format!("large{i}"))).expect("it is there");
        let mut written = large.clone();
        written[5_000_000..5_000_007].copy_from_slice(b"written");
        assert!(is(0) == written && is(1) == written);
        assert!(is(2) == large[..6_000_000] && is(3)[..large.len()] == large);
        assert_eq!(fs::read(after.join("small199")).expect("small"), b"small");
    }

    #[test]
    fn what_is_written_to_is_fetched_and_what_is_cut_is_not() {
        let name = "view_changes::what_is_written_to_is_fetched_and_what_is_cut_is_not";
        need!(name, view::possible());
        let world = World::new();
        fs::create_dir(world.path("src")).expect("mkdir");
        for file in ["appended", "cut", "moved", "left"] {
            world.file(format!("src/{file}"), format!("content of {file}\n"));
        }
        let far = lazily::far(&world);
        lazily::pull(&world, &far, &[]).run().ok();
        world.dir("p");
        let mut mount = world.path("p").into_os_string();
        mount.push("=t,mode=overlay");
        let script = "cd $P; echo more >>appended; echo new >cut; mv moved there; ls -l >/dev/null
            cat appended cut";
        let options = ["--summary=json", "--view", "mount"];
        let got = lazily::over(&world, &mount, &options, script).env("P", world.path("p"));
        let got = got.run().ok();
        assert_eq!(got.out(), "content of appended\nmore\nnew\n", "{got}");
        assert_eq!(lazily::blobs(&world), 1, "{got}");
    }

    #[test]
    fn overlays_lie_in_other_mounts_and_hold_them() {
        let name = "view_changes::overlays_lie_in_other_mounts_and_hold_them";
        need!(name, view::possible());
        let (world, p) = view::world();
        let inner = p.join("d/inner");
        let script = "cd $P; echo changed >f; echo inner >d/inner/f; echo beside >d/beside
            mkdir d/made; mv d/made d/inner/ 2>&1 | grep -c 'inter-device\\|cross-device' || true
            for what in 'mv d x' 'rmdir d/inner' 'mv d/inner d/x' 'ln f d/inner/g'; do
                $what 2>/dev/null && echo \"$what: done\"; done
            cat f d/inner/f d/beside; ls d/inner | head -2; ls d";
        let (outer, inside) = ("t,mode=overlay,commit=outer", "t,mode=overlay,commit=inner");
        let got = world
            .trace_mounted(&[(&p, outer), (&inner, inside)], ["sh", "-c", script])
            .env("P", &p)
            .run()
            .ok();
        assert!(!got.out().contains(": done"), "{got}");
        assert!(got.out().contains("changed\ninner\nbeside\n"), "{got}");
        let (outer, inside) = (exported(&world, "outer"), exported(&world, "inner"));
        assert_eq!(fs::read_to_string(outer.join("f")).expect("f"), "changed\n");
        assert!(outer.join("d/beside").exists() && !outer.join("d/inner").exists());
        assert_eq!(fs::read_to_string(inside.join("f")).expect("f"), "inner\n");

        // In one that can't be changed.
        let script = "cd $P; echo x >d/inner/f && (echo x >f) 2>/dev/null || echo refused";
        let mounts = [(p.as_path(), "t"), (inner.as_path(), "t,mode=overlay")];
        let got = world.trace_mounted(&mounts, ["sh", "-c", script]).env("P", &p).run().ok();
        assert_eq!(got.out(), "refused\n", "{got}");
    }

    #[test]
    fn many_tasks_list_and_change_a_directory_at_the_same_time() {
        let name = "view_changes::many_tasks_list_and_change_a_directory_at_the_same_time";
        need!(name, view::possible());
        need!(name, skip::program("python3"));
        let (world, p) = view::world();
        let script = "import os, time
os.mkdir('shared'); os.mkdir('beside')
for i in range(300): open(f'shared/stays{i}', 'w').write('stays')
end = time.monotonic() + 3
pids = []
for worker in range(6):
    pid = os.fork()
    if pid == 0:
        turn = 0
        while time.monotonic() < end:
            turn += 1
            if worker % 2:
                seen = []
                for e in os.scandir('shared'):
                    try: e.stat(follow_symlinks=False)
                    except FileNotFoundError: continue
                    seen.append(e.name)
                stays = [n for n in seen if n.startswith('stays')]
                assert len(stays) == len(set(stays)) == 300, (len(stays), len(set(stays)))
            else:
                where = 'shared' if turn % 2 else 'beside'
                name = f'{where}/w{worker}-{turn}'
                with open(name, 'w') as made: made.write(name)
                os.rename(name, name + 'x'); os.link(name + 'x', name); os.unlink(name + 'x')
                assert open(name).read() == name
                os.unlink(name)
        os._exit(0)
    pids.append(pid)
ended = [os.waitpid(pid, 0)[1] for pid in pids]
print(ended, len(os.listdir('shared')))";
        let got = python(&world, &p, "", script).timeout(60).run().ok();
        assert_eq!(got.out(), "[0, 0, 0, 0, 0, 0] 300\n", "{got}");
    }

    #[test]
    fn a_killed_supervisor_leaves_what_is_kept_whole() {
        let name = "view_changes::a_killed_supervisor_leaves_what_is_kept_whole";
        need!(name, view::possible());
        let (world, p) = view::world();
        let upper = format!(",upper={}", world.path("upper").display());
        let script = "i=0; while :; do i=$((i+1)); echo $i >n$i; mv n$i m$i; test $i = 50 &&
            kill -9 $PPID $(ps -o ppid= $PPID); done";
        let got = sh(&world, &p, &upper, script).timeout(60).run();
        assert_ne!(got.code(), 0, "{got}");
        let look =
            "i=1; while test $i -lt 50; do test \"$(cat m$i)\" = $i; i=$((i+1)); done; echo all";
        let got = sh(&world, &p, &upper, look).run().ok();
        assert_eq!(got.out(), "all\n", "{got}");
    }

    #[test]
    fn a_full_disk_says_so() {
        let name = "view_changes::a_full_disk_says_so";
        need!(name, view::possible());
        if !rustix::process::getuid().is_root() {
            // Nothing that a machine could have: only root can mount a small disk.
            return;
        }
        let (world, p) = view::world();
        let disk = world.dir("disk");
        let mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "small"];
        Job::new(mount).arg(&disk).run().ok();
        let upper = format!(",upper={}", disk.join("upper").display());
        let script =
            "head -c 3000000 /dev/zero >big || echo refused; rm big; echo small >small; cat small";
        let got = sh(&world, &p, &upper, script).run();
        Job::new(["umount"]).arg(&disk).run().ok();
        assert_eq!((got.code(), got.out().as_str()), (0, "refused\nsmall\n"), "{got}");
        assert!(got.err().contains("No space left on device"), "{got}");
    }
}
