//! Each rule accepts a correct run and finds a wrong one.

use std::path::Path;

use super::*;

/// Checks journals, each given as lines that are separated by `; `.
fn check_texts(texts: &[&str], expected: &Expected) -> Report {
    let mut journals = Journals::default();
    for (at, text) in texts.iter().enumerate() {
        let lines: Vec<_> = text.split("; ").collect();
        journals.add(Path::new(&format!("{at}.journal")), &(lines.join("\n") + "\n"));
    }
    check(&journals, expected)
}

#[track_caller]
fn clean(journals: &[&str]) -> Report {
    let report = check_texts(journals, &Expected::nothing());
    report.assert_clean();
    report
}

#[track_caller]
fn breaks(rule: Rule, journals: &[&str]) {
    let report = check_texts(journals, &Expected::nothing());
    assert_eq!(report.rules().into_keys().collect::<Vec<_>>(), [rule], "{report}");
}

const SERVER: &str = "server s n r 1; ran c 1; ran c 2; end";

#[test]
fn a_run_that_is_right_breaks_no_rule() {
    let client = "client c 0; cast 1; cast 2; ended 1 9 acked s n; ended 2 9 acked s n; observed 2 0 0; end";
    let report = clean(&[client, SERVER]);
    assert_eq!((report.counts.sent, report.counts.outcome("acked"), report.counts.executions), (2, 2, 2));
}

#[test]
fn every_message_has_one_outcome() {
    breaks(Rule::OneOutcome, &["client c 0; cast 1; cast 2; ended 1 9 acked s n; end", SERVER]);
    let twice = "client c 0; cast 1; cast 2; ended 1 9 acked s n; ended 1 9 refused Busy; ended 2 9 acked s n; end";
    breaks(Rule::OneOutcome, &[twice, SERVER]);
    let unasked = "client c 0; cast 1; cast 2; ended 1 9 acked s n; ended 2 9 acked s n; ended 3 9 refused Busy; end";
    breaks(Rule::OneOutcome, &[unasked, SERVER]);
    let observed = "client c 0; cast 1; cast 2; ended 1 9 acked s n; ended 2 9 acked s n; observed 3 0 0; end";
    breaks(Rule::OneOutcome, &[observed, SERVER]);
    // A killed client may not have learnt any outcome.
    clean(&["client c 0; cast 1; cast 2", SERVER]);
}

#[test]
fn what_is_acked_runs_where_it_was_acked_unless_that_server_was_killed() {
    let client = "client c 3; cast 1; ended 1 9 acked s n; end";
    breaks(Rule::AckedRuns, &[client, "server s n r 1; end"]);
    breaks(Rule::AckedRuns, &[client]);
    breaks(Rule::AckedRuns, &[client, "server s n r 1; end", "server other n r2 1; ran c 1; end"]);
    breaks(Rule::AckedRuns, &[client, "server s elsewhere r 1; ran c 1; end"]);
    // Another process of the same name was alive, and did not run it either. Nobody knows which of
    // them had it.
    let report = clean(&[client, "server s n r 1", "server s n r2 1; end"]);
    assert_eq!((report.counts.lost_with_server, report.counts.killed), (1, 1));
}

#[test]
fn a_message_runs_once_in_a_process_and_once_in_all_unless_it_was_sent_again() {
    let client = "client c 0; cast 1; ended 1 9 acked s n; end";
    breaks(Rule::RunsOnce, &[client, "server s n r 1; ran c 1; ran c 1; end"]);
    breaks(Rule::RunsOnce, &[client, "server s n r 1; ran c 1; end", "server t n r2 1; ran c 1"]);
    let retrying = client.replace("c 0", "c 3");
    breaks(Rule::RunsOnce, &[&retrying, "server s n r 1; ran c 1; ran c 1; end"]);
    let report = clean(&[&retrying, "server s n r 1; ran c 1; end", "server t n r2 1; ran c 1"]);
    assert_eq!(report.counts.ran_elsewhere, 1);
}

#[test]
fn what_was_refused_before_it_ran_never_runs() {
    for outcome in [
        "refused NoRoute",
        "refused Busy",
        "refused Expired",
        "refused TooLarge",
        "refused Malformed",
        "refused ShuttingDown",
        "unacknowledged unsent",
        "not-taken Full",
        "failed never NoRoute",
    ] {
        let client = format!("client c 0; cast 1; cast 2; ended 1 9 {outcome}; ended 2 9 acked s n; end");
        breaks(Rule::RefusedNeverRuns, &[&client, SERVER]);
        clean(&[&client, "server s n r 1; ran c 2; end"]);
    }
    for outcome in ["refused ServerLost", "unacknowledged sent", "failed maybe Timeout"] {
        let client = format!("client c 0; cast 1; cast 2; ended 1 9 {outcome}; ended 2 9 acked s n; end");
        clean(&[&client, SERVER]);
        clean(&[&client, "server s n r 1; ran c 2; end"]);
    }
    let call = "client c 0; call 1; ended 1 9 refused TooLarge; end";
    clean(&[call, "server s n r 1; ran c 1; end"]);
}

#[test]
fn one_worker_runs_the_casts_of_a_client_in_their_order() {
    let client = "client c 0; cast 1; cast 2; ended 1 9 acked s n; ended 2 9 acked s n; end";
    breaks(Rule::Order, &[client, "server s n r 1; ran c 2; ran c 1; end"]);
    clean(&[client, "server s n r 2; ran c 2; ran c 1; end"]);
    clean(&[&client.replace("c 0", "c 1"), "server s n r 1; ran c 2; ran c 1; end"]);
    let moved = Expected::nothing().may_move("c");
    check_texts(&[client, "server s n r 1; ran c 2; ran c 1; end"], &moved).assert_clean();
    clean(&[&client.replace("cast", "call"), "server s n r 1; ran c 2; ran c 1; end"]);
}

#[test]
fn a_reply_belongs_to_its_call_and_comes_from_where_it_ran() {
    let client = "client c 0; call 1; call 2; ended 1 9 replied s n c 1; ended 2 9 replied s n c 2; end";
    clean(&[client, SERVER]);
    let swapped = "client c 0; call 1; call 2; ended 1 9 replied s n c 2; ended 2 9 replied s n c 1; end";
    breaks(Rule::OwnReply, &[swapped, SERVER]);
    // A server writes its journal before it replies, so a kill is no excuse.
    breaks(Rule::AckedRuns, &[client, "server s n r 1; ran c 1"]);
}

#[test]
fn nothing_runs_that_was_not_sent() {
    let client = "client c 0; cast 1; ended 1 9 acked s n; end";
    breaks(Rule::Sent, &[client, SERVER]);
    breaks(Rule::Sent, &["server s n r 1; ran nobody 1; end"]);
}

#[test]
fn what_has_to_be_accepted_is() {
    let expected = Expected::nothing().all_accepted("c");
    let accepted = "client c 0; cast 1; call 2; ended 1 9 acked s n; ended 2 9 replied s n c 2; end";
    check_texts(&[accepted, SERVER], &expected).assert_clean();
    for outcome in ["unacknowledged sent", "refused ServerLost"] {
        let client = format!("client c 0; cast 1; cast 2; ended 1 9 acked s n; ended 2 9 {outcome}; end");
        let report = check_texts(&[&client, SERVER], &expected);
        assert_eq!(report.rules().into_keys().collect::<Vec<_>>(), [Rule::Accepted], "{report}");
    }
    assert_eq!(check_texts(&[SERVER], &expected).rules()[&Rule::Readable], 1, "a client without journal");
}

#[test]
fn journals_are_whole_but_for_a_last_line_that_was_cut() {
    breaks(Rule::Readable, &["client c 0; cast 1; nonsense; ended 1 9 refused Busy; end"]);
    breaks(Rule::Readable, &["client c 0; end; cast 1"]);
    breaks(Rule::Readable, &["nonsense"]);
    breaks(Rule::Readable, &["client c 0; end", "client c 0; end"]);
    let mut journals = Journals::default();
    journals.add(Path::new("s"), "server s n r 1\nran c 1\nran c ");
    journals.add(Path::new("c"), "client c 0\ncast 1\nended 1 9 acked s n\nend\n");
    check(&journals, &Expected::nothing()).assert_clean();
    assert_eq!(journals.cut, 1);
}

#[test]
fn a_report_tells_the_first_of_many_violations_with_their_lines() {
    let casts: Vec<_> = (0..100).map(|n| format!("cast {n}; ended {n} 9 acked s n")).collect();
    let report =
        check_texts(&[&format!("client c 0; {}; end", casts.join("; ")), "server s n r 1; end"], &Expected::nothing());
    assert_eq!(report.rules()[&Rule::AckedRuns], 100);
    let text = report.to_string();
    assert!(text.contains("broken 100 times") && text.contains("cast c/0 (0.journal:3)"), "{text}");
    assert!(text.lines().count() < 10, "{text}");
}

#[test]
fn a_fanout_runs_at_every_server_that_acknowledged_it_and_at_none_that_refused() {
    let client = "client c 0; fanout 1; ended 1 9 report acked s n acked s2 n refused s3 m Expired; end";
    let (s, s2) = ("server s n r 1; ran c 1; end", "server s2 n r2 1; ran c 1; end");
    clean(&[client, s, s2, "server s3 m r3 1; end"]);
    breaks(Rule::AckedRuns, &[client, s, "server s2 n r2 1; end"]);
    breaks(Rule::RefusedNeverRuns, &[client, s, s2, "server s3 m r3 1; ran c 1; end"]);
    breaks(Rule::RunsOnce, &[client, s, "server s2 n r2 1; ran c 1; ran c 1; end"]);
    // Two processes of one name.
    let twins = "client c 0; fanout 1; ended 1 9 report acked s n acked s n; end";
    clean(&[twins, s, "server s n q 1; ran c 1; end"]);
    breaks(Rule::AckedRuns, &[twins, s, "server s n q 1; end"]);
    let nobody = "client c 0; fanout 1; ended 1 9 report refused - n Busy; end";
    breaks(Rule::RefusedNeverRuns, &[nobody, s]);
    clean(&[nobody, "server s m r 1; ran c 1; end"]);
}

#[test]
fn a_notification_that_a_pool_has_is_handled_if_need_be_after_several_deliveries() {
    let client = "client c 0; notify 1; ended 1 9 report acked p n stored q n; end";
    let p = "server p n r 1; ran c 1 1; handled c 1; end";
    let q = "server q n r2 1; ran c 1 1; requeued c 1; ran c 1 2; handled c 1; end";
    let report = clean(&[client, p, q]);
    assert_eq!((report.counts.deliveries, report.counts.repeated, report.counts.executions), (3, 0, 0));
    breaks(Rule::Handled, &[client, p, "server q n r2 1; ran c 1 1; requeued c 1; end"]);
    breaks(Rule::Handled, &[client, p, "server q n r2 1; end"]);
    let twice = "server p n r 1; ran c 1 1; handled c 1; ran c 1 2; handled c 1; end";
    breaks(Rule::RunsOnce, &[client, twice, q]);
    // Its listener died, and another one of the pool got it again.
    let dead = "server p n r 1; ran c 1 1";
    let report = clean(&[client, dead, "server p n r3 1; ran c 1 2; handled c 1; end", q]);
    assert_eq!(report.counts.repeated, 1);
    breaks(Rule::Handled, &[client, dead, "server p n r3 1; end", q]);
    let expected = Expected::nothing().max_deliveries(2);
    let tired = "server q n r2 1; ran c 1 1; requeued c 1; ran c 1 2; requeued c 1; end";
    check_texts(&[client, p, tired], &expected).assert_clean();
    let kept = "client c 0; notify 1; ended 1 9 report stored - n; end";
    clean(&[kept, p]);
    breaks(Rule::Handled, &[kept, "server p n r 1; end"]);
}

#[test]
fn a_notification_that_a_pool_refused_is_not_run_by_it() {
    let client = "client c 0; notify 1; ended 1 9 report acked p n refused q n Busy; end";
    let (p, q) = ("server p n r 1; ran c 1 1; handled c 1; end", "server q n r2 1; ran c 1 1; handled c 1; end");
    clean(&[client, p, "server q n r2 1; end"]);
    breaks(Rule::RefusedNeverRuns, &[client, p, q]);
    clean(&[&client.replace("Busy", "ServerLost"), p, q]);
    breaks(Rule::RefusedNeverRuns, &["client c 0; notify 1; ended 1 9 report refused - n Busy; end", p]);
}

#[test]
fn every_part_of_a_report_counts() {
    let p = "server p n r 1; ran c 1 1; handled c 1; end";
    let expected = Expected::nothing().all_accepted("c");
    let accepted = "client c 0; notify 1; ended 1 9 report acked p n stored p n; observed 2 0 0; end";
    check_texts(&[accepted, p], &expected).assert_clean();
    for parts in ["acked p n refused q n Busy", "acked p n silent q -", ""] {
        let report = check_texts(&[&format!("client c 0; notify 1; ended 1 9 report {parts}; end"), p], &expected);
        assert_eq!(report.rules().into_keys().collect::<Vec<_>>(), [Rule::Accepted], "{parts}: {report}");
    }
    breaks(Rule::OneOutcome, &[&accepted.replace("observed 2", "observed 1"), p]);
}

#[test]
fn nothing_begins_to_run_after_its_time_to_live() {
    let client = "client c 0; cast 1 1000; ended 1 9 unacknowledged sent; end";
    clean(&[client, "server s n r 1; ran c 1 0 1000; end"]);
    breaks(Rule::InTime, &[client, "server s n r 1; ran c 1 0 1251; end"]);
    // Its client was stopped before it sent the message.
    let client = "client c 0; cast 1 1000; postponed 1 3000; ended 1 9 unacknowledged sent; end";
    clean(&[client, "server s n r 1; ran c 1 0 3250; end"]);
    breaks(Rule::InTime, &[client, "server s n r 1; ran c 1 0 3251; end"]);
    // Its worker had checked it when the process was stopped.
    let client = "client c 0; cast 1 1000; ended 1 9 unacknowledged sent; end";
    let late = [client, "server s n r 1; ran c 1 0 3900; end"];
    let frozen = |from, until| check_texts(&late, &Expected::nothing().frozen("s", from, until));
    frozen(900, 3800).assert_clean();
    for (from, until) in [(1300, 3800), (900, 3000)] {
        assert_eq!(frozen(from, until).rules().into_keys().collect::<Vec<_>>(), [Rule::InTime]);
    }
}
