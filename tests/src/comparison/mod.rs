//! The comparison with the legacy driver.

pub mod compare;
pub mod legacy;
pub mod messaging;
