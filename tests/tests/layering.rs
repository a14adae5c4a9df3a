//! Proves that a crate depends only on the crates beneath it.

use std::process::Command;

use serde_json::Value;

/// The crates of this workspace that each crate may depend on.
const BENEATH: &[(&str, &[&str])] = &[
    ("zmqv2-proto", &[]),
    ("zmqv2-matchmaker", &["zmqv2-proto"]),
    ("zmqv2-client", &["zmqv2-proto", "zmqv2-matchmaker"]),
    ("zmqv2-server", &["zmqv2-proto", "zmqv2-matchmaker"]),
    ("zmqv2-broker", &["zmqv2-proto", "zmqv2-matchmaker", "zmqv2-client", "zmqv2-server"]),
    ("zmqv2-tests", &["zmqv2-proto", "zmqv2-matchmaker", "zmqv2-client", "zmqv2-server", "zmqv2-broker"]),
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every dependency that points upwards or sideways, as `from -> to`, including those for tests and
/// builds.
fn violations(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let Some((_, beneath)) = BENEATH.iter().find(|(known, _)| *known == name) else {
            found.push(format!("{name} has no place in the layers"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            if to.starts_with("zmqv2-") && !beneath.contains(&to) {
                found.push(format!("{name} -> {to}"));
            }
            // The other side of the comparison uses libzmq itself.
            let may = ["zmqv2-proto", "zmqv2-tests"].contains(&name);
            if !may && to.starts_with("zmq") && !to.starts_with("zmqv2") {
                found.push(format!("{name} -> {to}: libzmq is reached through zmqv2-proto alone"));
            }
        }
    }
    found
}

#[test]
fn every_crate_depends_only_on_those_beneath_it() {
    let metadata = metadata();
    assert_eq!(metadata["packages"].as_array().map(Vec::len), Some(BENEATH.len()));
    assert_eq!(violations(&metadata), Vec::<String>::new());
}

#[test]
fn the_check_sees_a_dependency_that_points_upwards() {
    let mut metadata = metadata();
    for package in metadata["packages"].as_array_mut().expect("packages") {
        if package["name"] == "zmqv2-server" {
            package["dependencies"].as_array_mut().expect("a list").push(serde_json::json!({ "name": "zmqv2-client" }));
        }
    }
    assert_eq!(violations(&metadata), ["zmqv2-server -> zmqv2-client"]);
}

/// Dependencies that are allowed only behind a feature or in other crates.
fn unwanted(metadata: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            let optional = dependency["optional"] == true;
            // Tests may use any dependency.
            let built_in = dependency["kind"].is_null();
            let wrong = match (name, to) {
                ("zmqv2-broker", "zmqv2-client" | "zmqv2-server" | "anyhow") => built_in && !optional,
                ("zmqv2-tests", "anyhow") => false,
                // A library has typed errors.
                (_, "anyhow") => true,
                _ => false,
            };
            if wrong {
                found.push(format!("{name} -> {to}"));
            }
        }
    }
    found
}

#[test]
fn the_tools_dependencies_are_optional_and_libraries_have_typed_errors() {
    let mut metadata = metadata();
    assert_eq!(unwanted(&metadata), Vec::<String>::new());
    // The check finds a wrong dependency.
    for package in metadata["packages"].as_array_mut().expect("packages") {
        let name = package["name"].clone();
        let dependencies = package["dependencies"].as_array_mut().expect("a list");
        if name == "zmqv2-broker" {
            let client = dependencies.iter_mut().find(|dependency| dependency["name"] == "zmqv2-client");
            client.expect("the tool's client")["optional"] = false.into();
        } else if name == "zmqv2-proto" {
            dependencies.push(serde_json::json!({ "name": "anyhow", "optional": true, "kind": null }));
        }
    }
    let mut found = unwanted(&metadata);
    found.sort();
    assert_eq!(found, ["zmqv2-broker -> zmqv2-client", "zmqv2-proto -> anyhow"]);
}

/// The names of all packages in the build of `package`.
fn tree(package: &str, flags: &[&str]) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--package", package])
        .args(flags)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn without_their_features_the_crates_are_small() {
    let has = |names: &[String], name: &str| names.iter().any(|other| other == name);
    assert!(has(&tree("zmqv2-proto", &[]), "zmq"), "the default build reaches libzmq");
    let pure = tree("zmqv2-proto", &["--no-default-features"]);
    assert!(has(&pure, "serde") && !pure.iter().any(|name| name == "zmq" || name.starts_with("zmq-")), "{pure:?}");
    let matchmaker = tree("zmqv2-matchmaker", &["--no-default-features"]);
    assert!(!has(&matchmaker, "zmq"), "{matchmaker:?}");
    let library = tree("zmqv2-broker", &["--no-default-features"]);
    for name in ["zmqv2-client", "zmqv2-server", "anyhow", "clap", "env_logger", "signal-hook"] {
        assert!(!has(&library, name), "the broker's library has {name}");
        assert!(has(&tree("zmqv2-broker", &[]), name), "the check looks for {name}, which nothing has");
    }
    let daemon = tree("zmqv2-broker", &["--no-default-features", "--features", "daemon"]);
    assert!(has(&daemon, "clap") && !has(&daemon, "zmqv2-client") && !has(&daemon, "zmqv2-server"), "{daemon:?}");
}
