//! Addresses as messages may hold them.

/// An address without what may be a secret in it: who logs in, and what follows a `?`.
pub(crate) fn shown(url: &str) -> String {
    let (login, place) = url.rsplit_once('@').map_or((None, url), |(login, place)| (Some(login), place));
    let login = match login.map(|login| (login, login.split_once("://"))) {
        None => String::new(),
        Some((_, Some((scheme, _)))) => format!("{scheme}://…@"),
        // `user@host:path`: SSH takes no password there.
        Some((user, None)) if !user.contains([':', '/', '?']) => format!("{user}@"),
        Some(_) => "…@".to_owned(),
    };
    let (place, query) = place.split_once('?').map_or((place, ""), |(place, _)| (place, "?…"));
    format!("{login}{place}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_may_be_a_secret_is_shown() {
        for (url, expected) in [
            ("https://x.com/a", "https://x.com/a"),
            ("https://bot:word@x.com/a", "https://…@x.com/a"),
            ("https://token@x.com/a", "https://…@x.com/a"),
            ("oci://bot:wo@rd/@x.com/a?b", "oci://…@x.com/a?…"),
            ("https://x.com/a?token=word", "https://x.com/a?…"),
            ("git@x.com:a", "git@x.com:a"),
            ("bot:word@x.com:a", "…@x.com:a"),
            ("https://bot:wo?rd@x.com/a", "https://…@x.com/a"),
            ("", ""),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
