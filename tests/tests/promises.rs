//! `docs/promises.md` has every promise, and every test that it names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// P1 to P15, RG01 to RG45.
const PROMISES: usize = 15;
const REGRESSIONS: usize = 45;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

#[derive(Debug, PartialEq)]
enum State {
    Held,
    NotYet,
    DoesNotApply,
}

#[derive(Debug, Default)]
struct Entry {
    states: Vec<State>,
    tests: Vec<String>,
}

/// The entries by their names. An entry begins with `### NAME: title`.
fn entries(page: &str) -> (BTreeMap<String, Entry>, Vec<String>) {
    let mut entries = BTreeMap::<String, Entry>::new();
    let mut wrong = Vec::new();
    let mut current = None;
    for line in page.lines() {
        if line.starts_with('#') {
            let name = line.strip_prefix("### ").and_then(|heading| heading.split_once(": ")).map(|(name, _)| name);
            if let Some(name) = name.filter(|name| entries.insert((*name).to_owned(), Entry::default()).is_some()) {
                wrong.push(format!("{name} is there twice"));
            }
            current = name.map(str::to_owned);
            continue;
        }
        let Some(entry) = current.as_ref().and_then(|name| entries.get_mut(name)) else { continue };
        let states = [
            ("**Held.**", State::Held),
            ("**Held, except:**", State::Held),
            ("**Not held yet:**", State::NotYet),
            ("**Does not apply:**", State::DoesNotApply),
        ];
        entry.states.extend(states.into_iter().filter(|(words, _)| line.starts_with(words)).map(|(_, state)| state));
        if let Some(test) = line.strip_prefix("- ") {
            entry.tests.push(test.trim_matches('`').to_owned());
        }
    }
    (entries, wrong)
}

/// The names of the functions behind `#[test]`, also within `proptest!`.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    source.lines().map(str::trim).filter_map(move |line| {
        marked |= line == "#[test]";
        let (name, _) = line.strip_prefix("fn ")?.split_once('(')?;
        std::mem::take(&mut marked).then_some(name)
    })
}

/// Adds the tests of all sources in a folder and beneath it.
fn collect(dir: &Path, tests: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tests_of(&std::fs::read_to_string(&path).expect("a source")).map(str::to_owned));
        }
    }
}

/// The tests of packages, each read when the page names it first.
#[derive(Default)]
struct Sources(BTreeMap<String, BTreeSet<String>>);

impl Sources {
    /// Whether there is a test such as `zmqv2-client: name`, `tests/tests/casts.rs: name` or
    /// `zmqv2-broker: scenarios/cast.txt`.
    fn has(&mut self, test: &str) -> bool {
        let Some((place, name)) = test.split_once(": ") else { return false };
        let dir = if place == "zmqv2-tests" { root().join("tests") } else { root().join("crates").join(place) };
        if name.starts_with("scenarios/") {
            return dir.join("tests").join(name).is_file();
        }
        let tests = self.0.entry(place.to_owned()).or_insert_with(|| {
            let mut tests = BTreeSet::new();
            if place.ends_with(".rs") {
                let source = std::fs::read_to_string(root().join(place)).unwrap_or_default();
                tests.extend(tests_of(&source).map(str::to_owned));
            } else {
                collect(&dir.join("src"), &mut tests);
                collect(&dir.join("tests"), &mut tests);
            }
            tests
        });
        tests.contains(name)
    }
}

/// Everything that is wrong with a page.
fn problems(page: &str) -> Vec<String> {
    let (mut entries, mut wrong) = entries(page);
    let mut sources = Sources::default();
    let promises = (1..=PROMISES).map(|n| format!("P{n}"));
    for name in promises.chain((1..=REGRESSIONS).map(|n| format!("RG{n:02}"))) {
        let Some(entry) = entries.remove(&name) else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        match &entry.states[..] {
            [State::Held] if entry.tests.is_empty() => wrong.push(format!("{name} is held by no test")),
            [_] => {}
            states => wrong.push(format!("{name} needs one state, and has {states:?}")),
        }
        let gone = entry.tests.iter().filter(|test| !sources.has(test));
        wrong.extend(gone.map(|test| format!("{name} names a test that does not exist: {test}")));
    }
    wrong.extend(entries.into_keys().map(|name| format!("{name} is no promise")));
    wrong
}

#[test]
fn every_promise_is_on_the_page_with_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/promises.md")).expect("the page");
    let wrong = problems(&page);
    assert!(wrong.is_empty(), "docs/promises.md:\n{}", wrong.join("\n"));
}

/// The tests in the tables of a page: `place: name` between backquotes.
fn tests_in_tables(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|text| text.contains(": ")).collect()
}

#[test]
fn every_mend_of_a_fault_is_held_by_a_test_that_exists() {
    let page = std::fs::read_to_string(root().join("docs/reliability.md")).expect("the page");
    let (named, mut sources) = (tests_in_tables(&page), Sources::default());
    assert!(named.len() > 50, "{} tests are named", named.len());
    let gone: Vec<_> = named.into_iter().filter(|test| !sources.has(test)).collect();
    assert!(gone.is_empty(), "docs/reliability.md names tests that do not exist:\n{}", gone.join("\n"));
}

/// A page on which everything is right: each entry is held by this file's first test.
fn good_page() -> String {
    let names = (1..=PROMISES).map(|n| format!("P{n}")).chain((1..=REGRESSIONS).map(|n| format!("RG{n:02}")));
    let entry = |name| {
        format!(
            "### {name}: t\n\n**Held.** Text.\n\n- `tests/tests/promises.rs: every_promise_is_on_the_page_with_tests_that_exist`\n\n"
        )
    };
    names.map(entry).collect()
}

#[test]
fn a_missing_promise_or_test_is_found() {
    let good = good_page();
    assert_eq!(problems(&good), Vec::<String>::new());
    let test = "- `tests/tests/promises.rs: every_promise_is_on_the_page_with_tests_that_exist`\n";
    let with = |from: &str, to: &str| problems(&good.replacen(from, to, 1));
    assert_eq!(with("### P9: t", "### P16: t"), ["P9 is missing", "P16 is no promise"]);
    assert_eq!(with("### RG45: t", "RG45"), ["RG44 needs one state, and has [Held, Held]", "RG45 is missing"]);
    assert_eq!(with("### P2: t", "### P1: t"), ["P1 is there twice", "P2 is missing"]);
    assert_eq!(with(test, ""), ["P1 is held by no test"]);
    assert_eq!(with("**Held.**", "Perhaps."), ["P1 needs one state, and has []"]);
    let gone = |to: &str| with(test, &format!("- `{to}`\n"));
    for name in [
        "tests/tests/promises.rs: nobody_wrote_this",
        "tests/tests/gone.rs: every_promise_is_on_the_page_with_tests_that_exist",
        "tests/tests/promises.rs: good_page",
        "zmqv2-client: every_promise_is_on_the_page_with_tests_that_exist",
        "zmqv2-gone: t",
        "zmqv2-broker: scenarios/gone.txt",
        "no place",
    ] {
        assert_eq!(gone(name), [format!("P1 names a test that does not exist: {name}")]);
    }
    for name in [
        "zmqv2-tests: every_promise_is_on_the_page_with_tests_that_exist",
        "zmqv2-broker: scenarios/cast.txt",
        "zmqv2-proto: no_bytes_make_the_header_readers_panic",
    ] {
        assert_eq!(gone(name), Vec::<String>::new(), "{name}");
    }
    let no_tests = |state: &str| problems(&good.replacen(&format!("**Held.** Text.\n\n{test}"), state, 1));
    assert_eq!(no_tests("**Not held yet:** Text.\n"), Vec::<String>::new());
    assert_eq!(no_tests("**Does not apply:** Text.\n"), Vec::<String>::new());
}
