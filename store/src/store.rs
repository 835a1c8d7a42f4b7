//! The store's root directory: where it is, whether it is one, and how its blobs and manifests are
//! found.
//!
//! In: a path. Out: open blobs and manifests, relative to one descriptor of the root, so that a
//! later chdir or rename changes nothing. What must never happen here: a directory of the user
//! that merely looks empty or odd is taken over as a store.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::hold;
use crate::manifest::Manifest;
use crate::platform;
use crate::publish::{Draft, Published};

/// What the `format` file says.
const FORMAT: &[u8] = b"vrift store 1\n";
/// The moment of the call, for utimensat(2).
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
/// What `open_or_create` makes; `exec` and `jobs` belong to the supervisor.
const MADE: [&str; 4] = ["blobs", "manifests", "refs", "tmp"];

/// An open store. Methods work on `&self` from any thread; any number of processes may use one
/// store at once.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: OwnedFd,
    /// Cleared when the file system has no O_TMPFILE.
    pub(crate) tmpfile: std::sync::atomic::AtomicBool,
    /// Devices whose files can't share extents with the store's.
    no_clone: RwLock<HashSet<u64>>,
}

/// Number in `(device, inode)` form, to know a file again whatever its path.
pub(crate) type FileId = (u64, u64);

impl Store {
    /// All directories that may stand in a store's root. Besides them there is the file `format`.
    pub const DIRECTORIES: [&str; 10] = [
        "blobs",
        "manifests",
        "refs",
        "tmp",
        "checked",
        "exec",
        "jobs",
        "quarantine",
        "uppers",
        "origins",
    ];

    /// Where the user's store is: `VR_THE_SOURCE`, else `$XDG_DATA_HOME/vrift/the_source`, else
    /// `~/.local/share/vrift/the_source`.
    ///
    /// # Errors
    /// [`StoreError::NoRoot`] when the environment says nothing.
    pub fn default_root() -> Result<PathBuf, StoreError> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(root) = var("VR_THE_SOURCE") {
            return Ok(root.into());
        }
        // The XDG specification has relative paths ignored.
        let data = var("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let data =
            data.or_else(|| var("HOME").map(|home| PathBuf::from(home).join(".local/share")));
        Ok(data.ok_or(StoreError::NoRoot)?.join("vrift/the_source"))
    }

    /// Opens the store at `root` for reading, and for whatever its modes allow.
    ///
    /// # Errors
    /// There is none, or it isn't one this program knows.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let store = Self::open_root(root)?;
        match store.read_format()? {
            Some(()) => Ok(store),
            None => Err(StoreError::NotAStore {
                path: root.to_owned(),
                what: "it has no `format` file",
            }),
        }
    }

    /// Opens the store at `root`, or makes one there if there is nothing or an empty directory.
    /// Two processes may do so at once, and one that was killed meanwhile does no harm.
    ///
    /// # Errors
    /// Something else is there, or a directory can't be made.
    pub fn open_or_create(root: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(root).map_err(StoreError::io("create the store", root))?;
        let store = Self::open_root(root)?;
        if store.read_format()?.is_none() {
            store.refuse_foreign_entries()?;
            for dir in MADE {
                store.make_dir(dir)?;
            }
            // Last, and in one step: a store with a `format` file is complete.
            let mut draft = Draft::new(&store)?;
            draft.write(FORMAT)?;
            draft.publish("format")?;
        }
        Ok(store)
    }

    fn open_root(root: &Path) -> Result<Store, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(CWD, root, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => StoreError::Missing { path: root.to_owned() },
            Errno::NOTDIR => {
                StoreError::NotAStore { path: root.to_owned(), what: "it is not a directory" }
            }
            errno => StoreError::io("open the store", root)(errno),
        })?;
        Ok(Store {
            path: root.to_owned(),
            root: fd,
            tmpfile: true.into(),
            no_clone: RwLock::default(),
        })
    }

    fn read_format(&self) -> Result<Option<()>, StoreError> {
        let Some(mut file) = self.open_file("format")? else { return Ok(None) };
        let mut found = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut file, 100), &mut found)
            .map_err(StoreError::io("read", self.path.join("format")))?;
        if found == FORMAT {
            return Ok(Some(()));
        }
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        Err(StoreError::Version { path: self.path.clone(), found })
    }

    fn refuse_foreign_entries(&self) -> Result<(), StoreError> {
        let foreign = self.list("")?.iter().any(|(name, _)| {
            name != b"format" && !Self::DIRECTORIES.iter().any(|dir| dir.as_bytes() == name)
        });
        if foreign {
            let what = "it has no `format` file and holds other things";
            return Err(StoreError::NotAStore { path: self.path.clone(), what });
        }
        Ok(())
    }

    /// The root directory, as it was given.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.path
    }

    /// Where a blob stands, relative to the root.
    #[must_use]
    pub fn blob_path(hash: &Hash) -> PathBuf {
        blob_name(hash).into()
    }

    /// Opens a blob for reading. Its content isn't checked here: [`is_whole`](Store::is_whole).
    ///
    /// # Errors
    /// The blob is missing or can't be opened.
    pub fn open_blob(&self, hash: &Hash) -> Result<File, StoreError> {
        let missing = || StoreError::MissingBlob { hash: *hash, root: self.path.clone() };
        self.open_file(&blob_name(hash))?.ok_or_else(missing)
    }

    /// Opens the manifest named `hash`. As long as it is open no collection removes it, nor any blob
    /// that it names.
    ///
    /// # Errors
    /// It is missing, damaged, or under the wrong name.
    pub fn manifest(&self, hash: &Hash) -> Result<Manifest, StoreError> {
        let name = manifest_name(hash);
        let missing = || StoreError::MissingManifest { hash: *hash, root: self.path.clone() };
        let file = self.open_file(&name)?.ok_or_else(missing)?;
        let path = self.path.join(name);
        if !hold::keep(&file).map_err(StoreError::io("lock", &path))? {
            return Err(missing());
        }
        let manifest = Manifest::from_file(&path, file)?;
        if manifest.id() != *hash {
            return Err(StoreError::MisnamedManifest { path, found: manifest.id() });
        }
        Ok(manifest)
    }

    /// The ids of all manifests, whole or not, in ascending order. What isn't named as one is none of ours.
    ///
    /// # Errors
    /// They can't be listed.
    pub fn manifests(&self) -> Result<Vec<Hash>, StoreError> {
        let names = self.list("manifests")?;
        Ok(names
            .iter()
            .filter_map(|(name, _)| std::str::from_utf8(name).ok()?.parse().ok())
            .collect())
    }

    /// Stores the bytes that a `ManifestBuilder` made, durably, and says whether they were new.
    ///
    /// # Errors
    /// They can't be written.
    pub fn put_manifest(&self, bytes: &[u8], id: &Hash) -> Result<bool, StoreError> {
        let name = manifest_name(id);
        if self.has_file(&name, bytes.len() as u64)? {
            // Wanted again: its time of grace begins anew. Only its owner may say so.
            let now = Timestamps { last_access: NOW, last_modification: NOW };
            let _ = fs::utimensat(&self.root, &name, &now, AtFlags::SYMLINK_NOFOLLOW);
            return Ok(false);
        }
        let mut draft = Draft::new(self)?;
        draft.write(bytes)?;
        draft.sync()?;
        let new = draft.publish_or_repair(&name, bytes.len() as u64)? == Published::New;
        self.sync_dir("manifests")?;
        Ok(new)
    }

    /// Stores `content` as a blob if it isn't one yet, and says whether it was new. Not durable
    /// before [`Store::sync`].
    ///
    /// # Errors
    /// It can't be written.
    pub fn put_blob(&self, content: &[u8]) -> Result<(Hash, bool), StoreError> {
        let hash = Hash::of(content);
        Ok((hash, self.put_hashed(content, &hash)?))
    }

    pub(crate) fn put_hashed(&self, content: &[u8], hash: &Hash) -> Result<bool, StoreError> {
        if self.has_blob(hash, content.len() as u64)? {
            return Ok(false);
        }
        let mut draft = Draft::new(self)?;
        draft.write(content)?;
        Ok(draft.publish_or_repair(&blob_name(hash), content.len() as u64)? == Published::New)
    }

    /// Is there such a blob, of this size? One that a power failure cut short isn't one: it is
    /// written again.
    ///
    /// # Errors
    /// It can't be looked at.
    pub fn has_blob(&self, hash: &Hash, size: u64) -> Result<bool, StoreError> {
        self.has_file(&blob_name(hash), size)
    }

    pub(crate) fn has_file(&self, name: &str, size: u64) -> Result<bool, StoreError> {
        match fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && u64::try_from(stat.st_size) == Ok(size)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(StoreError::io("look at", self.path.join(name))(errno)),
        }
    }

    /// Waits until everything written so far is on the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> Result<(), StoreError> {
        platform::sync_file_system(self.root.as_fd())
            .map_err(StoreError::io("write to the disk", &self.path))
    }

    pub(crate) fn sync_dir(&self, name: &str) -> Result<(), StoreError> {
        let dir = self.open_dir(name)?;
        fs::fsync(&dir).map_err(StoreError::io("write to the disk", self.path.join(name)))
    }

    pub(crate) fn root_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub(crate) fn file_id(&self) -> Result<FileId, StoreError> {
        let stat =
            fs::fstat(&self.root).map_err(StoreError::io("look at the store", &self.path))?;
        Ok(platform::id_of(&stat))
    }

    /// May files of this device share extents with the store, as far as is known?
    pub(crate) fn may_clone(&self, device: u64) -> bool {
        !self.no_clone.read().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }

    /// Files of this device can't.
    pub(crate) fn never_clone(&self, device: u64) {
        self.no_clone.write().unwrap_or_else(PoisonError::into_inner).insert(device);
    }

    pub(crate) fn make_blob_dir(&self, hash: &Hash) -> Result<(), StoreError> {
        self.make_dir(&format!("blobs/{}", &hash.to_hex().as_str()[..2]))
    }

    pub(crate) fn make_dir(&self, name: &str) -> Result<(), StoreError> {
        match fs::mkdirat(&self.root, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(StoreError::io("make directory", self.path.join(name))(errno)),
        }
    }

    /// A regular file of the store; None when there is none of that name.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<File>, StoreError> {
        let flags =
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        match fs::openat(&self.root, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(StoreError::io("open", self.path.join(name))(errno)),
        }
    }

    pub(crate) fn open_dir(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let at = if name.is_empty() { "." } else { name };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        fs::openat(&self.root, at, flags, Mode::empty())
            .map_err(StoreError::io("open directory", self.path.join(name)))
    }

    /// The entries of a directory of the store, sorted; none when it doesn't exist.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<(Vec<u8>, FileType)>, StoreError> {
        let path = self.path.join(name);
        let dir = match self.open_dir(name) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            dir => dir?,
        };
        let mut entries = Vec::new();
        for entry in fs::Dir::new(dir).map_err(StoreError::io("list", &path))? {
            let entry = entry.map_err(StoreError::io("list", &path))?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                entries.push((name.to_bytes().to_vec(), entry.file_type()));
            }
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }
}

pub(crate) fn blob_name(hash: &Hash) -> String {
    let hex = hash.to_hex();
    format!("blobs/{}/{}", &hex.as_str()[..2], hex.as_str())
}

pub(crate) fn manifest_name(hash: &Hash) -> String {
    format!("manifests/{hash}")
}
