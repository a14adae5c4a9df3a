//! Numbers without a JSON form, and where they are.
//!
//! The place is collected only after such a number was found, while the error passes through the
//! serializers of the values around it. So it costs nothing otherwise.

use std::cell::RefCell;

use serde::Serialize;
use serde::ser::Error;

/// A number that JSON has no form for, and the path to it, from the inside out.
struct Found {
    number: f64,
    path: Vec<String>,
}

thread_local! {
    static FOUND: RefCell<Option<Found>> = const { RefCell::new(None) };
}

/// The error for NaN or an infinite number.
#[cold]
pub(super) fn not_finite<E: Error>(number: f64) -> E {
    FOUND.set(Some(Found { number, path: Vec::new() }));
    E::custom(format_args!("{number} has no JSON form"))
}

#[cold]
pub(super) fn inside_element(index: usize) {
    inside(|| format!("[{index}]"));
}

#[cold]
pub(super) fn inside_field(name: &str) {
    inside(|| format!(".{name}"));
}

#[cold]
pub(super) fn inside_key(key: &(impl Serialize + ?Sized)) {
    inside(|| format!(".{}", serde_json::to_string(key).unwrap_or_default().trim_matches('"')));
}

fn inside(step: impl FnOnce() -> String) {
    FOUND.with_borrow_mut(|found| {
        if let Some(found) = found {
            found.path.push(step());
        }
    });
}

/// Adds the place to an error of `write`, if the error is a number without a JSON form.
pub(super) fn named(write: impl FnOnce() -> serde_json::Result<()>) -> serde_json::Result<()> {
    let written = write();
    let Err(error) = &written else {
        // There may be one, if a serializer of the caller has dropped the error.
        FOUND.set(None);
        return written;
    };
    let Some(Found { number, path }) = FOUND.take() else { return written };
    let path: String = path.into_iter().rev().collect();
    let place = path.trim_start_matches('.');
    Err(Error::custom(if place.is_empty() {
        error.to_string()
    } else {
        format!("{number} at {place} has no JSON form")
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{to_raw, write};

    #[derive(serde::Serialize)]
    struct Disk {
        sizes: Vec<Option<f32>>,
        #[serde(flatten)]
        more: BTreeMap<String, f64>,
    }

    fn refused(value: &impl serde::Serialize) -> String {
        let mut text = Vec::new();
        let written = write(value, &mut text).unwrap_err().to_string();
        assert_eq!(to_raw(value).unwrap_err().to_string(), written);
        written
    }

    #[test]
    fn numbers_without_a_json_form_are_errors_that_name_the_place() {
        let nested = BTreeMap::from([("a b", (1, [Some(f64::NAN)]))]);
        assert_eq!(refused(&nested), "NaN at a b[1][0] has no JSON form");
        assert_eq!(refused(&f64::INFINITY), "inf has no JSON form");
        assert_eq!(refused(&f32::NEG_INFINITY), "-inf has no JSON form");
        let mut disk = Disk { sizes: vec![None, Some(1.0), Some(f32::NAN)], more: BTreeMap::new() };
        assert_eq!(refused(&("x", &disk)), "NaN at [1].sizes[2] has no JSON form");
        disk.sizes.pop();
        assert_eq!(to_raw(&disk).unwrap().get(), r#"{"sizes":[null,1.0]}"#);
        disk.more.insert("free".to_owned(), f64::NAN);
        assert_eq!(refused(&disk), "NaN at free has no JSON form");
        assert_eq!(refused(&Ok::<f64, ()>(f64::NAN)), "NaN has no JSON form");
        // A later error of another kind does not name an earlier place.
        assert_eq!(refused(&BTreeMap::from([([1], 1)])), "key must be a string");
    }
}
