//! The house itself: which crate may know which, what may be written where, and what must stand in no file.
//!
//! What depends on what is a decision, so it is one table here: a crate or an edge that is not in it fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Each crate and those of ours that it may depend on, from the outermost to the innermost.
const HOUSE: &[(&str, &[&str])] = &[
    (
        "weft",
        &[
            "schema",
            "graphql",
            "resolvers",
            "loaders",
            "engine",
            "providers",
            "auth",
            "events",
            "adapters",
            "entities",
            "migration",
        ],
    ),
    ("schema", &["graphql", "resolvers"]),
    (
        "resolvers",
        &[
            "graphql",
            "loaders",
            "engine",
            "providers",
            "auth",
            "events",
            "adapters",
            "entities",
        ],
    ),
    ("graphql", &[]),
    ("graphql-sample", &["graphql"]),
    ("loaders", &["engine", "auth", "events", "entities"]),
    (
        "engine",
        &["providers", "auth", "events", "adapters", "entities"],
    ),
    ("providers", &["adapters"]),
    ("auth", &["events", "adapters", "entities"]),
    ("events", &["adapters", "entities"]),
    ("adapters", &["entities"]),
    ("entities", &[]),
    ("migration", &[]),
    ("support", &[]),
    ("it", &["support", "entities"]),
];

/// What tests of a crate may use besides: the tables, the product from outside, and a crate with a schema for `graphql`.
const FOR_TESTS: &[(&str, &[&str])] = &[
    (
        "migration",
        &[
            "auth",
            "engine",
            "entities",
            "events",
            "loaders",
            "resolvers",
            "schema",
            "weft",
        ],
    ),
    (
        "support",
        &[
            "auth",
            "engine",
            "events",
            "loaders",
            "providers",
            "resolvers",
            "schema",
            "weft",
        ],
    ),
    ("graphql-sample", &["graphql"]),
];

/// Libraries that only these may depend on, be it for their tests.
const WALLS: &[(&str, &[&str])] = &[
    // SQL. Everybody else reads through `entities`, where no select starts without a tenant.
    ("sea-orm", &["entities", "events", "weft"]),
    ("sqlx", &["entities", "events", "weft"]),
    ("sea-orm-migration", &["migration"]),
    // Everybody else takes `graphql`, whose resolver of objects takes this one's place.
    ("async-graphql", &["graphql"]),
    // HTTP as a server is the edge's matter; as a client the guarded one's, but for the tests from outside.
    ("axum", &["weft"]),
    ("hyper", &["weft"]),
    ("reqwest", &["adapters", "providers", "support", "it"]),
    // Errors without a type end where nobody can act on them.
    ("anyhow", &["weft", "support", "it"]),
];

/// Crates whose reads may have no tenant yet: sign-in, the log, claiming and recovery, start; and the reads of `entities` that have a
/// name, of what is one person's in all his tenants and of the words of one tenant.
const SYSTEM: &[&str] = &["auth", "engine", "entities", "events", "gateway", "tests"];

/// The most lines of a Rust file, and those that are longer with a reason.
const LINES: usize = 800;
const LONG: &[&str] = &[];

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("tests/it lies in the workspace")
        .to_owned()
}

fn packages() -> Vec<Package> {
    let mut command = MetadataCommand::new();
    let metadata = command
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec();
    metadata.expect("cargo describes the workspace").packages
}

/// Files of the repository, relative to its root; what git or a package manager keeps there apart.
fn files() -> Vec<(String, PathBuf)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let entry = entry.expect("an entry of a folder");
            let (path, name) = (entry.path(), entry.file_name());
            let is_folder = entry.file_type().expect("its type").is_dir();
            let kept_apart = [
                "target",
                ".git",
                "node_modules",
                ".venv",
                "weft-data",
                "__pycache__",
            ];
            if is_folder && !kept_apart.iter().any(|apart| name == OsStr::new(apart)) {
                folders.push(path);
            } else if !is_folder {
                let relative = path.strip_prefix(&root).expect("below the root");
                found.push((relative.to_string_lossy().replace('\\', "/"), path));
            }
        }
    }
    found.sort();
    found
}

/// Rust files with their text.
fn sources() -> Vec<(String, String)> {
    let rust = files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"));
    rust.map(|(name, path)| (name, fs::read_to_string(path).expect("a Rust file is text")))
        .collect()
}

fn may(table: &[(&str, &[&str])], who: &str, what: &str) -> bool {
    table
        .iter()
        .any(|(name, allowed)| *name == who && allowed.contains(&what))
}

#[test]
fn each_crate_knows_only_those_that_it_may() {
    let packages = packages();
    let mut wrong = Vec::new();
    for package in &packages {
        let from = package.name.as_str();
        if !HOUSE.iter().any(|(name, _)| *name == from) {
            wrong.push(format!("{from} is not in the table"));
        }
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some())
        {
            let to = dependency.name.as_str();
            let for_tests =
                dependency.kind == DependencyKind::Development && may(FOR_TESTS, to, from);
            if !may(HOUSE, from, to) && !for_tests {
                wrong.push(format!("{from} → {to}"));
            }
        }
    }
    let there: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    wrong.extend(
        HOUSE
            .iter()
            .filter(|(name, _)| !there.contains(name))
            .map(|(name, _)| format!("{name} is in the table and nowhere else")),
    );
    assert!(
        wrong.is_empty(),
        "edges of the house that are not in its table: {wrong:#?}"
    );
}

#[test]
fn the_table_has_one_direction() {
    let order: BTreeMap<&str, usize> = HOUSE
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (*name, at))
        .collect();
    for (from, allowed) in HOUSE
        .iter()
        .filter(|(name, _)| !["graphql-sample", "it"].contains(name))
    {
        for to in *allowed {
            assert!(
                order[from] < order[to],
                "{from} → {to} goes against the order of the table"
            );
        }
    }
}

#[test]
fn walls_stand() {
    let mut wrong = Vec::new();
    for package in packages() {
        for dependency in &package.dependencies {
            let walled = WALLS.iter().find(|(name, _)| *name == dependency.name);
            if walled.is_some_and(|(_, allowed)| !allowed.contains(&package.name.as_str())) {
                wrong.push(format!("{} → {}", package.name, dependency.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "libraries that these crates must not know: {wrong:#?}"
    );
}

#[test]
fn reads_without_a_tenant_start_in_few_places() {
    // Spelled in two pieces, so that this file does not find itself.
    let needle = ["SystemScope", "::of("].concat();
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| {
            let krate = name.split('/').next().unwrap_or_default();
            let is_test = name.contains("/tests/")
                || name.ends_with("/tests.rs")
                || name.ends_with("/testing.rs");
            !SYSTEM.contains(&krate) && !is_test
        })
        .filter(|(_, text)| {
            // The tests of a file stand at its end.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            code.lines()
                .any(|line| line.contains(&needle) && !line.trim_start().starts_with("//"))
        })
        .map(|(name, _)| name)
        .collect();
    assert!(
        wrong.is_empty(),
        "files that may not make a scope without a tenant: {wrong:#?}"
    );
}

#[test]
fn files_stay_readable() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        if lines >= LINES && !LONG.contains(&name.as_str()) {
            wrong.push(format!("{name} has {lines} lines"));
        }
        let stem = Path::new(&name).file_stem().unwrap_or_default();
        if ["utils", "util", "helpers", "common", "manager", "misc"]
            .iter()
            .any(|word| stem == OsStr::new(word))
        {
            wrong.push(format!("{name} says nothing by its name"));
        }
    }
    assert!(
        wrong.is_empty(),
        "files that have outgrown their idea: {wrong:#?}"
    );
}

#[test]
fn no_file_speaks_of_one_machine() {
    // In pieces, so that this file does not find itself.
    let needles: Vec<String> = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["registry.npm", "js.org"],
        ["py", "pi.org"],
        ["files.python", "hosted.org"],
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["proxy.golang", ".org"],
        ["deb.debian", ".org"],
        // A lock file of npm says with it where each package was fetched from.
        ["\"resol", "ved\":"],
    ]
    .iter()
    .map(|pieces| pieces.concat())
    .collect();
    let mut wrong = Vec::new();
    for (name, path) in files() {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if needles.iter().any(|needle| line.contains(needle)) || names_a_home(line) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
        let stranger = |line: &&str| line.starts_with("source = ") && *line != CRATES;
        if name == "Cargo.lock" {
            wrong.extend(
                text.lines()
                    .filter(stranger)
                    .map(|line| format!("{name}: {line}")),
            );
        }
    }
    assert!(
        wrong.is_empty(),
        "a path of one machine, or where one fetches its packages: {wrong:#?}"
    );
}

/// The only source of packages in `Cargo.lock`.
const CRATES: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Whether a line names somebody's home: `/home/` and a name.
fn names_a_home(line: &str) -> bool {
    let home = ["/ho", "me/"].concat();
    line.split(&home)
        .skip(1)
        .any(|after| after.starts_with(|letter: char| letter.is_ascii_lowercase()))
}
