//! Where the oracle asks: the same tree at the same path, once as the kernel's own read-only bind
//! mount and once projected, with a real directory beside it that the script may change.
//!
//! ```text
//! at/s/s/.../      deep, so that no handful of `..` leaves it; $B in scripts
//!     mnt          $P: the tree
//!     mnt2         $Q: another one
//!     w            $R: real, and the script's to change
//!     beside       $S: real, where links of the tree lead
//! ```
//! For the kernel's side another copy of `at` is bound over it in a mount namespace, so that
//! what one side changes the other does not see, and both can run at once. As root everything
//! outside is read-only on both sides: a random sequence must not be able to harm the machine.

use super::script::{Answers, Sequence, parse, write};
use crate::job::{Job, Outcome};
use crate::world::World;
use crate::{binaries, tree};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// How far below the top the place is.
const DEPTH: usize = 16;

/// As root: nothing outside `$1` can be changed, whatever the script says.
const READ_ONLY_WORLD: &str = r#"
top=${1%/}; shift
mount --make-rprivate / && mount --bind "$top" "$top" || exit 120
while read -r _ point _; do
    case $point in /proc* | /sys* | /dev/* | "$top") ;; *) mount -o remount,bind,ro "$point" ;; esac
done </proc/self/mounts 2>/dev/null
for dir in / /dev /etc; do
    if touch "$dir/oracle-probe" 2>/dev/null; then rm "$dir/oracle-probe"; exit 121; fi
done
exec "$@"
"#;

/// Binds `$1` over `$2` and the trees over the mount points below it, then goes on without the
/// powers that the namespace lent.
const KERNEL_SIDE: &str = r#"
copy=$1 at=$2 tree=$3 mnt=$4 tree2=$5 mnt2=$6; shift 6
mount --bind "$copy" "$at" || exit 120
mount --bind "$tree" "$mnt" && mount -o remount,bind,ro "$mnt" || exit 120
mount --bind "$tree2" "$mnt2" && mount -o remount,bind,ro "$mnt2" || exit 120
if [ "$(id -u)" = 0 ]; then exec "$@"; fi
exec setpriv --inh-caps=-all --ambient-caps=-all "$@"
"#;

/// `argv` as a job in `base` that, as root, can change nothing outside of `world`.
pub(super) fn contained(world: &World, base: &Path, argv: Vec<OsString>) -> Job {
    if !rustix::process::getuid().is_root() {
        return world.native(argv).cwd(base).timeout(180);
    }
    let mut all: Vec<OsString> =
        ["unshare", "--mount", "sh", "-c", READ_ONLY_WORLD, "sh"].map(OsString::from).into();
    all.push(world.path("").into());
    all.extend(argv);
    world.native(all).cwd(base).timeout(180)
}

/// The guest as who it shall be, in `base`: the directory by its path, as the one entered before may
/// be the other side's.
pub(super) fn become_who((guest, who): (&Path, Who), base: &Path) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["env".into(), "-C".into(), base.into()];
    if who == Who::Another {
        let become_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        argv.extend(become_nobody.map(OsString::from));
    }
    argv.push(guest.into());
    argv
}

/// Whose calls are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The user who runs the tests, and to whom the trees belong.
    Me,
    /// In a job of root's, a process that became somebody else.
    Another,
}

/// The place, and the store with its trees.
#[derive(Debug)]
pub struct Place {
    world: World,
    base: PathBuf,
    mode: &'static str,
    view: &'static str,
}

impl Place {
    /// Lays out the trees and ingests them, to be projected in `mode`.
    ///
    /// # Panics
    /// When the file system refuses.
    pub fn new(mode: &'static str) -> Self {
        Self::seen(mode, "notify")
    }

    /// The same for jobs that see their mounts as `--view` says.
    ///
    /// # Panics
    /// When the file system refuses.
    pub fn seen(mode: &'static str, view: &'static str) -> Self {
        let world = World::new();
        let mut base = world.path("at");
        for _ in 0..DEPTH {
            base.push("s");
        }
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(world.path(""), everybody).expect("let others in");
        let place = Self { world, base, mode, view };
        place.plant();
        place.world.ingest(place.world.path("src"), "tree");
        place.world.ingest(place.world.path("src2"), "tree2");
        place
    }

    /// The projected tree: the sample of all tests, and what only the oracle wants to know.
    fn plant(&self) {
        let dir = self.world.path("src");
        tree::sample(&dir);
        // Not out of the place: there the two sides need not be on the same mounts.
        fs::remove_file(dir.join("out")).expect("the sample's link");
        let base = self.base.as_os_str().as_bytes();
        let at = |rest: &[u8]| OsString::from(std::ffi::OsStr::from_bytes(&[base, rest].concat()));
        // In a user namespace, which makes the kernel's side for ordinary users, what belongs to
        // others has another owner.
        let root = rustix::process::getuid().is_root();
        let outside = |path: &str| OsString::from(if root { path } else { "../beside" });
        for (name, mode) in [
            ("noread", 0o000),
            ("wronly", 0o200),
            ("setid", 0o6755),
            ("xonly", 0o111),
            ("all", 0o777),
        ] {
            fs::write(dir.join(name), format!("content of {name}\n")).expect("write");
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
        }
        for name in ["noenter", "nolist", "closed"] {
            fs::create_dir(dir.join(name)).expect("mkdir");
            fs::write(dir.join(name).join("f"), "inside\n").expect("write");
        }
        for (target, name) in [
            ("../beside".into(), "leave"),
            ("../beside/sub".into(), "out"),
            ("../beside/file".into(), "leave-file"),
            ("../beside/none".into(), "leave-none"),
            ("../mnt/f".into(), "return"),
            ("../beside/into/d".into(), "return-real"),
            (at(b"/beside"), "leave-abs"),
            (at(b"/mnt/d/e"), "abs"),
            (at(b"/mnt2"), "other"),
            ("..".into(), "above"),
            ("none/x/y".into(), "dangling-deep"),
            ("f/x".into(), "through-file"),
            ("d/".into(), "dir-slash"),
            ("d/.".into(), "dir-dot"),
            ("./d/../d/./e/".into(), "dir-winding"),
            (outside("/"), "top"),
            ("../beside/sub".into(), "null"),
            ("/proc/self/cwd".into(), "cwd"),
            (format!("{}f", "./".repeat(2047)).into(), "long-target"),
        ] as [(OsString, &str); 19]
        {
            symlink(target, dir.join(name)).expect("symlink");
        }
        tree::numbered(&dir.join("many"), 300);
        tree::stamp(&dir);
        // The store must be able to read what others must not; root reads it all.
        for (name, mode) in [("noenter", 0o666), ("nolist", 0o311), ("closed", 0o000)] {
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
        }
        if !root {
            for name in ["noread", "wronly", "xonly", "noenter", "nolist", "closed"] {
                let mode = if dir.join(name).is_dir() { 0o755 } else { 0o644 };
                fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode))
                    .expect("chmod");
            }
        }
        let second = self.world.path("src2");
        fs::create_dir_all(second.join("d")).expect("mkdir");
        fs::write(second.join("f"), "the other f\n").expect("write");
        fs::write(second.join("g"), "hello\n").expect("write"); // the content of mnt/f
        symlink("../mnt/d", second.join("across")).expect("symlink");
        tree::stamp(&second);
    }

    /// The real directories anew, for both sides.
    fn refresh(&self) {
        for top in ["at", "native"] {
            let top = self.world.path(top);
            if top.exists() {
                let _ =
                    std::process::Command::new("chmod").args(["-R", "u+rwX"]).arg(&top).output();
                fs::remove_dir_all(&top).expect("remove the last real directories");
            }
            let base = top.join(self.base.strip_prefix(self.world.path("at")).expect("below at"));
            for dir in ["mnt", "mnt2", "w/dir/sub", "w/empty", "beside/sub"] {
                fs::create_dir_all(base.join(dir)).expect("mkdir");
            }
            fs::write(base.join("w/file"), "real file\n").expect("write");
            fs::write(base.join("w/exe"), "#!/bin/sh\necho real $0\n").expect("write");
            fs::set_permissions(base.join("w/exe"), fs::Permissions::from_mode(0o755))
                .expect("chmod");
            fs::write(base.join("w/dir/file"), "deeper\n").expect("write");
            fs::write(base.join("beside/file"), "beside\n").expect("write");
            for (target, name) in [
                ("../mnt", "w/in"),
                ("../mnt/f", "w/in-f"),
                ("../mnt/nothing", "w/in-none"),
                ("in/d", "w/in-twice"),
                ("../mnt", "beside/into"),
                ("file", "w/link"),
                ("nowhere", "w/dangling"),
                ("../beside", "w/side"),
            ] {
                symlink(target, base.join(name)).expect("symlink");
            }
            for dir in ["w", "w/dir", "beside"] {
                let everybody = fs::Permissions::from_mode(0o777);
                fs::set_permissions(base.join(dir), everybody).expect("let others in");
            }
        }
    }

    /// Runs the sequences on both sides, and gives what each said.
    ///
    /// # Errors
    /// Why this machine can't be its own oracle: a sentence for [`skip!`](crate::skip!).
    ///
    /// # Panics
    /// When a side ends badly.
    pub fn ask(
        &self,
        (guest, who): (&Path, Who),
        sequences: &[Sequence],
    ) -> Result<[Answers; 2], String> {
        super::possible()?;
        self.refresh();
        let text = write(sequences, &self.base);
        let argv = become_who((guest, who), &self.base);
        let (kernel, projected) = std::thread::scope(|scope| {
            let kernel = scope.spawn(|| self.kernel(&argv).stdin(&text).run());
            let projected = self.projected(&argv).stdin(&text).run();
            (kernel.join().expect("the kernel's side"), projected)
        });
        Ok([self.answers(&kernel, sequences), self.answers(&projected, sequences)])
    }

    fn answers(&self, outcome: &Outcome, sequences: &[Sequence]) -> Answers {
        assert!(outcome.status.success(), "a side ended badly: {outcome}");
        // Both sides would agree about a call that the guest doesn't know, and nothing be compared.
        assert!(outcome.stderr.is_empty(), "the guest was not understood: {outcome}");
        parse(&outcome.stdout, sequences)
    }

    fn kernel(&self, command: &[OsString]) -> Job {
        let mut argv: Vec<OsString> = super::unshare().iter().map(OsString::from).collect();
        argv.extend(["sh", "-c", KERNEL_SIDE, "sh"].map(OsString::from));
        let place = |name: &str| OsString::from(self.world.path(name));
        argv.extend([place("native"), place("at"), place("src"), self.base.join("mnt").into()]);
        argv.extend([place("src2"), self.base.join("mnt2").into()]);
        argv.extend_from_slice(command);
        contained(&self.world, &self.base, argv)
    }

    fn projected(&self, command: &[OsString]) -> Job {
        let mut argv: Vec<OsString> = vec![binaries::vrift_trace().into(), "--quiet".into()];
        argv.extend(["--view", self.view].map(OsString::from));
        for (at, name) in [("mnt", "tree"), ("mnt2", "tree2")] {
            let mut mount = OsString::from(self.base.join(at));
            mount.push(format!("={name},mode={}", self.mode));
            argv.extend(["-m".into(), mount]);
        }
        argv.push("--".into());
        argv.extend_from_slice(command);
        contained(&self.world, &self.base, argv)
    }

    /// The store and its trees are as they were: for a test that wants to know before the end.
    pub fn damage(&self) -> Vec<String> {
        self.world.damage()
    }
}
