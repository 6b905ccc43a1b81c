//! The ways to a token: an authorization code with PKCE over a browser and this machine's loopback (RFC 7636, RFC 8252), a
//! code on another device (RFC 8628), and renewal.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::kept::Tokens;
use crate::commands::get::fetch::escape;

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// A browser's request at most: its first line holds the code.
const MAX_LINE: u64 = 16 << 10;

/// Asks an issuer.
pub(crate) trait Call {
    /// GET, or POST of a form; code and body.
    async fn call(&self, url: &str, form: Option<String>) -> Result<(u16, Vec<u8>), String>;
}

/// Over the network.
pub(crate) struct Network {
    pub(super) authority: Option<String>,
}

impl Call for Network {
    async fn call(&self, url: &str, form: Option<String>) -> Result<(u16, Vec<u8>), String> {
        assembly::oidc::send(url, self.authority.as_deref(), form).await
    }
}

/// An issuer, and as what this program is known there.
pub(crate) struct Issuer<C> {
    call: C,
    url: String,
    client: String,
    scopes: String,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    #[serde(default)]
    device_authorization_endpoint: Option<String>,
}

#[derive(Deserialize)]
struct DeviceCode {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default = "five")]
    interval: u64,
}

fn five() -> u64 {
    5
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// A value that nobody guesses.
fn random() -> Result<String, String> {
    let bytes = sealing::new_key().map_err(|error| error.to_string())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn form(fields: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| format!("{name}={}", escape(value));
    fields.iter().map(one).collect::<Vec<_>>().join("&")
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The claims of a token that came from the issuer's own endpoint; the hub verifies it, not this program.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

impl<C: Call> Issuer<C> {
    pub(super) fn new(call: C, url: &str, client: &str, scopes: &[String]) -> Self {
        Self { call, url: url.to_owned(), client: client.to_owned(), scopes: scopes.join(" ") }
    }

    async fn discover(&self) -> Result<Discovery, String> {
        let url = format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        let (code, body) = self.call.call(&url, None).await?;
        let found: Discovery = match code {
            200 => {
                serde_json::from_slice(&body).map_err(|error| format!("{url} is not readable: {error}"))?
            }
            code => return Err(format!("{url} answers {code}")),
        };
        if found.issuer == self.url { Ok(found) } else { Err(format!("{url} is of {:?}", found.issuer)) }
    }

    /// By a browser: `show` is told where to go.
    pub(super) async fn by_browser(&self, show: impl FnOnce(&str)) -> Result<Tokens, String> {
        let found = self.discover().await?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| error.to_string())?;
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let redirect = format!("http://127.0.0.1:{port}/callback");
        let (verifier, state, nonce) = (random()?, random()?, random()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let asked = form(&[
            ("response_type", "code"),
            ("client_id", &self.client),
            ("redirect_uri", &redirect),
            ("scope", &self.scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let mark = if found.authorization_endpoint.contains('?') { '&' } else { '?' };
        show(&format!("{}{mark}{asked}", found.authorization_endpoint));
        let code = tokio::time::timeout(PATIENCE, wait_for_code(&listener, &state)).await;
        let code = code.map_err(|_| "nobody came back from the browser in time".to_owned())??;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect),
            ("client_id", &self.client),
            ("code_verifier", &verifier),
        ];
        let tokens =
            self.tokens(&found.token_endpoint, &fields, None).await?.map_err(|error| error.to_string())?;
        // The answer is to this question: a code of another login would carry another nonce.
        let same = claims(&tokens.id_token).is_some_and(|claims| claims["nonce"] == nonce.as_str());
        if same { Ok(tokens) } else { Err("the token answers another login".to_owned()) }
    }

    /// By a code on another device: `show` is told where to go and what to type.
    pub(super) async fn by_device(&self, show: impl FnOnce(&str, &str)) -> Result<Tokens, String> {
        let found = self.discover().await?;
        let endpoint = found.device_authorization_endpoint.ok_or("the issuer has no login by device code")?;
        let asked = form(&[("client_id", &self.client), ("scope", &self.scopes)]);
        let (code, body) = self.call.call(&endpoint, Some(asked)).await?;
        if code != 200 {
            return Err(format!("{endpoint} answers {code}"));
        }
        let device: DeviceCode =
            serde_json::from_slice(&body).map_err(|error| format!("{endpoint} is not readable: {error}"))?;
        show(
            device.verification_uri_complete.as_deref().unwrap_or(&device.verification_uri),
            &device.user_code,
        );
        let ends = Instant::now() + Duration::from_secs(device.expires_in).min(PATIENCE);
        let mut pause = Duration::from_secs(device.interval.clamp(1, 60));
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", &device.device_code),
            ("client_id", &self.client),
        ];
        while Instant::now() + pause < ends {
            tokio::time::sleep(pause).await;
            match self.tokens(&found.token_endpoint, &fields, None).await? {
                Ok(tokens) => return Ok(tokens),
                Err(error) if error == "authorization_pending" => {}
                Err(error) if error == "slow_down" => pause += Duration::from_secs(5),
                Err(error) => return Err(error),
            }
        }
        Err("nobody typed the code in time".to_owned())
    }

    /// A fresh token.
    pub(super) async fn renew(&self, refresh: &str) -> Result<Tokens, String> {
        let found = self.discover().await?;
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("client_id", self.client.as_str()),
        ];
        self.tokens(&found.token_endpoint, &fields, Some(refresh)).await?
    }

    /// Asks for tokens. The inner error is OAuth's word.
    async fn tokens(
        &self,
        endpoint: &str,
        fields: &[(&str, &str)],
        refresh: Option<&str>,
    ) -> Result<Result<Tokens, String>, String> {
        let (code, body) = self.call.call(endpoint, Some(form(fields))).await?;
        if code != 200 {
            let said: Value = serde_json::from_slice(&body).unwrap_or_default();
            let word =
                said["error"].as_str().map_or_else(|| format!("{endpoint} answers {code}"), str::to_owned);
            return Ok(Err(word));
        }
        let given: Given =
            serde_json::from_slice(&body).map_err(|_| "the answer is not readable".to_owned())?;
        let id_token = given.id_token.ok_or("the issuer gave no id_token: is openid among the scopes?")?;
        let claims = claims(&id_token).ok_or("the issuer gave no readable token")?;
        let expires = claims["exp"].as_f64().map(|seconds| seconds as i64).ok_or("its token does not end")?;
        // Some issuers give a new one each time, some say nothing of it.
        let refresh_token = given.refresh_token.or_else(|| refresh.map(str::to_owned));
        Ok(Ok(Tokens { id_token, refresh_token, expires }))
    }
}

/// Waits for the browser to come back with our state; whatever else knocks is told so.
async fn wait_for_code(listener: &TcpListener, state: &str) -> Result<String, String> {
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        // Who says nothing does not keep others waiting for ever.
        let read = tokio::time::timeout(Duration::from_secs(5), answer(stream, state)).await;
        if let Ok(Ok(Some(found))) = read {
            return found;
        }
    }
}

/// One request. `None`: it was not the one that is waited for.
async fn answer(stream: TcpStream, state: &str) -> std::io::Result<Option<Result<String, String>>> {
    let mut reader = tokio::io::AsyncReadExt::take(BufReader::new(stream), MAX_LINE);
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let found = code_of(&line, state);
    let (status, text) = match &found {
        Some(Ok(_)) => ("200 OK", "You are logged in. This window can be closed."),
        Some(Err(_)) => ("400 Bad Request", "You are not logged in; the terminal says why."),
        None => ("404 Not Found", "There is nothing here."),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let mut stream = reader.into_inner().into_inner();
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(found)
}

/// The code in a request's first line, if the request is the answer to this login.
fn code_of(line: &str, state: &str) -> Option<Result<String, String>> {
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let query = target.strip_prefix("/callback?")?;
    let field = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| unescape(value))
    };
    if field("state").as_deref() != Some(state) {
        return None;
    }
    if let Some(error) = field("error") {
        return Some(Err(field("error_description").map_or(error.clone(), |why| format!("{error}: {why}"))));
    }
    field("code").map(Ok)
}

#[cfg(test)]
mod tests;
