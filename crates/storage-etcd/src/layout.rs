//! Which keys lie where in etcd, and how revisions are counted. Pure.

use bytes::Bytes;
use storage::{KeyRange, KeyValue, LeaseId, Revision};

use crate::wire::mvccpb;

/// Keys of one store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    prefix: Vec<u8>,
    data: Vec<u8>,
}

impl Layout {
    pub(crate) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_end_matches('/').as_bytes().to_vec();
        let data = [&prefix[..], b"/d"].concat();
        Self { prefix, data }
    }

    pub(crate) fn life(&self) -> Vec<u8> {
        [&self.prefix[..], b"/store"].concat()
    }

    pub(crate) fn compaction(&self) -> Vec<u8> {
        [&self.prefix[..], b"/compact"].concat()
    }

    pub(crate) fn tick(&self) -> Vec<u8> {
        [&self.prefix[..], b"/tick"].concat()
    }

    /// First key of the store and first key behind it.
    pub(crate) fn everything(&self) -> (Vec<u8>, Vec<u8>) {
        let slash = [&self.prefix[..], b"/"].concat();
        let end = [&self.prefix[..], b"0"].concat();
        (slash, end)
    }

    pub(crate) fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.data[..], key].concat()
    }

    /// A range's first key and first key behind it; `None` for a range that holds no key.
    pub(crate) fn range(&self, range: &KeyRange) -> Option<(Vec<u8>, Vec<u8>)> {
        let start = self.key(&range.start);
        let end = match &range.end {
            Some(end) if *end <= range.start => return None,
            Some(end) => self.key(end),
            None => [&self.prefix[..], b"/e"].concat(),
        };
        Some((start, end))
    }

    /// The store's key of an etcd key; `None` for what the engine keeps for itself.
    pub(crate) fn own(&self, key: &[u8]) -> Option<Bytes> {
        key.strip_prefix(&self.data[..]).map(Bytes::copy_from_slice)
    }
}

/// How the revisions of a life are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbering {
    /// The store's revision is etcd's plus this.
    pub(crate) shift: i64,
    /// Revisions before this one belong to another life and count as compacted; 0 in a store's first life.
    pub(crate) floor: Revision,
}

impl Numbering {
    /// etcd's revision as the store's; 0 ("none") stays 0.
    pub(crate) fn own(self, etcd: i64) -> Revision {
        if etcd <= 0 {
            return Revision(0);
        }
        Revision(u64::try_from(etcd.saturating_add(self.shift)).unwrap_or(0))
    }

    /// The store's revision as etcd's. A revision that etcd cannot have had is -1, which no key carries.
    pub(crate) fn etcd(self, own: Revision) -> i64 {
        if own.0 == 0 {
            return 0;
        }
        match i64::try_from(own.0).map(|own| own.saturating_sub(self.shift)) {
            Ok(etcd) if etcd > 0 => etcd,
            _ => -1,
        }
    }

    /// A stored version under the store's own key.
    pub(crate) fn key_value(self, key: Bytes, kv: mvccpb::KeyValue) -> KeyValue {
        KeyValue {
            key,
            value: kv.value.into(),
            create_revision: self.own(kv.create_revision),
            mod_revision: self.own(kv.mod_revision),
            version: u64::try_from(kv.version).unwrap_or(0),
            lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_lies_below_the_prefix_and_above_nothing_else() {
        let layout = Layout::new("/fairlead/");
        let text = |range: Option<(Vec<u8>, Vec<u8>)>| {
            range.map(|(a, b)| (String::from_utf8(a).expect("text"), String::from_utf8(b).expect("text")))
        };
        let own = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(text(layout.range(&KeyRange::prefix(""))), own("/fairlead/d", "/fairlead/e"));
        assert_eq!(text(layout.range(&KeyRange::prefix("/a/"))), own("/fairlead/d/a/", "/fairlead/d/a0"));
        assert_eq!(text(layout.range(&KeyRange::between("b", "a"))), None);
        assert_eq!(layout.own(b"/fairlead/d/a"), Some(Bytes::from("/a")));
        assert_eq!(layout.own(&layout.life()), None);
    }

    #[test]
    fn revisions_are_moved_and_nothing_stays_nothing() {
        let numbering = Numbering { shift: -4, floor: Revision(0) };
        assert_eq!((numbering.own(5), numbering.etcd(Revision(1))), (Revision(1), 5));
        assert_eq!((numbering.own(0), numbering.etcd(Revision(0))), (Revision(0), 0));
        assert_eq!(numbering.own(3), Revision(0), "what was before the store is nothing of its own");
        let later = Numbering { shift: 1_000, floor: Revision(1_005) };
        assert_eq!((later.own(7), later.etcd(Revision(1_007))), (Revision(1_007), 7));
        assert_eq!(later.etcd(Revision(12)), -1, "a number of the life before matches no key");
        assert_eq!(later.etcd(Revision(u64::MAX)), -1);
    }
}
