//! A connection that can be cut by somebody who does not hold it: what was upgraded (exec, tunnels) has left the task that
//! served it, and still must end when its client is trusted no more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The stream, for whoever reads and writes it.
#[derive(Debug)]
pub(super) struct Severable<S> {
    stream: S,
    state: Arc<State>,
    _gone: DropGuard,
}

/// Cuts it.
#[derive(Debug)]
pub(super) struct Knife {
    state: Arc<State>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    severed: AtomicBool,
    /// Whoever waits for something to read: on a stream in use somebody always does.
    reader: AtomicWaker,
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.severed.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

impl<S> Severable<S> {
    pub(super) fn new(stream: S) -> (Self, Knife) {
        let (state, gone) = (Arc::<State>::default(), CancellationToken::new());
        let knife = Knife { state: Arc::clone(&state), gone: gone.clone() };
        (Self { stream, state, _gone: gone.drop_guard() }, knife)
    }
}

impl Knife {
    /// From now on reading and writing fail.
    pub(super) fn cut(&self) {
        self.state.severed.store(true, Ordering::Release);
        self.state.reader.wake();
    }

    /// Returns when nobody holds the stream any more.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the look, so that a cut between the two wakes us.
        self.state.reader.register(cx.waker());
        self.state.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.state.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.state.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_who_waits_and_whoever_comes_later() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut stream, knife) = Severable::new(near);
        far.write_all(b"a").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');
        let reading = tokio::spawn(async move {
            let ended = stream.read_u8().await.unwrap_err().kind();
            (stream, ended)
        });
        tokio::task::yield_now().await;
        knife.cut();
        let (mut stream, ended) = reading.await.unwrap();
        assert_eq!(ended, io::ErrorKind::ConnectionAborted);
        far.write_all(b"b").await.unwrap();
        assert!(stream.read_u8().await.is_err() && stream.write_all(b"c").await.is_err());
        drop(stream);
        knife.gone().await;
    }
}
