//! Which variant of an enum a value is.

use std::fmt;

use serde::ser::{Error, Impossible, Serialize, Serializer};

/// The form of an enum's variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Unit,
    Newtype,
    Tuple,
    Struct,
}

/// The variant of `value`. `None`: it is no enum, or serde writes it as one of another form than the
/// default.
pub(crate) fn variant_of(value: &impl Serialize) -> Option<(&'static str, Shape)> {
    value.serialize(Probe).err().and_then(|Found(found)| found)
}

/// Ends the serialization of a value with the first thing that it writes.
struct Probe;

#[derive(Debug)]
struct Found(Option<(&'static str, Shape)>);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Found {}

impl Error for Found {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

type Nothing = Impossible<(), Found>;

macro_rules! other {
    ($($name:ident($($type:ty),*) -> $made:ty;)*) => {
        $(fn $name(self, $(_: $type),*) -> Result<$made, Found> {
            Err(Found(None))
        })*
    };
}

macro_rules! variant {
    ($($name:ident($($type:ty),*) -> $made:ty, $shape:ident;)*) => {
        $(fn $name(self, _: &'static str, _: u32, variant: &'static str, $(_: $type),*) -> Result<$made, Found> {
            Err(Found(Some((variant, Shape::$shape))))
        })*
    };
}

impl Serializer for Probe {
    type Ok = ();
    type Error = Found;
    type SerializeSeq = Nothing;
    type SerializeTuple = Nothing;
    type SerializeTupleStruct = Nothing;
    type SerializeTupleVariant = Nothing;
    type SerializeMap = Nothing;
    type SerializeStruct = Nothing;
    type SerializeStructVariant = Nothing;

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), Found> {
        Err(Found(Some((variant, Shape::Newtype))))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Found> {
        Err(Found(None))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Found> {
        Err(Found(None))
    }

    variant! {
        serialize_unit_variant() -> (), Unit;
        serialize_tuple_variant(usize) -> Nothing, Tuple;
        serialize_struct_variant(usize) -> Nothing, Struct;
    }

    other! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Nothing;
        serialize_tuple(usize) -> Nothing;
        serialize_tuple_struct(&'static str, usize) -> Nothing;
        serialize_map(Option<usize>) -> Nothing;
        serialize_struct(&'static str, usize) -> Nothing;
    }
}
