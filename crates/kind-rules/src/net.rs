//! What kinds of networking ask of addresses beyond [`crate::addresses`].

use std::fmt::Display;
use std::net::IpAddr;

use crate::addresses;
use crate::problems::Problems;

pub use crate::addresses::{cidr, cidr_warnings, ip_warning, legacy_cidr, parse_sloppy as parse_ip};

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// As written.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub length: u32,
}

impl Cidr {
    /// Whether a network of the same family lies in it and is smaller.
    #[must_use]
    pub fn has_within(&self, part: &Self) -> bool {
        addresses::contains((self.address, self.length), addresses::network(part.address, part.length))
            && self.length < part.length
    }
}

/// A network in any form that older servers took.
#[must_use]
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    addresses::parse_cidr_sloppy(text).map(|(address, length)| Cidr { address, length })
}

/// Whether a text is an IPv4 address.
#[must_use]
pub fn is_ipv4(text: &str) -> bool {
    parse_ip(text).is_some_and(|address| address.to_canonical().is_ipv4())
}

/// [`addresses::legacy_ip`]; whether nothing was wrong.
pub fn legacy_ip(problems: &mut Problems, field: impl Display, text: &str, known: &[&str]) -> bool {
    let before = problems.len();
    addresses::legacy_ip(problems, field, text, known);
    problems.len() == before
}

/// [`addresses::ip`]; whether nothing was wrong.
pub fn ip(problems: &mut Problems, field: impl Display, text: &str) -> bool {
    let before = problems.len();
    addresses::ip(problems, field, text);
    problems.len() == before
}

/// An address that packets can be sent to (upstream's `ValidateEndpointIP`).
pub fn endpoint_ip(problems: &mut Problems, field: impl Display, text: &str) {
    let Some(address) = parse_ip(text).map(|address| address.to_canonical()) else {
        problems.invalid(field, text, "must be a valid IP address");
        return;
    };
    if address.is_unspecified() {
        problems.invalid(&field, text, &format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        problems.invalid(&field, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        problems.invalid(&field, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        problems.invalid(
            &field,
            text,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_reachable_addresses() {
        for (text, found) in
            [("10.0.0.1", 0), ("127.0.0.1", 1), ("169.254.0.1", 1), ("ff02::1", 1), ("0.0.0.0", 1)]
        {
            let mut problems = Problems::default();
            endpoint_ip(&mut problems, "f", text);
            assert_eq!(problems.len(), found, "{text}");
        }
        let (wide, narrow) = (parse_cidr("10.0.0.0/8").unwrap(), parse_cidr("10.1.0.0/16").unwrap());
        assert!(wide.has_within(&narrow) && !narrow.has_within(&wide));
    }
}
