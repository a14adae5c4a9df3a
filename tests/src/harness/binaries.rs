//! Builds the binaries under test, and returns their paths.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of a binary of this workspace, built from the current sources.
pub fn binary(name: &str) -> PathBuf {
    BUILT.get_or_init(|| build(&[])).join(name)
}

static BUILT: OnceLock<PathBuf> = OnceLock::new();

/// Builds only these binaries, for a program that needs no others and calls this first.
pub fn build_only(names: &[&str]) {
    BUILT.get_or_init(|| build(names));
}

/// Builds binaries, also of other packages, which `cargo test` of this package alone does not build.
/// If they are up to date, this takes a moment and changes nothing.
fn build(names: &[&str]) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/TEST, or target/PROFILE/BINARY
    let profile = own.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).map(Path::to_owned);
    let profile = profile.expect("a profile directory");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--workspace"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if names.is_empty() {
        cargo.arg("--bins");
    }
    cargo.args(names.iter().flat_map(|name| ["--bin", name]));
    cargo.arg("--target-dir").arg(profile.parent().expect("a target directory"));
    // A surrounding `cargo run` sets variables about its own package. With them, build scripts
    // would run again each time.
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_a_package(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    // Without this, a program that was built with the feature would be replaced by one without it.
    if cfg!(feature = "peers") {
        cargo.args(["--features", "zmqv2-tests/peers"]);
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the binaries cannot be built: {status}");
    profile
}

fn of_a_package(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| variable.starts_with(start))
}
