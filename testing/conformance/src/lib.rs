//! What Kubernetes clients need of an API server, asserted over HTTP alone: the subject is any kubeconfig.
//!
//! * [`subject`]: the server under test, and a namespace for each case.
//! * [`watching`]: a watch read frame by frame.
//! * [`case`](mod@case): a case, what it needs, which of Kubernetes' own conformance tests say the same.
//! * [`cases`]: all of them, a file for each topic.
//! * [`report`]: outcomes as a table and as JUnit.
//!
//! A case asserts only what a real kube-apiserver of the same minor version does too; the suite is run against one whenever
//! a kubeconfig of one is given (`conformance --kubeconfig FILE`). It must never import anything of the server it tests, and
//! never leave anything behind that outlives its namespace, but for what it names after that namespace and deletes.

pub mod case;
pub mod cases;
pub mod report;
pub mod subject;
pub mod watching;
