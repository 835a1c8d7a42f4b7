//! Which system calls each process makes, where all of them are handed over (`--record-syscalls`).

use super::Writer;
use super::event::{Event, Syscall};
use crate::table::{Arch, names};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The argument by whose value a call does one thing or another.
fn chosen(name: &str) -> Option<usize> {
    match name {
        "socket" | "personality" | "prctl" | "clone" | "unshare" => Some(0),
        "ioctl" | "fcntl" | "fcntl64" => Some(1),
        "madvise" => Some(2),
        _ => None,
    }
}

/// So many values of one call's argument are told of one process; then the call without.
const VALUES: usize = 64;

/// A call of a process.
struct Told {
    /// Which argument is chosen.
    index: Option<usize>,
    /// The values of it that were told. None: the call without one.
    values: HashSet<Option<u32>>,
}

/// What was told already.
#[derive(Default)]
pub struct Syscalls {
    /// The command was executed: what came before was not the job's.
    begun: AtomicBool,
    /// By process, arch and number.
    told: Mutex<HashMap<(u32, Arch, u32), Told>>,
}

impl Syscalls {
    /// Is the job under way? It is from its first exec on, which belongs to it.
    pub fn begun(&self, is_exec: bool) -> bool {
        if is_exec {
            self.begun.store(true, Ordering::Relaxed);
        }
        self.begun.load(Ordering::Relaxed)
    }

    /// Tells of a call of `process`, the first time that it makes it with this argument.
    pub fn tell(
        &self,
        writer: &Writer,
        t: u64,
        process: u32,
        (arch, nr): (Arch, u32),
        args: &[u64; 6],
    ) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Names are looked up for what is new only: this is every call of the job.
        let entry = told.entry((process, arch, nr)).or_insert_with(|| {
            let index = chosen(&names::name(arch, nr));
            Told { index, values: HashSet::new() }
        });
        let index = entry.index;
        // These are ints to the kernel, whatever the upper half of the register holds.
        let mut value = index.and_then(|i| u32::try_from(args[i] & 0xffff_ffff).ok());
        if entry.values.contains(&value) {
            return;
        }
        if entry.values.len() >= VALUES {
            value = None;
        }
        if !entry.values.insert(value) {
            return;
        }
        drop(told);
        let call = names::name(arch, nr);
        let other = (arch != Arch::NATIVE).then(|| arch.name().into());
        let index = index.filter(|_| value.is_some()).and_then(|i| u8::try_from(i).ok());
        writer.put(Event::Syscall(Syscall { t, process, call, arch: other, index, value }));
    }
}
