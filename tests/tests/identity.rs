//! Identity and metadata: what every way of looking says of a projected tree is what it says
//! of the real one, and tools that compare, copy and archive see nothing odd.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};
    use vrift_tests::{Guest, World, guest, need, oracle, skip, tree};

    fn word(path: &Path) -> String {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
        path.as_os_str()
            .as_bytes()
            .iter()
            .map(|b| if plain(b) { char::from(*b).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<_> =
            fs::read_dir(dir).expect("read_dir").flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            found.push(path.clone());
            if fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
                walk(&path, found);
            }
        }
    }

    /// Looks at every entry in every way, absolutely, from a working directory and from a
    /// directory descriptor, and through paths that only the kernel's rules make clear.
    fn looks(source: &Path, at: &Path) -> String {
        let mut paths = Vec::new();
        walk(source, &mut paths);
        let at_word = word(at);
        let mut script = format!(
            "chdir {at_word}\ngetcwd\nopen 9 {at_word} O_RDONLY|O_DIRECTORY|O_CLOEXEC\nlist 9\n"
        );
        for path in &paths {
            let relative = word(path.strip_prefix(source).expect("below"));
            let whole = format!("{at_word}/{relative}");
            for look in [
                format!("stat {whole}"),
                format!("lstat {relative}"),
                format!("fstatat 9 {relative} AT_SYMLINK_NOFOLLOW"),
                format!("fstatat 9 {relative} 0"),
                format!("statx 9 {relative} AT_SYMLINK_NOFOLLOW"),
                format!("statx - {whole} 0"),
                format!("readlink {whole}"),
                format!("readlinkat 9 {relative} 3"),
                format!("access {relative} R_OK"),
                format!("access {relative} X_OK"),
                format!("getxattr {relative} user.colour"),
                format!("getxattr_size {relative} user.colour"),
                format!("lgetxattr {whole} user.kind"),
                format!("listxattr {relative}"),
                format!("open 1 {relative} O_RDONLY"),
                "fstat 1".to_owned(),
                "statx 1 \"\" AT_EMPTY_PATH".to_owned(),
                "flags 1".to_owned(),
                "read 1 2000000".to_owned(),
                "readlink /proc/self/fd/{1}".to_owned(),
                "flistxattr 1".to_owned(),
                "fgetxattr 1 user.colour".to_owned(),
                "list 1".to_owned(),
                "close 1".to_owned(),
                format!("openat 1 9 {relative} O_RDONLY|O_NOFOLLOW|O_NONBLOCK"),
                "fstat 1".to_owned(),
                "close 1".to_owned(),
            ] {
                script.push_str(&look);
                script.push('\n');
            }
        }
        let tricky = [
            "d/..",
            "d/../f",
            "d//e///g",
            "./././f",
            "d/e/../x",
            "dirlink/../f",
            "deeplink/../x",
            "deeplink/../../f",
            "self/self/self/f",
            "d/winding",
            "d/up",
            "link-slash",
            "f/..",
            "f/.",
            "absent/..",
            "d/.",
            "d/./e/.",
            "void/..",
            "out/bin/tool",
            "CASE",
            "case",
            "Case",
            "dangling/x",
            "loop-a/x",
            "chain-39",
            "chain-40",
            "chain-41",
            "chain-42",
            "out//bin/../bin",
            "",
        ];
        for path in tricky.map(|t| if t.is_empty() { "\"\"".to_owned() } else { t.to_owned() }) {
            for call in ["stat", "lstat", "readlink"] {
                script.push_str(&format!("{call} {path}\n"));
            }
            script.push_str(&format!(
                "open 1 {path} O_RDONLY\nfstat 1\nreadlink /proc/self/fd/{{1}}\n"
            ));
        }
        let long = "x".repeat(256);
        script.push_str(&format!(
            "stat {long}\nstat {at_word}/{long}\nstat d/{}\n",
            "./".repeat(2100)
        ));
        for dir in [
            "d/e",
            "..",
            "..",
            "void",
            "/proc/self/cwd",
            "../dirlink",
            "e",
            "../../deeplink",
            "f",
            "absent",
        ] {
            script.push_str(&format!(
                "chdir {dir}\ngetcwd\nstat .\naccess .. X_OK\nreadlink /proc/self/cwd\n"
            ));
        }
        script.push_str(
            "fchdir 9\ngetcwd\nopenat 2 9 d O_RDONLY|O_DIRECTORY\nfchdir 2\ngetcwd\nstat e/g\n",
        );
        script.push_str("openat2 3 9 d/e/g O_RDONLY RESOLVE_BENEATH\nopenat2 3 9 ../x O_RDONLY RESOLVE_BENEATH\n");
        script
    }

    /// How often the kernel is asked at most. While something else renames, its walk starts over
    /// in the middle and counts links twice: a chain of more than 20 is now and then ELOOP.
    const ASKED: usize = 6;

    /// openat2 may be refused as a whole (ENOSYS: callers fall back), but never answered wrongly.
    fn same_lines(projected: &str, kernel: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        let answers: Vec<Vec<&str>> = kernel.iter().map(|k| k.lines().collect()).collect();
        for (i, p) in projected.lines().enumerate() {
            let known: Vec<&str> = answers.iter().filter_map(|a| a.get(i)).copied().collect();
            let not_there = p.starts_with("openat2 ") && p.ends_with("-1 ENOSYS");
            if !known.contains(&p) && !not_there {
                wrong.push(format!("kernel:     {}\nprojection: {p}", known.join(" or ")));
            }
        }
        if answers.iter().any(|a| a.len() != projected.lines().count()) {
            wrong.push("not the same number of answers".to_owned());
        }
        wrong
    }

    fn every_look(how: Guest) {
        let name = format!("every_look::{how:?}");
        let ops = need!(&name, guest("ops", how));
        let world = World::new();
        let (source, p) = (world.path("src"), world.path("p"));
        tree::sample(&source);
        world.ingest(&source, "sample");
        need!(&name, compare_looks(&world, &ops, &source, &p));
    }

    fn compare_looks(world: &World, ops: &Path, source: &Path, p: &Path) -> Result<(), String> {
        let script = looks(source, p);
        let got = world.trace(&[(p, "sample")], [ops]).stdin(&script).run().ok();
        let mut kernel = Vec::new();
        let mut wrong = Vec::new();
        for _ in 0..ASKED {
            let oracle = oracle::bound(world, source, p, [ops])?;
            kernel.push(oracle.stdin(&script).run().ok().out());
            wrong = same_lines(&got.out(), &kernel);
            if wrong.is_empty() {
                return Ok(());
            }
        }
        let total = wrong.len();
        panic!("{total} differ:\n{}", wrong[..total.min(40)].join("\n"));
    }

    #[test]
    fn every_look_of_a_dynamic_program() {
        every_look(Guest::Dynamic);
    }

    #[test]
    fn every_look_by_raw_system_calls() {
        every_look(Guest::Raw);
    }

    #[test]
    fn every_look_of_a_static_program() {
        every_look(Guest::Static);
    }

    #[test]
    fn every_look_of_a_musl_program() {
        every_look(Guest::Musl);
    }

    #[test]
    fn every_look_of_a_32_bit_program() {
        every_look(Guest::Bits32);
    }

    /// Over a directory that exists on disk, with other things in it, the answers are the same.
    #[test]
    fn every_look_over_a_real_directory() {
        let name = "every_look_over_a_real_directory";
        let ops = need!(name, guest("ops", Guest::Dynamic));
        let world = World::new();
        let (source, p) = (world.path("src"), world.path("p"));
        tree::sample(&source);
        world.ingest(&source, "sample");
        world.file("p/f", "another f\n");
        world.file("p/absent", "there on disk only\n");
        need!(name, compare_looks(&world, &ops, &source, &p));
    }

    #[test]
    fn numbers_are_one_for_a_path_and_the_same_from_run_to_run() {
        let world = World::new();
        tree::sample(&world.path("src"));
        world.ingest(world.path("src"), "sample");
        let p = world.path("p");
        let script = format!("find {} -printf '%D %i %p\\n' | sort -k3", p.display());
        let run = || world.trace_sh(&[(&p, "sample")], &script).run().ok().out();
        let (first, second) = (run(), run());
        assert_eq!(first, second);
        let mut devices = BTreeSet::new();
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in first.lines() {
            let mut words = line.splitn(3, ' ');
            let (Some(dev), Some(ino), Some(path)) = (words.next(), words.next(), words.next())
            else {
                continue; // the second half of the name with a newline in it
            };
            devices.insert(dev.to_owned());
            paths
                .entry(ino.to_owned())
                .or_default()
                .push(path.rsplit('/').next().unwrap_or(path).to_owned());
        }
        assert_eq!(devices.len(), 1, "one st_dev for a mount: {devices:?}");
        let shared: Vec<_> = paths.values().filter(|names| names.len() > 1).collect();
        // f and hard are hard links; twin has the same content and must not share the number.
        assert_eq!(shared, [&vec!["f".to_owned(), "hard".to_owned()]]);
    }

    #[test]
    fn find_by_inode_number_finds_the_one() {
        let world = World::new();
        tree::sample(&world.path("src"));
        world.ingest(world.path("src"), "sample");
        let p = world.path("p");
        let script = "cd \"$1\" && find . -inum $(stat -c %i d/e/g); find . -samefile f | sort; find . -inum $(ls -id void | cut -d' ' -f1)";
        let got = world.trace(
            &[(&p, "sample")],
            [Path::new("sh"), "-c".as_ref(), script.as_ref(), "sh".as_ref(), &p],
        );
        assert_eq!(got.run().ok().out(), "./d/e/g\n./f\n./hard\n./void\n");
    }

    /// Runs a script natively on the source and over the projection; $1 is the tree.
    fn same_as_native(script: &str) {
        let world = World::new();
        let (source, p) = (world.path("src"), world.path("p"));
        tree::sample(&source);
        world.ingest(&source, "sample");
        let argv = |at: &Path| {
            ["sh".into(), "-ec".into(), script.into(), "sh".into(), at.as_os_str().to_owned()]
        };
        let got = world.trace(&[(&p, "sample")], argv(&p)).run().ok();
        let here = |text: String, at: &Path| text.replace(at.to_str().expect("UTF-8"), "TREE");
        // Where a tool meets its entries in another order, it complains in another order.
        let complaints = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let have = (here(got.out(), &p), complaints(here(got.err(), &p)));
        let mut wanted = Vec::new();
        for _ in 0..ASKED {
            let native = world.native(argv(&source)).run().ok();
            assert!(!native.stdout.is_empty(), "the script says nothing: {native}");
            wanted.push((here(native.out(), &source), complaints(here(native.err(), &source))));
            if wanted.contains(&have) {
                return;
            }
        }
        let (want, said) = &wanted[0];
        for (want, have) in want.lines().zip(have.0.lines()) {
            assert_eq!(have, want, "{script}");
        }
        assert_eq!(have.0.len(), want.len(), "{got}");
        assert_eq!(&have.1, said, "{got}");
    }

    #[test]
    fn tar_makes_the_same_archive() {
        same_as_native(
            "cd \"$1\"; tar --sort=name --xattrs -cf - . | tar -tvf - --full-time; tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime -cf - . | sha256sum",
        );
    }

    #[test]
    fn cp_and_diff_see_the_same_tree() {
        same_as_native(
            "t=$(mktemp -d); cp -a \"$1\" $t/copy; diff -r --no-dereference \"$1\" $t/copy && echo same; cd $t/copy; find . -printf '%p %y %m %T@ %l %n\\n' | sort; rm -rf $t",
        );
    }

    #[test]
    fn du_and_find_count_the_same() {
        same_as_native(
            "cd \"$1\"; du -a --apparent-size -b f twin hard big d/x d/e/g empty | sort; find . ! -type d -printf '%p %y %Y %m %s %T@ %u %g %n %l\\n' | sort; find . -type d -printf '%p %m %T@ %n\\n' | sort; find . -newer f | sort; find . -empty | sort; find . -perm -1000; find . -links 2 | sort",
        );
    }

    #[test]
    fn ls_and_stat_and_checksums() {
        same_as_native(
            "cd \"$1\"; ls -lAR --time-style=full-iso --block-size=1 | grep -v ^total; stat -c '%n %A %h %U %G %F %y' * ; find . -type f -print0 | sort -z | xargs -0 sha256sum; wc -c f big empty; file f exe big link 2>/dev/null || :",
        );
    }

    #[test]
    fn rsync_copies_the_same_and_finds_no_difference() {
        need!("rsync_copies_the_same_and_finds_no_difference", skip::program("rsync"));
        same_as_native(
            "t=$(mktemp -d); rsync -aHX --no-specials \"$1/\" $t/; rsync -aHXin --checksum --delete \"$1/\" $t/; echo in-sync; cd $t; find . -printf '%p %y %m %T@ %l %n\\n' | sort; rm -rf $t",
        );
    }

    #[test]
    fn extended_attributes_through_getfattr() {
        let name = "extended_attributes_through_getfattr";
        need!(name, skip::program("getfattr"));
        let world = World::new();
        if !tree::has_attributes(&world.dir("probe")) {
            skip!(name, "the temporary directory's file system has no user attributes");
        }
        same_as_native("cd \"$1\"; getfattr -R -d -P . | sort");
    }

    #[test]
    fn no_acls_where_there_are_none() {
        need!("no_acls_where_there_are_none", skip::program("getfacl"));
        same_as_native("cd \"$1\"; for f in d d/e d/x f; do getfacl -p $f | grep -v ^#; done");
    }

    #[test]
    fn a_git_work_tree_is_clean() {
        let name = "a_git_work_tree_is_clean";
        need!(name, skip::program("git"));
        let world = World::new();
        let (source, p) = (world.dir("src"), world.path("p"));
        let make = "git init -q -b main . && mkdir -p a/b && echo one >a/b/one && echo two >two && chmod 755 two && ln -s two link && git add -A && git -c user.name=n -c user.email=e@x commit -q -m first && echo three >three && git add three && git -c user.name=n -c user.email=e@x commit -q -m second && git status --porcelain";
        world.sh(make).cwd(&source).run().ok();
        world.ingest(&source, "repo");
        let script = "cd \"$1\"; git -c core.checkStat=minimal -c core.trustctime=false status --porcelain; git log --format=%s; git ls-files -s; git diff HEAD~1 --stat; git grep -n one; git fsck --no-progress; git archive HEAD | sha256sum; git clone -q . \"$TMPDIR/clone\" && cat \"$TMPDIR/clone/a/b/one\"; rm -rf \"$TMPDIR/clone\"; echo x 2>/dev/null >new || echo refused; git -c user.name=n -c user.email=e@x commit --allow-empty -m x 2>&1 | grep -o 'Read-only file system' | head -1";
        let argv = |at: &Path| {
            ["bash".into(), "-c".into(), script.into(), "bash".into(), at.as_os_str().to_owned()]
        };
        let got = world.trace(&[(&p, "repo")], argv(&p)).run();
        let kernel =
            need!(name, oracle::bound(&world, &source, &world.path("p2"), argv(&world.path("p2"))))
                .run();
        assert_eq!(got.out(), kernel.out(), "{got}");
        assert!(got.out().contains("second\nfirst\n"), "{got}");
    }
}
