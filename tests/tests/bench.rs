//! Proves that the benchmark program works, and that its report has the shape that readers expect.
//! It says nothing about speed.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use zmqv2_tests::kernel::names_in;
use zmqv2_tests::{Process, binary};

fn bench(arguments: &[&str]) -> Process {
    Process::start("the benchmark", Command::new(binary("bench")).args(arguments))
}

#[test]
fn a_quick_run_measures_a_row_of_each_shape_and_writes_a_report() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().to_str().expect("a plain path");
    let mut run = bench(&["--quick", "--out", out]);
    // It builds the raw chain the first time.
    let status = run.wait_end(Duration::from_secs(540));
    assert!(status.success(), "{status}: {}", run.stderr());
    let table = run.stdout_to_end();
    assert!(table.contains("raw libzmq") && table.contains("report.html"), "{table}");

    assert_eq!(names_in(dir.path()), ["report.html", "report.json", "report.md"]);
    let report = std::fs::read_to_string(dir.path().join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let rows = report["sections"][0]["data"]["rows"].as_array().expect("rows");
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    for id in ["call-1-128", "call-8-128", "later-64-1k", "cast-1000-128", "fanout-8", "idle-1000", "death"] {
        assert!(ids.contains(id), "{id} is missing in {ids:?}");
    }
    for row in rows {
        let lines = row["lines"].as_array().expect("lines");
        assert!(!lines.is_empty(), "{row}");
        for line in lines {
            assert!(line["ours"]["median"].is_number(), "{row}");
            assert_eq!(line["reference"].is_string(), line["reference_values"].is_object(), "{row}");
            assert_eq!(line["goal"].is_string(), line["met"].is_boolean(), "{row}");
            // A reference of 0 has no ratio.
            let compared = line["reference_values"]["median"].as_f64().is_some_and(|value| value > 0.0);
            assert_eq!(line["ratio"]["median"].is_number(), compared, "{row}");
        }
    }
    let call = rows.iter().find(|row| row["id"] == "call-1-128").expect("a row");
    let ours = &call["measured"]["contenders"][0];
    assert_eq!(ours[0], "zmqv2");
    let names: BTreeSet<&str> = ours[1].as_array().expect("series").iter().filter_map(|s| s["name"].as_str()).collect();
    for name in ["rate", "p50", "p99", "client CPU", "broker CPU", "server CPU", "broker memory"] {
        assert!(names.contains(name), "{name} is missing in {names:?}");
    }
    let page = std::fs::read_to_string(dir.path().join("report.html")).expect("a page");
    assert!(page.contains("<svg ") && page.contains("call-1-128"));
}

#[test]
fn rows_are_listed_and_a_name_that_no_row_has_is_told() {
    let mut list = bench(&["--list"]);
    assert!(list.wait_end(Duration::from_secs(30)).success());
    assert!(list.stdout_to_end().lines().any(|line| line.starts_with("later-1000-128 ")));
    let mut wrong = bench(&["--only", "no-such-row"]);
    assert_eq!(wrong.wait_end(Duration::from_secs(30)).code(), Some(1));
    assert!(wrong.stderr().contains("--list"), "{}", wrong.stderr());
}
