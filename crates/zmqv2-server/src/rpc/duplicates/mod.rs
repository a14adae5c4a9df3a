//! A request that comes again does not run again.

pub(crate) mod recent;
pub(crate) mod repeats;
