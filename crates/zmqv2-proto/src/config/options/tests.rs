use std::collections::HashSet;

use super::*;
use crate::config::options::retired::{RETIRED, RETIRED_OF_REDIS};
use crate::config::settings::Draft;

#[test]
fn names_are_unique_and_every_entry_is_documented() {
    let mut names = HashSet::new();
    for spec in OPTIONS {
        assert!(names.insert(spec.name), "{} twice", spec.name);
        assert!(spec.groups.contains(&spec.group), "{}", spec.name);
        assert!(spec.doc.ends_with('.') && !spec.allowed.is_empty(), "{}", spec.name);
    }
    for retired in RETIRED.iter().chain(RETIRED_OF_REDIS).flat_map(|(names, _)| *names) {
        assert!(names.insert(retired), "{retired} is current and retired");
    }
}

#[test]
fn bounds_are_those_of_the_text_and_fit_the_field() {
    for spec in OPTIONS {
        let mut draft = Draft::blank();
        let mut takes = |text: String| spec.apply(&mut draft, &text).is_ok();
        match spec.parse {
            Parse::Integer { min, max, .. } => {
                assert!(spec.allowed.starts_with(&format!("{min} to {max}")), "{}", spec.name);
                assert!(takes(min.to_string()) && takes(max.to_string()), "{}", spec.name);
                assert!(!takes((max + 1).to_string()), "{}", spec.name);
                assert!(!takes((i128::from(min) - 1).to_string()), "{}", spec.name);
            }
            Parse::Seconds { zero, .. } => {
                assert_eq!(takes("0".to_owned()), zero, "{}", spec.name);
                assert_eq!(spec.allowed.starts_with("0 to 4294967"), zero, "{}", spec.name);
                assert!(takes("4294967".to_owned()) && !takes("4294968".to_owned()));
            }
            Parse::Boolean(_) | Parse::Text(_) | Parse::List(_) | Parse::Special(_) => {}
        }
    }
    let mut draft = Draft::blank();
    for (name, text) in [("rpc_zmq_port", "65535"), ("rpc_zmq_contexts", "64")] {
        super::super::option(name).unwrap().apply(&mut draft, text).unwrap();
    }
    assert_eq!((draft.config.port, draft.config.io_threads), (65535, 64));
}
