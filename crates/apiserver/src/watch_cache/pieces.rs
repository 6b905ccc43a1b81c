//! Several changes in one buffer, which a crowd of watchers that is told the same shares: no copy per watcher.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::event::{self, CachedEvent, Change};
use super::subscription::Delivery;

/// Watchers of a storage from which on buffers are kept for the next of them.
pub(super) const CROWD: usize = 8;
/// Buffers that are kept: a crowd is told one after the other, and those who fall behind are behind by others.
const KEPT: usize = 2;

/// What a buffer says. The events are held, so that no other can come to stand in their place.
type Told = Vec<(Change, Arc<CachedEvent>)>;

/// The buffers written last, in plain JSON.
#[derive(Debug, Default)]
pub(super) struct Pieces(Mutex<VecDeque<(Told, Bytes)>>);

impl Pieces {
    /// The buffer of what is told: the one that another watcher was handed, where there is one.
    pub(super) fn of(&self, deliveries: &[Delivery]) -> Bytes {
        let is_same = |told: &Told| {
            told.len() == deliveries.len()
                && told.iter().zip(deliveries).all(|((change, event), delivery)| {
                    *change == delivery.change && Arc::ptr_eq(event, &delivery.event)
                })
        };
        if let Some((_, known)) = self.0.lock().iter().find(|(told, _)| is_same(told)) {
            return known.clone();
        }
        // Not under the lock: those who are told something else do not wait; at worst it is written once per thread.
        let written = written(deliveries);
        let told = deliveries.iter().map(|own| (own.change, Arc::clone(&own.event))).collect();
        let mut pieces = self.0.lock();
        pieces.truncate(KEPT - 1);
        pieces.push_front((told, written.clone()));
        written
    }
}

/// Changes one after the other, straight from the objects.
pub(super) fn written(deliveries: &[Delivery]) -> Bytes {
    let sizes = deliveries.iter().map(|delivery| delivery.object.encoded.len() + event::JSON_FRAME_BYTES);
    let mut out = BytesMut::with_capacity(sizes.sum());
    for Delivery { change, object, .. } in deliveries {
        event::write_json_frame(*change, object, &mut out);
    }
    out.freeze()
}
