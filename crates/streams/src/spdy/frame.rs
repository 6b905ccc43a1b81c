//! Frames: bytes in, meaning out, and back. Pure.

use super::headers::{Deflater, Inflater};

/// The protocol's version in control frames.
const VERSION: u16 = 3;
/// Bytes of a control frame's content, at most. Only header blocks are long, and Kubernetes' are not.
pub const MAX_CONTROL: u32 = 64 << 10;
/// The end of what a side sends on a stream.
const FIN: u8 = 1;
/// The receiver sends nothing on the stream.
const UNIDIRECTIONAL: u8 = 2;

/// What makes a connection useless.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Of another protocol, or another version.
    #[error("a control frame of SPDY version {0}")]
    Version(u16),
    /// A control frame that is too long.
    #[error("a control frame of {0} bytes")]
    TooLong(u32),
    /// A control frame that is too short for what it says it is.
    #[error("a control frame of type {0} cut short")]
    Short(u16),
    /// A header block.
    #[error("{0}")]
    Headers(&'static str),
}

/// Names in lower case and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Of pairs.
    #[must_use]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect())
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)?;
        // Several values of a name are parted by NUL.
        value.split('\0').next()
    }
}

/// The eight bytes every frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// `length` bytes of a stream follow.
    Data {
        /// Of which stream.
        id: u32,
        /// Whether they are its last.
        fin: bool,
        /// How many.
        length: u32,
    },
    /// `length` bytes of a control frame follow.
    Control {
        /// Its type.
        kind: u16,
        /// Its flags.
        flags: u8,
        /// How many.
        length: u32,
    },
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    /// For other versions and control frames that are too long.
    pub fn parse(bytes: [u8; 8]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, rest @ ..] = bytes;
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]);
        if a & 0x80 == 0 {
            return Ok(Self::Data { id: u32::from_be_bytes([a, b, c, d]), fin: flags & FIN != 0, length });
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLong(length));
        }
        Ok(Self::Control { kind: u16::from_be_bytes([c, d]), flags, length })
    }
}

/// A control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    SynStream {
        /// Odd from clients, even from servers.
        id: u32,
        /// The sender will send nothing.
        fin: bool,
        /// The receiver may send nothing.
        unidirectional: bool,
        /// What it is for.
        headers: Headers,
    },
    /// A stream is accepted.
    SynReply {
        /// Which.
        id: u32,
        /// The sender will send nothing.
        fin: bool,
        /// Usually none.
        headers: Headers,
    },
    /// A stream has ended abnormally.
    RstStream {
        /// Which.
        id: u32,
        /// 1 protocol error, 3 refused, 5 cancelled …
        status: u32,
    },
    /// To be sent back by the side whose number parity it has not.
    Ping {
        /// Odd from clients, even from servers.
        id: u32,
    },
    /// No new streams.
    GoAway {
        /// The last that was accepted.
        last: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Which.
        id: u32,
        /// The sender will send nothing more.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// What has no meaning here: settings, window updates, unknown types.
    Other {
        /// Its type.
        kind: u16,
    },
}

impl Frame {
    /// Reads the content of a control frame. Header blocks must be read in the order they come.
    ///
    /// # Errors
    /// [`FrameError`]; the connection is of no more use.
    pub fn parse(kind: u16, flags: u8, content: &[u8], inflater: &mut Inflater) -> Result<Self, FrameError> {
        let short = || FrameError::Short(kind);
        let word = |at: usize| -> Result<u32, FrameError> {
            let bytes = content.get(at..at + 4).ok_or_else(short)?;
            Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| short())?))
        };
        let id = || word(0).map(|id| id & 0x7fff_ffff);
        let fin = flags & FIN != 0;
        Ok(match kind {
            1 => {
                // Behind the ids stand priority and credential slot, which mean nothing here.
                let headers = inflater.read(content.get(10..).ok_or_else(short)?)?;
                Self::SynStream { id: id()?, fin, unidirectional: flags & UNIDIRECTIONAL != 0, headers }
            }
            2 => {
                let headers = inflater.read(content.get(4..).ok_or_else(short)?)?;
                Self::SynReply { id: id()?, fin, headers }
            }
            3 => Self::RstStream { id: id()?, status: word(4)? },
            6 => Self::Ping { id: word(0)? },
            7 => Self::GoAway { last: id()? },
            8 => {
                let headers = inflater.read(content.get(4..).ok_or_else(short)?)?;
                Self::Headers { id: id()?, fin, headers }
            }
            kind => Self::Other { kind },
        })
    }

    /// Writes it whole. Header blocks must be sent in the order they are written.
    ///
    /// # Errors
    /// When its headers are too long.
    pub fn render(&self, deflater: &mut Deflater) -> Result<Vec<u8>, FrameError> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let (kind, flags, content) = match self {
            Self::SynStream { id, fin, unidirectional, headers } => {
                let mut content = id.to_be_bytes().to_vec();
                content.extend_from_slice(&[0; 6]);
                content.extend(deflater.write(headers)?);
                (1, flag(*fin, FIN) | flag(*unidirectional, UNIDIRECTIONAL), content)
            }
            Self::SynReply { id, fin, headers } => (2, flag(*fin, FIN), block(*id, headers, deflater)?),
            Self::RstStream { id, status } => (3, 0, [id.to_be_bytes(), status.to_be_bytes()].concat()),
            Self::Ping { id } => (6, 0, id.to_be_bytes().to_vec()),
            Self::GoAway { last } => (7, 0, [last.to_be_bytes(), [0; 4]].concat()),
            Self::Headers { id, fin, headers } => (8, flag(*fin, FIN), block(*id, headers, deflater)?),
            Self::Other { kind } => (*kind, 0, Vec::new()),
        };
        let length =
            u32::try_from(content.len()).map_err(|_| FrameError::Headers("headers that are too long"))?;
        let mut bytes = (0x8000 | VERSION).to_be_bytes().to_vec();
        bytes.extend_from_slice(&u16::to_be_bytes(kind));
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes[4] = flags;
        bytes.extend(content);
        Ok(bytes)
    }
}

fn block(id: u32, headers: &Headers, deflater: &mut Deflater) -> Result<Vec<u8>, FrameError> {
    let mut content = id.to_be_bytes().to_vec();
    content.extend(deflater.write(headers)?);
    Ok(content)
}

/// A data frame; `data` is shorter than 16 MB.
#[must_use]
pub fn data(id: u32, fin: bool, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + data.len());
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes[4] = u8::from(fin);
    bytes.extend_from_slice(data);
    bytes
}
