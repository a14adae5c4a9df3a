//! Writes JSON as `serde_json` does, but long strings faster: `serde_json` checks each byte by
//! itself.
//!
//! A wrapper around the serializer of `serde_json` passes long strings as bytes, which `serde_json`
//! gives whole to its [`Formatter`]. Our formatter writes them as strings, many bytes at a time.
//! All other values pass unchanged, except for NaN and infinite numbers: `serde_json` writes `null`
//! for them, here they are errors that name the place ([`place`]).

mod place;

use std::io;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

use crate::message::envelope::{reserve_for, write_escaped};

#[cfg(all(test, feature = "proptest"))]
mod properties;

/// Shorter strings are faster in `serde_json`.
const LONG: usize = 64;
/// The capacity of a new text.
const INITIAL_CAPACITY: usize = 128;

/// Writes the JSON text of `value`, as `serde_json::to_writer` does.
pub(crate) fn write(value: &(impl Serialize + ?Sized), writer: impl io::Write) -> serde_json::Result<()> {
    place::named(|| Wrapped(value).serialize(&mut serde_json::Serializer::with_formatter(writer, LongStrings)))
}

/// The JSON text of `value`, as `serde_json::value::to_raw_value` makes it.
pub(crate) fn to_raw(value: &(impl Serialize + ?Sized)) -> serde_json::Result<Box<RawValue>> {
    let mut text = Text(Vec::with_capacity(INITIAL_CAPACITY));
    write(value, &mut text)?;
    // Checks UTF-8 and JSON once more. All together is still faster than `serde_json` alone.
    RawValue::from_string(String::from_utf8(text.0).map_err(serde::ser::Error::custom)?)
}

/// A text that is being written.
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        reserve_for(&mut self.0, text.len());
        self.0.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes as text the bytes that [`Wrapped`] passes.
struct LongStrings;

impl Formatter for LongStrings {
    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &[u8]) -> io::Result<()> {
        writer.write_all(b"\"")?;
        write_escaped(text, writer)?;
        writer.write_all(b"\"")
    }
}

/// A value, or a serializer or its parts: long strings in it become bytes.
struct Wrapped<T>(T);

impl<T: Serialize + ?Sized> Serialize for Wrapped<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Wrapped(serializer))
    }
}

macro_rules! pass {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name(self, $($arg: $type),*) -> Result<S::Ok, S::Error> {
            self.0.$name($($arg),*)
        })*
    };
}

macro_rules! open {
    ($($name:ident($($arg:ident: $type:ty),*) -> $made:ident as $wrap:expr;)*) => {
        $(fn $name(self, $($arg: $type),*) -> Result<Self::$made, S::Error> {
            self.0.$name($($arg),*).map($wrap)
        })*
    };
}

impl<S: Serializer> Serializer for Wrapped<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Counted<S::SerializeSeq>;
    type SerializeTuple = Counted<S::SerializeTuple>;
    type SerializeTupleStruct = Counted<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Counted<S::SerializeTupleVariant>;
    type SerializeMap = Wrapped<S::SerializeMap>;
    type SerializeStruct = Wrapped<S::SerializeStruct>;
    type SerializeStructVariant = Wrapped<S::SerializeStructVariant>;

    fn serialize_str(self, text: &str) -> Result<S::Ok, S::Error> {
        if text.len() < LONG { self.0.serialize_str(text) } else { self.0.serialize_bytes(text.as_bytes()) }
    }

    /// Real bytes become an array of numbers.
    fn serialize_bytes(self, bytes: &[u8]) -> Result<S::Ok, S::Error> {
        self.0.collect_seq(bytes)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.0.serialize_f32(value) } else { Err(place::not_finite(value.into())) }
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() { self.0.serialize_f64(value) } else { Err(place::not_finite(value)) }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Wrapped(value))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Wrapped(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Wrapped(value))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }

    pass! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    open! {
        serialize_seq(len: Option<usize>) -> SerializeSeq as Counted::new;
        serialize_tuple(len: usize) -> SerializeTuple as Counted::new;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct as Counted::new;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeTupleVariant as Counted::new;
        serialize_map(len: Option<usize>) -> SerializeMap as Wrapped;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct as Wrapped;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> SerializeStructVariant as Wrapped;
    }
}

/// A serializer of elements, with the number of those that were written.
struct Counted<T>(T, usize);

impl<T> Counted<T> {
    fn new(elements: T) -> Self {
        Self(elements, 0)
    }
}

macro_rules! elements {
    ($($made:ident: $name:ident;)*) => {
        $(impl<C: $made> $made for Counted<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $name<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.1 += 1;
                self.0.$name(&Wrapped(value)).inspect_err(|_| place::inside_element(self.1 - 1))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        })*
    };
}

elements! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
}

impl<C: SerializeStructVariant> SerializeStructVariant for Wrapped<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
        self.0.serialize_field(key, &Wrapped(value)).inspect_err(|_| place::inside_field(key))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.0.end()
    }
}

/// The text of raw JSON must pass unchanged. `serde_json` marks its field by a `$` in front.
impl<C: SerializeStruct> SerializeStruct for Wrapped<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
        if key.starts_with('$') {
            self.0.serialize_field(key, value)
        } else {
            self.0.serialize_field(key, &Wrapped(value)).inspect_err(|_| place::inside_field(key))
        }
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.0.end()
    }
}

/// Keys pass unchanged.
impl<C: SerializeMap> SerializeMap for Wrapped<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.0.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.0.serialize_value(&Wrapped(value)).inspect_err(|_| place::inside_field("?"))
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        self.0.serialize_key(key)?;
        self.0.serialize_value(&Wrapped(value)).inspect_err(|_| place::inside_key(key))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.0.end()
    }
}
