//! Real containers: `fairlead up` on a private containerd, and a test that fails in one of three clusters.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use container_images::archive::{self, Config, Entry};
use e2e::process::run_fairlead;

const WORKFLOW: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: uneven, namespace: default }
spec:
  steps:
    - name: cases
      image: fairlead.dev/tool:latest
      command: [/fairlead, tool, junit, /workspace/report.xml, --suite, uneven, --pass, always,
                --fail-when, "FAIRLEAD_CLUSTER=staging:sometimes"]
      timeout: 1m
      junit: ["*.xml"]
"#;

const MISSING: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: missing, namespace: default }
spec:
  steps:
    - { name: nowhere, image: "fairlead.dev/no-such-image:v1", command: [/x], timeout: 20s }
"#;

/// A fleet of `up`, ended when the test is over.
struct Up {
    dir: tempfile::TempDir,
}

impl Up {
    /// `None`, with a message, where real containers cannot run.
    fn start() -> Result<Option<Self>> {
        let root = nix::unistd::geteuid().is_root();
        let found = |program: &str| {
            ["/usr/bin", "/usr/sbin", "/usr/local/bin"]
                .iter()
                .any(|dir| std::path::Path::new(dir).join(program).is_file())
        };
        if !root || !found("containerd") || !found("runc") {
            eprintln!("skipped: real containers need root, containerd and runc");
            return Ok(None);
        }
        // Sockets lie below: the path has to stay short.
        let up = Self { dir: tempfile::Builder::new().prefix("fl").tempdir_in("/tmp")? };
        let (code, _, said) = up.run(&["up", "--runtime", "containerd", "--detach", "--timeout", "180s"])?;
        ensure!(code == 0, "up ended with {code}: {said}");
        Ok(Some(up))
    }

    fn run(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let dir = self.dir.path().to_str().context("a UTF-8 path")?;
        let mut all = arguments.to_vec();
        all.extend(["--dir", dir]);
        let output = run_fairlead(&all)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        match self.run(&["down"]) {
            Ok((0, _, _)) => {}
            Ok((code, _, said)) => eprintln!("down ended with {code}: {said}"),
            Err(error) => eprintln!("down could not be run: {error:#}"),
        }
    }
}

#[test]
fn a_case_that_fails_in_one_cluster_is_named_with_it() -> Result<()> {
    let Some(up) = Up::start()? else { return Ok(()) };
    let file = up.dir.path().join("uneven.yaml");
    std::fs::write(&file, WORKFLOW)?;
    let file = file.to_str().context("a UTF-8 path")?;
    let (code, out, said) =
        up.run(&["test", "run", "-f", file, "--all-clusters", "--watch", "--timeout", "120s"])?;
    ensure!(code == 1, "ended with {code}: {out}{said}");
    let failed: Vec<&str> =
        out.lines().chain(said.lines()).filter(|line| line.contains("sometimes")).collect();
    ensure!(failed.iter().any(|line| line.contains("staging")), "{out}{said}");
    let other = |line: &&str| line.contains('✗') && !line.contains("staging");
    ensure!(!failed.iter().any(other), "{out}{said}");

    let file = up.dir.path().join("missing.yaml");
    std::fs::write(&file, MISSING)?;
    let file = file.to_str().context("a UTF-8 path")?;
    let (code, out, said) =
        up.run(&["test", "run", "-f", file, "--clusters", "dev", "--watch", "--timeout", "120s"])?;
    ensure!(code == 4, "an image that is nowhere: ended with {code}: {out}{said}");
    Ok(())
}

const LARGE: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: large, namespace: default }
spec:
  steps:
    - name: trace
      image: fairlead.dev/tool:latest
      command: [/fairlead, tool, fill, /workspace/trace.bin, "67108864"]
      timeout: 2m
      artifacts: ["*.bin"]
"#;

#[test]
fn a_file_that_no_log_carries_comes_out_of_a_real_container() -> Result<()> {
    let Some(up) = Up::start()? else { return Ok(()) };
    let file = up.dir.path().join("large.yaml");
    std::fs::write(&file, LARGE)?;
    let file = file.to_str().context("a UTF-8 path")?;
    let started =
        ["test", "run", "-f", file, "--clusters", "dev", "--watch", "--name", "large", "--timeout", "180s"];
    let (code, out, said) = up.run(&started)?;
    ensure!(code == 0, "ended with {code}: {out}{said}");
    e2e::wait::until("the file to be stored", std::time::Duration::from_secs(60), || {
        let (_, out, _) = up.run(&["test", "artifacts", "large"])?;
        Ok((out.contains("stored") && out.contains("67108864")).then_some(()))
    })?;
    let dir = up.dir.path().join("files");
    let text = dir.to_str().context("a UTF-8 path")?;
    let (code, out, said) = up.run(&["test", "artifacts", "large", "--download", text])?;
    ensure!(code == 0, "ended with {code}: {out}{said}");
    let size = std::fs::metadata(dir.join("dev/trace/1/trace.bin"))?.len();
    ensure!(size == 67_108_864, "{size} bytes");
    Ok(())
}

#[test]
fn an_image_made_offline_is_loaded_and_run_and_a_damaged_one_is_refused() -> Result<()> {
    let Some(up) = Up::start()? else { return Ok(()) };
    let file = |name: &str| -> Result<String> {
        Ok(up.dir.path().join(name).to_str().context("a UTF-8 path")?.to_owned())
    };
    // The tool image, out of the binary itself.
    let tool = file("tool.tar")?;
    let built = run_fairlead(&["image", "build-tool", "--output", &tool])?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (code, out, said) = up.run(&["image", "load", &tool])?;
    ensure!(code == 0 && out.trim() == "fairlead.dev/tool:latest", "{code}: {out}{said}");
    ensure!(said.contains("all checked"), "{said}");

    // An image nobody has: loaded, then run by name with no registry in reach.
    let mut executable = std::fs::read(&tool)?;
    let other = file("other.tar")?;
    std::fs::write(&other, other_image()?)?;
    let (code, out, said) = up.run(&["image", "load", &other])?;
    ensure!(code == 0 && out.trim() == "example.test/offline:v1", "{code}: {out}{said}");
    let kubectl = e2e::kubectl::Kubectl::new(&up.dir.path().join("dev.kubeconfig"));
    kubectl.apply(POD)?;
    e2e::wait::until("the pod of the loaded image to have run", std::time::Duration::from_secs(90), || {
        let pod = kubectl.json(&["get", "pod", "offline"])?;
        ensure!(pod["status"]["phase"] != "Failed", "{}", pod["status"]);
        Ok((pod["status"]["phase"] == "Succeeded").then_some(()))
    })?;

    // One flipped bit: refused whole, and said so.
    let middle = executable.len() / 2;
    executable[middle] ^= 1;
    let damaged = file("damaged.tar")?;
    std::fs::write(&damaged, executable)?;
    let (code, out, said) = up.run(&["image", "load", &damaged])?;
    ensure!(code == 1 && out.is_empty(), "{code}: {out}{said}");
    ensure!(said.contains("cannot load") && said.contains("is damaged"), "{said}");
    let (code, _, said) = up.run(&["image", "load", &file("none.tar")?])?;
    ensure!(code == 1 && said.contains("none.tar"), "{code}: {said}");
    Ok(())
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: offline }
spec:
  restartPolicy: Never
  containers:
    - { name: it, image: "example.test/offline:v1", imagePullPolicy: Never, args: [tool, exit, "0"] }
"#;

/// The tool image's files under another name.
fn other_image() -> Result<Vec<u8>> {
    let executable = e2e::process::fairlead_binary()?;
    let entries = container_images::build::tool_files(&executable)?;
    image("example.test/offline:v1", "/fairlead", &entries)
}

/// An image whose containers run one of its files.
fn image(reference: &str, entrypoint: &str, entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let config = Config {
        reference: reference.to_owned(),
        entrypoint: vec![entrypoint.to_owned()],
        command: Vec::new(),
        architecture: container_images::build::architecture().to_owned(),
    };
    Ok(archive::write(&config, entries, Vec::new())?)
}

const OWN_CLUSTER: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: own, namespace: default }
spec:
  ephemeralCluster:
    nodes: 2
    seed:
      - { apiVersion: v1, kind: ConfigMap, metadata: { name: seeded, namespace: default }, data: { from: "{{ cluster.name }}" } }
  container: { image: "example.test/kubectl:v1", env: [{ name: HOME, value: /workspace }] }
  content:
    files:
      - { path: apps/first.yaml, content: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n" }
      - { path: apps/second.yaml, content: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: second}\n" }
  steps:
    - name: read
      command: [/kubectl, get, configmap, seeded, -o, "jsonpath=seeded by {.data.from}"]
      timeout: 1m
    - name: nodes
      command: [/kubectl, get, nodes, -o, name]
    - name: apply
      parallel:
        shards: { file: 'glob("apps/*.yaml")' }
        transfer: [{ from: apps }]
        steps: [{ name: one, command: [/kubectl, apply, -f, "/workspace/{{ shard.file.0 }}"] }]
    - name: see
      command: [/kubectl, get, configmaps, first, second, -o, name]
"#;

/// `kubectl` as an image: what the machine has, and what it needs to run.
fn kubectl_image() -> Result<Vec<u8>> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let kubectl = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.is_file());
    let kubectl = std::fs::canonicalize(kubectl.context("kubectl is not on PATH")?)?;
    let program = |file: &std::path::Path| -> Result<Entry> {
        Ok(Entry::Program { file: container_images::elf::stripped(file)?, mode: 0o755 })
    };
    let mut entries = BTreeMap::from([("kubectl".to_owned(), program(&kubectl)?)]);
    for library in container_images::elf::libraries(&kubectl)? {
        entries.insert(library.to_string_lossy().trim_start_matches('/').to_owned(), program(&library)?);
    }
    image("example.test/kubectl:v1", "/kubectl", &entries)
}

#[test]
fn containers_of_a_run_reach_the_cluster_that_is_its_own() -> Result<()> {
    let Some(up) = Up::start()? else { return Ok(()) };
    let image = up.dir.path().join("kubectl.tar");
    std::fs::write(&image, kubectl_image()?)?;
    let (code, out, said) = up.run(&["image", "load", image.to_str().context("a UTF-8 path")?])?;
    ensure!(code == 0, "{code}: {out}{said}");
    let file = up.dir.path().join("own.yaml");
    std::fs::write(&file, OWN_CLUSTER)?;
    let file = file.to_str().context("a UTF-8 path")?;
    let started =
        ["test", "run", "-f", file, "--clusters", "dev", "--watch", "--name", "own", "--timeout", "180s"];
    let (code, out, said) = up.run(&started)?;
    let (_, log, _) = up.run(&["test", "logs", "own"])?;
    ensure!(code == 0, "ended with {code}: {out}{said}{log}");
    ensure!(log.contains("seeded by dev"), "{log}");
    ensure!(log.matches("node/").count() == 2, "{log}");
    for name in ["first", "second"] {
        ensure!(log.contains(&format!("configmap/{name} created")), "{log}");
    }
    // What the steps made is in no other cluster.
    let kubectl = e2e::kubectl::Kubectl::new(&up.dir.path().join("dev.kubeconfig"));
    ensure!(kubectl.find(&["configmap", "first"])?.is_none(), "it is in the cluster that the steps ran in");
    Ok(())
}
