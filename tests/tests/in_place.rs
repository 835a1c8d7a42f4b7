//! Redis, Lua and SQLite configured and built in their own trees, natively and over an overlay at the
//! same path: every file the same, byte for byte; then again with the upper kept, where there is
//! nothing to do; then with one header touched, where make does what it does natively.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use vrift_tests::builds::{artefacts, source};
    use vrift_tests::guests::fixtures;
    use vrift_tests::in_place::Ground;
    use vrift_tests::oracle::whole::{Without, assert_same};
    use vrift_tests::{Outcome, need, skip, view};

    /// One project.
    struct Project {
        /// Debian's source package, and the script in `fixtures/in-place`.
        package: &'static str,
        script: &'static str,
        /// Parts that the build doesn't need.
        excluded: &'static [&'static str],
        /// The header that is touched, and how many objects are younger afterwards at least.
        header: &'static str,
        rebuilt: usize,
        /// At least so many objects, libraries and programs come of it.
        least: usize,
        /// Files whose content is of the day.
        content_of: &'static [&'static str],
    }

    /// What a script said, in no order: make runs four commands at once.
    fn lines(outcome: &Outcome) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        for line in outcome.out().lines().chain(outcome.err().lines()) {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    }

    /// What is compared of the trees: not the times, for four compilers end in any order. (That they
    /// are right is what the incremental build shows.)
    fn without(project: &Project) -> Without<'static> {
        Without { times: true, content_of: project.content_of, ..Without::default() }
    }

    fn in_place(name: &str, project: &Project) {
        let source = need!(name, source(project.package));
        built_in(&Ground::new(project.script, &source, project.excluded), project);
    }

    fn built_in(ground: &Ground, project: &Project) {
        let script = fixtures().join("in-place").join(project.script);
        let script = script.canonicalize().expect("the script").display().to_string();
        // The clock of files is coarse: what is touched must be younger than what was built.
        let touch = format!("sleep 0.1; touch {}; {script}", project.header);

        ground.make_plain();
        let plain: Vec<Outcome> =
            [&script, &script, &touch].map(|script| ground.plain(script).run().ok()).into();
        let left = ground.set_aside();
        let built = artefacts(&left);
        assert!(built.len() >= project.least, "only {} objects", built.len());
        assert_rebuilt(&left, project);

        let upper = ground.world.dir("upper");
        let kept = format!(",upper={}", upper.display());
        let commit = format!("{kept},commit=after");
        let jobs = [(&kept, &script), (&kept, &script), (&commit, &touch)];
        let mut projected = Vec::new();
        for ((mount, script), plain) in jobs.into_iter().zip(&plain) {
            let said = ground.overlay(mount, script).run().ok();
            assert_eq!(lines(plain), lines(&said), "what make says\n{plain}\n{said}");
            projected.push(said);
        }
        let after = ground.exported("after");
        assert_rebuilt(&after, project);
        assert_same(&left, &after, without(project));
        assert_eq!(ground.world.damage(), Vec::<String>::new());
        let took = |all: &[Outcome]| {
            all.iter().map(|o| format!("{:.1?}", o.wall)).collect::<Vec<_>>().join(", ")
        };
        eprintln!(
            "{}: {} artefacts the same; native {}; projected {}",
            project.script,
            built.len(),
            took(&plain),
            took(&projected)
        );
    }

    /// That the touched header made something be built anew, so that the last step tests anything.
    fn assert_rebuilt(tree: &Path, project: &Project) {
        let touched = modified(&tree.join(project.header));
        let younger = artefacts(tree).keys().filter(|o| modified(&tree.join(o)) > touched).count();
        assert!(
            (project.rebuilt..artefacts(tree).len()).contains(&younger),
            "{younger} of {} objects are younger than {}",
            artefacts(tree).len(),
            project.header
        );
    }

    fn modified(path: &Path) -> std::time::SystemTime {
        path.metadata()
            .and_then(|m| m.modified())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    #[test]
    fn redis() {
        in_place(
            "in_place::redis",
            &Project {
                package: "redis",
                script: "redis",
                excluded: &["deps/jemalloc", "tests", "debian"],
                header: "src/bio.h",
                rebuilt: 3,
                least: 120,
                content_of: &[],
            },
        );
    }

    const LUA: Project = Project {
        package: "lua5.4",
        script: "lua",
        excluded: &["debian"],
        header: "src/lopcodes.h",
        rebuilt: 8,
        least: 60,
        content_of: &[],
    };

    #[test]
    fn lua() {
        in_place("in_place::lua", &LUA);
    }

    #[test]
    fn lua_in_a_mounted_overlay() {
        let name = "in_place::lua_in_a_mounted_overlay";
        need!(name, view::possible());
        let source = need!(name, source(LUA.package));
        built_in(&Ground::new(LUA.script, &source, LUA.excluded).mounted(), &LUA);
    }

    #[test]
    fn sqlite() {
        need!("in_place::sqlite", skip::program("tclsh"));
        in_place(
            "in_place::sqlite",
            &Project {
                package: "sqlite3",
                script: "sqlite3",
                excluded: &["art", "www", "test", "doc", "debian", "contrib", "vsixtest", "mptest"],
                header: "src/vdbe.h",
                rebuilt: 3,
                least: 8,
                content_of: &["config.log"],
            },
        );
    }
}
