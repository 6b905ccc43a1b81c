//! What Kubernetes clients need of an API server, asserted over HTTP alone: the subject is any kubeconfig.
//!
//! * [`subject`]: the server under test, and a namespace for each case.
//! * [`watching`]: a watch read frame by frame.
//! * [`case`](mod@case): a case, what it needs, which of Kubernetes' own conformance tests say the same.
//! * [`cases`]: all of them, a file for each topic.
//! * [`custom_kind`]: a kind that a case defines.
//! * [`extension`]: a server of the suite's own that the subject calls: webhooks, an aggregated API.
//! * [`official`]: titles of Kubernetes' conformance tests, and which of them some case covers.
//! * [`operations`]: every verb of a kind, one after the other.
//! * [`report`]: outcomes as a table and as JUnit.
//!
//! A case asserts only what a real kube-apiserver of the same minor version does too; the suite is run against one whenever
//! a kubeconfig of one is given (`conformance --kubeconfig FILE`). It must never import anything of the server it tests, and
//! never leave anything behind that outlives its namespace, but for what it names after that namespace and deletes.

pub mod case;
pub mod cases;
pub mod custom_kind;
pub mod extension;
pub mod official;
pub mod operations;
pub mod report;
pub mod subject;
pub mod watching;
