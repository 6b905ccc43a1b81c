//! Wires components into the programs: a cluster, a hub, an agent.
