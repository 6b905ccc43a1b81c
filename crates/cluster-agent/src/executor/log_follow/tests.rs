use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;

use super::*;

#[derive(Default)]
struct Kept(Mutex<Vec<(u64, u64, String)>>);

#[async_trait]
impl Pieces for Kept {
    async fn take(&self, offset: u64, length: u64, text: String) {
        self.0.lock().push((offset, length, text));
    }
}

/// Reads a log that comes in these chunks, each a while after the one before, from `sent` on.
async fn followed(chunks: &[&str], secrets: &[&str], sent: u64) -> Vec<(u64, u64, String)> {
    let chunks: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.as_bytes().to_vec()).collect();
    let log = stream::iter(chunks).then(|chunk| async move {
        // Longer than pieces are gathered: each chunk would be sent by itself.
        tokio::time::sleep(GATHER + GATHER).await;
        std::io::Result::Ok(chunk)
    });
    let (kept, progress) = (Kept::default(), Progress::from(sent));
    let mask = Arc::new(Mask::new(secrets).expect("small"));
    assert!(copy(Box::pin(log).into_async_read(), mask, &progress, &kept).await);
    kept.0.into_inner()
}

fn text(pieces: &[(u64, u64, String)]) -> String {
    pieces.iter().map(|(_, _, text)| text.as_str()).collect()
}

#[tokio::test]
async fn a_secret_split_across_chunks_never_leaves() {
    let pieces =
        followed(&["login with hun", "ter2-hun", "ter2 done\n", "bye"], &["hunter2-hunter2"], 0).await;
    assert_eq!(text(&pieces), "login with ***** done\nbye");
    assert!(pieces.len() > 2, "{pieces:?}");
    let mut next = 0;
    for (offset, length, _) in &pieces {
        assert_eq!(*offset, next, "pieces follow each other in the container's own bytes");
        next += length;
    }
    assert_eq!(next, 35);
}

#[tokio::test]
async fn an_agent_that_starts_again_masks_what_began_before() {
    let whole = ["key=abcd", "efgh rest\n"];
    let pieces = followed(&whole, &["abcdefgh"], 0).await;
    assert_eq!(text(&pieces), "key=***** rest\n");
    // The first pieces are known: only what follows is told, and nothing of the secret.
    let again = followed(&whole, &["abcdefgh"], pieces[0].1).await;
    assert_eq!(text(&again), "***** rest\n");
}

#[tokio::test]
async fn a_long_log_goes_in_pieces_of_whole_lines() {
    let line = "0123456789abcdef\n".repeat(2000);
    let pieces = followed(&[&line], &["not-in-it"], 0).await;
    assert_eq!(text(&pieces), line);
    assert!(pieces.iter().all(|(_, length, text)| *length <= PIECE as u64 && text.ends_with('\n')));
}
