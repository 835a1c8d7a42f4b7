//! What the shim answers, call by call: the decision table of Linux's read-only mode where the
//! systems agree, walks, the two sides of an edge, descriptors and the current directory.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod fake;

use fake::program::Program;
use fake::tree::{AT, blob, projection, world};
use vrift_macos_es::shim::{
    Base, DARWIN, LINUX, Listing, Look, PathBuffer, Platform, Verdict, darwin, linux,
};
use vrift_policy::{Errno, Mode, Operation, Outcome, RenameFlags, Target, decide};
use vrift_projection::NodeRef;

const HERE: Base = Base::Current;

fn node(program: &Program<'_>, path: &str) -> NodeRef {
    match program.call(Operation::Stat, HERE, path.as_bytes(), false) {
        Ok(Verdict::Answer(node)) => node,
        other => panic!("{path}: {other:?}"),
    }
}

/// A path for each kind of target.
fn place(target: Target) -> &'static str {
    match target {
        Target::Missing => "/vrift/deps/new",
        Target::File => "/vrift/deps/f",
        Target::Directory => "/vrift/deps/include",
        Target::Symlink => "/vrift/deps/lf",
        Target::MountPoint => "/opt/tools",
    }
}

/// The Linux flags of an operation that is an open.
fn flags(operation: Operation) -> Option<i32> {
    use Operation as O;
    use linux::{CREAT, DIRECTORY, EXCL, NOFOLLOW, PATH, TMPFILE, TRUNC};
    Some(match operation {
        O::Read => NOFOLLOW,
        O::OpenPath => NOFOLLOW | PATH,
        O::List => NOFOLLOW | DIRECTORY,
        O::OpenWrite => NOFOLLOW | 2,
        O::OpenTruncate => NOFOLLOW | TRUNC,
        O::CreateFile => NOFOLLOW | CREAT,
        O::CreateWrite => NOFOLLOW | CREAT | 1,
        O::CreateTruncate => NOFOLLOW | CREAT | TRUNC,
        O::CreateExclusive => NOFOLLOW | CREAT | EXCL,
        O::MakeTempFile => NOFOLLOW | TMPFILE | DIRECTORY | 2,
        _ => return None,
    })
}

fn ask(program: &Program<'_>, operation: Operation, target: Target) -> Outcome {
    let (path, mut out) = (place(target).as_bytes(), PathBuffer::new());
    let answer = match flags(operation) {
        Some(flags) => {
            program.shim.open((HERE, path), &linux::request(flags), Look::Quick, &mut out)
        }
        None => program.call(operation, HERE, path, false),
    };
    match answer {
        Ok(verdict) => {
            assert!(
                !matches!(verdict, Verdict::Pass | Verdict::PassAt),
                "{operation:?} of {target:?} went on in the system"
            );
            Outcome::Serve
        }
        Err(errno) => Outcome::Refuse(errno),
    }
}

/// Every operation on every target, through walk, permissions and table, against the table that
/// the Linux supervisor answers from.
fn table(platform: &'static Platform) -> usize {
    let projection = projection();
    // root: the mode bits speak for themselves in another test.
    let program = Program::new(&projection, world(), platform, 0);
    let mut asked = 0;
    for operation in Operation::ALL {
        for target in Target::ALL {
            let linux = decide(operation, Mode::ReadOnly, target);
            let listed = platform.differences.iter();
            let mut listed =
                listed.filter(|row| (row.operation, row.target) == (operation, target));
            let expected = listed.next().map_or(linux, |row| row.outcome);
            if operation == Operation::Execute && target == Target::File {
                // `f` has no x bit: that, too, is Linux's answer.
                assert_eq!(ask(&program, operation, target), Outcome::Refuse(Errno::EACCES));
            } else if operation == Operation::TestExecute && target == Target::File {
                assert_eq!(ask(&program, operation, target), Outcome::Refuse(Errno::EACCES));
            } else {
                assert_eq!(ask(&program, operation, target), expected, "{operation:?} {target:?}");
            }
            asked += 1;
        }
    }
    asked
}

#[test]
fn the_errno_table_is_linuxs() {
    assert_eq!(table(&LINUX), Operation::ALL.len() * Target::ALL.len());
}

#[test]
fn the_errno_table_of_macos_differs_where_that_is_listed() {
    assert_eq!(table(&DARWIN), Operation::ALL.len() * Target::ALL.len());
}

#[test]
fn walks() {
    let projection = projection();
    let program = Program::new(&projection, world(), &LINUX, 501);
    let f = node(&program, "/vrift/deps/f");
    let header = node(&program, "/vrift/deps/include/a.h");
    let read = |path: &str| program.call(Operation::Stat, HERE, path.as_bytes(), true);
    for (path, expected) in [
        ("/vrift/deps/f", Ok(Verdict::Answer(f))),
        ("//vrift/./deps//f", Ok(Verdict::Answer(f))),
        ("/vrift/deps/include/../f", Ok(Verdict::Answer(f))),
        ("/vrift/deps/l/../f", Ok(Verdict::Answer(f))),
        ("/vrift/deps/l/a.h", Ok(Verdict::Answer(header))),
        ("/vrift/deps/lf", Ok(Verdict::Answer(f))),
        // Real links that lead in.
        ("/tmp/in/a.h", Ok(Verdict::Answer(header))),
        ("/tmp/into", Ok(Verdict::Answer(f))),
        ("in/a.h", Ok(Verdict::Answer(header))),
        ("/tmp/root/vrift/deps/f", Ok(Verdict::Answer(f))),
        ("/tmp/up/vrift/deps/f", Ok(Verdict::Answer(f))),
        // Projected links and `..` that lead out.
        ("/vrift/deps/out", Ok(Verdict::PassAt)),
        ("/vrift/deps/up/real", Ok(Verdict::PassAt)),
        ("/vrift/deps/../../tmp/real", Ok(Verdict::PassAt)),
        ("/vrift/deps/../../tmp/nothing", Err(Errno::ENOENT)),
        ("/tmp/real", Ok(Verdict::Pass)),
        // What is ours is not there.
        ("/store/refs/deps", Err(Errno::ENOENT)),
        ("/vrift/deps/escape", Err(Errno::ENOENT)),
        ("/vrift/deps/../../store/refs/deps", Err(Errno::ENOENT)),
        ("/job", Err(Errno::ENOENT)),
        // Errors of the way.
        ("", Err(Errno::ENOENT)),
        ("/vrift/deps/nothing", Err(Errno::ENOENT)),
        ("/vrift/deps/nothing/x", Err(Errno::ENOENT)),
        ("/vrift/nothing", Err(Errno::ENOENT)),
        ("/vrift/deps/f/", Err(Errno::ENOTDIR)),
        ("/vrift/deps/f/x", Err(Errno::ENOTDIR)),
        ("/vrift/deps/f/..", Err(Errno::ENOTDIR)),
        ("/vrift/deps/dangling", Err(Errno::ENOENT)),
        ("/vrift/deps/loop", Err(Errno::ELOOP)),
        ("/vrift/deps/none/f", Err(Errno::EACCES)),
        ("/tmp/loop", Err(Errno::ELOOP)),
    ] {
        assert_eq!(read(path), expected, "{path}");
    }
    let long = format!("/vrift/deps/{}", "n".repeat(256));
    assert_eq!(read(&long), Err(Errno::ENAMETOOLONG));
    assert_eq!(read(&format!("/{}", "vrift/deps/../../".repeat(300))), Err(Errno::ENAMETOOLONG));
}

#[test]
fn limits_are_each_systems_own() {
    let projection = projection();
    for (platform, longest) in [(&LINUX, 4095), (&DARWIN, 1023)] {
        let program = Program::new(&projection, world(), platform, 501);
        let path = |length: usize| format!("/vrift/deps/{:/>1$}", "f", length - 12);
        let read = |path: String| program.call(Operation::Stat, HERE, path.as_bytes(), true);
        assert!(matches!(read(path(longest)), Ok(Verdict::Answer(_))));
        assert_eq!(read(path(longest + 1)), Err(Errno::ENAMETOOLONG));
    }
}

#[test]
fn names_that_could_be_made() {
    let projection = projection();
    let program = Program::new(&projection, world(), &LINUX, 501);
    let make = |path: &str| program.call(Operation::MakeDirectory, HERE, path.as_bytes(), false);
    for (path, errno) in [
        ("/vrift/deps/new", Errno::EROFS),
        ("/vrift/deps/new/", Errno::EROFS),
        ("/vrift/deps/include", Errno::EEXIST),
        ("/vrift/deps/nothing/new", Errno::ENOENT),
        ("/vrift/deps/f/new", Errno::ENOTDIR),
        ("/vrift", Errno::EEXIST),
        ("/vrift/new", Errno::EROFS),
        ("/tmp/in/new", Errno::EROFS),
        ("/opt/tools/new", Errno::EROFS),
    ] {
        assert_eq!(make(path), Err(errno), "{path}");
    }
    assert_eq!(make("/tmp/made"), Ok(Verdict::Pass));
    let creat = darwin::CREAT | darwin::WRONLY;
    for (path, errno) in [
        ("/vrift/deps/dangling", Errno::EROFS),
        ("/tmp/fresh", Errno::EROFS),
        ("/vrift/deps/new/", Errno::EISDIR),
        ("/vrift/deps/f", Errno::EROFS),
        ("/vrift/deps/include/b.h", Errno::EACCES),
    ] {
        assert_eq!(program.open(HERE, path.as_bytes(), creat), Err(errno), "{path}");
    }
    assert_eq!(program.open(HERE, b"/tmp/made.txt", creat).map(drop), Ok(()));
    assert_eq!(program.open(HERE, b"/vrift/deps/out", darwin::WRONLY).map(drop), Ok(()));
    assert_eq!(program.kernel.borrow().harm, []);
}

#[test]
fn the_two_sides_of_an_edge() {
    let projection = projection();
    let program = Program::new(&projection, world(), &LINUX, 501);
    let rename = |from: &str, to: &str, flags| {
        program.transfer((HERE, from.as_bytes()), (HERE, to.as_bytes()), flags)
    };
    let none = Some(RenameFlags::NONE);
    for (from, to, flags, expected) in [
        ("/vrift/deps/f", "/tmp/f", none, Err(Errno::EXDEV)),
        ("/tmp/real", "/vrift/deps/new", none, Err(Errno::EXDEV)),
        ("/tmp/real", "/vrift/deps/nothing/new", none, Err(Errno::ENOENT)),
        ("/vrift/deps/f", "/vrift/deps/new", none, Err(Errno::EROFS)),
        ("/vrift/deps/f", "/opt/tools/new", none, Err(Errno::EXDEV)),
        ("/opt/tools", "/opt/moved", none, Err(Errno::EBUSY)),
        ("/opt", "/tmp/moved", none, Err(Errno::EBUSY)),
        ("/tmp/dir", "/opt/tools", none, Err(Errno::EBUSY)),
        ("/tmp/real", "/opt/tools", none, Err(Errno::EISDIR)),
        ("/tmp/nothing", "/opt/tools", none, Err(Errno::ENOENT)),
        ("/tmp/real", "/opt/tools", Some(RenameFlags::NO_REPLACE), Err(Errno::EEXIST)),
        ("/tmp/real", "/tmp/moved", none, Ok(())),
        ("/vrift/deps/../../tmp/real", "/tmp/moved", none, Ok(())),
        // Links.
        ("/vrift/deps/f", "/tmp/f", None, Err(Errno::EXDEV)),
        ("/tmp/into", "/tmp/f", None, Err(Errno::EXDEV)),
        ("/tmp/real", "/vrift/deps/new", None, Err(Errno::EXDEV)),
        ("/tmp/real", "/vrift/deps/f", None, Err(Errno::EEXIST)),
        ("/vrift/deps/f", "/tmp/real", None, Err(Errno::EEXIST)),
        ("/vrift/deps/new", "/tmp/f", None, Err(Errno::ENOENT)),
        ("/vrift/deps/f", "/vrift/deps/new", None, Err(Errno::EROFS)),
        ("/tmp/evil", "/tmp/f", None, Err(Errno::ENOENT)),
        ("/store/refs/deps", "/tmp/f", None, Err(Errno::ENOENT)),
        ("/tmp/real", "/tmp/linked", None, Ok(())),
    ] {
        assert_eq!(rename(from, to, flags), expected, "{from} {to} {flags:?}");
    }
    let remove =
        |path: &str| program.call(Operation::RemoveDirectory, HERE, path.as_bytes(), false);
    assert_eq!(remove("/opt"), Err(Errno::EBUSY));
    assert_eq!(remove("/opt/tools"), Err(Errno::EBUSY));
    assert_eq!(remove("/vrift"), Err(Errno::EBUSY));
    assert_eq!(remove("/opt/other"), Ok(Verdict::Pass));
    let fd = program.open(HERE, b"/vrift/deps/f", 0).expect("a file");
    let (mut a, mut b) = (PathBuffer::new(), PathBuffer::new());
    let clone = |fd, to: &str, a: &mut _, b: &mut _| {
        program.shim.link_descriptor(fd, (HERE, to.as_bytes()), a, b).map(drop)
    };
    assert_eq!(clone(fd, "/tmp/clone", &mut a, &mut b), Err(Errno::EXDEV));
    let real = program.open(HERE, b"/tmp/real", 0).expect("a file");
    assert_eq!(clone(real, "/vrift/deps/clone", &mut a, &mut b), Err(Errno::EXDEV));
    assert_eq!(clone(real, "/tmp/clone", &mut a, &mut b), Ok(()));
    assert_eq!(program.kernel.borrow().harm, []);
}

#[test]
fn descriptors_say_what_they_are() {
    let projection = projection();
    let program = Program::new(&projection, world(), &LINUX, 501);
    let a = node(&program, "/vrift/deps/include/a.h");
    let open = |path: &str| program.open(HERE, path.as_bytes(), 0).expect(path);
    let known = |fd| program.by_descriptor(Operation::Stat, fd);
    let path = |fd| {
        let mut out = PathBuffer::new();
        let ours = program.shim.path_of_descriptor(fd, &mut out).expect("a path");
        ours.then(|| String::from_utf8(out.bytes().to_vec()).expect("text"))
    };
    let fd = open("/vrift/deps/include/a.h");
    assert_eq!(known(fd), Ok(Verdict::Answer(a)));
    assert_eq!(path(fd).as_deref(), Some("/vrift/deps/include/a.h"));
    let copy = program.duplicate(fd).expect("a copy");
    assert_eq!(known(copy), Ok(Verdict::Answer(a)));
    assert_eq!(program.by_descriptor(Operation::ChangeMode, copy), Err(Errno::EROFS));
    // Closed unseen, and the number given anew: a hint that is out of date does nothing.
    program.close(fd, false);
    let real = open("/tmp/real");
    assert_eq!(real, fd);
    assert_eq!(known(real), Ok(Verdict::Pass));
    assert_eq!(path(real), None);
    // A descriptor that nobody has told of: its path says what it is.
    let passed = program.kernel.borrow_mut().descriptor(blob("x").into_bytes());
    assert_eq!(known(passed), Ok(Verdict::Answer(node(&program, "/vrift/deps/f"))));
    assert_eq!(program.by_descriptor(Operation::ChangeMode, passed), Err(Errno::EROFS));
    let odd = program.kernel.borrow_mut().descriptor(b"/store/refs/deps".to_vec());
    assert_eq!(program.by_descriptor(Operation::ChangeMode, odd), Err(Errno::EBADF));
    let far = i32::MAX;
    program.kernel.borrow_mut().descriptors.insert(far, blob("x").into_bytes());
    assert!(matches!(known(far), Ok(Verdict::Answer(_))));
    // Directories.
    let dir = open("/vrift/deps/include");
    assert_eq!(path(dir).as_deref(), Some("/vrift/deps/include"));
    let below = program.call(Operation::Stat, Base::Descriptor(dir), b"a.h", true);
    assert_eq!(below, Ok(Verdict::Answer(a)));
    let not = program.call(Operation::Stat, Base::Descriptor(copy), b"a.h", true);
    assert_eq!(not, Err(Errno::ENOTDIR));
    let mut out = PathBuffer::new();
    let listing = |fd, out: &mut PathBuffer| program.shim.listing(fd, out);
    let include = node(&program, "/vrift/deps/include");
    assert_eq!(listing(dir, &mut out), Ok(Listing::Node(include)));
    assert_eq!(listing(open("/opt"), &mut out), Ok(Listing::Edge));
    assert_eq!(out.bytes(), b"/opt");
    assert_eq!(listing(open("/opt/other"), &mut out), Ok(Listing::Real));
    assert_eq!(listing(copy, &mut out), Err(Errno::ENOTDIR));
}

#[test]
fn the_current_directory_is_told_as_the_program_knows_it() {
    let projection = projection();
    let program = Program::new(&projection, world(), &LINUX, 501);
    let enter = |path: &str| program.call(Operation::EnterDirectory, HERE, path.as_bytes(), true);
    let current = || {
        let mut out = PathBuffer::new();
        let ours = program.shim.path_of_current(&mut out).expect("a path");
        ours.then(|| String::from_utf8(out.bytes().to_vec()).expect("text"))
    };
    assert_eq!(current(), None);
    assert_eq!(enter("/vrift/deps/l").map(drop), Ok(()));
    assert_eq!(current().as_deref(), Some("/vrift/deps/include"));
    assert!(matches!(program.call(Operation::Stat, HERE, b"a.h", true), Ok(Verdict::Answer(_))));
    // After exec, or for a thread of its own: the system's path says where it is.
    program.shim.lost_current();
    assert_eq!(current().as_deref(), Some("/vrift/deps/include"));
    assert_eq!(enter("..").map(drop), Ok(()));
    assert_eq!(current().as_deref(), Some(AT));
    assert_eq!(enter("../..").map(drop), Ok(()));
    assert_eq!(program.kernel.borrow().current, b"/");
    assert_eq!(current(), None);
    assert_eq!(enter("/vrift/deps/f"), Err(Errno::ENOTDIR));
    assert_eq!(enter("/vrift/deps/none"), Err(Errno::EACCES));
    assert_eq!(enter("/opt").map(drop), Ok(()));
    assert!(matches!(
        program.call(Operation::Stat, HERE, b"tools/tool", true),
        Ok(Verdict::Answer(_))
    ));
}

#[test]
fn what_the_system_opens_by_itself_is_made_real() {
    let projection = projection();
    let program = Program::new(&projection, world(), &DARWIN, 501);
    let mut out = PathBuffer::new();
    let mut run = |operation, path: &str| {
        let verdict =
            program.shim.materialise(operation, (HERE, path.as_bytes()), Look::Quick, &mut out);
        verdict.map(|verdict| (verdict, String::from_utf8(out.bytes().to_vec()).expect("text")))
    };
    let program_node = node(&program, "/vrift/deps/run");
    let clone = |path: &str, node| Ok((Verdict::Clone(node), path.to_owned()));
    assert_eq!(run(Operation::Execute, "/vrift/deps/run"), clone("/job/c/0/run", program_node));
    let header = node(&program, "/vrift/deps/include/a.h");
    let in_clone = "/job/c/0/include/a.h";
    assert_eq!(run(Operation::Read, "/vrift/deps/l/a.h"), clone(in_clone, header));
    assert_eq!(run(Operation::Execute, "/vrift/deps/f"), Err(Errno::EACCES));
    assert_eq!(run(Operation::Execute, "/vrift/deps/include"), Err(Errno::EACCES));
    assert_eq!(run(Operation::Execute, "/vrift/deps/new"), Err(Errno::ENOENT));
    assert!(matches!(run(Operation::Execute, "/tmp/real"), Ok((Verdict::Pass, _))));
    // A descriptor of a clone is the file's.
    let fd = program.open(HERE, b"/vrift/deps/run", darwin::EXEC).expect("to be run");
    assert_eq!(program.by_descriptor(Operation::Stat, fd), Ok(Verdict::Answer(program_node)));
    assert_eq!(program.by_descriptor(Operation::ChangeMode, fd), Err(Errno::EROFS));
}

#[test]
fn rights_are_the_mode_bits() {
    let projection = projection();
    for (user, closed) in [(501, Err(Errno::EACCES)), (0, Ok(()))] {
        let program = Program::new(&projection, world(), &LINUX, user);
        let access = |path: &str, want| {
            let mut out = PathBuffer::new();
            let place = (HERE, path.as_bytes());
            program.shim.access(place, want, true, Look::Quick, &mut out).map(drop)
        };
        assert_eq!(access("/vrift/deps/closed", 4), closed, "user {user}");
        assert_eq!(access("/vrift/deps/closed", 0), Ok(()));
        assert_eq!(access("/vrift/deps/f", 4), Ok(()));
        assert_eq!(access("/vrift/deps/f", 2), Err(Errno::EROFS));
        assert_eq!(access("/vrift/deps/f", 1), Err(Errno::EACCES), "nobody may run it");
        assert_eq!(access("/vrift/deps/run", 5), Ok(()));
        assert_eq!(access("/vrift/deps/none/f", 0), closed);
        let opened = program.open(HERE, b"/vrift/deps/closed", 0).map(drop);
        assert_eq!(opened, closed);
    }
}

#[test]
fn darwins_own_flags() {
    let projection = projection();
    let program = Program::new(&projection, world(), &DARWIN, 501);
    let open = |path: &str, flags| {
        let mut out = PathBuffer::new();
        let request = darwin::request(flags);
        program.shim.open((HERE, path.as_bytes()), &request, Look::Quick, &mut out)
    };
    let link = node(&program, "/vrift/deps/lf");
    assert_eq!(open("/vrift/deps/lf", darwin::SYMLINK), Ok(Verdict::Clone(link)));
    assert_eq!(open("/vrift/deps/lf", darwin::NOFOLLOW), Err(Errno::ELOOP));
    assert_eq!(open("/vrift/deps/l/a.h", darwin::NOFOLLOW_ANY), Err(Errno::ELOOP));
    assert_eq!(open("/vrift/deps/include/a.h", darwin::NOFOLLOW_ANY).map(drop), Ok(()));
    assert_eq!(open("/vrift/deps/f", 3), Err(Errno::EINVAL));
    assert_eq!(open("/vrift/deps/e", darwin::CREAT | darwin::DIRECTORY), Err(Errno::EINVAL));
}

/// A mount that jobs may change is not for the shim.
#[test]
fn writable_mounts_are_refused() {
    use vrift_macos_es::shim::{Places, Shim};
    let deps = std::sync::Arc::clone(projection().mounts()[0].manifest());
    let source = vrift_projection::MountSource {
        at: AT.into(),
        manifest: deps,
        mode: Mode::Overlay,
        overlay: None,
    };
    let writable =
        vrift_projection::Projection::new(vec![source], &|_| vrift_projection::RealKind::Missing)
            .expect("a projection");
    let kernel = std::rc::Rc::new(std::cell::RefCell::new(world()));
    let places = Places { store: fake::STORE, private: fake::PRIVATE };
    assert!(Shim::new(fake::Fake { kernel, user: 1 }, &writable, places, &DARWIN).is_none());
}
