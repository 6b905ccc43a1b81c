//! Custom resources of several versions, converted by a webhook of this suite; their selectable fields.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use crate::case;
use crate::case::{Case, skip};
use crate::custom_kind::{CustomKind, version};
use crate::extension::{Call, Extension, Handler, Reply};
use crate::subject::{Namespace, Subject};
use crate::watching::Watch;

pub(super) const CASES: &[Case] = &[
    case!(
        "conversion/one object in either version",
        ApiServer,
        [
            "CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2"
        ],
        either
    ),
    case!(
        "conversion/a list of objects stored in different versions",
        ApiServer,
        [
            "CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs"
        ],
        mixed
    ),
    case!("conversion/a webhook may not change names or fail unheard", ApiServer, [], distrusted),
    case!(
        "conversion/fields are selected in the version asked for",
        ApiServer,
        [
            "CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector"
        ],
        selected
    ),
];

/// Between `hostPort` of v1 and `host` with `port` of v2.
fn converted(object: &Value, desired: &str) -> Value {
    let mut object = object.clone();
    let to_second = desired.ends_with("/v2");
    object["apiVersion"] = json!(desired);
    let Some(fields) = object.as_object_mut() else { return object };
    if to_second {
        if let Some(joined) = fields.remove("hostPort") {
            let joined = joined.as_str().unwrap_or_default();
            let (host, port) = joined.split_once(':').unwrap_or((joined, ""));
            fields.insert("host".to_owned(), json!(host));
            if !port.is_empty() {
                fields.insert("port".to_owned(), json!(port));
            }
        }
    } else if let Some(host) = fields.remove("host") {
        let host = host.as_str().unwrap_or_default().to_owned();
        let joined = match fields.remove("port") {
            Some(port) => format!("{host}:{}", port.as_str().unwrap_or_default()),
            None => host,
        };
        fields.insert("hostPort".to_owned(), json!(joined));
    }
    object
}

async fn answer(call: Call) -> Reply {
    let request = &call.body["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().into_iter().flatten();
    let mut objects: Vec<_> = objects.map(|object| converted(object, desired)).collect();
    let result = match call.path.as_str() {
        "/refuse" => json!({"status": "Failure", "message": "this version is not known here"}),
        _ => json!({"status": "Success"}),
    };
    if call.path == "/rename" {
        objects.iter_mut().for_each(|object| object["metadata"]["name"] = json!("other"));
    }
    let response = json!({"uid": request["uid"], "result": result, "convertedObjects": objects});
    (200, json!({"apiVersion": call.body["apiVersion"], "kind": "ConversionReview", "response": response}))
}

/// Both versions; `storage` is 1 or 2.
fn versions(storage: u8) -> [Value; 2] {
    let text = json!({"type": "string"});
    let mut first = version("v1", storage == 1, json!({"type": "object", "properties": {"hostPort": text}}));
    first["selectableFields"] = json!([{"jsonPath": ".hostPort"}]);
    let schema = json!({"type": "object", "properties": {"host": text, "port": text}});
    let mut second = version("v2", storage == 2, schema);
    second["selectableFields"] = json!([{"jsonPath": ".host"}, {"jsonPath": ".port"}]);
    [first, second]
}

struct Converted<'a> {
    subject: &'a Subject,
    extension: Extension,
    kind: CustomKind<'a>,
    space: Namespace<'a>,
}

impl<'a> Converted<'a> {
    async fn new(subject: &'a Subject, path: &str) -> anyhow::Result<Self> {
        let handler: Handler = Arc::new(|call| Box::pin(answer(call)));
        let extension = Extension::start(subject, &[], handler).await?;
        let conversion = json!({"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": extension.url(path), "caBundle": extension.authority()},
        }});
        let more = json!({"conversion": conversion, "preserveUnknownFields": false});
        let kind = CustomKind::define(subject, &versions(1), &more).await?;
        let space = subject.namespace("conversion").await?;
        Ok(Self { subject, extension, kind, space })
    }

    fn path(&self, version: &str) -> String {
        self.kind.objects(version, &self.space.name)
    }

    async fn create(&self, version: &str, name: &str, fields: Value) -> anyhow::Result<Value> {
        let object = self.kind.object(version, name, &fields);
        let answer = self.subject.post(&self.path(version), &object).await?;
        if answer.code == 500 && !self.extension.was_reached() {
            let address = self.extension.address();
            return Err(skip(format!("the subject does not reach {address}: {}", answer.message())));
        }
        answer.expect(201)
    }

    async fn end(self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        self.kind.end().await?;
        outcome?;
        self.space.end().await
    }
}

async fn either(subject: &Subject) -> anyhow::Result<()> {
    let all = Converted::new(subject, "/convert").await?;
    let outcome = async {
        all.create("v2", "b", json!({"host": "other", "port": "80"})).await?;
        all.create("v1", "a", json!({"hostPort": "localhost:8080"})).await?;
        let second = subject.get(&format!("{}/a", all.path("v2"))).await?.expect(200)?;
        ensure!(second["apiVersion"] == format!("{}/v2", all.kind.group), "{second}");
        ensure!(second["host"] == "localhost" && second["port"] == "8080", "{second}");
        ensure!(second.get("hostPort").is_none(), "{second}");
        let first = subject.get(&format!("{}/b", all.path("v1"))).await?.expect(200)?;
        ensure!(first["hostPort"] == "other:80" && first.get("host").is_none(), "{first}");
        let patch = json!({"port": "9090"});
        let patched = subject.patch(&format!("{}/a", all.path("v2")), "merge", &patch).await?.expect(200)?;
        ensure!(patched["port"] == "9090" && patched["host"] == "localhost", "{patched}");
        let first = subject.get(&format!("{}/a", all.path("v1"))).await?.expect(200)?;
        ensure!(first["hostPort"] == "localhost:9090", "{first}");
        Ok(())
    };
    let outcome = outcome.await;
    all.end(outcome).await
}

async fn mixed(subject: &Subject) -> anyhow::Result<()> {
    let all = Converted::new(subject, "/convert").await?;
    let outcome = async {
        all.create("v1", "a", json!({"hostPort": "localhost:8080"})).await?;
        let patch = json!({"spec": {"versions": versions(2)}});
        subject.patch(&all.kind.definition_path(), "merge", &patch).await?.expect(200)?;
        let stored =
            |answer: &crate::subject::Answer| answer.json["status"]["storedVersions"] == json!(["v1", "v2"]);
        subject.wait_for(&all.kind.definition_path(), stored).await?;
        all.create("v1", "b", json!({"hostPort": "localhost:8080"})).await?;
        for (version, wanted) in [
            ("v1", json!({"hostPort": "localhost:8080"})),
            ("v2", json!({"host": "localhost", "port": "8080"})),
        ] {
            let list = subject.get(&all.path(version)).await?.expect(200)?;
            let items = list["items"].as_array().cloned().unwrap_or_default();
            ensure!(items.len() == 2, "{version}: {list}");
            for item in &items {
                ensure!(item["apiVersion"] == format!("{}/{version}", all.kind.group), "{item}");
                let fields: serde_json::Map<_, _> = item
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                ensure!(Value::Object(fields) == wanted, "{version}: {wanted} expected, not {item}");
            }
        }
        Ok(())
    };
    let outcome = outcome.await;
    all.end(outcome).await
}

async fn distrusted(subject: &Subject) -> anyhow::Result<()> {
    for (path, wanted) in [
        ("/rename", "returned invalid object: must have the same name: a != other"),
        ("/refuse", "failed: this version is not known here"),
    ] {
        let all = Converted::new(subject, path).await?;
        let outcome = async {
            all.create("v1", "a", json!({"hostPort": "localhost:8080"})).await?;
            let answer = subject.get(&format!("{}/a", all.path("v2"))).await?;
            if !all.extension.was_reached() {
                return Err(skip(format!("the subject does not reach this machine: {}", answer.message())));
            }
            let wanted = format!("conversion webhook for {}/v1, Kind=Widget {wanted}", all.kind.group);
            ensure!(
                answer.code == 500 && answer.message() == wanted,
                "500 {wanted:?} expected, not {}: {}",
                answer.code,
                answer.json
            );
            Ok(())
        };
        let outcome = outcome.await;
        all.end(outcome).await?;
    }
    Ok(())
}

fn names(list: &Value) -> BTreeSet<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_owned).collect()
}

/// Reads events until all of `wanted` came, in any order; others are faults.
async fn events(watch: &mut Watch, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut missing: Vec<_> = wanted.to_vec();
    while !missing.is_empty() {
        let Some((kind, object)) = watch.next().await? else { bail!("the watch ended before {missing:?}") };
        if matches!(kind.as_str(), "BOOKMARK" | "MODIFIED") {
            continue;
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let found = missing.iter().position(|event| *event == (kind.as_str(), name));
        let Some(found) = found else { bail!("{kind} of {name} came instead of {missing:?}") };
        missing.remove(found);
    }
    Ok(())
}

async fn selected(subject: &Subject) -> anyhow::Result<()> {
    let all = Converted::new(subject, "/convert").await?;
    let outcome = selections(&all).await;
    all.end(outcome).await
}

async fn selections(all: &Converted<'_>) -> anyhow::Result<()> {
    let subject = all.subject;
    let (host, both) = ("fieldSelector=host%3Dhost1", "fieldSelector=host%3Dhost1,port%3D80");
    let joined = "fieldSelector=hostPort%3Dhost1:80";
    let mut of_host = subject.watch(&format!("{}?{host}", all.path("v2"))).await?;
    let mut of_both = subject.watch(&format!("{}?{both}", all.path("v2"))).await?;
    let mut of_joined = subject.watch(&format!("{}?{joined}", all.path("v1"))).await?;
    all.create("v2", "a", json!({"host": "host1", "port": "80"})).await?;
    all.create("v2", "b", json!({"host": "host1", "port": "8080"})).await?;
    all.create("v2", "c", json!({"host": "host2"})).await?;
    let listed = async |version: &str, query: &str, wanted: &[&str]| {
        let list = subject.get(&format!("{}?{query}", all.path(version))).await?.expect(200)?;
        let wanted: BTreeSet<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
        ensure!(names(&list) == wanted, "{version} {query}: {wanted:?} expected, not {:?}", names(&list));
        Ok(())
    };
    listed("v2", host, &["a", "b"]).await?;
    listed("v2", both, &["a"]).await?;
    listed("v1", joined, &["a"]).await?;
    listed("v1", "fieldSelector=hostPort%3Dhost1:8080", &["b"]).await?;
    events(&mut of_host, &[("ADDED", "a"), ("ADDED", "b")]).await?;
    events(&mut of_both, &[("ADDED", "a")]).await?;
    events(&mut of_joined, &[("ADDED", "a")]).await?;
    subject.delete(&format!("{}?{both}", all.path("v2"))).await?.expect(200)?;
    let path = format!("{}/b", all.path("v2"));
    let mut other = subject.get(&path).await?.expect(200)?;
    other["host"] = json!("host2");
    subject.put(&path, &other).await?.expect(200)?;
    listed("v2", host, &[]).await?;
    listed("v2", both, &[]).await?;
    events(&mut of_host, &[("DELETED", "a"), ("DELETED", "b")]).await?;
    events(&mut of_both, &[("DELETED", "a")]).await?;
    events(&mut of_joined, &[("DELETED", "a")]).await?;
    let unknown = subject.get(&format!("{}?fieldSelector=hostPort%3Dx", all.path("v2"))).await?;
    unknown.refused(400, "BadRequest")
}
