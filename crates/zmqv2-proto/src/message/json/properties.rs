//! Our writer produces the same bytes as `serde_json`, for values of every shape and texts of any
//! length.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::*;
use crate::message::envelope::{self, EnvelopeWriter, any_text};

/// Texts around the length [`LONG`], and much longer ones.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any_text(), "[ -~]{60,68}", any_text().prop_map(|text| text.repeat(9))]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        6 => text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Numbers that JSON has a form for.
fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_map(|number| if number.is_finite() { number } else { 0.5 })
}

/// A value that is serialised as bytes.
#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// A text that is written piece by piece.
#[derive(Debug, Clone)]
struct Pieces(Vec<String>);

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}{}", self.0, self.0.concat()))
    }
}

#[derive(Debug, Clone, Serialize)]
enum Choice {
    Unit,
    Newtype(String),
    Tuple(String, u8),
    Struct { text: String, more: Option<Box<Choice>> },
}

#[derive(Debug, Clone, Serialize)]
struct Newtype(String);
#[derive(Debug, Clone, Serialize)]
struct Tuple(String, i128, u128);
#[derive(Debug, Clone, Serialize)]
struct Unit;

#[derive(Debug, Clone, Serialize)]
struct Everything {
    newtype: Newtype,
    tuple: Tuple,
    unit: Unit,
    pair: (char, String),
    floats: [f64; 2],
    float: f32,
    small: (i8, i16, i32, u8, u16, u32),
    #[serde(rename = "a \"name\"\n")]
    renamed: Option<String>,
    choices: Vec<Choice>,
    bytes: Bytes,
    pieces: Pieces,
    numbered: BTreeMap<i16, String>,
    raw: Box<RawValue>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

fn everything() -> impl Strategy<Value = Everything> {
    let choices = text().prop_map(|text| {
        let inner = Choice::Struct { text: text.clone(), more: None };
        let outer = Choice::Struct { text: text.clone(), more: Some(Box::new(inner)) };
        vec![Choice::Unit, Choice::Newtype(text.clone()), Choice::Tuple(text, 7), outer]
    });
    let texts = (text(), text(), text(), proptest::option::of(text()), vec(text(), 0..3));
    let numbers = (any::<i128>(), any::<u128>(), [finite(), finite()], finite().prop_map(|n| (n % 1e30) as f32));
    let small = (any::<i8>(), any::<i16>(), any::<i32>(), any::<u8>(), any::<u16>(), any::<u32>());
    let rest = (any::<char>(), vec(any::<u8>(), 0..100), btree_map(any::<i16>(), text(), 0..3), json());
    (texts, numbers, small, rest, choices).prop_map(
        |(texts, numbers, small, (letter, bytes, numbered, json), choices)| {
            let raw = RawValue::from_string(format!(" {json:#}")).expect("JSON");
            Everything {
                newtype: Newtype(texts.0),
                tuple: Tuple(texts.1, numbers.0, numbers.1),
                unit: Unit,
                pair: (letter, texts.2),
                floats: numbers.2,
                float: numbers.3,
                small,
                renamed: texts.3,
                choices,
                bytes: Bytes(bytes),
                pieces: Pieces(texts.4),
                numbered,
                raw,
                rest: BTreeMap::from([("json".to_owned(), json)]),
            }
        },
    )
}

/// Compares every way to write `value` with `serde_json`.
fn check(value: &impl Serialize) -> Result<(), TestCaseError> {
    let expected = serde_json::to_string(value).expect("JSON");
    let mut written = Vec::new();
    write(value, &mut written).expect("JSON");
    prop_assert_eq!(String::from_utf8(written).expect("text"), &expected[..]);
    let raw = to_raw(value).expect("JSON");
    prop_assert_eq!(raw.get(), &expected[..]);
    let mut envelope = EnvelopeWriter::default();
    write(value, &mut envelope).expect("JSON");
    prop_assert_eq!(envelope.finish(), envelope::seal(&expected));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn values_are_written_as_serde_json_writes_them(value in json()) {
        check(&value)?;
    }

    #[test]
    fn every_shape_is_written_as_serde_json_writes_it(value in everything()) {
        check(&value)?;
    }

    #[test]
    fn texts_are_written_as_serde_json_writes_them(text in text()) {
        check(&text)?;
        check(&[Some(&text)])?;
    }
}

#[test]
fn a_value_without_a_json_form_gets_the_error_text_of_serde_json() {
    let long = "x".repeat(100);
    let map = BTreeMap::from([((1, 2), &long)]);
    let nested = (&long, BTreeMap::from([(Some([1]), 2)]));
    let shown = |error: serde_json::Error| error.to_string();
    assert_eq!(to_raw(&map).map_err(shown).unwrap_err(), serde_json::to_string(&map).map_err(shown).unwrap_err());
    assert_eq!(to_raw(&nested).map_err(shown).unwrap_err(), serde_json::to_string(&nested).map_err(shown).unwrap_err());
}
