//! The questions of the hot path allocate nothing: this binary's allocator counts.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod counting;
mod trees;

use counting::sys::{Counting, count};
use trees::{find, manifest, project};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn hot_look_ups_allocate_nothing() {
    let outer = manifest("include/ include/a.h=x l->include sub/ sub/inner/");
    let inner = manifest("f=1");
    let p = project(&[("/vrift/deps", &outer), ("/vrift/deps/sub/inner", &inner)], &["/", "/usr"]);
    let root = find(&p, "/vrift/deps").expect("root");
    let include = find(&p, "/vrift/deps/include").expect("include");
    let header = find(&p, "/vrift/deps/include/a.h").expect("a.h");
    let link = find(&p, "/vrift/deps/l").expect("l");
    let sub = find(&p, "/vrift/deps/sub").expect("sub");
    let mut path = Vec::with_capacity(4096);

    let before = count();
    let made = Box::new(1);
    assert_eq!(count() - before, 1, "the counter counts");
    drop(made);

    let before = count();
    for _ in 0..3 {
        assert!(p.may_concern(b"/vrift/deps/include/a.h"));
        assert!(!p.may_concern(b"/usr/include/stdio.h"));
        assert!(p.covered(b"/usr/lib/gcc", b"crt1.o").is_none());
        assert!(p.covered(b"/", b"vrift").is_some());
        assert!(p.edge(b"/usr/include").is_empty());
        assert_eq!(p.lookup(root, b"include").expect("look-up"), Some(include));
        assert_eq!(p.lookup(include, b"a.h").expect("look-up"), Some(header));
        assert_eq!(p.lookup(include, b"b.h").expect("look-up"), None);
        assert!(p.lookup(sub, b"inner").expect("look-up").is_some());
        assert_eq!(p.attr(header).expect("attr").size, 1);
        assert_eq!(*p.link_target(link).expect("target"), *b"include");
        assert!(p.content(header).expect("content").is_some());
        assert!(
            p.parent(header).is_ok_and(|above| above == vrift_projection::Above::Node(include))
        );
        assert!(!p.held_by_real(header).expect("held"));
        assert!(p.holder(root).is_ok_and(|holder| {
            matches!(holder, vrift_projection::Holder::Node(above) if above.is_synthetic())
        }));
        let mut length = 0;
        p.path_backwards(header, &mut |part| length += part.len()).expect("a path");
        assert_eq!(length, b"/vrift/deps/include/a.h".len());
        path.clear();
        p.path_into(header, &mut path).expect("path");
        let listed = p.list(root, 0, |entry| entry.ino > 0 && entry.next > 0);
        listed.expect("a listing");
    }
    assert_eq!(count() - before, 0);
    assert_eq!(path, b"/vrift/deps/include/a.h");
}
