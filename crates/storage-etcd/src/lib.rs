//! The distributed engine: etcd v3 (3.4 and newer) behind the [`storage::Store`] contract, for API servers that are
//! several processes over one state.
//!
//! * [`options`]: endpoints, TLS, key prefix, time limits.
//! * `connection`: calls with failover from endpoint to endpoint, bounded in number, size and time.
//! * `layout`: which keys lie where, and how etcd's revisions become the store's.
//! * `life`: the store's own record: its incarnation, and the guard against revisions that went back.
//! * `transact`, `read`, `watch`, `lease`, `snapshot`, `compaction`: the contract, piece by piece.
//!
//! ## Layout
//! Below the prefix (default `/fairlead`):
//!
//! | key | value |
//! |---|---|
//! | `PREFIX/store` | the life record: JSON with format, incarnation, base, floor, etcd's cluster id |
//! | `PREFIX/compact` | whose turn it is to compact: JSON with the revision to compact next |
//! | `PREFIX/tick` | empty; put when a watch must learn of a revision that did not change anything of ours |
//! | `PREFIX/d` + KEY | the value of KEY |
//!
//! ## Revisions
//! The store's revision is etcd's moved by a constant of the life: the creation of the life record is the life's `base`. A new life
//! (a restore, or an etcd that went back) draws a new incarnation and moves the base past every revision of the life before,
//! and its `floor` counts as compacted, so that every watcher lists again. When other programs write to the same etcd,
//! revisions have gaps.
//!
//! Every transaction and read is fenced by the life record: a server that has not noticed a new life can neither read nor
//! write with the numbers of the old one.
//!
//! This crate must never serve a revision lower than one it has served, and never know a Kubernetes object.

mod compaction;
mod connection;
mod layout;
mod lease;
mod life;
pub mod options;
mod read;
mod snapshot;
mod store;
mod transact;
mod watch;

mod wire {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        reason = "generated from the interface's definition"
    )]

    pub(crate) mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub(crate) mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}

pub use options::{InvalidEndpoint, Options, Tls};
pub use store::EtcdStore;
