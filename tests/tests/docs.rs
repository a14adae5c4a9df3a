//! The documents agree with the code. `BLESS=1` rewrites the generated parts.

#[path = "docs/snippets.rs"]
mod snippets;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use zmqv2_proto::config;
use zmqv2_proto::{Avoid, NextStep, Reason};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares a file with the text that `expected` makes of it, or rewrites it when asked to.
fn agree(path: &str, expected: impl FnOnce(&str) -> String) {
    // Two tests may rewrite parts of one page.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let text = read(path);
    let expected = expected(&text);
    if text != expected && std::env::var_os("BLESS").is_some() {
        std::fs::write(root().join(path), &expected).expect("a file");
    } else {
        assert!(text == expected, "{path} is out of date: run BLESS=1 cargo test -p zmqv2-tests --test docs");
    }
}

/// The page with `part` between the two marks.
fn with_part(page: &str, start: &str, part: &str, end: &str) -> String {
    let (head, rest) = page.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    let (_, tail) = rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}"));
    format!("{head}{start}{part}{end}{tail}")
}

/// The page with a new generated part.
fn with_generated(page: &str, part: &str) -> String {
    with_part(page, "--test docs -->\n", &format!("\n{}\n", part.trim()), "<!-- end -->")
}

#[test]
fn the_example_file_has_every_option() {
    agree("docs/zmqv2.conf.example", |_| config::example_ini());
}

#[test]
fn the_configuration_page_has_every_option() {
    agree("docs/configuration.md", |page| with_generated(page, &config::reference_markdown()));
}

#[test]
fn the_page_of_calls_has_every_reason_for_a_refusal() {
    agree("docs/calls.md", |page| with_generated(page, &refusals()));
}

#[test]
fn the_page_of_counters_has_every_counter() {
    agree("docs/counters.md", |page| with_generated(page, &zmqv2_broker::engine::reference_markdown()));
}

/// The table of reasons for users.
fn refusals() -> String {
    let mut text = "| code | reason | meaning | may have run? | the client then | counter |\n".to_owned();
    text += "| --- | --- | --- | --- | --- | --- |\n";
    for reason in Reason::ALL {
        let may_have_run = if reason.may_have_run() { "yes" } else { "no" };
        let next = match reason.next_step() {
            NextStep::OtherNode { .. } => "tries other nodes",
            NextStep::Retry => "repeats the request only with `retry`",
            NextStep::Report => "reports it",
            other => panic!("{reason}: say in words what {other:?} is"),
        };
        let avoids = match reason.avoid() {
            Avoid::Nothing => "",
            Avoid::TopicAtNode => "; avoids this topic at this node",
            Avoid::Node => "; avoids this node",
            other => panic!("{reason}: say in words what {other:?} is"),
        };
        let (code, counter) = (reason.code(), reason.counter());
        // The next column says it.
        let meaning = reason.meaning().replace(" The request did not run.", "");
        writeln!(text, "| {code} | `{reason}` | {meaning} | {may_have_run} | {next}{avoids} | `{counter}` |")
            .expect("a String takes every text");
    }
    let rank = |reason: &Reason| match reason.next_step() {
        NextStep::OtherNode { rank, .. } => Some(rank),
        _ => None,
    };
    let mut others: Vec<_> = Reason::ALL.into_iter().filter(|reason| rank(reason).is_some()).collect();
    others.sort_by_key(|reason| std::cmp::Reverse(rank(reason)));
    let others: Vec<_> = others.iter().map(|reason| format!("`{reason}`")).collect();
    text + "\nIf all nodes refuse a request, the client reports one of their reasons:\n"
        + &others.join(" before ")
        + "."
}

#[test]
fn the_pages_show_code_that_compiles() {
    snippets::compile();
    let source = read("tests/tests/docs/snippets.rs");
    let snippets: Vec<_> =
        source.split("// snippet: ").skip(1).map(|rest| rest.split_once('\n').expect("code")).collect();
    for page in entries(&root().join("docs")).iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let page = format!("docs/{}", page.file_name().expect("a name").to_string_lossy());
        agree(&page, |text| {
            let shown = snippets.iter().filter(|(name, _)| text.contains(&mark(name)));
            shown.fold(text.to_owned(), |text, (name, code)| with_part(&text, &mark(name), &snippet(code), "```\n"))
        });
        assert_eq!(read(&page).matches("```rust").count(), read(&page).matches("<!-- snippet: ").count(), "{page}");
    }
}

fn mark(snippet: &str) -> String {
    format!("<!-- snippet: {snippet} -->\n```rust\n")
}

/// The lines up to the end of a snippet, without their indentation.
fn snippet(code: &str) -> String {
    let indentation = &code[..code.len() - code.trim_start_matches(' ').len()];
    let lines = code.lines().take_while(|line| line.trim() != "// end");
    lines.map(|line| line.strip_prefix(indentation).unwrap_or(line).to_owned() + "\n").collect()
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

#[test]
fn the_first_page_of_each_crate_shows_the_flags_of_the_fast_build() {
    let config = read(".cargo/config.toml");
    let flags = config.lines().find(|line| line.starts_with("CXXFLAGS = ")).expect("the flags");
    for name in ["proto", "client", "server", "broker"] {
        for (page, start) in [("README.md", ""), ("src/lib.rs", "//! ")] {
            let page = format!("crates/zmqv2-{name}/{page}");
            assert!(read(&page).contains(&format!("{start}[env]\n{start}{flags}\n")), "{page} does not show: {flags}");
        }
    }
}

/// The crates of zmqv2 that a text imports.
fn imports(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_start_matches(['/', '!', ' ', '#']));
    let names = lines.filter_map(|line| line.strip_prefix("use zmqv2_"));
    names.filter_map(|rest| rest.split([':', ';', ' ']).next()).map(str::to_owned).collect()
}

#[test]
fn examples_and_documentation_of_a_crate_import_that_crate_only() {
    let mut found = 0;
    for name in ["proto", "matchmaker", "client", "server", "broker"] {
        let dir = root().join(format!("crates/zmqv2-{name}"));
        let mut texts = vec![(dir.join("README.md"), String::new())];
        let examples = dir.join("examples");
        if examples.exists() {
            // A folder has the declaration of a service, which is a crate of its own in other projects.
            let programs = entries(&examples).into_iter().filter(|path| !path.is_dir());
            texts.extend(programs.map(|path| (path, String::new())));
        }
        for (path, text) in &mut texts {
            *text = std::fs::read_to_string(&*path).expect("a text");
        }
        let mut dirs = vec![dir.join("src")];
        while let Some(dir) = dirs.pop() {
            for path in entries(&dir) {
                if path.is_dir() {
                    dirs.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let source = std::fs::read_to_string(&path).expect("a source");
                    let docs = source.lines().filter(|line| line.trim_start().starts_with("//"));
                    texts.push((path, docs.map(|line| format!("{line}\n")).collect()));
                }
            }
        }
        for (path, text) in texts {
            // The broker's engine is internal, and a test of a service has all three ends.
            let path = path.strip_prefix(root()).expect("a path in the workspace").display().to_string();
            let may = path.starts_with("crates/zmqv2-broker/src/engine/") || path.contains("-broker/src/testing/");
            for import in imports(&text) {
                found += 1;
                assert!(may || import == name, "{path} uses zmqv2_{import}: re-export what it needs in zmqv2-{name}");
            }
        }
    }
    assert!(found > 20, "only {found} imports were found");
    assert_eq!(
        imports("/// # use zmqv2_proto::Node;\n//! use zmqv2_client::{A};\nuse zmqv2_tests;"),
        ["proto", "client", "tests"]
    );
}
