//! `vrift ingest` and `vrift export` as a user meets them: what is stored, what comes back, and
//! that the source stays as it was.

#![allow(clippy::tests_outside_test_module, reason = "this whole file is tests")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Place, assert_whole, blobs, is_root, run, skipped, write};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use vrift_store::Hash;

/// A tree with one of everything. Returns whether user attributes could be set.
fn everything(top: &Path) -> bool {
    write(&top.join("plain"), "plain\n");
    write(&top.join("empty"), "");
    write(&top.join(".hidden/.file"), "hidden");
    write(&top.join("a/b/c/d/e/f"), "deep");
    std::fs::create_dir(top.join("empty dir")).expect("mkdir");
    write(&top.join(OsStr::from_bytes(b"not\xffutf8/\x01\n\"\\")), "odd");
    write(&top.join("x".repeat(255)), "long name");
    write(&top.join("big"), vec![7u8; 3 << 20]);
    std::fs::hard_link(top.join("plain"), top.join("a/hard")).expect("link");
    std::fs::hard_link(top.join("plain"), top.join("a/b/harder")).expect("link");
    symlink("plain", top.join("link")).expect("symlink");
    symlink("/no/where", top.join("dangling")).expect("symlink");
    symlink(OsStr::from_bytes(b"../\xff"), top.join("a/odd link")).expect("symlink");
    std::fs::hard_link(top.join("link"), top.join("a/second name of link")).expect("link");
    let chmod = |name: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(top.join(name), mode).expect("chmod");
    };
    let xattr = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::setxattr(top.join(name), key, value, XattrFlags::empty())
    };
    let attributes = xattr("plain", "user.note", b"\0\xff").is_ok()
        && xattr("plain", "user.empty", b"").is_ok()
        && xattr("empty dir", "user.dir", &[b'v'; 1000]).is_ok();
    chmod("empty", 0o400);
    chmod("big", 0o755);
    chmod(".hidden", 0o1777);
    chmod("empty dir", 0o555);
    if is_root() {
        chmod(".hidden/.file", 0o6755);
        write(&top.join("no one may"), "secret");
        chmod("no one may", 0);
    }
    let time = |name: &str, sec, nsec| {
        let stamp = Timespec { tv_sec: sec, tv_nsec: nsec };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        rustix::fs::utimensat(CWD, top.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)
            .expect("time");
    };
    time("plain", 1_000_000_000, 123_456_789);
    time("big", -1_000_000, 1);
    time("link", 5, 999_999_999);
    time("empty dir", 1, 2);
    time("a", 86_400, 0);
    attributes
}

type Look = (Vec<u64>, Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>);

/// Everything that must not change about a tree, by path: type and mode, owner, links, size, all
/// times, inode flags, target or content, and attributes.
fn look(top: &Path) -> BTreeMap<PathBuf, Look> {
    fn visit(at: &Path, all: &mut BTreeMap<PathBuf, Look>) {
        let meta = std::fs::symlink_metadata(at).expect("metadata");
        let mut numbers = vec![
            meta.mode().into(),
            meta.uid().into(),
            meta.gid().into(),
            meta.nlink(),
            meta.ino(),
            meta.mtime().cast_unsigned(),
            meta.mtime_nsec().cast_unsigned(),
            meta.ctime().cast_unsigned(),
            meta.ctime_nsec().cast_unsigned(),
        ];
        let mut content = Vec::new();
        let mut attributes = Vec::new();
        if meta.is_symlink() {
            content =
                std::fs::read_link(at).expect("readlink").into_os_string().into_encoded_bytes();
        } else if meta.is_file() || meta.is_dir() {
            let file = std::fs::File::open(at).expect("open");
            numbers.push(rustix::fs::ioctl_getflags(&file).map_or(0, |flags| flags.bits().into()));
            let mut names = vec![0; 4096];
            if let Ok(len) = rustix::fs::flistxattr(&file, &mut names[..]) {
                for name in names[..len].split(|&c| c == 0).filter(|name| !name.is_empty()) {
                    let mut value = vec![0; 65536];
                    let len = rustix::fs::fgetxattr(&file, name, &mut value[..]).expect("xattr");
                    attributes.push((name.to_vec(), value[..len].to_vec()));
                }
            }
        }
        if meta.is_file() {
            content = std::fs::read(at).expect("read");
        }
        all.insert(at.to_owned(), (numbers, content, attributes));
        if meta.is_dir() {
            for entry in std::fs::read_dir(at).expect("readdir") {
                visit(&entry.expect("entry").path(), all);
            }
        }
    }
    let mut all = BTreeMap::new();
    visit(top, &mut all);
    all
}

#[test]
fn a_tree_comes_back_as_it_was_and_the_source_stays_as_it_is() {
    let place = Place::new();
    let source = place.dir("source");
    if !everything(&source) {
        skipped(
            "attributes in a_tree_comes_back",
            "the temporary directory has no user.* attributes",
        );
    }
    let before = look(&source);
    let said = place.ingest(&source, "first");
    let said_again = place.ingest(&source, "second");
    assert_eq!(before, look(&source), "ingest changed its source");
    assert_whole(&place.store_root());
    let hash = |said: &str| {
        said.lines().last().and_then(|line| line.split("-> ").nth(1)).map(str::to_owned)
    };
    assert_eq!(hash(&said), hash(&said_again), "the same tree has the same manifest");

    for (name, link) in [("one", "auto"), ("two", "copy")] {
        let copy = place.path(name);
        place.vrift(&["export", "first", copy.to_str().expect("utf-8"), "--link", link]).fine();
        // Equal manifests are equal modes, times, sizes, contents, targets, attributes and links.
        assert_eq!(hash(&place.ingest(&copy, name)), hash(&said), "export --link {link}");
        assert_eq!(place.vrift(&["diff", "first", name]).fine(), "");
        assert_eq!(
            std::fs::metadata(copy.join("plain")).expect("plain").ino(),
            std::fs::metadata(copy.join("a/b/harder")).expect("harder").ino(),
        );
        assert_eq!(std::fs::metadata(copy.join("plain")).expect("plain").nlink(), 3);
        assert_eq!(std::fs::symlink_metadata(copy.join("link")).expect("link").nlink(), 2);
    }
    assert_whole(&place.store_root());
    assert!(place.vrift(&["verify"]).fine().contains("all whole"));
}

#[test]
fn a_hundred_equal_files_are_one_blob() {
    let place = Place::new();
    let source = place.dir("source");
    for i in 0..100 {
        write(&source.join(format!("file{i}")), vec![42u8; 1 << 20]);
    }
    let said = place.ingest(&source, "same");
    assert_eq!(said.lines().next(), Some("100 files, 100.0 MiB -> 1 blob, 1.0 MiB new"));
    assert!(said.contains("1 new blob, 99 files deduplicated"), "{said}");
    assert_eq!(blobs(&place.store_root()).len(), 1);
    assert_whole(&place.store_root());
    let again = place.ingest(&source, "same");
    assert_eq!(again.lines().next(), Some("100 files, 100.0 MiB -> 1 blob, 0 B new"));
}

#[test]
fn special_files_are_left_out_and_named() {
    let place = Place::new();
    let source = place.dir("source");
    write(&source.join("kept"), "x");
    let make = |name: &str, kind| {
        rustix::fs::mknodat(CWD, source.join(name), kind, Mode::from_raw_mode(0o644), 0).is_ok()
    };
    assert!(make("pipe", FileType::Fifo));
    let _socket = std::os::unix::net::UnixListener::bind(source.join("sock")).expect("bind");
    let device = is_root() && make("dev", FileType::CharacterDevice);
    if !device {
        skipped("devices in special_files_are_left_out", "only root may make a device");
    }
    let ran = place.vrift(&["ingest", source.to_str().expect("utf-8"), "--name", "t"]);
    let stderr = ran.stderr.clone();
    ran.fine();
    for (name, kind) in [("pipe", "fifo"), ("sock", "socket"), ("dev", "character device")] {
        let line = format!("vrift: warning: left out {}: a {kind}\n", source.join(name).display());
        assert_eq!(stderr.contains(&line), name != "dev" || device, "{stderr}");
    }
    assert_eq!(place.vrift(&["ls", "t"]).fine(), "kept\n");
}

#[test]
fn what_is_excluded_stays_out() {
    let place = Place::new();
    let source = place.dir("source");
    for name in ["a.c", "a.o", "sub/b.o", "sub/b.c", "target/x", "sub/target/y", ".git/HEAD"] {
        write(&source.join(name), name);
    }
    let dir = source.to_str().expect("utf-8");
    let globs = ["--exclude", "*.o", "--exclude", "/target", "--exclude", ".git/"];
    place.vrift(&[&["ingest", dir, "--name", "t"], &globs[..]].concat()).fine();
    let listed = place.vrift(&["ls", "-R", "t"]).fine();
    assert_eq!(listed, "a.c\nsub\nsub/b.c\nsub/target\nsub/target/y\n");
    let said = place.vrift(&["ingest", dir, "--name", "t", "--exclude", "a{b"]).refused();
    assert!(said.contains("--exclude \"a{b\" is not a glob"), "{said}");
}

#[test]
fn an_unreadable_file_is_named_and_the_ref_stays() {
    let place = Place::new();
    let source = place.dir("source");
    write(&source.join("good"), "good");
    std::fs::create_dir(place.path("store")).expect("mkdir");
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(place.path("store"), everyone).expect("chmod");
    let args = ["ingest", source.to_str().expect("utf-8"), "--name", "t"];
    let ingest = || run(&mut place.as_nobody(place.command(&args)));
    let first = ingest().fine();

    write(&source.join("sub/bad"), "bad");
    write(&source.join("closed/inside"), "x");
    for name in ["sub/bad", "closed"] {
        let nothing = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(source.join(name), nothing).expect("chmod");
    }
    let ran = ingest();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(source.join("closed"), open).expect("chmod");
    assert_eq!(ran.status, 1, "{ran:?}");
    for name in ["sub/bad", "closed"] {
        let line = format!("vrift: can't open {}: Permission denied", source.join(name).display());
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("ref t is not set: 2 entries can't be stored"), "{}", ran.stderr);
    let hash = first.lines().last().expect("line").replace("t -> ", "");
    assert_eq!(place.vrift(&["refs"]).fine(), format!("t  {hash}\n"));
    assert!(place.vrift(&["verify"]).fine().contains("all whole"));
}

#[test]
fn a_store_that_nobody_owns() {
    let place = Place::new();
    let source = place.dir("source");
    write(&source.join("sub/file"), "content");
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(place.temp.path(), everyone).expect("chmod");
    let nobody = |args: &[&str]| run(&mut place.as_nobody(place.command(args)));
    nobody(&["ingest", source.to_str().expect("utf-8"), "--name", "t"]).fine();
    assert_eq!(nobody(&["cat", "t:sub/file"]).fine(), "content");
    assert!(nobody(&["verify"]).fine().contains("all whole"));
    let out = place.path("out");
    nobody(&["export", "t", out.to_str().expect("utf-8")]).fine();
    assert_eq!(std::fs::read(out.join("sub/file")).expect("read"), b"content");
    assert_whole(&place.store_root());
}

#[test]
fn a_store_that_only_root_may_write_is_readable_by_all() {
    let place = Place::new();
    let source = place.dir("source");
    write(&source.join("file"), "content");
    place.ingest(&source, "t");
    if !is_root() {
        skipped("a_store_that_only_root_may_write", "only root can try it as somebody else");
        return;
    }
    let nobody = |args: &[&str]| run(&mut place.as_nobody(place.command(args)));
    assert_eq!(nobody(&["cat", "t:file"]).fine(), "content");
    write(&source.join("new"), "new");
    let said = nobody(&["ingest", source.to_str().expect("utf-8"), "--name", "u"]).refused();
    assert!(said.contains("its daemon isn't running") && said.contains("--store"), "{said}");
}

#[test]
fn the_store_itself_is_left_out() {
    let place = Place::new();
    let top = place.temp.path().to_str().expect("utf-8").to_owned();
    write(&place.path("file"), "content");
    place.ingest(place.temp.path(), "t");
    assert_eq!(place.vrift(&["ls", "t"]).fine(), "file\n");
    let inside = format!("{top}/store/blobs");
    for dir in [format!("{top}/store"), inside] {
        let said = place.vrift(&["ingest", &dir, "--name", "u"]).refused();
        assert!(said.contains("it belongs to the store itself"), "{said}");
    }
}

#[test]
fn a_sparse_gibibyte_takes_little_memory_and_little_disk() {
    let place = Place::new();
    let source = place.dir("source");
    let file = std::fs::File::create(source.join("sparse")).expect("create");
    file.set_len(1 << 30).expect("set_len");
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 500 << 20).expect("write");
    drop(file);
    let args = ["ingest", source.to_str().expect("utf-8"), "--name", "t"];
    let mut child = place.command(&args).stdout(Stdio::null()).spawn().expect("spawn");
    let mut peak = 0;
    let deadline = Instant::now() + Duration::from_secs(100);
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let line = status.unwrap_or_default();
        let kib = line.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = kib.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        assert!(Instant::now() < deadline, "too slow");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success());
    assert!(peak > 0 && peak < 64 << 10, "{peak} KiB at its peak");
    let blob = &blobs(&place.store_root())[0];
    let meta = std::fs::metadata(blob).expect("metadata");
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() * 512 < 8 << 20, "{} bytes on disk", meta.blocks() * 512);
    assert!(place.vrift(&["verify", "t"]).fine().contains("all whole"));
    let out = place.path("out");
    place.vrift(&["export", "t", out.to_str().expect("utf-8"), "--link", "copy"]).fine();
    let meta = std::fs::metadata(out.join("sparse")).expect("metadata");
    assert!(meta.len() == 1 << 30 && meta.blocks() * 512 < 8 << 20);
}

#[test]
fn deeper_than_a_path_can_say() {
    let place = Place::new();
    let source = place.dir("source");
    // 600 levels of 12 bytes are 7800 bytes; PATH_MAX is 4096.
    let levels = 600;
    let name = "a-directory-";
    let open = |dir: &std::os::fd::OwnedFd| {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)).expect("mkdir");
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::empty()).expect("open")
    };
    let mut dir: std::os::fd::OwnedFd = std::fs::File::open(&source).expect("open").into();
    for _ in 0..levels {
        dir = open(&dir);
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&dir, "leaf", flags, Mode::from_raw_mode(0o644)).expect("leaf");
    drop(dir);
    place.ingest(&source, "deep");
    let out = place.path("out");
    place.vrift(&["export", "deep", out.to_str().expect("utf-8")]).fine();
    place.ingest(&out, "again");
    assert_eq!(place.vrift(&["diff", "deep", "again"]).fine(), "");
    let listed = place.vrift(&["ls", "-R", "deep"]).fine();
    assert_eq!(listed.lines().count(), levels + 1);
}

#[test]
fn a_symlink_swapped_in_while_we_look_leads_nowhere() {
    let place = Place::new();
    let source = place.dir("source");
    let outside = place.dir("outside");
    write(&outside.join("secret"), "what must not be stored");
    write(&source.join("d/secret"), "fine");
    for i in 0..200 {
        write(&source.join(format!("pad{i}/f")), "pad");
    }
    symlink(&outside, source.join("other")).expect("symlink");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let exchange = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (d, other) = (source.join("d"), source.join("other"));
                if rustix::fs::renameat_with(CWD, d, CWD, other, exchange).is_err() {
                    return false;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
            true
        });
        let dir = source.to_str().expect("utf-8");
        for _ in 0..40 {
            // Either it works, or the change was noticed and told.
            let ran = place.vrift(&["ingest", dir, "--name", "t"]);
            assert!(matches!(ran.status, 0 | 1), "{ran:?}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if !swapper.join().expect("swapper") {
            skipped("a_symlink_swapped_in_while_we_look", "no RENAME_EXCHANGE here");
        }
    });
    let secret = Hash::of(b"what must not be stored").to_string();
    assert!(blobs(&place.store_root()).iter().all(|blob| !blob.ends_with(&secret)));
}

#[test]
fn a_file_that_keeps_changing_is_told_and_not_stored() {
    let place = Place::new();
    let source = place.dir("source");
    let path = source.join("log");
    write(&path, vec![0u8; 32 << 20]);
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("open");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // On a busy machine one alone may not get its turn while the file is read.
        for _ in 0..4 {
            scope.spawn(|| {
                let mut i = 0u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let at = i * 4096 % (32 << 20);
                    std::os::unix::fs::FileExt::write_all_at(&file, &i.to_le_bytes(), at)
                        .expect("write");
                    i += 1;
                }
            });
        }
        let ran = place.vrift(&["ingest", source.to_str().expect("utf-8"), "--name", "t"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(ran.status, 1, "{ran:?}");
        let line = format!("vrift: can't read {}: it keeps changing", path.display());
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    });
    assert_eq!(place.vrift(&["refs"]).fine(), "");
    place.ingest(&source, "t");
    assert_whole(&place.store_root());
}

#[test]
fn reflinks_where_the_file_system_has_them() {
    const NAME: &str = "reflinks_where_the_file_system_has_them";
    let place = Place::new();
    let image = place.path("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("image");
    let run_tool = |program: &str, args: &[&OsStr]| {
        std::process::Command::new(program)
            .args(args)
            .output()
            .is_ok_and(|out| out.status.success())
    };
    let made = run_tool("mkfs.btrfs", &["-q".as_ref(), image.as_ref()])
        || run_tool(
            "mkfs.xfs",
            &["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), image.as_ref()],
        );
    let mount = place.dir("mount");
    if !made || !is_root() {
        skipped(NAME, "needs root and mkfs.btrfs or mkfs.xfs");
        return;
    }
    if !run_tool("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), mount.as_ref()]) {
        skipped(NAME, "can't mount a loop device here");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        let source = mount.join("source");
        let content: Vec<u8> = (0..16u32 << 20).map(|i| (i >> 12).to_le_bytes()[0]).collect();
        write(&source.join("large"), &content);
        write(&source.join("small"), "small");
        let store = mount.join("store");
        let store = store.to_str().expect("utf-8");
        place
            .vrift(&["ingest", source.to_str().expect("utf-8"), "--name", "t", "--store", store])
            .fine();
        assert_whole(Path::new(store));
        let out = mount.join("out");
        let out = out.to_str().expect("utf-8");
        let said = place.vrift(&["export", "t", out, "--link", "reflink", "--store", store]).fine();
        assert!(said.contains("2 files share"), "{said}");
        assert_eq!(std::fs::read(mount.join("out/large")).expect("read"), content);
        // What a job changed is stored the same way.
        let changed = [&content[..], b"and more"].concat();
        write(&mount.join("changed"), &changed);
        let file = std::fs::File::open(mount.join("changed")).expect("open");
        let opened = vrift_store::Store::open(Path::new(store)).expect("store");
        let put = opened.put_file(&file).expect("put");
        assert_eq!((put.entry.blob, put.new), (Some(Hash::of(&changed)), true));
        // What is shared has FIEMAP_EXTENT_SHARED; filefrag shows it.
        for hash in [Hash::of(&content), Hash::of(&changed)] {
            let blob = Path::new(store).join(vrift_store::Store::blob_path(&hash));
            let shown = std::process::Command::new("filefrag").arg("-v").arg(&blob).output();
            if let Ok(shown) = shown {
                let text = String::from_utf8_lossy(&shown.stdout).into_owned();
                assert!(text.contains("shared"), "{text}");
            }
        }
    });
    assert!(run_tool("umount", &[mount.as_ref()]), "umount");
    result.expect("the test on the mounted file system");
}
