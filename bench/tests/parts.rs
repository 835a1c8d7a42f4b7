//! The parts of the comparison that a user asks for by name, as small as they get: what they measure,
//! what they say of it, and what they leave behind.
//!
//! Where vrift-trace has not been built beside the benchmark, it is the rest that is looked at, and
//! that its absence is said.

#[cfg(test)]
mod parts {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};

    use vrift_bench::run::build::Cost;
    use vrift_bench::run::report::Figures;
    use vrift_bench::run::stats::Samples;

    const BENCH: &str = env!("CARGO_BIN_EXE_vrift-bench");

    fn bench(work: &Path, args: &[&str]) -> Output {
        Command::new("timeout")
            .args(["--kill-after=5", "1200", BENCH])
            .args(args)
            .env("TMPDIR", work)
            .env("VRIFT_BENCH_FILES", "200")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn has_product() -> bool {
        let beside = |name: &str| Path::new(BENCH).with_file_name(name).exists();
        beside("vrift") && beside("vrift-trace")
    }

    /// One part, measured once; what it wrote as JSON, that file, and what it printed.
    fn part(name: &str, work: &Path) -> (Figures, PathBuf, String) {
        let json = work.join("figures.json");
        let temporary = work.join("tmp");
        fs::create_dir(&temporary).unwrap();
        let options = ["--no-build", "--quick", "--only", name, "--json", json.to_str().unwrap()];
        let output = bench(&temporary, &options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8(output.stdout).unwrap();
        let left: Vec<_> =
            fs::read_dir(&temporary).unwrap().map(|left| left.unwrap().path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let figures: Figures = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        if has_product() {
            assert!(output.status.success(), "{printed}\n{said}");
            assert!(figures.problems.is_empty(), "{:?}", figures.problems);
        } else {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(printed.contains("- vrift-trace: there is no "), "{printed}");
        }
        (figures, json, printed)
    }

    /// Whether there is a figure, of what vrift-trace does only if it is there.
    fn taken(samples: &Samples, products: bool) -> bool {
        let wanted = usize::from(!products || has_product());
        samples.all.len() == wanted && samples.all.iter().all(|figure| *figure > 0.0)
    }

    fn costs(cost: &Cost, products: bool) -> bool {
        taken(&cost.wall, products)
    }

    #[test]
    fn a_crowd_of_each_size_gets_calls_done() {
        let work = tempfile::tempdir().unwrap();
        let (figures, json, printed) = part("contention", work.path());
        let crowds: Vec<_> = figures.contention.iter().map(|row| (&*row.name, row.tasks)).collect();
        let sizes = [1, 2, 4, 16, 64];
        let expected = ["stat", "other_stat"];
        let expected = expected.into_iter().flat_map(|name| sizes.map(|size| (name, size)));
        assert_eq!(crowds, expected.collect::<Vec<_>>());
        for row in &figures.contention {
            for (served, products) in
                [(&row.native, false), (&row.floor, false), (&row.trace, true)]
            {
                for samples in [&served.calls, &served.p99, &served.worst_p99, &served.longest] {
                    assert!(taken(samples, products), "{row:?}");
                }
                // A share may be nothing: in a tenth of a second not every one of 64 gets to run.
                assert!(
                    served.share.all.iter().all(|share| (0.0..=1.0).contains(share)),
                    "{row:?}"
                );
            }
        }
        assert!(printed.contains("| not ours: stat, 64 | "), "{printed}");
        drawn(&json, &["contention"]);
        an_older_runs_figures_are_read(&json);
    }

    #[test]
    fn whole_jobs_do_the_same_each_way() {
        let work = tempfile::tempdir().unwrap();
        let (figures, json, printed) = part("jobs", work.path());
        let jobs = figures.jobs.unwrap();
        assert_eq!((jobs.files, jobs.python, jobs.node), (200, 2, 40));
        // What isn't installed is left out, and named.
        assert!(jobs.rows.len() + 2 * jobs.absent.len() >= 7, "{printed}");
        for row in &jobs.rows {
            assert!(costs(&row.native, false) && costs(&row.floor, false), "{row:?}");
            assert!(costs(&row.trace, true) && costs(&row.recorded, true), "{row:?}");
            // That a job ended before its supervisor was looked at is no failure.
            assert!(row.trace.peak.all.iter().all(|peak| *peak > 0.5 && *peak < 4096.0), "{row:?}");
        }
        drawn(&json, &["jobs"]);
    }

    #[test]
    fn the_store_is_measured_beside_copying() {
        let work = tempfile::tempdir().unwrap();
        let (figures, json, printed) = part("store", work.path());
        let store = figures.store.unwrap();
        assert_eq!(store.groups.iter().map(|group| group.files).collect::<Vec<_>>(), [5000, 10]);
        for step in store.groups.iter().flat_map(|group| &group.steps) {
            assert!(costs(&step.cost, step.label.contains("vrift")), "{step:?}");
        }
        let manifests = store.manifests.unwrap();
        let sizes: Vec<usize> = manifests.mounted.iter().map(|mounted| mounted.files).collect();
        let expected: &[usize] = if has_product() { &[10, 2000, 10_000] } else { &[] };
        assert_eq!(sizes, expected, "{printed}");
        let names: &[&str] = if has_product() { &["manifests", "store"] } else { &["manifests"] };
        drawn(&json, names);
    }

    /// The figures of a run become the pictures `names`, which are well-formed and no others.
    fn drawn(json: &Path, names: &[&str]) {
        let pictures = json.with_file_name("pictures");
        let (directory, from) = (pictures.to_str().unwrap(), json.to_str().unwrap());
        let output = bench(&std::env::temp_dir(), &["--plots", directory, "--from", from]);
        assert!(output.status.success(), "{output:?}");
        let mut found: Vec<_> =
            fs::read_dir(&pictures).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        let expected: Vec<_> =
            names.iter().map(|name| pictures.join(format!("{name}.svg"))).collect();
        assert_eq!(found, expected);
        for picture in found {
            let text = fs::read_to_string(&picture).unwrap();
            assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
            assert!(text.contains("prefers-color-scheme: dark"), "{text}");
            assert_eq!(text.matches("<g").count(), text.matches("</g>").count(), "{text}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    /// Before there were these parts and peaks of memory, JSON had less in it.
    fn an_older_runs_figures_are_read(json: &Path) {
        let mut figures: serde_json::Value =
            serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        let object = figures.as_object_mut().unwrap();
        for part in ["contention", "jobs", "store", "sqlite", "cargo"] {
            assert!(object.remove(part).is_some(), "{part}");
        }
        let cost = |seconds: f64| serde_json::json!({ "wall": { "all": [seconds] }, "cpu": { "all": [seconds] } });
        object["in_place"] = serde_json::json!({
            "project": "Redis 7", "native": cost(10.0), "floor": cost(12.0), "overlay": cost(13.0)
        });
        let directory = json.with_file_name("older");
        fs::create_dir(&directory).unwrap();
        let older = directory.join("figures.json");
        fs::write(&older, figures.to_string()).unwrap();
        drawn(&older, &["in-place"]);
    }

    #[test]
    fn what_is_no_run_is_not_drawn() {
        let work = tempfile::tempdir().unwrap();
        let (file, pictures) = (work.path().join("other.json"), work.path().join("pictures"));
        fs::write(&file, "{\"machine\": 1}").unwrap();
        let arguments = ["--plots", pictures.to_str().unwrap(), "--from", file.to_str().unwrap()];
        let output = bench(work.path(), &arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("other.json isn't what `--json` writes"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!pictures.exists());
    }

    #[test]
    fn a_number_of_files_that_is_none_is_said() {
        let work = tempfile::tempdir().unwrap();
        let output = Command::new(BENCH)
            .args(["--no-build", "--quick", "--only", "jobs"])
            .env("VRIFT_BENCH_FILES", "many")
            .env("TMPDIR", work.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "vrift-bench: VRIFT_BENCH_FILES=many: must be a whole number above 0\n");
    }
}
