//! Header blocks: names and values, compressed over the life of a connection with the protocol's own dictionary.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::frame::{FrameError, Headers};

/// The dictionary both sides begin with (section 2.6.10.1 of the draft).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// Adler-32 of the dictionary: how a zlib stream names it.
const DICTIONARY_ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];
/// The head of a zlib stream with a dictionary: deflate, 32 kB window, FDICT, check bits.
const HEAD: [u8; 2] = [0x78, 0xbb];
/// How far back deflate reaches.
const WINDOW: usize = 32 << 10;
/// Bytes of one block, unpacked; Kubernetes sends a few short headers.
const MAX_BLOCK: usize = 64 << 10;
/// Headers in one block.
const MAX_HEADERS: u32 = 100;

/// Unpacks the blocks of one direction, in order.
pub struct Inflater {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    begun: bool,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("at", &self.at).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        // A window that already holds the dictionary is what a zlib decoder makes of it.
        let mut window = vec![0; WINDOW];
        window[..DICTIONARY.len()].copy_from_slice(DICTIONARY);
        Self { state: Box::default(), window, at: DICTIONARY.len(), begun: false }
    }
}

impl Inflater {
    /// Unpacks and reads one block.
    ///
    /// # Errors
    /// When it is no deflate stream, too long, or holds no headers; the connection is of no more use then.
    pub fn read(&mut self, packed: &[u8]) -> Result<Headers, FrameError> {
        let block = self.inflate(packed)?;
        parse(&block)
    }

    fn inflate(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, FrameError> {
        if !self.begun {
            let (head, rest) = packed.split_at_checked(6).ok_or(FrameError::Headers("no zlib head"))?;
            let check = u16::from_be_bytes([head[0], head[1]]);
            if head[0] & 0x0f != 8 || check % 31 != 0 || head[1] & 0x20 == 0 || head[2..] != DICTIONARY_ID {
                return Err(FrameError::Headers("a zlib head without the dictionary"));
            }
            packed = rest;
            self.begun = true;
        }
        let mut block = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.state, packed, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            packed = packed.get(read..).unwrap_or_default();
            block.extend_from_slice(self.window.get(self.at..self.at + written).unwrap_or_default());
            self.at = (self.at + written) % WINDOW;
            if block.len() > MAX_BLOCK {
                return Err(FrameError::Headers("a header block that is too long"));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if packed.is_empty() => return Ok(block),
                _ => return Err(FrameError::Headers("a damaged header block")),
            }
        }
    }
}

/// Packs the blocks of one direction, in order. It stores them as they are: every reader takes that, headers are few,
/// and no state can go wrong.
#[derive(Debug, Default)]
pub struct Deflater {
    begun: bool,
}

impl Deflater {
    /// Packs one block.
    ///
    /// # Errors
    /// When the headers are too long for a block.
    pub fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, FrameError> {
        let block = render(headers);
        let length =
            u16::try_from(block.len()).map_err(|_| FrameError::Headers("headers that are too long"))?;
        let mut packed = Vec::with_capacity(block.len() + 16);
        if !self.begun {
            self.begun = true;
            packed.extend_from_slice(&HEAD);
            packed.extend_from_slice(&DICTIONARY_ID);
        }
        // A stored block that is not the last: RFC 1951, section 3.2.4.
        packed.push(0);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&(!length).to_le_bytes());
        packed.extend_from_slice(&block);
        // And an empty one, as a flush leaves it: Go's decoder holds back what it has read until it sees this.
        packed.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        Ok(packed)
    }
}

fn render(headers: &Headers) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut block = number(headers.0.len()).to_vec();
    for (name, value) in &headers.0 {
        for text in [name, value] {
            block.extend_from_slice(&number(text.len()));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn parse(block: &[u8]) -> Result<Headers, FrameError> {
    let mut rest = block;
    let count = number(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(FrameError::Headers("too many headers"));
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = text(&mut rest)?.to_ascii_lowercase();
        headers.push((name, text(&mut rest)?));
    }
    Ok(Headers(headers))
}

fn number(rest: &mut &[u8]) -> Result<u32, FrameError> {
    let (head, tail) =
        rest.split_first_chunk::<4>().ok_or(FrameError::Headers("a header block cut short"))?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head))
}

fn text(rest: &mut &[u8]) -> Result<String, FrameError> {
    let length = usize::try_from(number(rest)?).unwrap_or(usize::MAX);
    let (head, tail) =
        rest.split_at_checked(length).ok_or(FrameError::Headers("a header block cut short"))?;
    *rest = tail;
    Ok(String::from_utf8_lossy(head).into_owned())
}
