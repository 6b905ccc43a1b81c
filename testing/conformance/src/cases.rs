//! All cases, a file for each topic.

use futures::StreamExt as _;

use crate::case::Case;
use crate::report;
use crate::subject::Subject;

mod access;
mod aggregation;
mod apply;
mod certificates;
mod chunks;
mod conversion;
mod custom_fields;
mod custom_resources;
mod definitions;
mod deletion;
mod discovery;
mod forms;
mod kinds;
mod limits;
mod lists;
mod media_types;
mod namespaces;
mod options;
mod ownership;
mod patches;
mod pods;
mod policies;
mod published;
mod races;
mod service_accounts;
mod services;
mod startup;
mod status_errors;
mod validation;
mod watches;
mod webhooks;

/// Cases that run at once; each has a namespace of its own.
const AT_ONCE: usize = 8;

/// Every case, by topic.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        status_errors::CASES,
        discovery::CASES,
        media_types::CASES,
        lists::CASES,
        watches::CASES,
        webhooks::CASES,
        definitions::CASES,
        published::CASES,
        custom_fields::CASES,
        conversion::CASES,
        aggregation::CASES,
        patches::CASES,
        apply::CASES,
        validation::CASES,
        deletion::CASES,
        custom_resources::CASES,
        &kinds::cases(),
        certificates::CASES,
        service_accounts::CASES,
        access::CASES,
        options::CASES,
        pods::CASES,
        limits::CASES,
        forms::CASES,
        startup::CASES,
        ownership::CASES,
        services::CASES,
        races::CASES,
        policies::CASES,
        namespaces::CASES,
        chunks::CASES,
    ]
    .concat()
}

/// Runs cases; answers their outcomes in their order.
pub async fn run(subject: &Subject, cases: Vec<Case>) -> Vec<report::Result> {
    futures::stream::iter(cases)
        .map(|case| async move {
            let (outcome, took) = case.outcome(subject).await;
            (case, outcome, took)
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}
