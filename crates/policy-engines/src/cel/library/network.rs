//! IP addresses and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Implementation, no_overload};
use crate::cel::error::EvalError;
use crate::cel::value::{Library, Result, Value};

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "ip" => |args| match args {
            [Value::String(text)] => made(parse_ip(text.as_str()).map(Library::Ip)),
            [value] => Ok(Value::library(Library::Ip(cidr(value)?.0))),
            _ => no_overload(),
        },
        "isIP" => |args| text(args).map(|text| Value::Bool(parse_ip(text).is_ok())),
        "ip.isCanonical" => |args| {
            let text = text(args)?;
            let address = parse_ip(text).map_err(EvalError::new)?;
            Ok(Value::Bool(address.to_string() == text))
        },
        "family" => |args| one_ip(args).map(|ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |args| one_ip(args).map(|ip| Value::Bool(ip.is_unspecified())),
        "isLoopback" => |args| one_ip(args).map(|ip| Value::Bool(ip.is_loopback())),
        "isLinkLocalMulticast" => |args| one_ip(args).map(|ip| Value::Bool(is_link_local_multicast(ip))),
        "isLinkLocalUnicast" => |args| one_ip(args).map(|ip| Value::Bool(is_link_local_unicast(ip))),
        "isGlobalUnicast" => |args| one_ip(args).map(|ip| Value::Bool(is_global_unicast(ip))),
        "cidr" => |args| {
            let parsed = parse_cidr(text(args)?);
            made(parsed.map(|(address, bits)| Library::Cidr(address, bits)).map_err(in_conversion))
        },
        "isCIDR" => |args| text(args).map(|text| Value::Bool(parse_cidr(text).is_ok())),
        "containsIP" => contains_ip,
        "containsCIDR" => contains_cidr,
        "prefixLength" => |args| one_cidr(args).map(|(_, bits)| Value::Int(i64::from(bits))),
        "masked" => |args| {
            let (address, bits) = one_cidr(args)?;
            Ok(Value::library(Library::Cidr(mask(address, bits), bits)))
        },
        _ => return None,
    })
}

type Out<T> = std::result::Result<T, EvalError>;

fn in_conversion(why: String) -> String {
    format!("network address parse error during conversion from string: {why}")
}

fn made<'a>(parsed: std::result::Result<Library, String>) -> Result<'a> {
    parsed.map(Value::library).map_err(EvalError::new)
}

fn text<'v>(args: &'v [Value<'_>]) -> Out<&'v str> {
    match args {
        [text] => text.as_str().ok_or_else(EvalError::no_such_overload),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn ip(value: &Value<'_>) -> Out<IpAddr> {
    match value {
        Value::Library(library) => match &**library {
            Library::Ip(address) => Ok(*address),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn cidr(value: &Value<'_>) -> Out<(IpAddr, u8)> {
    match value {
        Value::Library(library) => match &**library {
            Library::Cidr(address, bits) => Ok((*address, *bits)),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn one_ip(args: &[Value<'_>]) -> Out<IpAddr> {
    args.first().map_or_else(|| Err(EvalError::no_such_overload()), ip)
}

fn one_cidr(args: &[Value<'_>]) -> Out<(IpAddr, u8)> {
    args.first().map_or_else(|| Err(EvalError::no_such_overload()), cidr)
}

fn parse_ip(text: &str) -> std::result::Result<IpAddr, String> {
    if let Some((address, _)) = text.split_once('%')
        && address.parse::<Ipv6Addr>().is_ok()
    {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        let why = why_no_ip(text);
        format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): {why}")
    })?;
    match address {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        address => Ok(address),
    }
}

/// Go's words, as far as they are known.
fn why_no_ip(text: &str) -> &'static str {
    if text.contains(':') {
        return "unexpected character";
    }
    if !text.contains('.') {
        return "unable to parse IP";
    }
    let fields: Vec<&str> = text.split('.').collect();
    if fields.iter().any(|field| field.bytes().any(|byte| !byte.is_ascii_digit())) {
        return "unexpected character";
    }
    if fields.iter().any(|field| field.len() > 1 && field.starts_with('0')) {
        return "IPv4 field has octet with leading zero";
    }
    if fields.iter().any(|field| field.parse::<u8>().is_err() && !field.is_empty()) {
        return "IPv4 field has value >255";
    }
    if fields.len() > 4 { "IPv4 address too long" } else { "IPv4 address too short" }
}

fn parse_cidr(text: &str) -> std::result::Result<(IpAddr, u8), String> {
    let in_prefix = |why: &str| {
        format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        )
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| in_prefix("no '/'"))?;
    if address.contains('%') {
        return Err(in_prefix("IPv6 zones cannot be present in a prefix"));
    }
    let parsed: IpAddr =
        address.parse().map_err(|_| in_prefix(&format!("ParseAddr({address:?}): {}", why_no_ip(address))))?;
    let most = if parsed.is_ipv4() { 32 } else { 128 };
    let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    let bits: u16 = bits
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| in_prefix(&format!("bad bits after slash: {bits:?}")))?;
    let bits = u8::try_from(bits)
        .ok()
        .filter(|bits| *bits <= most)
        .ok_or_else(|| in_prefix("prefix length out of range"))?;
    match parsed {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        parsed => Ok((parsed, bits)),
    }
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(four) & mask))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(six) & mask))
        }
    }
}

fn within((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && mask(network, bits) == mask(address, bits)
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [network, other] = args else { return no_overload() };
    let address = match other.as_str() {
        Some(text) => parse_ip(text).map_err(EvalError::new)?,
        None => ip(other)?,
    };
    Ok(Value::Bool(within(cidr(network)?, address)))
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [network, other] = args else { return no_overload() };
    let network = cidr(network)?;
    let (address, bits) = match other.as_str() {
        Some(text) => parse_cidr(text).map_err(|why| EvalError::new(in_conversion(why)))?,
        None => cidr(other)?,
    };
    Ok(Value::Bool(network.1 <= bits && within(network, address)))
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
    !broadcast
        && !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !is_link_local_unicast(address)
}
