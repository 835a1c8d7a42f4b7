//! A job, before it is started: what its policy asks for, the mounts, and the file that tells the shim
//! of them.

use crate::Complaint;
use crate::means::{Means, Wants};
use crate::private::{self, Private};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vrift_macos_es::job::Job as JobFile;
use vrift_policy::{Mode, MountSpec, OnLeftover, Policy};
use vrift_projection::{MountSource, Projection, RealKind};
use vrift_store::{Manifest, Store};

/// What is to be run, and how.
#[derive(Debug)]
pub struct Asked {
    /// The policy.
    pub policy: Policy,
    /// The mounts, the policy's and those of the command line.
    pub mounts: Vec<MountSpec>,
    /// The store's root, where one is named.
    pub store: Option<PathBuf>,
    /// Where the trace goes.
    pub trace: Option<PathBuf>,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

impl Asked {
    /// What that takes.
    #[must_use]
    pub fn wants(&self) -> Wants {
        Wants {
            mounts: !self.mounts.is_empty(),
            rules: !self.policy.rules.is_empty(),
            trace: self.trace.is_some(),
        }
    }

    /// The first thing that it asks for and that isn't there on macOS.
    #[must_use]
    pub fn unsupported(&self) -> Option<Complaint> {
        let mounts = self.mounts.iter().flat_map(|mount| {
            let mode = (mount.mode != Mode::ReadOnly).then(|| {
                format!(
                    "{}: mode \"{}\" isn't there on macOS: what a job changes has to be seen by all \
                     its processes, and the shim is in each by itself; use \"read-only\"",
                    mount.origin, mount.mode
                )
            });
            mode.into_iter().chain(mount.unsupported())
        });
        let rules = self.policy.rules.iter().filter(|rule| rule.enforce.is_some()).map(|rule| {
            format!(
                "{}: `enforce` is about Landlock, which macOS hasn't; leave it out: Endpoint Security \
                 answers in the kernel's stead",
                rule.origin
            )
        });
        let wait = (self.policy.job.on_leftover == OnLeftover::Wait).then(|| {
            "the policy's job.on_leftover = \"wait\" isn't there on macOS: nobody is told of all \
             processes; have the command wait for them"
                .to_owned()
        });
        mounts.chain(rules).chain(wait).next()
    }
}

/// A mount that can be made.
#[derive(Debug)]
pub struct Mounted {
    /// As it was asked for.
    pub spec: MountSpec,
    /// What is mounted.
    pub manifest: Arc<Manifest>,
}

/// What a job with mounts stands on.
#[derive(Debug)]
pub struct Ground {
    /// The store's root, without links.
    pub store: PathBuf,
    /// The mounts.
    pub mounts: Vec<Mounted>,
    /// The job's own directory; removed when dropped.
    pub private: Private,
}

/// Opens the store and what is mounted. `user`: whose the job's processes are, if not this one's.
///
/// # Errors
/// One line: what can't be had, and what to do.
pub fn open(asked: &Asked, user: Option<(u32, u32)>) -> Result<Ground, Complaint> {
    let root = match &asked.store {
        Some(root) => root.clone(),
        None => Store::default_root().map_err(|e| e.to_string())?,
    };
    let told = |e: vrift_store::StoreError| e.to_string();
    Store::open(&root).map_err(told)?;
    let physical = root.canonicalize().map_err(|e| format!("{}: {e}", root.display()))?;
    // By the path that the shim will know it by.
    let store = Store::open(&physical).map_err(told)?;
    let mounts = asked.mounts.iter().map(|spec| mounted(&store, spec));
    let mounts = mounts.collect::<Result<Vec<_>, _>>()?;
    // The shim makes the same one, and could only end each process with what is wrong with it.
    let sources = mounts.iter().map(|mount| MountSource {
        at: mount.spec.at.clone(),
        manifest: Arc::clone(&mount.manifest),
        mode: Mode::ReadOnly,
        overlay: None,
    });
    Projection::new(sources.collect(), &probe).map_err(|e| e.to_string())?;
    let bases = [private::of_store(&physical), std::env::temp_dir()];
    let private = Private::create(&bases, user)
        .map_err(|e| format!("no place for the job's own directory: {e}; make one writable"))?;
    Ok(Ground { store: physical, mounts, private })
}

fn mounted(store: &Store, spec: &MountSpec) -> Result<Mounted, Complaint> {
    let at = spec.at.display();
    let name = spec.manifest.to_str().ok_or_else(|| {
        format!("mount at {at}: {:?} is not UTF-8, and no ref is called so", spec.manifest)
    })?;
    let manifest = store.open_manifest(name).map_err(|e| format!("mount at {at}: {e}"))?;
    let origin = store.origin(&manifest.id()).map_err(|e| format!("mount at {at}: {e}"))?;
    if origin.is_some() {
        return Err(format!(
            "mount at {at}: {name} was pulled without its contents, which only jobs on Linux fetch as \
             they are opened; pull it again without --lazy"
        ));
    }
    // The shim opens it by its path, from wherever the process is.
    if !manifest.path().is_absolute() {
        return Err(format!("mount at {at}: give {name} by its absolute path"));
    }
    Ok(Mounted { spec: spec.clone(), manifest: Arc::new(manifest) })
}

fn probe(path: &Path) -> RealKind {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => RealKind::Directory,
        Ok(found) if found.is_symlink() => RealKind::Symlink,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => RealKind::Missing,
        Ok(_) | Err(_) => RealKind::Other,
    }
}

impl Ground {
    /// Writes the file that the shim reads; where it is.
    ///
    /// # Errors
    /// It can't be written.
    pub fn describe(&self, asked: &Asked, library: &Path) -> Result<PathBuf, Complaint> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let mounts: Vec<_> = self
            .mounts
            .iter()
            .map(|mount| (bytes(mount.manifest.path()), bytes(&mount.spec.at)))
            .collect();
        let mounts: Vec<(&[u8], &[u8])> =
            mounts.iter().map(|(manifest, at)| (manifest.as_slice(), at.as_slice())).collect();
        let places = (&*bytes(&self.store), &*bytes(self.private.root()), &*bytes(library));
        let text = JobFile::write(places, asked.policy.macos.restricted, &mounts);
        let file = self.private.root().join("job");
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(file)
    }
}

/// Whose the job's processes are, if not those of who runs this program: a client of Endpoint Security
/// has to be root, a build need not. `sudo` tells who called it.
#[must_use]
pub fn user(own: u32, means: &Means, sudo: (Option<&str>, Option<&str>)) -> Option<(u32, u32)> {
    let number = |text: Option<&str>| text?.parse::<u32>().ok();
    let (uid, gid) = (number(sudo.0)?, number(sudo.1)?);
    (own == 0 && means.endpoint && uid != 0).then_some((uid, gid))
}
