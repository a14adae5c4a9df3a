//! IPv6 addresses with a zone, such as `fe80::1%eth0`. Our libzmq reads only zones that are numbers.

use std::io;

use crate::naming::Address;
use crate::transport::interface::interface_index;

/// The address as libzmq reads it.
pub(super) fn for_libzmq(address: &Address) -> io::Result<String> {
    let text = address.to_string();
    let Address::Tcp(tcp) = address else { return Ok(text) };
    let Some((_, zone)) = tcp.host().split_once('%') else { return Ok(text) };
    if !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text);
    }
    let missing = || io::Error::other(format!("this machine has no network interface {zone:?}"));
    let index = interface_index(zone).ok_or_else(missing)?;
    Ok(text.replacen(&format!("%{zone}]"), &format!("%{index}]"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_becomes_a_number() {
        let shown = |text: &str| for_libzmq(&Address::Tcp(text.parse().unwrap())).map_err(|error| error.to_string());
        let Some(index) = interface_index("lo") else { return };
        assert_eq!(shown("[fe80::1%lo]:7"), Ok(format!("tcp://[fe80::1%{index}]:7")));
        for same in ["[fe80::1%3]:7", "[::1]:7", "h:7"] {
            assert_eq!(shown(same), Ok(format!("tcp://{same}")));
        }
        assert!(shown("[fe80::1%nope0]:7").unwrap_err().contains("no network interface \"nope0\""));
    }
}
