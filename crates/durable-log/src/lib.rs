//! Bounded append-only segments with acknowledged reads.
