//! The trait of every directory, and its questions, answers and errors.

mod error;
mod matchmaker;
mod placement;
mod rotation;

pub use error::MatchmakerError;
pub use matchmaker::{Health, Lease, ListedServer, ListedTopic, Matchmaker, Refreshed, Registration};
pub use placement::{Candidates, PlacedNode, Placement};
pub use rotation::Rotation;
