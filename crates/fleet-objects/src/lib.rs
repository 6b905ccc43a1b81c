//! The fleet's own API kinds.
