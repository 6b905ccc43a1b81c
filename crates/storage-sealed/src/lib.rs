//! Encryption at rest: a [`storage::Store`] around any other whose chosen values are sealed before the engine sees them.
//! The engine, its files, its snapshots and whoever serves it (etcd) hold ciphertext only.
//!
//! * [`configuration`]: which resources, with which keys: Kubernetes' `EncryptionConfiguration`.
//! * [`envelope`]: how a value is sealed: by a data key, which is sealed by the configured key.
//! * [`store`]: the store around a store.
//! * [`rewrite`]: sealing anew what was written plain or with an older key.
//!
//! A sealed value belongs to its key in the store: nobody who can write the engine moves one Secret to another's place. This
//! crate must never print a key or a value, and never write a value plain that its configuration wants sealed.

pub mod configuration;
pub mod envelope;
pub mod rewrite;
pub mod store;

pub use configuration::{Configuration, ConfigurationError};
pub use envelope::KeyRing;
pub use rewrite::Rewritten;
pub use store::{SealedStore, Sealer};
