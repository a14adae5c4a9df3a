//! Values that JSON holds as text.

use std::borrow::Cow;

use serde::Deserialize;

/// A text that is borrowed unless something in it is escaped. A plain `Cow` would always be a copy.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Serde for a type whose JSON is a text: `FromStr` reads it, the expression writes it.
macro_rules! serde_as_text {
    ($type:ty, $value:ident => $text:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                serializer.serialize_str($text)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let $crate::naming::Text(text) = serde::Deserialize::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use serde_as_text;
