//! The trait of every directory, and its questions, answers and errors.

mod broker_process;
mod error;
mod matchmaker;
mod placement;
mod rotation;

pub use broker_process::{BrokerProcess, InvalidBrokerProcess, OtherBroker};
pub use error::MatchmakerError;
pub use matchmaker::{
    CheckIn, CheckedIn, Health, Lease, ListedServer, ListedTopic, Matchmaker, Refreshed, Registration,
};
pub use placement::{Candidates, Completeness, PlacedNode, Placement};
pub use rotation::Rotation;
