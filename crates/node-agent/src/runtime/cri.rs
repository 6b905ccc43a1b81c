//! Containers over CRI.
