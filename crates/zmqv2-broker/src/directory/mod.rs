//! The directory of services follows what is registered at this broker.

mod name_conflict;
pub(crate) mod registrar;
mod registration_book;
