//! The trait of every directory, and its questions, answers and errors.

pub(crate) mod error;
pub(crate) mod matchmaker;
pub(crate) mod placement;
pub(crate) mod rotation;
