//! A whole request to a whole API server, as it comes over a connection without a certificate: target, query,
//! negotiation, credentials, impersonation, upgrade, compression, body.
//!
//! The input is text: `METHOD target`, a header a line, an empty line, the body (gzip when the headers say so: then the
//! bytes are taken as they are). `Authorization: Bearer fuzz` is an administrator, so that mutations reach what lies
//! behind authorization. The promise: no input is answered 5xx but 501, 503 and 504, and every answer ends.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apiserver::{Catalogue, Handle, Options, Service};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use kube_objects::UserInfo;
use storage::model::MemoryStore;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How long a body may come: watches end by being dropped.
const BODY_LIMIT: Duration = Duration::from_millis(20);

struct Server {
    runtime: Runtime,
    handle: Handle,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads of this machine");
        let handle = runtime.block_on(async {
            let mut options = Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster());
            let authenticator = access::Authenticator::new(true);
            authenticator.add_static_token("fuzz", UserInfo::new("fuzz", &["system:masters"]));
            options.authenticator = Some(authenticator);
            options.authorizer = Some(Arc::new(access::Authorizer::new()));
            options.facts.service_cidr = Some("10.96.0.0/16".to_owned());
            let service = Service::new(options).await.expect("an empty store");
            let handle = service.handle();
            tokio::spawn(Box::pin(service.run(CancellationToken::new())));
            assert!(handle.ready().await, "the server ended before it was ready");
            handle
        });
        Server { runtime, handle }
    })
}

/// The request that some bytes are, if hyper would let it through.
fn request(input: &[u8]) -> Option<Request<apiserver::Body>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&input[..end], &input[end + 2..]),
        None => (input, &[][..]),
    };
    let first = head.split(|byte| *byte == b'\n').next()?;
    let mut words = first.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let target = Uri::try_from(words.next()?).ok()?;
    let body = Full::new(Bytes::copy_from_slice(body)).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.headers_mut() = super::streams::headers(head.get(first.len() + 1..).unwrap_or_default());
    Some(request)
}

pub(super) fn run(input: &[u8]) {
    let Some(request) = request(input) else { return };
    let server = server();
    let shown = format!("{} {}", request.method(), request.uri());
    let (code, body) = server.runtime.block_on(async {
        let response = server.handle.network_request(request).await;
        let code = response.status();
        let body = tokio::time::timeout(BODY_LIMIT, response.into_body().collect()).await;
        (code, body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default())
    });
    let refused = [StatusCode::NOT_IMPLEMENTED, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    // kube-apiserver calls an applied field that the schema does not know an internal error.
    let undeclared = String::from_utf8_lossy(&body).contains("failed to create typed patch object");
    let fine = !code.is_server_error() || refused.contains(&code) || undeclared;
    assert!(fine, "{shown} is answered {code}: {}", body.escape_ascii());
}
