//! URLs, as Go's `net/url` reads absolute ones.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Implementation, fail, no_overload};
use crate::cel::error::EvalError;
use crate::cel::value::{Library, Map, Result, Value, texts};

/// A URL in its parts.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "url" => |args| match Url::parse(text(args)?) {
            Ok(url) => Ok(Value::library(Library::Url(url))),
            Err(why) => fail(format!("URL parse error during conversion from string: {why}")),
        },
        "isURL" => |args| text(args).map(|text| Value::Bool(Url::parse(text).is_ok())),
        "getScheme" => |args| part(args, |url| url.scheme.clone()),
        "getHost" => |args| part(args, |url| url.host.clone()),
        "getHostname" => |args| part(args, |url| url.host_and_port().0.to_owned()),
        "getPort" => |args| part(args, |url| url.host_and_port().1.to_owned()),
        "getEscapedPath" => |args| part(args, |url| escaped(&url.path)),
        "getQuery" => |args| one(args).map(query),
        _ => return None,
    })
}

type Out<T> = std::result::Result<T, EvalError>;

fn text<'v>(args: &'v [Value<'_>]) -> Out<&'v str> {
    match args {
        [text] => text.as_str().ok_or_else(EvalError::no_such_overload),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn one<'v>(args: &'v [Value<'_>]) -> Out<&'v Url> {
    match args {
        [Value::Library(library)] => match &**library {
            Library::Url(url) => Ok(url),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Url) -> String) -> Result<'a> {
    one(args).map_or_else(|_| no_overload(), |url| Ok(Value::text(of(url))))
}

impl Url {
    /// Takes absolute URLs and absolute paths, as `url.ParseRequestURI`.
    pub(crate) fn parse(text: &str) -> std::result::Result<Self, String> {
        let fail = |why: &str| Err(format!("parse {text:?}: {why}"));
        if text.is_empty() {
            return fail("empty url");
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return fail("net/url: invalid control character in URL");
        }
        let (rest, _) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = match scheme(rest) {
            Ok(split) => split,
            Err(why) => return fail(why),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            return match scheme.is_empty() {
                true => fail("invalid URI for request"),
                false if rest.is_empty() => fail("invalid URI for request"),
                false => Ok(Self {
                    text: text.to_owned(),
                    scheme,
                    host: String::new(),
                    path: String::new(),
                    query: query.to_owned(),
                }),
            };
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
                let end = after.find('/').unwrap_or(after.len());
                (&after[..end], &after[end..])
            }
            _ => ("", rest),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if let Err(why) = check_host(host) {
            return fail(&why);
        }
        if let Some(why) = bad_escape(path) {
            return fail(&why);
        }
        Ok(Self {
            text: text.to_owned(),
            scheme,
            host: unescaped(host, false),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The host without brackets, and the port.
    fn host_and_port(&self) -> (&str, &str) {
        let host = self.host.as_str();
        if let Some(inner) = host.strip_prefix('[') {
            let (name, rest) = inner.split_once(']').unwrap_or((inner, ""));
            return (name, rest.strip_prefix(':').unwrap_or(""));
        }
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
            _ => (host, ""),
        }
    }
}

fn scheme(text: &str) -> std::result::Result<(String, &str), &'static str> {
    for (at, letter) in text.char_indices() {
        match letter {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn check_host(host: &str) -> std::result::Result<(), String> {
    if let Some(inner) = host.strip_prefix('[') {
        let Some((_, rest)) = inner.split_once(']') else { return Err("missing ']' in host".to_owned()) };
        return check_port(rest);
    }
    if let Some((_, port)) = host.rsplit_once(':') {
        check_port(&format!(":{port}"))?;
    }
    if let Some(letter) = host.chars().find(|letter| " <>\"{}|\\^`".contains(*letter)) {
        return Err(format!("invalid character {:?} in host name", letter.to_string()));
    }
    bad_escape(host).map_or(Ok(()), Err)
}

fn check_port(port: &str) -> std::result::Result<(), String> {
    let valid = port.is_empty()
        || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if valid { Ok(()) } else { Err(format!("invalid port {port:?} after host")) }
}

fn bad_escape(text: &str) -> Option<String> {
    for (at, _) in text.match_indices('%') {
        let code = text.as_bytes().get(at + 1..at + 3);
        if !code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = text[at..].chars().take(3).collect();
            return Some(format!("invalid URL escape {shown:?}"));
        }
    }
    None
}

fn unescaped(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
                continue;
            }
            (b'+', _) if plus_is_space => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The path as written when that is a valid encoding, else encoded.
fn escaped(path: &str) -> String {
    // What may stand in a path, by net/url's `validEncoded`.
    const ESCAPED: AsciiSet = NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b',')
        .remove(b'/')
        .remove(b':')
        .remove(b';')
        .remove(b'=')
        .remove(b'@')
        .remove(b'!')
        .remove(b'\'')
        .remove(b'(')
        .remove(b')')
        .remove(b'*')
        .remove(b'%')
        .remove(b'[')
        .remove(b']');
    utf8_percent_encode(path, &ESCAPED).to_string()
}

fn query<'a>(url: &Url) -> Value<'a> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if bad_escape(key).is_some() || bad_escape(value).is_some() {
            continue;
        }
        let (key, value) = (unescaped(key, true), unescaped(value, true));
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => found.push((key, vec![value])),
        }
    }
    Value::Map(Map::of_texts(found.into_iter().map(|(key, values)| (key, texts(values))).collect()))
}
