//! Rules for real paths, as a job meets them: by every way that leads to a file, as root and as
//! somebody without powers, without mounts and beside one.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use vrift_tests::ruled::{Who, everybody, job, rows, world};
    use vrift_tests::{Guest, World, binaries, guest, need, tree, view};

    /// Asks each row of a job, by a program of this kind.
    fn ask(how: Guest, who: Who, text: &str, view: Option<&str>) {
        let ops = need!(&format!("rules::{how:?}"), guest("ops", how));
        // The store, too, is given to who runs the job.
        let world = world().without_store_check();
        let mut options = vec!["--quiet".to_owned()];
        if let Some(view) = view {
            tree::sample(&world.path("src"));
            world.ingest(world.path("src"), "sample");
            let mount = format!("{}=sample", world.dir("p").display());
            options.extend(["--view".into(), view.into(), "-m".into(), mount]);
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let rows = rows(&world, text);
        let script: String = rows.iter().map(|(call, _)| format!("{call}\n")).collect();
        let ops = ops.to_str().expect("UTF-8");
        let outcome = job(&world, who, &options, &[ops]).stdin(script).run().ok();
        let out = outcome.out();
        let mut lines = out.lines().filter(|line| !line.starts_with(" status="));
        let wrong: Vec<String> = rows
            .iter()
            .filter_map(|(call, expected)| {
                let line = lines.next().unwrap_or("(no answer)");
                let got = line.strip_prefix(&format!("{call} = ")).unwrap_or(line);
                (!got.starts_with(expected.as_str()))
                    .then(|| format!("{call}: {got}, not {expected}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{how:?} {who:?}: {} rows:\n{}", wrong.len(), wrong.join("\n"));
        for (name, content) in [
            ("home/.ssh/id", "key\n"),
            ("etc/shadow", "hash\n"),
            ("vault/in/gold", "gold\n"),
            ("tree/f", "hello\n"),
            ("tree/d/g", "deep\n"),
        ] {
            let there = fs::read_to_string(world.path(name));
            assert_eq!(there.ok().as_deref(), Some(content), "{name} {how:?} {who:?}");
        }
        assert!(!world.path("tree/new").exists() && !world.path("tree/d/new").exists());
    }

    const HIDDEN: &str = "
        stat $W/home/.ssh = 0
        stat $W/home/.ssh/id = -1 ENOENT
        lstat $W/home/.ssh/id = -1 ENOENT
        statx - $W/home/.ssh/id 0 = -1 ENOENT
        access $W/home/.ssh/id F_OK = -1 ENOENT
        open 1 $W/home/.ssh/id O_RDONLY = -1 ENOENT
        open 1 $W/home/.ssh/id O_PATH = -1 ENOENT
        open 1 $W/home/.ssh/new O_WRONLY|O_CREAT = -1 ENOENT
        open 1 home/.ssh/id O_RDONLY = -1 ENOENT
        open 1 home/../home/./.ssh//id O_RDONLY = -1 ENOENT
        open 1 r/to-ssh/id O_RDONLY = -1 ENOENT
        open 1 r/to-id O_RDONLY = -1 ENOENT
        stat r/to-id = -1 ENOENT
        lstat r/to-id = 0 link
        open 1 $W/home/.ssh O_RDONLY|O_DIRECTORY = 0
        list 1 = 2 .:4 ..:4
        openat 2 1 id O_RDONLY = -1 ENOENT
        fstatat 1 id 0 = -1 ENOENT
        openat 2 1 ../.ssh/id O_RDONLY = -1 ENOENT
        open 2 /proc/self/fd/{1}/id O_RDONLY = -1 ENOENT
        open 2 /proc/self/root$W/home/.ssh/id O_RDONLY = -1 ENOENT
        open 2 /proc/self/cwd/home/.ssh/id O_RDONLY = -1 ENOENT
        openat2 2 1 id O_RDONLY 0 = -1 ENOENT
        openat2 2 1 id O_RDONLY RESOLVE_IN_ROOT = -1 ENOENT
        fchdir 1 = 0
        open 2 id O_RDONLY = -1 ENOENT
        unlink id = -1 ENOENT
        chdir $W = 0
        mkdir home/.ssh/x = -1 ENOENT
        rename home/.ssh/id r/stolen = -1 ENOENT
        rename r/file home/.ssh/id = -1 ENOENT
        link home/.ssh/id r/stolen = -1 ENOENT
        rename home/.ssh r/stolen = -1 EBUSY
        rename home r/stolen = -1 EBUSY
        chmod home/.ssh/id 777 = -1 ENOENT
        symlink $W/home/.ssh r/link = 0
        open 2 r/link/id O_RDONLY = -1 ENOENT
        mkdir r/gone = 0
        open 3 r/gone O_RDONLY|O_DIRECTORY = 0
        rmdir r/gone = 0
        openat 4 3 ../../home/.ssh/id O_RDONLY = -1 ENOENT
        openat 4 3 ../file O_RDONLY = 0
        stat r/key.pem = -1 ENOENT
        open 1 r O_RDONLY|O_DIRECTORY = 0
        open 2 home/plain O_RDONLY = 0
        exec $W/home/.ssh/id id = -1 ENOENT
    ";

    const DENIED: &str = "
        stat $W/not-there = -1 ENOENT
        stat $W/not-there/x = -1 ENOENT
        open 1 $W/not-there/x O_RDONLY = -1 ENOENT
        mkdir $W/not-there = -1 EACCES
        stat $W/etc/shadow = 0 file
        stat r/to-shadow = 0 file
        access $W/etc/shadow F_OK = 0
        access $W/etc/shadow R_OK = -1 EACCES
        open 1 $W/etc/shadow O_PATH = 0
        open 2 /proc/self/fd/{1} O_RDONLY = -1 EACCES
        open 1 $W/etc/shadow O_RDONLY = -1 EACCES
        open 1 r/to-shadow O_RDONLY = -1 EACCES
        open 1 etc/shadow O_RDWR = -1 EACCES
        open 1 etc/shadow O_RDONLY|O_TRUNC = -1 EACCES
        open 1 etc/shadow O_WRONLY|O_CREAT = -1 EACCES
        open 1 etc/shadow O_WRONLY|O_CREAT|O_EXCL = -1 EEXIST
        truncate etc/shadow 0 = -1 EACCES
        unlink etc/shadow = -1 EACCES
        rename etc/shadow r/stolen = -1 EACCES
        rename r/file etc/shadow = -1 EACCES
        link etc/shadow r/stolen = -1 EACCES
        chmod etc/shadow 777 = -1 EACCES
        chown etc/shadow -1 -1 = -1 EACCES
        utimes etc/shadow = -1 EACCES
        getxattr etc/shadow user.x = -1 EACCES
        setxattr etc/shadow user.x y = -1 EACCES
        watch etc/shadow IN_ALL = -1 EACCES
        rename etc r/stolen = -1 EBUSY
        open 1 etc/passwd O_RDONLY = 0
        stat vault = 0 dir
        stat vault/in = -1 EACCES
        stat vault/in/gold = -1 EACCES
        stat vault/none = -1 EACCES
        open 1 vault O_RDONLY|O_DIRECTORY = -1 EACCES
        chdir vault = -1 EACCES
        chdir r/to-vault = -1 EACCES
        open 1 vault/../r/file O_RDONLY = -1 EACCES
        open 1 vault O_PATH = 0
        openat 2 1 in O_RDONLY = -1 EACCES
        openat 2 1 . O_RDONLY|O_DIRECTORY = -1 EACCES
        mkdir vault/new = -1 EACCES
        rmdir vault = -1 EACCES
        connect vault/in/gold = -1 EACCES
        exec $W/etc/shadow shadow = -1 EACCES
    ";

    const KEPT: &str = "
        open 1 tree/f O_RDONLY = 0
        read 1 10 = 6
        open 2 tree/f O_WRONLY = -1 EROFS
        open 2 r/to-tree/f O_RDWR = -1 EROFS
        open 2 tree/f O_RDONLY|O_TRUNC = -1 EROFS
        open 2 tree/new O_WRONLY|O_CREAT = -1 EROFS
        open 2 r/to-new O_WRONLY|O_CREAT = -1 EROFS
        open 2 tree/f O_WRONLY|O_CREAT|O_EXCL = -1 EEXIST
        open 2 tree O_TMPFILE|O_RDWR = -1 EROFS
        open 2 /proc/self/fd/{1} O_WRONLY = -1 EROFS
        fchmod 1 777 = -1 EROFS
        fchown 1 -1 -1 = -1 EROFS
        futimens 1 = -1 EROFS
        fsetxattr 1 user.x y = -1 EROFS
        setflags 1 = -1 EROFS
        fchmodat2 1 \"\" 777 AT_EMPTY_PATH = -1 E
        access tree/f W_OK = -1 EROFS
        mkdir tree/d = -1 EEXIST
        mkdir tree/d/new = -1 EROFS
        mkdir tree/none/new = -1 ENOENT
        unlink tree/none = -1 EROFS
        rmdir tree/d = -1 EROFS
        truncate tree/f 0 = -1 EROFS
        chmod tree/f 777 = -1 EROFS
        chmod tree/none 777 = -1 ENOENT
        symlink x tree/new = -1 EROFS
        mknod tree/new 644 = -1 EROFS
        bind tree/new = -1 EROFS
        rename tree/f r/x = -1 EROFS
        rename r/file tree/new = -1 EROFS
        rename r/file tree/f = -1 EROFS
        rename tree r/x = -1 EROFS
        renameat2 - r/file - tree/f RENAME_EXCHANGE = -1 EROFS
        link tree/f r/x = -1 EROFS
        link r/file tree/new = -1 EROFS
        linkat 1 \"\" - r/x AT_EMPTY_PATH = -1 EROFS
        linkat - /proc/self/fd/{1} - r/x AT_SYMLINK_FOLLOW = -1 EROFS
        open 3 tree O_RDONLY|O_DIRECTORY = 0
        openat 4 3 f O_WRONLY = -1 EROFS
        unlinkat 3 f 0 = -1 EROFS
        mkdirat 3 new = -1 EROFS
        fchdir 3 = 0
        open 4 f O_WRONLY = -1 EROFS
        open 4 ../r/file O_WRONLY = 0
        open 4 out/o O_WRONLY = 0
        mkdir out/new = 0
        rename out/o out/p = 0
        rename out/p f = -1 EROFS
        rename d out/d = -1 EROFS
        rename out/new ../r/new = 0
    ";

    const NOT_RUN: &str = "
        access no-run/script X_OK = -1 EACCES
        access no-run/script R_OK = 0
        access no-run X_OK = 0
        exec $W/no-run/script script = -1 EACCES
        exec $W/r/to-script script = -1 EACCES
        exec $W/no-run/sh sh = -1 EACCES
        exec $W/r/by-other other = -1 EACCES
        open 1 no-run/script O_RDWR = 0
        exec $W/r/script script = ran
    ";

    fn ask_all(how: Guest, view: Option<&str>) {
        for who in everybody() {
            for text in [HIDDEN, DENIED, KEPT, NOT_RUN] {
                ask(how, who, text, view);
            }
        }
    }

    #[test]
    fn dynamic_program() {
        ask_all(Guest::Dynamic, None);
    }

    #[test]
    fn raw_system_calls() {
        ask_all(Guest::Raw, None);
    }

    #[test]
    fn thirty_two_bit_program() {
        ask_all(Guest::Bits32, None);
    }

    #[test]
    fn beside_a_mounted_tree() {
        need!("rules::beside_a_mounted_tree", view::possible());
        ask_all(Guest::Dynamic, Some("mount"));
    }

    /// What a listing shows is what can be looked up.
    #[test]
    fn what_is_hidden_is_not_listed() {
        for who in everybody() {
            let world = world();
            let script =
                "ls -a home/.ssh; echo; ls r | sort; find home r -name '*.pem' -o -name id";
            let outcome = job(&world, who, &["--quiet"], &["/bin/sh", "-c", script]).run().ok();
            let out = outcome.out();
            assert!(out.starts_with(".\n..\n\n") && out.contains("file\n"), "{out}");
            assert!(!out.contains("pem") && !out.contains("\nid\n"), "{out}");
        }
    }

    #[test]
    fn each_refusal_is_told_with_its_rule() {
        let world = world();
        let script = "cat home/.ssh/id home/.ssh/no-such home/.ssh/id/no-such etc/shadow; (: > tree/f); no-run/script; true";
        let more = ["--summary"];
        let outcome = job(&world, Who::Self_, &more, &["/bin/sh", "-c", script]).run().ok();
        let (err, policy) = (outcome.err(), world.path("p.toml"));
        let policy = policy.display();
        for line in [
            format!("/home/.ssh/id: ENOENT ({policy}:3: secrets)"),
            format!("/etc/shadow: EACCES ({policy}:10: none of a build's business)"),
            format!("/tree/f: EROFS ({policy}:14)"),
            format!("/no-run/script: EACCES ({policy}:20)"),
        ] {
            assert!(err.contains(&line), "{line} is missing:\n{err}");
        }
        // What is not there anyway is not refused.
        assert!(!err.contains("no-such: ENOENT"), "{err}");
        assert!(err.lines().count() <= 40, "{err}");
    }

    #[test]
    fn rules_hold_beside_a_mount_and_out_of_it() {
        out_of_a_mount("notify");
    }

    #[test]
    fn rules_hold_out_of_a_mounted_tree() {
        need!("rules::rules_hold_out_of_a_mounted_tree", view::possible());
        out_of_a_mount("mount");
    }

    fn out_of_a_mount(view: &str) {
        let world = world();
        tree::sample(&world.path("src"));
        symlink(world.path("home/.ssh/id"), world.path("src/leak")).expect("a link");
        symlink(world.path("tree"), world.path("src/tree")).expect("a link");
        world.ingest(world.path("src"), "sample");
        let p = world.dir("p");
        let mount = format!("{}=sample", p.display());
        let ops = need!("rules::beside_a_mount", guest("ops", Guest::Dynamic));
        let rows = rows(
            &world,
            "open 1 $W/p/f O_RDONLY = 0
             open 1 $W/p/leak O_RDONLY = -1 ENOENT
             open 1 $W/p/../home/.ssh/id O_RDONLY = -1 ENOENT
             open 1 $W/p/tree/f O_RDONLY = 0
             open 1 $W/p/tree/f O_WRONLY = -1 EROFS
             open 1 $W/p/tree/new O_WRONLY|O_CREAT = -1 EROFS
             open 1 $W/p/../etc/shadow O_RDONLY = -1 EACCES
             unlink $W/p/tree/f = -1 EROFS
             rename $W/p/tree/f $W/r/x = -1 EROFS
             open 1 $W/p O_RDONLY|O_DIRECTORY = 0
             openat 2 1 ../home/.ssh/id O_RDONLY = -1 ENOENT
             exec $W/p/../no-run/script script = -1 EACCES",
        );
        let script: String = rows.iter().map(|(call, _)| format!("{call}\n")).collect();
        let ops = ops.to_str().expect("UTF-8");
        let options = ["--quiet", "--view", view, "-m", &mount];
        let outcome = job(&world, Who::Self_, &options, &[ops]).stdin(script).run().ok();
        for ((call, expected), got) in rows.iter().zip(outcome.out().lines()) {
            assert!(got.starts_with(&format!("{call} = {expected}")), "{got}, not {expected}");
        }
        // What is listed of the mount has all of it, and of what is beside it what may be seen.
        let script =
            "ls -a $W/p/d $W/p/tree; ls $W; ls -a $W/home/.ssh; cd $W/p/tree && ls | wc -l";
        let listed = job(&world, Who::Self_, &options, &["/bin/sh", "-c", script]).run().ok();
        let disk =
            world.sh("cd $W; ls -a src/d | sed 's/^/ /'").env("W", world.path("")).run().ok();
        let disk = disk.out().replace("\n ", "\n").trim_start().to_owned();
        assert!(listed.out().contains(&disk), "{listed}, not {disk}");
        assert!(listed.out().ends_with(".\n..\n3\n"), "{listed}");
    }

    #[test]
    fn a_pattern_that_cannot_be_read_ends_it_before_the_command() {
        let world = World::new();
        let ran = world.path("ran");
        for (pattern, message) in [
            ("a/b", "is not absolute"),
            ("/a/[b", "unclosed character class"),
            ("$NOT_SET/x", "the variable NOT_SET is not set"),
        ] {
            let policy = world.file(
                "p.toml",
                format!("version = 1\n[[rule]]\npaths = [\"{pattern}\"]\naccess = \"hide\"\n"),
            );
            let trace = binaries::vrift_trace();
            let argv = [trace.as_os_str(), "-p".as_ref(), policy.as_os_str()];
            let touch = ["touch".as_ref(), ran.as_os_str()];
            let outcome = world.native(argv).args(["--"]).args(touch).run().expect(125);
            let line = outcome.err();
            assert!(line.lines().count() == 1 && line.contains(message), "{line}");
            assert!(line.contains("p.toml:3: pattern"), "{line}");
        }
        assert!(!Path::new(&ran).exists());
    }
}
