//! Random trees, mounted at random places over a random disk, against a model that keeps whole
//! paths in one sorted map and knows nothing of manifests.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is one test module")]

mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use trees::{entries, join, text};
use vrift_policy::Mode;
use vrift_projection::{
    Above, Content, Kind, Manifest, MountSource, NodeRef, Projection, ProjectionError, RealKind,
};
use vrift_store::Hash;
use vrift_store::manifest::{Entry, ManifestBuilder};

/// A few names, so that trees meet often; some are the beginning of others.
const NAMES: [&str; 5] = ["a", "b", "ab", "a-", "\u{fc}"];

/// A tree: the parent of each entry among those before it, its name, and what it is.
type Tree = Vec<(prop::sample::Index, usize, u8)>;

#[derive(Clone, Debug)]
struct Case {
    trees: Vec<Tree>,
    /// Components of the mount point, and which tree.
    mounts: Vec<(Vec<usize>, prop::sample::Index)>,
    /// Real things, and whether each is a directory.
    disk: Vec<(Vec<usize>, bool)>,
}

fn case() -> impl Strategy<Value = Case> {
    let name = 0..NAMES.len();
    let tree = prop::collection::vec((any::<prop::sample::Index>(), name.clone(), 0..8_u8), 0..16);
    let path = prop::collection::vec(name, 1..4);
    (
        prop::collection::vec(tree, 1..3),
        prop::collection::vec((path.clone(), any::<prop::sample::Index>()), 1..5),
        prop::collection::vec((path, prop::bool::weighted(0.9)), 0..6),
    )
        .prop_map(|(trees, mounts, disk)| Case { trees, mounts, disk })
}

/// What a path holds in the model.
#[derive(Clone, Debug, PartialEq)]
enum Thing {
    Real,
    RealFile,
    /// Made up on the way to a mount point.
    Made,
    Directory,
    File(Hash),
    Link(Vec<u8>),
}

impl Thing {
    fn is_directory(&self) -> bool {
        matches!(self, Thing::Real | Thing::Made | Thing::Directory)
    }
}

type Model = BTreeMap<String, Thing>;

fn path_of(components: &[usize]) -> String {
    components.iter().map(|i| format!("/{}", NAMES[*i])).collect()
}

/// Builds a tree as a manifest and as a map of paths relative to its root.
fn build(tree: &Tree) -> (Arc<Manifest>, Model) {
    let mut builder = ManifestBuilder::new(Entry::directory(0o755, (0, 0))).expect("a root");
    let mut directories = vec![(0, String::new())];
    let mut model = Model::from([(String::new(), Thing::Directory)]);
    for (parent, name, kind) in tree {
        let (id, above) = parent.get(&directories).clone();
        let path = format!("{above}/{}", NAMES[*name]);
        if model.contains_key(&path) {
            continue;
        }
        let (entry, thing) = match kind {
            0..4 => (Entry::directory(0o755, (0, 0)), Thing::Directory),
            4..7 => {
                let blob = Hash::of(&[*kind]);
                (Entry::file(0o644, (0, 0), 1, blob), Thing::File(blob))
            }
            _ => (Entry::symlink(b"x".to_vec(), (0, 0)), Thing::Link(b"x".to_vec())),
        };
        let number = builder.add(id, NAMES[*name].as_bytes(), entry).expect("an entry");
        if thing == Thing::Directory {
            directories.push((number, path.clone()));
        }
        model.insert(path, thing);
    }
    (trees::open(builder), model)
}

/// The real disk: parents of directories are directories, whatever else was said of them.
fn disk(case: &Case) -> Model {
    let mut disk = Model::from([(String::new(), Thing::Real)]);
    for (components, is_directory) in &case.disk {
        let thing = if *is_directory { Thing::Real } else { Thing::RealFile };
        disk.entry(path_of(components)).or_insert(thing);
    }
    for (components, _) in &case.disk {
        for end in 1..components.len() {
            disk.insert(path_of(&components[..end]), Thing::Real);
        }
    }
    disk
}

/// Mounts one after the other, outer before inner; `None` when that can't be.
fn mounted(mut model: Model, mounts: &[(String, &Model)]) -> Option<Model> {
    let mut order: Vec<_> = mounts.iter().collect();
    order.sort_by_key(|(at, _)| at.matches('/').count());
    let mut seen = BTreeSet::new();
    for (at, tree) in order {
        if !seen.insert(at) {
            return None;
        }
        for (end, _) in at.match_indices('/') {
            let above = model.entry(at[..end].to_owned()).or_insert(Thing::Made);
            if !above.is_directory() {
                return None;
            }
        }
        if model.get(at).is_some_and(|thing| !thing.is_directory()) {
            return None;
        }
        let below = format!("{at}/");
        model.retain(|path, _| path != at && !path.starts_with(&below));
        for (path, thing) in *tree {
            model.insert(format!("{at}{path}"), thing.clone());
        }
    }
    Some(model)
}

/// The names that a directory holds in the model.
fn children<'a>(model: &'a Model, dir: &str) -> BTreeMap<&'a str, &'a Thing> {
    let below = format!("{dir}/");
    let children = model.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
    let names = children.map(|(path, thing)| (&path[below.len()..], thing));
    names.filter(|(name, _)| !name.contains('/')).collect()
}

/// What the projection has at a model's path, if that isn't real.
fn resolve(projection: &Projection, path: &str) -> Result<Above, ProjectionError> {
    let mut here = Above::Real(Box::from(b"/".as_slice()));
    for name in path.split('/').skip(1) {
        here = match here {
            Above::Real(dir) => projection
                .covered(&dir, name.as_bytes())
                .map_or_else(|| Above::Real(join(&dir, name.as_bytes())), Above::Node),
            Above::Node(dir) => match projection.lookup(dir, name.as_bytes())? {
                Some(node) => Above::Node(node),
                None => panic!("{path}: the model has it, the projection has not"),
            },
        };
    }
    Ok(here)
}

fn compare_node(
    projection: &Projection,
    model: &Model,
    path: &str,
    thing: &Thing,
    node: NodeRef,
) -> Result<(), TestCaseError> {
    let attr = projection.attr(node).expect("attr");
    let kind = match thing {
        Thing::File(_) => Kind::File,
        Thing::Link(_) => Kind::Symlink,
        _ => Kind::Directory,
    };
    prop_assert_eq!(attr.kind, kind, "{}", path);
    prop_assert_eq!(text(&projection.path(node).expect("path")), path);
    prop_assert_eq!(node.is_synthetic(), *thing == Thing::Made);
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    prop_assert_eq!(
        projection.parent(node).expect("parent"),
        resolve(projection, above).expect("resolve")
    );
    if let Thing::File(blob) = thing {
        let content = Some(Content::Blob(*blob, attr.size));
        prop_assert_eq!(projection.content(node).expect("content"), content);
    }
    if let Thing::Link(target) = thing {
        prop_assert_eq!(&*projection.link_target(node).expect("target"), target.as_slice());
    }
    for name in NAMES {
        let child = projection.lookup(node, name.as_bytes()).expect("look-up");
        prop_assert_eq!(child.is_some(), model.contains_key(&format!("{path}/{name}")));
    }
    if kind == Kind::Directory {
        compare_listing(projection, model, path, node)?;
    }
    Ok(())
}

fn compare_listing(
    projection: &Projection,
    model: &Model,
    path: &str,
    dir: NodeRef,
) -> Result<(), TestCaseError> {
    let mut expected = children(model, path);
    let subdirectories = expected.values().filter(|thing| thing.is_directory()).count();
    prop_assert_eq!(projection.attr(dir).expect("attr").nlink as usize, 2 + subdirectories);
    let mut position = 0;
    // One at a time, each from the position that the one before it gave.
    for count in 0.. {
        let Some(entry) = entries(projection, dir, position).into_iter().next() else { break };
        prop_assert!(entry.next > position);
        position = entry.next;
        match count {
            0 => prop_assert_eq!(entry.name, b"."),
            1 => prop_assert_eq!(entry.name, b".."),
            _ => {
                let name = text(&entry.name);
                prop_assert!(
                    expected.remove(name.as_str()).is_some(),
                    "{path}/{name}: twice or not there"
                );
                let node =
                    projection.lookup(dir, &entry.name).expect("look-up").expect("a listed name");
                let attr = projection.attr(node).expect("attr");
                prop_assert_eq!((entry.ino, entry.kind), (attr.ino, attr.kind));
            }
        }
    }
    prop_assert!(expected.is_empty(), "{path} lacks {expected:?}");
    Ok(())
}

fn compare(case: &Case) -> Result<(), TestCaseError> {
    let built: Vec<_> = case.trees.iter().map(build).collect();
    let chosen: Vec<_> =
        case.mounts.iter().map(|(at, tree)| (path_of(at), tree.get(&built))).collect();
    let disk = disk(case);
    let probe = |path: &std::path::Path| match disk
        .get(path.to_str().expect("UTF-8").trim_end_matches('/'))
    {
        None => RealKind::Missing,
        Some(Thing::Real) => RealKind::Directory,
        Some(_) => RealKind::Other,
    };
    let sources = chosen.iter().map(|(at, (manifest, _))| MountSource {
        overlay: None,
        at: PathBuf::from(at),
        manifest: Arc::clone(manifest),
        mode: Mode::ReadOnly,
    });
    let projection = Projection::new(sources.collect(), &probe);
    let trees: Vec<_> = chosen.iter().map(|(at, (_, model))| (at.clone(), model)).collect();
    let (projection, model) = match (projection, mounted(disk.clone(), &trees)) {
        (Ok(projection), Some(model)) => (projection, model),
        (Err(_), None) => return Ok(()),
        (Ok(_), None) => return Err(TestCaseError::fail("the projection takes what can't be")),
        (Err(error), Some(_)) => return Err(TestCaseError::fail(error.to_string())),
    };
    let mut found = BTreeMap::new();
    for (path, thing) in &model {
        match resolve(&projection, path).expect("resolve") {
            Above::Real(_) => {
                prop_assert!(
                    matches!(thing, Thing::Real | Thing::RealFile),
                    "{path} shows the disk"
                );
                let dir = if path.is_empty() { "/" } else { path };
                let edge: BTreeSet<_> =
                    projection.edge(dir.as_bytes()).iter().map(|entry| text(&entry.name)).collect();
                let ours = children(&model, path);
                let ours = ours
                    .into_iter()
                    .filter(|(_, thing)| !matches!(thing, Thing::Real | Thing::RealFile));
                prop_assert_eq!(
                    edge,
                    ours.map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>()
                );
            }
            Above::Node(node) => {
                prop_assert!(
                    !matches!(thing, Thing::Real | Thing::RealFile),
                    "{path} hides the disk"
                );
                compare_node(&projection, &model, path, thing, node)?;
                prop_assert!(found.insert(node, path).is_none(), "{path} is another path's node");
            }
        }
        let dir = if path.is_empty() { "/" } else { path };
        let near = |at: &str| {
            let within = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}/"));
            within(at, path) || within(path, at)
        };
        let concerned = chosen.iter().any(|(at, _)| near(at));
        prop_assert_eq!(projection.may_concern(dir.as_bytes()), concerned, "{}", path);
        let holds = chosen.iter().any(|(at, _)| at.starts_with(&format!("{path}/")));
        let says = match resolve(&projection, path).expect("resolve") {
            Above::Real(_) => projection.real_holds_mount_point(dir.as_bytes()),
            Above::Node(node) => projection.holds_mount_point(node),
        };
        prop_assert_eq!(says, holds, "{}", path);
    }
    for kind in 4..7 {
        let blob = Hash::of(&[kind]);
        let mut nodes: Vec<_> = projection.by_blob(&blob).map(|node| node.expect("node")).collect();
        nodes.sort_unstable();
        let expected =
            found.iter().filter(|(_, path)| model.get(**path) == Some(&Thing::File(blob)));
        prop_assert_eq!(nodes, expected.map(|(node, _)| *node).collect::<Vec<_>>());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_projection_is_what_the_model_says(case in case()) {
        compare(&case)?;
    }
}
