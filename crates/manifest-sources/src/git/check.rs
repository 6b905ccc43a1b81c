//! What of a repository can be told without asking anybody: its address, what of it is wanted, and by whom it must be signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::address::PROTOCOLS;
use super::{Reference, Signed};
use crate::error::Error;
use crate::shown::shown;

/// Checks that an address is a server's that a hub may fetch from, and holds no password.
///
/// # Errors
/// When it is not.
pub fn check_url(url: &str) -> Result<(), Error> {
    no_option(url)?;
    let invalid = |why: &str| Err(Error::Invalid(why.to_owned()));
    let parts = url.split_once("://");
    let authority = parts.and_then(|(_, rest)| rest.split('/').next());
    let login = authority.and_then(|authority| authority.rsplit_once('@'));
    if login.is_some_and(|(login, _)| login.contains(':')) {
        return invalid("the repository's URL holds a password, which belongs into a Secret");
    }
    match parts.map(|(scheme, _)| scheme) {
        Some(scheme) if PROTOCOLS.contains(&scheme) => {}
        None if url.contains('@') && url.contains(':') && !url.contains("::") => {}
        _ => return invalid("the repository must be given by an https, ssh, git or http URL"),
    }
    let host = authority.map(|authority| login.map_or(authority, |(_, host)| host));
    if host.is_some_and(str::is_empty) || url.contains(char::is_control) {
        return invalid("the repository's URL names no server");
    }
    Ok(())
}

/// Refuses an address that a program would take for an option.
pub(super) fn no_option(url: &str) -> Result<(), Error> {
    if url.starts_with('-') {
        return Err(Error::Invalid(format!("{} may not begin with a dash", shown(url))));
    }
    Ok(())
}

/// Checks that a name may be a branch's, tag's or commit's, and that a commit is all of one.
///
/// # Errors
/// When it is not.
pub fn check_reference(reference: &Reference) -> Result<(), Error> {
    let name = match reference {
        Reference::Head => return Ok(()),
        Reference::Name(name) | Reference::Branch(name) | Reference::Tag(name) | Reference::Commit(name) => {
            name.as_str()
        }
    };
    if name.starts_with('-') {
        return Err(Error::Invalid(format!("{name} may not begin with a dash")));
    }
    let odd = |letter: char| letter.is_control() || " :*?[\\^~".contains(letter);
    if name.is_empty() || name.contains(odd) || name.contains("..") {
        return Err(Error::Invalid(format!("{name:?} is no name of a branch, tag or commit")));
    }
    let whole = matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if matches!(reference, Reference::Commit(_)) && !whole {
        return Err(Error::Invalid(format!("{name:?} is no commit: 40 hexadecimal digits are")));
    }
    Ok(())
}

/// Checks that what must be signed is named.
///
/// # Errors
/// When a tag must be, and none is.
pub fn check_signed(reference: &Reference, signed: Signed) -> Result<(), Error> {
    match signed {
        Signed::Commit => Ok(()),
        Signed::Tag | Signed::TagAndCommit => signed_tag(reference).map(drop),
    }
}

/// The tag that must be signed.
pub(super) fn signed_tag(reference: &Reference) -> Result<&str, Error> {
    match reference {
        Reference::Tag(name) => Ok(name),
        _ => Err(Error::Invalid("a signed tag is asked for, and no tag is named".to_owned())),
    }
}

/// Checks that every line of an `allowed_signers` file (ssh-keygen(1)) names somebody and a public key that can be read, and
/// that there is one. `ssh-keygen` itself says of a file that it cannot read only that nobody signed.
///
/// # Errors
/// The first line that does not.
pub fn check_signers(text: &str) -> Result<(), Error> {
    let invalid = |why: String| Error::Invalid(format!("the allowed signers: {why}"));
    let mut found = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !names_key(line) {
            let number = index + 1;
            return Err(invalid(format!("line {number} does not hold a principal and a public key")));
        }
        found = true;
    }
    if found { Ok(()) } else { Err(invalid("there is none".to_owned())) }
}

/// Whether a line is `PRINCIPALS [OPTIONS] TYPE KEY [COMMENT]`.
fn names_key(line: &str) -> bool {
    let words = words(line);
    // Options may be missing, and nothing tells them from a type but what follows.
    (1..=2).any(|at| words.get(at).zip(words.get(at + 1)).is_some_and(|(kind, key)| is_key(kind, key)))
}

/// Words between white space outside of quotes.
fn words(line: &str) -> Vec<&str> {
    let mut quoted = false;
    let between = |letter: char| {
        quoted ^= letter == '"';
        letter.is_whitespace() && !quoted
    };
    line.split(between).filter(|word| !word.is_empty()).collect()
}

/// Whether a key is one of the type that is said of it: strings with their lengths before them, the first its type (RFC 4253,
/// section 6.6), and nothing after them. A certificate is not looked into further.
fn is_key(kind: &str, key: &str) -> bool {
    let Ok(blob) = STANDARD.decode(key) else { return false };
    let Some((own, mut rest)) = string(&blob) else { return false };
    if own != kind.as_bytes() || rest.is_empty() {
        return false;
    }
    while !rest.is_empty() && !kind.contains("-cert-") {
        match string(rest) {
            Some((part, after)) if !part.is_empty() => rest = after,
            _ => return false,
        }
    }
    true
}

fn string(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIB8ffaz9Ywm5WXzWQ3pqYwVgqF6Oe3eU2Sl5QmPdF1Jm";

    #[test]
    fn signers_are_lines_with_a_principal_and_a_whole_key() {
        let line = |before: &str| format!("{before} ssh-ed25519 {KEY}");
        for good in [
            line("me@example.com"),
            format!("# whoever releases\n\n  {} me\r\n{}\n", line("me@example.com,*@x.com"), line("b")),
            line("me@example.com namespaces=\"git,file\",valid-after=\"2026 01 01\""),
            line("\"me and you\" cert-authority"),
        ] {
            assert!(check_signers(&good).is_ok(), "{good}: {:?}", check_signers(&good));
        }
        for (wrong, part) in [
            (String::new(), "there is none"),
            ("\n# nobody\n".to_owned(), "there is none"),
            (format!("ssh-ed25519 {KEY}"), "line 1 does not hold"),
            (format!("{}\nb ssh-rsa {KEY}", line("a")), "line 2 does not hold"),
            ("me@example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9Q".to_owned(), "line 1 does not hold"),
            (format!("me@example.com ssh-ed25519 {}", &KEY[..67]), "line 1 does not hold"),
            ("me@example.com ssh-ed25519 AAAA…".to_owned(), "line 1 does not hold"),
            ("me@example.com ssh-ed25519 /////w==".to_owned(), "line 1 does not hold"),
            ("me@example.com namespaces=\"git".to_owned(), "line 1 does not hold"),
        ] {
            let said = check_signers(&wrong).unwrap_err().to_string();
            assert!(said.contains(part), "{wrong}: {said}");
        }
    }

    #[test]
    fn an_address_is_a_servers() {
        for good in ["https://x.com/a", "ssh://git@x.com:2222/a", "git@x.com:a", "http://me@[::1]/a"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for (wrong, part) in [
            ("", "must be given by"),
            ("https:///a", "names no server"),
            ("ssh://git@/a", "names no server"),
            ("https://x.com/a\nb", "names no server"),
            ("https://bot:word@x.com/a", "belongs into a Secret"),
        ] {
            let said = check_url(wrong).unwrap_err().to_string();
            assert!(said.contains(part) && !said.contains("word@"), "{wrong}: {said}");
        }
    }
}
