//! Links of pages that came through the proxy (upstream `util/proxy.Transport`). Pure.

use std::io::{Read as _, Write as _};

/// Tags and those of their attributes that hold URLs.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// How one request's links are rewritten.
#[derive(Debug)]
pub(super) struct Links {
    /// The path up to `proxy`, without a slash behind it.
    prefix: String,
    /// The pod's address and port.
    target: String,
    /// The host the client asked.
    pub(super) host: String,
}

impl Links {
    pub(super) fn new(prefix: String, target: String, host: String) -> Self {
        Self { prefix, target, host }
    }

    /// The path the client asked for.
    pub(super) fn forwarded(&self, tail: &str) -> String {
        let mut path = self.prefix.clone();
        for part in tail.split('/').filter(|part| !part.is_empty()) {
            path.push('/');
            path.push_str(part);
        }
        if tail.ends_with('/') || tail.is_empty() {
            path.push('/');
        }
        path
    }

    /// A link to the same host with a whole path goes through the proxy; every other stays.
    pub(super) fn rewrite(&self, link: &str) -> String {
        let (authority, rest) = match link.split_once("://") {
            Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some((scheme, &rest[..end])), &rest[end..])
            }
            _ => match link.strip_prefix("//") {
                Some(rest) => {
                    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                    (Some(("", &rest[..end])), &rest[end..])
                }
                None => (None, link),
            },
        };
        let foreign = authority.is_some_and(|(_, host)| host != self.target && host != self.host);
        if foreign || !rest.starts_with('/') {
            return link.to_owned();
        }
        let own_host = authority.filter(|(_, host)| *host == self.host);
        let start = own_host.map_or(String::new(), |(scheme, host)| match scheme {
            "" => format!("//{host}"),
            scheme => format!("{scheme}://{host}"),
        });
        let through = if rest.starts_with(&self.prefix) { "" } else { &self.prefix };
        format!("{start}{through}{rest}")
    }

    /// A page with its links rewritten.
    pub(super) fn page(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + page.len() / 8);
        let mut rest = page;
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            let (text, tag) = rest.split_at(start);
            out.extend_from_slice(text);
            let length = if tag.starts_with(b"<!--") {
                find(tag, b"-->").map_or(tag.len(), |end| end + 3)
            } else {
                tag_length(tag)
            };
            let (whole, behind) = tag.split_at(length);
            let name = tag_name(whole);
            self.tag(whole, &name, &mut out);
            rest = behind;
            if matches!(name.as_str(), "script" | "style" | "textarea" | "title") {
                // Their content is text, whatever it looks like.
                let close = find_ignoring_case(rest, format!("</{name}").as_bytes()).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..close]);
                rest = &rest[close..];
            }
        }
        out.extend_from_slice(rest);
        out
    }

    /// The same for a packed page; `None` when it cannot be unpacked within `limit`.
    pub(super) fn gzipped(&self, page: &[u8], limit: usize) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        let unpacker = flate2::read::GzDecoder::new(page);
        unpacker.take(limit as u64 + 1).read_to_end(&mut plain).ok()?;
        if plain.len() > limit {
            return None;
        }
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&self.page(&plain)).ok()?;
        packer.finish().ok()
    }

    fn tag(&self, tag: &[u8], name: &str, out: &mut Vec<u8>) {
        let wanted = ATTRIBUTES.iter().find(|(own, _)| *own == name).map(|(_, attributes)| *attributes);
        let Some(wanted) = wanted else { return out.extend_from_slice(tag) };
        let mut at = 1 + name.len();
        let mut copied = 0;
        while let Some(attribute) = Attribute::next(tag, &mut at) {
            if !wanted.contains(&attribute.name.as_str()) {
                continue;
            }
            let Some(value) = tag.get(attribute.value.clone()) else { continue };
            let Ok(value) = std::str::from_utf8(value) else { continue };
            out.extend_from_slice(&tag[copied..attribute.value.start]);
            out.extend_from_slice(self.rewrite(value).as_bytes());
            copied = attribute.value.end;
        }
        out.extend_from_slice(&tag[copied..]);
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn find_ignoring_case(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what))
}

/// The name of a start tag in lower case; "" for everything else.
fn tag_name(tag: &[u8]) -> String {
    let letters = tag.iter().skip(1).take_while(|byte| byte.is_ascii_alphanumeric());
    letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// Bytes of a tag with its angle brackets, minding quotes; a lone bracket is one.
fn tag_length(tag: &[u8]) -> usize {
    if !tag.get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?')) {
        return 1;
    }
    let mut quote = None;
    for (index, byte) in tag.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (None, b'"' | b'\'') => quote = Some(*byte),
            (None, b'>') => return index + 1,
            _ => {}
        }
    }
    tag.len()
}

struct Attribute {
    name: String,
    value: std::ops::Range<usize>,
}

impl Attribute {
    /// The next attribute with a value behind `at`.
    fn next(tag: &[u8], at: &mut usize) -> Option<Self> {
        loop {
            let skip = |from: usize, wanted: fn(u8) -> bool| {
                tag.get(from..)
                    .map_or(from, |rest| from + rest.iter().take_while(|byte| wanted(**byte)).count())
            };
            let start = skip(*at, |byte| byte.is_ascii_whitespace() || byte == b'/');
            let end = skip(start, |byte| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'>' | b'/'));
            if start == end {
                let byte = tag.get(end)?;
                if *byte == b'>' {
                    return None;
                }
                *at = end + 1;
                continue;
            }
            let name = String::from_utf8_lossy(&tag[start..end]).to_ascii_lowercase();
            let equals = skip(end, |byte| byte.is_ascii_whitespace());
            if tag.get(equals) != Some(&b'=') {
                *at = end;
                continue;
            }
            let first = skip(equals + 1, |byte| byte.is_ascii_whitespace());
            let value = match tag.get(first)? {
                quote @ (b'"' | b'\'') => {
                    let length = tag[first + 1..].iter().position(|byte| byte == quote)?;
                    *at = first + 1 + length + 1;
                    first + 1..first + 1 + length
                }
                _ => {
                    *at = skip(first, |byte| !byte.is_ascii_whitespace() && byte != b'>');
                    first..*at
                }
            };
            return Some(Self { name, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links() -> Links {
        Links::new("/api/v1/p/proxy".to_owned(), "10.0.0.1:80".to_owned(), "server:6443".to_owned())
    }

    #[test]
    fn links_to_the_same_host_go_through_the_proxy() {
        for (link, want) in [
            ("/rewriteme", "/api/v1/p/proxy/rewriteme"),
            ("/", "/api/v1/p/proxy/"),
            ("relative", "relative"),
            ("../up", "../up"),
            ("#part", "#part"),
            ("http://10.0.0.1:80/a?b#c", "/api/v1/p/proxy/a?b#c"),
            ("//10.0.0.1:80/a", "/api/v1/p/proxy/a"),
            ("https://server:6443/a", "https://server:6443/api/v1/p/proxy/a"),
            ("/api/v1/p/proxy/there/already", "/api/v1/p/proxy/there/already"),
            ("https://elsewhere/a", "https://elsewhere/a"),
            ("mailto:x@y", "mailto:x@y"),
            ("", ""),
        ] {
            assert_eq!(links().rewrite(link), want, "{link}");
        }
    }

    #[test]
    fn pages_are_rewritten_where_links_stand() {
        for (page, want) in [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/api/v1/p/proxy/rewriteme">test</a>"#),
            ("<IMG alt=x SRC='/a>b'/>/c", "<IMG alt=x SRC='/api/v1/p/proxy/a>b'/>/c"),
            ("<a href=/x>", "<a href=/api/v1/p/proxy/x>"),
            (r#"<!-- <a href="/x"> -->"#, r#"<!-- <a href="/x"> -->"#),
            (
                r#"<script src="/s.js">"<a href='/x'>"</script><p title="/x">1 < 2"#,
                r#"<script src="/api/v1/p/proxy/s.js">"<a href='/x'>"</script><p title="/x">1 < 2"#,
            ),
            ("<a href=", "<a href="),
        ] {
            assert_eq!(String::from_utf8_lossy(&links().page(page.as_bytes())), want);
        }
    }

    #[test]
    fn packed_pages_are_rewritten_too() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"<a href=\"/x\">").expect("packed");
        let packed = packer.finish().expect("packed");
        let rewritten = links().gzipped(&packed, 100).expect("within the limit");
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&rewritten[..]).read_to_string(&mut plain).expect("unpacked");
        assert_eq!(plain, "<a href=\"/api/v1/p/proxy/x\">");
        assert_eq!(links().gzipped(&packed, 4), None);
    }

    #[test]
    fn the_forwarded_path_is_the_clients() {
        assert_eq!(links().forwarded("/a//b"), "/api/v1/p/proxy/a/b");
        assert_eq!(links().forwarded("/"), "/api/v1/p/proxy/");
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(page in "[<>a/='\" hrefsrc!-]{0,60}") {
            let rewritten = links().page(page.as_bytes());
            prop_assert!(rewritten.len() >= page.len());
        }
    }
}
