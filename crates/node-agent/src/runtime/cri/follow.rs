//! Reading a container's log file, and going on while it grows.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::Inner;
use super::logs::{Line, Parser};
use crate::runtime::{LogQuery, LogStream};

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(50);
/// Looks at the file between questions whether the container still runs.
const POLLS_PER_QUESTION: u32 = 5;
/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Lines kept for `tail`, at most.
const MAX_TAIL: u64 = 100_000;

struct Follow {
    inner: Arc<Inner>,
    id: String,
    path: PathBuf,
    query: LogQuery,
    file: Option<File>,
    /// Which file that is: a rotated one is another under the same name.
    inode: u64,
    /// The path is another file by now; what this one still holds comes first.
    rotated: bool,
    read: u64,
    parser: Parser,
    left: u64,
    /// The tail is still to be found.
    beginning: bool,
    polls: u32,
    /// The container has ended: what the file holds now is all.
    ended: bool,
    done: bool,
}

/// The part of a log that is asked for.
pub(super) fn stream(inner: Arc<Inner>, id: String, path: PathBuf, query: LogQuery) -> LogStream {
    let left = query.limit_bytes.unwrap_or(u64::MAX);
    let follow = Follow {
        inner,
        id,
        path,
        query,
        file: None,
        inode: 0,
        rotated: false,
        read: 0,
        parser: Parser::default(),
        left,
        beginning: true,
        polls: 0,
        ended: false,
        done: false,
    };
    futures::stream::unfold(follow, |mut follow| async move {
        match follow.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), follow)),
            Ok(None) => None,
            Err(error) => {
                follow.done = true;
                Some((Err(error), follow))
            }
        }
    })
    .boxed()
}

impl Follow {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        while !self.done && self.left > 0 {
            let lines =
                if std::mem::take(&mut self.beginning) { self.begin().await? } else { self.more().await? };
            match lines {
                Some(lines) => {
                    let text = self.render(lines);
                    if !text.is_empty() {
                        return Ok(Some(text));
                    }
                }
                None if !self.query.follow || self.ended => {
                    self.done = true;
                    let last = self.parser.finish();
                    let text = self.render(last);
                    return Ok((!text.is_empty()).then_some(text));
                }
                None => self.wait().await,
            }
        }
        Ok(None)
    }

    /// What was written before: whole, or its last lines.
    async fn begin(&mut self) -> std::io::Result<Option<Vec<Line>>> {
        let Some(tail) = self.query.tail_lines else { return self.more().await };
        let keep = usize::try_from(tail.min(MAX_TAIL)).unwrap_or(usize::MAX);
        let mut kept = std::collections::VecDeque::new();
        while let Some(lines) = self.more().await? {
            kept.extend(lines);
            let excess = kept.len().saturating_sub(keep);
            kept.drain(..excess);
        }
        Ok(Some(kept.into()))
    }

    /// The next lines of the file; `None` at its end.
    async fn more(&mut self) -> std::io::Result<Option<Vec<Line>>> {
        if self.file.is_none() {
            self.file = match File::open(&self.path).await {
                Ok(file) => {
                    self.inode = file.metadata().await?.ino();
                    Some(file)
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut buffer = vec![0; CHUNK];
        let count = file.read(&mut buffer).await?;
        self.read += count as u64;
        if count == 0 && std::mem::take(&mut self.rotated) {
            self.read = 0;
            self.file = None;
            return Ok(Some(Vec::new()));
        }
        Ok((count > 0).then(|| self.parser.push(&buffer[..count])))
    }

    fn render(&mut self, lines: Vec<Line>) -> Bytes {
        let mut text = Vec::new();
        for line in lines {
            if self.query.since.is_some_and(|since| line.time < since) {
                continue;
            }
            if self.query.timestamps {
                text.extend_from_slice(format!("{:.9} ", line.time).as_bytes());
            }
            text.extend_from_slice(&line.text);
            text.push(b'\n');
        }
        text.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= text.len() as u64;
        text.into()
    }

    /// Waits for the file to grow, to be replaced, or for the container to end.
    async fn wait(&mut self) {
        tokio::time::sleep(POLL).await;
        self.polls += 1;
        if self.polls.is_multiple_of(POLLS_PER_QUESTION) {
            // Asked before the file is read the last time: what it wrote at its end is there by then.
            self.ended = !self.inner.runs(&self.id).await;
        }
        let now = tokio::fs::metadata(&self.path).await.map(|meta| meta.ino());
        // The runtime writes to the new file once there is one, so that the old one is whole by then.
        self.rotated = now.is_ok_and(|inode| inode != self.inode);
        if let Some(file) = &mut self.file {
            let _ = file.seek(SeekFrom::Start(self.read)).await;
        }
    }
}
