//! Describes a job to the shim, as who starts one does: stores the tree DIR/tree, and makes the
//! job's private directory DIR/private with its file. `scripts/macos` emulates the shim over it.
//!
//! `cargo run -p vrift-macos-es --example job -- DIR AT LIBRARY observe|clone|refuse`

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vrift_macos_es::job::Job;
use vrift_policy::Restricted;
use vrift_store::{IngestOptions, Progress, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [dir, at, library, restricted] = arguments.as_slice() else {
        return Err("four arguments: DIR AT LIBRARY observe|clone|refuse".into());
    };
    let known = |one: &Restricted| restricted.to_str() == Some(one.as_str());
    let restricted = Restricted::ALL.into_iter().find(known).ok_or("observe, clone or refuse")?;
    let dir = Path::new(dir).canonicalize()?;
    let (root, private) = (dir.join("store"), dir.join("private"));
    let store = Store::open_or_create(&root)?;
    let done = store.ingest(&dir.join("tree"), &IngestOptions::default(), &Progress::default())?;
    let manifest: PathBuf = root.join("manifests").join(done.manifest.to_string());
    for part in ["d", "c"] {
        std::fs::create_dir_all(private.join(part))?;
    }
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let (manifest, root, inside) = (bytes(&manifest), bytes(&root), bytes(&private));
    let mounts: [(&[u8], &[u8]); 1] = [(&manifest, at.as_bytes())];
    let job = Job::write((&root, &inside, library.as_bytes()), restricted, &mounts);
    std::fs::write(private.join("job"), job)?;
    Ok(())
}
