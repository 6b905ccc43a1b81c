//! `windowsOptions`.

use serde_json::Value;

use crate::json::given;
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

const SPEC_KIB: usize = 64;
const DOMAIN_CHARACTERS: usize = 256;
const USER_CHARACTERS: usize = 104;
const FORBIDDEN_IN_USERS: &[u8] = br#""/\:;|=,+*?<>@[]"#;

/// Options of a Windows pod or container.
pub(super) fn options(problems: &mut Problems, at: &Path<'_>, options: &Value) {
    let option = |key: &str| given(options, key).and_then(Value::as_str);
    if let Some(name) = option("gmsaCredentialSpecName") {
        problems.check(at.field("gmsaCredentialSpecName"), name, names::dns1123_subdomain);
    }
    if let Some(spec) = option("gmsaCredentialSpec") {
        let at = at.field("gmsaCredentialSpec");
        if spec.is_empty() {
            problems.invalid(at, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > SPEC_KIB * 1024 {
            problems.invalid(at, spec, &format!("gmsaCredentialSpec size must be under {SPEC_KIB} KiB"));
        }
    }
    if let Some(name) = option("runAsUserName") {
        for why in user_name(name) {
            problems.invalid(at.field("runAsUserName"), name, &format!("runAsUserName{why}"));
        }
    }
}

/// What is wrong with `[domain\]user`.
fn user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec![" cannot be an empty string".to_owned()];
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return vec![" cannot contain control characters".to_owned()];
    }
    if name.matches('\\').count() > 1 {
        return vec![" cannot contain more than one backslash".to_owned()];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut found = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_CHARACTERS) {
        found.push(format!("'s Domain length must be under {DOMAIN_CHARACTERS} characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        found.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        found.push("'s User cannot be empty".to_owned());
    } else if user.len() > USER_CHARACTERS {
        found.push(format!("'s User length must not be longer than {USER_CHARACTERS} characters"));
    }
    if !user.is_empty() && user.bytes().all(|b| matches!(b, b'.' | b' ')) {
        found.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.bytes().any(|b| FORBIDDEN_IN_USERS.contains(&b)) {
        found.push(r#"'s User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.to_owned());
    }
    found
}

fn is_net_bios(domain: &str) -> bool {
    let fits = |c: char| !matches!(c, '\\' | '/' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    (1..=15).contains(&domain.chars().count()) && domain.chars().all(fits) && !domain.starts_with('.')
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::user_name;

    #[test]
    fn users_of_windows() {
        for fine in ["ContainerAdministrator", "CONTOSO\\bob", "corp.example.com\\svc"] {
            assert!(user_name(fine).is_empty(), "{fine}");
        }
        for bad in ["", "a\\b\\c", "a\\", ".x\\u", "a\nb", "..", "a/b", "dom\\a:b"] {
            assert!(!user_name(bad).is_empty(), "{bad:?}");
        }
    }
}
