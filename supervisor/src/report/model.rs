//! A trace in order: its processes, its calls by time, and the sets of files that they come to.

use super::sets::Sets;
use crate::trace::event::{End, Event, Job, Op, Syscall};
use crate::trace::reader::Trace;
use crate::trace::{Text, title};
use std::collections::HashMap;
use vrift_events::printable;

/// A whole trace.
pub struct Model {
    /// The job.
    pub job: Job,
    /// Its processes, by number: a parent may stand behind its child.
    pub processes: Vec<Process>,
    /// What was done with paths, in the order in which the calls were received.
    pub ops: Vec<Op>,
    /// What the files come to.
    pub sets: Sets,
    /// The job's end, if the trace has it.
    pub end: Option<End>,
    /// The calls of processes, where every call was recorded.
    pub syscalls: Vec<Syscall>,
    /// When the last thing happened, in nanoseconds.
    pub last: u64,
}

/// A process.
pub struct Process {
    /// Its number in the trace.
    pub number: u32,
    /// Its process id.
    pub pid: i32,
    /// Its parent's number.
    pub parent: Option<u32>,
    /// When it was first heard of, in nanoseconds.
    pub start: u64,
    /// When it ended; None: not told.
    pub end: Option<u64>,
    /// The exit status.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Which of [`Model::ops`] are its programs.
    pub programs: Vec<usize>,
    /// Which of [`Model::ops`] are its own.
    pub ops: Vec<usize>,
}

impl Model {
    /// Puts a trace in order.
    pub fn new(trace: Trace) -> Model {
        let mut processes: Vec<Process> = Vec::new();
        let (mut ops, mut exits, mut end, mut last) = (Vec::new(), Vec::new(), None, 0);
        let mut syscalls = Vec::new();
        for event in trace.events {
            match event {
                Event::Start(start) => {
                    last = last.max(start.t);
                    processes.push(Process {
                        number: start.process,
                        pid: start.pid,
                        parent: start.parent,
                        start: start.t,
                        end: None,
                        status: None,
                        signal: None,
                        programs: Vec::new(),
                        ops: Vec::new(),
                    });
                }
                Event::Op(op) => {
                    last = last.max(op.t);
                    ops.push(*op);
                }
                Event::Syscall(syscall) => {
                    last = last.max(syscall.t);
                    syscalls.push(syscall);
                }
                Event::Exit(exit) => {
                    last = last.max(exit.t);
                    exits.push(exit);
                }
                Event::End(this) => {
                    last = last.max(this.t);
                    end = Some(this);
                }
                Event::Job(_) => {}
            }
        }
        ops.sort_by_key(|op| op.n);
        syscalls.sort_by_key(|syscall| syscall.t);
        processes.sort_by_key(|process| process.number);
        let at: HashMap<u32, usize> =
            processes.iter().enumerate().map(|(at, process)| (process.number, at)).collect();
        for exit in exits {
            if let Some(process) = at.get(&exit.process).and_then(|at| processes.get_mut(*at)) {
                process.end = Some(exit.t);
                process.status = exit.status;
                process.signal = exit.signal;
            }
        }
        for (index, op) in ops.iter().enumerate() {
            if let Some(process) = at.get(&op.process).and_then(|at| processes.get_mut(*at)) {
                process.ops.push(index);
                if op.exec.is_some() {
                    process.programs.push(index);
                }
            }
        }
        let sets = Sets::of(&ops);
        Model { job: trace.job, processes, ops, syscalls, sets, end, last }
    }

    /// Who made a call: the program that its process ran then.
    pub fn caller(&self, call: &Syscall) -> String {
        let programs = self.process(call.process).map(|p| p.programs.as_slice());
        let mut run = programs.unwrap_or_default().iter().filter_map(|op| self.ops.get(*op));
        let by = run.rfind(|op| op.t <= call.t).map(|op| printable(op.place()));
        let process = format!("process {}", call.process);
        by.map_or(process.clone(), |by| format!("{by} ({process})"))
    }

    /// The process of this number.
    pub fn process(&self, number: u32) -> Option<&Process> {
        let at = self.processes.binary_search_by_key(&number, |process| process.number).ok()?;
        self.processes.get(at)
    }

    /// The last program of a process: path and arguments.
    pub fn program(&self, process: &Process) -> Option<(&[u8], &[Text])> {
        let op = self.ops.get(*process.programs.last()?)?;
        Some((op.place(), op.exec.as_ref()?.argv.as_slice()))
    }

    /// A process in a few words: its command line, or that of the one it was forked from.
    pub fn title(&self, process: &Process) -> String {
        match self.program(process) {
            Some((_, argv)) => title(argv.iter().map(Text::shown)),
            None => {
                let parent = process.parent.filter(|parent| *parent < process.number);
                match parent.and_then(|parent| self.process(parent)) {
                    Some(parent) => format!("({})", self.title(parent)),
                    None => format!("pid {}", process.pid),
                }
            }
        }
    }

    /// How long a process took: to the end of what is known.
    pub fn wall(&self, process: &Process) -> u64 {
        process.end.unwrap_or(self.last).saturating_sub(process.start)
    }

    /// The children of each process, and of none: numbers in order.
    pub fn children(&self) -> HashMap<Option<u32>, Vec<&Process>> {
        let known = |number: &u32| self.process(*number).is_some();
        let mut children: HashMap<Option<u32>, Vec<&Process>> = HashMap::new();
        for process in &self.processes {
            let parent = process.parent.filter(|parent| known(parent) && *parent != process.number);
            children.entry(parent).or_default().push(process);
        }
        children
    }

    /// A path as a build's own rules would name it: relative where it lies below the job's
    /// working directory.
    pub fn local<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let cwd = self.job.cwd.as_bytes();
        match path.strip_prefix(cwd).and_then(|rest| rest.strip_prefix(b"/")) {
            Some(rest) if !rest.is_empty() && cwd != b"/" => rest,
            _ => path,
        }
    }
}
