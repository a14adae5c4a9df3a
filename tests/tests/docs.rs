//! The documents agree with the code. `BLESS=1` rewrites the generated parts.

use std::path::{Path, PathBuf};

use zmqv2_proto::config;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares, or rewrites the file when asked to.
fn agree(path: &str, expected: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(path), expected).expect("a file");
    }
    assert!(read(path) == expected, "{path} is out of date: run BLESS=1 cargo test -p zmqv2-tests --test docs");
}

#[test]
fn the_example_file_has_every_option() {
    agree("docs/zmqv2.conf.example", &config::example_ini());
}

#[test]
fn the_configuration_page_has_every_option() {
    let page = read("docs/configuration.md");
    let (start, end) = ("--test docs -->\n", "<!-- end -->");
    let (head, rest) = page.split_once(start).expect("a start mark");
    let (_, tail) = rest.split_once(end).expect("an end mark");
    agree("docs/configuration.md", &format!("{head}{start}\n{}\n{end}{tail}", config::reference_markdown().trim()));
}

#[test]
fn the_readmes_programs_are_the_examples() {
    let readme = read("README.md");
    for example in ["crates/zmqv2-server/examples/add_server.rs", "crates/zmqv2-client/examples/add_client.rs"] {
        let source = read(example);
        // Without the line that says what the file is.
        let (_, program) = source.split_once("\n\n").expect("a comment on top");
        assert!(readme.contains(program), "README.md does not show {example} as it is");
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut checked = 0;
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/README.md",
        "docs/calls.md",
        "docs/serving.md",
        "docs/configuration.md",
        "docs/matchmaker.md",
        "docs/operations.md",
        "docs/tool.md",
        "docs/wire-protocol.md",
    ] {
        let dir = root().join(page).parent().expect("a directory").to_owned();
        for link in read(page).split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if !link.starts_with("http") {
                assert!(
                    dir.join(link.split('#').next().expect("a path")).exists(),
                    "{page} links to {link}, which is not there"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} links were found");
}
