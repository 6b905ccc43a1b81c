//! Files of other pods, put into a pod's workspace before its first step: from the agent's disk, by `exec`, into the container
//! that waits for them.

use std::time::Duration;

use streams::output::{CommandOutput, Output};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::warn;
use workflow::plan::Receive;
use workflow::pod;

use super::content;
use super::run::Execution;
use super::take::Trouble;

/// Tries of one pack.
const TRIES: u32 = 5;
/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);
/// How long the other side may take for a chunk, or to end.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes that are sent at once.
const PART: usize = 64 << 10;

impl Execution {
    /// Gives a pod what it waits for. Doing so again changes nothing.
    ///
    /// # Errors
    /// What is missing, or did not get there; for people.
    pub(super) async fn give(&self, pod: &str, receives: &[Receive]) -> Result<(), String> {
        for (number, receive) in receives.iter().enumerate() {
            let mut tries = 1;
            while let Err(trouble) = self.give_one(pod, number, receive).await {
                match trouble {
                    Trouble::Final(why) => return Err(why),
                    Trouble::Broken(why) if tries >= TRIES => return Err(why),
                    Trouble::Broken(why) => {
                        warn!(pod, pack = %receive.pack, %why, "cannot give files to a pod; trying again")
                    }
                }
                tries += 1;
                tokio::time::sleep(RETRY).await;
            }
        }
        Ok(())
    }

    /// Leaves a mark that a container waits for.
    pub(super) async fn mark(&self, pod: &str, container: &str, number: usize) -> Result<(), Trouble> {
        let number = number.to_string();
        let command = ["unpack", "--bytes", "0", "--number", number.as_str(), "/"];
        let mut output = self.exec(pod, container, &command, false).await?;
        heard(&mut output, Ok(())).await
    }

    async fn give_one(&self, pod: &str, number: usize, receive: &Receive) -> Result<(), Trouble> {
        let local = |error: std::io::Error| Trouble::Final(format!("the agent's disk: {error}"));
        let place = self.shared.spool.pack(&self.owner(), &receive.pack);
        let place =
            place.ok_or_else(|| Trouble::Final(format!("{:?} is no name of a file", receive.pack)))?;
        let files = self.shared.spool.files();
        let opened = tokio::task::spawn_blocking(move || {
            let input = files.read(&place, content::PLACE)?;
            input.length().map(|length| (input, length))
        });
        let file = match opened.await.map_err(std::io::Error::other).map_err(local)? {
            Ok(file) => Some(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && receive.optional => None,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let why =
                    "the pod that was to leave its files left none: it did not run, or its files did not fit";
                return Err(Trouble::Final(why.to_owned()));
            }
            Err(error) => return Err(local(error)),
        };
        let (mut file, bytes) = file.map_or((None, 0), |(input, length)| (Some(input), length));
        let (bytes_text, number) = (bytes.to_string(), number.to_string());
        let mut command = vec!["unpack", "--bytes", &bytes_text, "--number", &number];
        let from = format!("--from={}", receive.from);
        let globs: Vec<String> = receive.files.iter().map(|glob| format!("--file={glob}")).collect();
        command.push(&from);
        command.extend(globs.iter().map(String::as_str));
        command.extend(["--", receive.to.as_str()]);
        let mut output = self.exec(pod, pod::RECEIVE, &command, true).await?;
        let late = |_| Trouble::Broken("nothing was taken for too long".to_owned());
        let broken = |error: streams::StreamError| Trouble::Broken(error.to_string());
        let mut sent = Ok(());
        while let Some(mut input) = file.take() {
            let read =
                tokio::task::spawn_blocking(move || input.next(CHUNK).map(|piece| (input, piece))).await;
            let (input, piece) = read.map_err(std::io::Error::other).and_then(|read| read).map_err(local)?;
            if piece.is_empty() {
                break;
            }
            file = Some(input);
            // In pieces that the other side takes one by one.
            for part in piece.chunks(PART) {
                let push = tokio::time::timeout(SILENCE, output.send(part));
                sent = push.await.map_err(late)?.map_err(broken);
                if sent.is_err() {
                    break;
                }
            }
        }
        heard(&mut output, sent).await
    }
}

/// How a command ended. What it says tells more than that it took nothing.
async fn heard<IO: AsyncRead + AsyncWrite + Unpin>(
    output: &mut CommandOutput<IO>,
    sent: Result<(), Trouble>,
) -> Result<(), Trouble> {
    let late = |_| Trouble::Broken("nothing was said for too long".to_owned());
    let mut said = String::new();
    while let Ok(Some(next)) = tokio::time::timeout(SILENCE, output.next()).await.map_err(late)? {
        match next {
            Output::Stderr(bytes) if said.len() < 4096 => said.push_str(&String::from_utf8_lossy(&bytes)),
            Output::Ended(Ok(())) => return Ok(()),
            Output::Ended(Err(why)) => {
                return Err(Trouble::Broken(if said.is_empty() { why } else { said.trim().to_owned() }));
            }
            _ => {}
        }
    }
    sent.and(Err(Trouble::Broken("the connection ended".to_owned())))
}
