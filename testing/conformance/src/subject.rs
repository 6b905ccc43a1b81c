//! The server under test.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use kube::client::{Body, ConfigExt as _};
use serde_json::{Value, json};

use crate::watching::Watch;

/// Between two looks at something that is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The server under test.
#[derive(Clone)]
pub struct Subject {
    client: kube::Client,
    config: kube::Config,
    /// Sent with every request.
    headers: Vec<(String, String)>,
    /// Whether Kubernetes' controllers run.
    pub controllers: bool,
    /// Whether pods get a node that reports of them.
    pub nodes: bool,
    /// This machine's address on the way to the subject.
    pub own_address: IpAddr,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("controllers", &self.controllers)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its bytes.
    pub bytes: Bytes,
    /// The bytes as JSON; null when they are none.
    pub json: Value,
}

impl Answer {
    /// The `reason` of a Status.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.json["reason"].as_str().unwrap_or_default()
    }

    /// The `message` of a Status.
    #[must_use]
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }

    /// The texts of all `Warning` headers.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let texts =
            self.headers.get_all(http::header::WARNING).iter().filter_map(|value| value.to_str().ok());
        let inner = |text: &str| {
            let quoted = text.trim_start_matches("299 - ");
            quoted
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(quoted)
                .replace(r#"\""#, "\"")
        };
        texts.map(inner).collect()
    }

    /// The answer's document if it has this code.
    ///
    /// # Errors
    /// Another code, with what the server said.
    pub fn expect(self, code: u16) -> anyhow::Result<Value> {
        ensure!(self.code == code, "{code} expected, not {}: {}", self.code, self.json);
        Ok(self.json)
    }

    /// A refusal with this code and reason.
    ///
    /// # Errors
    /// Anything else.
    pub fn refused(&self, code: u16, reason: &str) -> anyhow::Result<()> {
        ensure!(
            self.code == code && self.reason() == reason,
            "{code} {reason} expected, not {}: {}",
            self.code,
            self.json
        );
        Ok(())
    }
}

impl Subject {
    /// Of a kubeconfig's current context; looks whether controllers and nodes are there.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or the server does not answer.
    pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        // Several crates of a tree could choose one; the choice must be made before the first connection.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = match kubeconfig {
            None => kube::Config::infer().await?,
            Some(path) => {
                let file = kube::config::Kubeconfig::read_from(path)?;
                kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                    .await?
            }
        };
        let own_address = own_address(&config.cluster_url);
        let client = client(config.clone())?;
        let headers = Vec::new();
        let mut subject = Self { client, config, headers, controllers: false, nodes: false, own_address };
        let account = "/api/v1/namespaces/default/serviceaccounts/default";
        subject.controllers = subject.get(account).await?.code == 200;
        subject.nodes = subject.get("/api/v1/nodes").await?.expect(200)?["items"]
            .as_array()
            .is_some_and(|nodes| !nodes.is_empty());
        Ok(subject)
    }

    /// The same server as another user sees it: by impersonation.
    #[must_use]
    pub fn acting_as(&self, user: &str, groups: &[&str]) -> Self {
        let group = |group: &&str| ("impersonate-group".to_owned(), (*group).to_owned());
        let user = ("impersonate-user".to_owned(), user.to_owned());
        let own = self.headers.iter().cloned();
        let headers = own.chain(std::iter::once(user)).chain(groups.iter().map(group)).collect();
        Self { headers, ..self.clone() }
    }

    /// The same server as the bearer of a token sees it; as nobody, without one.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn bearing(&self, token: Option<&str>) -> anyhow::Result<Self> {
        let mut config = self.config.clone();
        config.auth_info = kube::config::AuthInfo::default();
        let bearer = |token: &str| ("authorization".to_owned(), format!("Bearer {token}"));
        let headers = token.map(bearer).into_iter().collect();
        Ok(Self { client: client(config.clone())?, config, headers, ..self.clone() })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method.clone()).uri(path);
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.iter().copied().chain(own) {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body.into().to_vec()))?;
        let context = || format!("{method} {path}");
        let answer = self.client.send(request).await.with_context(context)?;
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.with_context(context)?.to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, bytes, json })
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Self::send`], like all that follow.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, &[], "").await
    }

    /// GET with an Accept header.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn get_as(&self, path: &str, accept: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, &[("accept", accept)], "").await
    }

    /// POST of a document.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// PUT of a document.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// PATCH; `kind` is `json`, `merge`, `strategic-merge` or `apply`.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> anyhow::Result<Answer> {
        let content_type = match kind {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic-merge" => "application/strategic-merge-patch+json",
            "apply" => "application/apply-patch+yaml",
            other => bail!("no patch is called {other}"),
        };
        self.send(Method::PATCH, path, &[("content-type", content_type)], body.to_string()).await
    }

    /// DELETE without options.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::DELETE, path, &[], "").await
    }

    /// DELETE with options.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn delete_with(&self, path: &str, options: &Value) -> anyhow::Result<Answer> {
        let headers = [("content-type", "application/json")];
        self.send(Method::DELETE, path, &headers, options.to_string()).await
    }

    /// Starts a watch; `path` has its query, without `watch`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn watch(&self, path: &str) -> anyhow::Result<Watch> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}watch=1");
        self.watch_as(&path, "application/json").await
    }

    /// Starts a watch of what `path` with its whole query names, with an Accept header.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn watch_as(&self, path: &str, accept: &str) -> anyhow::Result<Watch> {
        let mut request = Request::get(path).header("accept", accept);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty())?;
        let answer = self.client.send(request).await.with_context(|| format!("watch of {path}"))?;
        let (parts, body) = answer.into_parts();
        if parts.status.as_u16() != 200 {
            let bytes = body.collect().await?.to_bytes();
            bail!("watch of {path}: {} {}", parts.status, String::from_utf8_lossy(&bytes));
        }
        Ok(Watch::new(body))
    }

    /// A namespace of a case's own, named after `topic`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn namespace(&self, topic: &str) -> anyhow::Result<Namespace<'_>> {
        let name = format!("conformance-{topic}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.post("/api/v1/namespaces", &body).await?.expect(201)?;
        if self.controllers {
            let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
            self.wait_for(&account, |answer| answer.code == 200).await?;
        } else {
            // Admission refuses pods of an account that is not there, and nobody makes it.
            let account =
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
            self.post(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &account).await?.expect(201)?;
        }
        Ok(Namespace { subject: self, name })
    }

    /// Looks until `done`, and answers what was then seen. The case's limit ends it.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn wait_for(&self, path: &str, done: impl Fn(&Answer) -> bool) -> anyhow::Result<Answer> {
        loop {
            let answer = self.get(path).await?;
            if done(&answer) {
                return Ok(answer);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The address that packets to this server would be sent from. Nothing is sent.
fn own_address(server: &http::Uri) -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        let host = server.host()?.trim_matches(['[', ']']);
        socket.connect((host, server.port_u16().unwrap_or(443))).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    route().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// A client that sends each request once: the usual one tries 429, 503 and 504 again, which are answers here.
fn client(config: kube::Config) -> anyhow::Result<kube::Client> {
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(tower::BoxError::from)
        .service(
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .build::<_, Body>(config.rustls_https_connector()?),
        );
    Ok(kube::Client::new(service, config.default_namespace))
}

/// A namespace of a case's own.
#[derive(Clone, Debug)]
pub struct Namespace<'a> {
    subject: &'a Subject,
    /// Its name.
    pub name: String,
}

impl Namespace<'_> {
    /// `/api/v1/namespaces/NAME/REST`.
    #[must_use]
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.name)
    }

    /// `/apis/GROUP/VERSION/namespaces/NAME/REST`.
    #[must_use]
    pub fn of(&self, group_version: &str, rest: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{rest}", self.name)
    }

    /// Deletes it; without a namespace controller it stays Terminating, which hurts nobody.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn end(self) -> anyhow::Result<()> {
        let answer = self.subject.delete(&format!("/api/v1/namespaces/{}", self.name)).await?;
        ensure!(matches!(answer.code, 200 | 202 | 409), "deleting {}: {}", self.name, answer.json);
        Ok(())
    }
}

/// A field by JSON pointer.
///
/// # Errors
/// When nothing is there.
pub fn field<'a>(document: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    document.pointer(pointer).ok_or_else(|| anyhow!("nothing at {pointer} of {document}"))
}

/// A text field by JSON pointer.
///
/// # Errors
/// When there is no text.
pub fn text<'a>(document: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    field(document, pointer)?.as_str().ok_or_else(|| anyhow!("no text at {pointer} of {document}"))
}
