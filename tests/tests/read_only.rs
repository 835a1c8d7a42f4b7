//! How a read-only projection answers: each row of the semantics, asked through guests that
//! reach the kernel in different ways, and asked again of a read-only bind mount.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use vrift_tests::{Guest, World, guest, need, oracle, tree};

    /// `call = expected`; `?` leaves the answer to the oracle, `!` marks the rows where a
    /// projection is firmer than a bind mount on purpose. $P is the mount, $R a real directory.
    const ROWS: &str = "
        mkdir $P/new = -1 EROFS
        mkdir $P/new/ = -1 EROFS
        mkdir $P/d = -1 EEXIST
        mkdir $P/f = -1 EEXIST
        mkdir $P/dangling = -1 EEXIST
        mkdir $P/none/new = -1 ENOENT
        mkdir $P/f/new = -1 ENOTDIR
        mkdir $P = -1 EEXIST
        mknod $P/new S_IFIFO = -1 EROFS
        mknod $P/f S_IFREG = -1 EEXIST
        symlink x $P/new = -1 EROFS
        symlink x $P/f = -1 EEXIST
        symlink x $P/none/new = -1 ENOENT
        bind $P/new = -1 EROFS
        bind $P/f = -1 EADDRINUSE
        bind $P/none/new = -1 ENOENT
        rmdir $P/d = -1 EROFS
        rmdir $P/f = -1 EROFS
        rmdir $P/absent = -1 EROFS
        rmdir $P/none/x = -1 ENOENT
        rmdir $P/f/x = -1 ENOTDIR
        rmdir $P/d/. = ?
        rmdir $P/d/.. = ?
        unlink $P/f = -1 EROFS
        unlink $P/absent = -1 EROFS
        unlink $P/d = -1 EROFS
        unlink $P/link = -1 EROFS
        unlink $P/none/x = -1 ENOENT
        unlink $P/f/x = -1 ENOTDIR
        unlink $P/f/ = ?
        unlinkat - $P/d AT_REMOVEDIR = -1 EROFS
        rename $P/f $P/g = -1 EROFS
        rename $P/absent $P/g = -1 EROFS
        rename $P/f $P/none/g = -1 ENOENT
        rename $P/none/f $P/g = -1 ENOENT
        rename $P/f $P/f = ?
        renameat2 - $P/f - $P/twin RENAME_EXCHANGE = -1 EROFS
        renameat2 - $P/f - $P/twin RENAME_NOREPLACE = -1 EROFS

        open 1 $P/f O_WRONLY = -1 EROFS
        open 1 $P/f O_RDWR = -1 EROFS
        open 1 $P/f O_WRONLY|O_APPEND = -1 EROFS
        open 1 $P/f O_WRONLY|O_CREAT = -1 EROFS
        open 1 $P/f O_WRONLY|O_CREAT|O_TRUNC = -1 EROFS
        open 1 $P/absent O_WRONLY = -1 ENOENT
        open 1 $P/absent O_RDONLY = -1 ENOENT
        open 1 $P/absent O_WRONLY|O_CREAT = -1 EROFS
        open 1 $P/absent O_RDONLY|O_CREAT = -1 EROFS
        open 1 $P/none/absent O_WRONLY|O_CREAT = -1 ENOENT
        open 1 $P/f O_WRONLY|O_CREAT|O_EXCL = -1 EEXIST
        open 1 $P/dangling O_WRONLY|O_CREAT|O_EXCL = -1 EEXIST
        open 1 $P/f O_RDONLY|O_CREAT = 0
        creat 1 $P/f = -1 EROFS
        creat 1 $P/absent = -1 EROFS
        open 1 $P/f O_RDONLY|O_TRUNC = -1 EROFS
        open 1 $P/d O_WRONLY = -1 EISDIR
        open 1 $P/d O_RDWR = -1 EISDIR
        open 1 $P/d O_RDONLY|O_CREAT = -1 EISDIR
        open 1 $P O_TMPFILE|O_RDWR = -1 EROFS
        open 1 $P/f O_RDONLY|O_DIRECTORY = -1 ENOTDIR
        open 1 $P/f O_RDONLY|O_CREAT|O_DIRECTORY = ?
        open 1 $P/link O_RDONLY|O_NOFOLLOW = -1 ELOOP
        open 1 $P/dirlink O_RDONLY|O_NOFOLLOW|O_DIRECTORY = -1 ENOTDIR
        open 1 $P/dangling O_WRONLY|O_CREAT = -1 EROFS
        open 1 $P/dangling O_RDONLY = -1 ENOENT
        open 1 $P/f/ O_RDONLY = -1 ENOTDIR
        open 1 $P/absent/ O_WRONLY|O_CREAT = -1 EISDIR
        open 1 $P/loop-a O_RDONLY = -1 ELOOP
        open 1 $P/chain-39 O_RDONLY = 0
        open 1 $P/chain-42 O_RDONLY = -1 ELOOP
        openat2 1 - $P/f O_WRONLY 0 = ?
        openat2 1 - $P/f O_RDONLY 0 = ?

        chmod $P/f 600 = -1 EROFS
        chmod $P/absent 600 = -1 ENOENT
        chmod $P 700 = -1 EROFS
        fchmodat2 - $P/f 600 0 = -1 EROFS
        chown $P/f -1 -1 = -1 EROFS
        chown $P/absent -1 -1 = -1 ENOENT
        lchown $P/link -1 -1 = -1 EROFS
        fchownat - $P/f -1 -1 AT_SYMLINK_NOFOLLOW = -1 EROFS
        utimes $P/f = -1 EROFS
        utimes $P/absent = -1 ENOENT
        utimensat - $P/link AT_SYMLINK_NOFOLLOW = -1 EROFS
        truncate $P/f 0 = -1 EROFS
        truncate $P/absent 0 = -1 ENOENT
        truncate $P/d 0 = -1 EISDIR
        setxattr $P/f user.new v = -1 EROFS
        setxattr $P/absent user.new v = -1 ENOENT
        lsetxattr $P/f user.new v = -1 EROFS
        removexattr $P/f user.colour = -1 EROFS

        open 1 $P/f O_RDONLY = 0
        fchmod 1 600 = -1 EROFS
        fchown 1 -1 -1 = -1 EROFS
        futimens 1 = -1 EROFS
        utimensat 1 NULL 0 = -1 EROFS
        fsetxattr 1 user.new v = -1 EROFS
        fremovexattr 1 user.colour = -1 EROFS
        setflags 1 = -1 EROFS
        fchownat 1 \"\" -1 -1 AT_EMPTY_PATH = -1 EROFS
        fchmodat2 1 \"\" 600 AT_EMPTY_PATH = -1 EROFS
        ftruncate 1 0 = -1 EINVAL
        write 1 text = -1 EBADF
        open 2 /proc/self/fd/{1} O_WRONLY = -1 EROFS
        open 2 /proc/self/fd/{1} O_RDWR = -1 EROFS
        open 2 /proc/self/fd/{1} O_RDONLY|O_TRUNC = -1 EROFS
        open 2 /dev/fd/{1} O_RDWR = -1 EROFS
        open 2 /proc/thread-self/fd/{1} O_WRONLY = -1 EROFS
        open 2 /proc/{pid}/task/{pid}/fd/{1} O_WRONLY = -1 EROFS
        open 2 /proc/self/fd/{1} O_RDONLY = 0
        read 2 100 = 6 hash
        truncate /proc/self/fd/{1} 0 = -1 EROFS
        chmod /proc/self/fd/{1} 600 = -1 EROFS
        dup 3 1 = 0
        fchmod 3 600 = -1 EROFS
        futimens 3 = -1 EROFS
        open 2 /proc/self/fd/{3} O_RDWR = -1 EROFS
        linkat - /proc/self/fd/{3} - $R/l AT_SYMLINK_FOLLOW = -1 EXDEV
        flock 1 LOCK_EX|LOCK_NB = 0
        lock 1 F_WRLCK = -1 EBADF
        lock 1 F_RDLCK = 0
        open 4 $P/d O_RDONLY|O_DIRECTORY = 0
        mkdirat 4 new = -1 EROFS
        unlinkat 4 x 0 = -1 EROFS
        openat 1 4 x O_WRONLY = -1 EROFS
        openat 1 4 new O_WRONLY|O_CREAT = -1 EROFS
        fchmod 4 700 = -1 EROFS
        renameat2 4 x 4 y 0 = -1 EROFS
        symlinkat t 4 new = -1 EROFS
        linkat 4 x - $R/l 0 = -1 EXDEV

        access $P/f W_OK = -1 EROFS
        access $P/f R_OK = 0
        access $P/f X_OK = -1 EACCES
        access $P/exe X_OK = 0
        access $P/exe R_OK|W_OK|X_OK = -1 EROFS
        access $P/absent F_OK = -1 ENOENT
        access $P W_OK = -1 EROFS
        access $P/dangling F_OK = -1 ENOENT
        faccessat2 - $P/dangling F_OK AT_SYMLINK_NOFOLLOW = 0
        faccessat2 - $P/f W_OK AT_EACCESS = -1 EROFS
        access $P/readonly W_OK = ?

        rename $P/f $R/x = -1 EXDEV
        rename $R/file $P/x = -1 EXDEV
        rename $P/d $R/x = -1 EXDEV
        rename $R/dir $P/x = -1 EXDEV
        rename $P/none/a $R/x = -1 ENOENT
        rename $P/f $R/none/x = -1 ENOENT
        rename $P/f $R/file/x = -1 ENOTDIR
        renameat2 - $P/f - $R/file RENAME_EXCHANGE = -1 EXDEV
        link $P/f $R/l = -1 EXDEV
        link $R/file $P/l = -1 EXDEV !
        link $P/f $R/file = -1 EEXIST
        link $P/absent $R/l = -1 ENOENT
        link $P/f $P/g = ?
        linkat - /proc/self/fd/{2} - $R/l AT_SYMLINK_FOLLOW = -1 EXDEV
        rmdir $P = -1 EBUSY
        rename $P $R/x = -1 EBUSY
        rename $R/dir $P = -1 EBUSY
        unlink $P = -1 EISDIR
        connect $P/f = -1 ECONNREFUSED
        connect $P/absent = -1 ENOENT
        statfs $P/f = 0 readonly=1 namelen=255
        fstatfs 4 = 0 readonly=1 namelen=255
        watch $P/d IN_ALL = 0
        watch $P/absent IN_ALL = -1 ENOENT
        exec $P/f f = -1 EACCES
        exec $P/absent f = -1 ENOENT
        exec $P/d d = -1 EACCES
    ";

    struct Row {
        call: String,
        expected: String,
        firmer: bool,
    }

    fn rows(p: &Path, r: &Path) -> Vec<Row> {
        let place = |text: &str| {
            text.replace("$P", p.to_str().expect("UTF-8")).replace("$R", r.to_str().expect("UTF-8"))
        };
        ROWS.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (call, expected) = line.split_once(" = ").expect("call = expected");
                let (expected, firmer) = match expected.strip_suffix(" !") {
                    Some(rest) => (rest, true),
                    None => (expected, false),
                };
                Row { call: place(call), expected: expected.to_owned(), firmer }
            })
            .collect()
    }

    fn script(rows: &[Row]) -> String {
        rows.iter().map(|row| format!("{}\n", row.call)).collect()
    }

    /// The answers in an output of ops, one for each row (exec adds a second line to its own).
    fn answers(rows: &[Row], output: &str) -> Vec<String> {
        let mut lines = output.lines().filter(|l| !l.starts_with(" status="));
        rows.iter()
            .map(|row| {
                let line = lines.next().unwrap_or("(no answer: the guest ended early)");
                line.strip_prefix(&format!("{} = ", row.call)).unwrap_or(line).to_owned()
            })
            .collect()
    }

    struct Place {
        world: World,
        rows: Vec<Row>,
    }

    fn place() -> Place {
        let world = World::new();
        tree::sample(&world.path("src"));
        world.dir("r/dir");
        world.file("r/file", "real\n");
        let rows = rows(&world.path("p"), &world.path("r"));
        Place { world, rows }
    }

    /// A kernel older than the call says nothing about it, on either side.
    fn is_unknown(row: &Row, got: &str) -> bool {
        row.call.starts_with("fchmodat2 ") && got.starts_with("-1 ENOSYS")
    }

    fn check(how: Guest) {
        let name = format!("read_only::{how:?}");
        let ops = need!(&name, guest("ops", how));
        let Place { world, rows } = place();
        world.ingest(world.path("src"), "sample");
        let p = world.path("p");
        let outcome = world.trace(&[(&p, "sample")], [&ops]).stdin(script(&rows)).run().ok();
        let got = answers(&rows, &outcome.out());
        let mut wrong = Vec::new();
        for (row, got) in rows.iter().zip(&got) {
            if row.expected != "?" && !got.starts_with(&row.expected) && !is_unknown(row, got) {
                wrong.push(format!("{}: expected {}, got {got}", row.call, row.expected));
            }
        }
        assert!(wrong.is_empty(), "{how:?}: {} rows:\n{}", wrong.len(), wrong.join("\n"));
        assert!(std::fs::read_dir(world.path("r")).expect("r").count() == 2, "r has something new");

        let oracle = need!(
            &format!("{name}::oracle"),
            oracle::bound(&world, &world.path("src"), &p, [&ops])
        );
        let outcome = oracle.stdin(script(&rows)).run().ok();
        for (row, (got, kernel)) in rows.iter().zip(got.iter().zip(answers(&rows, &outcome.out())))
        {
            if !row.firmer && *got != kernel {
                wrong.push(format!(
                    "{}: a bind mount says {kernel}, the projection {got}",
                    row.call
                ));
            }
        }
        assert!(wrong.is_empty(), "{how:?}: {} rows:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn dynamic_program() {
        check(Guest::Dynamic);
    }

    #[test]
    fn static_program() {
        check(Guest::Static);
    }

    #[test]
    fn raw_system_calls() {
        check(Guest::Raw);
    }

    #[test]
    fn musl_program() {
        check(Guest::Musl);
    }

    #[test]
    fn thirty_two_bit_program() {
        check(Guest::Bits32);
    }

    /// The table itself is asked of the kernel: a row that no kernel gives is a wrong row.
    #[test]
    fn the_rows_are_what_a_bind_mount_says() {
        let name = "the_rows_are_what_a_bind_mount_says";
        let ops = need!(name, guest("ops", Guest::Dynamic));
        let Place { world, rows } = place();
        let job = need!(name, oracle::bound(&world, &world.path("src"), &world.path("p"), [&ops]));
        let outcome = job.stdin(script(&rows)).run().ok();
        let wrong: Vec<_> = rows
            .iter()
            .zip(answers(&rows, &outcome.out()))
            .filter(|(row, got)| {
                !row.firmer
                    && row.expected != "?"
                    && !is_unknown(row, got)
                    && !got.starts_with(&row.expected)
            })
            .map(|(row, got)| {
                format!("{}: expected {}, the kernel says {got}", row.call, row.expected)
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn coreutils_do_what_they_do_on_a_read_only_disk() {
        let name = "coreutils_do_what_they_do_on_a_read_only_disk";
        let world = World::new();
        tree::sample(&world.path("src"));
        world.ingest(world.path("src"), "sample");
        let p = world.path("p");
        let script = format!(
            "cd {p}; r={r}; mkdir -p \"$r\"
            say() {{ printf '%s: ' \"$*\"; \"$@\" 2>&1; echo \"[$?]\"; }}
            say touch new; say touch f; say touch -c absent; say mkdir -p existing; say mkdir -p new
            say install -d existing; say install -d new; say cp -n f twin; say cp f twin; say cp f new
            say test -w f; say test -r f; say test -x exe; say rm f; say rm -f f; say rm -f absent
            say rm -rf private; say rmdir existing; say mv f g; say ln f g; say ln -s f g; say chmod 600 f
            say chown $(id -u) f; say truncate -s 0 f; say tee f; say dd if=/dev/null of=f status=none
            say mkfifo fifo; say ln f \"$r/l\"; say cp -p f \"$r/copy\"; say cat \"$r/copy\"; say touch -d @0 f
            say mktemp -p . ; say sh -c 'sed -i s/h/j/ f 2>/dev/null'; say sh -c 'echo x > f'; say sh -c 'echo x >> new'; say realpath dirlink/../f
            say stat -c '%A %a %s %h %F %n' f link d exe sticky; say readlink -f deeplink; say pwd; say df --output=target .",
            p = p.display(),
            r = world.path("r").display(),
        );
        let got = world.trace_sh(&[(&p, "sample")], &script).run();
        std::fs::remove_dir_all(world.path("r")).expect("for the second run");
        let job = need!(name, oracle::bound(&world, &world.path("src"), &p, ["sh", "-c", &script]));
        let kernel = job.run();
        for (got, kernel) in got.out().lines().zip(kernel.out().lines()) {
            assert_eq!(got, kernel);
        }
        assert_eq!(got.out().len(), kernel.out().len(), "{got}");
    }

    #[test]
    fn the_kernels_own_messages_across_the_edge() {
        let world = World::new();
        world.file("src/f", "text\n");
        world.dir("src/existing");
        world.ingest(world.path("src"), "t");
        let (p, out) = (world.path("p"), world.dir("out"));
        let run = |script: String| world.trace(&[(&p, "t")], ["bash", "-c", &script]).run();
        let (p, out) = (p.display(), out.display());

        let touch = run(format!("touch {p}/x")).expect(1);
        assert_eq!(touch.err(), format!("touch: cannot touch '{p}/x': Read-only file system\n"));
        let mkdir = run(format!("mkdir -p {p}/existing")).ok();
        assert_eq!(mkdir.err(), "");
        let mv = run(format!("mv {p}/f {out}")).expect(1);
        assert_eq!(mv.err(), format!("mv: cannot remove '{p}/f': Read-only file system\n"));
        assert_eq!(std::fs::read(format!("{out}/f")).expect("mv copies first"), b"text\n");
        let ln = run(format!("ln {p}/f {out}/l")).expect(1);
        assert!(ln.err().contains("Invalid cross-device link"), "{ln}");
    }
}
