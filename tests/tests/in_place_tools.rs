//! The tools of every day at work in a source tree: each in a plain copy and over an overlay at the
//! same path, what it said and the trees it left compared; and once more over an overlay that is
//! thrown away, of which no byte may be left.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use vrift_tests::guests::fixtures;
    use vrift_tests::in_place::Ground;
    use vrift_tests::oracle::whole::Without;
    use vrift_tests::{World, need, skip, tree};

    /// What cargo, cmake and the like write has the time when they were done with it.
    const BUILT: Without<'static> = Without { times: true, content_of: &[], below: &[] };

    /// A fixture as a source that may be changed, with times that are old.
    fn fixture(world: &World, name: &str) -> PathBuf {
        let source = world.path("source");
        tree::copy(&fixtures().join("in-place").join(name), &source);
        tree::stamp(&source);
        source
    }

    fn run(world: &World, dir: &Path, script: &str) {
        let mut job = world.native(["sh", "-ec", script]).cwd(dir);
        for who in ["AUTHOR", "COMMITTER"] {
            job = job
                .env(format!("GIT_{who}_NAME"), "Somebody")
                .env(format!("GIT_{who}_EMAIL"), "somebody@example.invalid")
                .env(format!("GIT_{who}_DATE"), "1600000000 +0000");
        }
        job.run().ok();
    }

    /// On both sides, and thrown away; what it said.
    fn both(ground: &Ground, script: &str, without: Without<'_>) -> String {
        let [plain, projected] = ground.same(script, without);
        eprintln!("native {:.1?}, projected {:.1?}", plain.wall, projected.wall);
        ground.leaves_nothing(script);
        plain.out()
    }

    #[test]
    fn cargo_with_a_build_script_and_a_proc_macro() {
        let name = "in_place_tools::cargo_with_a_build_script_and_a_proc_macro";
        need!(name, skip::program("cargo"));
        let world = World::new();
        let ground = Ground::new("crate", &fixture(&world, "crate"), &[]);
        let script = "export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
            cargo build --offline --quiet; target/debug/app
            cargo build --offline 2>&1 | grep -c Compiling || true
            sleep 0.1; touch plain/src/lib.rs
            cargo build --offline 2>&1 | sed -n 's/ *Compiling \\([a-z]*\\).*/\\1/p'";
        let without = Without { content_of: &[".rustc_info.json"], ..BUILT };
        let said = both(&ground, script, without);
        assert_eq!(said, "by the build script, handed over, Thing, 42\n0\nplain\napp\n");
    }

    #[test]
    fn cmake_and_ninja() {
        let name = "in_place_tools::cmake_and_ninja";
        need!(name, skip::program("cmake").and(skip::program("ninja")));
        let world = World::new();
        let ground = Ground::new("cmake", &fixture(&world, "cmake"), &[]);
        let script = "cmake -G Ninja -S . -B build >/dev/null; cd build; ninja --quiet; ./tiny
            ninja | tail -n 1
            ctest 2>/dev/null | grep 'tests passed'
            cmake --install . --prefix ../installed | sort
            sleep 0.1; touch ../part.c; ninja -n | grep -c part.c; ninja --quiet; ninja -n | tail -n 1";
        // Its own logs: times, and names it makes up for its trials.
        let without = Without {
            content_of: &[
                ".ninja_log",
                ".ninja_deps",
                "CMakeOutput.log",
                "CMakeError.log",
                "LastTest.log",
                "CMakeConfigureLog.yaml",
                "CTestCostData.txt",
            ],
            ..BUILT
        };
        let said = both(&ground, script, without);
        assert!(said.starts_with("configured 42\nninja: no work to do.\n"), "{said}");
        assert!(said.ends_with("ninja: no work to do.\n"), "{said}");
    }

    #[test]
    fn npm_installs_a_local_tarball() {
        let name = "in_place_tools::npm_installs_a_local_tarball";
        need!(name, skip::program("npm").and(skip::program("node")));
        let world = World::new();
        let source = fixture(&world, "npm");
        run(
            &world,
            &source,
            "tar --sort=name --owner=0 --group=0 --numeric-owner -czf tiny-1.2.3.tgz package; rm -r package",
        );
        tree::stamp(&source);
        let ground = Ground::new("npm", &source, &[]);
        let script = "npm install --offline --no-audit --no-fund --no-update-notifier --foreground-scripts=false ./tiny-1.2.3.tgz | grep -v '^$' | sed 's/ in .*//'
            node_modules/.bin/tiny; node -e 'console.log(require(\"tiny\")())'; npm ls --offline | tail -n +2";
        let said = both(&ground, script, BUILT);
        assert!(
            said.contains("added 1 package\ntiny its install script\ntiny its install script\n"),
            "{said}"
        );
    }

    #[test]
    fn python_makes_an_environment_and_a_wheel() {
        let name = "in_place_tools::python_makes_an_environment_and_a_wheel";
        let modules = "import setuptools, pip, venv, wheel";
        let world = World::new();
        if world.native(["/usr/bin/python3", "-c", modules]).run().code() != 0 {
            skip!(name, "the system's python3 has not all of venv, pip, setuptools, wheel");
        }
        let ground = Ground::new("python", &fixture(&world, "python"), &[]);
        let script = "export PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
            /usr/bin/python3 -m venv --system-site-packages --without-pip env
            env/bin/python -m pip -q wheel --no-index --no-deps --no-build-isolation -w dist ./pkg 2>&1 | grep -i error || true
            ls dist; env/bin/python -m pip -q install --no-index --no-compile --no-warn-script-location dist/*.whl
            env/bin/tiny; env/bin/python -c 'import tiny, sys; print(tiny.__file__, sys.prefix)'
            env/bin/python -m pip -q uninstall -y tiny; ls env/lib/python3*/site-packages";
        let said = both(&ground, script, BUILT);
        assert!(said.starts_with("tiny-1.2.3-py3-none-any.whl\ntiny packed data\n"), "{said}");
    }

    #[test]
    fn git_clones_checks_out_and_commits() {
        let name = "in_place_tools::git_clones_checks_out_and_commits";
        need!(name, skip::program("git"));
        let world = World::new();
        let source = world.dir("source");
        run(
            &world,
            &source,
            "git init -q -b main tree; cd tree; mkdir -p a/b; seq 100 >a/numbers; echo one >a/b/one; ln -s b/one a/link; echo x >tool; chmod +x tool
             git add -A; git commit -qm first; git checkout -q -b other; git mv a/b a/c; seq 50 >a/numbers; rm tool; git add -A; git commit -qm second
             git checkout -q main; git gc -q; echo more >>a/b/one; git commit -qam third",
        );
        tree::stamp(&source);
        let ground = Ground::new("git", &source, &[]);
        let script = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=gc.auto GIT_CONFIG_VALUE_0=0
            cd tree; git status --porcelain; git checkout -q other; git status --porcelain; ls -A . a; git checkout -q main
            echo changed >>a/b/one; git status --porcelain; git stash -q; git status --porcelain; git stash pop -q; git commit -qam fourth; git status --porcelain
            git log --oneline --all --graph; git rebase -q other; git status --porcelain; git log --oneline; git fsck
            cd ..; git clone -q tree clone; cd clone; git status --porcelain; git checkout -q -b mine origin/other; echo mine >mine; git add mine; git commit -qm mine
            git push -q origin mine; git -C ../tree log --oneline mine; git -C ../tree status --porcelain; git gc -q; git fsck; git worktree add -q ../beside main; git -C ../beside status --porcelain; git clean -qfdx; ls -A";
        // An index holds inode numbers and times of what it speaks of.
        let without = Without { content_of: &["/index", ".mtimes"], times: true, below: &[] };
        let said = both(&ground, script, without);
        assert!(said.contains(" M a/b/one\n") && said.contains("mine"), "{said}");
        assert!(!said.contains("error") && !said.contains("missing"), "{said}");
    }

    /// What the everyday tools are given: a sample tree and an archive of one.
    fn sample(world: &World) -> PathBuf {
        let source = world.dir("source");
        tree::sample(&source.join("sample"));
        for n in 1..=42 {
            fs::remove_file(source.join(format!("sample/chain-{n}"))).expect("the sample's link");
        }
        fs::remove_file(source.join("sample/out")).expect("the sample's link");
        fs::remove_dir_all(source.join("beyond")).expect("the sample's other directory");
        tree::numbered(&source.join("many"), 500);
        tree::stamp(&source);
        run(world, &source, "tar --xattrs -cf sample.tar sample");
        tree::stamp(&source);
        source
    }

    #[test]
    fn tar_unpacks() {
        let world = World::new();
        let ground = Ground::new("tar", &sample(&world), &[]);
        let script = "mkdir out; tar --xattrs -xpf sample.tar -C out; tar -xpf sample.tar --strip-components 1 -C sample
            cd out; tar --sort=name -cf - sample | tar -tvf - | wc -l; tar -df ../sample.tar; rm -rf sample/d; tar -xpf ../sample.tar sample/d; ls sample/d; tar --sort=name --mtime=@1 --remove-files -cf again.tar sample; ls";
        let said = both(&ground, script, Without::default());
        assert!(said.ends_with("again.tar\n"), "{said}");
    }

    #[test]
    fn rsync_and_cp_copy_all_there_is() {
        let name = "in_place_tools::rsync_and_cp_copy_all_there_is";
        need!(name, skip::program("rsync"));
        let world = World::new();
        let ground = Ground::new("rsync", &sample(&world), &[]);
        let script = "rsync -aHX sample/ by-rsync/; rsync -aHXni sample/ by-rsync/; cp -a sample by-cp; rsync -aHXni sample/ by-cp/
            echo changed >sample/f; rm -r sample/d; mkdir sample/new; echo n >sample/new/n; rsync -aHX --delete --inplace sample/ by-rsync/; rsync -aHXni --delete sample/ by-rsync/
            rsync -a many/ sample/existing/; cp -al many hard; cp -a --reflink=auto many soft; diff -r many soft; cp -au sample/. by-cp/; cp --sparse=always by-cp/big thin; cmp by-cp/big thin
            mv many renamed; mv by-cp many; cp -rT renamed many/sub; ls many/sub | wc -l";
        assert_eq!(both(&ground, script, Without::default()), "500\n");
    }

    #[test]
    fn sed_rm_and_their_kind_change_in_place() {
        let world = World::new();
        let ground = Ground::new("sed", &sample(&world), &[]);
        let script = "cd many; sed -i 's/1/one/' 1*; sed -i.bak 's/2/two/' 2?; perl -pi -e 's/3/three/' 3* 2>/dev/null || sed -i 's/3/three/' 3*; cat 1 15 20 30 | tr '\\n' ' '; echo; ls | wc -l
            find . -name '4*' -delete; find . -name '*.bak' -exec mv {} {}.old ';'; ls | wc -l; chmod -R go-w .; touch -d @1234567890 5*; ln -sf 6 link; ln -f 6 7; install -D -m 750 8 deep/er/file; stat -c '%a %h %Y' 7 50 deep/er/file | head -n 2
            cd ..; rm -rf sample/d sample/private; rmdir sample/void; mkdir -p sample/d/x/y; cp many/8 sample/d/x/y; truncate -s 10 sample/big; dd if=/dev/zero of=sample/big bs=1 seek=100 count=1 conv=notrunc status=none; stat -c %s sample/big
            mv sample moved; mv many moved/many; rm -rf moved/many; ls -A moved | wc -l; rm sample.tar; split -b 100 moved/Case part- ; sort -o moved/Case moved/Case; rm -rf moved; ls -A";
        let said = both(&ground, script, Without::default());
        assert!(said.starts_with("one one5 two0 three0 \n"), "{said}");
    }
}
