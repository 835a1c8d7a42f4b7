//! The table, row by row, from inside a job: what is refused is refused by its number, whatever
//! the arguments; and the calls that only 32-bit programs have answer as on a read-only mount.

#[cfg(test)]
mod tests {
    use vrift_tests::oracle::differences::release;
    use vrift_tests::{Guest, World, binaries, guest, need};

    /// Name, number and promised errno of each call that the filter refuses. The kernel itself says
    /// of one that it doesn't have yet that there is none.
    fn refused(arch: &str) -> Vec<(String, String, String)> {
        let text = |row: &serde_json::Value, key: &str| row[key].as_str().map(str::to_owned);
        let errno = |row: &serde_json::Value| match text(row, "since") {
            Some(since) if release() < version(&since) => Some("ENOSYS".to_owned()),
            _ => text(row, "errno"),
        };
        binaries::table()
            .iter()
            .filter(|row| row["refused"] == true)
            .filter_map(|row| {
                Some((text(row, "name")?, row[arch].as_u64()?.to_string(), errno(row)?))
            })
            .collect()
    }

    /// Major and minor number of a release in the table.
    fn version(text: &str) -> (u32, u32) {
        let mut numbers = text.split('.').map(|n| n.parse().expect("a release's number"));
        (numbers.next().expect("major"), numbers.next().expect("minor"))
    }

    fn every_refused_call(arch: &str, how: Guest) {
        let name = format!("every_refused_call of {arch}");
        let program = need!(&name, guest("numbers", how));
        let world = World::new();
        world.file("src/f", "text\n");
        world.ingest(world.path("src"), "t");
        let rows = refused(arch);
        assert!(rows.len() > 30, "only {} rows", rows.len());
        let mut argv = vec![program.display().to_string(), "refused".into()];
        argv.extend(rows.iter().map(|(_, number, _)| number.clone()));
        let got = world.trace(&[(&world.path("p"), "t")], argv).run().ok();
        let said: Vec<String> = got.out().lines().map(str::to_owned).collect();
        let promised: Vec<String> =
            rows.iter().map(|(_, number, errno)| format!("{number} {errno}")).collect();
        assert_eq!(said, promised, "{rows:?}");
    }

    #[test]
    fn every_refused_call_is_refused_by_its_number() {
        every_refused_call(std::env::consts::ARCH, Guest::Dynamic);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_refused_call_is_refused_to_32_bit_programs() {
        every_refused_call("i386", Guest::Bits32);
    }

    /// The kernel's side is a real copy, made read-only by modes alone where that is enough: what
    /// must be the same are the looks; what would change something has its errno here.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_calls_of_32_bit_programs_alone() {
        use std::path::Path;
        use vrift_tests::tree;

        let name = "the_calls_of_32_bit_programs_alone";
        let program = need!(name, guest("numbers", Guest::Bits32));
        let world = World::new();
        world.file("src/f", "some text\n");
        std::os::unix::fs::symlink("f", world.path("src/l")).expect("symlink");
        tree::stamp(&world.path("src"));
        world.ingest(world.path("src"), "t");
        let p = world.path("p");
        let ask = |at: &Path| {
            [program.display().to_string(), "i386".into()]
                .into_iter()
                .chain(["f", "l"].map(|n| at.join(n).display().to_string()))
                .collect::<Vec<_>>()
        };
        let projected = world.trace(&[(&p, "t")], ask(&p)).run().ok().out();
        let looks = |text: &str| {
            text.lines()
                .filter(|l| {
                    l.starts_with("stat64") || l.starts_with("lstat64") || l.starts_with("fstat")
                })
                .filter(|l| !l.starts_with("fstatfs64"))
                // How much room a file takes is its file system's affair.
                .map(|l| l.split(" blocks=").next().unwrap_or(l).to_owned())
                .collect::<Vec<_>>()
        };
        let copy = world.path("copy");
        tree::copy(&world.path("src"), &copy);
        let native = world.native(ask(&copy)).run().ok().out();
        assert_eq!(looks(&projected), looks(&native), "{projected}\n{native}");
        assert_eq!(looks(&projected).len(), 5, "{projected}");
        assert_eq!(projected.matches(" low=1").count(), 4, "{projected}");
        for line in [
            "oldstat EOVERFLOW",
            "oldlstat EOVERFLOW",
            "oldfstat EOVERFLOW",
            "fstatat64 missing ENOENT",
            "statfs64 namelen=255 readonly=1",
            "fstatfs64 namelen=255 readonly=1",
            "statfs64 of a wrong size EINVAL",
            "truncate64 EROFS",
            "chown32 EROFS",
            "lchown32 EROFS",
            "fchown32 EROFS",
            "utimensat_time64 EROFS",
            "socketcall bind EADDRINUSE",
            "socketcall connect ECONNREFUSED",
            "socketcall EFAULT EFAULT",
        ] {
            assert!(projected.lines().any(|l| l == line), "not {line:?} in\n{projected}");
        }
    }
}
