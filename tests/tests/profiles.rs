//! Seccomp profiles on the command line.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};
    use vrift_tests::{World, binaries};

    fn profile(args: &[&str], files: &[&Path]) -> Output {
        let mut command = Command::new(binaries::vrift_trace());
        command.arg("profile").args(args).args(files).output().expect("vrift-trace runs")
    }

    fn allowing(names: &str) -> String {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{{"names":
            ["exit","exit_group","restart_syscall","rt_sigreturn",{names}],
            "action":"SCMP_ACT_ALLOW"}}]}}"#
        )
    }

    #[test]
    fn profiles_are_merged_compared_and_checked() {
        let world = World::new();
        world.file("a", allowing(r#""write","read""#));
        world.file("b", allowing(r#""openat""#));
        let (a, b) = (world.path("a"), world.path("b"));
        let merged = profile(&["merge"], &[&a, &b]);
        assert_eq!(merged.status.code(), Some(0), "{merged:?}");
        let turned = profile(&["merge"], &[&b, &a]);
        assert_eq!(merged.stdout, turned.stdout, "the order of the files says nothing");
        world.file("m", &merged.stdout);
        let m = world.path("m");
        assert_eq!(profile(&["merge"], &[&m]).stdout, merged.stdout, "the same bytes again");
        assert_eq!(profile(&["lint"], &[&m]).status.code(), Some(0));
        assert_eq!(profile(&["diff"], &[&m, &m]).status.code(), Some(0));
        let less = profile(&["diff"], &[&m, &a]);
        assert_eq!(less.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&less.stdout), "- openat SCMP_ACT_ALLOW\n");
    }

    #[test]
    fn the_defaults_of_engines_are_compared_by_name() {
        let world = World::new();
        world.file("a", allowing(r#""bpf","openat""#));
        let a = world.path("a");
        for engine in ["docker", "podman"] {
            assert_eq!(profile(&["diff", engine, engine], &[]).status.code(), Some(0));
            let said = profile(&["diff", engine], &[&a]);
            assert_eq!(said.status.code(), Some(1), "{said:?}");
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            let has = |line: &str| text.lines().any(|l| l == line);
            assert!(has("- read SCMP_ACT_ALLOW") && has("+ bpf SCMP_ACT_ALLOW"), "{text}");
            assert!(!text.contains(" openat ") && !text.contains("- bpf SCMP_ACT_ALLOW"), "{text}");
        }
        let between = profile(&["diff", "docker", "podman"], &[]);
        let text = String::from_utf8_lossy(&between.stdout).into_owned();
        assert!(
            text.starts_with("- default SCMP_ACT_ERRNO\n+ default SCMP_ACT_ERRNO 38\n"),
            "{text}"
        );
        let none = profile(&["diff"], &[Path::new("./docker"), &a]);
        assert_eq!(none.status.code(), Some(125), "a file is named with a directory");
    }

    #[test]
    fn what_is_no_profile_gets_one_line() {
        let world = World::new();
        world.file("no", "{\"defaultAction\":7}");
        let said = profile(&["lint"], &[&world.path("no")]);
        assert_eq!(said.status.code(), Some(125));
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(text.contains("no seccomp profile") && text.lines().count() == 1, "{text}");
    }
}
