//! A request in process that becomes a connection (`exec`, `port-forward`): over HTTP/1.1 in a pipe of memory, for what
//! comes after the handshake is bytes of a connection and nothing else.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube_objects::{Reason, Status, UserInfo};

use crate::extension::Body;
use crate::server::{InProcess, Server};

/// Bytes under way in each direction.
const PIPE: usize = 64 << 10;

/// Serves it as `user`. Its connection ends with either side.
pub(super) async fn request(
    server: Arc<Server>,
    user: UserInfo,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let (near, far) = tokio::io::duplex(PIPE);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (server, user) = (Arc::clone(&server), user.clone());
        async move {
            let mut request =
                request.map(|body| body.map_err(|error| Box::new(error) as crate::BoxError).boxed_unsync());
            request.extensions_mut().insert(InProcess(user));
            Ok::<_, Infallible>(server.handle(request).await)
        }
    });
    let served = hyper::server::conn::http1::Builder::new();
    tokio::spawn(served.serve_connection(TokioIo::new(far), service).with_upgrades());
    let answer = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await
    };
    match answer.await {
        Ok(answer) => {
            answer.map(|body| body.map_err(|error| Box::new(error) as crate::BoxError).boxed_unsync())
        }
        Err(error) => {
            let status =
                Status::new(Reason::InternalError, format!("the connection in process failed: {error}"));
            let body = status.to_json().to_string();
            crate::http::response::plain(status.code, "application/json", body.into())
        }
    }
}
