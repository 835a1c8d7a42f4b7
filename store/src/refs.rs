//! Refs: names for manifests, one small file each, replaced in one step.
//!
//! A name is a path below `refs/`, so `toolchain/gcc-12` is fine and a ref can't also be another's
//! directory. Who changes one holds a lock on the directory `refs` meanwhile; who reads needs none.
//! What must never happen here: a name that leads out of `refs/`, or that could be taken for a hash
//! or an option; a ref moved by two who both believe that it was theirs.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, FileType, FlockOperation};
use rustix::io::Errno;

use crate::error::StoreError;
use crate::hash::Hash;
use crate::manifest::{Manifest, ManifestError};
use crate::publish::Draft;
use crate::store::Store;

/// A ref and what it names; an error when its file is damaged.
#[derive(Debug)]
pub struct Ref {
    /// Its name.
    pub name: String,
    /// The manifest's hash.
    pub target: Result<Hash, StoreError>,
}

/// Fewest digits of a hash that stand for it.
const PREFIX_MIN: usize = 8;

/// Checks a ref's name: see docs/STORE.md for the rules.
///
/// # Errors
/// [`StoreError::RefName`] with the rule that it breaks.
pub fn check_ref_name(name: &str) -> Result<(), StoreError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > 1024 || name.split('/').any(|part| part.len() > 200) {
        "it is too long"
    } else if name.starts_with('-') {
        "it begins with '-'"
    } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "no part between slashes may be empty, '.' or '..'"
    } else if name.contains(|c: char| c.is_control() || c.is_whitespace()) {
        "blanks and control characters aren't allowed"
    } else if name.contains([':', ',', '=', '*', '?', '[', '\\']) {
        "none of : , = * ? [ \\ is allowed"
    } else if name.parse::<Hash>().is_ok() {
        "it is a hash"
    } else {
        return Ok(());
    };
    Err(StoreError::RefName { name: name.to_owned(), why })
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// All refs, in byte order of their names.
    ///
    /// # Errors
    /// A directory can't be read.
    pub fn refs(&self) -> Result<Vec<Ref>, StoreError> {
        let mut refs = Vec::new();
        let mut dirs = vec!["refs".to_owned()];
        while let Some(dir) = dirs.pop() {
            for (name, kind) in self.list(&dir)? {
                // What isn't UTF-8 was never made by us.
                let Ok(name) = String::from_utf8(name) else { continue };
                let path = format!("{dir}/{name}");
                match kind {
                    FileType::Directory => dirs.push(path),
                    _ => {
                        let name = path["refs/".len()..].to_owned();
                        match self.ref_target(&name) {
                            Ok(None) => {} // removed meanwhile
                            Ok(Some(hash)) => refs.push(Ref { name, target: Ok(hash) }),
                            Err(error) => refs.push(Ref { name, target: Err(error) }),
                        }
                    }
                }
            }
        }
        refs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(refs)
    }

    /// What the ref `name` names; None when there is no such ref.
    ///
    /// # Errors
    /// The name isn't possible, or the ref can't be read.
    pub fn ref_target(&self, name: &str) -> Result<Option<Hash>, StoreError> {
        check_ref_name(name)?;
        let path = format!("refs/{name}");
        let Some(file) = self.open_file(&path)? else { return Ok(None) };
        let failed = |source: io::Error| StoreError::io("read", self.root().join(&path))(source);
        if file.metadata().map_err(failed)?.is_dir() {
            return Ok(None);
        }
        let mut text = String::new();
        let damaged = || StoreError::DamagedRef { name: name.to_owned() };
        file.take(100).read_to_string(&mut text).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => damaged(),
            _ => failed(error),
        })?;
        let hash = text.strip_suffix('\n').and_then(|text| text.parse().ok());
        hash.map(Some).ok_or_else(damaged)
    }

    /// Makes `name` name the manifest `target`, whatever it named before; durable on return.
    ///
    /// # Errors
    /// The name isn't possible, another ref stands in its way, or it can't be written.
    pub fn set_ref(&self, name: &str, target: &Hash) -> Result<(), StoreError> {
        check_ref_name(name)?;
        let draft = self.draft_ref(target)?;
        let _lock = self.lock_refs()?;
        self.place_ref(name, draft)
    }

    /// Makes `name` name the manifest `target` if it still names `expected` (None: if there is no
    /// such ref); durable on return. Of several movers that expect the same, in any threads and
    /// processes, one succeeds. A ref that names `target` already is as it was asked for.
    ///
    /// # Errors
    /// [`StoreError::RefMoved`] when it names something else, and what [`Store::set_ref`] and
    /// [`Store::ref_target`] fail with; the ref is left as it was.
    pub fn move_ref(
        &self,
        name: &str,
        expected: Option<&Hash>,
        target: &Hash,
    ) -> Result<(), StoreError> {
        check_ref_name(name)?;
        let draft = self.draft_ref(target)?;
        let _lock = self.lock_refs()?;
        let found = self.ref_target(name)?;
        if found.as_ref() != expected && found.as_ref() != Some(target) {
            let (name, expected) = (name.to_owned(), expected.copied());
            return Err(StoreError::RefMoved { name, expected, found });
        }
        self.place_ref(name, draft)
    }

    /// Waits until nobody else changes a ref; nobody does as long as the result lives.
    pub(crate) fn lock_refs(&self) -> Result<OwnedFd, StoreError> {
        self.lock_dir("refs", FlockOperation::LockExclusive)
    }

    /// Waits until it is on the disk which refs there are, and which changes are kept.
    pub(crate) fn sync_names(&self) -> Result<(), StoreError> {
        let mut dirs = vec!["refs".to_owned()];
        while let Some(dir) = dirs.pop() {
            for (name, kind) in self.list(&dir)? {
                if let (FileType::Directory, Ok(name)) = (kind, String::from_utf8(name)) {
                    dirs.push(format!("{dir}/{name}"));
                }
            }
            self.sync_dir(&dir)?;
        }
        match self.sync_dir("uppers") {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            result => result,
        }
    }

    /// A ref's file, on the disk but without its name: so the lock is held for a moment only.
    fn draft_ref(&self, target: &Hash) -> Result<Draft<'_>, StoreError> {
        let mut draft = Draft::named(self)?;
        draft.write(format!("{target}\n").as_bytes())?;
        draft.sync()?;
        Ok(draft)
    }

    /// Gives the file its name, with the lock held.
    fn place_ref(&self, name: &str, draft: Draft<'_>) -> Result<(), StoreError> {
        let path = format!("refs/{name}");
        self.make_ref_parents(name)?;
        self.clear_way(name)?;
        draft.replace(&path)?;
        self.sync_dir(path.rsplit_once('/').map_or("refs", |(parent, _)| parent))
    }

    fn make_ref_parents(&self, name: &str) -> Result<(), StoreError> {
        for (at, _) in name.match_indices('/') {
            self.make_dir(&format!("refs/{}", &name[..at]))?;
            if let Some(other) = self.ref_target(&name[..at]).transpose() {
                let (name, other_name) = (name.to_owned(), name[..at].to_owned());
                return match other {
                    Err(error) if !matches!(error, StoreError::DamagedRef { .. }) => Err(error),
                    _ => Err(StoreError::RefConflict { name, other: other_name }),
                };
            }
        }
        Ok(())
    }

    /// Removes the empty directories that stand where the ref `name` should; refs among them are
    /// a conflict.
    fn clear_way(&self, name: &str) -> Result<(), StoreError> {
        let path = format!("refs/{name}");
        match fs::statat(self.root_fd(), &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            _ => return Ok(()), // replacing it tells what else is wrong
        }
        let below = format!("{name}/");
        if let Some(other) = self.refs()?.into_iter().find(|other| other.name.starts_with(&below)) {
            return Err(StoreError::RefConflict { name: name.to_owned(), other: other.name });
        }
        let mut dirs = vec![path];
        let mut at = 0;
        while let Some(dir) = dirs.get(at).cloned() {
            for (name, kind) in self.list(&dir)? {
                if let (FileType::Directory, Ok(name)) = (kind, String::from_utf8(name)) {
                    dirs.push(format!("{dir}/{name}"));
                }
            }
            at += 1;
        }
        for dir in dirs.iter().rev() {
            match fs::unlinkat(self.root_fd(), dir, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(StoreError::io("remove directory", self.root().join(dir))(errno));
                }
            }
        }
        Ok(())
    }

    /// Removes the ref `name`; its manifest and blobs stay.
    ///
    /// # Errors
    /// There is no such ref, or it can't be removed.
    pub fn remove_ref(&self, name: &str) -> Result<(), StoreError> {
        check_ref_name(name)?;
        let path = format!("refs/{name}");
        // Else its directory could go while someone sets another ref in it.
        let _lock = self.lock_refs()?;
        match fs::unlinkat(self.root_fd(), &path, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {
                return Err(self.unknown(name.as_bytes()));
            }
            Err(errno) => return Err(StoreError::io("remove", self.root().join(&path))(errno)),
        }
        // Directories that held only this ref go with it; one that isn't empty stops the loop.
        let mut dir = path.as_str();
        while let Some((parent, _)) = dir.rsplit_once('/') {
            if parent == "refs" || fs::unlinkat(self.root_fd(), parent, AtFlags::REMOVEDIR).is_err()
            {
                break;
            }
            dir = parent;
        }
        Ok(())
    }

    fn unknown(&self, spec: &[u8]) -> StoreError {
        StoreError::Unknown { spec: spec.to_owned(), root: self.root().to_owned() }
    }

    /// Finds the manifest that `spec` means: a ref, a hash, at least eight digits of one, or the
    /// path of a manifest file.
    ///
    /// # Errors
    /// Nothing or more than one thing fits, or what fits is damaged.
    pub fn resolve(&self, spec: &str) -> Result<Hash, StoreError> {
        if check_ref_name(spec).is_ok()
            && let Some(hash) = self.ref_target(spec)?
        {
            return Ok(hash);
        }
        if let Ok(hash) = spec.parse::<Hash>() {
            return Ok(hash);
        }
        if is_digits(spec)
            && (PREFIX_MIN..64).contains(&spec.len())
            && let Some(hash) = self.resolve_prefix(spec)?
        {
            return Ok(hash);
        }
        match Manifest::open(spec.as_ref()) {
            Ok(manifest) => Ok(manifest.id()),
            Err(ManifestError::Open { source, .. })
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL | libc::ENAMETOOLONG)
                ) =>
            {
                Err(self.unknown(spec.as_bytes()))
            }
            // A file or directory that merely has the name of the ref that was meant.
            Err(ManifestError::NotAManifest { .. }) if !spec.contains('/') => {
                Err(self.unknown(spec.as_bytes()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn resolve_prefix(&self, prefix: &str) -> Result<Option<Hash>, StoreError> {
        let names = self.list("manifests")?;
        let fits = names.iter().filter(|(name, _)| name.starts_with(prefix.as_bytes()));
        let fits: Vec<Hash> =
            fits.filter_map(|(name, _)| std::str::from_utf8(name).ok()?.parse().ok()).collect();
        match fits[..] {
            [] => Ok(None),
            [hash] => Ok(Some(hash)),
            _ => Err(StoreError::Ambiguous { prefix: prefix.to_owned(), count: fits.len() }),
        }
    }

    /// Opens the manifest that `spec` means (see [`Store::resolve`]); the path of a manifest file
    /// need not lie in this store.
    ///
    /// # Errors
    /// As [`Store::resolve`] and [`Store::manifest`].
    pub fn open_manifest(&self, spec: &str) -> Result<Manifest, StoreError> {
        let mut hash = self.resolve(spec)?;
        loop {
            match self.manifest(&hash) {
                // The ref was moved since it was read, and what it named was collected.
                Err(StoreError::MissingManifest { .. }) => match self.resolve(spec)? {
                    now if now == hash => break,
                    now => hash = now,
                },
                result => return result,
            }
        }
        match self.manifest(&hash) {
            // Only a path can name what isn't in the store.
            Err(StoreError::MissingManifest { .. })
                if spec.contains('/') && self.ref_is_absent(spec) =>
            {
                Ok(Manifest::open(spec.as_ref())?)
            }
            result => result,
        }
    }

    fn ref_is_absent(&self, spec: &str) -> bool {
        !matches!(self.ref_target(spec), Ok(Some(_)))
    }
}
