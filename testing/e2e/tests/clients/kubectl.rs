//! kubectl's streaming commands, over WebSockets and over SPDY, which older ones use and newer ones can be told to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::fleet::StandaloneCluster;
use e2e::kubectl::Kubectl;
use e2e::wait;

const SOON: Duration = Duration::from_secs(30);
const IMAGE: &str = "fairlead.dev/tool:latest";

/// How kubectl is told to speak SPDY; older ones do not know the words and speak it anyway.
const SPDY: [(&str, &str); 2] =
    [("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false"), ("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")];

const TRANSPORTS: [&[(&str, &str)]; 2] = [&[], &SPDY];

fn pod(kubectl: &Kubectl, name: &str, args: &[&str]) -> Result<()> {
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "restartPolicy": "Never", "containers": [
            { "name": "main", "image": IMAGE, "args": args, "ports": [{ "containerPort": 8080, "name": "web" }] }] },
    });
    kubectl.apply(&manifest.to_string())?;
    wait::until("the pod to have started", SOON, || {
        let phase = kubectl.json(&["get", "pod", name])?["status"]["phase"].clone();
        Ok((phase == "Running" || phase == "Succeeded").then_some(()))
    })
}

fn serving() -> Result<(StandaloneCluster, Kubectl)> {
    let cluster = StandaloneCluster::start("one")?;
    let kubectl = cluster.kubectl();
    pod(&kubectl, "serves", &["serve", "--port", "8080", "--text", "hello"])?;
    Ok((cluster, kubectl))
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(mut command: Command, environment: &[(&str, &str)], input: &str) -> Result<Ended> {
    let mut child = command
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let _ = child.stdin.take().context("no stdin")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) })
}

#[test]
fn exec_carries_input_output_and_exit_codes() -> Result<()> {
    let (_cluster, kubectl) = serving()?;
    for environment in TRANSPORTS {
        let exec = |options: &[&str], command: &[&str], input: &str| {
            let arguments = [&["exec", "serves"], options, &["--"], command].concat();
            run(kubectl.command(&arguments), environment, input)
        };
        let said = exec(&[], &["/fairlead", "tool", "print", "hi"], "")?;
        ensure!(
            (said.code, said.out.as_str()) == (Some(0), "hi\n"),
            "{environment:?} {}{}",
            said.out,
            said.err
        );
        let ended = exec(&[], &["/fairlead", "tool", "exit", "3"], "")?;
        ensure!(ended.code == Some(3), "{environment:?} {:?} {}", ended.code, ended.err);
        ensure!(ended.err.contains("command terminated with exit code 3"), "{}", ended.err);
        let missing = exec(&[], &["/fairlead", "tool", "env", "NOT_THERE"], "")?;
        ensure!(missing.out.is_empty() && missing.err.contains("NOT_THERE is not set"), "{}", missing.err);
        // 1 MB there and back: more than every queue between holds.
        let much = "0123456789abcde\n".repeat(1 << 16);
        let back = exec(&["-i"], &["cat"], &much)?;
        ensure!(
            back.out == much,
            "{environment:?} {} of {} came back: {}",
            back.out.len(),
            much.len(),
            back.err
        );
        let shell = exec(&["-i"], &["sh"], "echo one\nexit 4\necho two\n")?;
        ensure!((shell.code, shell.out.as_str()) == (Some(4), "one\n"), "{environment:?} {}", shell.err);
        let unknown = exec(&[], &["no-such-command"], "")?;
        ensure!(unknown.code != Some(0) && unknown.err.contains("no-such-command"), "{}", unknown.err);
        let wrong = exec(&["-c", "other"], &["true"], "")?;
        ensure!(wrong.err.contains("container other is not valid for pod serves"), "{}", wrong.err);
    }
    Ok(())
}

#[test]
fn a_terminal_is_passed_through() -> Result<()> {
    let (_cluster, kubectl) = serving()?;
    let kubeconfig = kubectl.kubeconfig().to_str().context("a UTF-8 path")?;
    for environment in TRANSPORTS {
        let inner = format!("kubectl --kubeconfig {kubeconfig} exec -it serves -- sh");
        let mut command = Command::new("script");
        command.args(["-qec", &inner, "/dev/null"]);
        let ended = run(command, environment, "echo on a terminal\nexit 5\n")?;
        ensure!(ended.out.contains("on a terminal"), "{environment:?} {}{}", ended.out, ended.err);
        ensure!(ended.code == Some(5), "{environment:?} {:?} {}{}", ended.code, ended.out, ended.err);
    }
    Ok(())
}

#[test]
fn attach_and_followed_logs_show_what_comes_and_end_with_the_container() -> Result<()> {
    let (_cluster, kubectl) = serving()?;
    for (number, environment) in TRANSPORTS.iter().enumerate() {
        let name = format!("talks-{number}");
        pod(&kubectl, &name, &["do", "print early", "sleep 4s", "print late"])?;
        let follow = kubectl.command(&["logs", "-f", &name]).stdout(Stdio::piped()).spawn()?;
        let attached = run(kubectl.command(&["attach", &name]), environment, "")?;
        ensure!(attached.out.contains("late"), "{environment:?} {}{}", attached.out, attached.err);
        let followed = follow.wait_with_output()?;
        ensure!(followed.stdout == b"early\nlate\n", "{}", String::from_utf8_lossy(&followed.stdout));
    }
    Ok(())
}

/// A `kubectl` that goes on until it is dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one and reads the port it listens on.
fn listening(mut command: Command, environment: &[(&str, &str)], before: &str) -> Result<(Background, u16)> {
    let mut child =
        command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("no stdout")?);
    let child = Background(child);
    let mut line = String::new();
    out.read_line(&mut line)?;
    // It goes on to talk; nobody listens, but the pipe must not fill.
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let port = line.split_once(before).and_then(|(_, rest)| rest.split_whitespace().next());
    let port = port.and_then(|text| text.parse().ok());
    Ok((child, port.with_context(|| format!("no port in {line:?}"))?))
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn ports_are_forwarded_many_connections_at_once() -> Result<()> {
    let (_cluster, kubectl) = serving()?;
    for environment in TRANSPORTS {
        let forward = kubectl.command(&["port-forward", "pod/serves", ":8080"]);
        let (_forward, port) = listening(forward, environment, "127.0.0.1:")?;
        let many: Vec<_> = (0..20).map(|_| std::thread::spawn(move || get(port, "/"))).collect();
        for one in many {
            let answer = one.join().map_err(|_| anyhow::anyhow!("a connection panicked"))??;
            ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello\n"), "{answer}");
        }
        let forward = kubectl.command(&["port-forward", "pod/serves", ":9"]);
        let (_forward, port) = listening(forward, environment, "127.0.0.1:")?;
        ensure!(
            get(port, "/").is_ok_and(|answer| answer.is_empty()) || get(port, "/").is_err(),
            "nothing listens"
        );
    }
    Ok(())
}

#[test]
fn pods_services_and_nodes_are_reached_through_the_server() -> Result<()> {
    let (_cluster, kubectl) = serving()?;
    kubectl.run(&["expose", "pod", "serves", "--name", "web", "--port", "80", "--target-port", "web"])?;
    let raw = |path: &str| kubectl.run(&["get", "--raw", path]);
    let namespace = "/api/v1/namespaces/default";
    for path in ["pods/serves/proxy/", "pods/serves:8080/proxy/a/b", "pods/http:serves:8080/proxy/"] {
        ensure!(raw(&format!("{namespace}/{path}"))? == "hello\n", "{path}");
    }
    ensure!(raw(&format!("{namespace}/pods/serves:8080/proxy/healthz"))? == "ok\n");
    wait::until("the service to have an endpoint", SOON, || {
        Ok(raw(&format!("{namespace}/services/web/proxy/")).ok().filter(|said| said == "hello\n"))
    })?;
    ensure!(raw(&format!("{namespace}/services/web:80/proxy/"))? == "hello\n");
    ensure!(raw("/api/v1/nodes/one-0/proxy/healthz")? == "ok");
    let refused = |path: &str, expected: &str| -> Result<()> {
        let output = kubectl.output(&["get", "--raw", path], "")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(expected), "{path}: {said}");
        Ok(())
    };
    refused(&format!("{namespace}/services/web:81/proxy/"), "no service port 81 found for service \"web\"")?;
    refused(&format!("{namespace}/pods/serves:9/proxy/"), "error trying to reach service")?;
    refused(&format!("{namespace}/pods/none/proxy/"), "pods \"none\" not found")?;
    let (_proxy, port) = listening(kubectl.command(&["proxy", "--port", "0"]), &[], "127.0.0.1:")?;
    let redirected = get(port, &format!("{namespace}/pods/serves:8080/proxy"))?;
    ensure!(
        redirected.starts_with("HTTP/1.1 301") && redirected.contains("serves:8080/proxy/\r\n"),
        "{redirected}"
    );
    let page = get(port, &format!("{namespace}/pods/serves:8080/proxy/"))?;
    ensure!(page.starts_with("HTTP/1.1 200") && page.contains("hello"), "{page}");
    Ok(())
}

#[test]
fn who_may_only_read_pods_runs_no_commands() -> Result<()> {
    let (_cluster, kubectl) = serving()?;
    let as_user = ["--as", "reader"];
    kubectl.run(&["create", "clusterrole", "reader", "--verb", "get", "--resource", "pods,pods/exec"])?;
    kubectl.run(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole",
        "reader",
        "--user",
        "reader",
    ])?;
    wait::until("the role to hold", SOON, || {
        Ok(kubectl.run(&[&["get", "pod", "serves"][..], &as_user].concat()).ok())
    })?;
    for environment in TRANSPORTS {
        let arguments = [&["exec", "serves"][..], &as_user, &["--", "true"]].concat();
        let ended = run(kubectl.command(&arguments), environment, "")?;
        ensure!(ended.code == Some(1) && ended.err.contains("forbidden"), "{environment:?} {}", ended.err);
    }
    Ok(())
}
