//! What a message says: the first byte is the channel, the rest its data. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// The channel number that says "this channel has ended", from v5 on.
const CLOSE_SIGNAL: u8 = 255;

/// How channels stand in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// A byte, then the data.
    Binary,
    /// A digit, then the data in base64, as text.
    Base64,
}

/// What a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Bytes of a channel.
    Data(u8, Bytes),
    /// The sender has said everything on a channel.
    End(u8),
    /// Nothing, as upstream passes over it.
    Nothing,
}

impl Codec {
    /// Reads a message's content. `with_end`: the protocol knows the end of a channel.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn read(self, content: Bytes, with_end: bool) -> Result<Inbound, &'static str> {
        let Some(first) = content.first().copied() else { return Ok(Inbound::Nothing) };
        if with_end && first == CLOSE_SIGNAL {
            return match content.as_ref() {
                [_, channel] => Ok(Inbound::End(*channel)),
                _ => Err("a close signal without its channel"),
            };
        }
        match self {
            Self::Binary => Ok(Inbound::Data(first, content.slice(1..))),
            Self::Base64 => {
                let data = STANDARD.decode(&content[1..]).map_err(|_| "data that is not base64")?;
                Ok(Inbound::Data(first.wrapping_sub(b'0'), data.into()))
            }
        }
    }

    /// A message with bytes of a channel.
    #[must_use]
    pub fn write(self, channel: u8, data: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut content = Vec::with_capacity(data.len() + 1);
                content.push(channel);
                content.extend_from_slice(data);
                Message::binary(content)
            }
            Self::Base64 => {
                let mut content = String::from(char::from(b'0'.wrapping_add(channel)));
                STANDARD.encode_string(data, &mut content);
                Message::text(content)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_read_as_upstream_reads_them() {
        let read = |codec: Codec, content: &'static [u8], end| codec.read(Bytes::from_static(content), end);
        assert_eq!(read(Codec::Binary, b"\x00in", true), Ok(Inbound::Data(0, Bytes::from_static(b"in"))));
        assert_eq!(read(Codec::Binary, b"", true), Ok(Inbound::Nothing));
        assert_eq!(read(Codec::Binary, b"\xff\x00", true), Ok(Inbound::End(0)));
        // Before v5 it is a channel like any other, which nobody has.
        assert_eq!(
            read(Codec::Binary, b"\xff\x00", false),
            Ok(Inbound::Data(255, Bytes::from_static(b"\x00")))
        );
        assert!(read(Codec::Binary, b"\xff", true).is_err());
        assert_eq!(read(Codec::Base64, b"0aGk=", false), Ok(Inbound::Data(0, Bytes::from_static(b"hi"))));
        assert!(read(Codec::Base64, b"0a", false).is_err());
        assert_eq!(Codec::Base64.write(1, b"hi"), Message::text("1aGk="));
        assert_eq!(Codec::Binary.write(3, b""), Message::binary(vec![3]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(channel in 0_u8..10, data: Vec<u8>, base64: bool, with_end: bool) {
            let codec = if base64 { Codec::Base64 } else { Codec::Binary };
            let read = codec.read(codec.write(channel, &data).into_data(), with_end);
            prop_assert_eq!(read, Ok(Inbound::Data(channel, data.into())));
        }
    }
}
