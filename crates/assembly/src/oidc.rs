//! Whose tokens people may show: issuers read from a file, with the language of its expressions, and their documents from the
//! network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::oidc::expressions::{Compiled, Compiler, Subject};
use access::oidc::{AuthenticationConfiguration, Fetch, Issuers, configuration};
use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use policy_engines::authentication;
use serde_json::Value;

use crate::control_plane::ISSUER;
use crate::error::AssemblyError;

/// What an issuer's document may take, and how long its answer.
const MAX_DOCUMENT: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads an `AuthenticationConfiguration`.
///
/// # Errors
/// When it cannot be read or is not valid.
pub fn read(path: &Path) -> Result<AuthenticationConfiguration, AssemblyError> {
    let failed = |cause: crate::error::Cause| {
        AssemblyError::new(format!("cannot use the authentication configuration {}", path.display()), cause)
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.into()))?;
    configuration::parse(&text, ISSUER, &Cel)
        .map_err(|error| AssemblyError::new(format!("{}: {error}", path.display()), error.into()))
}

/// None yet.
pub(crate) fn issuers() -> Arc<Issuers> {
    Arc::new(Issuers::new(Vec::new(), Arc::new(Network)))
}

/// A client of the server that a URL names, and the URL's path. `authority`: PEM bundle that its certificate is checked
/// against; the machine's when none.
///
/// # Errors
/// When the URL or the bundle is none.
pub fn client(url: &str, authority: Option<&str>) -> Result<(kube::Client, String), String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let (Some("https"), Some(host)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url:?} is no https URL"));
    };
    let origin = format!("https://{host}").parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    let client = api_client::connect::to_server(origin, authority, PATIENCE);
    let client = client.map_err(|error| foundation::causes::in_line(&error))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    Ok((client, path))
}

/// Sends a request to the server that a URL names; answers code and body.
///
/// # Errors
/// When there is no answer in time, or one that is too long.
pub async fn send(
    url: &str,
    authority: Option<&str>,
    form: Option<String>,
) -> Result<(u16, Vec<u8>), String> {
    let (client, path) = client(url, authority)?;
    let request = http::Request::builder().uri(path).header(http::header::ACCEPT, "application/json");
    let request = match form {
        None => request.method(http::Method::GET).body(kube::client::Body::empty()),
        Some(form) => request
            .method(http::Method::POST)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(kube::client::Body::from(form.into_bytes())),
    };
    let answer = async {
        let response = client.send(request.map_err(|error| error.to_string())?).await;
        let response = response.map_err(|error| error.to_string())?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((code, body.to_vec()))
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

/// The language of a configuration's expressions.
struct Cel;

impl Compiler for Cel {
    fn compile(&self, source: &str, subject: Subject, condition: bool) -> Result<Arc<dyn Compiled>, String> {
        let subject = match subject {
            Subject::Claims => authentication::Subject::Claims,
            Subject::User => authentication::Subject::User,
        };
        Ok(Arc::new(Expression(authentication::Expression::compile(source, subject, condition)?)))
    }
}

#[derive(Debug)]
struct Expression(authentication::Expression);

impl Compiled for Expression {
    fn selects(&self, field: &str) -> bool {
        self.0.selects(field)
    }

    fn evaluate(&self, data: &Value) -> Result<Value, String> {
        self.0.evaluate(data)
    }
}

struct Network;

#[async_trait]
impl Fetch for Network {
    async fn get(&self, url: &str, authority: Option<&str>) -> Result<Vec<u8>, String> {
        match send(url, authority, None).await? {
            (200, body) => Ok(body),
            (code, _) => Err(format!("{url} answers {code}")),
        }
    }
}
