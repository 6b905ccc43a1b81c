//! Names: DNS configuration, host aliases, the pod's own host name.

use serde_json::Value;

use crate::addresses;
use crate::json::{given, list, text, texts, truth};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// What a resolver takes (upstream's `MaxDNS…`).
const NAMESERVERS: usize = 3;
const SEARCH_PATHS: usize = 32;
const SEARCH_CHARACTERS: usize = 2048;
/// What Linux keeps of a host name.
const HOSTNAME_BYTES: usize = 64;

/// `dnsConfig`, with `dnsPolicy`.
pub(super) fn config(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let config = given(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            return problems.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
        };
        if list(config, "nameservers").is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return problems.required(at.field("nameservers"), why);
        }
    }
    let Some(config) = config else { return };
    let servers = at.field("nameservers");
    if list(config, "nameservers").len() > NAMESERVERS {
        let why = format!("must not have more than {NAMESERVERS} nameservers");
        problems.invalid(servers, &config["nameservers"], &why);
    }
    for (index, server) in texts(config, "nameservers").enumerate() {
        addresses::legacy_ip(problems, servers.index(index), server, &[]);
    }
    searches(problems, &at.field("searches"), config);
    for (index, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            problems.required(at.field("options").index(index), "must not be empty");
        }
    }
}

fn searches(problems: &mut Problems, at: &Path<'_>, config: &Value) {
    let count = list(config, "searches").len();
    if count > SEARCH_PATHS {
        let why = format!("must not have more than {SEARCH_PATHS} search paths");
        problems.invalid(at, &config["searches"], &why);
    }
    let characters = texts(config, "searches").map(str::len).sum::<usize>() + count.saturating_sub(1);
    if characters > SEARCH_CHARACTERS {
        let why = format!(
            "must not have more than {SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        problems.invalid(at, &config["searches"], &why);
    }
    for (index, search) in texts(config, "searches").enumerate() {
        if search != "." {
            let search = search.strip_suffix('.').unwrap_or(search);
            problems.check(at.index(index), search, names::subdomain_with_underscore);
        }
    }
}

/// `hostAliases`.
pub(super) fn host_aliases(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let at = at.index(index);
        addresses::legacy_ip(problems, at.field("ip"), text(alias, "ip"), &[]);
        for (number, name) in texts(alias, "hostnames").enumerate() {
            problems.check(at.field("hostnames").index(number), name, names::dns1123_subdomain);
        }
    }
}

/// `hostnameOverride`.
pub(super) fn host_name(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let Some(name) = given(spec, "hostnameOverride").and_then(Value::as_str) else { return };
    let at = at.field("hostnameOverride");
    if truth(spec, "setHostnameAsFQDN") {
        problems.forbidden(at, "may not be specified when setHostnameAsFQDN is true");
    }
    if truth(spec, "hostNetwork") {
        problems.forbidden(at, "may not be specified when hostNetwork is true");
    }
    if name.len() > HOSTNAME_BYTES {
        problems.too_many_bytes(at, HOSTNAME_BYTES);
    }
    problems.check(at, name, names::dns1123_subdomain);
}
