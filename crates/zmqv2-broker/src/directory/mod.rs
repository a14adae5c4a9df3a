//! The directory of services follows what is registered at this broker.

pub(crate) mod registrar;
mod registration_book;
