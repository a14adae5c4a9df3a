//! Tells brokers apart that have the same node name, and perhaps the same address.

use std::fmt;
use std::str::FromStr;

use zmqv2_proto::{InstanceId, TcpAddress};

/// The longest name of a machine that is written to a directory, in bytes.
const MAX_MACHINE: usize = 64;

/// One run of a broker. Its text form contains no space: `machine/process/run`.
///
/// Two machines may have the same name, and then their nodes have the same name and address too. So
/// the run is a random id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerProcess {
    machine: String,
    pid: u32,
    run: InstanceId,
}

impl BrokerProcess {
    /// A new run of this process on a machine of this name. Characters that are not allowed in host
    /// names are replaced, and only the first 64 bytes of the name count.
    #[must_use]
    pub fn new(machine: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
        let machine = machine.chars().map(plain).take(MAX_MACHINE).collect();
        Self { machine, pid: zmqv2_proto::process_id(), run: InstanceId::random() }
    }

    /// For people: the machine and the process.
    #[must_use]
    pub fn about(&self) -> String {
        format!("machine {}, process {}", self.machine, self.pid)
    }
}

impl fmt::Display for BrokerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.machine, self.pid, self.run)
    }
}

/// The error for a text that is not a [`BrokerProcess`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid broker process {0:?}: its form is machine/process/run")]
pub struct InvalidBrokerProcess(String);

impl FromStr for BrokerProcess {
    type Err = InvalidBrokerProcess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '/');
        let parsed = (|| {
            let machine = parts.next()?;
            let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            if machine.len() > MAX_MACHINE || !machine.chars().all(is_plain) {
                return None;
            }
            let (pid, run) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Self { machine: machine.to_owned(), pid, run })
        })();
        parsed.ok_or_else(|| InvalidBrokerProcess(text.to_owned()))
    }
}

/// Another broker that uses the name of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherBroker {
    /// The address that it has registered. It may be the same.
    pub address: TcpAddress,
    /// Its machine, process and network address, for people. Empty if they are not known.
    pub about: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read_back_and_two_runs_differ() {
        let [one, other] = [BrokerProcess::new("h\u{e9} 1/x"), BrokerProcess::new("h\u{e9} 1/x")];
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert_eq!(one.about(), format!("machine h__1_x, process {}", std::process::id()));
        let long = BrokerProcess::new(&"m".repeat(1_000));
        assert_eq!(long.to_string().parse(), Ok(long));
        for text in ["", "m", "m/1", "m/x/0", "m 1/1/00000000000000000000000000000000", "m/1/0/0"] {
            assert!(text.parse::<BrokerProcess>().is_err(), "{text}");
        }
    }
}
