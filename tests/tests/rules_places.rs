//! Which places rules mean, and that `read-only` is a read-only bind mount.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use vrift_tests::oracle::differences::release;
    use vrift_tests::{Guest, World, binaries, guest, need, oracle, tree};

    /// The same calls on a tree with a `read-only` rule and on a read-only bind mount of it.
    #[test]
    fn read_only_is_a_read_only_bind_mount() {
        let name = "rules_places::read_only_is_a_read_only_bind_mount";
        let ops = need!(name, guest("ops", Guest::Dynamic));
        let world = World::new();
        tree::sample(&world.path("tree"));
        let top = world.path("tree");
        let paths = [
            "f",
            "d",
            "link",
            "dirlink",
            "dangling",
            "none",
            "none/x",
            "f/x",
            "readonly",
            "d/../f",
            "dirlink/x",
        ];
        let calls = [
            "stat @",
            "lstat @",
            "access @ R_OK",
            "access @ W_OK",
            "access @ X_OK",
            "readlink @",
            "open 1 @ O_RDONLY",
            "open 1 @ O_WRONLY",
            "open 1 @ O_RDWR|O_APPEND",
            "open 1 @ O_RDONLY|O_TRUNC",
            "open 1 @ O_RDONLY|O_CREAT",
            "open 1 @ O_WRONLY|O_CREAT",
            "open 1 @ O_RDWR|O_CREAT|O_TRUNC",
            "open 1 @ O_WRONLY|O_CREAT|O_EXCL",
            "open 1 @ O_PATH",
            "open 1 @ O_RDONLY|O_NOFOLLOW",
            "open 1 @ O_WRONLY|O_NOFOLLOW",
            "open 1 @ O_DIRECTORY",
            "open 1 @ O_TMPFILE|O_RDWR",
            "creat 1 @",
            "mkdir @",
            "mknod @ 644",
            "rmdir @",
            "unlink @",
            "symlink x @",
            "truncate @ 0",
            "truncate @ 100",
            "chmod @ 700",
            "chown @ -1 -1",
            "lchown @ -1 -1",
            "utimes @",
            "utimensat - @ 0",
            "utimensat - @ AT_SYMLINK_NOFOLLOW",
            "setxattr @ user.x y",
            "lsetxattr @ user.x y",
            "removexattr @ user.x",
            "getxattr @ user.x",
            "listxattr @",
            "bind @",
            "connect @",
            "watch @ IN_ALL",
            "rename @ $/f",
            "rename $/f @",
            "rename @ $/none",
            "link @ $/none",
            "link $/f @",
            "renameat2 - @ - $/d RENAME_EXCHANGE",
            "renameat2 - $/f - @ RENAME_NOREPLACE",
        ];
        let dir = top.to_str().expect("UTF-8");
        let script: String = calls
            .iter()
            .flat_map(|call| {
                paths.map(|path| {
                    format!("{}\n", call.replace('@', &format!("{dir}/{path}")).replace('$', dir))
                })
            })
            .collect();
        let policy = world.file(
            "p.toml",
            format!("version = 1\n[[rule]]\npaths = [\"{dir}\"]\naccess = \"read-only\"\n"),
        );
        let trace = binaries::vrift_trace();
        let argv = [
            trace.as_os_str(),
            "--quiet".as_ref(),
            "-p".as_ref(),
            policy.as_os_str(),
            "--".as_ref(),
            ops.as_os_str(),
        ];
        let ours = world.native(argv).stdin(&script).run().ok().out();
        let oracle = need!(name, oracle::bound(&world, &top, &top, [&ops]));
        let theirs = oracle.stdin(&script).run().ok().out();
        let wrong: Vec<String> = ours
            .lines()
            .zip(theirs.lines())
            .filter(|(ours, theirs)| ours != theirs)
            // The order of these two was another before (tests/src/oracle/differences.rs).
            .filter(|(ours, theirs)| {
                let (ours, theirs) = (ours.strip_suffix("EACCES"), theirs.strip_suffix("EROFS"));
                release() >= (6, 14)
                    || ours != theirs
                    || !ours.is_some_and(|call| call.starts_with("truncate "))
            })
            .map(|(ours, theirs)| format!("{ours}\n  the kernel: {theirs}"))
            .collect();
        assert_eq!(ours.lines().count(), calls.len() * paths.len());
        assert!(wrong.is_empty(), "{} answers:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// The directories on the way to what is open again can be gone through.
    #[test]
    fn the_way_to_what_is_open_again_stays_open() {
        let world = World::new();
        world.file("home/p/src/main.c", "int main;\n");
        world.file("home/p/notes", "mine\n");
        world.file("home/.ssh/id", "key\n");
        let policy = world.file(
            "p.toml",
            "version = 1\n[[rule]]\npaths = [\"~/**\"]\naccess = \"hide\"\n\
             [[rule]]\npaths = [\"~/p/src\"]\naccess = \"read-write\"\n",
        );
        let script = "cd home/p/src && cat main.c && echo new > o && cd ../.. && find . | sort; \
                      mkdir p/x || echo kept";
        let trace = binaries::vrift_trace();
        let argv = [trace.as_os_str(), "--quiet".as_ref(), "-p".as_ref(), policy.as_os_str()];
        let outcome = world.native(argv).args(["--", "/bin/sh", "-c", script]).run().ok();
        assert_eq!(
            outcome.out(),
            "int main;\n.\n./p\n./p/src\n./p/src/main.c\n./p/src/o\nkept\n",
            "{outcome}"
        );
        assert_eq!(fs::read_to_string(world.path("home/p/src/o")).expect("made"), "new\n");
    }

    /// A home directory that is reached through a link is meant by both names.
    #[test]
    fn a_pattern_through_a_link_means_what_is_there() {
        let world = World::new();
        world.file("data/u/.ssh/id", "key\n");
        symlink("data/u", world.path("u")).expect("a link");
        let policy = world
            .file("p.toml", "version = 1\n[[rule]]\npaths = [\"~/.ssh/**\"]\naccess = \"hide\"\n");
        let script = "cat u/.ssh/id || cat data/u/.ssh/id || ls data/u/.ssh u/.ssh/";
        let trace = binaries::vrift_trace();
        let argv = [trace.as_os_str(), "--quiet".as_ref(), "-p".as_ref(), policy.as_os_str()];
        let job = world.native(argv).env("HOME", world.path("u"));
        let outcome = job.args(["--", "/bin/sh", "-c", script]).run().ok();
        assert!(!outcome.out().contains("key") && !outcome.out().contains("id"), "{outcome}");
    }
}
