//! What the verbs that do not block return.

pub(crate) mod fanout;
pub(crate) mod notify;
pub(crate) mod single;
