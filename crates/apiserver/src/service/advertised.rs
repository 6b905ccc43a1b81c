//! Which address of this machine pods are told to reach the server at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address in Endpoints of the Service `kubernetes`: where the server listens, or, as Endpoints may name no loopback
/// address and nobody can connect to the unspecified one, this machine's address towards the rest of the world (upstream's
/// `ChooseHostInterface`). `None` on a machine that has no other.
pub(super) fn of(bound: SocketAddr) -> Option<SocketAddr> {
    let address = bound.ip();
    if !address.is_loopback() && !address.is_unspecified() {
        return Some(bound);
    }
    outward(address.is_ipv4()).map(|address| SocketAddr::new(address, bound.port()))
}

/// The address that packets to the documentation networks (RFC 5737, RFC 3849) would leave from; none is sent.
fn outward(v4: bool) -> Option<IpAddr> {
    let (any, far): (IpAddr, IpAddr) = if v4 {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_never_advertised() {
        assert!(of("127.0.0.1:6443".parse().expect("an address")).is_none_or(|own| !own.ip().is_loopback()));
        let own = "10.1.2.3:6443".parse().expect("an address");
        assert_eq!(of(own), Some(own));
    }
}
