//! The README's commands work as they are printed there.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use zmqv2_tests::{Process, in_namespaces, skip};

/// What the commands become here, where the binaries are built already.
const BUILT: [(&str, &str); 2] =
    [("cargo run --release --bin zmqv2-broker", "\"$B\""), ("cargo run --release --bin zmqv2 --", "\"$Z\"")];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text under a heading of the README.
fn section(heading: &str) -> String {
    let readme = read("README.md");
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().expect("a section").to_owned()
}

/// Its lines of code.
fn commands(heading: &str) -> Vec<String> {
    section(heading).lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// One after the other; what does not end goes on in the background when it has said `ready`. The output of the
/// others is in files `1`, `2`, ...
fn script(commands: &[String]) -> String {
    let mut script = "trap 'kill $all; wait' EXIT\n".to_owned();
    for (n, command) in commands.iter().enumerate() {
        let (words, built) = BUILT.iter().find(|(words, _)| command.starts_with(words)).expect("a command of cargo");
        let line = command.replacen(words, built, 1);
        let told = if command.ends_with("-broker") || command.contains(" serve ") {
            writeln!(
                script,
                "{line} 2>log{n} & all=\"$all $!\"\nuntil grep -q ^ready log{n}; do kill -0 $!; sleep 0.01; done"
            )
        } else {
            writeln!(script, "{line} >{n}")
        };
        told.expect("a String takes every text");
    }
    script
}

#[test]
fn three_terminals_work_as_printed() {
    let commands = commands("Three terminals");
    let dir = tempfile::Builder::new().prefix("zq").tempdir().expect("a temporary directory");
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    std::fs::write(dir.path().join("walk"), script(&commands)).expect("a file");
    let Some(mut walk) = in_namespaces("sh -e walk") else {
        return skip("three_terminals_work_as_printed", "no namespaces (unshare) here");
    };
    let finished = Process::run(walk.current_dir(dir.path()));
    assert_eq!(finished.code(), 0, "{finished:?}\n{}", file("log0"));
    let output = |words: &str| {
        let n = commands.iter().position(|command| command.contains(words)).unwrap_or_else(|| panic!("no {words}"));
        file(&n.to_string())
    };
    let printed = output(" call demo echo ");
    assert!(section("Three terminals").contains(&format!("prints `{}`", printed.trim_end())), "it prints {printed}");
    assert_eq!(serde_json::from_str::<Value>(&printed).expect("JSON"), json!({"text": "hello"}));
    assert!(output(" status").contains("openstack/demo: 0 waiting\n  alpha: "), "{}", output(" status"));
    assert!(output(" ping demo").starts_with("pong, answered by alpha at node "), "{}", output(" ping demo"));
    let clock: Value = serde_json::from_str(&output(" call clock now")).expect("JSON");
    assert!(clock["now"].as_str().is_some_and(|time| time.len() == "hh:mm:ss".len()), "{clock}");
}

#[test]
fn the_first_commands_are_checks_of_every_change() {
    let checks = read(".ci/run");
    let first = commands("Try it");
    assert_eq!(first, ["cargo run --release --bin zmqv2 -- demo", "cargo test --workspace"]);
    for command in first {
        assert!(checks.lines().any(|line| line == command), "{command} is no check");
    }
}
