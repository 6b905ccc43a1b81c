//! What tests of servers share: archives, and a server of one's own.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Paths that were asked for, each with what the header `Authorization` said.
pub(crate) type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A compressed archive of files.
pub(crate) fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Serves the repositories below a directory over HTTP, by git's own CGI program; answers its address, and who asked for what, with
/// the header that he was let in by. `closed`: nobody is let in without one.
pub(crate) async fn serve_git(root: &Path, closed: bool) -> (String, Asked) {
    serve_git_and(root, closed, Arc::new(|_: &Parts, _: &Bytes| None)).await
}

/// What a server answers before git is asked.
pub(crate) type Hook = Arc<dyn Fn(&Parts, &Bytes) -> Option<Response<Full<Bytes>>> + Send + Sync>;

/// And answers as `hook` says.
pub(crate) async fn serve_git_and(root: &Path, closed: bool, hook: Hook) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (root, asked) = (root.to_owned(), Asked::default());
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (root, log, hook) = (root.clone(), Arc::clone(&log), Arc::clone(&hook));
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (root, log, hook) = (root.clone(), Arc::clone(&log), Arc::clone(&hook));
                async move {
                    let given = request.headers().get_all("authorization").iter();
                    let given: Vec<&str> = given.filter_map(|own| own.to_str().ok()).collect();
                    let known = (!given.is_empty()).then(|| given.join(", "));
                    log.lock().unwrap().push((request.uri().path().to_owned(), known.clone()));
                    if closed && known.is_none() {
                        let refused = Response::builder().status(401).header("www-authenticate", "Basic");
                        return Ok(refused.body(Full::default()).unwrap());
                    }
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let answered = hook(&head, &body);
                    Ok::<_, Infallible>(match answered {
                        Some(response) => response,
                        None => http_backend(&root, &head, &body).await,
                    })
                }
            });
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, asked)
}

/// `git http-backend`, as RFC 3875 has programs called.
async fn http_backend(root: &Path, head: &Parts, body: &Bytes) -> Response<Full<Bytes>> {
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut child = Command::new("git");
    child.args(["-c", "safe.directory=*", "http-backend"]);
    child.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    child.env("GIT_PROTOCOL", header("git-protocol")).env("CONTENT_TYPE", header("content-type"));
    child
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", body.len().to_string());
    child.env("REQUEST_METHOD", head.method.as_str()).env("PATH_INFO", head.uri.path());
    child.env("QUERY_STRING", head.uri.query().unwrap_or_default());
    child.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(body).await.unwrap();
    drop(input);
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(&output[end + 4..])));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name == "Status" {
            *response.status_mut() = value[..3].parse().unwrap();
        } else {
            response.headers_mut().append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
    }
    response
}

/// Serves as `answering` says, which is told the server's address; answers that address.
pub(crate) async fn serve<A>(answering: impl FnOnce(String) -> A) -> String
where
    A: Fn(http::Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = answering(address.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response) }
            });
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}
