//! inotify in a writable mount tells what it tells in a plain directory.

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::{Path, PathBuf};
    use vrift_tests::{Guest, Job, World, binaries, guest, need};

    /// Who runs a test's commands.
    #[derive(Clone, Copy, PartialEq)]
    enum Who {
        Me,
        Nobody,
    }

    const NOBODY: &str = "65534";

    /// A tree to change in `plain`, and the same in the store as `t`.
    struct Place {
        world: World,
        who: Who,
    }

    impl Place {
        fn new(who: Who) -> Place {
            let world = World::new();
            for (name, content) in [("d/one", "one\n"), ("d/two", "two\n"), ("d/sub/x", "x\n")] {
                world.file(Path::new("src").join(name), content);
            }
            world.file("src/e/e1", "e1\n");
            world.file("src/d/h1", "linked\n");
            // Too large to be copied when it is read, were it not watched.
            world.file("src/d/big", vec![b'b'; 3 << 20]);
            fs::hard_link(world.path("src/d/h1"), world.path("src/e/h2")).expect("link");
            symlink("one", world.path("src/d/link")).expect("symlink");
            if who == Who::Nobody {
                world.native(["chown", "-R", NOBODY, "."]).run().ok();
            }
            let place = Place { world, who };
            let (source, plain) = (place.world.path("src"), place.world.path("plain"));
            let copy = ["cp".into(), "-a".into(), source.clone().into(), plain.into()];
            place.run(copy.into()).run().ok();
            let vrift = binaries::vrift().as_os_str().to_owned();
            let ingest = [vrift, "ingest".into(), source.into(), "--name".into(), "t".into()];
            place.run(ingest.into()).run().ok();
            place
        }

        fn run(&self, argv: Vec<OsString>) -> Job {
            let ids = format!("--reuid={NOBODY}");
            let become_nobody = ["setpriv", &ids, "--regid=65534", "--clear-groups"];
            let prefix: &[&str] = if self.who == Who::Nobody { &become_nobody } else { &[] };
            let prefix = prefix.iter().map(OsString::from);
            self.world.native(prefix.chain(argv)).timeout(120)
        }

        fn natively(&self, program: &Path, args: &[&str]) -> Job {
            let words = args.iter().map(OsString::from);
            let plain = self.world.path("plain").into_os_string();
            self.run([program.into(), plain].into_iter().chain(words).collect())
        }

        /// Under `vrift-trace`, with these options of the mount.
        fn traced(&self, options: &str, program: &Path, args: &[&str]) -> Job {
            let at = self.world.path("p");
            let mount = format!("{}=t,mode=overlay{options}", at.display());
            let trace = binaries::vrift_trace().as_os_str().to_owned();
            let argv = [trace, "--quiet".into(), "-m".into(), mount.into(), "--".into()];
            let words = args.iter().map(OsString::from);
            self.run(argv.into_iter().chain([program.into(), at.into()]).chain(words).collect())
        }
    }

    /// What is not the same in both, by lines.
    fn compare(native: &str, traced: &str) {
        let (a, b): (Vec<_>, Vec<_>) = (native.lines().collect(), traced.lines().collect());
        if a == b {
            return;
        }
        let at = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        let around = |lines: &[&str]| {
            lines[at.saturating_sub(6).min(lines.len())..(at + 6).min(lines.len())].join("\n")
        };
        panic!(
            "line {} differs\n--- in a plain directory\n{}\n--- in the mount\n{}",
            at + 1,
            around(&a),
            around(&b)
        );
    }

    fn as_in_a_plain_directory(program: &Path, who: Who, options: &str) -> Place {
        let place = Place::new(who);
        let native = place.natively(program, &[]).run().ok();
        assert!(native.out().contains("MOVED_TO"), "the guest hears nothing: {native}");
        let traced = place.traced(options, program, &[]).run().ok();
        compare(&native.out(), &traced.out());
        assert!(!traced.err().contains("watched"), "told that something is missing: {traced}");
        place
    }

    fn program(name: &str) -> Result<PathBuf, String> {
        guest("notify", Guest::Dynamic).map_err(|e| format!("{name}: {e}"))
    }

    fn is_root() -> bool {
        rustix::process::getuid().is_root()
    }

    #[test]
    fn events_are_those_of_a_plain_directory() {
        let program = need!("notify::events", program("notify"));
        as_in_a_plain_directory(&program, Who::Me, "");
        if is_root() {
            as_in_a_plain_directory(&program, Who::Nobody, "");
        }
    }

    #[test]
    fn the_tree_is_what_a_plain_directory_is_afterwards() {
        let program = need!("notify::tree", program("notify"));
        let place = as_in_a_plain_directory(&program, Who::Me, ",commit=after");
        let world = &place.world;
        let out = world.path("out");
        world.vrift([OsStr::new("export"), OsStr::new("after"), out.as_ref()]).run().ok();
        let differ = ["diff", "-r", "--no-dereference", "plain", "out"];
        world.native(differ).run().ok();
    }

    #[test]
    fn before_linux_5_19_only_closing_may_be_late() {
        let program = need!("notify::older", program("notify"));
        let place = Place::new(Who::Me);
        let native = place.natively(&program, &[]).run().ok();
        let traced = place.traced("", &program, &[]);
        let older = traced.env("VRIFT_WITHOUT", "wait-killable").env("NOTIFY_PAUSE", "20");
        compare(&native.out(), &older.run().ok().out());
    }

    /// A directory on another file system than the tests' own.
    fn elsewhere(world: &World) -> Result<tempfile::TempDir, String> {
        let dir = tempfile::tempdir_in("/dev/shm").map_err(|e| format!("/dev/shm: {e}"))?;
        let device = |path: &Path| fs::metadata(path).expect("it is there").dev();
        if device(dir.path()) == device(&world.path("")) {
            return Err("/dev/shm is the file system of the temporary directory".into());
        }
        Ok(dir)
    }

    #[test]
    fn an_upper_directory_elsewhere_tells_the_same() {
        let program = need!("notify::elsewhere", program("notify"));
        for who in [Who::Me, Who::Nobody] {
            if who == Who::Nobody && !is_root() {
                continue;
            }
            let place = Place::new(who);
            let dir = need!("notify::elsewhere", elsewhere(&place.world));
            if who == Who::Nobody {
                let chown = [OsStr::new("chown"), OsStr::new(NOBODY), dir.path().as_os_str()];
                place.world.native(chown).run().ok();
            }
            let upper = dir.path().join("upper");
            let options = format!(",upper={}", upper.display());
            let native = place.natively(&program, &[]).run().ok();
            let traced = place.traced(&options, &program, &[]).run().ok();
            compare(&native.out(), &traced.out());
            // The next job starts without anything watched, and finds all that was written.
            assert!(upper.join("w").exists(), "nothing was watched");
            let shown = place.traced(&options, Path::new("/usr/bin/find"), &[]).run().ok();
            let found = place.natively(Path::new("/usr/bin/find"), &[]).run().ok();
            let below = |text: String, top: &str| {
                let mut names: Vec<_> = text.lines().map(|line| line.replace(top, "")).collect();
                names.sort();
                names
            };
            let (p, plain) = (place.world.path("p"), place.world.path("plain"));
            assert_eq!(
                below(shown.out(), &p.to_string_lossy()),
                below(found.out(), &plain.to_string_lossy())
            );
            assert!(!upper.join("w").exists(), "what was watched is kept");
        }
    }

    #[test]
    fn a_build_is_followed_file_by_file() {
        let program = need!("notify::build", program("notify"));
        let place = Place::new(Who::Me);
        place.natively(&program, &["125"]).run().ok();
        let traced = place.traced("", &program, &["125"]).run().ok();
        assert_eq!(traced.out(), "500 files\n");
    }
}
