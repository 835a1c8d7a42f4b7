//! Random sequences: every call of the table, with paths that wind in and out of the trees.

use super::script::{Sequence, encode};
use crate::tree::RAW_NAME;

/// A small generator of random numbers (splitmix64): the same seed gives the same sequences on
/// every machine and for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.word() % (n as u64)).expect("below a usize")
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Names of the projected tree, real names, and some that are nowhere.
const NAMES: &[&str] = &[
    "f",
    "twin",
    "exe",
    "readonly",
    "empty",
    ".hidden",
    "big",
    "with space",
    "new\nline",
    "Case",
    "case",
    "d",
    "d/e",
    "d/e/g",
    "d/x",
    "existing",
    "private",
    "private/secret",
    "sticky",
    "void",
    "link",
    "dirlink",
    "d/up",
    "d/winding",
    "dangling",
    "loop-a",
    "loop-b",
    "out",
    "link-slash",
    "deeplink",
    "self",
    "chain-39",
    "chain-40",
    "chain-41",
    "hard",
    "noread",
    "wronly",
    "setid",
    "xonly",
    "all",
    "noenter",
    "nolist",
    "closed",
    "noenter/f",
    "nolist/f",
    "closed/f",
    "leave",
    "leave-file",
    "leave-none",
    "return",
    "return-real",
    "leave-abs",
    "abs",
    "other",
    "above",
    "dangling-deep",
    "through-file",
    "dir-slash",
    "dir-dot",
    "dir-winding",
    "top",
    "cwd",
    "null",
    "long-target",
    "many",
    "many/17",
    "leave/file",
    "leave/into/f",
    "other/across/x",
    "above/w",
    "above/mnt2",
    "cwd/f",
    "absent",
    "absent/x",
    "f/x",
    "dirlink/e/g",
    "self/self/f",
    "return/x",
    "dangling/x",
    "loop-a/x",
    "leave/sub",
    "above/w/in/d",
];
const REAL_NAMES: &[&str] = &[
    "file",
    "exe",
    "dir",
    "dir/file",
    "dir/sub",
    "empty",
    "in",
    "in/f",
    "in/d",
    "in-f",
    "in-none",
    "in-twice",
    "in-twice/x",
    "link",
    "dangling",
    "side",
    "side/into/f",
    "absent",
    "absent/x",
    "new",
    "new2",
    "dir/new",
    "dir/in",
    "../mnt/f",
    "in/../file",
    "in/leave/file",
    "in/absent",
    "in/d/../..",
];
/// Path operands that no directory stands before.
const MAGIC: &[&str] = &[
    "/proc/self/fd/{0}",
    "/proc/self/fd/{1}",
    "/dev/fd/{0}",
    "/proc/thread-self/fd/{2}",
    "/proc/{pid}/fd/{1}",
    "/proc/{pid}/task/{pid}/fd/{0}",
    "/proc/self/cwd",
    "/proc/self/cwd/f",
    "/proc/self/cwd/../mnt/f",
    "/proc/self/fd/{3}/x",
    "/proc/self/fd/{3}/../f",
    "/dev/fd/{3}/e",
    "/proc/self/root$P/f",
    "/proc/self/root$R/file",
    "/proc/thread-self/cwd/d",
    "/proc/self/fd/{0}/",
    "/proc/self/cwd/",
    "/proc/self/fd/99",
    "/proc/self/fd/{0}/..",
];

/// A word for a path.
fn path(r: &mut Random) -> String {
    if r.chance(2) {
        return r.of(&["null", "bad", "=", "~$P/f"]).to_owned();
    }
    if r.chance(8) {
        return format!("={}", r.of(MAGIC));
    }
    let mut text = match r.below(100) {
        0..45 => format!("$P/{}", name(r, NAMES)),
        45..65 => format!("$R/{}", name(r, REAL_NAMES)),
        65..80 => name(r, NAMES),
        80..85 => name(r, REAL_NAMES),
        85..90 => format!("$Q/{}", r.of(&["f", "g", "d", "across", "across/e/g", "absent"])),
        90..94 => r.of(&["$P", "$Q", "$R", "$S", "$B", ".", "..", "$P/..", "$P/."]).to_owned(),
        _ => format!("$S/{}", r.of(&["file", "sub", "into", "into/f", "into/d/x", "absent"])),
    };
    if r.chance(10) {
        text.push_str(r.of(&["/", "//", "/.", "/..", "/./", "/../", "/x", "/f", "/../f"]));
    }
    let quote = if r.chance(5) { '!' } else { '=' };
    format!("{quote}{text}")
}

/// A name of the list, perhaps by another way.
fn name(r: &mut Random, names: &[&str]) -> String {
    if r.chance(3) {
        return encode(RAW_NAME);
    }
    if r.chance(2) {
        return r.of(&["n", "m"]).repeat(r.of(&[254, 255, 256]));
    }
    if r.chance(1) {
        // As long as a path may be, and a little longer, whatever stands before it.
        return format!("{}f", "./".repeat(r.of(&[1900, 2040, 2047, 2048])));
    }
    let name = encode(r.of(names).as_bytes());
    match r.below(20) {
        0 => format!("./{name}"),
        1 => format!("d/../{name}"),
        2 => format!("dirlink/../{name}"),
        3 => format!(".//{name}"),
        4 => format!("../mnt/{name}"),
        5 => format!("self/{name}"),
        6 => format!("d/./e/..//../{name}"),
        _ => name,
    }
}

fn dirfd(r: &mut Random) -> String {
    match r.below(20) {
        0..12 => "-100".into(),
        12..18 => format!("@{}", r.below(5)),
        18 => "-1".into(),
        _ => "99".into(),
    }
}

fn slot(r: &mut Random) -> String {
    if r.chance(3) { r.of(&["-1", "99", "-100"]).into() } else { format!("@{}", r.below(5)) }
}

/// Flags of an open: some sense, some nonsense.
fn open_flags(r: &mut Random) -> String {
    const MORE: &[u32] = &[
        0o100,
        0o200,
        0o1000,
        0o2000,
        0o4000,
        0o200_000,
        0o400_000,
        0o2_000_000,
        0o400,
        0o10_000,
        0o4_010_000,
        0o1_000_000,
        0o40_000,
    ];
    let mut flags = match r.below(10) {
        0..6 => 0,
        6 => 1,
        _ => 2,
    };
    for _ in 0..r.of(&[0, 0, 1, 1, 2, 3]) {
        flags |= r.of(MORE);
    }
    if r.chance(2) {
        flags |= 0o20_200_000; // O_TMPFILE
    }
    if r.chance(3) {
        flags = (flags & 0o2_200_000) | 0o10_000_000; // O_PATH
    }
    format!("{flags:#o}").replace("0o", "0")
}

fn empty_or_path(r: &mut Random) -> String {
    if r.chance(20) { r.of(&["=", "=", "null"]).into() } else { path(r) }
}

/// Flags of the `*at` calls; each mostly takes few of them.
fn at_flags(r: &mut Random) -> String {
    (r.of(&[
        "0", "0", "0", "0x100", "0x100", "0x1000", "0x1000", "0x1100", "0x400", "0x200", "0x800",
        "0x2000", "0x8000", "1",
    ]))
    .into()
}

fn times(r: &mut Random) -> String {
    (r.of(&[
        "times:1000,5,2000,6",
        "null",
        "times:1000,0x3fffffff,2000,0x3fffffff",
        "times:1000,0x3ffffffe,2000,0x3ffffffe",
        "times:1000,2000000000,2000,6",
        "times:1000,0x3ffffffe,2000,77",
    ]))
    .into()
}

fn attribute(r: &mut Random) -> String {
    (r.of(&[
        "=user.colour",
        "=user.colour",
        "=user.kind",
        "=user.none",
        "=security.none",
        "=odd",
        "=",
        "bad",
    ]))
    .into()
}

fn size(r: &mut Random) -> usize {
    r.of(&[0, 1, 3, 4, 5, 64, 300, 5000])
}

/// A buffer and its size.
fn room(r: &mut Random) -> String {
    let n = size(r);
    if n > 0 && r.chance(3) { format!("bad {n}") } else { format!("#{n} {n}") }
}

fn stat_room(r: &mut Random) -> &'static str {
    if r.chance(98) { "#144" } else { "bad" }
}

/// One operation.
fn operation(r: &mut Random) -> String {
    let c = if r.chance(25) { "c." } else { "" };
    match r.below(118) {
        0..14 => open(r, c),
        14..18 => format!("{c}stat {} {}", path(r), stat_room(r)),
        18..21 => format!("{c}lstat {} {}", path(r), stat_room(r)),
        21..25 => format!("newfstatat {} {} #144 {}", dirfd(r), empty_or_path(r), at_flags(r)),
        25..28 => format!(
            "{c}statx {} {} {} {} #256",
            dirfd(r),
            empty_or_path(r),
            at_flags(r),
            r.of(&["0x7ff", "0xfff", "0x17ff", "0", "1", "0x80000000"])
        ),
        28..30 => format!("{c}fstat {} {}", slot(r), stat_room(r)),
        30..33 => format!("{c}access {} {}", path(r), r.below(9)),
        33..36 => {
            format!("faccessat2 {} {} {} {}", dirfd(r), empty_or_path(r), r.below(8), at_flags(r))
        }
        36..40 => format!("{c}readlink {} {}", path(r), room(r)),
        40..43 => format!("readlinkat {} {} {}", dirfd(r), empty_or_path(r), room(r)),
        43..46 => format!("list {} {} {}", slot(r), r.of(&[400, 1000, 30_000]), r.below(2)),
        46 => format!("stream {}", path(r)),
        47 => format!("realpath {}", path(r)),
        48..51 => format!("{c}chdir {}", path(r)),
        51 => format!("fchdir {}", slot(r)),
        52..54 => format!("getcwd {}", room(r)),
        54 => format!("statfs {} #120", path(r)),
        55 => format!("fstatfs {} #120", slot(r)),
        56 => format!("{c}getxattr {} {} {}", path(r), attribute(r), room(r)),
        57 => format!("lgetxattr {} {} {}", path(r), attribute(r), room(r)),
        58 => format!("fgetxattr {} {} {}", slot(r), attribute(r), room(r)),
        59 => format!("{c}listxattr {} {}", path(r), room(r)),
        60 => format!("llistxattr {} {}", path(r), room(r)),
        61 => format!("flistxattr {} {}", slot(r), room(r)),
        62..64 => at_attributes(r),
        64..66 => format!("{c}mkdir {} 0755", path(r)),
        66 => format!("mkdirat {} {} 0700", dirfd(r), path(r)),
        67 => {
            format!("{c}mknod {} {} 0", path(r), r.of(&["0100644", "0140644", "0644", "0200644"]))
        }
        68..70 => format!("{c}symlink {} {}", path(r), path(r)),
        70 => format!("symlinkat {} {} {}", path(r), dirfd(r), path(r)),
        71..73 => format!("{c}link {} {}", path(r), path(r)),
        73..75 => format!(
            "linkat {} {} {} {} {}",
            dirfd(r),
            empty_or_path(r),
            dirfd(r),
            path(r),
            at_flags(r)
        ),
        75..77 => format!("{c}rename {} {}", path(r), path(r)),
        77..79 => {
            format!("renameat2 {} {} {} {} {}", dirfd(r), path(r), dirfd(r), path(r), r.below(9))
        }
        79 => format!("{c}unlink {}", path(r)),
        80 => format!("unlinkat {} {} {}", dirfd(r), path(r), r.of(&["0", "0x200", "1"])),
        81 => format!("{c}rmdir {}", path(r)),
        82 => format!("{c}truncate {} {}", path(r), r.of(&["0", "3", "-1"])),
        83..85 => change(r, c),
        85..88 => change_at(r),
        88..91 => change_descriptor(r, c),
        91..93 => set_attribute(r),
        93 => format!(
            "watch {} {}",
            path(r),
            r.of(&["0xfff", "0x1000fff", "0x2000fff", "0", "0x20000002"])
        ),
        94 => {
            format!("bind {} unix:{} {}", slot(r), &path(r)[1..], r.of(&["110", "110", "30", "2"]))
        }
        95 => format!("connect {} unix:{} 110", slot(r), &path(r)[1..]),
        96 => format!(">{} socket 1 {} 0", r.below(5), r.of(&["0x801", "0x802"])),
        97..99 => format!("execve {} argv:zero,one null", path(r)),
        99 => {
            format!("execveat {} {} argv:zero,one null {}", dirfd(r), empty_or_path(r), at_flags(r))
        }
        100..103 => format!(">{} {c}dup {}", r.below(5), slot(r)),
        103..105 => format!("close @{}", r.below(5)),
        105..108 => format!("{} {} #{n} {n}", r.of(&["read"]), slot(r), n = size(r)),
        108 => format!(
            "{c}pread{} {} #20 20 {}",
            if c.is_empty() { "64" } else { "" },
            slot(r),
            r.below(9)
        ),
        109 => format!("write {} =text 4", slot(r)),
        110 => format!("ftruncate {} 0", slot(r)),
        111 if r.below(3) == 0 => format!("pour {}", slot(r)),
        111 => format!("flock {} {}", slot(r), r.of(&["5", "6", "8"])),
        112 => format!("lock {} {}", slot(r), r.below(3)),
        113 => format!("mmap {} {}", slot(r), r.of(&["100", "0", "5000"])),
        114 => format!("setflags {} {}", slot(r), r.of(&["0x40086602", "0x401c5820"])),
        115 => format!("flags {}", slot(r)),
        116 => format!("{} {} {}", r.of(&["getdents64", "getdents"]), slot(r), room(r)),
        _ => format!(
            "name_to_handle_at {} {} room:128 #4 {}",
            dirfd(r),
            empty_or_path(r),
            at_flags(r)
        ),
    }
}

fn open(r: &mut Random, c: &str) -> String {
    let slot = r.below(5);
    match r.below(20) {
        0..7 => format!(">{slot} {c}open {} {} 0644", path(r), open_flags(r)),
        7..14 => format!(">{slot} {c}openat {} {} {} 0600", dirfd(r), path(r), open_flags(r)),
        14 => format!(">{slot} {c}creat {} 0644", path(r)),
        15 => format!(">{slot} {c}open ={} {} 0644", r.of(&MAGIC[..6]), open_flags(r)),
        16..18 => format!(">{slot} open $P {} 0", open_flags(r))
            .replace("$P", r.of(&["=$P/d", "=$P", "=$R", "=$P/many", "=$B"])),
        _ => format!(
            ">{slot} openat2 {} {} how:{},{},{} {}",
            dirfd(r),
            path(r),
            open_flags(r),
            r.of(&["0", "0", "0644"]),
            r.of(&["0", "0", "0", "0x40"]),
            r.of(&["24", "24", "24", "24", "32", "16"])
        ),
    }
}

fn change(r: &mut Random, c: &str) -> String {
    match r.below(6) {
        0 => format!("{c}chmod {} {}", path(r), r.of(&["0700", "0755", "0777"])),
        1 => format!("{c}chown {} -1 -1", path(r)),
        2 => format!("{c}lchown {} -1 -1", path(r)),
        3 => format!("{c}utime {} {}", path(r), r.of(&["times:1000,2000", "null"])),
        4 => format!(
            "{c}utimes {} {}",
            path(r),
            r.of(&["times:1000,5,2000,6", "null", "times:1,2000000,1,1"])
        ),
        _ => format!(
            "futimesat {} {} {}",
            dirfd(r),
            empty_or_path(r),
            r.of(&["times:1000,5,2000,6", "null"])
        ),
    }
}

fn change_at(r: &mut Random) -> String {
    match r.below(5) {
        0 => format!("fchmodat {} {} 0755", dirfd(r), path(r)),
        1 => format!("fchmodat2 {} {} 0755 {}", dirfd(r), empty_or_path(r), at_flags(r)),
        2 => format!("fchownat {} {} -1 -1 {}", dirfd(r), empty_or_path(r), at_flags(r)),
        _ => format!("utimensat {} {} {} {}", dirfd(r), empty_or_path(r), times(r), at_flags(r)),
    }
}

fn change_descriptor(r: &mut Random, c: &str) -> String {
    match r.below(6) {
        0 => format!("{c}fchmod {} 0755", slot(r)),
        1 => format!("{c}fchown {} -1 -1", slot(r)),
        2 => format!("c.futimens {} {}", slot(r), times(r)),
        3 => format!("c.futimes {} times:1000,5,2000,6", slot(r)),
        4 => format!("fsetxattr {} {} =v 1 0", slot(r), attribute(r)),
        _ => format!("fremovexattr {} {}", slot(r), attribute(r)),
    }
}

fn set_attribute(r: &mut Random) -> String {
    match r.below(5) {
        0 => format!("setxattr {} {} =v 1 {}", path(r), attribute(r), r.below(4)),
        1 => format!("lsetxattr {} {} =v 1 0", path(r), attribute(r)),
        2 => format!("removexattr {} {}", path(r), attribute(r)),
        3 => format!("lremovexattr {} {}", path(r), attribute(r)),
        _ => format!(
            "setxattrat {} {} {} {} value:v {}",
            dirfd(r),
            empty_or_path(r),
            at_flags(r),
            attribute(r),
            r.of(&["16", "16", "8"])
        ),
    }
}

fn at_attributes(r: &mut Random) -> String {
    let (dirfd, path, flags) = (dirfd(r), empty_or_path(r), at_flags(r));
    match r.below(5) {
        0 => format!("getxattrat {dirfd} {path} {flags} {} fill:{} 16", attribute(r), size(r)),
        1 => format!("listxattrat {dirfd} {path} {flags} {}", room(r)),
        2 => format!("removexattrat {dirfd} {path} {flags} {}", attribute(r)),
        3 => format!("file_getattr {dirfd} {path} #24 {} {flags}", r.of(&["24", "16", "0"])),
        _ => format!("file_setattr {dirfd} {path} how:0,0,0 24 {flags}"),
    }
}

/// What a sequence begins with: the real directory is what others made of it, and some of its
/// names should be there.
pub const BEGINNINGS: &[&str] = &[
    "mkdir =$R/dir 0755",
    "mkdir =$R/dir/sub 0755",
    "mkdir =$R/empty 0755",
    ">0 open =$R/file 0101 0644",
    "write @0 =content 7",
    "close @0",
    "symlink =../mnt =$R/in",
    "symlink =../mnt/f =$R/in-f",
    "symlink =file =$R/link",
    "mkdir =$S 0755",
    "symlink =../mnt =$S/into",
    "chdir =$P",
    "chdir =$R",
    "chdir =$P/d",
    ">0 open =$P/f 0",
    ">1 open =$P/twin 02000000",
    ">2 openat -100 =$P/exe 0",
    ">3 open =$P/d 0200000",
    ">3 open =$P 0200000",
    ">4 open =$R 0200000",
    ">4 open =$R/file 02",
];

/// A sequence of `length` operations.
pub fn sequence(r: &mut Random, length: usize) -> Sequence {
    let mut all = Vec::with_capacity(length);
    for _ in 0..length / 6 {
        all.push(r.of(BEGINNINGS).to_owned());
    }
    while all.len() < length {
        all.push(operation(r));
    }
    all
}
