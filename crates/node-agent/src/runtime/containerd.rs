//! A private containerd.
