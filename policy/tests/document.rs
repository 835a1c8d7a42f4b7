//! docs/POLICY.md says what the code does: its examples are read, its table is compared.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

use std::collections::HashSet;
use std::path::Path;

use vrift_policy::Operation as O;
use vrift_policy::{Mode, Outcome, Policy, Target, decide};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/POLICY.md");
    std::fs::read_to_string(path).expect("docs/POLICY.md")
}

#[test]
fn its_policies_are_read_and_can_be_obeyed() {
    let text = document();
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
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

#[test]
fn its_table_is_the_decision_table() {
    let text = document();
    let named: HashSet<O> = ROWS.iter().flat_map(|(_, operations)| *operations).copied().collect();
    assert_eq!(named.len(), O::ALL.len(), "an operation is missing or stands twice");
    for (label, operations) in ROWS {
        let start = format!("| {label}");
        let row = text.lines().find(|line| {
            line.strip_prefix(&start).is_some_and(|rest| rest.starts_with([' ', ',']))
        });
        let row = row.unwrap_or_else(|| panic!("no row {label:?}"));
        let cells: Vec<&str> = row.replace("\\|", "/").leak().split('|').map(str::trim).collect();
        let [_, _, cells @ .., _] = cells.as_slice() else { panic!("{row}") };
        assert_eq!(cells.len(), Target::ALL.len(), "{row}");
        for operation in *operations {
            for (cell, target) in cells.iter().zip(Target::ALL) {
                let ours = match decide(*operation, Mode::ReadOnly, target) {
                    Outcome::Serve => "✓".to_owned(),
                    Outcome::Refuse(errno) => errno.to_string(),
                };
                assert!(
                    *cell == ours || *cell == "–",
                    "{operation:?} of {target:?}: {cell}, {ours}"
                );
            }
            // Rows where permission bits come first carry the footnote, and no others.
            let first = operation.permission_first(Target::File).is_some();
            assert!(!first || row.contains('²'), "{row}");
        }
        let any = operations.iter().any(|o| o.permission_first(Target::File).is_some());
        assert!(any || !row.contains('²'), "{row}");
    }
}
