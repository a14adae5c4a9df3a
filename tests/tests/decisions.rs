//! Every page in `docs/decisions` has its parts and a true status, and stands in the index.

use std::collections::BTreeMap;
use std::path::Path;

const PARTS: [&str; 5] = ["**Status.**", "**Context.**", "**Choice.**", "**Rejected.**", "**Measured"];

#[derive(Debug, PartialEq)]
struct Decision {
    title: String,
    status: String,
    amends: Vec<String>,
    amended_by: Vec<String>,
    superseded_by: Vec<String>,
}

/// The numbers behind `word` in one part of a status, such as `amends 0002 and 0005`.
fn numbers(status: &str, word: &str) -> Vec<String> {
    let parts = status.trim_end_matches('.').split("; ");
    let listed = parts.filter_map(|part| part.strip_prefix(word)).flat_map(|rest| rest.split_whitespace());
    let numbers = listed.filter(|item| item.len() >= 4 && item.starts_with('0'));
    numbers.map(|number| number.trim_matches(',').to_owned()).collect()
}

/// `[0002](0002-links.md)` as `0002`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    for (at, piece) in text.split('[').enumerate() {
        match piece.split_once("](") {
            Some((shown, rest)) if at > 0 => {
                plain += shown;
                plain += rest.split_once(')').map_or("", |(_, behind)| behind);
            }
            _ => plain += piece,
        }
    }
    plain
}

/// A page, and everything that is wrong with its shape.
fn read_page(number: &str, text: &str) -> (Decision, Vec<String>) {
    let mut wrong = Vec::new();
    let heading = text.lines().next().unwrap_or_default();
    let title = heading.strip_prefix(&format!("# {number}: ")).unwrap_or_else(|| {
        wrong.push(format!("{number}: its heading is {heading:?}"));
        ""
    });
    let places: Vec<_> = PARTS.iter().map(|part| text.find(&format!("\n\n{part}"))).collect();
    if places.iter().any(Option::is_none) || !places.is_sorted() {
        wrong.push(format!("{number}: it does not have these parts in this order: {PARTS:?}"));
    }
    let status = text.split_once(PARTS[0]).and_then(|(_, rest)| rest.split("\n\n").next()).unwrap_or_default();
    let status = without_links(&status.split_whitespace().collect::<Vec<_>>().join(" "));
    let [amends, amended_by] = ["amends ", "amended by "].map(|word| numbers(&status, word));
    let superseded_by = numbers(&status, "Superseded by ");
    if !status.starts_with("Accepted") && superseded_by.is_empty() {
        wrong.push(format!("{number}: its status is {status:?}"));
    }
    (Decision { title: title.to_owned(), status, amends, amended_by, superseded_by }, wrong)
}

/// Everything that is wrong with the pages (by file name) and their index.
fn problems(pages: &BTreeMap<String, String>, index: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut decisions = BTreeMap::new();
    for (file, text) in pages {
        let number = file.split('-').next().unwrap_or_default().to_owned();
        let (decision, faults) = read_page(&number, text);
        wrong.extend(faults);
        let row = format!("| [{number}]({file}) | {} | {} | ", decision.title, decision.status);
        if !index.contains(&row) {
            wrong.push(format!("the index has no row that begins with {row:?}"));
        }
        if decisions.insert(number.clone(), decision).is_some() {
            wrong.push(format!("{number}: two pages have this number"));
        }
    }
    for (at, number) in decisions.keys().enumerate() {
        if *number != format!("{:04}", at + 1) {
            wrong.push(format!("{number}: a number before it is missing"));
        }
    }
    if index.matches("\n| [").count() != pages.len() {
        wrong.push("the index has a row without a page, or two for one".to_owned());
    }
    for (number, decision) in &decisions {
        for later in &decision.amended_by {
            if !decisions.get(later).is_some_and(|other| other.amends.contains(number)) {
                wrong.push(format!("{number} says that {later} amends it; {later} does not"));
            }
        }
        for earlier in &decision.amends {
            if !decisions.get(earlier).is_some_and(|other| other.amended_by.contains(number)) {
                wrong.push(format!("{number} says that it amends {earlier}; {earlier} does not"));
            }
        }
        for later in &decision.superseded_by {
            if !decisions.contains_key(later) {
                wrong.push(format!("{number} is superseded by {later}, which is not there"));
            }
        }
    }
    wrong
}

#[test]
fn every_decision_has_its_parts_a_status_and_a_row_in_the_index() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("docs/decisions");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let files = std::fs::read_dir(&dir).expect("the decisions");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a name"));
    let pages: BTreeMap<_, _> =
        names.filter(|name| name != "README.md").map(|name| (name.clone(), read(&name))).collect();
    assert!(pages.len() >= 23, "{:?}", pages.keys());
    assert_eq!(problems(&pages, &read("README.md")), Vec::<String>::new());
}

#[test]
fn faults_in_pages_and_index_are_found() {
    let page = |number: &str, status: &str| {
        format!(
            "# {number}: T\n\n**Status.** {status}\n\n**Context.** c\n\n**Choice.** c\n\n**Rejected.** r\n\n**Measured.** m\n"
        )
    };
    let good = [
        ("0001-a.md".to_owned(), page("0001", "Accepted; amended by [0002](0002-b.md).")),
        ("0002-b.md".to_owned(), page("0002", "Accepted; amends\n[0001](0001-a.md).")),
    ];
    let index = "\n| [0001](0001-a.md) | T | Accepted; amended by 0002. | x |\n| [0002](0002-b.md) | T | Accepted; amends 0001. | x |\n";
    let check = |pages: &[(String, String)], index: &str| problems(&pages.iter().cloned().collect(), index);
    assert_eq!(check(&good, index), Vec::<String>::new());

    let found = |pages: &[(String, String)], index: &str, what: &str| {
        let wrong = check(pages, index);
        assert!(wrong.iter().any(|fault| fault.contains(what)), "{what}: {wrong:?}");
    };
    let first = |text: String| [("0001-a.md".to_owned(), text), good[1].clone()];
    found(&first(page("0001", "Accepted.")), index, "0002 says that it amends 0001");
    found(
        &[good[0].clone(), ("0002-b.md".to_owned(), page("0002", "Accepted."))],
        index,
        "0001 says that 0002 amends it",
    );
    found(&first(page("0001", "Draft.")), index, "its status is");
    found(&first(page("0001", "Superseded by 0007.")), index, "which is not there");
    found(&first(good[0].1.replace("**Rejected.**", "")), index, "these parts");
    found(&first(good[0].1.replace("# 0001: ", "# 0003: ")), index, "its heading");
    found(&good, &index.replace("| T | Accepted; amends", "| T | Accepted. amends"), "no row that begins");
    found(&good[1..], index, "a number before it is missing");
}
