//! A client that asks the ceiling about every object it is given to write: for the parts of the agent that make objects
//! of what a hub describes, such as the pods of tests.

use fleet_objects::ObjectReference;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::Ceilings;

impl Ceilings {
    /// The same client under the ceiling. A refused object is answered as an API server answers: 403 and a `Status`.
    /// Requests whose body is no whole object (merge patches, deletions) are let through: what they are about has
    /// passed here before.
    pub(crate) fn guarded(&self, client: Client) -> Client {
        let ceilings = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (client, ceilings) = (client.clone(), ceilings.clone());
            async move {
                let writes =
                    matches!(*request.method(), http::Method::POST | http::Method::PUT | http::Method::PATCH);
                if !writes {
                    return client.send(request).await.map_err(tower::BoxError::from);
                }
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                if let Some(problem) = ceilings.judge(parts.uri.path(), &bytes) {
                    return Ok(refused(&problem));
                }
                let request = http::Request::from_parts(parts, Body::from(bytes.to_vec()));
                client.send(request).await.map_err(tower::BoxError::from)
            }
        });
        Client::new(service, "default")
    }

    fn judge(&self, path: &str, body: &[u8]) -> Option<String> {
        let object: Value = serde_json::from_slice(body).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut after = path.split('/').skip_while(|part| *part != "namespaces").skip(1);
        // `/api/v1/namespaces` itself is where namespaces are made.
        let in_path = after.next().filter(|_| after.next().is_some()).map(str::to_owned);
        let name = text(&object["metadata"]["name"]).or_else(|| text(&object["metadata"]["generateName"]));
        let reference = ObjectReference {
            api_version: text(&object["apiVersion"])?,
            kind: text(&object["kind"])?,
            namespace: in_path.or_else(|| text(&object["metadata"]["namespace"])),
            name: name.unwrap_or_default(),
        };
        let refused = self.check_apply(&reference, &object).err()?;
        Some(format!("{} {}: {refused}", reference.kind, reference.name))
    }
}

fn refused(problem: &str) -> http::Response<Body> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": format!("refused by the ceiling of this cluster's owner: {problem}"),
    });
    let mut response = http::Response::new(Body::from(status.to_string().into_bytes()));
    *response.status_mut() = http::StatusCode::FORBIDDEN;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_judged_by_the_namespace_they_really_go_to() {
        let dir = tempfile::tempdir().unwrap();
        let ceilings = Ceilings::open(dir.path().join("none"), None).unwrap();
        let pod = |namespace: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace}})
                .to_string()
        };
        let judge = |path: &str, body: &str| ceilings.judge(path, body.as_bytes());
        assert_eq!(judge("/api/v1/namespaces/fairlead-tests/pods", &pod("fairlead-tests")), None);
        // What the body says does not help when the path says another.
        assert!(judge("/api/v1/namespaces/kube-system/pods", &pod("fairlead-tests")).is_some());
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fairlead-system"}});
        assert!(judge("/api/v1/namespaces", &namespace.to_string()).is_some());
        assert_eq!(judge("/api/v1/namespaces/a/pods/x", "{\"metadata\":{}}"), None);
    }
}
