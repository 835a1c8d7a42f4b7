//! Where mounts hang and how they meet: new places, real directories, mounts inside mounts.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod trees;

use trees::{ROOT_TIME, entries, find, manifest, names, project, text, try_project};
use vrift_projection::{Above, Content, Kind, NodeRef, SYNTHETIC_MINOR};
use vrift_store::Hash;

fn real(path: &str) -> Above {
    Above::Real(path.as_bytes().into())
}

#[test]
fn a_mount_where_nothing_is() {
    let deps = manifest("include/ include/a.h=x lib/ l->include");
    let p = project(&[("/vrift/deps", &deps)], &["/"]);

    let vrift = find(&p, "/vrift").expect("the directory above");
    assert!(vrift.is_synthetic() && !p.is_mount_point(vrift) && p.holds_mount_point(vrift));
    assert_eq!(p.parent(vrift).expect("parent"), real("/"));
    assert_eq!(p.path(vrift).expect("path"), b"/vrift");
    assert_eq!(names(&p, vrift), [".", "..", "deps"]);
    let attr = p.attr(vrift).expect("attr");
    assert_eq!((attr.kind, attr.mode, attr.nlink), (Kind::Directory, 0o555, 3));
    assert_eq!((attr.dev_major(), attr.dev_minor()), (0, SYNTHETIC_MINOR));
    assert_eq!((attr.mtime_sec, attr.mtime_nsec), (ROOT_TIME, 0), "that of what is below");
    assert!(p.link_target(vrift).expect("target").is_empty());
    assert_eq!(p.content(vrift).expect("content"), None);
    assert_eq!(p.xattrs(vrift).expect("xattrs").count(), 0);

    let root = find(&p, "/vrift/deps").expect("the mount point");
    assert!(p.is_mount_point(root) && !p.holds_mount_point(root));
    assert_eq!(root, NodeRef::root(0));
    assert_eq!(p.parent(root).expect("parent"), Above::Node(vrift));
    assert_eq!(p.path(root).expect("path"), b"/vrift/deps");
    assert_eq!(names(&p, root), [".", "..", "include", "l", "lib"]);

    let header = find(&p, "/vrift/deps/include/a.h").expect("a file");
    assert_eq!(p.path(header).expect("path"), b"/vrift/deps/include/a.h");
    assert_eq!(p.content(header).expect("content"), Some(Content::Blob(Hash::of(b"x"), 1)));
    let link = find(&p, "/vrift/deps/l").expect("a link");
    assert_eq!(*p.link_target(link).expect("target"), *b"include");
    assert_eq!(p.kind(link).expect("kind"), Kind::Symlink);
    // A name below a file, below a link, and one that isn't there.
    for path in ["/vrift/deps/include/a.h/x", "/vrift/deps/l/a.h", "/vrift/deps/nope", "/vrift/x"] {
        assert_eq!(find(&p, path), None, "{path}");
    }
    assert!(p.list(header, 0, |_| true).is_err(), "a file has no entries");
    p.attr(NodeRef { mount: 0, node: 99 }).expect_err("no such node");
    p.attr(NodeRef { mount: 7, node: 0 }).expect_err("no such node");
    p.attr(NodeRef { mount: vrift.mount, node: 99 }).expect_err("no such node");
}

#[test]
fn a_mount_over_a_real_directory() {
    let headers = manifest("stdio.h=x");
    let p = project(&[("/usr/include", &headers)], &["/", "/usr", "/usr/include"]);
    let root = find(&p, "/usr/include").expect("the mount point");
    assert_eq!(p.parent(root).expect("parent"), real("/usr"));
    let [entry] = p.edge(b"/usr") else { panic!("{:?}", p.edge(b"/usr")) };
    assert_eq!((&*entry.name, entry.node, entry.covers), (b"include".as_slice(), root, true));
    assert!(p.edge(b"/").is_empty() && p.edge(b"/usr/include").is_empty());
    assert!(p.real_holds_mount_point(b"/usr") && p.real_holds_mount_point(b"/"));
    assert!(!p.real_holds_mount_point(b"/usr/include") && !p.real_holds_mount_point(b"/tmp"));
    // `..` of a root is, for getdents, the root itself, as on any mounted file system.
    let entries = entries(&p, root, 0);
    assert_eq!(entries[0].ino, entries[1].ino);
    assert_ne!(entries[1].ino, entries[2].ino);
}

#[test]
fn paths_that_concern_nobody_are_told_apart() {
    let any = manifest("x/ x/y/");
    let p = project(
        &[("/vrift/b", &any), ("/vrift/a", &any), ("/opt", &any), ("/opt/x/y/z", &any)],
        &["/"],
    );
    for path in ["/", "/vrift", "/vrift/a", "/vrift/a/f", "/vrift/b/x/y", "/opt", "/opt/x/y/z/f"] {
        assert!(p.may_concern(path.as_bytes()), "{path}");
    }
    for path in ["/vrif", "/vrift-a", "/vrift/c", "/vrift/ab", "/vrift/a-", "/op", "/optx", "/usr"]
    {
        assert!(!p.may_concern(path.as_bytes()), "{path}");
    }
    let none = project(&[], &["/"]);
    assert!(!none.may_concern(b"/") && !none.may_concern(b"/usr"));
    assert!(none.mounts().is_empty() && none.edge(b"/").is_empty());
}

#[test]
fn the_inner_mount_wins() {
    let outer = manifest("src/ src/old=o src/same=s third/ third/lib/ keep=k");
    let inner = manifest("new=n same=s");
    // The order of the arguments must not matter.
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let all = [("/v", &outer), ("/v/src", &inner), ("/v/third/lib/made/up", &inner)];
        let mounts = order.map(|i: usize| all[i]);
        let p = project(&mounts, &["/"]);
        let index = |i: usize| {
            u16::try_from(order.iter().position(|&o| o == i).expect("i")).expect("small")
        };
        assert_eq!(p.mounts()[usize::from(index(1))].at().to_str(), Some("/v/src"));

        let root = find(&p, "/v").expect("outer");
        let src = find(&p, "/v/src").expect("inner");
        assert_eq!((root, src), (NodeRef::root(index(0)), NodeRef::root(index(1))));
        assert_eq!(names(&p, root), [".", "..", "keep", "src", "third"]);
        assert_eq!(names(&p, src), [".", "..", "new", "same"]);
        assert_eq!(p.parent(src).expect("parent"), Above::Node(root));
        assert_eq!(find(&p, "/v/src/old"), None, "covered");
        assert!(p.holds_mount_point(root) && !p.holds_mount_point(src));
        assert!(!p.held_by_real(src).expect("held") && p.held_by_real(root).expect("held"));

        // The listing agrees with stat, at the mount point too.
        let entry = &entries(&p, root, 3)[0];
        assert_eq!(
            (entry.name.as_slice(), entry.ino),
            (b"src".as_slice(), p.attr(src).expect("attr").ino)
        );

        // What lies under a mount point that isn't there.
        let lib = find(&p, "/v/third/lib").expect("a directory of the outer manifest");
        let made = find(&p, "/v/third/lib/made").expect("made up");
        let up = find(&p, "/v/third/lib/made/up").expect("innermost");
        assert!(made.is_synthetic() && up == NodeRef::root(index(2)));
        assert_eq!(p.parent(made).expect("parent"), Above::Node(lib));
        assert_eq!(p.parent(up).expect("parent"), Above::Node(made));
        assert_eq!(names(&p, lib), [".", "..", "made"]);
        assert_eq!(p.path(up).expect("path"), b"/v/third/lib/made/up");
        assert!(p.holds_mount_point(lib) && p.holds_mount_point(made));
        // Links: 2 and one for each subdirectory, made up or not, covered ones once.
        assert_eq!(p.attr(lib).expect("attr").nlink, 3);
        assert_eq!(p.attr(root).expect("attr").nlink, 4);

        // By content: what a path leads to, and only that.
        let same = Hash::of(b"s");
        let mut found: Vec<String> = p
            .by_blob(&same)
            .map(|node| text(&p.path(node.expect("node")).expect("path")))
            .collect();
        found.sort();
        assert_eq!(found, ["/v/src/same", "/v/third/lib/made/up/same"]);
        assert_eq!(p.by_blob(&Hash::of(b"o")).count(), 0, "covered");
        assert_eq!(p.by_blob(&Hash::of(b"k")).count(), 1);
        for blob in [same, Hash::of(b"o"), Hash::of(b"k")] {
            let all: Vec<_> = p.by_blob(&blob).map(|node| node.expect("node")).collect();
            let nodes = (0..3).flat_map(|mount| {
                let nodes = 0..p.mount(mount).expect("mount").manifest().len();
                nodes.map(move |node| NodeRef { mount, node })
            });
            let may = |node: &NodeRef| p.may_have_blob(*node, &blob).expect("a node");
            assert_eq!(nodes.filter(may).collect::<Vec<_>>(), all);
        }
        // Nothing of the real disk but what holds the outermost mount.
        assert_eq!(p.edge(b"/").len(), 1);
        assert!(p.edge(b"/v").is_empty());
    }
}

#[test]
fn mounts_below_one_made_up_directory_share_it() {
    let any = manifest("f=1");
    let p = project(&[("/w/z", &any), ("/w/a", &any), ("/w/m/n", &any)], &["/"]);
    let top = find(&p, "/w").expect("made up");
    assert_eq!(names(&p, top), [".", "..", "a", "m", "z"]);
    assert_eq!(p.attr(top).expect("attr").nlink, 5);
    assert_eq!(p.edge(b"/").len(), 1);
    let middle = find(&p, "/w/m").expect("made up");
    assert_eq!(p.parent(middle).expect("parent"), Above::Node(top));
    // Each is another inode, on one device.
    let (a, b) = (p.attr(top).expect("attr"), p.attr(middle).expect("attr"));
    assert!(a.dev == b.dev && a.ino != b.ino);
    // `..` in the listing of a made-up directory is the one above.
    let dot_dot = &entries(&p, middle, 1)[0];
    assert_eq!((dot_dot.name.as_slice(), dot_dot.ino), (b"..".as_slice(), a.ino));
}

#[test]
fn what_can_not_be_mounted_is_told_in_one_line() {
    let any = manifest("d/ f=1 l->d");
    const REAL: &[&str] = &["/", "/real", "/lib@", "/file!", "/real/file!"];
    for (mounts, message) in [
        (
            vec!["/v", "/w", "/v"],
            "\"/v\" is given as a mount point twice; leave one of the two out",
        ),
        (vec!["/v/"], "mount point \"/v/\" holds a trailing slash; write it as \"/v\""),
        (
            vec!["/v", "/v/f"],
            "can't mount at \"/v/f\": \"/v/f\" is a file of the manifest mounted at \"/v\"; choose a place that is a directory there or doesn't exist",
        ),
        (
            vec!["/v/l/x", "/v"],
            "can't mount at \"/v/l/x\": \"/v/l\" is a symbolic link of the manifest mounted at \"/v\"; choose a place that is a directory there or doesn't exist",
        ),
        (
            vec!["/lib/x"],
            "can't mount at \"/lib/x\": \"/lib\" is a symbolic link; give the path that it leads to",
        ),
        (
            vec!["/lib"],
            "can't mount at \"/lib\": \"/lib\" is a symbolic link; give the path that it leads to",
        ),
        (
            vec!["/real/file/x"],
            "can't mount at \"/real/file/x\": \"/real/file\" is no directory; choose another place",
        ),
        (
            vec!["/file"],
            "can't mount at \"/file\": \"/file\" is no directory; choose another place",
        ),
    ] {
        let mounts: Vec<_> = mounts.into_iter().map(|at| (at, &any)).collect();
        let error = try_project(&mounts, REAL).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
    // What an outer mount covers doesn't matter: the real link is out of sight.
    project(&[("/real", &any), ("/real/file", &any)], REAL);
}
