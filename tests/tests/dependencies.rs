//! The crates' examples are built from the same dependencies as the programs, and no dependency needs a newer Rust than ours.
//! Licences, banned crates and double versions: `deny.toml`.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

fn cargo(args: &[&str]) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Every package with its version and features, of a build of the five crates.
fn built(edges: &str) -> BTreeSet<String> {
    let mut args = vec!["tree", "--locked", "--offline", "--edges", edges, "--prefix", "none", "--format", "{p} {f}"];
    args.extend(["--no-dedupe", "--workspace", "--exclude", "zmqv2-tests"]);
    cargo(&args).expect("cargo tree").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn examples_are_built_from_the_same_dependencies_as_the_programs() {
    let (programs, examples) = (built("normal,build"), built("normal,build,dev"));
    let more: Vec<_> = examples.difference(&programs).filter_map(|line| line.split(' ').next()).collect();
    // A feature that a dev-dependency adds would compile much of the stack again for the first example. An example
    // shows an async program, so it needs an executor.
    let expected = ["pin-project-lite", "stats_alloc", "tokio", "tokio-macros"];
    assert_eq!(more, expected, "a test tool belongs behind a feature, or into the package zmqv2-tests");
    assert!(programs.iter().all(|line| !line.starts_with("tokio ")), "the crates have no async runtime");
}

/// The packages of a build of `package` without default features, with `features`. Includes itself and our other crates.
fn packages(package: &str, features: &str, edges: &str) -> BTreeSet<String> {
    let mut args = vec!["tree", "--locked", "--offline", "--edges", edges, "--prefix", "none", "--format", "{p}"];
    args.extend(["--package", package, "--no-default-features", "--features", features]);
    let first_words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let text = cargo(&args).expect("cargo tree");
    text.lines().filter(|line| !line.is_empty()).map(first_words).collect()
}

#[test]
fn without_redis_a_client_and_a_server_have_fewer_than_40_packages() {
    let has = |packages: &BTreeSet<String>, name: &str| packages.iter().any(|p| p.starts_with(&format!("{name} ")));
    for package in ["zmqv2-client", "zmqv2-server", "zmqv2-matchmaker", "zmqv2-proto"] {
        let features = if package == "zmqv2-proto" { "zmq" } else { "" };
        let linked = packages(package, features, "normal");
        let with_libzmq = packages(package, features, "normal,build");
        println!("{package}: {}, with those that build libzmq {}", linked.len(), with_libzmq.len());
        assert!((10..40).contains(&linked.len()), "{package} has {}: {linked:#?}", linked.len());
        assert!(with_libzmq.len() < 60, "{package} has {}: {with_libzmq:#?}", with_libzmq.len());
        assert!(!has(&linked, "redis") && !has(&linked, "rustls"), "{linked:#?}");
    }
    assert!(has(&packages("zmqv2-client", "redis", "normal"), "redis"), "the client passes the feature through");
    assert!(!has(&packages("zmqv2-broker", "tool", "normal"), "redis"), "a broker can do without, also with the tool");
    for features in ["redis", "redis,tool"] {
        assert!(has(&packages("zmqv2-broker", features, "normal"), "redis"), "the broker passes the feature through");
    }
    let by_default =
        cargo(&["tree", "--offline", "--prefix", "none", "--package", "zmqv2-broker"]).expect("cargo tree");
    assert!(by_default.contains("\nredis v"), "the programs have it by default");
}

/// The oldest Rust that builds it, if it says so.
fn oldest_rust(package: &Value) -> Option<(u32, u32)> {
    let mut numbers = package["rust_version"].as_str()?.split('.').map(|number| number.parse().expect("a number"));
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

#[test]
fn every_crate_names_its_oldest_rust_and_no_dependency_needs_a_newer_one() {
    let version = cargo(&["-vV"]).expect("cargo -vV");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let metadata = match cargo(&args) {
        Ok(text) => serde_json::from_str::<Value>(&text).expect("JSON"),
        // It asks for a few packages that no build needs.
        Err(error) => {
            assert!(std::env::var_os("ZMQV2_REQUIRE_ALL").is_none(), "{error}");
            println!("skipped: {error}");
            return;
        }
    };
    let packages = metadata["packages"].as_array().expect("packages");
    let own = packages.iter().filter(|package| package["source"].is_null());
    let ours: BTreeSet<_> = own.map(oldest_rust).collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let ours = ours.into_iter().next().flatten().expect("every crate has a rust-version");
    for package in packages {
        let needs = oldest_rust(package);
        assert!(needs.is_none_or(|needs| needs <= ours), "{} needs Rust {needs:?}", package["name"]);
    }
}
