//! The unmodified kubectl against clusters, through the hub and the agents' own connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use e2e::kubectl::Kubectl;
use e2e::wait;

use super::{NAMES, SOON};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: default, labels: { app: web } }
spec: { containers: [{ name: web, image: "fairlead.dev/tool:latest", args: [serve, --port, "8080", --text, hello] }] }
"#;

const TALKS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: talks, namespace: default }
spec:
  restartPolicy: Never
  containers: [{ name: main, image: "fairlead.dev/tool:latest", args: [do, "print early", "sleep 4s", "print late"] }]
"#;

/// Ends a child however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn through_hub(fleet: &Fleet, cluster: &str) -> Result<Kubectl> {
    let text = fleet.succeed(&["kubeconfig", "--cluster", cluster, "--through-hub"])?;
    let path = fleet.path().join(format!("{cluster}-through-hub.kubeconfig"));
    std::fs::write(&path, text)?;
    Ok(Kubectl::new(&path))
}

/// Waits for a line of a child that holds `wanted`.
fn line_with(child: &mut Running, wanted: &str) -> Result<String> {
    let out = child.0.stdout.take().context("no stdout")?;
    let (send, receive) = std::sync::mpsc::channel();
    let wanted = wanted.to_owned();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let _ = send.send(lines.find(|line| line.contains(&wanted)));
        // It goes on to talk; nobody listens, but its pipe must not break.
        lines.for_each(drop);
    });
    receive.recv_timeout(SOON).context("nothing came in time")?.context("it ended before")
}

fn start(kubectl: &Kubectl, arguments: &[&str]) -> Result<Running> {
    let child = kubectl.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    Ok(Running(child))
}

#[test]
fn kubectl_reaches_every_cluster_through_the_hub() -> Result<()> {
    let mut fleet = Fleet::start(&NAMES, Nodes::Simulated)?;
    let dev = through_hub(&fleet, "dev")?;
    wait::until("the hub's administrators to be let in", SOON, || Ok(dev.run(&["get", "nodes"]).ok()))?;
    // A watch that shows what comes later.
    let mut watch = start(&dev, &["get", "pods", "-w", "-o", "name"])?;
    dev.apply(POD)?;
    ensure!(line_with(&mut watch, "pod/web")?.contains("pod/web"));
    dev.run(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"])?;
    ensure!(
        dev.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?
            == "cluster:hub:kubernetes-admin"
    );
    // Commands, both ways, and the way kubectl went before WebSockets.
    let said = dev.run_with(&["exec", "-i", "web", "--", "cat"], "through the hub")?;
    ensure!(said == "through the hub", "{said}");
    let mut spdy = dev.command(&["exec", "web", "--", "echo", "spdy"]);
    let spdy = spdy.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").output()?;
    ensure!(spdy.stdout == b"spdy\n", "{}", String::from_utf8_lossy(&spdy.stderr));
    // Logs while they are written.
    dev.apply(TALKS)?;
    wait::until("the pod to have started", SOON, || {
        let phase = dev.run(&["get", "pod", "talks", "-o", "jsonpath={.status.phase}"])?;
        Ok((phase == "Running").then_some(()))
    })?;
    let follow = dev.command(&["logs", "-f", "talks"]).stdout(Stdio::piped()).spawn()?;
    let followed = follow.wait_with_output()?;
    ensure!(followed.stdout == b"early\nlate\n", "{}", String::from_utf8_lossy(&followed.stdout));
    let mut forward = start(&dev, &["port-forward", "pod/web", ":8080"])?;
    let line = line_with(&mut forward, "Forwarding from 127.0.0.1:")?;
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).context("a port")?;
    let answer = wait::until("an answer through the forwarded port", SOON, || {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        Ok(answer.starts_with("HTTP/1.").then_some(answer))
    })?;
    ensure!(answer.contains("200"), "{answer}");
    // The inventory, and the way there for programs that read it.
    let profile = wait::until("the cluster's profile", SOON, || {
        let found =
            fleet.hub().find(&["clusterprofiles.multicluster.x-k8s.io", "dev", "-n", "fairlead-system"])?;
        Ok(found.filter(|found| found["status"]["properties"].is_array()))
    })?;
    let provider = &profile["status"]["accessProviders"][0];
    let path = fleet.path().join("provider.kubeconfig");
    let binary = e2e::process::fairlead_binary()?;
    let exec = serde_json::json!({"apiVersion": "client.authentication.k8s.io/v1", "command": binary, "interactiveMode": "Never",
        "args": ["credential", "--kubeconfig", fleet.hub_kubeconfig()]});
    let config = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": provider["cluster"]}], "users": [{"name": "x", "user": {"exec": exec}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]});
    std::fs::write(&path, config.to_string())?;
    ensure!(Kubectl::new(&path).run(&["get", "pod", "web", "-o", "name"])? == "pod/web\n");
    // One list of all clusters; a cluster that is gone is said, and the others are still shown.
    let nodes = fleet.succeed(&["get", "nodes", "--all-clusters"])?;
    ensure!(nodes.starts_with("CLUSTER"), "{nodes}");
    for name in NAMES {
        ensure!(nodes.lines().any(|line| line.starts_with(name)), "{nodes}");
    }
    let pods = fleet.succeed(&["get", "po", "--all-clusters", "-l", "app=web", "-o", "name"])?;
    ensure!(pods == "dev pod/web\n", "{pods}");
    fleet.stop_agent("prod")?;
    wait::until("the hub to notice", SOON, || {
        let (code, shown, said) = fleet.command(&["get", "nodes", "--all-clusters"])?;
        Ok((code == 4
            && shown.contains("staging")
            && said.contains("cluster prod: cluster prod is not connected"))
        .then_some(()))
    })?;
    let (code, _, said) = fleet.command(&["get", "nodes", "--clusters", "prod"])?;
    ensure!(code == 3, "{code}: {said}");
    Ok(())
}
