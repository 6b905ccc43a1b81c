//! Which addresses of the service network and which node ports are taken.
//!
//! The Services themselves are the record: what is taken is read from them once, then kept in memory under one lock,
//! which makes concurrent creates take different addresses. An allocation is given back when its create fails or its
//! Service goes. The server is the only writer of its store, so nobody else allocates.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kube_objects::Status;
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::registry::strategy::Objects;
use kind_rules::core::service::{needs_health_check, takes_node_ports};
use kind_rules::json::{integer, list, list_mut, set, text};

/// Node ports are drawn from here (upstream's default range).
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    base: u32,
    bits: u32,
}

impl Cidr {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u32 = bits.parse().ok().filter(|bits| (8..=30).contains(bits))?;
        let base = u32::from(address.parse::<Ipv4Addr>().ok()?) & (u32::MAX << (32 - bits));
        Some(Self { base, bits })
    }

    pub(super) fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.base), self.bits)
    }

    fn size(self) -> u32 {
        1 << (32 - self.bits)
    }

    /// Network and broadcast address are nobody's.
    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset < self.size() - 1
    }

    /// The address at an offset from the network's.
    pub(super) fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + offset)
    }
}

#[derive(Debug, Default)]
struct Taken {
    loaded: bool,
    /// Address to `namespace/name`.
    addresses: BTreeMap<Ipv4Addr, String>,
    ports: BTreeMap<i64, String>,
}

/// What is taken. Interior mutability under one lock, held for no I/O.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    taken: Mutex<Taken>,
}

/// Field, value and explanation of what cannot be had.
type Refusal = (String, Value, String);

impl Addresses {
    /// Reads what the stored Services hold, the first time.
    pub(super) async fn load(&self, objects: &dyn Objects) -> Result<(), Status> {
        if self.taken.lock().loaded {
            return Ok(());
        }
        let services = objects.list("", "services", "").await?;
        let mut taken = self.taken.lock();
        // Someone may have been quicker, and have allocated since: what is there stays.
        for service in &services {
            let identity = identity(service);
            for address in addresses_of(service) {
                taken.addresses.entry(address).or_insert_with(|| identity.clone());
            }
            for port in ports_of(service) {
                taken.ports.entry(port).or_insert_with(|| identity.clone());
            }
        }
        taken.loaded = true;
        Ok(())
    }

    /// Takes the address and ports that `spec` asks for, or picks free ones and writes them in. All or nothing.
    pub(super) fn assign(
        &self,
        cidr: Cidr,
        identity: &str,
        spec: &mut Value,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let mut taken = self.taken.lock();
        let address = address(&taken, cidr, identity, spec)?;
        let ports = ports(&taken, identity, spec)?;
        if !dry_run {
            taken.addresses.extend(address.map(|address| (address, identity.to_owned())));
            taken.ports.extend(ports.into_iter().map(|port| (port, identity.to_owned())));
        }
        Ok(())
    }

    /// Gives back all that a Service held.
    pub(super) fn release(&self, service: &Value) {
        self.release_difference(service, &Value::Null);
    }

    /// Gives back what `old` held and `new` does not.
    pub(super) fn release_difference(&self, old: &Value, new: &Value) {
        let identity = identity(old);
        let nameless = format!("{}/", text(&old["metadata"], "namespace"));
        let own = |owner: &String| *owner == identity || *owner == nameless;
        let (kept_addresses, kept_ports) = (addresses_of(new), ports_of(new));
        let mut taken = self.taken.lock();
        for address in addresses_of(old).into_iter().filter(|address| !kept_addresses.contains(address)) {
            // Only what is still its own: a failed create of a taken address must not free it.
            if taken.addresses.get(&address).is_some_and(&own) {
                taken.addresses.remove(&address);
            }
        }
        for port in ports_of(old).into_iter().filter(|port| !kept_ports.contains(port)) {
            if taken.ports.get(&port).is_some_and(&own) {
                taken.ports.remove(&port);
            }
        }
    }
}

fn free_for(owner: Option<&String>, identity: &str) -> bool {
    owner.is_none_or(|owner| owner == identity)
}

fn address(taken: &Taken, cidr: Cidr, identity: &str, spec: &mut Value) -> Result<Option<Ipv4Addr>, Refusal> {
    let wanted = text(spec, "clusterIP");
    if wanted == "None" {
        return Ok(None);
    }
    if wanted.is_empty() {
        let picked = pick_address(cidr, &taken.addresses).ok_or_else(|| {
            let why = "failed to allocate a serviceIP: range is full".to_owned();
            ("spec.clusterIPs".to_owned(), Value::Null, why)
        })?;
        set(spec, "clusterIP", picked.to_string());
        set(spec, "clusterIPs", json!([picked.to_string()]));
        return Ok(Some(picked));
    }
    let Ok(wanted) = wanted.parse::<Ipv4Addr>() else { return Ok(None) };
    let refused = |why: String| {
        let why = format!("failed to allocate IP {wanted}: {why}");
        ("spec.clusterIPs".to_owned(), json!([wanted.to_string()]), why)
    };
    if !cidr.contains(wanted) {
        let range = cidr.text();
        return Err(refused(format!(
            "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {range}"
        )));
    }
    if !free_for(taken.addresses.get(&wanted), identity) {
        return Err(refused("provided IP is already allocated".to_owned()));
    }
    Ok(Some(wanted))
}

/// Node ports, and the one a load balancer asks for the health of a node's endpoints.
fn ports(taken: &Taken, identity: &str, spec: &mut Value) -> Result<Vec<i64>, Refusal> {
    let mut held = Vec::new();
    if takes_node_ports(spec) {
        // Those that are asked for first, lest one is given to another port. One number may serve several protocols.
        for (index, port) in list(spec, "ports").iter().enumerate() {
            let wanted = integer(port, "nodePort");
            if wanted != 0 {
                wanted_port(taken, identity, wanted, || format!("spec.ports[{index}].nodePort"))?;
                held.push(wanted);
            }
        }
        // Ports of one number share a node port, as far as their protocols differ.
        let mut given: Vec<(Value, String, i64)> = Vec::new();
        for port in list_mut(spec, "ports") {
            let (number, protocol) = (port["port"].clone(), text(port, "protocol").to_owned());
            if integer(port, "nodePort") == 0 {
                let clashes = |node: i64| given.iter().any(|(_, other, n)| *n == node && *other == protocol);
                let shared = given.iter().find(|(other, _, node)| *other == number && !clashes(*node));
                let picked = match shared {
                    Some((_, _, node)) => *node,
                    None => free_port(taken, &held, "spec.ports")?,
                };
                set(port, "nodePort", picked);
                held.push(picked);
            }
            given.push((number, protocol, integer(port, "nodePort")));
        }
    }
    if needs_health_check(spec) {
        let wanted = integer(spec, "healthCheckNodePort");
        if wanted == 0 {
            let picked = free_port(taken, &held, "spec.healthCheckNodePort")?;
            set(spec, "healthCheckNodePort", picked);
            held.push(picked);
        } else {
            wanted_port(taken, identity, wanted, || "spec.healthCheckNodePort".to_owned())?;
            held.push(wanted);
        }
    }
    Ok(held)
}

fn wanted_port(
    taken: &Taken,
    identity: &str,
    wanted: i64,
    field: impl Fn() -> String,
) -> Result<(), Refusal> {
    let why = if !NODE_PORTS.contains(&wanted) {
        "provided port is not in the valid range. The range of valid ports is 30000-32767"
    } else if !free_for(taken.ports.get(&wanted), identity) {
        "provided port is already allocated"
    } else {
        return Ok(());
    };
    Err((field(), json!(wanted), why.to_owned()))
}

fn free_port(taken: &Taken, held: &[i64], field: &str) -> Result<i64, Refusal> {
    let full = || (field.to_owned(), Value::Null, "failed to allocate a nodePort: range is full".to_owned());
    pick_port(&taken.ports, held).ok_or_else(full)
}

fn identity(service: &Value) -> String {
    let metadata = &service["metadata"];
    format!("{}/{}", text(metadata, "namespace"), text(metadata, "name"))
}

fn addresses_of(service: &Value) -> Vec<Ipv4Addr> {
    let spec = &service["spec"];
    list(spec, "clusterIPs")
        .iter()
        .filter_map(Value::as_str)
        .chain([text(spec, "clusterIP")])
        .filter_map(|text| text.parse().ok())
        .collect()
}

fn ports_of(service: &Value) -> Vec<i64> {
    list(&service["spec"], "ports")
        .iter()
        .map(|port| integer(port, "nodePort"))
        .chain([integer(&service["spec"], "healthCheckNodePort")])
        .filter(|port| *port != 0)
        .collect()
}

/// A free address: a random one of the upper part first, as upstream keeps the lower part for addresses chosen by
/// people (KEP-3070), then any.
fn pick_address(cidr: Cidr, taken: &BTreeMap<Ipv4Addr, String>) -> Option<Ipv4Addr> {
    let last = cidr.size() - 2;
    let reserved = (cidr.size() / 16).clamp(16, 256).min(last);
    let from = |low: u32, high: u32| {
        if low > high {
            return None;
        }
        let start = rand::rng().random_range(low..=high);
        (start..=high).chain(low..start).map(|offset| cidr.at(offset)).find(|ip| !taken.contains_key(ip))
    };
    // Offset 1 is the API server's own Service.
    from(reserved + 1, last).or_else(|| from(2, reserved))
}

fn pick_port(taken: &BTreeMap<i64, String>, also: &[i64]) -> Option<i64> {
    let (low, high) = (*NODE_PORTS.start(), *NODE_PORTS.end());
    let start = rand::rng().random_range(NODE_PORTS);
    (start..=high).chain(low..start).find(|port| !taken.contains_key(port) && !also.contains(port))
}

/// The address the API server itself is reached at within the service network: its first.
pub(crate) fn first_address(cidr: &str) -> Option<Ipv4Addr> {
    Cidr::parse(cidr).map(|cidr| cidr.at(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign(addresses: &Addresses, name: &str, spec: &mut Value) -> Result<(), Refusal> {
        let cidr = Cidr::parse("10.96.0.0/28").expect("a network");
        set(spec, "type", "NodePort");
        addresses.assign(cidr, name, spec, false)
    }

    #[test]
    fn every_service_gets_its_own_until_the_network_is_full() {
        let addresses = Addresses::default();
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..13 {
            let mut spec = json!({"ports": [{"port": 1}]});
            assign(&addresses, &format!("n/s{index}"), &mut spec).expect("there is room");
            assert!(seen.insert(text(&spec, "clusterIP").to_owned()));
            assert!(NODE_PORTS.contains(&integer(&spec["ports"][0], "nodePort")));
        }
        assert!(
            assign(&addresses, "n/last", &mut json!({})).is_err(),
            "14 usable, one of them the API server's"
        );
        let mut first = json!({"clusterIP": "10.96.0.1"});
        assign(&addresses, "default/kubernetes", &mut first).expect("reserved for it");
    }

    #[test]
    fn a_taken_address_is_refused_and_a_released_one_is_free() {
        let addresses = Addresses::default();
        let mut spec = json!({"clusterIP": "10.96.0.5", "ports": [{"port": 1, "nodePort": 30001}]});
        assign(&addresses, "n/a", &mut spec).expect("free");
        assert!(assign(&addresses, "n/b", &mut spec.clone()).is_err());
        assign(&addresses, "n/a", &mut spec.clone()).expect("its own");
        let other = json!({"metadata": {"namespace": "n", "name": "b"}, "spec": spec});
        addresses.release(&other);
        assert!(assign(&addresses, "n/b", &mut spec.clone()).is_err(), "b gave back what was not its own");
        addresses.release(&json!({"metadata": {"namespace": "n", "name": "a"}, "spec": spec}));
        assign(&addresses, "n/b", &mut spec).expect("free again");
    }
}
