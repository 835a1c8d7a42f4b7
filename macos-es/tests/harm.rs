//! Whatever a program does, in whatever order: nothing of it reaches a blob, the store, or the job's
//! private directory.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod fake;

use fake::program::Program;
use fake::tree::{paths, projection, world};
use proptest::prelude::*;
use std::sync::LazyLock;
use vrift_macos_es::shim::{Base, DARWIN, LINUX, darwin};
use vrift_policy::{Operation, RenameFlags};
use vrift_projection::Projection;

/// One call.
#[derive(Clone, Debug)]
enum Call {
    Open { base: usize, path: usize, flags: i32 },
    Path { operation: usize, base: usize, path: usize, follow: bool },
    Descriptor { operation: usize, fd: usize },
    Transfer { base: usize, from: usize, to: usize, rename: Option<u32> },
    Duplicate { fd: usize },
    Close { fd: usize, seen: bool },
    LoseCurrent,
}

const FLAGS: [i32; 10] = [
    0,
    darwin::WRONLY,
    darwin::RDWR,
    darwin::CREAT,
    darwin::TRUNC,
    darwin::EXCL,
    darwin::NOFOLLOW,
    darwin::DIRECTORY,
    darwin::SYMLINK,
    darwin::EXEC,
];

fn call(paths: usize) -> impl Strategy<Value = Call> {
    let path = 0..paths;
    let base = 0..4usize;
    let flags = proptest::sample::subsequence(FLAGS.to_vec(), 0..4)
        .prop_map(|bits| bits.into_iter().fold(0, |all, bit| all | bit));
    prop_oneof![
        4 => (base.clone(), path.clone(), flags)
            .prop_map(|(base, path, flags)| Call::Open { base, path, flags }),
        5 => (0..Operation::ALL.len(), base.clone(), path.clone(), any::<bool>()).prop_map(
            |(operation, base, path, follow)| Call::Path { operation, base, path, follow }
        ),
        2 => (base.clone(), path.clone()).prop_map(|(base, path)| {
            let enter = Operation::ALL.iter().position(|op| *op == Operation::EnterDirectory);
            Call::Path { operation: enter.unwrap_or(0), base, path, follow: true }
        }),
        4 => (0..Operation::ALL.len(), 0..8usize)
            .prop_map(|(operation, fd)| Call::Descriptor { operation, fd }),
        3 => (base, path.clone(), path, proptest::option::of(0..4u32)).prop_map(
            |(base, from, to, rename)| Call::Transfer { base, from, to, rename }
        ),
        1 => (0..8usize).prop_map(|fd| Call::Duplicate { fd }),
        2 => (0..8usize, any::<bool>()).prop_map(|(fd, seen)| Call::Close { fd, seen }),
        1 => Just(Call::LoseCurrent),
    ]
}

/// How many sequences are tried: `PROPTEST_CASES`, or so many that it takes a few seconds.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// Which operations a call with a path can be; the others are flags of an open.
fn by_path(operation: Operation) -> bool {
    use Operation as O;
    !matches!(
        operation,
        O::OpenWrite
            | O::OpenTruncate
            | O::CreateFile
            | O::CreateWrite
            | O::CreateTruncate
            | O::CreateExclusive
            | O::MakeTempFile
    )
}

fn run(calls: &[Call], darwin: bool, user: u32, start: &[u8]) -> Result<(), TestCaseError> {
    static PROJECTION: LazyLock<Projection> = LazyLock::new(projection);
    let mut kernel = world();
    kernel.current = start.to_vec();
    let platform = if darwin { &DARWIN } else { &LINUX };
    let program = Program::new(&PROJECTION, kernel, platform, user);
    let paths = paths();
    let base = |number: usize| match number {
        0 | 1 => Base::Current,
        number => Base::Descriptor(i32::try_from(number + 1).unwrap_or(3)),
    };
    let fd = |number: usize| i32::try_from(number + 3).unwrap_or(3);
    for call in calls {
        match call {
            Call::Open { base: b, path, flags } => {
                let _ = program.open(base(*b), paths[*path].as_bytes(), *flags);
            }
            Call::Path { operation, base: b, path, follow } => {
                let operation = Operation::ALL[*operation];
                if by_path(operation) {
                    let _ = program.call(operation, base(*b), paths[*path].as_bytes(), *follow);
                }
            }
            Call::Descriptor { operation, fd: number } => {
                let _ = program.by_descriptor(Operation::ALL[*operation], fd(*number));
            }
            Call::Transfer { base: b, from, to, rename } => {
                let (from, to) = (paths[*from].as_bytes(), paths[*to].as_bytes());
                let flags = rename.map(RenameFlags::from_raw);
                let _ = program.transfer((base(*b), from), (Base::Current, to), flags);
            }
            Call::Duplicate { fd: number } => drop(program.duplicate(fd(*number))),
            Call::Close { fd: number, seen } => program.close(fd(*number), *seen),
            Call::LoseCurrent => program.shim.lost_current(),
        }
        let harm = &program.kernel.borrow().harm;
        prop_assert!(harm.is_empty(), "{call:?} did {harm:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_that_a_program_does_reaches_the_store(
        calls in proptest::collection::vec(call(paths().len()), 1..60),
        darwin in any::<bool>(),
        root in any::<bool>(),
        start in proptest::sample::select(vec!["/tmp", "/", "/job/d/0-3", "/store", "/store/refs"]),
    ) {
        run(&calls, darwin, if root { 0 } else { 501 }, start.as_bytes())?;
    }
}

/// The test above can fail: the same calls without the shim do harm.
#[test]
fn the_small_system_sees_harm() {
    let mut kernel = world();
    let at = kernel.resolve(Base::Current, b"/tmp/evil", true).expect("a link to a blob");
    kernel.changes("write", &at);
    assert_eq!(kernel.harm.len(), 1);
    let at = kernel.resolve(Base::Current, b"st/refs/deps", true).expect("a way into the store");
    kernel.changes("write", &at);
    assert_eq!(kernel.harm.len(), 2);
    kernel.changes("write", b"/storehouse/x");
    assert_eq!(kernel.harm.len(), 2);
}
