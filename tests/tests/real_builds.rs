//! Real programs, built natively and over a read-only projection at the same path: every
//! object and binary must be the same, byte for byte.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use vrift_tests::builds::{Site, artefacts, assert_same_artefacts, build, source};
    use vrift_tests::{Outcome, World, need, skip, tree};

    struct Built {
        world: World,
        site: Site,
        native: PathBuf,
        out: PathBuf,
        native_said: Outcome,
    }

    /// Builds the real tree, sets its output aside, takes the tree away and ingests it.
    fn natively(package: &str, script: &str) -> Result<Built, String> {
        let tree = source(package)?;
        let world = World::new();
        let site = Site::new(&world, script);
        let (out, native) = (world.path("out"), world.path("native"));
        site.make_real(&tree);
        let native_said = build(&world, script, &site.at, &out, &[]).ok();
        fs::rename(&out, &native).expect("set the native output aside");
        world.ingest(&site.at, script);
        site.clear();
        Ok(Built { world, site, native, out, native_said })
    }

    /// Builds over the projection (and more mounts) into the same directory, and compares.
    fn compare(built: &Built, script: &str, least: usize, more: &[(&Path, &str)]) {
        let mut mounts = vec![(built.site.at.as_path(), script)];
        mounts.extend(more);
        assert!(!built.site.at.exists(), "the real tree is still there: nothing would be tested");
        let said = build(&built.world, script, &built.site.at, &built.out, &mounts).ok();
        assert_same_artefacts(&built.native, &built.out, least);
        assert!(!built.site.at.exists(), "the build wrote to where only the projection is");
        assert_eq!(built.world.damage(), Vec::<String>::new());
        eprintln!(
            "{script}: {} artefacts the same; native {:.1?}, projected {:.1?}",
            artefacts(&built.out).len(),
            built.native_said.wall,
            said.wall
        );
        fs::remove_dir_all(&built.out).expect("make room for another build");
    }

    /// Puts a projected copy of /usr/include over the real one.
    fn shadow_includes(world: &World) {
        tree::copy(Path::new("/usr/include"), &world.path("include"));
        world.ingest(world.path("include"), "include");
    }

    #[test]
    fn gnu_hello_also_with_projected_includes() {
        let name = "real_builds::gnu_hello_also_with_projected_includes";
        let built = need!(name, natively("hello", "hello"));
        compare(&built, "hello", 5, &[]);
        shadow_includes(&built.world);
        compare(&built, "hello", 5, &[(Path::new("/usr/include"), "include")]);
        // The tests of the program itself ran natively, and so they must have run projected.
        assert!(built.native_said.out().contains("# FAIL:  0"), "{}", built.native_said);
    }

    #[test]
    fn fmtlib_with_cmake_and_ninja_also_with_projected_includes() {
        let name = "real_builds::fmtlib_with_cmake_and_ninja_also_with_projected_includes";
        need!(name, skip::program("cmake").and(skip::program("ninja")));
        if !Path::new("/usr/src/googletest").exists() {
            skip!(name, "googletest's sources are not installed");
        }
        let built = need!(name, natively("fmtlib", "fmtlib"));
        compare(&built, "fmtlib", 8, &[]);
        shadow_includes(&built.world);
        compare(&built, "fmtlib", 8, &[(Path::new("/usr/include"), "include")]);
    }

    #[test]
    fn lua_file_by_file_also_with_projected_includes() {
        let name = "real_builds::lua_file_by_file_also_with_projected_includes";
        let built = need!(name, natively("lua5.4", "lua"));
        compare(&built, "lua", 30, &[]);
        shadow_includes(&built.world);
        compare(&built, "lua", 30, &[(Path::new("/usr/include"), "include")]);
    }

    #[test]
    fn redis_file_by_file_also_with_projected_includes() {
        let name = "real_builds::redis_file_by_file_also_with_projected_includes";
        let built = need!(name, natively("redis", "redis"));
        compare(&built, "redis", 150, &[]);
        shadow_includes(&built.world);
        compare(&built, "redis", 150, &[(Path::new("/usr/include"), "include")]);
    }
}
