//! The public types: client, notifier, their builders, and the handles that they return.
//!
//! A type and its builder make each other, so these two files import each other.

pub(crate) mod async_client;
pub(crate) mod async_notifier;
pub(crate) mod connections;
pub(crate) mod draft;
pub(crate) mod handles;
pub(crate) mod notifier;
pub(crate) mod notifier_builder;
pub(crate) mod raw;
pub(crate) mod rpc_client;
pub(crate) mod rpc_client_builder;
pub(crate) mod send;
pub(crate) mod send_notification;
pub(crate) mod service;
pub(crate) mod setup;
