//! What the compiler says about mistakes in the declaration of a service, and in its use.
//!
//! Each file of `fixtures/service` is compiled with the crate `zmqv2-proto` alone. A comment
//! `//~ TEXT` stands on the line of an error whose message has this text. The first error of the
//! compiler must be the first of these. A file without such a comment compiles.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Builds the crate, and returns the arguments with which the compiler finds it.
fn library() -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = "build --offline --locked -p zmqv2-proto --no-default-features --message-format json";
    let output = Command::new(cargo).args(words.split(' ')).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut arguments = Vec::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let message: Value = serde_json::from_str(line).expect("JSON");
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for file in files.filter(|file| file.ends_with(".rlib")) {
            let folder = Path::new(file).parent().expect("a folder").display();
            arguments.extend(["-L".to_owned(), format!("dependency={folder}")]);
            if ["zmqv2_proto", "serde", "thiserror"].contains(&name) {
                arguments.extend(["--extern".to_owned(), format!("{name}={file}")]);
            }
        }
    }
    arguments
}

/// An error of the compiler: its line in the file, and all of its texts.
#[derive(Debug)]
struct Told {
    line: u64,
    text: String,
}

/// The line in `file` that a span is in, or the use of the macro that it is in.
fn line_in(file: &Path, span: &Value) -> Option<u64> {
    if span["file_name"].as_str().is_some_and(|name| Path::new(name) == file) {
        return span["line_start"].as_u64();
    }
    let outer = &span["expansion"]["span"];
    outer.is_object().then(|| line_in(file, outer)).flatten()
}

fn compile(file: &Path, library: &[String]) -> Vec<Told> {
    let out = tempfile::tempdir().expect("a directory");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--error-format", "json"]);
    rustc.arg("-o").arg(out.path().join("case.rmeta")).args(library).arg(file).current_dir(root());
    let output = rustc.output().expect("rustc runs");
    let mut told = Vec::new();
    for line in String::from_utf8(output.stderr).expect("text").lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let spans = message["spans"].as_array().expect("spans");
        // The last error, "aborting", has no place.
        let Some(primary) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        if message["level"] == "error" {
            let labels = spans.iter().filter_map(|span| span["label"].as_str());
            let children = message["children"].as_array().into_iter().flatten();
            let others = labels.chain(children.filter_map(|child| child["message"].as_str()));
            let text: Vec<_> = message["message"].as_str().into_iter().chain(others).collect();
            told.push(Told { line: line_in(file, primary).expect("a line of the file"), text: text.join("\n") });
        }
    }
    assert_eq!(output.status.success(), told.is_empty(), "{}: {told:#?}", file.display());
    told
}

#[test]
fn mistakes_are_told_where_they_are_and_with_their_mend() {
    let library = library();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/service");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("files").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        let expected: Vec<_> =
            (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, line.split_once(" //~ ")?.1))).collect();
        let told = compile(&file, &library);
        let has = |told: &Told, (line, text): &(u64, &str)| told.line == *line && told.text.contains(text);
        let first = told.first().zip(expected.first()).is_none_or(|(told, expected)| has(told, expected));
        let all = expected.iter().all(|expected| told.iter().any(|told| has(told, expected)));
        let good = first && all && told.is_empty() == expected.is_empty();
        assert!(good, "{}: expected {expected:#?}, got {told:#?}", file.display());
    }
}
