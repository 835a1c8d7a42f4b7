//! Random sequences for writable trees: everything that can change one, by several processes that
//! share descriptors, with few names, so that they meet often.

use super::compare::name;
use super::generate::Random;
use super::script::Sequence;

/// What the tree holds at first.
const OLD: &[&str] = &[
    "f",
    "twin",
    "exe",
    "readonly",
    "empty",
    "big",
    "case",
    "with%20space",
    "hard",
    "all",
    "setid",
    "d",
    "d/e",
    "d/e/g",
    "d/x",
    "existing",
    "private",
    "private/secret",
    "sticky",
    "void",
    "pub",
    "pub/f",
    "pub/g",
    "pub/h",
    "many",
    "many/17",
    "many/60",
    "link",
    "dirlink",
    "d/up",
    "dangling",
    "self",
    "deeplink",
    "loop-a",
    "link-slash",
];
/// What scripts make, and where things are moved to.
const NEW: &[&str] = &[
    "a",
    "b",
    "c",
    "d/a",
    "d/b",
    "d/e/a",
    "a/b",
    "a/b/c",
    "b/a",
    "b/x",
    "b/e/g",
    "existing/a",
    "existing/b",
    "void/a",
    "pub/a",
    "pub/b",
    "pub/sub",
    "pub/sub/a",
    "sticky/a",
    "many/new",
    "many/121",
    "dirlink/a",
    "self/a",
    "new",
    "new2",
    "d/new",
    "pub/new",
    "many/a",
    "many/b",
    "nowhere",
];

fn place(r: &mut Random, fresh: usize) -> &'static str {
    if r.chance(fresh) { r.of(NEW) } else { r.of(OLD) }
}

/// A word for a path; `fresh` of a hundred are names that the tree doesn't have at first.
fn path(r: &mut Random, fresh: usize) -> String {
    let name = place(r, fresh);
    let last = name.rsplit('/').next().unwrap_or(name);
    let mut text = match r.below(100) {
        0..74 => format!("$P/{name}"),
        74..78 => name.to_owned(),
        78..84 => last.to_owned(),
        84..86 => format!("../{last}"),
        86..88 => format!("$P/d/../{name}"),
        88..90 => format!("$P/self/{name}"),
        90..94 => format!("$R/{}", r.of(&["file", "dir", "new", "dir/new"])),
        94 => r.of(&["$P", ".", "", "$P/."]).to_owned(),
        95..98 => format!("/proc/self/fd/{{{}}}", r.below(4)),
        _ => format!("/proc/self/fd/{{3}}/{last}"),
    };
    if r.chance(4) {
        text.push_str(r.of(&["/", "/.", "/..", "/x"]));
    }
    format!("={text}")
}

fn old(r: &mut Random) -> String {
    path(r, 15)
}

fn new(r: &mut Random) -> String {
    path(r, 80)
}

fn slot(r: &mut Random) -> String {
    if r.chance(1) { "99".into() } else { format!("@{}", r.below(4)) }
}

fn dirfd(r: &mut Random) -> &'static str {
    r.of(&["-100", "-100", "-100", "@3", "@3", "@0"])
}

/// Access mode and flags. Always O_NONBLOCK: any name may have become a fifo.
fn open_flags(r: &mut Random) -> String {
    let mut flags = 0o4000 | r.of(&[0, 1, 2, 2, 2]);
    for _ in 0..r.of(&[0, 0, 1, 1, 2]) {
        flags |=
            r.of(&[0o100, 0o100, 0o300, 0o1000, 0o2000, 0o2000, 0o200_000, 0o400_000, 0o2_000_000]);
    }
    if r.chance(2) {
        flags = 0o10_000_000 | (flags & 0o2_200_000);
    }
    format!("0{flags:o}")
}

fn mode(r: &mut Random) -> &'static str {
    r.of(&["0644", "0600", "0755", "0777", "0666", "04755", "02755", "01777", "0444", "0400"])
}

/// A mode to be set. An ordinary user's scripts come upon the real directories above the mount, too,
/// and could shut them, which the supervisor doesn't ask about (docs/SEMANTICS.md): so they keep
/// their owner's rights there. Root's tasks of other users meet what is shut.
fn new_mode(r: &mut Random) -> &'static str {
    if rustix::process::getuid().is_root() {
        return mode(r);
    }
    r.of(&["0700", "0711", "0744", "0755", "0777", "01777", "02755", "04755"])
}

fn times(r: &mut Random) -> &'static str {
    r.of(&[
        "times:1000,5,2000,6",
        "null",
        "times:77,0,99,999999999",
        "times:1000,0x3fffffff,2000,0x3fffffff",
        "times:1000,0x3ffffffe,2000,0x3ffffffe",
        "times:1000,0x3ffffffe,2000,77",
    ])
}

fn size(r: &mut Random) -> usize {
    r.of(&[0, 1, 3, 7, 100, 4096, 5000, 70_000])
}

/// The owners that may be given: others than one's own only by root.
fn owner(r: &mut Random, root: bool) -> &'static str {
    if root {
        r.of(&["-1 -1", "0 0", "65534 65534", "1000 -1", "-1 1000", "0 65534"])
    } else {
        "-1 -1"
    }
}

fn attribute(r: &mut Random) -> &'static str {
    r.of(&["=user.colour", "=user.kind", "=user.a", "=user.b", "=user.", "=odd", "="])
}

fn open(r: &mut Random) -> String {
    let slot = r.below(4);
    match r.below(12) {
        0..5 => format!(">{slot} open {} {} {}", path(r, 50), open_flags(r), mode(r)),
        5..7 => format!(">{slot} openat {} {} {} 0644", dirfd(r), path(r, 50), open_flags(r)),
        7 => format!(">{slot} open {} 04102 {}", new(r), mode(r)),
        8 => format!(">{slot} open {} 06002", old(r)),
        9 => format!(
            ">{slot} open {} 020204002 {}",
            r.of(&["=$P", "=$P/d", "=$P/pub", "=.", "=$P/a"]),
            mode(r)
        ),
        10 => format!(">3 open {} 0200000", old(r)),
        _ => format!(">3 open {} 0200000", r.of(&["=$P", "=$P/d", "=$P/pub", "=$P/many", "=."])),
    }
}

fn through_descriptor(r: &mut Random) -> String {
    let fd = slot(r);
    match r.below(26) {
        0..4 => {
            format!("write {fd} ={} {}", r.of(&["some-text", "other", "x"]), r.of(&[1, 4, 5, 9]))
        }
        4..8 => format!(
            "fill {fd} {} {} {}",
            r.of(&[0, 0, 1, 100, 5000, 70_000]),
            size(r),
            r.below(1000)
        ),
        8..11 => {
            let n = r.of(&[1, 3, 64, 300, 5000]);
            format!("read {fd} #{n} {n}")
        }
        11 => format!("pread64 {fd} #40 40 {}", r.of(&[0, 1, 5, 4090])),
        12 => format!("pwrite64 {fd} =patch 5 {}", r.of(&[0, 2, 4094, -1])),
        13 => format!("lseek {fd} {} {}", r.of(&[0, 0, 3, 100, -2]), r.below(3)),
        // SEEK_DATA and SEEK_HOLE: both sides are on one disk.
        14 => {
            format!("lseek {fd} {} {}", r.of(&[0, 0, 1, 4096, 5000, 70_000, -1]), r.of(&[3, 4]))
        }
        15..17 => format!("ftruncate {fd} {}", r.of(&["0", "1", "100", "5000", "100000", "-1"])),
        17 => format!(
            "fallocate {fd} {} {} {}",
            r.of(&[0, 0, 1, 3, 16]),
            r.of(&[0, 100, 4096]),
            r.of(&[1, 4096, 9000])
        ),
        18 => format!("fsync {fd}"),
        19 => format!(
            "copy_file_range @{} null @{} null {} 0",
            r.below(4),
            r.below(4),
            r.of(&[1, 100, 9000])
        ),
        20 => format!("sendfile @{} @{} null {}", r.below(4), r.below(4), r.of(&[1, 100, 9000])),
        21 => format!("map {} {fd} {}", r.below(4), r.of(&[1, 3, 3])),
        22 => format!("peek {} {}", r.below(4), r.of(&[0, 5, 4097])),
        23 => format!("poke {} {} {}", r.below(4), r.of(&[0, 5, 4097]), r.below(256)),
        24 => format!("unmap {}", r.below(4)),
        _ => format!("flags {fd}"),
    }
}

fn descriptors(r: &mut Random, root: bool) -> String {
    let fd = slot(r);
    match r.below(14) {
        0..3 => format!("close @{}", r.below(4)),
        3..5 => format!(">{} dup {fd}", r.below(4)),
        5 => format!("fchmod {fd} {}", new_mode(r)),
        6 => format!("fchown {fd} {}", owner(r, root)),
        7 => format!("c.futimens {fd} {}", times(r)),
        8 => format!("fsetxattr {fd} {} =value {} 0", attribute(r), r.of(&[0, 1, 5])),
        9 => format!("fgetxattr {fd} {} #64 64", attribute(r)),
        10 => format!("fremovexattr {fd} {}", attribute(r)),
        11 => format!("fchdir {fd}"),
        12 => format!("fchmodat2 {fd} = {} 0x1000", new_mode(r)),
        _ => format!("utimensat {fd} null {} 0", times(r)),
    }
}

fn names(r: &mut Random, root: bool) -> String {
    match r.below(34) {
        0..4 => format!("mkdir {} {}", new(r), r.of(&["0755", "0700", "0777", "02755", "01777"])),
        4..7 => format!("rmdir {}", path(r, 70)),
        7..11 => format!("unlink {}", path(r, 60)),
        11 => format!("unlinkat {} {} {}", dirfd(r), path(r, 50), r.of(&["0", "0", "0x200"])),
        12..16 => format!("rename {} {}", path(r, 20), path(r, 75)),
        16..19 => format!("carry {} {} {}", path(r, 20), path(r, 75), r.of(&[0, 0, 0, 1, 2])),
        19..21 => format!(
            "renameat2 {} {} {} {} {}",
            dirfd(r),
            path(r, 40),
            dirfd(r),
            path(r, 60),
            r.of(&[0, 1, 1, 2, 2, 4, 3])
        ),
        21..23 => format!("link {} {}", old(r), new(r)),
        23 => format!(
            "linkat {} {} {} {} {}",
            dirfd(r),
            old(r),
            dirfd(r),
            new(r),
            r.of(&["0", "0x400", "0x400"])
        ),
        24 => format!("linkat -100 =/proc/self/fd/{{{}}} -100 {} 0x400", r.below(4), new(r)),
        // Without privileges only who has opened a descriptor may give its file a name by it.
        25 if root => format!("linkat @{} = -100 {} 0x1000", r.below(4), new(r)),
        26..28 => format!(
            "symlink {} {}",
            r.of(&["=f", "=d", "=../f", "=nowhere", "=a", "=$P/d/x", "=.", "=pub/"]),
            new(r)
        ),
        28 => format!("symlinkat =f {} {}", dirfd(r), new(r)),
        29 => format!("mknod {} 0010644 0", new(r)),
        30 => format!("mknod {} {} 0", new(r), r.of(&["0100600", "0140755", "0644"])),
        31 => format!("mknod {} 0020666 259", new(r)), // 1:3, harmless whatever is done with it
        32 => format!("mkdirat {} {} 0755", dirfd(r), new(r)),
        _ => format!("c.remove {}", path(r, 50)),
    }
}

fn metadata(r: &mut Random, root: bool) -> String {
    match r.below(16) {
        0..3 => format!("chmod {} {}", old(r), new_mode(r)),
        3 => format!("fchmodat2 {} {} {} {}", dirfd(r), old(r), new_mode(r), r.of(&["0", "0x100"])),
        4 => format!("chown {} {}", old(r), owner(r, root)),
        5 => format!("lchown {} {}", old(r), owner(r, root)),
        6 => format!("fchownat {} {} {} 0x100", dirfd(r), old(r), owner(r, root)),
        7..9 => format!("utimensat -100 {} {} {}", old(r), times(r), r.of(&["0", "0x100"])),
        9 => format!("utimes {} {}", old(r), r.of(&["times:1000,5,2000,6", "null"])),
        10..12 => format!("truncate {} {}", old(r), r.of(&["0", "1", "100", "5000", "-1"])),
        12..14 => format!(
            "{} {} {} =value {} {}",
            r.of(&["setxattr", "lsetxattr"]),
            old(r),
            attribute(r),
            r.of(&[0, 1, 5]),
            r.below(3)
        ),
        14 => format!("removexattr {} {}", old(r), attribute(r)),
        _ => format!("umask {}", r.of(&["0", "022", "077", "027"])),
    }
}

fn questions(r: &mut Random) -> String {
    match r.below(30) {
        0..4 => format!("stat {} #144", path(r, 50)),
        4..6 => format!("lstat {} #144", path(r, 50)),
        6 => format!("newfstatat {} {} #144 {}", dirfd(r), path(r, 50), r.of(&["0", "0x100"])),
        7 => format!("statx -100 {} 0 0x17ff #256", path(r, 50)),
        8..10 => format!("fstat {} #144", slot(r)),
        10..13 => format!("cat {}", path(r, 50)),
        13 => format!("access {} {}", path(r, 50), r.below(8)),
        14 => format!("faccessat2 -100 {} {} 0x200", path(r, 50), r.below(8)),
        15 => format!("readlink {} #300 300", path(r, 40)),
        16..18 => format!("list @3 {} 0", r.of(&[400, 30_000])),
        18 => format!("stream {}", path(r, 40)),
        19 => format!("realpath {}", path(r, 40)),
        20..22 => "getcwd #300 300".into(),
        22 => format!("statfs {} #120", path(r, 40)),
        23..25 => format!("same {} {}", slot(r), path(r, 50)),
        25 => format!("getxattr {} {} #64 64", old(r), attribute(r)),
        26 => format!("listxattr {} #300 300", old(r)),
        27 => format!("flistxattr {} #300 300", slot(r)),
        28 => "snapshot =$P".into(),
        _ => format!("fstatfs {} #120", slot(r)),
    }
}

fn others(r: &mut Random) -> String {
    let fd = slot(r);
    match r.below(20) {
        0..4 => format!("chdir {}", path(r, 40)),
        4 => "chdir =$P".into(),
        5..7 => format!("flock {fd} {}", r.of(&[5, 6, 8])),
        7..10 => format!(
            "lockrange {fd} {} {} {} {}",
            r.of(&[5, 6, 6, 36, 37, 37]),
            r.below(3),
            r.of(&[0, 0, 5, 100]),
            r.of(&[0, 1, 10])
        ),
        10 => format!("wander {}", r.of(&["=$P", "=$P/many", "=$P/d", "=$P/pub", "=.", "=$P/a"])),
        11 => format!("notify {}", r.of(&["=$P", "=$P/d", "=$P/pub", "=.", "=$P/existing"])),
        12 => format!("lockrange {fd} 6 {} 0 0", r.below(3)),
        13 => format!("inotify_add_watch @5 {} 0x7ce", path(r, 40)),
        14 => "events @5".into(),
        15 => format!(">6 socket 1 {} 0", r.of(&["0x801", "0x802"])),
        16 => format!("bind @6 unix:{} 110", &new(r)[1..]),
        17 => "listen @6 3".into(),
        18 => format!("connect @{} unix:{} 110", r.of(&[6, 2]), &path(r, 60)[1..]),
        _ => format!("execve {} argv:one,two null", path(r, 40)),
    }
}

/// What a sequence may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// Everything.
    All,
    /// What is there: no name comes or goes.
    Contents,
}

/// Whether an operation makes, moves or removes a name.
fn changes_names(operation: &str) -> bool {
    let name = name(operation);
    let mut words = operation.split(' ').skip_while(|word| *word != name).skip(1);
    let flags = match name {
        "open" => words.nth(1),
        "openat" => words.nth(2),
        _ => None,
    };
    let makes =
        |flags: &str| u32::from_str_radix(flags, 8).is_ok_and(|flags| flags & 0o20_000_100 != 0);
    flags.is_some_and(makes)
        || [
            "mkdir", "rmdir", "unlink", "rename", "carry", "link", "symlink", "mknod", "c.remove",
            "wander", "notify", "bind",
        ]
        .iter()
        .any(|call| name.starts_with(call))
}

fn operation(r: &mut Random, root: bool) -> String {
    match r.below(100) {
        0..16 => open(r),
        16..38 => through_descriptor(r),
        38..44 => descriptors(r, root),
        44..64 => names(r, root),
        64..72 => metadata(r, root),
        72..92 => questions(r),
        _ => others(r),
    }
}

/// What sequences begin with: one of each, so that most descriptors lead somewhere.
const BEGINNINGS: &[&[&str]] = &[
    &["chdir =$P", "chdir =$P", "chdir =$P/d", "chdir =$P/pub"],
    &["mkdir =$P/d 0777", "mkdir =$P/pub 0777", "mkdir =$P/existing 0755", "mkdir =$P/a 0755"],
    &[">0 open =$P/f 04102 0666", ">0 open =$P/pub/f 04002", ">0 open =$P/d/x 06002"],
    &[">1 open =$P/big 04002", ">1 open =$P/all 06002", ">1 open =$P/pub/g 04102 0666"],
    &[">2 open =$P/a 04102 0644", ">2 open =$P/twin 04000", ">2 open =$P/d/new 04102 0666"],
    &[
        ">3 open =$P 0200000",
        ">3 open =$P/d 0200000",
        ">3 open =$P/many 0200000",
        ">3 open =$P/pub 0200000",
    ],
    &["rename =$P/d =$P/b", "carry =$P/pub =$P/d/b 0", "carry =$P/b =$P/d 0", "umask 022"],
];

/// What only makes sense together.
const TOGETHER: &[&[&str]] = &[
    &[
        ">1 open =$P/d 020204002 0600",
        "write @1 =unnamed 7",
        "linkat -100 =/proc/self/fd/{1} -100 =$P/d/b 0x400",
        "cat =$P/d/b",
        "same @1 =$P/d/b",
    ],
    &[
        ">2 open =$P/pub/g 04102 0644",
        "unlink =$P/pub/g",
        "write @2 =more 4",
        "fstat @2 #144",
        "linkat -100 =/proc/self/fd/{2} -100 =$P/pub/g 0x400",
        "readlink =/proc/self/fd/{2} #300 300",
    ],
    &[
        "mkdir =$P/new 0755",
        "chdir =$P/new",
        "rename =$P/new =$P/pub/new",
        "getcwd #300 300",
        "mkdir =in 0755",
        "rmdir =$P/pub/new/in",
        "rmdir =$P/pub/new",
        "getcwd #300 300",
        "mkdir =in 0755",
        "stat =.. #144",
        "list @3 400 0",
    ],
    &[
        ">6 socket 1 0x801 0",
        "bind @6 unix:$P/pub/sock 110",
        "listen @6 3",
        ">7 socket 1 0x801 0",
        "connect @7 unix:$P/pub/sock 110",
        "rename =$P/pub/sock =$P/pub/sock2",
        "stat =$P/pub/sock2 #144",
        "connect @7 unix:$P/pub/sock 110",
        "unlink =$P/pub/sock2",
    ],
    &[
        ">5 inotify_init1 0x800",
        "inotify_add_watch @5 =$P/pub 0x7ce",
        "rename =$P/pub/f =$P/pub/h",
        "chmod =$P/pub/h 0640",
        "truncate =$P/pub/h 3",
        "symlink =h =$P/pub/f",
        "events @5",
    ],
    &[
        "map 1 @0 3",
        "poke 1 3 88",
        "cat =$P/f",
        "rename =$P/f =$P/c",
        "poke 1 4 89",
        "cat =$P/c",
        "ftruncate @0 2",
        "peek 1 1",
    ],
    &[
        "mknod =$P/pub/fifo 0010644 0",
        ">4 open =$P/pub/fifo 04002",
        "write @4 =through 7",
        "read @4 #20 20",
        "rename =$P/pub/fifo =$P/d/fifo",
        "same @4 =$P/d/fifo",
        "unlink =$P/d/fifo",
    ],
    &[
        "link =$P/f =$P/new",
        "write @0 =both 4",
        "cat =$P/new",
        "chmod =$P/new 0640",
        "stat =$P/f #144",
    ],
    &[
        "setxattr =$P/d/x =user.a =value 5 0",
        "getxattr =$P/d/x =user.a #64 64",
        "listxattr =$P/d/x #300 300",
    ],
    &[
        "carry =$P/many =$P/d/many 0",
        "list @3 400 0",
        "cat =$P/d/many/17",
        "carry =$P/d/many =$P/many 0",
    ],
    &["carry =$P/d =$P/pub 2", "cat =$P/pub/x", "stream =$P/d", "getcwd #300 300"],
    &["unlink =$P/f", ">0 open =$P/f 04302 0600", "write @0 =anew 4", "cat =$P/f", "same @0 =$P/f"],
    &["lockrange @0 6 1 0 10", "lockrange @0 5 1 0 10", "flock @1 6"],
];

/// A sequence of changes that are each one step, done or not: what is killed between two of them
/// leaves one of two trees. They stay in the tree, so that it need not be a mount.
pub fn steps(r: &mut Random, length: usize, root: bool) -> Sequence {
    let mut all = vec!["chdir =$P".to_owned()];
    while all.len() < length {
        let step = match r.below(10) {
            0..6 => names(r, root),
            6..9 => metadata(r, root),
            _ => {
                let some = r.of(BEGINNINGS);
                r.of(some).to_owned()
            }
        };
        // Two calls in one, descriptors, and ways out.
        let more = ["c.remove", "chdir", "open", "..", "$R"].iter().any(|part| step.contains(part));
        if !more {
            all.push(step);
        }
    }
    all
}

/// A sequence of `length` operations by a user who is root or not; it ends with the whole tree
/// in three of ten cases.
pub fn sequence(r: &mut Random, length: usize, root: bool, changes: Changes) -> Sequence {
    let mut all = Vec::with_capacity(length);
    let mut processes = 1;
    for choice in BEGINNINGS {
        if r.chance(80) {
            all.push(r.of(choice).to_owned());
        }
    }
    while all.len() < length {
        if processes < 3 && r.chance(4) {
            all.push(format!("fork {processes}"));
            processes += 1;
            continue;
        }
        let who = r.below(processes);
        let some = if r.chance(6) {
            r.of(TOGETHER).iter().map(|operation| (*operation).to_owned()).collect()
        } else {
            vec![operation(r, root)]
        };
        all.extend(
            some.into_iter().map(
                |operation| {
                    if who == 0 { operation } else { format!("&{who} {operation}") }
                },
            ),
        );
    }
    if changes == Changes::Contents {
        all.retain(|operation| !changes_names(operation));
    }
    if r.chance(30) {
        all.push("snapshot =$P".into());
    }
    all
}
