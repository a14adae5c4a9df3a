//! The service of `inventory_server.rs` and `inventory_client.rs`. In a project of your own this is a
//! crate that both ends use. It needs `zmqv2-proto` without its default features, and `serde`.

#![allow(unreachable_pub, reason = "a crate of its own exports them")]

use serde::{Deserialize, Serialize};
use zmqv2_proto::service;

#[derive(Debug, Serialize, Deserialize)]
pub struct Reservation {
    pub id: u64,
    pub part: String,
    pub count: u32,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum InventoryError {
    #[error("there are only {left} of {part}")]
    TooFew { part: String, left: u32 },
    #[error("there is no reservation {id}")]
    Unknown { id: u64 },
}

service! {
    /// Parts in stock.
    pub service Inventory("inventory"), async AsyncInventory, client InventoryClient, namespace "stock",
        version 1.1, error InventoryError
    {
        /// Reserves parts.
        fn reserve(part: String, count: u32) -> Reservation;
        /// Gives reserved parts back.
        fn release(id: u64);
        /// Counts the parts in stock, which takes a while. Servers of version 1.0 cannot do it.
        fn count(part: String) -> u32, since 1.1;
    }
}
