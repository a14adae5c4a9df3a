//! Names for the labels of metrics: at most a fixed number of them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The most names. Each label of a metric costs memory in the program and in its database, and a
/// peer may make up names without an end.
const MAX_NAMES: usize = 256;

/// The names that a metric has had as labels.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct KnownNames(Mutex<HashSet<String>>);

impl KnownNames {
    /// The label for `name`: the name itself for the first 256 names, then `other`.
    #[must_use]
    pub fn label(&self, name: &str) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(name) {
            return name.to_owned();
        }
        if known.len() == MAX_NAMES {
            return "other".to_owned();
        }
        known.insert(name.to_owned());
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_above_the_bound_are_one_label() {
        let names = KnownNames::default();
        for number in 0..MAX_NAMES {
            assert_eq!(names.label(&number.to_string()), number.to_string());
        }
        assert_eq!((names.label("one more"), names.label("7")), ("other".to_owned(), "7".to_owned()));
    }
}
