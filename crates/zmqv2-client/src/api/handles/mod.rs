//! The handles that the non-blocking verbs return, and the reports that they give.

pub(crate) mod ended;
pub(crate) mod fanout;
pub(crate) mod futures;
pub(crate) mod notify;
pub(crate) mod report;
pub(crate) mod single;
