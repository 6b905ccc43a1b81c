//! Whole-system benchmarks aimed at any kubeconfig: the same run measures Fairlead and any other API server.
//!
//! * [`figures`]: what was measured, as a table and as JSON, with the machine's facts.
//! * [`objects`]: creating, listing and watching pods.
//! * [`watches`]: many watches of one storm of changes.
//! * [`fleet`]: drift repair and the way of a profile's change, seen from the clusters.
//! * [`engine`], [`in_process`]: the stores alone, and the API server without a network.
//! * [`compare`]: every row of the speed table, of one server or of two side by side; [`wire`] is its client, [`usage`] what
//!   the servers' processes take.
//! * [`scale`]: one hub and thousands of agents.
//! * [`test_runs`]: test executions through one executor on simulated nodes.
//! * [`process`]: cold start and idle memory of a spawned program.
//! * [`suite`]: all that needs nothing but the binary, one after the other.
//!
//! Nothing here passes or fails on time. The benchmarks clean up after themselves: they work in a namespace of their own,
//! which they delete.

pub mod compare;
pub mod engine;
pub mod figures;
pub mod fleet;
pub mod in_process;
pub mod objects;
pub mod process;
pub mod scale;
pub mod suite;
pub mod test_runs;
pub mod usage;
pub mod watches;
pub mod wire;

/// Connects to the API server of a kubeconfig's current context. Client-side throttling does not exist in this client.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub async fn connect(kubeconfig: Option<&std::path::Path>) -> anyhow::Result<kube::Client> {
    // Several crates of the tree could choose one; the choice must be made before the first connection.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = match kubeconfig {
        None => kube::Config::infer().await?,
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(path)?;
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?
        }
    };
    Ok(kube::Client::try_from(config)?)
}
