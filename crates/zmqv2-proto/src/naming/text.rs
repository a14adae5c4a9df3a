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

/// The traits of a checked text in an `Arc<str>`. `$parse` reads it.
macro_rules! shared_text {
    ($type:ty, $parse:path) => {
        $crate::naming::serde_as_text!($type, text => &text.0);

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::naming::InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $parse(text)
            }
        }
    };
}

pub(crate) use {serde_as_text, shared_text};
