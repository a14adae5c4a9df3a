//! Text in JSON that is looked at and then let go.

use std::borrow::Cow;

use serde::Deserialize;

/// A text that is borrowed where nothing in it is escaped; a plain `Cow` would always be a copy.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
