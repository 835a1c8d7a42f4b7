//! Work done in a source tree itself: natively in a copy at a path, then over an overlay of the same
//! tree at that path, and what each left compared whole.
//!
//! `VRIFT_IN_PLACE=plain` makes the second side a plain copy too: what differs then is the tool's;
//! `VRIFT_IN_PLACE=mount` has all of it by `--view mount`.

use crate::builds::Site;
use crate::job::{Job, Outcome};
use crate::oracle::whole::{self, Without};
use crate::world::World;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A tree in a store, and the path where it is worked on.
#[derive(Debug)]
pub struct Ground {
    /// The store, and the directories beside.
    pub world: World,
    site: Site,
    mounted: bool,
}

impl Ground {
    /// Ingests `source` without what `excluded` names.
    ///
    /// # Panics
    /// When it can't be ingested.
    pub fn new(name: &str, source: &Path, excluded: &[&str]) -> Self {
        let world = World::new();
        let mut ingest = world.vrift(["ingest", "--name", "tree"]).arg(source);
        for glob in excluded {
            ingest = ingest.args(["--exclude", glob]);
        }
        ingest.timeout(300).run().ok();
        world.remember();
        let site = Site::new(&world, name);
        let mounted = second_side("mount");
        Self { world, site, mounted }
    }

    /// The overlay is seen as a file system.
    #[must_use]
    pub fn mounted(self) -> Self {
        Self { mounted: true, ..self }
    }

    /// Where the tree is, natively and projected.
    pub fn at(&self) -> &Path {
        &self.site.at
    }

    /// Puts a plain copy there.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn make_plain(&self) {
        // It may have been mounted on.
        let _ = fs::remove_dir(self.at());
        fs::create_dir_all(self.at().parent().expect("a parent")).expect("the site's parent");
        self.world.vrift(["export", "tree"]).arg(self.at()).timeout(300).run().ok();
    }

    /// Moves the plain copy away, and gives where it is then: where a tree is projected nothing
    /// exists.
    ///
    /// # Panics
    /// When it can't be moved.
    pub fn set_aside(&self) -> PathBuf {
        let aside = self.world.path("plain");
        if fs::rename(self.at(), &aside).is_err() {
            // The site may be on another file system than the store.
            Job::new(["mv"]).arg(self.at()).arg(&aside).timeout(300).run().ok();
        }
        let _ = fs::remove_dir(self.at().parent().expect("a parent"));
        assert!(!self.at().exists(), "the plain tree is still there: nothing would be tested");
        aside
    }

    /// A shell script in the plain tree.
    pub fn plain(&self, script: &str) -> Job {
        settled(self.world.native(["sh", "-ec"]).arg(within(self.at(), script)))
    }

    /// The same in an overlay; `more` is what the mount says besides its mode.
    pub fn overlay(&self, more: &str, script: &str) -> Job {
        if second_side("plain") {
            if !self.at().exists() {
                self.make_plain();
            }
            return self.plain(script);
        }
        let reference = format!("tree,mode=overlay{more}");
        let argv: [OsString; 3] = ["sh".into(), "-ec".into(), within(self.at(), script)];
        if self.mounted {
            fs::create_dir_all(self.at()).expect("the mount point");
            return settled(self.world.trace_mounted(&[(self.at(), &reference)], argv));
        }
        settled(self.world.trace(&[(self.at(), &reference)], argv))
    }

    /// The tree that a job committed as `reference`.
    ///
    /// # Panics
    /// When it can't be exported.
    pub fn exported(&self, reference: &str) -> PathBuf {
        let out = self.world.path(format!("exported-{reference}"));
        if second_side("plain") {
            Job::new(["mv"]).arg(self.at()).arg(&out).timeout(300).run().ok();
            return out;
        }
        self.world.vrift(["export", reference]).arg(&out).timeout(300).run().ok();
        out
    }

    /// Runs `script` on both sides, and compares what it said and what it left, which is committed.
    ///
    /// # Panics
    /// When anything differs.
    #[track_caller]
    pub fn same(&self, script: &str, without: Without<'_>) -> [Outcome; 2] {
        self.make_plain();
        let plain = self.plain(script).run().ok();
        let left = self.set_aside();
        self.empty_tmp();
        let projected = self.overlay(",commit=after", script).run().ok();
        assert_eq!(plain.out(), projected.out(), "{projected}");
        whole::assert_same(&left, &self.exported("after"), without);
        assert_eq!(self.world.damage(), Vec::<String>::new());
        [plain, projected]
    }

    /// Runs `script` once more over an overlay whose changes are thrown away: nothing of them may
    /// be left, neither in the store nor where temporary files are.
    ///
    /// # Panics
    /// When a byte is left.
    #[track_caller]
    pub fn leaves_nothing(&self, script: &str) {
        if second_side("plain") {
            return;
        }
        self.empty_tmp();
        // That a large blob was found to be whole is remembered when its times have settled,
        // whatever a job does.
        let store = || {
            let mut all = whole::entries(&self.world.store(), Without::default());
            all.retain(|path, _| !path.starts_with("checked"));
            all
        };
        let before = store();
        self.overlay("", script).run().ok();
        let after = store();
        assert_eq!(before, after, "the store after a job that was thrown away");
        assert_eq!(fs::read_dir(self.world.path("tmp")).expect("tmp").count(), 0);
        if self.mounted {
            fs::remove_dir(self.at()).expect("an empty mount point");
        }
        assert!(!self.at().exists(), "{} is left", self.at().display());
        assert_eq!(self.world.damage(), Vec::<String>::new());
    }

    /// What a script left in its temporary directory would be there for the next.
    fn empty_tmp(&self) {
        let tmp = self.world.path("tmp");
        let _ = Job::new(["chmod", "-R", "u+rwX"]).arg(&tmp).run();
        fs::remove_dir_all(&tmp).and_then(|()| fs::create_dir(&tmp)).expect("tmp");
    }
}

fn second_side(what: &str) -> bool {
    std::env::var_os("VRIFT_IN_PLACE").is_some_and(|v| v == what)
}

fn within(at: &Path, script: &str) -> OsString {
    let mut text = OsString::from("cd \"");
    text.push(at);
    text.push("\"\n");
    text.push(script);
    text
}

/// What else would differ from run to run: the time of day in what is built, and git's identity.
fn settled(job: Job) -> Job {
    let mut job = job.env("SOURCE_DATE_EPOCH", "1700000000").timeout(600);
    for who in ["AUTHOR", "COMMITTER"] {
        job = job
            .env(format!("GIT_{who}_NAME"), "Somebody")
            .env(format!("GIT_{who}_EMAIL"), "somebody@example.invalid")
            .env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    job
}
