use std::process::Command;

use super::super::manifest::documents;
use super::*;

fn values(profiles: ProfileRights, access: &str) -> Values {
    Values {
        cluster: "prod".into(),
        hub: "https://hub.example.com:7443".into(),
        ca_pin: "sha256:abc".into(),
        join_token: "fl1.it's \"secret\"".into(),
        image: "registry.example.com/fairlead:1".into(),
        profiles,
        access: access.into(),
        storage: "5Gi".into(),
    }
}

/// The little of Helm's language that the chart speaks; anything else fails the test.
struct Renderer {
    values: serde_json::Map<String, Value>,
}

impl Renderer {
    fn new(values: &Values) -> Self {
        let Value::Object(mut values) = serde_json::to_value(values).unwrap() else { panic!("no map") };
        values.insert("ceiling".into(), shipped_ceiling().unwrap().into());
        Self { values }
    }

    fn value(&self, path: &str) -> &str {
        let name = path.strip_prefix(".Values.").unwrap_or_else(|| panic!("what is {path:?}?"));
        self.values[name].as_str().unwrap()
    }

    fn holds(&self, condition: &str) -> bool {
        if let Some(both) = condition.strip_prefix("and ") {
            let parts = both.trim_matches(['(', ')']).split(") (");
            return parts.fold(true, |all, part| all & self.holds(part));
        }
        match condition.split(' ').collect::<Vec<_>>().as_slice() {
            ["eq", path, text] => self.value(path) == text.trim_matches('"'),
            ["ne", path, text] => self.value(path) != text.trim_matches('"'),
            [path] => !self.value(path).is_empty(),
            _ => panic!("what is {condition:?}?"),
        }
    }

    fn expression(&self, text: &str) -> String {
        let text = text.trim().strip_suffix("| toJson").unwrap_or_else(|| panic!("not JSON: {text}")).trim();
        let value = if let Some(rest) = text.strip_prefix("required ") {
            let path = rest.rsplit(' ').next().unwrap();
            assert!(!self.value(path).is_empty());
            self.value(path)
        } else if let Some(rest) = text.strip_prefix("ternary ") {
            let (words, condition) = rest.split_once(" (").unwrap();
            let (yes, no) = words.split_once(' ').unwrap();
            if self.holds(condition.trim_end_matches(')')) { yes } else { no }.trim_matches('"')
        } else {
            self.value(text)
        };
        serde_json::to_string(value).unwrap()
    }

    fn render(&self, template: &str) -> String {
        let (mut out, mut on) = (String::new(), true);
        for line in template.lines() {
            if let Some(condition) = line.strip_prefix("{{- if ") {
                on = self.holds(condition.strip_suffix(" }}").unwrap());
            } else if line == "{{- end }}" {
                on = true;
            } else if on {
                let mut rest = line;
                while let Some((before, after)) = rest.split_once("{{") {
                    let (expression, after) = after.split_once("}}").unwrap();
                    out.push_str(before);
                    out.push_str(&self.expression(expression));
                    rest = after;
                }
                out.push_str(rest);
                out.push('\n');
            }
        }
        out
    }
}

/// By kind and name, as they are applied.
fn by_name(documents: Vec<Value>) -> BTreeMap<String, Value> {
    let documents = documents.into_iter().filter(|document| !document.is_null());
    let key =
        |one: &Value| format!("{} {} {}", one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]);
    documents.map(|document| (key(&document), document)).collect()
}

fn parse(text: &str) -> Vec<Value> {
    fleet_planner::yaml::documents(text, "a template").unwrap()
}

#[test]
fn the_chart_is_as_it_is_written_down() {
    let all = files().unwrap().into_iter();
    let text: String = all.map(|(name, text)| format!("==== {name}\n{text}")).collect();
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn the_chart_makes_what_the_manifest_makes_whatever_the_values() {
    let files = files().unwrap();
    for profiles in [ProfileRights::None, ProfileRights::Workloads, ProfileRights::ClusterAdmin] {
        for access in ["off", "none", "view"] {
            let values = values(profiles, access);
            let mut wanted = by_name(documents(&values).unwrap());
            // Helm's own: --create-namespace.
            let namespace = wanted.remove("\"Namespace\" null \"fairlead-system\"");
            assert!(namespace.is_some());
            let renderer = Renderer::new(&values);
            let templates = files.iter().filter(|(name, _)| name.starts_with("templates/"));
            let rendered = templates.flat_map(|(_, text)| parse(&renderer.render(text))).collect();
            assert_eq!(by_name(rendered), wanted, "{profiles:?} {access}");
            rendered_by_helm(&values, &wanted);
        }
    }
}

/// The same by Helm itself, where it is installed.
fn rendered_by_helm(values: &Values, wanted: &BTreeMap<String, Value>) {
    if Command::new("helm").arg("version").output().is_err() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    write(&ChartArguments { directory: directory.path().to_owned() }).unwrap();
    let file = directory.path().join("mine.yaml");
    std::fs::write(&file, output::yaml(values).unwrap()).unwrap();
    let mut helm = Command::new("helm");
    let out = helm.arg("template").arg("x").arg(directory.path()).arg("-f").arg(&file).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(&by_name(parse(&String::from_utf8(out.stdout).unwrap())), wanted);
}
