//! Typed and dynamic Kubernetes client over HTTP or in process.
