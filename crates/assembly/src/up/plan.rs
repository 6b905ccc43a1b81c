//! What is started and how: names, places, command lines. Nothing here touches the machine.
//! `core::net` is only the shape of addresses.

use core::net::{Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The clusters of a first `up`.
const DEFAULT_CLUSTERS: [&str; 3] = ["dev", "staging", "prod"];

/// Clusters on one machine, at most: three processes' worth of memory each, and a label apiece.
const MAX_CLUSTERS: usize = 50;

/// Which clusters were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Clusters {
    /// Those the directory has, else `dev`, `staging`, `prod`.
    #[default]
    Default,
    /// These.
    Named(Vec<String>),
}

/// Which kind of nodes was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// Real containers where they can be run.
    #[default]
    Auto,
    /// Simulated nodes.
    Simulated,
    /// Real containers.
    Containerd,
}

/// Which kind of nodes is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Pods go through their states; nothing is run.
    Simulated,
    /// Pods are containers.
    Containerd,
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simulated => "simulated",
            Self::Containerd => "containerd",
        })
    }
}

/// What a directory remembers between two `up`s: `up.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Memory {
    /// Where the hub listens.
    pub(crate) hub: Option<SocketAddr>,
    /// Where each cluster listens.
    pub(crate) clusters: BTreeMap<String, Option<SocketAddr>>,
    /// What ran pods last.
    pub(crate) runtime: Option<RuntimeKind>,
    /// Whether the samples have been applied; never again then, so that who deletes them is rid of them.
    pub(crate) sampled: bool,
}

/// Picks the clusters, sorted as given.
pub(crate) fn clusters(asked: &Clusters, memory: &Memory) -> Result<Vec<String>, String> {
    let names: Vec<String> = match asked {
        Clusters::Named(names) => names.clone(),
        Clusters::Default if memory.clusters.is_empty() => DEFAULT_CLUSTERS.map(str::to_owned).to_vec(),
        Clusters::Default => memory.clusters.keys().cloned().collect(),
    };
    if names.is_empty() || names.len() > MAX_CLUSTERS {
        return Err(format!("{} clusters were asked for; 1 to {MAX_CLUSTERS} are possible", names.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in &names {
        fleet_objects::check_cluster_name(name).map_err(|error| error.to_string())?;
        if name == HUB {
            return Err("no cluster can be called hub: its kubeconfig would be the hub's".to_owned());
        }
        if !seen.insert(name) {
            return Err(format!("cluster {name} was asked for twice"));
        }
    }
    Ok(names)
}

/// Picks the kind of nodes: the kind and why. `missing` is what this machine lacks for real containers.
pub(crate) fn runtime(
    asked: RuntimeChoice,
    memory: &Memory,
    missing: Option<String>,
) -> Result<(RuntimeKind, String), String> {
    match (asked, missing, memory.runtime) {
        (RuntimeChoice::Simulated, _, _) => Ok((RuntimeKind::Simulated, "asked for".to_owned())),
        (RuntimeChoice::Containerd, None, _) => Ok((RuntimeKind::Containerd, "asked for".to_owned())),
        (RuntimeChoice::Containerd, Some(missing), _) => Err(missing),
        // Nodes of the other kind would take over pods that are not theirs.
        (RuntimeChoice::Auto, _, Some(RuntimeKind::Simulated)) => {
            Ok((RuntimeKind::Simulated, "as last time".to_owned()))
        }
        (RuntimeChoice::Auto, None, Some(RuntimeKind::Containerd)) => {
            Ok((RuntimeKind::Containerd, "as last time".to_owned()))
        }
        (RuntimeChoice::Auto, Some(missing), Some(RuntimeKind::Containerd)) => Err(missing),
        (RuntimeChoice::Auto, None, None) => {
            Ok((RuntimeKind::Containerd, "root, and containerd and runc are installed".to_owned()))
        }
        (RuntimeChoice::Auto, Some(missing), None) => Ok((RuntimeKind::Simulated, missing)),
    }
}

/// The hub's name among the processes.
pub(crate) const HUB: &str = "hub";

/// A process to run.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ChildPlan {
    /// What it is called in logs and pid files.
    pub(crate) name: String,
    /// After the executable.
    pub(crate) arguments: Vec<String>,
    /// Secrets among them; never on the command line, which everybody on the machine can read.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl fmt::Debug for ChildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildPlan")
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

impl ChildPlan {
    /// From now on it listens there: whoever came to know where it is finds it again after a crash.
    pub(crate) fn settle(&mut self, address: SocketAddr) {
        let flag = self.arguments.iter().position(|argument| argument == "--listen");
        if let Some(value) = flag.and_then(|flag| self.arguments.get_mut(flag + 1)) {
            *value = address.to_string();
        }
    }
}

fn address(remembered: Option<SocketAddr>) -> String {
    remembered.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).to_string()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The hub's process.
pub(crate) fn hub(layout: &Layout, listen: Option<SocketAddr>) -> ChildPlan {
    let arguments = ["hub", "serve", "--dir", &text(&layout.hub()), "--listen", &address(listen)]
        .map(str::to_owned)
        .to_vec();
    ChildPlan { name: HUB.to_owned(), arguments, environment: Vec::new() }
}

/// A cluster's process; its nodes are of this kind.
pub(crate) fn cluster(
    layout: &Layout,
    name: &str,
    listen: Option<SocketAddr>,
    runtime: RuntimeKind,
) -> ChildPlan {
    let runtime = match runtime {
        RuntimeKind::Simulated => "simulated".to_owned(),
        RuntimeKind::Containerd => format!("containerd={}", text(&layout.containerd())),
    };
    let arguments = [
        "cluster",
        "serve",
        "--name",
        name,
        "--dir",
        &text(&layout.cluster(name)),
        "--listen",
        &address(listen),
        "--runtime",
        &runtime,
    ]
    .map(str::to_owned)
    .to_vec();
    ChildPlan { name: cluster_process(name), arguments, environment: Vec::new() }
}

/// What a cluster's process is called.
pub(crate) fn cluster_process(name: &str) -> String {
    format!("cluster-{name}")
}

/// What an agent's process is called.
pub(crate) fn agent_process(name: &str) -> String {
    format!("agent-{name}")
}

/// With what an agent joins.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Invitation {
    /// One-use token.
    pub(crate) token: String,
    /// `sha256:…` of the hub's authority.
    pub(crate) pin: String,
}

/// An agent's process.
pub(crate) fn agent(
    layout: &Layout,
    name: &str,
    hub: SocketAddr,
    invitation: Option<&Invitation>,
) -> ChildPlan {
    let mut arguments = [
        "agent",
        "serve",
        "--dir",
        &text(&layout.agent(name)),
        "--hub",
        &format!("https://{hub}"),
        "--kubeconfig",
        &text(&layout.admin_kubeconfig(&layout.cluster(name))),
        "--name",
        name,
        "--labels",
        &format!("stage={name}"),
        // Hub and clusters are one person's.
        "--access",
        "cluster-admin",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut environment = Vec::new();
    if let Some(invitation) = invitation {
        arguments.extend(["--ca-pin".to_owned(), invitation.pin.clone()]);
        environment.push((TOKEN_VARIABLE, invitation.token.clone()));
    }
    ChildPlan { name: agent_process(name), arguments, environment }
}

/// By which variable `fairlead agent serve` is given its token.
pub(crate) const TOKEN_VARIABLE: &str = "FAIRLEAD_JOIN_TOKEN";

/// Where everything lies below a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The state directory.
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn hub(&self) -> PathBuf {
        self.root.join("hub")
    }

    pub(crate) fn cluster(&self, name: &str) -> PathBuf {
        self.root.join("clusters").join(name)
    }

    pub(crate) fn agent(&self, name: &str) -> PathBuf {
        self.root.join("agents").join(name)
    }

    pub(crate) fn containerd(&self) -> PathBuf {
        self.root.join("containerd")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn pid(&self, process: &str) -> PathBuf {
        self.run().join(format!("{process}.pid"))
    }

    /// Held locked as long as a supervisor runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// Is there when the supervisor has everything ready.
    pub(crate) fn ready(&self) -> PathBuf {
        self.run().join("ready")
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.root.join("up.json")
    }

    /// The kubeconfig at the top, for people.
    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.kubeconfig"))
    }

    /// The kubeconfig a server writes.
    pub(crate) fn admin_kubeconfig(&self, server: &Path) -> PathBuf {
        crate::control_plane::kubeconfig_path(server)
    }
}

/// The supervisor's name among the processes.
pub(crate) const SUPERVISOR: &str = "up";

/// In which order leftovers are ended: who writes to another goes first. Lower is earlier.
pub(crate) fn stop_rank(process: &str) -> u8 {
    match process {
        SUPERVISOR => 0,
        HUB => 3,
        name if name.starts_with("cluster-") => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(runtime: Option<RuntimeKind>) -> Memory {
        Memory { runtime, clusters: BTreeMap::from([("a".to_owned(), None)]), ..Memory::default() }
    }

    #[test]
    fn a_directory_keeps_its_clusters() {
        assert_eq!(clusters(&Clusters::Default, &Memory::default()).expect("valid"), DEFAULT_CLUSTERS);
        assert_eq!(clusters(&Clusters::Default, &memory(None)).expect("valid"), ["a"]);
        let named = |names: &[&str]| Clusters::Named(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(clusters(&named(&["b", "c"]), &memory(None)).expect("valid"), ["b", "c"]);
        for bad in [&["b", "b"][..], &[], &["hub"], &["../x"]] {
            assert!(clusters(&named(bad), &Memory::default()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_directory_keeps_its_kind_of_nodes() {
        use RuntimeKind::{Containerd, Simulated};
        let kind = |asked, last, missing: Option<&str>| {
            runtime(asked, &memory(last), missing.map(str::to_owned)).map(|(kind, _)| kind)
        };
        assert_eq!(kind(RuntimeChoice::Auto, None, None), Ok(Containerd));
        assert_eq!(kind(RuntimeChoice::Auto, None, Some("no root")), Ok(Simulated));
        assert_eq!(kind(RuntimeChoice::Auto, Some(Simulated), None), Ok(Simulated));
        assert_eq!(kind(RuntimeChoice::Auto, Some(Containerd), Some("no root")), Err("no root".to_owned()));
        assert_eq!(kind(RuntimeChoice::Containerd, None, Some("no root")), Err("no root".to_owned()));
    }

    #[test]
    fn a_token_is_on_no_command_line() {
        let layout = Layout { root: "/d".into() };
        let invitation = Invitation { token: "secret".into(), pin: "sha256:00".into() };
        let plan = agent(&layout, "dev", SocketAddr::from(([127, 0, 0, 1], 1)), Some(&invitation));
        assert!(plan.arguments.iter().all(|argument| !argument.contains("secret")));
        assert!(!format!("{plan:?}").contains("secret"));
        assert_eq!(plan.environment, [(TOKEN_VARIABLE, "secret".to_owned())]);
    }
}
