//! Messages that come again are not run twice.

pub(crate) mod recent;
pub(crate) mod repeats;
