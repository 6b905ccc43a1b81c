//! By which address others reach what listens here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// An address of documentation (RFC 5737): only asked for a route, nothing is sent there.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The address of the interface that leads out of this machine, as upstream chooses it when it is told none.
fn outward() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Where something that listens on `address` is reached: for every address of the machine, by the one that leads out;
/// by the loopback where none does.
pub(crate) fn reached_at(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let ip = outward().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_every_address_is_replaced() {
        let own: SocketAddr = "192.0.2.7:6443".parse().expect("an address");
        assert_eq!(reached_at(own), own);
        let any = reached_at("0.0.0.0:6443".parse().expect("an address"));
        assert!(!any.ip().is_unspecified() && any.port() == 6443, "{any}");
    }
}
