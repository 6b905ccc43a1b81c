//! What a step that fetches a repository tells whom: its script, run by a shell with git against servers of the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};

use fleet_objects::test_run::TestExecutionSpec;
use serde_json::json;

/// `bot:`, what libcurl says of itself when a URL names a user.
const NO_PASSWORD: &str = "Basic Ym90Og==";

/// What a server was told in each request: path and credentials.
type Told = Arc<Mutex<Vec<(String, String)>>>;

/// A server that gives whoever has credentials the same answer, and asks everybody else for them.
fn server(answer: impl Fn(&str) -> String + Send + 'static) -> (SocketAddr, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, told) = (listener.local_addr().expect("an address"), Told::default());
    let seen = Arc::clone(&told);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let head: Vec<String> = BufReader::new(&stream)
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
            let login = head.iter().find_map(|line| line.strip_prefix("Authorization: "));
            let answer = match login {
                Some(login) if login != NO_PASSWORD => answer(&path),
                _ => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"".to_owned(),
            };
            seen.lock().expect("no panic").push((path, login.unwrap_or_default().to_owned()));
            let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (address, told)
}

/// Runs the step's script against a server that redirects elsewhere; answers what either was told.
fn fetched(auth_type: &str) -> (Told, Told) {
    let (elsewhere, by_others) = server(|_| "404 Not Found".to_owned());
    let (own, by_own) = server(move |path| format!("302 Found\r\nLocation: http://{elsewhere}{path}"));
    let directory = tempfile::tempdir().expect("a directory");
    let spec: TestExecutionSpec = serde_json::from_value(json!({
        "run": {"namespace": "default", "name": "smoke", "uid": "0123-abcd"}, "cluster": "dev",
        "workflow": {
            "content": {"git": {"uri": format!("http://bot@{own}/shop.git"), "token": "s3cret%", "authType": auth_type,
                "mountPath": directory.path()}},
            "steps": [{"name": "a", "image": "i", "shell": "true"}],
        },
    }))
    .expect("an execution");
    let plan = workflow::plan::execution(&spec).expect("a plan");
    let step = &plan.steps[0];
    let mut command = Command::new("sh");
    command.arg("-c").arg(&step.args[0]).envs(step.env.iter().map(|own| (&own.name, &own.value)));
    let done = command.output().expect("a shell");
    assert!(!done.status.success(), "there is nothing to fetch");
    (by_own, by_others)
}

#[test]
fn a_password_goes_to_the_repositorys_own_server_alone() {
    let (own, others) = fetched("basic");
    let own = own.lock().unwrap();
    let mut logins = own.iter().map(|(_, login)| login.as_str());
    let login = logins.find(|login| !["", NO_PASSWORD].contains(login)).unwrap();
    assert_eq!(login, "Basic Z2l0OnMzY3JldCU=", "git:s3cret%");
    let others = others.lock().unwrap();
    assert!(!others.is_empty() && others.iter().all(|(_, login)| login.is_empty()), "{others:?}");
}

#[test]
fn a_header_goes_to_the_repositorys_own_server_alone() {
    let (own, others) = fetched("header");
    assert_eq!(own.lock().unwrap()[0].1, "Bearer s3cret%");
    assert!(others.lock().unwrap().is_empty(), "no redirection is followed");
}
