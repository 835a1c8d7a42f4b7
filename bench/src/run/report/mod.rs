//! The figures as Markdown, for docs/PERFORMANCE.md, and as JSON.

mod contention;
mod jobs;
mod peers;
mod store;

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::build::{Build, Cost};
use super::calls::{Against, Row};
use super::contention::Row as Crowded;
use super::in_place::InPlace;
use super::jobs::Jobs;
use super::machine::Machine;
use super::peers::Peers;
use super::startup::Startup;
use super::stats::{Samples, ratio};
use super::store::Store;
use super::views::Views;

/// Everything that one run measured. What an older run couldn't measure yet is not in its JSON.
#[derive(Debug, Deserialize, Serialize)]
pub struct Figures {
    /// What it was measured on.
    pub machine: Machine,
    /// The command, to be repeated.
    pub command: String,
    /// The commit, when git knows it.
    pub commit: Option<String>,
    /// Rounds of the calls and of the builds.
    pub rounds: usize,
    /// Single calls.
    pub calls: Vec<Row>,
    /// The C build.
    pub build: Option<Build>,
    /// Redis, built in place.
    pub in_place: Option<InPlace>,
    /// SQLite, built in place.
    pub sqlite: Option<InPlace>,
    /// A program of several crates, built in place.
    pub cargo: Option<InPlace>,
    /// Start-up.
    pub startup: Option<Startup>,
    /// The tools beside it.
    pub peers: Option<Peers>,
    /// Many processes at once.
    #[serde(default)]
    pub contention: Vec<Crowded>,
    /// Whole jobs.
    pub jobs: Option<Jobs>,
    /// The store.
    pub store: Option<Store>,
    /// Both views of a mount.
    pub views: Option<Views>,
    /// What could not be measured, and why.
    pub problems: Vec<String>,
}

/// Aims of the whole build and of the start (issue: "How fast").
const PROJECTED_AIM: f64 = 1.05;
const RECORDED_AIM: f64 = 1.03;
const TRACED_AIM: f64 = 1.08;
const IN_PLACE_AIM: f64 = 1.08;
const MOUNTED_AIM: f64 = 1.03;
const WALK_AIM: f64 = 1.5;
const STARTUP_AIM_MS: f64 = 10.0;

/// Figures as Markdown.
#[derive(Debug)]
pub struct Markdown<'a>(pub &'a Figures);

impl fmt::Display for Markdown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        heading(out, figures)?;
        if !figures.calls.is_empty() {
            calls(out, &figures.calls)?;
        }
        if let Some(build) = &figures.build {
            whole_build(out, build)?;
        }
        in_place(out, [&figures.in_place, &figures.sqlite, &figures.cargo])?;
        if let Some(startup) = &figures.startup {
            start(out, startup)?;
        }
        if let Some(peers) = &figures.peers {
            peers::tables(out, peers)?;
        }
        if !figures.contention.is_empty() {
            contention::table(out, &figures.contention)?;
        }
        if let Some(jobs) = &figures.jobs {
            jobs::table(out, jobs)?;
        }
        if let Some(store) = &figures.store {
            store::tables(out, store)?;
        }
        if let Some(views) = &figures.views {
            both_views(out, views)?;
        }
        if !figures.problems.is_empty() {
            writeln!(out, "\nNot measured:\n")?;
            for problem in &figures.problems {
                writeln!(out, "- {}", problem.replace('\n', " "))?;
            }
        }
        Ok(())
    }
}

fn heading(out: &mut impl Write, figures: &Figures) -> fmt::Result {
    let Machine { processor, cpus, architecture, kernel, file_system, busy } = &figures.machine;
    writeln!(out, "{processor}, {cpus} CPUs, {architecture}, Linux {kernel}, {file_system}  ")?;
    let commit = figures.commit.as_deref().unwrap_or("no commit known");
    writeln!(out, "`{}`, {} rounds, {commit}", figures.command, figures.rounds)?;
    if figures.machine.is_busy() {
        writeln!(
            out,
            "\n**Others took {:.0} % of the CPUs before the run: ratios are unsteady.**",
            busy.unwrap_or(0.0) * 100.0
        )?;
    }
    Ok(())
}

fn calls(out: &mut impl Write, rows: &[Row]) -> fmt::Result {
    writeln!(
        out,
        "\n### Single calls\n\nMicroseconds, medians; the floor that counts is in bold.\n"
    )?;
    writeln!(
        out,
        "| call | native | floor, CONTINUE | floor, answering | vrift-trace | ÷ native | ÷ floor | ÷ floor, least times | aim |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for row in rows {
        let bold = |text: String, this: Against| {
            if this == row.against { format!("**{text}**") } else { text }
        };
        let micros = |samples: &Samples| number(samples.median().map(|ns| ns / 1e3));
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.label,
            micros(&row.native),
            bold(micros(&row.floor), Against::Continue),
            bold(micros(&row.answering), Against::Answer),
            micros(&row.trace),
            number(ratio(row.trace.median(), row.native.median())),
            number(ratio(row.trace.median(), row.its_floor().median())),
            number(ratio(row.trace.least(), row.its_floor().least())),
            row.aim.map_or_else(String::new, |aim| format!("≤ {aim}")),
        )?;
    }
    Ok(())
}

fn whole_build(out: &mut impl Write, build: &Build) -> fmt::Result {
    writeln!(
        out,
        "\n### A whole build\n\n{}, {}, make -j{}; {} notifications under the floor. {}\n",
        build.project,
        build.compiler,
        build.jobs,
        build.notifications,
        if build.identical {
            "Every object and the program are the same, however they were built."
        } else {
            "**The outputs differ.**"
        }
    )?;
    columns(out)?;
    for (label, cost, aim) in [
        ("native", &build.native, String::new()),
        ("floor, real tree", &build.floor, String::new()),
        ("vrift-trace, projected tree", &build.projected, format!("≤ {PROJECTED_AIM} ÷ floor")),
        ("the same by `--view mount`", &build.mounted, format!("≤ {MOUNTED_AIM} ÷ native")),
        ("projected, with `-o`", &build.recorded, format!("≤ {RECORDED_AIM} ÷ projected")),
        (
            "vrift-trace, no mount, `probes = false`",
            &build.traced,
            format!("≤ {TRACED_AIM} ÷ native"),
        ),
    ] {
        line(out, label, cost, [&build.native, &build.floor], &aim)?;
    }
    Ok(())
}

fn in_place(out: &mut impl Write, projects: [&Option<InPlace>; 3]) -> fmt::Result {
    let mut projects = projects.into_iter().flatten().peekable();
    if projects.peek().is_some() {
        writeln!(out, "\n### In place")?;
    }
    for project in projects {
        writeln!(out, "\n{}, `{}` in its own tree.\n", project.project, project.command)?;
        columns(out)?;
        let by = [&project.native, &project.floor];
        line(out, "native", &project.native, by, "")?;
        line(out, "floor, real tree", &project.floor, by, "")?;
        let aim = format!("≤ {IN_PLACE_AIM} ÷ floor");
        line(out, "vrift-trace, overlay", &project.overlay, by, &aim)?;
        let aim = format!("≤ {MOUNTED_AIM} ÷ native");
        line(out, "the same by `--view mount`", &project.mounted, by, &aim)?;
    }
    Ok(())
}

/// The head of a table of builds.
fn columns(out: &mut impl Write) -> fmt::Result {
    writeln!(
        out,
        "| build | s, median | least | ÷ native | ÷ floor | CPU s, median | ÷ native | ÷ floor | peak, MiB | aim |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
}

/// One way of building, beside native and floor.
fn line(out: &mut impl Write, label: &str, cost: &Cost, by: [&Cost; 2], aim: &str) -> fmt::Result {
    write!(out, "| {label} | {} | {}", number(cost.wall.median()), number(cost.wall.least()))?;
    by_both(out, by, cost, |cost| cost.wall.median())?;
    write!(out, " | {}", number(cost.cpu.median()))?;
    by_both(out, by, cost, |cost| cost.cpu.median())?;
    // Of a native build it is make's own.
    let peak = if std::ptr::eq(cost, by[0]) { None } else { cost.peak.median() };
    writeln!(out, " | {} | {aim} |", number(peak))
}

/// Two cells: a figure divided by native's and by the floor's.
fn by_both(
    out: &mut impl Write,
    by: [&Cost; 2],
    cost: &Cost,
    figure: fn(&Cost) -> Option<f64>,
) -> fmt::Result {
    let [by_native, by_floor] = by.map(|other| number(ratio(figure(cost), figure(other))));
    write!(out, " | {by_native} | {by_floor}")
}

fn start(out: &mut impl Write, startup: &Startup) -> fmt::Result {
    writeln!(
        out,
        "\n### Start-up\n\n| command | ms, median | ms over `true` | aim |\n|---|--:|--:|--:|"
    )?;
    let native = startup.native.median();
    let mounted = format!("`vrift-trace -m … -- true`, {} files", startup.files);
    for (label, samples, aim) in [
        ("`true`", &startup.native, String::new()),
        ("`floor -- true`", &startup.floor, String::new()),
        ("`vrift-trace -- true`", &startup.trace, String::new()),
        (mounted.as_str(), &startup.mounted, format!("≤ {STARTUP_AIM_MS}")),
    ] {
        let median = samples.median();
        let over = median.zip(native).map(|(this, native)| this - native);
        writeln!(out, "| {label} | {} | {} | {aim} |", number(median), number(over))?;
    }
    Ok(())
}

fn both_views(out: &mut impl Write, views: &Views) -> fmt::Result {
    writeln!(
        out,
        "\n### Views\n\n{} files; seconds, medians. The first walk of a job, and the later ones.\n",
        views.files
    )?;
    writeln!(
        out,
        "| walk | native | notify, first | later | ÷ native | mount, first | later | ÷ native | aim |"
    )?;
    writeln!(out, "|---|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for walk in &views.walks {
        let native = walk.native.median();
        write!(out, "| {} | {}", walk.name, number(native))?;
        for (first, later) in [(&walk.notify_first, &walk.notify), (&walk.mount_first, &walk.mount)]
        {
            let (first, later) = (first.median(), later.median());
            write!(
                out,
                " | {} | {} | {}",
                number(first),
                number(later),
                number(ratio(later, native))
            )?;
        }
        writeln!(out, " | ≤ {WALK_AIM} |")?;
    }
    Ok(())
}

/// Three significant digits or so; a dash for what was not measured.
fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples { all: values.to_vec() }
    }

    #[test]
    fn a_row_is_divided_by_the_floor_that_counts() {
        let row = Row {
            name: "stat".into(),
            label: "stat".into(),
            against: Against::Answer,
            aim: Some(1.25),
            native: samples(&[1000.0]),
            floor: samples(&[5000.0]),
            answering: samples(&[8000.0, 4000.0, 6000.0]),
            trace: samples(&[9000.0, 5000.0, 9000.0]),
        };
        let mut text = String::new();
        calls(&mut text, &[row]).unwrap();
        let line = text.lines().last().unwrap();
        assert_eq!(line, "| stat | 1.00 | 5.00 | **6.00** | 9.00 | 9.00 | 1.50 | 1.25 | ≤ 1.25 |");
    }

    #[test]
    fn what_was_not_measured_is_a_dash_and_said() {
        let figures = Figures {
            machine: Machine {
                processor: "P".into(),
                cpus: 2,
                architecture: "x86_64".into(),
                kernel: "6.1".into(),
                busy: None,
                file_system: "ext4".into(),
            },
            command: "vrift-bench".into(),
            commit: None,
            rounds: 1,
            calls: Vec::new(),
            build: None,
            in_place: None,
            sqlite: None,
            cargo: None,
            startup: Some(Startup { native: samples(&[1.5]), ..Startup::default() }),
            peers: None,
            contention: Vec::new(),
            jobs: None,
            store: None,
            views: None,
            problems: vec!["no vrift-trace".into()],
        };
        let text = Markdown(&figures).to_string();
        assert!(text.contains("| `true` | 1.50 | 0.00 |  |"), "{text}");
        assert!(text.contains("| `vrift-trace -- true` | – | – |  |"), "{text}");
        assert!(text.contains("- no vrift-trace"), "{text}");
    }
}
