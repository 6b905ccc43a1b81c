//! Clients of the control plane's own parts that break off the test when something is forbidden to them: every test proves
//! that each controller has the rights it needs.

use std::sync::Arc;

use apiserver::Handle;
use controllers::identity::Identities;
use http_body_util::BodyExt as _;
use kube::Client;
use kube_objects::UserInfo;

/// Acts as `user`; a request that is forbidden ends the process, for the tasks of controllers have nobody to tell.
pub(crate) fn client(server: &Handle, user: UserInfo) -> Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (server, user) = (server.clone(), user.clone());
        async move {
            let asked = format!("{} {}", request.method(), request.uri());
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            let answer = server.request(user.clone(), request).await;
            if answer.status() == http::StatusCode::FORBIDDEN {
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                let why = String::from_utf8_lossy(&body);
                if is_refused_by_the_authorizer(&why) {
                    eprintln!("{} may not {asked}: {why}", user.username);
                    std::process::exit(101);
                }
                let body = http_body_util::Full::from(body).map_err(|never| match never {}).boxed_unsync();
                return Ok(http::Response::builder().status(403).body(body).unwrap());
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    Client::new(service, "default")
}

/// Admission answers 403 as well: quotas, namespaces on their way out.
fn is_refused_by_the_authorizer(why: &str) -> bool {
    why.contains(" cannot ") && why.contains("in API group")
}

/// Each controller as its service account.
pub(crate) fn controllers(server: &Handle) -> Identities {
    let server = server.clone();
    Arc::new(move |name| client(&server, UserInfo::service_account("kube-system", name)))
}
