//! broker
pub mod engine;
