//! The commands that send one message: `call`, `cast`, `ping`, `fanout` and `notify`.

pub(crate) mod call;
pub(crate) mod fanout;
pub(crate) mod notify;
mod outcome;
pub(crate) mod target;
