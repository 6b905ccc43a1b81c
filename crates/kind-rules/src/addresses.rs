//! IP addresses and networks in fields (apimachinery `pkg/util/validation/ip.go`, strict since 1.36).

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::problems::{Problems, quoted};

/// An address as old clients write it: leading zeros in IPv4 and any form of IPv6.
#[must_use]
pub fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(address));
    }
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = part.bytes().all(|b| b.is_ascii_digit()) && !part.is_empty();
        let significant = part.trim_start_matches('0');
        *octet = if !digits {
            return None;
        } else if significant.is_empty() {
            0
        } else {
            significant.parse().ok()?
        };
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// The address in the form Go prints: IPv4 in IPv6 as IPv4.
#[must_use]
pub fn canonical(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some())
}

/// Whether it is an IPv6 address.
#[must_use]
pub fn is_ipv6(text: &str) -> bool {
    parse_sloppy(text).is_some_and(|address| matches!(address.to_canonical(), IpAddr::V6(_)))
}

/// An address in a field that predates strict checks (upstream's `IsValidIPForLegacyField`); `old` are values that the
/// object had before and that are let pass.
pub fn legacy_ip(problems: &mut Problems, field: impl Display, text: &str, old: &[&str]) {
    if !old.contains(&text) {
        strict(problems, &field, text);
    }
}

fn strict(problems: &mut Problems, field: &dyn Display, text: &str) -> Option<IpAddr> {
    let Some(address) = parse_sloppy(text) else {
        problems.invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        problems.invalid(field, text, "must not have leading 0s");
    } else if is_mapped(address) {
        problems.invalid(field, text, "must not be an IPv4-mapped IPv6 address");
    } else {
        return Some(address);
    }
    None
}

/// An address in canonical form (upstream's `IsValidIP`).
pub fn ip(problems: &mut Problems, field: impl Display, text: &str) {
    if let Some(address) = strict(problems, &field, text)
        && canonical(address) != text
    {
        problems.invalid(
            field,
            text,
            &format!("must be in canonical form ({})", quoted(&canonical(address))),
        );
    }
}

/// A network in any of the forms old clients write: the address as given and the length of its prefix.
#[must_use]
pub fn parse_cidr_sloppy(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address = parse_sloppy(address)?;
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) || length.len() > 4 {
        return None;
    }
    let length: u32 = length.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (length <= most).then_some((address, length))
}

/// The first address of a network.
#[must_use]
pub fn network(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(four) & mask))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(six) & mask))
        }
    }
}

/// Whether a network has an address in it.
#[must_use]
pub fn contains(net: (IpAddr, u32), address: IpAddr) -> bool {
    net.0.is_ipv4() == address.is_ipv4() && network(net.0, net.1) == network(address, net.1)
}

/// A network in a field that predates strict checks (upstream's `IsValidCIDRForLegacyField`).
pub fn legacy_cidr(problems: &mut Problems, field: impl Display, text: &str, old: &[&str]) {
    if !old.contains(&text) {
        strict_cidr(problems, &field, text);
    }
}

fn strict_cidr(problems: &mut Problems, field: &dyn Display, text: &str) -> Option<(IpAddr, u32)> {
    let Some((address, length)) = parse_cidr_sloppy(text) else {
        problems.invalid(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return None;
    };
    let (shown, digits) = text.split_once('/').unwrap_or((text, ""));
    if shown.parse::<IpAddr>().is_err() || (digits.len() > 1 && digits.starts_with('0')) {
        problems.invalid(field, text, "must not have leading 0s in IP or prefix length");
    } else if is_mapped(address) {
        problems.invalid(field, text, "must not have an IPv4-mapped IPv6 address");
    } else if network(address, length) != address {
        problems.invalid(field, text, "must not have bits set beyond the prefix length");
    } else {
        return Some((address, length));
    }
    None
}

/// A network in canonical form (upstream's `IsValidCIDR`).
pub fn cidr(problems: &mut Problems, field: impl Display, text: &str) {
    if let Some((address, length)) = strict_cidr(problems, &field, text) {
        let form = format!("{}/{length}", canonical(address));
        if form != text {
            problems.invalid(field, text, &format!("must be in canonical form ({})", quoted(&form)));
        }
    }
}

/// What a client is told of an address that is tolerated but not written as it should be (upstream's
/// `GetWarningsForIP`).
#[must_use]
pub fn ip_warning(field: impl Display, text: &str) -> Option<String> {
    let address = parse_sloppy(text)?;
    let form = canonical(address);
    if text.parse::<IpAddr>().is_err() || is_mapped(address) {
        return Some(format!(
            "{field}: non-standard IP address {} is invalid: use {}",
            quoted(text),
            quoted(&form)
        ));
    }
    (address.is_ipv6() && form != text).then(|| {
        format!(
            "{field}: IPv6 address {} should be in RFC 5952 canonical format ({})",
            quoted(text),
            quoted(&form)
        )
    })
}

/// The same of a network (upstream's `GetWarningsForCIDR`).
#[must_use]
pub fn cidr_warnings(field: impl Display, text: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr_sloppy(text) else { return Vec::new() };
    let form = format!("{}/{length}", canonical(network(address, length)));
    let mut found = Vec::new();
    if network(address, length) != address {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let single = format!("{}/{most}", canonical(address));
        found.push(format!(
            "{field}: CIDR value {} is ambiguous in this context (should be {} or {}?)",
            quoted(text),
            quoted(&form),
            quoted(&single)
        ));
    }
    let (shown, digits) = text.split_once('/').unwrap_or((text, ""));
    let odd = shown.parse::<IpAddr>().is_err()
        || (digits.len() > 1 && digits.starts_with('0'))
        || is_mapped(address);
    if odd {
        found.push(format!(
            "{field}: non-standard CIDR value {} is invalid: use {}",
            quoted(text),
            quoted(&form)
        ));
    }
    if found.is_empty() && address.is_ipv6() && form != text {
        found.push(format!(
            "{field}: IPv6 CIDR value {} should be in RFC 5952 canonical format ({})",
            quoted(text),
            quoted(&form)
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(check: impl Fn(&mut Problems)) -> Vec<String> {
        let mut problems = Problems::default();
        check(&mut problems);
        problems.into_causes().into_iter().map(|cause| cause.message).collect()
    }

    #[test]
    fn addresses_are_strict() {
        assert!(said(|problems| ip(problems, "f", "10.0.0.1")).is_empty());
        assert!(said(|problems| ip(problems, "f", "fd00::1")).is_empty());
        assert_eq!(
            said(|problems| ip(problems, "f", "10.0.0.01"))[0],
            "Invalid value: \"10.0.0.01\": must not have leading 0s"
        );
        assert!(said(|problems| ip(problems, "f", "FD00::1"))[0].contains("canonical form (\"fd00::1\")"));
        assert!(said(|problems| ip(problems, "f", "::ffff:1.2.3.4"))[0].contains("IPv4-mapped"));
        assert!(said(|problems| ip(problems, "f", "1.2.3"))[0].contains("must be a valid IP address"));
        assert!(said(|problems| legacy_ip(problems, "f", "010.0.0.1", &["010.0.0.1"])).is_empty());
    }

    #[test]
    fn networks_are_strict() {
        assert!(said(|problems| cidr(problems, "f", "10.0.0.0/8")).is_empty());
        assert!(said(|problems| cidr(problems, "f", "::/0")).is_empty());
        assert!(said(|problems| cidr(problems, "f", "10.0.0.1/8"))[0].contains("bits set beyond"));
        assert!(
            said(|problems| cidr(problems, "f", "10.0.0.0/33"))[0].contains("must be a valid CIDR value")
        );
        assert!(said(|problems| cidr(problems, "f", "10.0.0.0/08"))[0].contains("leading 0s"));
        assert!(contains((IpAddr::from([10, 0, 0, 0]), 8), IpAddr::from([10, 9, 8, 7])));
        assert_eq!(cidr_warnings("f", "10.0.0.1/8").len(), 1);
    }
}
