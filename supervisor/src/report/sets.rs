//! The closed sets of a job: what it read that was there before, what it left behind, what it
//! looked for in vain.

use crate::trace::event::{Access, Kind, Op};
use std::collections::BTreeMap;

/// What became of one path.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Its content was read, and was there before.
    input: bool,
    /// The job wrote it, or gave it this name.
    own: bool,
    /// It was there before the job touched it.
    before: bool,
    /// It is there at the end, if the job made or removed it.
    there: bool,
    /// A directory.
    directory: bool,
    listed: bool,
    looked: bool,
    vain: bool,
    blob: Option<String>,
}

/// Paths in byte order; for files of a mount with the content's hash.
pub type Paths<'a> = Vec<(&'a [u8], Option<&'a str>)>;

/// The sets.
#[derive(Debug, Default)]
pub struct Sets {
    states: BTreeMap<Vec<u8>, State>,
}

impl Sets {
    /// Of calls in order.
    pub fn of(ops: &[Op]) -> Sets {
        let mut sets = Sets::default();
        let mut calls = ops.iter().peekable();
        while let Some(op) = calls.next() {
            sets.add(op);
            // A directory takes what is in it along.
            if let Some(to) = calls.peek()
                && to.n == op.n
                && op.access == Access::Delete
                && op.kind == Some(Kind::Dir)
                && op.err.is_none()
            {
                sets.move_below(op.place(), to.place());
            }
        }
        sets
    }

    fn state(&mut self, path: &[u8]) -> &mut State {
        if !self.states.contains_key(path) {
            self.states.insert(path.to_vec(), State::default());
        }
        self.states.entry(path.to_vec()).or_default()
    }

    fn add(&mut self, op: &Op) {
        let path = op.place();
        if path.is_empty() {
            return;
        }
        if op.err.is_some() {
            if op.access == Access::Probe {
                let state = self.state(path);
                state.vain |= !state.own && !state.before;
            }
            return;
        }
        for interpreter in op.exec.iter().flat_map(|exec| &exec.interpreters) {
            let state = self.state(interpreter.as_bytes());
            state.input |= !state.own;
            state.before |= !state.own;
        }
        let directory = op.kind == Some(Kind::Dir);
        let state = self.state(path);
        state.directory = directory;
        if op.access != Access::Create {
            state.before |= !state.own;
        }
        match op.access {
            Access::Read | Access::Exec => {
                state.input |= !state.own;
                if op.blob.is_some() && !state.own {
                    state.blob.clone_from(&op.blob);
                }
            }
            Access::Write => {
                state.input |= op.reads && !state.own;
                state.own = true;
                state.there = true;
            }
            Access::Create => {
                state.own = true;
                state.there = true;
            }
            Access::Delete => {
                state.own = true;
                state.there = false;
            }
            Access::List => state.listed = true,
            Access::Stat | Access::Lock | Access::Probe => state.looked = true,
        }
    }

    fn move_below(&mut self, from: &[u8], to: &[u8]) {
        let below = [from, b"/"].concat();
        let after = [from, b"0"].concat(); // The character after the slash.
        let moved: Vec<_> =
            self.states.range(below..after).map(|(k, s)| (k.clone(), s.clone())).collect();
        for (path, state) in moved {
            let Some(rest) = path.strip_prefix(from) else { continue };
            if state.own && state.there {
                let new = self.state(&[to, rest].concat());
                new.own = true;
                new.there = true;
                new.directory = state.directory;
                if let Some(old) = self.states.get_mut(&path) {
                    old.there = false;
                }
            }
        }
    }

    fn pick(&self, which: impl Fn(&State) -> bool) -> Paths<'_> {
        let picked = self.states.iter().filter(|(_, state)| which(state));
        picked.map(|(path, state)| (path.as_slice(), state.blob.as_deref())).collect()
    }

    /// Files that were there before and whose content was read or run.
    pub fn inputs(&self) -> Paths<'_> {
        self.pick(|state| state.input && !state.directory)
    }

    /// Files that the job made or changed, and that are there at the end.
    pub fn outputs(&self) -> Paths<'_> {
        self.pick(|state| state.own && state.there && !state.directory)
            .into_iter()
            .map(|(path, _)| (path, None))
            .collect()
    }

    /// Directories that it made, there at the end.
    pub fn directories(&self) -> Paths<'_> {
        self.pick(|state| state.own && state.there && state.directory && !state.before)
    }

    /// Files that it made and took away again.
    pub fn temporary(&self) -> Paths<'_> {
        self.pick(|state| state.own && !state.there && !state.before && !state.directory)
    }

    /// Files that were there before and are not any more.
    pub fn removed(&self) -> Paths<'_> {
        self.pick(|state| state.own && !state.there && state.before)
    }

    /// What was looked for in vain and never came to be.
    pub fn probes(&self) -> Paths<'_> {
        self.pick(|state| state.vain && !state.own && !state.before)
    }

    /// Directories whose names were read.
    pub fn listed(&self) -> Paths<'_> {
        self.pick(|state| state.listed)
    }

    /// What was looked at and there, and neither read nor written nor listed.
    pub fn looked_at(&self) -> Paths<'_> {
        self.pick(|state| state.looked && !state.input && !state.own && !state.listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(n: u64, access: Access, path: &str) -> Op {
        let json = serde_json::json!({
            "t": n, "n": n, "process": 1, "call": "x", "access": access, "path": path,
        });
        serde_json::from_value(json).expect("an op")
    }

    fn names(paths: Paths<'_>) -> Vec<&str> {
        paths.into_iter().map(|(path, _)| std::str::from_utf8(path).expect("text")).collect()
    }

    #[test]
    fn a_build_has_inputs_outputs_and_what_comes_between() {
        let failed = |op: Op| Op { err: Some("ENOENT".into()), ..op };
        let dir = |op: Op| Op { kind: Some(Kind::Dir), ..op };
        let ops = [
            failed(op(1, Access::Probe, "/b/a.o")),
            failed(op(2, Access::Probe, "/usr/local/x.h")),
            op(3, Access::Read, "/src/a.c"),
            op(4, Access::Create, "/tmp/cc.s"),
            op(5, Access::Read, "/tmp/cc.s"),
            op(6, Access::Create, "/b/a.o.tmp"),
            op(7, Access::Delete, "/tmp/cc.s"),
            op(8, Access::Delete, "/b/a.o.tmp"),
            op(8, Access::Create, "/b/a.o"),
            Op { reads: true, ..op(9, Access::Write, "/b/lib.a") },
            op(10, Access::Write, "/b/log"),
            op(11, Access::Delete, "/b/old"),
            dir(op(12, Access::List, "/src")),
            op(13, Access::Stat, "/b/Makefile"),
            dir(op(14, Access::Create, "/b/d")),
            op(15, Access::Create, "/b/d/in"),
            dir(op(16, Access::Delete, "/b/d")),
            dir(op(16, Access::Create, "/b/e")),
        ];
        let sets = Sets::of(&ops);
        assert_eq!(names(sets.inputs()), ["/b/lib.a", "/src/a.c"]);
        assert_eq!(names(sets.outputs()), ["/b/a.o", "/b/e/in", "/b/lib.a", "/b/log"]);
        assert_eq!(names(sets.temporary()), ["/b/a.o.tmp", "/b/d/in", "/tmp/cc.s"]);
        assert_eq!(names(sets.removed()), ["/b/old"]);
        assert_eq!(names(sets.probes()), ["/usr/local/x.h"]);
        assert_eq!(names(sets.listed()), ["/src"]);
        assert_eq!(names(sets.looked_at()), ["/b/Makefile"]);
        assert_eq!(names(sets.directories()), ["/b/e"]);
    }
}
