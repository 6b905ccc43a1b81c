//! OCI images offline: archives, and the tool image made of our own binary.
