//! Proves that the comparison runs, and that its report has the shape that readers and programs
//! expect.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use zmqv2_tests::kernel::{is_alive, names_in};
use zmqv2_tests::measure::well_formed;
use zmqv2_tests::{PATIENCE, Process, binary, within};

/// Runs a tiny comparison. It takes longer than other programs in tests, so it has its own
/// deadline.
fn run(dir: &Path) -> String {
    let mut command = Command::new(binary("compare"));
    let command = command.args(["--quick", "--out"]).arg(dir.join("out")).arg("--docs").arg(dir);
    let mut process = Process::start("compare", command);
    let ended = within(Duration::from_secs(400), || !is_alive(process.id()));
    assert!(ended, "it does not end: {}", process.stderr());
    let status = process.wait_end(PATIENCE);
    assert!(status.success(), "{}", process.stderr());
    assert!(process.stderr().contains("CALL, 1 caller: legacy, round 1 of 1"), "progress is shown");
    process.stdout_to_end()
}

#[test]
fn a_tiny_comparison_writes_a_whole_report() {
    let dir = tempfile::tempdir().unwrap();
    let stdout = run(dir.path());
    assert!(stdout.contains("What the request claims") && stdout.contains("report.html"), "{stdout}");
    let out = dir.path().join("out");
    assert_eq!(names_in(&out), ["report.html", "report.json", "report.md"]);

    let report: Value = serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    let sections: Vec<_> =
        report["sections"].as_array().unwrap().iter().map(|s| s["title"].as_str().unwrap()).collect();
    let expected = [
        "What the request claims",
        "CALL",
        "CAST and FANOUT",
        "Sockets, connections, threads, memory",
        "What is lost",
        "Code for replies",
    ];
    assert_eq!(sections, expected);
    for key in ["cpu", "cores", "kernel", "versions"] {
        assert!(!report["machine"][key].is_null(), "{key}");
    }
    assert!(
        report["noise"].as_str().unwrap().contains("median")
            && report["commands"][0].as_str().unwrap().contains("compare")
    );
    let data = |n: usize| &report["sections"][n]["data"];

    // Each claim has a verdict. Verdicts that do not depend on the speed of a debug build must be
    // right.
    let holds = |claim: &str| -> Vec<bool> {
        let all = data(0).as_array().unwrap().iter().filter(|entry| entry["claim"] == claim);
        all.map(|entry| entry["holds"].as_bool().unwrap()).collect()
    };
    assert_eq!((holds("connections").len(), holds("acknowledged")), (4, vec![true]));
    assert!(holds("connections")[3], "a connection for each node: {}", data(0));
    // The last fault affects the legacy driver only if the kill hits an answer in flight.
    assert_eq!(holds("reliability")[..5], [true; 5], "zmqv2 loses nothing in silence: {}", data(0));
    assert_eq!((holds("performance").len(), holds("code").len(), holds("replies").len()), (4, 1, 2));

    // Both drivers were measured.
    for (section, contender, name) in [
        (1, "legacy, helped", "CALL, 1 caller, rate"),
        (1, "zmqv2", "CALL, 4 callers, p99"),
        (2, "legacy", "CAST, until all have run, rate"),
        (2, "zmqv2", "FANOUT to 2, rate"),
    ] {
        let contenders = data(section)["contenders"].as_array().unwrap();
        let entry = contenders.iter().find(|entry| entry[0] == contender).expect(contender);
        let series = entry[1].as_array().unwrap().iter().find(|series| series["name"] == name).expect(name);
        assert!(series["values"][0].as_f64().unwrap() > 0.0, "{series}");
    }
    assert_eq!(data(3).as_array().unwrap().len(), 12, "two and four manners of calling with one node and with two");
    for fault in data(4).as_array().unwrap() {
        for variant in fault["variants"].as_array().unwrap() {
            let counts = &variant[1][0];
            let of = |name: &str| counts[name].as_u64().unwrap();
            let what = format!("{} {}: {counts}", fault["name"], variant[0]);
            assert_eq!(
                of("done") + of("reported") + of("lost_with_server") + of("lost_silently"),
                of("sent"),
                "{what}"
            );
            assert!(of("sent") > 0);
            assert!(variant[0] != "zmqv2" || of("lost_silently") == 0, "zmqv2 loses nothing in silence: {what}");
            // A killed server may lose one acknowledged message for each of its four workers.
            let most = if fault["name"] == "server killed" && variant[0] == "zmqv2" { 4 } else { 0 };
            assert!(of("lost_with_server") <= most, "{what}");
        }
    }
    // The faults have an effect: the legacy driver loses messages under each.
    let lost =
        data(4).as_array().unwrap().iter().map(|fault| fault["variants"][0][1][0]["lost_silently"].as_u64().unwrap());
    assert!(lost.clone().take(5).all(|lost| lost > 0), "{:?}", lost.collect::<Vec<_>>());

    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.matches("<svg ").count() >= 5 && html.ends_with("</html>\n"));
    assert_eq!(well_formed(&html), Ok(()));
    let without_names = html.replace("http://www.w3.org/2000/svg", "");
    for loads in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
        assert!(!without_names.contains(loads), "the page loads something: {loads}");
    }
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(expected.iter().all(|title| markdown.contains(&format!("## {title}"))), "{markdown}");
    let page = std::fs::read_to_string(dir.path().join("comparison-numbers.md")).unwrap();
    assert!(page.contains("## What is lost") && page.contains("](comparison/lost.svg)"), "{page}");
    assert!(names_in(&dir.path().join("comparison")).contains(&"call-rate.svg".to_owned()));
}
