//! The policy file that was learnt: made, or added to one that is there, of which nothing else is
//! changed, comments and blank lines neither.

use super::plan::{Entry, Level, Plan};
use std::collections::{BTreeMap, BTreeSet};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};
use vrift_policy::MountSpec;

/// Rules whose reason begins with this were learnt: they may be added to.
pub const LEARNT: &str = "learnt: ";

/// A rule of the file that patterns are put into.
struct Section {
    level: Option<Level>,
    run: bool,
    reason: &'static str,
    comment: &'static str,
}

/// In the order of the file: of patterns that are as specific as each other the first decides, so
/// what is closed comes first.
const SECTIONS: [Section; 6] = [
    Section {
        level: Some(Level::Hide),
        run: false,
        reason: "learnt: nobody needed it",
        comment: "All that no other pattern names, and what lies in directories of which only the\n# directory itself was needed.",
    },
    Section {
        level: Some(Level::Deny),
        run: false,
        reason: "learnt: looked at, or listed, and not opened",
        comment: "That these are there, and no more.",
    },
    Section { level: Some(Level::Read), run: false, reason: "learnt: read", comment: "" },
    Section {
        level: Some(Level::Change),
        run: false,
        reason: "learnt: made or changed",
        comment: "",
    },
    Section { level: Some(Level::Read), run: true, reason: "learnt: run", comment: "" },
    Section {
        level: None,
        run: true,
        reason: "learnt: run where another rule says what else may be done",
        comment: "",
    },
];

const HEAD: &str = "\
# Learnt by `vrift-trace learn`: the least that the job needed. `learn` adds to the rules whose
# reason begins with \"learnt: \" and leaves everything else alone, so rules, comments and keys of
# your own stay. `# by` says which programs needed it.
";

/// Why a file can't be added to.
pub type Fault = String;

impl Section {
    fn holds(&self, entry: &Entry) -> bool {
        match (entry.level, entry.run) {
            // What is hidden can't be run.
            (Some(Level::Hide), _) => self.level == Some(Level::Hide),
            (Some(Level::Deny | Level::Read), true) => self.level == Some(Level::Read) && self.run,
            (Some(Level::Change), true) => {
                (self.level, self.run) == (Some(Level::Change), false)
                    || (self.level, self.run) == (None, true)
            }
            (level, run) => (self.level, self.run) == (level, run),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let comment = match self.comment {
            "" => "\n".to_owned(),
            text => format!("\n# {text}\n"),
        };
        table.decor_mut().set_prefix(comment);
        if let Some(level) = self.level {
            table.insert(
                "access",
                value(match level {
                    Level::Hide => "hide",
                    Level::Deny => "deny",
                    Level::Read => "read-only",
                    Level::Change => "read-write",
                }),
            );
        }
        match (self.level, self.run) {
            (Some(Level::Hide), _) => drop(table.insert("exec", value(false))),
            (_, true) => drop(table.insert("exec", value(true))),
            _ => {}
        }
        table.insert("reason", value(self.reason));
        table.insert("paths", value(Array::new()));
        table
    }
}

/// The text of the policy: `old` with what was learnt. `mounts` are those of the job.
///
/// # Errors
/// When the file is written in a way that can't be added to.
pub fn merge(old: Option<&str>, learnt: &Plan, mounts: &[MountSpec]) -> Result<String, Fault> {
    let mut doc = match old {
        Some(text) => text.parse::<DocumentMut>().map_err(|e| e.message().to_owned())?,
        None => {
            let mut doc = DocumentMut::new();
            doc.insert("version", value(1));
            if let Some(mut key) = doc.key_mut("version") {
                key.leaf_decor_mut().set_prefix(format!("{HEAD}\n"));
            }
            doc
        }
    };
    add_mounts(&mut doc, mounts)?;
    let rules = tables(&mut doc, "rule")?;
    let mut plan = learnt.clone();
    for rule in rules.iter() {
        let Some(section) = section_of(rule) else { continue };
        let paths = rule.get("paths").and_then(Item::as_array);
        for (text, who) in
            paths.into_iter().flatten().filter_map(|v| Some((v.as_str()?, who_of(v))))
        {
            if let Some(level) = section.level {
                plan.add(text.to_owned(), level, &who);
            }
            if section.run {
                plan.run(text.to_owned(), &who);
            }
        }
    }
    // A rule that the learnt ones are between is taken out and put where it was.
    let mut all: Vec<Table> = rules.iter().cloned().collect();
    for section in &SECTIONS {
        let wanted: BTreeMap<&str, &Entry> =
            plan.0.iter().filter(|(_, e)| section.holds(e)).map(|(p, e)| (p.as_str(), e)).collect();
        let known = all
            .iter()
            .position(|rule| section_of(rule).is_some_and(|s| s.reason == section.reason));
        let at = match known {
            Some(at) => at,
            None if wanted.is_empty() => continue,
            None => {
                // Behind those that come before it in SECTIONS.
                let before = |rule: &Table| {
                    section_of(rule).is_some_and(|other| rank(other) < rank(section))
                };
                let first_after = all.iter().position(|rule| {
                    section_of(rule).is_some_and(|other| rank(other) > rank(section))
                });
                let at = all
                    .iter()
                    .rposition(before)
                    .map(|at| at + 1)
                    .or(first_after)
                    .unwrap_or(all.len());
                all.insert(at, section.table());
                at
            }
        };
        if wanted.is_empty() {
            all.remove(at);
        } else if let Some(paths) =
            all.get_mut(at).and_then(|rule| rule.get_mut("paths")?.as_array_mut())
        {
            fill(paths, &wanted);
        }
    }
    // Positions are those of the text that was read: new tables have none and would go to its end.
    let mut next = ArrayOfTables::new();
    let fixed = all.iter().filter_map(Table::position).max();
    for mut rule in all {
        if fixed.is_some() {
            rule.set_position(fixed);
        }
        next.push(rule);
    }
    doc.insert("rule", Item::ArrayOfTables(next));
    Ok(doc.to_string())
}

fn rank(section: &Section) -> usize {
    SECTIONS.iter().position(|other| other.reason == section.reason).unwrap_or(SECTIONS.len())
}

fn section_of(rule: &Table) -> Option<&'static Section> {
    let reason = rule.get("reason")?.as_str()?;
    SECTIONS.iter().find(|section| section.reason == reason)
}

fn tables<'d>(doc: &'d mut DocumentMut, key: &str) -> Result<&'d mut ArrayOfTables, Fault> {
    let item = doc.entry(key).or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut().ok_or_else(|| {
        format!("`{key}` is a list in brackets, which can't be added to; write each as [[{key}]]")
    })
}

/// Mounts that the job had and the file does not.
fn add_mounts(doc: &mut DocumentMut, mounts: &[MountSpec]) -> Result<(), Fault> {
    for mount in mounts {
        let list = tables(doc, "mount")?;
        let at = text_of(mount.at.as_os_str(), "mount point")?;
        if list.iter().any(|known| known.get("at").and_then(Item::as_str) == Some(at)) {
            continue;
        }
        let mut table = Table::new();
        table.decor_mut().set_prefix("\n");
        table.insert("at", value(at));
        table.insert("manifest", value(text_of(&mount.manifest, "manifest")?));
        table.insert("mode", value(mount.mode.to_string()));
        if let Some(upper) = &mount.upper {
            table.insert("upper", value(text_of(upper.as_os_str(), "upper directory")?));
        }
        if let Some(end) = &mount.on_exit {
            table.insert("on_exit", value(end.word().into_owned()));
        }
        list.push(table);
    }
    if doc.get("mount").and_then(Item::as_array_of_tables).is_some_and(ArrayOfTables::is_empty) {
        doc.remove("mount");
    }
    Ok(())
}

fn text_of<'t>(name: &'t std::ffi::OsStr, what: &str) -> Result<&'t str, Fault> {
    name.to_str().ok_or_else(|| {
        format!("the {what} {name:?} is not UTF-8, which a policy file is; go on giving it by -m")
    })
}

/// Makes an array hold these patterns: those that are there stay where and as they are.
fn fill(paths: &mut Array, wanted: &BTreeMap<&str, &Entry>) {
    let known: BTreeSet<String> =
        paths.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    paths.retain(|path| path.as_str().is_some_and(|path| wanted.contains_key(path)));
    for path in paths.iter_mut() {
        let Some(entry) = path.as_str().and_then(|text| wanted.get(text)) else { continue };
        let prefix = path.decor().prefix().and_then(|p| p.as_str()).unwrap_or_default().to_owned();
        if who_in(&prefix) != entry.who {
            path.decor_mut().set_prefix(with_who(&prefix, &entry.who));
        }
    }
    for (text, entry) in wanted {
        if !known.contains(*text) {
            let at =
                paths.iter().position(|other| other.as_str().is_some_and(|other| other > *text));
            let mut new = Value::from(*text);
            new.decor_mut().set_prefix(with_who("\n    ", &entry.who));
            match at {
                Some(at) => paths.insert_formatted(at, new),
                None => paths.push_formatted(new),
            }
        }
    }
    paths.set_trailing_comma(true);
    if paths.trailing().as_str().is_none_or(|text| !text.contains('\n')) {
        paths.set_trailing("\n");
    }
}

const BY: &str = "# by ";

fn who_of(path: &Value) -> BTreeSet<String> {
    who_in(path.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default())
}

/// The programs of a `# by` line.
fn who_in(prefix: &str) -> BTreeSet<String> {
    let line = prefix.lines().find_map(|line| line.trim().strip_prefix(BY));
    line.into_iter().flat_map(|line| line.split(", ")).map(str::to_owned).collect()
}

/// The text before a pattern with another `# by` line; other comments stay.
fn with_who(prefix: &str, who: &BTreeSet<String>) -> String {
    let mut out = String::new();
    for line in
        prefix.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with(BY))
    {
        out.push_str("\n    ");
        out.push_str(line.trim());
    }
    if !who.is_empty() {
        out.push_str("\n    ");
        out.push_str(BY);
        out.push_str(&who.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    }
    out + "\n    "
}
