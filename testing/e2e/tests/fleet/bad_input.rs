//! Bad input of each kind: a clear error, word for word, and nothing half-applied.

use super::*;

/// What a command said, without what differs from run to run.
fn said(fleet: &Fleet, text: &str) -> String {
    let text = text.replace(fleet.path().to_str().unwrap_or_default(), "DIR");
    let mut out = String::new();
    for line in text.lines() {
        // Progress of kubectl's client that is not about the error.
        if !line.starts_with("Warning:") {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

fn profile(manifests: &str) -> String {
    format!(
        "apiVersion: fleet.fairlead.dev/v1alpha1\nkind: Profile\nmetadata: {{ name: bad, namespace: default }}\n\
         spec:\n  manifests: {manifests}\n"
    )
}

/// Runs `fairlead ARGUMENTS`, which must fail.
fn negative(fleet: &Fleet, arguments: &[&str]) -> Result<String> {
    let (code, _, stderr) = fleet.command(arguments)?;
    ensure!(code != 0, "{arguments:?} went through");
    Ok(format!("exit code {code}\n{}", said(fleet, &stderr)))
}

/// Why the agent of `name` does not get in.
pub(super) fn kept_out(fleet: &mut Fleet, name: &str, token: &str, pin: &str) -> Result<String> {
    let before = fleet.agent_output(name).len();
    fleet.join_with(name, token, pin)?;
    wait::until(&format!("{name} to be kept out"), SOON, || {
        let output = fleet.agent_output(name);
        let new = output.get(before..).unwrap_or_default();
        let found = new.lines().find_map(|line| line.split_once("error=").map(|(_, error)| error.to_owned()));
        Ok(found.map(|error| format!("{}\n", error.trim())))
    })
}

pub(super) fn token(fleet: &Fleet, more: &[&str]) -> Result<(String, String)> {
    let mut words = vec!["join", "token", "create", "-o", "json"];
    words.extend(more);
    let text = fleet.succeed(&words)?;
    let token: serde_json::Value = serde_json::from_str(&text)?;
    let field = |key: &str| token[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    Ok((field("token")?, field("caPin")?))
}

#[test]
fn documents_are_refused_with_what_is_wrong_and_change_nothing() -> Result<()> {
    let fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = fleet.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().context("a UTF-8 path")?.to_owned())
    };
    let malformed = file("malformed.yaml", "apiVersion: v1\nkind: [ConfigMap\nmetadata: {}\n")?;
    insta::assert_snapshot!(
        "malformed",
        negative(&fleet, &["profile", "create", "bad", "--from", &malformed])?
    );
    let unknown = profile("[]").replace("spec:", "spec:\n  colour: red");
    let unknown_file = file("unknown.yaml", &unknown)?;
    insta::assert_snapshot!("unknown_field", negative(&fleet, &["profile", "apply", "-f", &unknown_file])?);
    let wrong = profile("[]").replace("kind: Profile", "kind: Profil");
    let wrong_file = file("wrong.yaml", &wrong)?;
    insta::assert_snapshot!("wrong_kind", negative(&fleet, &["profile", "apply", "-f", &wrong_file])?);
    let large = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"large\"}},\"data\":{{\"x\":\"{}\"}}}}",
        "y".repeat(4 << 20)
    );
    let large = file("large.json", &large)?;
    insta::assert_snapshot!("too_large", negative(&fleet, &["profile", "create", "bad", "--from", &large])?);
    let test = file("test.yaml", TEST)?;
    let (code, _, said) = fleet.command(&["test", "run", "-f", &test, "--clusters", "nowhere", "--watch"])?;
    ensure!(
        code == 4 && said.contains("[nowhere] NOT RUN the fleet has no cluster nowhere"),
        "{code}: {said}"
    );
    ensure!(said.contains("UnknownCluster: the fleet has no cluster nowhere"), "{said}");
    let map = |annotation: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a, annotations: {{ {annotation}: detect }} }}\ndata: {{ key: \"{value}\" }}\n"
        )
    };
    let slip = file("slip.yaml", &map("fleet.fairlead.dev/drfit", "1"))?;
    insta::assert_snapshot!("misspelt", negative(&fleet, &["profile", "create", "bad", "--from", &slip])?);
    let open = file("open.yaml", &map("fleet.fairlead.dev/drift", "${var.colour}"))?;
    insta::assert_snapshot!("undeclared", negative(&fleet, &["profile", "create", "bad", "--from", &open])?);
    let (code, printed, told) = fleet.command(&["profile", "create", "bad", "--from", &open, "--export"])?;
    ensure!(code == 0 && printed.contains("kind: Profile"), "{code}: {printed}");
    ensure!(told.contains("before it is applied: ") && told.contains("${var.colour}"), "{told}");
    let profiles = fleet.hub().json(&["get", "profiles.fleet.fairlead.dev", "-A"])?;
    ensure!(
        profiles["items"].as_array().is_some_and(Vec::is_empty),
        "something was half-applied: {profiles}"
    );
    let list = |second: &str| {
        let items =
            [profile("[]"), profile("[]").replace("name: bad", "name: other").replace("spec:", second)];
        let items = items.map(|item| format!("- {}", item.trim_end().replace('\n', "\n  "))).join("\n");
        format!("apiVersion: v1\nkind: List\nitems:\n{items}\n")
    };
    let odd = file("odd-list.yaml", &list("spec:\n  colour: red"))?;
    let told = negative(&fleet, &["profile", "apply", "-f", &odd])?;
    ensure!(told.contains("odd-list.yaml, item 2") && told.contains("colour"), "{told}");
    let good = file("list.yaml", &list("spec:"))?;
    fleet.succeed(&["profile", "apply", "-f", &good])?;
    let names = fleet.hub().run(&["get", "profiles.fleet.fairlead.dev", "-o", "name"])?;
    ensure!(names.lines().count() == 2, "the items of a list are applied: {names}");
    Ok(())
}

const TEST: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: some, namespace: default }
spec:
  steps: [{ name: step, image: "fairlead.dev/tool:latest", command: [/fairlead, tool, exit, "0"] }]
"#;

#[test]
fn tokens_pins_and_hubs_are_refused_with_what_is_wrong() -> Result<()> {
    let mut fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    fleet.start_cluster("late")?;
    let (secret, pin) = token(&fleet, &["--cluster", "late"])?;
    let wrong_pin = format!("sha256:{}", "0".repeat(64));
    insta::assert_snapshot!("wrong_ca", kept_out(&mut fleet, "late", &secret, &wrong_pin)?);
    insta::assert_snapshot!("no_token", kept_out(&mut fleet, "late", "not-a-token", &pin)?);
    let (ended, _) = token(&fleet, &["--ttl", "1s"])?;
    let ends = std::time::Instant::now() + Duration::from_millis(1500);
    wait::until("the token to end", SOON, || Ok((Instant::now() > ends).then_some(())))?;
    insta::assert_snapshot!("expired_token", kept_out(&mut fleet, "late", &ended, &pin)?);
    fleet.join_with("late", &secret, &pin)?;
    fleet.wait_connected("late", "True")?;
    fleet.start_cluster("thief")?;
    insta::assert_snapshot!("reused_token", kept_out(&mut fleet, "thief", &secret, &pin)?);
    let (other, _) = token(&fleet, &["--cluster", "another"])?;
    insta::assert_snapshot!("token_of_another", kept_out(&mut fleet, "thief", &other, &pin)?);
    Ok(())
}
