use super::*;
use serde_json::{Value, json};
use zmqv2_proto::{Priority, RequestContext};

fn notification(payload: &Value) -> Notification {
    let mut it = Notification::new("compute.node-7", "compute.instance.create", Priority::Info, payload).unwrap();
    it.message_id = "m-17".to_owned();
    it.timestamp = "2015-06-12 10:11:12.123456".to_owned();
    it.context = RequestContext::new().with("tenant", "5f64").with("roles", json!(["private"]));
    it
}

fn none() -> NotificationFilter {
    NotificationFilter::new()
}

#[test]
fn an_expression_matches_at_the_start_of_the_text() {
    let it = notification(&Value::Null);
    assert!(none().matches(&it));
    for (expression, fits) in
        [("compute", true), ("^compute", true), ("node", false), (".*node", true), ("compute$", false), ("b|c", true)]
    {
        assert_eq!(none().publisher_id(expression).unwrap().matches(&it), fits, "{expression}");
    }
    assert!(none().event_type(r"compute\.instance\..*").unwrap().matches(&it));
    assert!(!none().event_type("instance").unwrap().matches(&it));
}

#[test]
fn all_expressions_of_a_filter_must_match() {
    let it = notification(&json!({"state": "active"}));
    let filter = none().publisher_id("compute").unwrap().event_type("compute").unwrap();
    assert!(filter.matches(&it));
    assert!(!filter.clone().payload("state", "building").unwrap().matches(&it));
    assert!(!filter.payload("state", "active").unwrap().payload("state", "b").unwrap().matches(&it));
}

#[test]
fn context_and_metadata_match_by_key() {
    let it = notification(&Value::Null);
    assert!(none().context("tenant", "5f64$").unwrap().matches(&it));
    // One value is no text, the other one is absent.
    assert!(!none().context("roles", ".*").unwrap().matches(&it));
    assert!(!none().context("user", ".*").unwrap().matches(&it));
    assert!(none().metadata("timestamp", "2015-").unwrap().metadata("message_id", "m-").unwrap().matches(&it));
    assert!(!none().metadata("timestamp", "2016-").unwrap().matches(&it));
}

#[test]
fn a_payload_matches_by_its_top_level_keys() {
    let it = notification(&json!({"state": "act\u{ef}ve\n", "size": 7, "in": {"state": "x"}}));
    assert!(none().payload("state", "act\u{ef}ve").unwrap().matches(&it));
    for (key, expression) in [("size", ".*"), ("in", ".*"), ("none", ".*"), ("state", "x")] {
        assert!(!none().payload(key, expression).unwrap().matches(&it), "{key}");
    }
    for payload in [json!("state"), json!(["state"]), Value::Null] {
        assert!(!none().payload("state", ".*").unwrap().matches(&notification(&payload)), "{payload}");
    }
}

#[test]
fn an_invalid_filter_says_which_part_is_wrong() {
    let error = none().payload("state", "(").unwrap_err().to_string();
    assert!(error.contains("payload \"state\"") && error.contains("unclosed group"), "{error}");
    let error = none().metadata("time", ".").unwrap_err().to_string();
    assert!(error.contains("\"time\"") && error.contains("message_id and timestamp"), "{error}");
}
