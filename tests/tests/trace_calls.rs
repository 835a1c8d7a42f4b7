//! Traces: calls that name their file by a descriptor or a socket's address, and what is told besides
//! the path; in a real directory, in one with rules, and in a mount.

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use std::path::Path;
    use vrift_tests::traces::{events, of, traced};
    use vrift_tests::{Guest, World, guest};

    const SCRIPT: &str = "\
chdir $D
open 1 f O_RDWR
fchmod 1 640
flock 1 2
open 2 d O_TMPFILE|O_RDWR
fchmod 2 600
bind sock
connect sock
connect none
access f 4
access f 6
access f 0
stat link
stat d/../f
";

    /// The events of the script, done in `dir`.
    fn told(world: &World, dir: &Path, options: &[&str]) -> Option<Vec<Value>> {
        let ops = guest("ops", Guest::Dynamic);
        let ops = match ops {
            Ok(ops) => ops,
            Err(reason) => {
                vrift_tests::skip::record("trace_calls", &reason);
                return None;
            }
        };
        let trace = world.path("t");
        let script = SCRIPT.replace("$D", dir.to_str().expect("UTF-8"));
        let said = traced(world, &trace, options, [ops]).stdin(script).run().ok();
        let failed = said.out().lines().filter(|line| line.contains("= -1")).count();
        assert_eq!(failed, 2, "the two connects alone fail: {said}");
        Some(events(&trace))
    }

    /// `mount`: what the events must say of it.
    fn expect(events: &[Value], dir: &Path, mount: Option<&str>) {
        let one = |call: &str, name: &str, access: &str| {
            let path = format!("{}{name}", dir.display());
            let found = of(events, call, &path);
            let told = found.iter().find(|e| e["access"] == access);
            let told = told.unwrap_or_else(|| panic!("{call} {access} {path}: {found:#?}"));
            assert_eq!(told.get("mount").and_then(Value::as_str), mount, "{told}");
            (*told).clone()
        };
        let by_descriptor = one("fchmod", "/f", "write");
        assert!(by_descriptor.get("path").is_none(), "{by_descriptor}");
        one("flock", "/f", "lock");
        one("chdir", "", "stat");
        assert_eq!(one("bind", "/sock", "create")["kind"], "other");
        one("connect", "/sock", "stat");
        assert_eq!(one("connect", "/none", "probe")["err"], "ENOENT");
        assert_eq!(
            one("open", "/d", "write")["kind"],
            "dir",
            "a file without a name is made in it"
        );
        // aarch64 has no access, and the C library calls faccessat there.
        let access = if cfg!(target_arch = "aarch64") { "faccessat" } else { "access" };
        let mut asked: Vec<&Value> = of(events, access, "/f");
        asked.sort_by_key(|e| e["n"].as_u64());
        let asked: Vec<Option<&str>> = asked.iter().map(|e| e.get("asks")?.as_str()).collect();
        assert_eq!(asked, [Some("r"), Some("rw"), None]);
        // A mount's own links are in its manifest: the way there is not told.
        let through = |name: &str| -> Vec<String> {
            let all = of(events, "", "/f").into_iter();
            let all =
                all.filter(|e| e["path"] == name).filter_map(|e| e.get("through")?.as_array());
            all.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if mount.is_none() {
            assert_eq!(through("link"), [format!("{}/link", dir.display())]);
        } else {
            assert!(through("link").is_empty());
        }
    }

    fn directory(world: &World) {
        world.file("real/f", "f\n");
        world.dir("real/d");
        std::os::unix::fs::symlink("f", world.path("real/link")).expect("a link");
    }

    #[test]
    fn descriptors_and_addresses_are_told_without_mounts() {
        let world = World::new();
        directory(&world);
        let dir = world.path("real").canonicalize().expect("a directory");
        if let Some(events) = told(&world, &dir, &["-q"]) {
            expect(&events, &dir, None);
        }
    }

    #[test]
    fn descriptors_and_addresses_are_told_with_rules() {
        let world = World::new();
        directory(&world);
        let dir = world.path("real").canonicalize().expect("a directory");
        let text = format!(
            "version = 1\n[[rule]]\npaths = [\"{}/no\"]\naccess = \"hide\"\n",
            dir.display()
        );
        let policy = world.file("p.toml", text);
        let options = ["-q", "-p", policy.to_str().expect("UTF-8")];
        if let Some(events) = told(&world, &dir, &options) {
            expect(&events, &dir, None);
        }
    }

    #[test]
    fn descriptors_and_addresses_are_told_in_a_mount() {
        let world = World::new();
        directory(&world);
        world.ingest(world.path("real"), "real");
        let at = world.path("at");
        let mount = format!("{}=real,mode=overlay", at.display());
        if let Some(events) = told(&world, &at, &["-q", "-m", &mount]) {
            expect(&events, &at, at.to_str());
        }
    }
}
