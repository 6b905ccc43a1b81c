//! Lists in plain JSON, sent piece by piece from the kept bytes: no object is decoded, and a list of ten thousand pods
//! costs a piece of memory, not a copy of them all, however slowly its reader takes it.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Response, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use serde_json::Value;

use super::head;
use crate::catalogue::Resource;
use crate::extension::{Body, BoxError};
use crate::http::response::{self, GZIP_FROM_BYTES, Style};
use crate::watch_cache::CachedObject;

/// About what is written at a time: a few records of TLS, and well within a processor's cache.
const PIECE_BYTES: usize = 64 << 10;

/// Answers a list of `objects`.
pub(super) fn response(
    resource: &Resource,
    objects: Vec<Arc<CachedObject>>,
    metadata: &Value,
    style: Style,
    part: Part,
) -> Response<Body> {
    let head = match part {
        Part::Metadata => head("PartialObjectMetadata", "meta.k8s.io/v1", metadata),
        Part::Whole | Part::Item => head(&resource.kind, &resource.api_version(), metadata),
    };
    let most = head.len() + objects.iter().map(|object| object.encoded.len() + 1).sum::<usize>();
    let pieces = Pieces::new(head, objects, part);
    let size = pieces.left;
    if style.gzip && size.unwrap_or(most) > GZIP_FROM_BYTES {
        let packed = Packed { pieces, encoder: Some(GzEncoder::new(Vec::new(), Compression::new(1))) };
        return response::compressed(200, style.format.media_type(), packed.boxed_unsync());
    }
    if size.unwrap_or(most) <= GZIP_FROM_BYTES {
        let whole = Iterator::collect::<Vec<Bytes>>(pieces).concat();
        return response::plain(200, style.format.media_type(), whole.into());
    }
    let mut answer = response::plain(200, style.format.media_type(), Bytes::new());
    *answer.body_mut() = pieces.boxed_unsync();
    if let Some(size) = size {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    answer
}

/// What is shown of each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: items of custom kinds say what they are.
    Whole,
    /// All but apiVersion and kind.
    Item,
    /// A PartialObjectMetadata.
    Metadata,
}

/// A list, piece by piece.
struct Pieces {
    head: Option<String>,
    objects: std::vec::IntoIter<Arc<CachedObject>>,
    part: Part,
    first: bool,
    ended: bool,
    /// How many bytes are still to come, if that is known without writing them.
    left: Option<usize>,
}

impl Pieces {
    fn new(head: String, objects: Vec<Arc<CachedObject>>, part: Part) -> Self {
        let commas = objects.len().saturating_sub(1);
        let sizes = objects.iter().map(|object| {
            let encoded = &object.encoded;
            match part {
                Part::Whole => Some(encoded.written_len()),
                Part::Item => encoded.item_len(),
                Part::Metadata => None,
            }
        });
        let items = sizes.sum::<Option<usize>>();
        let left = items.map(|items| head.len() + items + commas + END.len());
        Self { head: Some(head), objects: objects.into_iter(), part, first: true, ended: false, left }
    }
}

const END: &[u8] = b"]}";

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let wanted = self.left.map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        // The last object of a piece is written whole: most fit in this.
        let mut out = BytesMut::with_capacity(wanted + 4096);
        if let Some(head) = self.head.take() {
            out.put_slice(head.as_bytes());
        }
        while out.len() < PIECE_BYTES {
            let Some(object) = self.objects.next() else {
                out.put_slice(END);
                self.ended = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.put_u8(b',');
            }
            match self.part {
                Part::Whole => object.encoded.write_to(&mut out),
                Part::Item => object.encoded.write_item(&mut out),
                Part::Metadata => object.encoded.write_metadata(&mut out),
            }
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(out.len());
        }
        Some(out.freeze())
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.left.and_then(|left| u64::try_from(left).ok());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The same, compressed.
struct Packed {
    pieces: Pieces,
    /// Gone once the end has been written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Packed {
    /// The next output; several pieces may go into one, for the compressor keeps back what it can.
    fn output(&mut self) -> std::io::Result<Option<Bytes>> {
        while let Some(encoder) = &mut self.encoder {
            let Some(piece) = self.pieces.next() else {
                let Some(encoder) = self.encoder.take() else { break };
                return encoder.finish().map(|rest| Some(rest.into()));
            };
            encoder.write_all(&piece)?;
            if !encoder.get_ref().is_empty() {
                return Ok(Some(std::mem::take(encoder.get_mut()).into()));
            }
        }
        Ok(None)
    }
}

impl http_body::Body for Packed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let output = self.output().map_err(BoxError::from).transpose();
        Poll::Ready(output.map(|output| output.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;
    use serde_json::json;
    use storage::{KeyValue, Revision};

    use super::*;
    use crate::registry::objects::encode;

    fn objects(count: usize, foreign: bool) -> (Arc<Resource>, Vec<Arc<CachedObject>>) {
        let catalogue = crate::Catalogue::cluster();
        let resource = Arc::clone(catalogue.find("", "v1", "configmaps").expect("config maps"));
        let one = |n: usize| {
            let object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": format!("m{n}"), "namespace": "default" }, "data": { "a": "x".repeat(n % 7000) } });
            let value = if foreign { object.to_string().into() } else { encode(&object) };
            let kv = KeyValue {
                key: format!("m{n}").into(),
                value,
                mod_revision: Revision(1 + n as u64 * 997),
                create_revision: Revision(1),
                version: 1,
                lease: None,
            };
            Arc::new(CachedObject::of(&resource, &kv).expect("an object"))
        };
        let objects = (0..count).map(one).collect();
        (resource, objects)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// However it is cut, the list is the same document, of the length that was announced.
        #[test]
        fn pieces_are_one_list(count in 0_usize..400, foreign in any::<bool>(), part in 0..3_usize) {
            let (_, objects) = objects(count, foreign);
            let part = [Part::Whole, Part::Item, Part::Metadata][part];
            let pieces = || Pieces::new("{\"items\":[".to_owned(), objects.clone(), part);
            let announced = pieces().left;
            let whole: Vec<u8> = pieces().flatten().collect();
            prop_assert!(announced.is_none_or(|announced| announced == whole.len()));
            let unknown = part == Part::Metadata || foreign && part == Part::Item;
            prop_assert_eq!(announced.is_none(), unknown && count > 0);
            let list: Value = serde_json::from_slice(&whole).expect("JSON");
            let items = list["items"].as_array().expect("items");
            prop_assert_eq!(items.len(), count);
            for (item, object) in items.iter().zip(&objects) {
                let mut expected = object.encoded.to_value();
                match part {
                    Part::Whole => {}
                    Part::Item => expected.as_object_mut().expect("fields").retain(|key, _| key != "kind" && key != "apiVersion"),
                    Part::Metadata => expected = crate::handlers::view::metadata(&expected),
                }
                prop_assert_eq!(item, &expected);
            }
            let mut packed = Packed { pieces: pieces(), encoder: Some(GzEncoder::new(Vec::new(), Compression::new(1))) };
            let mut bytes = Vec::new();
            while let Some(output) = packed.output().expect("memory") {
                bytes.extend_from_slice(&output);
            }
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked).expect("gzip");
            prop_assert_eq!(unpacked, whole);
        }
    }
}
