//! Small languages in query parameters and fields.

use std::borrow::Cow;
use std::str::FromStr;

use api_machinery::quantity::Quantity;
use api_machinery::selector::{FieldSelector, LabelSelector};
use kind_rules::addresses::{parse_cidr_sloppy, parse_sloppy};
use kind_rules::net::parse_cidr;
use serde_json::json;

fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// What is read is written as something that reads as the same and selects the same.
pub(super) fn label_selector(input: &[u8]) {
    let Some(Ok(selector)) = text(input).map(LabelSelector::from_str) else { return };
    let written = selector.to_string();
    let again: LabelSelector = written.parse().unwrap_or_else(|error| panic!("{written:?}: {error}"));
    assert_eq!(again, selector, "{written:?} reads as something else");
    for labels in [json!({}), json!({"a": "b"}), json!({"a": "5", "a.b/c": ""})] {
        let object = json!({"metadata": {"labels": labels}});
        assert_eq!(again.matches_object(&object), selector.matches_object(&object));
    }
}

/// Terms hold or do not, whatever the values.
pub(super) fn field_selector(input: &[u8]) {
    let Some(Ok(selector)) = text(input).map(FieldSelector::from_str) else { return };
    let everywhere = |value: &'static str| selector.matches(|_| Cow::Borrowed(value));
    if selector.is_everything() {
        assert!(everywhere("") && everywhere("a"));
    }
    if let Some(wanted) = selector.required_value("metadata.name") {
        let other = format!("{wanted}x");
        assert!(!selector.matches(|_| Cow::Owned(other.clone())), "{wanted:?} is not required");
    }
}

/// The canonical form means the same, stays as it is, and sums with nothing.
pub(super) fn quantity(input: &[u8]) {
    let Some(Ok(quantity)) = text(input).map(Quantity::from_str) else { return };
    let written = quantity.to_string();
    let again: Quantity = written.parse().unwrap_or_else(|error| panic!("{written:?}: {error}"));
    assert_eq!(again, quantity, "{written:?} is another amount");
    assert_eq!(again.to_string(), written, "the canonical form has another one");
    assert_eq!(quantity.plus(&Quantity::ZERO), quantity);
    assert!(quantity.minus(&quantity).is_zero());
}

/// Addresses and networks, as Go reads them and as it used to.
pub(super) fn address(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Some(address) = parse_sloppy(text) {
        let written = kind_rules::addresses::canonical(address);
        assert!(parse_sloppy(&written).is_some(), "{written:?} is no address");
    }
    let _ = parse_cidr(text);
    if let Some((_, length)) = parse_cidr_sloppy(text) {
        assert!(length <= 128, "{text:?} has {length} bits");
    }
}

/// A cron job's schedule and time zone: validated, never run.
pub(super) fn schedule(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let (schedule, zone) = text.split_once('|').unwrap_or((text, "Etc/UTC"));
    let mut problems = kind_rules::problems::Problems::default();
    let job = json!({"spec": {"schedule": schedule, "timeZone": zone, "jobTemplate": {"spec": {}}}});
    (kind_rules::batch::cron_job::RULES.validate)(&mut problems, &job);
}
