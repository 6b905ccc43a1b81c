//! Counts what goes over the wire: agents of a sample reach the hub through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes read at once.
const BUFFER: usize = 16 << 10;

/// A relay on a port of its own. Bytes are those of TLS: without the headers of TCP and IP.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    bytes: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Relay {
    pub(super) async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let (counted, stopped) = (bytes.clone(), stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let (counted, stopped) = (counted.clone(), stopped.clone());
                tokio::spawn(stopped.run_until_cancelled_owned(carry(stream, to, counted)));
            }
        });
        Ok(Self { address, bytes, _stop: stop.drop_guard() })
    }

    /// Bytes carried so far, both ways.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

async fn carry(from: TcpStream, to: SocketAddr, counted: Arc<AtomicU64>) {
    let Ok(to) = TcpStream::connect(to).await else { return };
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    // When either side ends both do: as with a cable.
    tokio::select! {
        _ = copy(from_read, to_write, &counted) => {}
        _ = copy(to_read, from_write, &counted) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: &AtomicU64) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        counted.fetch_add(read as u64, Ordering::Relaxed);
        to.write_all(&buffer[..read]).await?;
    }
}
