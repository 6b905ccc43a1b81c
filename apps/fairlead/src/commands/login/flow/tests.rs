//! Logins against an issuer that answers from memory.

use std::sync::Mutex;

use serde_json::json;

use super::*;

/// Plays an issuer: what it is asked, and how often a code is still pending.
struct Played {
    forms: Mutex<Vec<(String, String)>>,
    pending: Mutex<u32>,
    nonce: Mutex<Option<String>>,
}

fn played(pending: u32) -> Issuer<Played> {
    let played = Played { forms: Mutex::default(), pending: Mutex::new(pending), nonce: Mutex::default() };
    Issuer::new(played, "https://issuer", "cli", &["openid".to_owned(), "groups".to_owned()])
}

fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

impl Call for Played {
    async fn call(&self, url: &str, form: Option<String>) -> Result<(u16, Vec<u8>), String> {
        let form = form.unwrap_or_default();
        self.forms.lock().expect("lock").push((url.to_owned(), form.clone()));
        let answer = match url {
            "https://issuer/.well-known/openid-configuration" => json!({"issuer": "https://issuer",
                "authorization_endpoint": "https://issuer/auth", "token_endpoint": "https://issuer/token",
                "device_authorization_endpoint": "https://issuer/device"}),
            "https://issuer/device" => {
                json!({"device_code": "dc", "user_code": "ABCD", "verification_uri": "https://issuer/go",
                "expires_in": 60, "interval": 1})
            }
            "https://issuer/token" => {
                let mut pending = self.pending.lock().expect("lock");
                if *pending > 0 {
                    *pending -= 1;
                    return Ok((400, json!({"error": "authorization_pending"}).to_string().into_bytes()));
                }
                let nonce = self.nonce.lock().expect("lock").clone();
                json!({"id_token": token(&json!({"exp": 4_000_000_000_i64, "nonce": nonce})), "refresh_token": "r"})
            }
            other => return Err(format!("nothing at {other}")),
        };
        Ok((200, answer.to_string().into_bytes()))
    }
}

#[tokio::test]
async fn a_browser_comes_back_with_a_code_that_only_this_program_can_use() {
    let issuer = played(0);
    let (seen, shown) = tokio::sync::oneshot::channel();
    let come_back = async {
        let url: String = shown.await.expect("shown");
        let query = url.strip_prefix("https://issuer/auth?").expect("the issuer's page");
        let field = |name: &str| {
            let value =
                query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
            unescape(value.expect("there").1).expect("readable")
        };
        assert_eq!(
            (field("code_challenge_method"), field("scope")),
            ("S256".to_owned(), "openid groups".to_owned())
        );
        *issuer.call.nonce.lock().expect("lock") = Some(field("nonce"));
        let place = field("redirect_uri");
        let address = place
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .expect("an address")
            .to_owned();
        // Another page of the machine knows no state and ends nothing.
        for (state, code) in [("guessed".to_owned(), "stolen"), (field("state"), "good")] {
            let mut stream = TcpStream::connect(&address).await.expect("it listens");
            let line = format!("GET /callback?code={code}&state={state} HTTP/1.1\r\n\r\n");
            stream.write_all(line.as_bytes()).await.expect("sent");
            let mut said = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.expect("answered");
            assert_eq!(said.contains("200 OK"), code == "good", "{said}");
        }
        field("code_challenge")
    };
    let (tokens, challenge) =
        tokio::join!(issuer.by_browser(|url| drop(seen.send(url.to_owned()))), come_back);
    assert_eq!(tokens.expect("logged in").expires, 4_000_000_000);
    let forms = issuer.call.forms.lock().expect("lock");
    let asked = &forms.last().expect("asked").1;
    assert!(asked.contains("code=good") && !asked.contains("stolen"), "{asked}");
    let verifier = asked.rsplit("code_verifier=").next().expect("there");
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())), challenge);
}

#[tokio::test(start_paused = true)]
async fn a_device_code_is_waited_for_and_a_refusal_ends_it() {
    let issuer = played(3);
    let mut told = None;
    let tokens = issuer.by_device(|url, code| told = Some((url.to_owned(), code.to_owned()))).await;
    assert_eq!(tokens.map(|tokens| tokens.refresh_token).expect("logged in").as_deref(), Some("r"));
    assert_eq!(told, Some(("https://issuer/go".to_owned(), "ABCD".to_owned())));
    let never = played(1000);
    let late = never.by_device(|_, _| {}).await.map(drop).expect_err("nobody types it");
    assert!(late.contains("in time"), "{late}");
}

#[tokio::test]
async fn what_is_kept_is_renewed_in_time_and_readable_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("login/x.json");
    let issuer = played(0);
    assert!(super::super::kept::credential(&path, &issuer).await.is_err(), "nobody is logged in");
    let old = Tokens { id_token: token(&json!({})), refresh_token: Some("old".to_owned()), expires: 5 };
    super::super::kept::write(&path, &old).expect("kept");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let made = super::super::kept::credential(&path, &issuer).await.expect("renewed");
    assert_ne!(made["status"]["token"], old.id_token);
    let calls = issuer.call.forms.lock().expect("lock").len();
    let again = super::super::kept::credential(&path, &issuer).await.expect("kept");
    assert_eq!(again, made);
    assert_eq!(issuer.call.forms.lock().expect("lock").len(), calls, "nobody was asked");
    assert!(
        issuer.call.forms.lock().expect("lock").iter().any(|(_, form)| form.contains("refresh_token=old"))
    );
}
