//! The native part of the driver: the Rust client and servers of zmqv2, for Python.
//!
//! Nothing here knows oslo.messaging: bodies are bytes, names are texts, and a message that is on its
//! way is a [`pending::Pending`]. The Python part of the package has the rules of the driver.
//!
//! No call blocks while it has the GIL. An object that a forked process has inherited does nothing
//! there, and dropping it does nothing.

mod client;
mod clock;
mod errors;
mod events;
mod exit;
mod listener;
mod options;
mod pending;
mod requests;

use pyo3::prelude::*;

/// The module `oslo_messaging_zmqv2._native`.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::client::{Client, Destination, check_options};
    #[pymodule_export]
    use super::errors::Failed;
    #[pymodule_export]
    use super::events::{events_fileno, set_log_level, take_events, want_outcomes};
    #[pymodule_export]
    use super::exit::{after_fork, at_exit};
    #[pymodule_export]
    use super::listener::Listener;
    #[pymodule_export]
    use super::options::option_table;
    #[pymodule_export]
    use super::pending::{Pending, Signal};
    #[pymodule_export]
    use super::requests::{Notification, Request};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::events::install();
        module.add("MAX_PLACES", zmqv2_proto::control::MAX_PLACES)?;
        module.add("LIBZMQ_VERSION", zmqv2_proto::transport::libzmq_version())
    }
}
