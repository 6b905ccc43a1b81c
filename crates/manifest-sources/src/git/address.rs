//! Addresses of repositories: which server one is at, and where one leads that is given by the way from another.

use crate::error::Error;
use crate::shown::shown;

/// What a repository may be talked to by: nothing that runs a program or reads this machine's disk.
pub(super) const PROTOCOLS: [&str; 4] = ["https", "http", "ssh", "git"];

/// Whom credentials are for: the same host by the same protocol at the same port, and nobody else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) protocol: String,
    host: String,
    port: u16,
}

impl Server {
    /// The server of an address; nothing for a path, and for whatever two programs could read differently.
    pub(super) fn of(url: &str) -> Option<Self> {
        let (protocol, authority) = match url.split_once("://") {
            Some((protocol, rest)) => (protocol, rest.split('/').next()?),
            None => ("ssh", url.split_once(':').map(|(authority, _)| authority)?),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:@[]".contains(&byte);
        let usual = match protocol {
            "https" => 443,
            "http" => 80,
            "ssh" => 22,
            "git" => 9418,
            _ => return None,
        };
        if !authority.bytes().all(is_plain) || authority.matches('@').count() > 1 {
            return None;
        }
        let place = authority.rsplit('@').next()?;
        let end = place.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match place[end..].split_once(':') {
            Some((more, port)) => (&place[..end + more.len()], port.parse().ok()?),
            None => (place, usual),
        };
        let host = host.to_ascii_lowercase();
        (!host.is_empty()).then(|| Self { protocol: protocol.to_owned(), host, port })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", self.protocol, self.host, self.port)
    }
}

/// Where the submodule is kept that a repository at `parent` says is at `url`.
///
/// A repository's text decides nothing about this machine: a path of it is refused, unless the repository itself is at one and
/// the submodule beside it.
pub(super) fn of_submodule(parent: &str, url: &str) -> Result<String, Error> {
    let refused = |why: &str| Error::Invalid(format!("{:?} {why}", shown(url)));
    let odd = |letter: char| letter.is_control() || letter.is_whitespace() || "\\#?".contains(letter);
    if url.is_empty() || url.starts_with('-') || url.contains(odd) {
        return Err(refused("is no address of a repository"));
    }
    if url.starts_with("./") || url.starts_with("../") {
        return onward(parent, url).ok_or_else(|| refused("leads out of the server"));
    }
    let server =
        Server::of(url).filter(|_| url.contains("://") || (url.contains('@') && !url.contains("::")));
    if server.is_none() {
        return Err(refused("is not an https, ssh, git or http URL"));
    }
    let login = url.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
    if login.is_some_and(|(login, _)| login.contains(':')) {
        return Err(refused("holds a password"));
    }
    Ok(url.to_owned())
}

/// An address without what may be left out of it: a user's name, and `.git`.
pub(super) fn bare(url: &str) -> String {
    let (begins, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    format!("{begins}://{host}/{path}")
}

/// Where a way leads that begins at a repository, by git's rules: its last part is left first.
fn onward(parent: &str, way: &str) -> Option<String> {
    let (root, path) = match parent.split_once("://") {
        Some((protocol, rest)) => {
            let end = rest.find('/')?;
            parent.split_at(protocol.len() + 3 + end)
        }
        None => match parent.find(':') {
            Some(colon) if !parent[..colon].contains('/') => parent.split_at(colon + 1),
            _ => ("", parent),
        },
    };
    let begins = if path.starts_with('/') { "/" } else { "" };
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in way.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| format!("{root}{begins}{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_from_a_repository_to_another_of_its_server() {
        for (parent, way, expected) in [
            ("https://x.com/a/shop.git", "../lib.git", Some("https://x.com/a/lib.git")),
            ("https://x.com/a/shop.git/", "../../b/./lib", Some("https://x.com/b/lib")),
            ("https://x.com/a/shop", "./lib", Some("https://x.com/a/shop/lib")),
            ("https://x.com/a/shop", "../../../etc", None),
            ("https://x.com", "../lib", None),
            ("git@x.com:a/shop.git", "../lib.git", Some("git@x.com:a/lib.git")),
            ("git@x.com:shop.git", "../lib.git", Some("git@x.com:lib.git")),
            ("git@x.com:shop.git", "../../lib.git", None),
            ("/srv/git/shop", "../lib", Some("/srv/git/lib")),
        ] {
            assert_eq!(of_submodule(parent, way).ok().as_deref(), expected, "{parent} {way}");
        }
    }

    #[test]
    fn a_submodule_is_kept_at_no_path_of_this_machine_and_runs_nothing() {
        let parent = "https://x.com/a/shop.git";
        for url in [
            "https://y.com/lib",
            "http://y.com/lib",
            "ssh://git@y.com:2222/lib",
            "git://y.com/lib",
            "git@y.com:lib",
        ] {
            assert_eq!(of_submodule(parent, url).unwrap(), url);
        }
        for url in [
            "",
            "/etc",
            "lib",
            "file:///etc",
            "ext::sh -c touch",
            "ext::sh",
            "a@b::c",
            "--upload-pack=touch",
            "https://y.com/li b",
            "https://y.com/lib\nurl = x",
            "https://bot:word@y.com/lib",
            "https://evil.com#@x.com/lib",
            "https://evil.com\\@x.com/lib",
            "https://evil.com?@x.com/lib",
            "https://a@evil.com@x.com/lib",
            "https:///lib",
        ] {
            let said = of_submodule(parent, url).expect_err(url).to_string();
            assert!(!said.contains("bot:word"), "{said}");
        }
    }

    #[test]
    fn a_server_is_its_protocol_host_and_port() {
        let same = |a: &str, b: &str| Server::of(a).unwrap() == Server::of(b).unwrap();
        assert!(same("https://x.com/a", "https://git@X.com:443/b"));
        assert!(same("git@x.com:a", "ssh://other@x.com/b"));
        assert!(same("https://[::1]/a", "https://[::1]:443/b"));
        for other in ["http://x.com/a", "https://x.com:8443/a", "https://x.com.evil.com/a", "git@x.com:a"] {
            assert!(!same("https://x.com/a", other), "{other}");
        }
        assert_eq!(bare("https://me@X.com/a/b.git/"), bare("https://x.com/a/b"));
        assert_ne!(bare("https://x.com/a/b"), bare("https://x.com/a/c"));
        assert_eq!(Server::of("/srv/git"), None);
        assert_eq!(Server::of("https://x.com:port/a"), None);
    }
}
