//! The binary `floor`: it must be invisible to its command, and answer what it is told to.

#[cfg(test)]
mod floor {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use vrift_bench::floor::Report;
    use vrift_bench::guest::Times;
    use vrift_bench::guest::fixture::{DIRECTORIES, OF_THE_LAST};
    use vrift_bench::run::fixture;

    fn floor(args: &[&str]) -> Output {
        let timeout = ["--kill-after=5", "60", env!("CARGO_BIN_EXE_floor")];
        Command::new("timeout").args(timeout).args(args).stdin(Stdio::null()).output().unwrap()
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn the_status_is_the_commands_own() {
        let status = |args: &[&str]| floor(args).status.code();
        assert_eq!(status(&["--", "true"]), Some(0));
        assert_eq!(status(&["--", "sh", "-c", "exit 7"]), Some(7));
        assert_eq!(status(&["--", "sh", "-c", "kill -TERM $$"]), Some(128 + 15));
        assert_eq!(status(&["--", "/nonexistent"]), Some(127));
        assert_eq!(status(&["--", "/etc/passwd"]), Some(126));
    }

    #[test]
    fn a_pipeline_that_ends_early_gets_its_sigpipe() {
        let output = floor(&["--", "sh", "-c", "yes | head -1"]);
        assert_eq!(output.stdout, b"y\n");
        assert_eq!(output.stderr, b"");
    }

    #[test]
    fn a_file_is_answered_with_its_own_content_and_metadata() {
        let work = tempfile::tempdir().unwrap();
        let (file, report) = (work.path().join("file"), work.path().join("report"));
        fs::write(&file, b"content").unwrap();
        let script = "test -r \"$1\" && cat \"$1\" && cat \"$1\"";
        let output = floor(&[
            "--report",
            text(&report),
            "--answer",
            text(&file),
            "--",
            "sh",
            "-c",
            script,
            "sh",
            text(&file),
        ]);
        assert_eq!(output.stdout, b"contentcontent");
        let report: Report = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!(report.status, 0);
        // The two opens; a shell's test may use a call that only the kernel answers.
        assert!(report.answered >= 2, "{report:?}");
        assert!(report.notifications > report.answered, "{report:?}");
    }

    /// What was missing when the floor started stays missing for its command: the answer is the
    /// floor's and not the kernel's.
    #[test]
    fn a_missing_path_is_answered_from_memory() {
        let work = tempfile::tempdir().unwrap();
        let file = work.path().join("late");
        let script = "echo > \"$1\" && ! cat \"$1\" 2>/dev/null";
        let output = floor(&["--answer", text(&file), "--", "sh", "-c", script, "sh", text(&file)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(file.exists());
    }

    #[test]
    fn the_guest_measures_every_operation_natively_and_under_both_floors() {
        let work = tempfile::tempdir().unwrap();
        let base = work.path().join("base");
        let other = fixture::make_calls(&base, &DIRECTORIES[..2]).unwrap();
        fixture::make_static(&base).unwrap();
        let without = format!("--without={OF_THE_LAST}");
        let calls = env!("CARGO_BIN_EXE_calls");
        let calls = [calls, "--batches=1", "--batch-ms=1", &without, text(&base), text(&other)];
        let native = Command::new(calls[0]).args(&calls[1..]).output().unwrap();
        let file = base.join("include/sys/file.h");
        let link = base.join("include/sys/link.h");
        let missing = base.join("include/sys/missing.h");
        let answers =
            ["--answer", text(&file), "--answer", text(&link), "--answer", text(&missing)];
        let plain = floor(&[&["--"], &calls[..]].concat());
        let answering = floor(&[&answers[..], &["--"], &calls[..]].concat());
        for output in [native, plain, answering] {
            assert!(output.status.success(), "{output:?}");
            let times: Times = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(times.len(), 19);
            assert!(times.values().all(|time| time.min > 0.0 && time.min <= time.median));
        }
    }

    #[test]
    fn a_bad_answer_is_one_line_and_status_125() {
        let output = floor(&["--answer", "/usr", "--", "true"]);
        assert_eq!(output.status.code(), Some(125));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("/usr") && said.contains("neither a file nor"), "{said}");
    }
}
