//! docs/POLICY.md says what the code does: its examples are read, its table is compared.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::collections::HashSet;
use std::path::Path;

use vrift_policy::Operation as O;
use vrift_policy::{Grant, Mode, Outcome, Policy, RealTarget, Target, decide, decide_rule};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/POLICY.md");
    std::fs::read_to_string(path).expect("docs/POLICY.md")
}

#[test]
fn its_policies_are_read_and_can_be_obeyed() {
    let text = document();
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let policy = Policy::parse(block, Path::new("docs/POLICY.md")).expect(block);
        assert_eq!(policy.unsupported(), [""; 0]);
    }
}

/// The first words of each row of the table, and the operations that it speaks of.
const ROWS: &[(&str, &[O])] = &[
    ("stat, open `O_PATH`", &[O::Stat, O::OpenPath, O::StatFs, O::GetXattr, O::Watch]),
    ("access `X_OK`", &[O::TestExecute]),
    ("access `W_OK`", &[O::TestWrite]),
    ("readlink", &[O::ReadLink]),
    ("open `O_RDONLY`", &[O::Read]),
    ("open `O_DIRECTORY`, chdir", &[O::List, O::EnterDirectory]),
    ("execve", &[O::Execute]),
    ("name_to_handle_at", &[O::MakeHandle]),
    ("connect", &[O::ConnectSocket]),
    ("open for writing", &[O::OpenWrite]),
    ("open `O_TRUNC`", &[O::OpenTruncate]),
    ("open `O_CREAT` for reading", &[O::CreateFile]),
    ("open `O_CREAT` for writing", &[O::CreateWrite, O::CreateTruncate]),
    ("open `O_CREAT\\|O_EXCL`", &[O::CreateExclusive]),
    ("open `O_TMPFILE`", &[O::MakeTempFile]),
    ("mkdir, mknod, symlink", &[O::MakeDirectory, O::MakeNode, O::MakeSymlink]),
    ("bind", &[O::BindSocket]),
    ("unlink", &[O::Unlink]),
    ("rmdir", &[O::RemoveDirectory]),
    ("truncate", &[O::Truncate]),
    (
        "chmod, chown, utimes, setxattr, removexattr, `FS_IOC_SETFLAGS`",
        &[O::ChangeMode, O::ChangeOwner, O::ChangeTimes, O::SetXattr, O::RemoveXattr, O::SetFlags],
    ),
];

/// The sections with a table, and whose it is. A row that one doesn't have is as in the one before.
const SECTIONS: [(&str, Mode); 3] = [
    ("## What a read-only mount answers", Mode::ReadOnly),
    ("## What a copy-on-write mount answers", Mode::CopyOnWrite),
    ("## What an overlay answers", Mode::Overlay),
];

/// The row of a section that begins with this label.
fn row<'t>(text: &'t str, section: &str, label: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(section).unwrap_or_else(|| panic!("no section {section:?}"));
    let rest = rest.split("\n## ").next().unwrap_or(rest);
    let start = format!("| {label}");
    rest.lines()
        .find(|line| line.strip_prefix(&start).is_some_and(|rest| rest.starts_with([' ', ','])))
}

/// The same for what `deny` answers.
const DENIED: &[(&str, &[O])] = &[
    ("stat, open `O_PATH`, statfs", &[O::Stat, O::OpenPath, O::StatFs, O::MakeHandle]),
    ("access `X_OK`, `W_OK`", &[O::TestExecute, O::TestWrite]),
    ("readlink \u{b9}", &[O::ReadLink]),
    ("open `O_RDONLY`, access", &[O::Read]),
    ("open `O_DIRECTORY`, chdir, open", &[O::List, O::EnterDirectory, O::MakeTempFile]),
    ("open for writing, open `O_TRUNC`", &[O::OpenWrite, O::OpenTruncate, O::Execute]),
    ("open `O_CREAT` |", &[O::CreateFile, O::CreateWrite, O::CreateTruncate]),
    (
        "open `O_CREAT\\|O_EXCL`, mkdir",
        &[O::CreateExclusive, O::MakeDirectory, O::MakeNode, O::MakeSymlink, O::BindSocket],
    ),
    ("truncate |", &[O::Truncate]),
    ("unlink, rmdir, connect", &[O::Unlink, O::RemoveDirectory, O::ConnectSocket, O::Watch]),
    (
        "chmod, chown, utimes, getxattr",
        &[
            O::ChangeMode,
            O::ChangeOwner,
            O::ChangeTimes,
            O::GetXattr,
            O::SetXattr,
            O::RemoveXattr,
            O::SetFlags,
        ],
    ),
];

#[test]
fn its_table_of_denied_calls_is_the_rules() {
    let text = document();
    let chapter = text.split("\n`deny`; ").nth(1).expect("the table of `deny`");
    let named: HashSet<O> =
        DENIED.iter().flat_map(|(_, operations)| *operations).copied().collect();
    assert_eq!(named.len(), O::ALL.len(), "an operation is missing or stands twice");
    for (label, operations) in DENIED {
        let row = chapter.lines().find(|line| line.starts_with(&format!("| {label}")));
        let row = row.unwrap_or_else(|| panic!("no row {label:?}")).replace("\\|", "/");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, _, cells @ .., _] = cells.as_slice() else { panic!("{row}") };
        assert_eq!(cells.len(), RealTarget::ALL.len(), "{row}");
        for operation in *operations {
            for (cell, target) in cells.iter().zip(RealTarget::ALL) {
                let ours = decide_rule(*operation, Grant::Deny, target);
                let ours = ours.map_or("–".to_owned(), |errno| errno.to_string());
                assert_eq!(*cell, ours, "{operation:?} of {target:?}");
            }
        }
    }
}

#[test]
fn its_tables_are_the_decision_table() {
    let text = document();
    let named: HashSet<O> = ROWS.iter().flat_map(|(_, operations)| *operations).copied().collect();
    assert_eq!(named.len(), O::ALL.len(), "an operation is missing or stands twice");
    for (label, operations) in ROWS {
        let mut valid = None;
        for (section, mode) in SECTIONS {
            valid = row(&text, section, label).or(valid);
            let row = valid.unwrap_or_else(|| panic!("no row {label:?}"));
            compare(row, operations, mode);
        }
    }
}

fn compare(row: &str, operations: &[O], mode: Mode) {
    let plain = row.replace("\\|", "/");
    let cells: Vec<&str> = plain.split('|').map(str::trim).collect();
    let [_, _, cells @ .., _] = cells.as_slice() else { panic!("{row}") };
    assert_eq!(cells.len(), Target::ALL.len(), "{row}");
    for operation in operations {
        for (cell, target) in cells.iter().zip(Target::ALL) {
            let ours = match decide(*operation, mode, target) {
                Outcome::Serve => "✓".to_owned(),
                Outcome::Refuse(errno) => errno.to_string(),
            };
            let equal = *cell == ours || *cell == "–";
            assert!(equal, "{mode}: {operation:?} of {target:?}: {cell}, {ours}");
        }
    }
    // Rows where permission bits come first carry the footnote, and no others.
    let any = operations.iter().any(|o| o.permission_first(Target::File).is_some());
    assert_eq!(any, row.contains('²'), "{row}");
}
