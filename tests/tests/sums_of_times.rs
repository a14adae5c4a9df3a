//! A span that a caller chose is never added to a moment with `+`, which panics if the sum does not
//! fit. `zmqv2_proto::deadline` is the one way.

use std::path::{Path, PathBuf};

/// What stands before the `+` in such a sum.
const MOMENTS: [&str; 5] = ["now", "now()", "started", "sent", "deadline"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Whether a line adds something to a moment that is no constant.
fn adds_to_a_moment(line: &str) -> bool {
    MOMENTS.into_iter().any(|moment| {
        line.match_indices(&format!("{moment} + ")).any(|(at, found)| {
            let is_word = !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            let added = line[at + found.len()..].split([',', ';', ')', ' ', '*', '/']).next().unwrap_or_default();
            let constant = added.rsplit("::").next().unwrap_or_default();
            let is_constant = !constant.is_empty() && constant.chars().all(|letter| !letter.is_lowercase());
            is_word && !is_constant
        })
    })
}

#[test]
fn spans_are_added_to_moments_in_one_safe_way_only() {
    let mut files = Vec::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    sources(&crates, &mut files);
    let is_code = |path: &Path| {
        let path = path.strip_prefix(&crates).expect("a path below the folder").to_string_lossy();
        path.contains("/src/")
            && !path.contains("tests")
            && !path.contains("properties")
            && !path.contains("conformance")
    };
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| is_code(file)) {
        let text = std::fs::read_to_string(file).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            if !is_comment && adds_to_a_moment(line) {
                wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(files.len() > 100, "only {} sources", files.len());
    assert_eq!(wrong, Vec::<String>::new(), "use zmqv2_proto::deadline(moment, span)");
}

#[test]
fn the_check_tells_a_constant_from_a_variable() {
    for line in ["let by = now + timeout;", "f(clock::now() + self.timeout / 2)", "(now + times.next(), 1)"] {
        assert!(adds_to_a_moment(line), "{line}");
    }
    for line in
        ["now + RETRY_PAUSE", "known + other", "now() + Self::PAUSE * 2", "(now + SECOND, 3)", "deadline(now, span)"]
    {
        assert!(!adds_to_a_moment(line), "{line}");
    }
}
