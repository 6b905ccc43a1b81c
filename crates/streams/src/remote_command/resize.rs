//! Sizes of a terminal as they come: JSON documents one behind the other, cut anywhere. Pure.

use crate::session::TerminalSize;

/// Bytes of a document whose end has not come; one is about forty.
const MAX_PENDING: usize = 4096;

/// Puts documents together.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    pending: Vec<u8>,
    /// Something that is no size has come: nothing more is read, as upstream's decoder stops.
    damaged: bool,
}

impl Parser {
    /// Takes bytes and gives the sizes they end.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<TerminalSize> {
        if self.damaged {
            return Vec::new();
        }
        self.pending.extend_from_slice(bytes);
        let mut sizes = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.pending).into_iter::<TerminalSize>();
        let mut read = 0;
        loop {
            match stream.next() {
                Some(Ok(size)) => {
                    sizes.push(size);
                    read = stream.byte_offset();
                }
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => {
                    self.damaged = true;
                    break;
                }
                None => break,
            }
        }
        self.pending.drain(..read);
        self.damaged |= self.pending.len() > MAX_PENDING;
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_put_together() {
        let mut parser = Parser::default();
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,\"Height\":30}\n{\"width\":1,\"height\":2}";
        let sizes: Vec<_> = text.chunks(5).flat_map(|chunk| parser.push(chunk)).collect();
        let size = |width, height| TerminalSize { width, height };
        assert_eq!(sizes, [size(80, 24), size(100, 30), size(1, 2)]);
        assert!(parser.push(b"nonsense {\"Width\":1,\"Height\":1}").is_empty());
        assert!(parser.push(b"{\"Width\":1,\"Height\":1}").is_empty());
    }
}
