//! The wall between the engines and the network: what broker and orchestrator are built of has no HTTP server in it, however it would come there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What serves HTTP, or is made for it.
const OF_SERVERS: [&str; 9] =
    ["axum", "axum-core", "hyper", "hyper-util", "sagamq-server", "tower", "tower-http", "tower-service", "utoipa-axum"];

/// With this the orchestrator calls participants. What it brings is its own affair.
const CLIENT: &str = "reqwest";

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Who depends on whom in a lock file: for tests and on all platforms, too, so no less than what is built.
fn dependencies(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.split("name = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a package has a name");
        let needs = found.entry(name).or_default();
        let Some((_, list)) = package.split_once("dependencies = [") else { continue };
        // ` "name",` or ` "name version",` where several versions of it are there.
        let named = list.split(']').next().expect("the list ends").split('"').skip(1).step_by(2);
        needs.extend(named.filter_map(|named| named.split(' ').next()));
    }
    found
}

/// All that a package is built of, but for what comes with `without`.
fn tree<'a>(dependencies: &BTreeMap<&'a str, BTreeSet<&'a str>>, root: &'a str, without: Option<&str>) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(next) = open.pop() {
        let needs = dependencies.get(next).unwrap_or_else(|| panic!("{next} is in no lock file"));
        open.extend(needs.iter().copied().filter(|name| Some(*name) != without && found.insert(*name)));
    }
    found
}

fn of_servers<'a>(packages: &BTreeSet<&'a str>) -> Vec<&'a str> {
    OF_SERVERS.into_iter().filter_map(|name| packages.get(name).copied()).collect()
}

#[test]
fn the_engines_are_built_without_an_http_server() {
    let lock = read("Cargo.lock");
    let dependencies = dependencies(&lock);
    for (engine, client) in [("sagamq-api", None), ("sagamq-broker", None), ("sagamq-saga", Some(CLIENT))] {
        let packages = tree(&dependencies, engine, client);
        assert!(packages.len() > 20, "{engine}: {packages:?}");
        assert_eq!(of_servers(&packages), Vec::<&str>::new(), "{engine}");
    }
    // They are all there to be found.
    let server = tree(&dependencies, "sagamq-server", None);
    for name in OF_SERVERS.into_iter().filter(|name| !["sagamq-server", "utoipa-axum"].contains(name)) {
        assert!(server.contains(name), "the server is built without {name}");
    }
}

#[test]
fn what_comes_by_way_of_others_is_found() {
    let lock = "[[package]]\nname = \"engine\"\ndependencies = [\n \"client\",\n \"other 1.0.0\",\n]\n[[package]]\nname = \"other\"\ndependencies = [\n \
                \"axum\",\n]\n[[package]]\nname = \"client\"\ndependencies = [\n \"hyper\",\n]\n[[package]]\nname = \"axum\"\n[[package]]\nname = \"hyper\"\n";
    let dependencies = dependencies(lock);
    assert_eq!(of_servers(&tree(&dependencies, "engine", Some("client"))), ["axum"]);
    assert_eq!(of_servers(&tree(&dependencies, "engine", None)), ["axum", "hyper"]);
}
