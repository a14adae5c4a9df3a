//! The suite that every [`Matchmaker`] must pass.
//!
//! Write a [`Fixture`] for a directory and call [`run`] in a test. Each check uses its own topics,
//! so one fixture serves all checks. A failed check panics and says what it expected. No check
//! sleeps: [`Fixture::let_pass`] moves the time.

mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::{Matchmaker, Registration};

/// A directory under test and its environment.
pub trait Fixture {
    /// The matchmaker under test; always the same one.
    fn matchmaker(&self) -> Arc<dyn Matchmaker>;

    /// Adds `registration` to the directory from outside, as the broker of another node or an
    /// operator would, with [`LEASE`]. It replaces a registration at the [same place](same_place).
    fn place(&mut self, registration: &Registration);

    /// Removes `registration` from the directory from outside.
    fn displace(&mut self, registration: &Registration);

    /// The abilities of this directory, which decide the checks that apply.
    fn capabilities(&self) -> Capabilities;

    /// Lets `time` pass for the directory: moves its clock, or waits. Needed for leases.
    fn let_pass(&mut self, time: Duration) {
        panic!("implement let_pass for a directory with leases ({time:?})");
    }

    /// Makes the directory unreadable, or readable again, and returns when it is so. Needed when
    /// [`Capabilities::interruptible`].
    fn interrupt(&mut self, down: bool) {
        panic!("implement interrupt for an interruptible directory (down = {down})");
    }
}

/// The abilities of a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It knows one node, which hosts everything.
    pub single_node: bool,
    /// It accepts registrations and ignores them.
    pub read_only: bool,
    /// Registrations expire.
    pub leases: bool,
    /// It can become unreadable while in use.
    pub interruptible: bool,
    /// It knows from [check-ins](Matchmaker::check_in) whether brokers can renew.
    pub check_ins: bool,
}

/// The lease of everything that the suite registers.
pub const LEASE: Duration = Duration::from_secs(3);

/// Whether two registrations name the same server at the same node, whatever the node's address.
#[must_use]
pub fn same_place(one: &Registration, other: &Registration) -> bool {
    one.key == other.key && one.server == other.server && one.node.name == other.node.name
}

/// Runs every check that applies.
///
/// # Panics
/// When the directory breaks a rule.
pub fn run(fixture: &mut dyn Fixture) {
    let able = fixture.capabilities();
    rules::answers_are_shared(fixture);
    rules::asking_from_many_threads(fixture);
    if able.single_node {
        return rules::one_node_hosts_everything(fixture);
    }
    rules::unknown_topics_are_empty(fixture);
    rules::a_bare_topic_is_on_all_its_nodes(fixture);
    rules::a_server_is_only_where_it_is(fixture);
    rules::exchanges_never_mix(fixture);
    rules::nodes_take_turns(fixture);
    rules::placing_twice_is_placing_once(fixture);
    rules::a_node_that_moved_is_at_its_new_address(fixture);
    rules::a_withdrawn_server_disappears(fixture);
    rules::a_new_node_is_found(fixture);
    if able.read_only {
        rules::registrations_are_ignored(fixture);
    } else {
        rules::own_registrations_count_at_once(fixture);
    }
    if able.leases {
        rules::leases_end_and_are_renewed(fixture);
    }
    if able.interruptible {
        rules::answers_outlive_an_interruption(fixture);
    }
    if able.check_ins {
        // Last, because without check-ins nobody knows whether brokers can renew.
        rules::leases_that_end_while_nobody_can_renew_end_nothing(fixture);
    }
}
