//! The addresses of network interfaces. Our libzmq does not know interfaces by their names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// The number of the network interface called `name`, if this machine has one.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}

/// An address of the interface with this number: IPv4 if it has one, else IPv6, link-local ones last
/// and with their zone.
///
/// # Errors
/// The operating system's reason, or that the interface has no address.
pub fn interface_address(index: u32) -> io::Result<String> {
    let mut addresses: Vec<IpAddr> =
        addresses()?.into_iter().filter(|(of, _)| *of == index).map(|(_, address)| address).collect();
    let is_local = |address: &IpAddr| matches!(address, IpAddr::V6(it) if it.is_unicast_link_local());
    addresses.sort_by_key(|address| (address.is_ipv6(), is_local(address)));
    let first = addresses.first().ok_or_else(|| io::Error::other("the interface has no IP address"))?;
    Ok(if is_local(first) { format!("{first}%{index}") } else { first.to_string() })
}

const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;
const DONE: u16 = 3;
const FAILED: u16 = 2;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const ATTRIBUTE_ADDRESS: u16 = 1;
const ATTRIBUTE_LOCAL: u16 = 2;
const HEADER: usize = 16;
const BODY: usize = 8;

/// All addresses with the numbers of their interfaces, from the kernel (netlink, `rtnetlink(7)`).
fn addresses() -> io::Result<Vec<(u32, IpAddr)>> {
    let socket = socket(AddressFamily::NETLINK, SocketType::DGRAM, None)?;
    let mut request = [0; HEADER + BODY];
    request[..4].copy_from_slice(&((HEADER + BODY) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&GET_ADDRESS.to_ne_bytes());
    request[6..8].copy_from_slice(&(REQUEST | DUMP).to_ne_bytes());
    rustix::io::write(&socket, &request)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = rustix::io::read(&socket, &mut buffer[..])?;
        let mut rest = &buffer[..count];
        while let Some((message, more)) = part(rest, HEADER, |head| u32_at(head, 0) as usize) {
            match u16_at(message, 4) {
                DONE => return Ok(found),
                FAILED => return Err(io::Error::other("the kernel does not list addresses")),
                NEW_ADDRESS => found.extend(address(&message[HEADER..])),
                _ => {}
            }
            rest = more;
        }
        if count == 0 {
            return Ok(found);
        }
    }
}

/// The address in a message of the kernel.
fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let index = u32_at(body.get(..BODY)?, 4);
    let mut best = None;
    let mut rest = &body[BODY..];
    while let Some((attribute, more)) = part(rest, 4, |head| usize::from(u16_at(head, 0))) {
        let kind = u16_at(attribute, 2);
        let value = &attribute[4..];
        let address = <[u8; 4]>::try_from(value).map(|it| IpAddr::from(Ipv4Addr::from(it)));
        let address = address.or_else(|_| <[u8; 16]>::try_from(value).map(|it| IpAddr::from(Ipv6Addr::from(it))));
        match (kind, address) {
            // Of a point-to-point link, the other one is the peer's.
            (ATTRIBUTE_LOCAL, Ok(address)) => best = Some(address),
            (ATTRIBUTE_ADDRESS, Ok(address)) => best = best.or(Some(address)),
            _ => {}
        }
        rest = more;
    }
    Some((index, best?))
}

/// Splits off a part that begins with its length, and the padding to four bytes behind it.
fn part(bytes: &[u8], head: usize, length: impl Fn(&[u8]) -> usize) -> Option<(&[u8], &[u8])> {
    let length = length(bytes.get(..head)?);
    let part = bytes.get(..length).filter(|part| part.len() >= head)?;
    Some((part, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_an_interface_is_found() {
        let Some(index) = interface_index("lo") else { return };
        assert!(["127.0.0.1", "::1"].contains(&&*interface_address(index).unwrap()));
        assert!(interface_address(u32::MAX).unwrap_err().to_string().contains("has no IP address"));
        assert_eq!(interface_index("nope0"), None);
    }
}
