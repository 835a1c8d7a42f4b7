//! What of the figures becomes which bar: times divided by native's, so that longer is slower.

use crate::run::build::{Build, Cost};
use crate::run::calls;
use crate::run::contention;
use crate::run::in_place::InPlace;
use crate::run::jobs::Jobs;
use crate::run::peers::Peers;
use crate::run::report::Figures;
use crate::run::startup::Startup;
use crate::run::stats::{Samples, ratio};
use crate::run::store::{Manifests, Store};
use crate::run::views::Views;

use super::{Chart, Row};

/// A chart for each table in which something was measured.
pub(super) fn of(figures: &Figures) -> Vec<Chart> {
    let in_place = [&figures.in_place, &figures.sqlite, &figures.cargo];
    let mut charts = vec![
        single_calls(&figures.calls),
        in_place_builds(&in_place.into_iter().flatten().collect::<Vec<_>>()),
        crowds(&figures.contention),
    ];
    charts.extend(figures.build.as_ref().map(build));
    charts.extend(figures.startup.as_ref().map(startup));
    charts.extend(figures.peers.as_ref().map(peers));
    charts.extend(figures.peers.as_ref().map(calls_of_peers));
    charts.extend(figures.jobs.as_ref().map(jobs));
    if let Some(store) = &figures.store {
        charts.push(steps(store));
        charts.extend(store.manifests.as_ref().map(starts));
    }
    charts.extend(figures.views.as_ref().map(views));
    for chart in &mut charts {
        chart.rows.retain(|row| row.ratios.iter().any(Option::is_some));
    }
    charts.retain(|chart| !chart.rows.is_empty());
    charts
}

const BOTH: [&str; 2] = ["floor", "vrift-trace"];
const TIMES: [&str; 2] = ["time", "CPU time"];

fn by(one: &Samples, native: &Samples) -> Option<f64> {
    ratio(one.median(), native.median())
}

/// Time and CPU time by native's.
fn costs(cost: &Cost, native: &Cost) -> Vec<Option<f64>> {
    vec![by(&cost.wall, &native.wall), by(&cost.cpu, &native.cpu)]
}

fn row(label: impl AsRef<str>, ratios: Vec<Option<f64>>) -> Row {
    // Markdown's quotes are no part of a name.
    Row { label: label.as_ref().replace('`', ""), ratios }
}

fn single_calls(rows: &[calls::Row]) -> Chart {
    let rows = rows.iter().map(|this| {
        row(&this.label, vec![by(this.its_floor(), &this.native), by(&this.trace, &this.native)])
    });
    Chart {
        name: "calls",
        title: "Single calls: time ÷ native".into(),
        series: BOTH.into(),
        rows: rows.collect(),
    }
}

fn build(build: &Build) -> Chart {
    let rows = [
        ("floor, real tree", &build.floor),
        ("vrift-trace, projected tree", &build.projected),
        ("the same with -o", &build.recorded),
        ("vrift-trace, no mount, no probes", &build.traced),
    ];
    Chart {
        name: "build",
        title: format!("A whole build, {}: ÷ native", build.project),
        series: TIMES.into(),
        rows: rows.map(|(label, cost)| row(label, costs(cost, &build.native))).into(),
    }
}

fn in_place_builds(projects: &[&InPlace]) -> Chart {
    let rows = projects.iter().flat_map(|this| {
        let name = this.project.split(',').next().unwrap_or_default();
        let which = |what: &str| format!("{name}, {what}");
        let ways = [&this.floor, &this.overlay, &this.mounted];
        let wall = ways.map(|cost| by(&cost.wall, &this.native.wall));
        let cpu = ways.map(|cost| by(&cost.cpu, &this.native.cpu));
        [row(which("time"), wall.into()), row(which("CPU time"), cpu.into())]
    });
    Chart {
        name: "in-place",
        title: "Built in place: ÷ native".into(),
        series: ["floor, real tree", "vrift-trace, overlay", "the same by --view mount"].into(),
        rows: rows.collect(),
    }
}

fn startup(startup: &Startup) -> Chart {
    let mounted = format!("vrift-trace, {} files mounted", startup.files);
    let rows = [
        ("floor", &startup.floor),
        ("vrift-trace", &startup.trace),
        (mounted.as_str(), &startup.mounted),
    ];
    Chart {
        name: "startup",
        title: "Starting true: time ÷ native".into(),
        series: vec!["time"],
        rows: rows.map(|(label, samples)| row(label, vec![by(samples, &startup.native)])).into(),
    }
}

fn peers(peers: &Peers) -> Chart {
    let native = peers.peers.first();
    let rows = peers.peers.iter().skip(1).map(|peer| {
        let ratio = |of: fn(&crate::run::peers::Peer) -> &Cost| {
            native.and_then(|native| by(&of(peer).wall, &of(native).wall))
        };
        row(&peer.name, vec![ratio(|peer| &peer.build), ratio(|peer| &peer.walk)])
    });
    Chart {
        name: "peers",
        title: format!("Beside other tools, {} and a walk: time ÷ native", peers.project),
        series: vec!["build", "walk"],
        rows: rows.collect(),
    }
}

fn calls_of_peers(peers: &Peers) -> Chart {
    const SERIES: [(&str, &str); 3] = [
        ("stat", "stat"),
        ("open_close", "open + close"),
        ("readdir_1000", "a directory of 1,000"),
    ];
    let native = peers.peers.first();
    let rows = peers.peers.iter().skip(1).map(|peer| {
        let ratio = |(name, _)| by(peer.calls.get(name)?, native?.calls.get(name)?);
        row(&peer.name, SERIES.map(ratio).to_vec())
    });
    Chart {
        name: "peers-calls",
        title: "Single calls beside other tools: time ÷ native".into(),
        series: SERIES.map(|(_, label)| label).to_vec(),
        rows: rows.collect(),
    }
}

fn crowds(rows: &[contention::Row]) -> Chart {
    let rows = rows.iter().map(|this| {
        let native = &this.native.calls;
        let processes = if this.tasks == 1 { "process" } else { "processes" };
        row(
            format!("{}, {} {processes}", this.label, this.tasks),
            vec![by(native, &this.floor.calls), by(native, &this.trace.calls)],
        )
    });
    Chart {
        name: "contention",
        title: "Many at once: time for each call of all ÷ native".into(),
        series: BOTH.into(),
        rows: rows.collect(),
    }
}

fn jobs(jobs: &Jobs) -> Chart {
    let rows = jobs.rows.iter().map(|this| {
        let native = &this.native.wall;
        let ways = [&this.floor, &this.trace, &this.recorded];
        row(&this.label, ways.map(|cost| by(&cost.wall, native)).into())
    });
    Chart {
        name: "jobs",
        title: "Whole jobs: time ÷ native".into(),
        series: ["floor", "vrift-trace", "vrift-trace -o"].into(),
        rows: rows.collect(),
    }
}

fn steps(store: &Store) -> Chart {
    let rows = store.groups.iter().flat_map(|group| {
        group.steps.iter().filter_map(|step| {
            let against = group.steps.get(step.by?)?;
            let label = format!("{} ÷ {}, {} files", step.label, against.label, group.files);
            Some(row(label, costs(&step.cost, &against.cost)))
        })
    });
    Chart {
        name: "store",
        title: "The store: ÷ what does the like".into(),
        series: TIMES.into(),
        rows: rows.collect(),
    }
}

fn views(views: &Views) -> Chart {
    let rows = views.walks.iter().flat_map(|walk| {
        let first = [&walk.notify_first, &walk.mount_first];
        let first = first.map(|view| by(view, &walk.native_first));
        let later = [&walk.notify, &walk.mount].map(|view| by(view, &walk.native));
        [
            row(format!("{}, the first", walk.name), first.into()),
            row(format!("{}, later ones", walk.name), later.into()),
        ]
    });
    Chart {
        name: "views",
        title: format!("Walks over {} files: time ÷ native", views.files),
        series: vec!["--view notify", "--view mount"],
        rows: rows.collect(),
    }
}

fn starts(manifests: &Manifests) -> Chart {
    let native = &manifests.native.took;
    let mut rows = vec![row("floor", vec![by(&manifests.floor.took, native)])];
    rows.extend(manifests.mounted.iter().map(|mounted| {
        let label = format!("vrift-trace, {} files mounted", mounted.files);
        row(label, vec![by(&mounted.start.took, native)])
    }));
    Chart {
        name: "manifests",
        title: "Starting true by the size of the manifest: time ÷ native".into(),
        series: vec!["time"],
        rows,
    }
}
