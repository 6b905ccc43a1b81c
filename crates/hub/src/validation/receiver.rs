//! Receivers of alerts: what would be refused by the hub itself when it delivers, whatever the server says.

use std::collections::BTreeMap;

use fleet_objects::alert::{AlertReceiverSpec, EmailReceiver, MailTls, SecretKey};
use fleet_planner::validation::{FieldError, FieldPath};

use super::nameless;
use crate::alerts::mail;
use crate::outbound::{self, Refusal};

/// Everything that keeps a notice from ever being sent. Whether Secrets are there, and servers answer, is found out then.
pub(super) fn problems(spec: &AlertReceiverSpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut found = Found(Vec::new());
    let given = [spec.webhook.is_some(), spec.alertmanager.is_some(), spec.email.is_some()];
    match given.iter().filter(|given| **given).count() {
        1 => {}
        0 => found.0.push(FieldError::required(&at, "exactly one of webhook, alertmanager and email")),
        _ => found.wrong(&at, "exactly one of webhook, alertmanager and email may be given"),
    }
    if let Some(to) = &spec.webhook {
        let at = at.child("webhook");
        found.server(&at, &to.url, &to.headers, to.ca_bundle.as_deref());
        found.key(&at.child("secret"), to.secret.as_ref());
    }
    if let Some(to) = &spec.alertmanager {
        let at = at.child("alertmanager");
        found.server(&at, &to.url, &to.headers, to.ca_bundle.as_deref());
        found.key(&at.child("token"), to.token.as_ref());
    }
    if let Some(to) = &spec.email {
        found.email(&at.child("email"), to);
    }
    found.0
}

struct Found(Vec<FieldError>);

impl Found {
    fn wrong(&mut self, at: &FieldPath, detail: impl Into<String>) {
        self.0.push(nameless(at, detail));
    }

    fn refused<T>(&mut self, at: &FieldPath, outcome: Result<T, Refusal>) {
        if let Err(refusal) = outcome {
            self.wrong(at, refusal.message);
        }
    }

    fn server(
        &mut self,
        at: &FieldPath,
        url: &str,
        headers: &BTreeMap<String, String>,
        authorities: Option<&str>,
    ) {
        self.refused(&at.child("url"), outbound::target(url));
        for (name, value) in headers {
            self.refused(&at.child("headers").key(name), outbound::header(name, value));
        }
        if let Some(pem) = authorities {
            self.refused(&at.child("caBundle"), outbound::authorities(pem));
        }
    }

    fn key(&mut self, at: &FieldPath, key: Option<&SecretKey>) {
        let Some(SecretKey { name, key }) = key else { return };
        for (field, text) in [("name", name), ("key", key)] {
            if text.is_empty() {
                self.0.push(FieldError::required(&at.child(field), ""));
            }
        }
    }

    fn email(&mut self, at: &FieldPath, to: &EmailReceiver) {
        self.refused(&at.child("server"), mail::server(&to.server));
        self.refused(&at.child("from"), mail::mailbox(&to.from));
        self.refused(&at.child("to"), mail::recipients(to));
        for (index, recipient) in to.to.iter().enumerate() {
            self.refused(&at.child("to").index(index), mail::mailbox(recipient));
        }
        if to.tls != MailTls::None && to.ca_bundle.is_some() {
            self.refused(&at.child("caBundle"), mail::trust(to, "localhost"));
        }
        if to.username.is_some() && to.tls == MailTls::None {
            self.wrong(&at.child("username"), mail::NO_PASSWORD_IN_THE_CLEAR);
        } else if to.username.is_some() && to.password.is_none() {
            self.0.push(FieldError::required(&at.child("password"), "whoever logs in needs one"));
        }
        self.key(&at.child("password"), to.password.as_ref());
    }
}
