//! A crate depends only on crates beneath it.

use std::process::Command;

use serde_json::Value;

/// What each crate may depend on, of this workspace.
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

/// Every dependency that points upwards or sideways, as `from -> to`; of any kind, for tests and builds too.
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
            if name != "zmqv2-proto" && to.starts_with("zmq") && !to.starts_with("zmqv2") {
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
