//! The Kubernetes API server library: a resource catalogue over a Store.
