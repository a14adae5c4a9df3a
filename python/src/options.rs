//! The options of zmqv2, for oslo.config.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use zmqv2_proto::config::{OPTIONS, OptionKind, Preset};

/// Every option as a dictionary: `group`, `groups`, `name`, `kind`, `min`, `max`, `default`, `unset`,
/// `help`, `allowed`, `secret`.
#[pyfunction]
pub fn option_table(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let table = PyList::empty(py);
    for spec in OPTIONS {
        let row = PyDict::new(py);
        row.set_item("group", spec.group)?;
        row.set_item("groups", spec.groups)?;
        row.set_item("name", spec.name)?;
        let (kind, min, max) = match spec.kind() {
            OptionKind::Integer { min, max } => ("integer", Some(min), Some(max)),
            OptionKind::Seconds { zero } => ("seconds", Some(u64::from(!zero)), Some(4_294_967)),
            OptionKind::Boolean => ("boolean", None, None),
            OptionKind::List => ("list", None, None),
            _ => ("text", None, None),
        };
        row.set_item("kind", kind)?;
        row.set_item("min", min)?;
        row.set_item("max", max)?;
        let (default, unset) = match spec.preset {
            Preset::Text(text) => (Some(text), None),
            Preset::HostName => (None, Some("the host name")),
            Preset::Unset(text) => (None, Some(text)),
            _ => (None, None),
        };
        row.set_item("default", default)?;
        row.set_item("unset", unset)?;
        row.set_item("help", spec.doc)?;
        row.set_item("allowed", spec.allowed)?;
        row.set_item("secret", spec.secret)?;
        table.append(row)?;
    }
    Ok(table)
}
