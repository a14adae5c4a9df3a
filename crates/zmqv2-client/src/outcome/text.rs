//! Parts of the texts of outcomes and errors.

use std::fmt;
use std::time::Duration;

use zmqv2_proto::NodeName;

/// Shows a duration as `120 ms` or `5.0 s`.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

/// Shows ` by node n1`, or nothing.
pub(crate) struct AtNode<'a>(pub(crate) Option<&'a NodeName>);

impl fmt::Display for AtNode<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |node| write!(f, " by node {node}"))
    }
}
