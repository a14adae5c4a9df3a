//! Named arguments on the wire: a JSON object, as oslo.messaging sends them. In Rust they are a
//! tuple, and a list of names beside it.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::naming::Text;

/// The arguments of a method: a tuple of up to 12 values.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a method of a service takes at most 12 arguments",
    note = "put some of the arguments into a struct"
)]
pub trait Arguments: Sized {
    /// The values that have been read so far.
    type Slots: Default;

    /// Writes all arguments.
    fn write<M: SerializeMap>(&self, names: &'static [&'static str], map: &mut M) -> Result<(), M::Error>;

    /// Reads the argument with this number.
    fn read<'de, Map: MapAccess<'de>>(slots: &mut Self::Slots, number: usize, map: &mut Map) -> Result<(), Map::Error>;

    /// All arguments. One that is missing is read as `null`, so an `Option` may be missing.
    fn finish<E: Error>(slots: Self::Slots, names: &'static [&'static str]) -> Result<Self, E>;
}

macro_rules! tuples {
    ($(($($type:ident $number:tt),*);)*) => {
        $(impl<$($type: Value),*> Arguments for ($($type,)*) {
            type Slots = ($(Option<$type>,)*);

            #[allow(unused_variables, clippy::unused_unit)]
            fn write<M: SerializeMap>(&self, names: &'static [&'static str], map: &mut M) -> Result<(), M::Error> {
                $(map.serialize_entry(names[$number], &self.$number)?;)*
                Ok(())
            }

            #[allow(unused_variables)]
            fn read<'de, Map: MapAccess<'de>>(slots: &mut Self::Slots, number: usize, map: &mut Map) -> Result<(), Map::Error> {
                match number {
                    $($number => slots.$number = Some(map.next_value()?),)*
                    _ => {}
                }
                Ok(())
            }

            #[allow(unused_variables, clippy::unused_unit)]
            fn finish<E: Error>(slots: Self::Slots, names: &'static [&'static str]) -> Result<Self, E> {
                Ok(($(present(slots.$number, names[$number])?,)*))
            }
        })*
    };
}

tuples! {
    ();
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, F 4);
    (A 0, B 1, C 2, D 3, F 4, G 5);
    (A 0, B 1, C 2, D 3, F 4, G 5, H 6);
    (A 0, B 1, C 2, D 3, F 4, G 5, H 6, I 7);
    (A 0, B 1, C 2, D 3, F 4, G 5, H 6, I 7, J 8);
    (A 0, B 1, C 2, D 3, F 4, G 5, H 6, I 7, J 8, K 9);
    (A 0, B 1, C 2, D 3, F 4, G 5, H 6, I 7, J 8, K 9, L 10);
    (A 0, B 1, C 2, D 3, F 4, G 5, H 6, I 7, J 8, K 9, L 10, N 11);
}

/// What can be an argument or a result.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument or a result of a service",
    label = "derive serde's `Serialize` and `Deserialize` for it"
)]
pub trait Value: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Value for T {}

/// Compiles if `T` can be an argument or a result.
#[doc(hidden)]
pub const fn is_value<T: Value>() {}

fn present<T: DeserializeOwned, E: Error>(slot: Option<T>, name: &str) -> Result<T, E> {
    let value = slot.or_else(|| serde_json::from_str("null").ok());
    value.ok_or_else(|| E::custom(format_args!("{name} is missing")))
}

/// Arguments with their names, for writing.
#[doc(hidden)]
#[derive(Debug)]
pub struct Named<A> {
    pub(crate) names: &'static [&'static str],
    pub(crate) values: A,
}

impl<A: Arguments> Serialize for Named<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.names.len()))?;
        self.values.write(self.names, &mut map)?;
        map.end()
    }
}

/// Reads the arguments of a request. The error says which argument is wrong, and why.
pub(crate) fn read<A: Arguments>(names: &'static [&'static str], text: &RawValue) -> Result<A, String> {
    let at = Cell::new(None);
    let visitor = ArgumentsVisitor { names, at: &at, arguments: PhantomData };
    let read = serde_json::Deserializer::from_str(text.get()).deserialize_any(visitor);
    read.map_err(|error| match at.get() {
        Some(name) => format!("{name}: {error}"),
        None => error.to_string(),
    })
}

struct ArgumentsVisitor<'a, A> {
    names: &'static [&'static str],
    /// The argument that is being read.
    at: &'a Cell<Option<&'static str>>,
    arguments: PhantomData<A>,
}

impl<'de, A: Arguments> Visitor<'de> for ArgumentsVisitor<'_, A> {
    type Value = A;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", list(self.names))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<A, M::Error> {
        let mut slots = A::Slots::default();
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            let Some(number) = self.names.iter().position(|name| *name == key) else {
                let known = list(self.names);
                return Err(M::Error::custom(format_args!("{key:?} is not an argument, the method takes {known}")));
            };
            self.at.set(Some(self.names[number]));
            A::read(&mut slots, number, &mut map)?;
            self.at.set(None);
        }
        A::finish(slots, self.names)
    }

    /// No arguments.
    fn visit_unit<E: Error>(self) -> Result<A, E> {
        A::finish(A::Slots::default(), self.names)
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "no arguments".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::json_text;

    const NAMES: &[&str] = &["part", "count", "note"];
    type Three = (String, u32, Option<String>);

    fn read_text(text: &str) -> Result<Three, String> {
        read(NAMES, &RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn arguments_travel_as_an_object_in_any_order() {
        let values = ("bolt".to_owned(), 3, None);
        let text = json_text(&Named { names: NAMES, values: values.clone() }).unwrap();
        assert_eq!(text.get(), r#"{"part":"bolt","count":3,"note":null}"#);
        for text in [text.get(), r#"{"count": 3, "p\u0061rt": "bolt"}"#] {
            assert_eq!(read_text(text).unwrap(), values);
        }
        let none = json_text(&Named { names: &[], values: () }).unwrap();
        assert_eq!(none.get(), "{}");
        for text in ["{}", "null"] {
            read::<()>(&[], &RawValue::from_string(text.to_owned()).unwrap()).unwrap();
        }
    }

    #[test]
    fn an_error_names_the_argument() {
        for (text, told) in [
            (r#"{"part":"bolt","count":"x"}"#, "count: invalid type: string \"x\", expected u32"),
            (r#"{"part":"bolt"}"#, "count is missing"),
            ("null", "part is missing"),
            (r#"{"part":"bolt","cnt":1}"#, "\"cnt\" is not an argument, the method takes part, count, note"),
            ("[1]", "invalid type: sequence, expected an object with part, count, note"),
        ] {
            // The column after that depends on how serde_json reads a text that it has already read.
            let error = read_text(text).unwrap_err();
            assert!(error.starts_with(&format!("{told} at line 1 column ")), "{error}");
        }
    }
}
