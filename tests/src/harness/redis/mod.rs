//! Redis servers that tests start themselves, and nodes whose directory is in one.

pub mod cluster;
pub mod newcomers;
pub mod server;
