//! Jobs that see their mounts as file systems (`--view mount`).

use crate::{World, tree};
use std::fs::File;
use std::path::PathBuf;

/// Whether this machine can mount a FUSE file system for a job of this user.
///
/// # Errors
/// Why not: a sentence for [`skip!`](crate::skip!).
pub fn possible() -> Result<(), String> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    device.map_err(|e| format!("/dev/fuse can't be opened: {e} (udev makes it mode 0666)"))?;
    // A namespace like the job's own.
    crate::oracle::possible()
}

/// A world with the sample tree in the store as `t`, and a directory to mount it on.
pub fn world() -> (World, PathBuf) {
    let world = World::new();
    tree::sample(&world.path("src"));
    world.ingest(world.path("src"), "t");
    let p = world.dir("p");
    (world, p)
}
