//! A file of a run, onto this machine's disk: piece by piece, and on from where an earlier download broke off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Kept, place, title};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output;

/// Tries without a byte more than before.
const TRIES: u32 = 4;
/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;
/// Files from this size on are said to be on their way.
const LARGE: u64 = 64 << 20;

/// What is known of a file that is not whole.
struct Partial {
    path: PathBuf,
    file: tokio::fs::File,
    hash: Sha256,
    length: u64,
}

/// Saves a file, unless it is there already. What broke off lies beside it as `<name>.partial`.
pub(super) async fn file(
    client: &Client,
    global: &Global,
    run: &str,
    kept: &Kept<'_>,
    target: &Path,
) -> Result<(), Failure> {
    let (title, size) = (title(kept), kept.artifact.size);
    if let Ok((hash, length)) = digest(target).await
        && length == size
        && hex::encode(hash.finalize()) == kept.artifact.sha256
    {
        return Ok(());
    }
    let mut partial = Partial::open(target).await?;
    if size >= LARGE {
        let from = partial.length;
        output::progress(&format!("{title}: {size} bytes, {from} of them are here"));
    }
    let mut tries = 0;
    while partial.length < size || (size == 0 && tries == 0) {
        let before = partial.length;
        let told = partial.more(client, &place(global, run, kept), size).await;
        if let Err(Trouble::Final(failure)) = told {
            return Err(Failure {
                error: failure.error.map(|error| error.context(format!("cannot get {title}"))),
                ..failure
            });
        }
        tries = if partial.length > before { 0 } else { tries + 1 };
        if let Err(Trouble::Broken(error)) = told {
            if tries >= TRIES {
                let error =
                    error.context(format!("{title} broke off after {} of {size} bytes", partial.length));
                return Err(error.into());
            }
            tokio::time::sleep(RETRY).await;
        }
    }
    partial.file.flush().await.with_context(|| format!("cannot write {}", partial.path.display()))?;
    if hex::encode(partial.hash.finalize()) != kept.artifact.sha256 {
        let _ = tokio::fs::remove_file(&partial.path).await;
        return Err(Failure::negative(format!("{title} arrived damaged: its digest is another")));
    }
    let moved = tokio::fs::rename(&partial.path, target).await;
    Ok(moved.with_context(|| format!("cannot write {}", target.display()))?)
}

/// Why there is no more of it.
enum Trouble {
    /// There may be at the next try.
    Broken(anyhow::Error),
    /// There will not.
    Final(Failure),
}

impl Partial {
    async fn open(target: &Path) -> Result<Self, Failure> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!("{name}.partial"));
        let opened = async {
            if let Some(parent) = target.parent() {
                tokio::fs::create_dir_all(parent).await?;
            }
            let file = tokio::fs::OpenOptions::new().append(true).create(true).open(&path).await?;
            let (hash, length) = digest(&path).await?;
            Ok::<_, std::io::Error>(Self { path: path.clone(), file, hash, length })
        };
        Ok(opened.await.with_context(|| format!("cannot write {}", path.display()))?)
    }

    async fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0).await?;
        (self.hash, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Asks for what is missing and takes what comes.
    async fn more(&mut self, client: &Client, place: &str, size: u64) -> Result<(), Trouble> {
        let local = |error: std::io::Error| Trouble::Final(anyhow!(error).context("cannot write it").into());
        if self.length > size {
            self.restart().await.map_err(local)?;
        }
        let mut request = http::Request::get(place);
        if self.length > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.length));
        }
        let request = request.body(Body::empty()).map_err(|error| Trouble::Final(anyhow!(error).into()))?;
        let answer = client.send(request).await.map_err(|error| Trouble::Broken(anyhow!(error)))?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // The hub begins anew.
            StatusCode::OK => self.restart().await.map_err(local)?,
            status => return Err(refused(status, answer.into_body()).await),
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Trouble::Broken(anyhow!(error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if self.length + data.len() as u64 > size {
                let failure = Failure::negative("it is larger than its run says");
                return Err(Trouble::Final(failure));
            }
            self.file.write_all(&data).await.map_err(local)?;
            self.hash.update(&data);
            self.length += data.len() as u64;
        }
        self.file.flush().await.map_err(local)?;
        if self.length < size { Err(Trouble::Broken(anyhow!("the connection ended"))) } else { Ok(()) }
    }
}

async fn refused(status: StatusCode, body: Body) -> Trouble {
    let body =
        Limited::new(body, MAX_REFUSAL).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = told["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    if status.is_server_error() {
        Trouble::Broken(anyhow!(why))
    } else {
        Trouble::Final(Failure::negative(why))
    }
}

/// Digest and length of a file, read piece by piece.
async fn digest(path: &Path) -> std::io::Result<(Sha256, u64)> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok((hash, length));
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}
