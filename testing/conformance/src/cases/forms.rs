//! Negotiation of forms: what is refused, what is pressed, what streams are written in.

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::operations::{METADATA_LIST, PROTOBUF, TABLE};
use crate::subject::{Answer, Subject, text};

pub(super) const CASES: &[Case] = &[
    case!("forms/the first that fits is taken", ApiServer, [], negotiation),
    case!("forms/what is no document is refused", ApiServer, [], bodies),
    case!("forms/protobuf in and out", ApiServer, [], protobuf),
    case!("forms/large answers are pressed when asked", ApiServer, [], gzip),
    case!("forms/watches of tables and of metadata", ApiServer, [], watches),
    case!("forms/answers may be tables too", ApiServer, [], table_answers),
    case!("forms/columns of well-known kinds", ApiServer, [], columns),
    case!("forms/paths and methods that are not there", ApiServer, [], paths),
];

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn negotiation(subject: &Subject) -> anyhow::Result<()> {
    let path = "/api/v1/namespaces/default";
    for (accept, wanted) in [
        ("*/*", "application/json"),
        ("text/html, application/json;q=0.5", "application/json"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/yaml", "application/yaml"),
        ("application/vnd.kubernetes.protobuf,application/json", PROTOBUF),
        ("application/json;q=0.2,application/yaml;q=0.9", "application/yaml"),
    ] {
        let answer = subject.get_as(path, accept).await?;
        ensure!(
            answer.code == 200 && header(&answer, "content-type") == wanted,
            "{accept}: {:?}",
            answer.headers
        );
    }
    for accept in [
        "image/png",
        "application/json;as=Table;v=v2;g=meta.k8s.io",
        "application/json;as=Other;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
    ] {
        subject.get_as(path, accept).await?.refused(406, "NotAcceptable")?;
    }
    let answer = subject.get(path).await?;
    ensure!(header(&answer, "cache-control") == "no-cache, private", "{:?}", answer.headers);
    ensure!(!header(&answer, "audit-id").is_empty(), "{:?}", answer.headers);
    ensure!(!header(&answer, "x-kubernetes-pf-flowschema-uid").is_empty(), "{:?}", answer.headers);
    Ok(())
}

async fn bodies(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("forms").await?;
    let all = space.core("configmaps");
    for (content, body, code, reason) in [
        ("application/xml", "<a/>", 415, "UnsupportedMediaType"),
        ("application/json", "{\"kind\":", 400, "BadRequest"),
        ("application/json", "[]", 400, "BadRequest"),
        ("application/yaml", "a: [", 400, "BadRequest"),
        (PROTOBUF, "garbage", 400, "BadRequest"),
        (PROTOBUF, "k8s\0garbage", 400, "BadRequest"),
    ] {
        let answer = subject.send(Method::POST, &all, &[("content-type", content)], body).await?;
        answer.refused(code, reason)?;
    }
    for (data, said) in [
        (json!({"a": 1}), "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        (
            json!(["a"]),
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
    ] {
        let mut map = config_map("a", "1");
        map["data"] = data;
        let answer = subject.post(&all, &map).await?;
        answer.refused(400, "BadRequest")?;
        let message = format!("ConfigMap in version \"v1\" cannot be handled as a ConfigMap: {said}");
        ensure!(answer.message() == message, "{message:?} expected, not {:?}", answer.message());
    }
    space.end().await
}

async fn protobuf(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("forms").await?;
    let all = space.core("configmaps");
    let mut map = config_map("first", "1");
    map["metadata"]["annotations"] = json!({"a": "b"});
    map["binaryData"] = json!({"bytes": "AAEC"});
    subject.post(&all, &map).await?.expect(201)?;
    let written = subject.get_as(&space.core("configmaps/first"), PROTOBUF).await?;
    ensure!(
        header(&written, "content-type") == PROTOBUF && written.bytes.starts_with(b"k8s\0"),
        "{}",
        written.code
    );
    // What was read goes back as it is: nothing changes.
    let headers = [("content-type", PROTOBUF), ("accept", "application/json")];
    let put =
        subject.send(Method::PUT, &space.core("configmaps/first"), &headers, written.bytes.clone()).await?;
    let same = subject.get(&space.core("configmaps/first")).await?.expect(200)?;
    ensure!(put.expect(200)? == same, "a protobuf document put back changed its object: {same}");
    ensure!(same["binaryData"] == json!({"bytes": "AAEC"}), "{same}");
    // Another name of the same length makes another object of it.
    let bytes = written.bytes.to_vec();
    let renamed: Vec<u8> = replaced(
        &replaced(&bytes, b"first", b"third"),
        text(&same, "/metadata/uid")?.as_bytes(),
        &[b'0'; 36],
    );
    let version = text(&same, "/metadata/resourceVersion")?;
    let renamed = replaced(&renamed, version.as_bytes(), "0".repeat(version.len()).as_bytes());
    let copied = subject.send(Method::POST, &all, &headers, renamed).await?;
    // A version may not be said of what is to be made, whatever it is written in.
    ensure!(matches!(copied.code, 201 | 400 | 500), "{} {}", copied.code, copied.json);
    let refused = subject.get_as(&space.core("configmaps/absent"), PROTOBUF).await?;
    ensure!(
        refused.code == 404 && refused.bytes.starts_with(b"k8s\0"),
        "an error in protobuf: {}",
        refused.code
    );
    space.end().await
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= out.len() {
        if &out[at..at + from.len()] == from {
            out[at..at + from.len()].copy_from_slice(to);
            at += from.len();
        } else {
            at += 1;
        }
    }
    out
}

async fn gzip(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("forms").await?;
    for name in ["a", "b", "c"] {
        subject.post(&space.core("configmaps"), &config_map(name, &"x".repeat(60_000))).await?.expect(201)?;
    }
    let headers = [("accept-encoding", "gzip")];
    let list = subject.send(Method::GET, &space.core("configmaps"), &headers, "").await?;
    ensure!(header(&list, "content-encoding") == "gzip", "{:?}", list.headers);
    ensure!(
        header(&list, "vary") == "Accept-Encoding" && list.bytes.starts_with(&[0x1f, 0x8b]),
        "{:?}",
        list.headers
    );
    ensure!(list.bytes.len() < 60_000, "{} bytes", list.bytes.len());
    let one = subject.send(Method::GET, &space.core("configmaps/a"), &headers, "").await?;
    ensure!(header(&one, "content-encoding").is_empty(), "a small answer stays as it is: {:?}", one.headers);
    let plain = subject.get(&space.core("configmaps")).await?;
    ensure!(header(&plain, "content-encoding").is_empty(), "{:?}", plain.headers);
    space.end().await
}

async fn watches(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("forms").await?;
    let list = subject.get(&space.core("configmaps")).await?.expect(200)?;
    let version = text(&list, "/metadata/resourceVersion")?;
    let path =
        space.core(&format!("configmaps?watch=1&resourceVersion={version}&fieldSelector=metadata.name%3Da"));
    let metadata = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut tables = subject.watch_as(&path, TABLE).await?;
    let mut bare = subject.watch_as(&path, metadata).await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let patch = json!({"metadata": {"labels": {"l": "1"}}});
    subject.patch(&space.core("configmaps/a"), "merge", &patch).await?.expect(200)?;
    let first = tables.find("ADDED").await?;
    ensure!(first["kind"] == "Table" && first["rows"][0]["cells"][0] == "a", "{first}");
    ensure!(
        crate::operations::count(&first, "columnDefinitions") == 3,
        "the first event tells the columns: {first}"
    );
    let second = tables.find("MODIFIED").await?;
    ensure!(second["columnDefinitions"].is_null(), "later ones do not: {second}");
    ensure!(second["rows"][0]["object"]["kind"] == "PartialObjectMetadata", "{second}");
    let first = bare.find("ADDED").await?;
    ensure!(first["kind"] == "PartialObjectMetadata" && first["data"].is_null(), "{first}");
    let second = bare.find("MODIFIED").await?;
    ensure!(second["metadata"]["labels"]["l"] == "1", "{second}");
    let streamed = subject
        .get_as(&format!("{path}&timeoutSeconds=1"), "application/vnd.kubernetes.protobuf;stream=watch")
        .await?;
    ensure!(
        header(&streamed, "content-type") == "application/vnd.kubernetes.protobuf;stream=watch",
        "{:?}",
        streamed.headers
    );
    ensure!(streamed.bytes.len() > 4, "length and event: {:?}", streamed.bytes);
    let length =
        u32::from_be_bytes([streamed.bytes[0], streamed.bytes[1], streamed.bytes[2], streamed.bytes[3]]);
    ensure!(usize::try_from(length)? + 4 <= streamed.bytes.len(), "{length} of {}", streamed.bytes.len());
    space.end().await
}

async fn table_answers(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("forms").await?;
    let headers = [("content-type", "application/json"), ("accept", TABLE)];
    let body = config_map("a", "1").to_string();
    let made = subject.send(Method::POST, &space.core("configmaps"), &headers, body).await?.expect(201)?;
    ensure!(made["kind"] == "Table" && made["rows"][0]["cells"][0] == "a", "{made}");
    let one = subject.get_as(&space.core("configmaps/absent"), TABLE).await?;
    one.refused(404, "NotFound")?;
    let wrong = subject.get_as(&space.core("configmaps?includeObject=Other"), TABLE).await?;
    wrong.refused(400, "BadRequest")?;
    let page = subject.get_as(&space.core("configmaps?limit=1"), METADATA_LIST).await?.expect(200)?;
    ensure!(crate::operations::count(&page, "items") == 1, "{page}");
    let legacy = subject
        .get_as(&format!("/api/v1/watch/namespaces/{}/configmaps?timeoutSeconds=1", space.name), "*/*")
        .await?;
    ensure!(legacy.code == 200, "watching by its old path: {}", legacy.code);
    space.end().await
}

async fn columns(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("forms").await?;
    for (path, wanted) in [
        (space.core("pods"), "Name Ready Status Restarts Age IP Node Nominated_Node Readiness_Gates"),
        (space.core("services"), "Name Type Cluster-IP External-IP Port(s) Age Selector"),
        (
            space.of("apps/v1", "deployments"),
            "Name Ready Up-to-date Available Age Containers Images Selector",
        ),
        (space.of("batch/v1", "jobs"), "Name Status Completions Duration Age Containers Images Selector"),
        (space.core("events"), "Last_Seen Type Reason Object Subobject Source Message First_Seen Count Name"),
        (
            "/api/v1/nodes".to_owned(),
            "Name Status Roles Age Version Internal-IP External-IP OS-Image Kernel-Version Container-Runtime",
        ),
        ("/api/v1/namespaces".to_owned(), "Name Status Age"),
        (
            "/apis/storage.k8s.io/v1/storageclasses".to_owned(),
            "Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
        ),
        (
            "/apis/certificates.k8s.io/v1/certificatesigningrequests".to_owned(),
            "Name Age SignerName Requestor RequestedDuration Condition",
        ),
    ] {
        let table = subject.get_as(&path, TABLE).await?.expect(200)?;
        let columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
        let shown: Vec<String> = columns
            .iter()
            .filter_map(|column| column["name"].as_str())
            .map(|name| name.replace(' ', "_"))
            .collect();
        ensure!(shown.join(" ") == wanted, "{path}: {wanted} expected, not {}", shown.join(" "));
        let wide = columns.iter().any(|column| column["priority"] == 1);
        ensure!(wide == (columns.len() > 6 || path.contains("nodes")), "{path}: {columns:?}");
    }
    space.end().await
}

async fn paths(subject: &Subject) -> anyhow::Result<()> {
    for path in [
        "/api/v2",
        "/apis/none.example.com",
        "/apis/apps/v9",
        "/nothing",
        "/api/v1/namespaces/default/nothings",
        "/api/v1/namespaces/default/configmaps/a/status",
        "/api/v1/namespaces/default/pods/a/nothing",
    ] {
        let answer = subject.get(path).await?;
        ensure!(answer.code == 404, "{path}: {}", answer.code);
    }
    let empty = Value::Object(serde_json::Map::new()).to_string();
    for (method, path) in [
        (Method::POST, "/api/v1/namespaces/default"),
        (Method::POST, "/api/v1/configmaps"),
        (Method::PUT, "/api/v1/namespaces/default/configmaps"),
        (Method::PATCH, "/api/v1/namespaces/default/configmaps"),
        (Method::POST, "/api/v1/namespaces/default/configmaps/a"),
        (Method::DELETE, "/api/v1/namespaces"),
        (Method::POST, "/api"),
        (Method::DELETE, "/version"),
    ] {
        let headers = [("content-type", "application/json")];
        let answer = subject.send(method.clone(), path, &headers, empty.clone()).await?;
        answer.refused(405, "MethodNotAllowed")?;
        let message = "the server does not allow this method on the requested resource";
        ensure!(answer.message() == message, "{method} {path}: {}", answer.message());
    }
    Ok(())
}
