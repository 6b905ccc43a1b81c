//! A server that answers every request alike: enough HTTP/1.1 for probes, `curl` and browsers.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 128;
/// Bytes of a request's head.
const MAX_HEAD: u64 = 16 << 10;

/// Listens and answers in threads of its own, for as long as the process lives.
pub(super) fn serve(port: u16, text: &str) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))?;
    let text: Arc<str> = text.into();
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            if open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let (text, counted) = (text.clone(), open.clone());
            let spawned = std::thread::Builder::new().spawn(move || {
                let _ = answer(stream, &text);
                counted.fetch_sub(1, Ordering::AcqRel);
            });
            if spawned.is_err() {
                open.fetch_sub(1, Ordering::AcqRel);
            }
        }
    })?;
    Ok(())
}

/// Answers one request and closes.
fn answer(stream: TcpStream, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_HEAD));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let body = if path.split('?').next() == Some("/healthz") { "ok" } else { text };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len() + 1
    )?;
    if method != "HEAD" {
        writeln!(stream, "{body}")?;
    }
    stream.flush()
}
