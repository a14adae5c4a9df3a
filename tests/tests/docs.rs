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

/// Compares the part of a page between the marks, or rewrites it when asked to.
fn agree_between_marks(path: &str, expected: &str) {
    let page = read(path);
    let (start, end) = ("--test docs -->\n", "<!-- end -->");
    let (head, rest) = page.split_once(start).expect("a start mark");
    let (_, tail) = rest.split_once(end).expect("an end mark");
    agree(path, &format!("{head}{start}\n{}\n{end}{tail}", expected.trim()));
}

#[test]
fn the_configuration_page_has_every_option() {
    agree_between_marks("docs/configuration.md", &config::reference_markdown());
}

#[test]
fn the_counters_page_has_every_counter() {
    agree_between_marks("docs/counters.md", &zmqv2_broker::engine::reference_markdown());
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

/// Every page of the repository, with the links in it that lead to files of it.
fn links() -> Vec<(PathBuf, Vec<String>)> {
    let mut pages = Vec::new();
    let mut dirs = vec![root(), root().join("docs"), root().join("docs/decisions")];
    dirs.extend(entries(&root().join("crates")));
    for page in dirs.iter().flat_map(|dir| entries(dir)).filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        pages.push((page, targets.filter(|link| !link.starts_with("http")).map(str::to_owned).collect()));
    }
    pages
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    found.map(|entry| entry.expect("an entry").path()).collect()
}

/// How a page calls a heading in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let pages = links();
    assert!(pages.len() > 20 && pages.iter().map(|(_, links)| links.len()).sum::<usize>() > 30, "{pages:?}");
    for (page, link) in pages.iter().flat_map(|(page, links)| links.iter().map(move |link| (page, link))) {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let dir = page.parent().expect("a directory");
        let target = if path.is_empty() { page.clone() } else { dir.join(path) };
        assert!(target.exists(), "{} links to {link}, which is not there", page.display());
        if !heading.is_empty() {
            let text = std::fs::read_to_string(&target).expect("a page");
            let found = text.lines().filter(|line| line.starts_with('#')).any(|line| {
                let title = line.trim_start_matches('#').trim();
                anchor(title) == heading
            });
            assert!(found, "{} links to {link}: no such heading", page.display());
        }
    }
}

#[test]
fn the_comparison_counts_the_tests_of_both_drivers() {
    let suites = ["tests/tests/messaging_rpc.rs", "tests/tests/messaging_notify.rs"].map(read).concat();
    let of = |words: &str| suites.matches(words).count();
    let (all, legacy, zmqv2) = (of(": legacy "), of(": legacy Pass"), of("zmqv2 Pass;"));
    let page = read("docs/comparison.md").replace('\n', " ");
    let words = format!("Of its {all} tests zmqv2 passes {zmqv2}, and the legacy driver {legacy};");
    assert!(page.contains(&words), "docs/comparison.md does not say: {words}");
}

#[test]
fn the_book_has_every_page() {
    let contents = read("docs/README.md");
    for page in entries(&root().join("docs")) {
        let name = page.file_name().expect("a name").to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "README.md" {
            assert!(contents.contains(&format!("({name})")), "docs/README.md does not list {name}");
        }
    }
}
