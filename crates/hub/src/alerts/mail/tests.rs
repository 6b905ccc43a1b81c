//! Mail to a small server, in the clear and under TLS.

use std::sync::Arc;

use fleet_objects::alert::SecretKey;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

/// A mail server: what it was told, line by line, and what it answers to a recipient.
struct Server {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    /// PEM.
    authority: String,
}

fn certificate() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(
        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key)
    .expect("a pair");
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

/// Speaks until the client leaves, or asks for TLS: then it answers true.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    features: &str,
    recipient: &str,
    heard: &Mutex<Vec<String>>,
    greets: bool,
) -> Option<bool> {
    let (reading, mut writing) = tokio::io::split(stream);
    let mut lines = BufReader::new(reading).lines();
    if greets {
        writing.write_all(b"220 test\r\n").await.ok()?;
    }
    while let Some(line) = lines.next_line().await.ok()? {
        heard.lock().push(line.clone());
        let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match word.as_str() {
            "EHLO" => format!("250-test\r\n{features}250 8BITMIME\r\n"),
            "STARTTLS" => {
                writing.write_all(b"220 go on\r\n").await.ok()?;
                return Some(true);
            }
            "AUTH" => "235 it is you\r\n".to_owned(),
            "RCPT" => format!("{recipient}\r\n"),
            "DATA" => {
                writing.write_all(b"354 go on\r\n").await.ok()?;
                while let Some(line) = lines.next_line().await.ok()?.filter(|line| line != ".") {
                    heard.lock().push(line);
                }
                "250 taken\r\n".to_owned()
            }
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 fine\r\n".to_owned(),
        };
        writing.write_all(answer.as_bytes()).await.ok()?;
    }
    Some(false)
}

impl Server {
    async fn start(tls: MailTls, recipient: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, authority) = certificate();
        let into = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (into, acceptor) = (into.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let secured = "250-AUTH PLAIN\r\n";
                    let asked = match tls {
                        MailTls::Tls => true,
                        MailTls::StartTls => {
                            converse(&mut stream, "250-STARTTLS\r\n", recipient, &into, true).await?
                        }
                        MailTls::None => converse(&mut stream, "", recipient, &into, true).await?,
                    };
                    if asked {
                        let mut stream = acceptor.accept(stream).await.ok()?;
                        into.lock().push("(TLS)".to_owned());
                        converse(&mut stream, secured, recipient, &into, tls == MailTls::Tls).await?;
                    }
                    Some(())
                });
            }
        });
        Self { address: format!("localhost:{port}"), heard, authority }
    }

    fn receiver(&self, tls: MailTls) -> EmailReceiver {
        EmailReceiver {
            server: self.address.clone(),
            tls,
            from: "Fleet <fleet@example.com>".to_owned(),
            to: vec!["ops@example.com".to_owned(), "Böb <b@example.org>".to_owned()],
            ca_bundle: Some(self.authority.clone()),
            ..EmailReceiver::default()
        }
    }

    fn heard(&self) -> String {
        self.heard.lock().join("\n")
    }
}

fn letter() -> Letter {
    Letter {
        id: "msg_1".to_owned(),
        threads: vec!["alert_a".to_owned(), "alert_b".to_owned()],
        subject: "[FIRING] offline (warning): cluster dev".to_owned(),
        text: "cluster dev is gone\n.\nwith a dot\n".to_owned(),
    }
}

#[tokio::test]
async fn a_mail_says_what_is_so_and_in_which_thread() {
    let server = Server::start(MailTls::None, "250 fine").await;
    let sent = send(&server.receiver(MailTls::None), None, letter()).await;
    assert_eq!(sent.as_deref(), Ok("250"));
    let heard = server.heard();
    for line in [
        "MAIL FROM:<fleet@example.com>",
        "RCPT TO:<ops@example.com>",
        "RCPT TO:<b@example.org>",
        "Subject: [FIRING] offline (warning): cluster dev",
        "Message-ID: <msg_1@example.com>",
        "In-Reply-To: <alert_a@example.com>",
        "References: <alert_a@example.com> <alert_b@example.com>",
        "Auto-Submitted: auto-generated",
        "cluster dev is gone",
        "..",
        "with a dot",
    ] {
        assert!(heard.lines().any(|own| own.starts_with(line)), "{line} is missing in {heard}");
    }
}

#[tokio::test]
async fn passwords_go_through_verified_tls_alone() {
    for tls in [MailTls::StartTls, MailTls::Tls] {
        let server = Server::start(tls, "250 fine").await;
        let mut to = server.receiver(tls);
        to.username = Some("fleet".to_owned());
        to.password = Some(SecretKey::default());
        let sent = send(&to, Some("hunter2".to_owned()), letter()).await;
        assert_eq!(sent.as_deref(), Ok("250"), "{tls:?}");
        let heard = server.heard();
        let (clear, secured) = heard.split_once("(TLS)").expect("TLS");
        assert!(!clear.contains("AUTH") && !clear.contains("MAIL"), "{clear}");
        assert!(
            secured.contains("AUTH PLAIN AGZsZWV0AGh1bnRlcjI=") && secured.contains("with a dot"),
            "{secured}"
        );
        // Somebody else's authority.
        to.ca_bundle = Some(certificate().1);
        let refused =
            send(&to, Some("hunter2".to_owned()), letter()).await.expect_err("an unknown authority");
        assert!(refused.message.contains("certificate"), "{refused}");
    }
    // A server without TLS where it is asked for, and a password where there is none.
    let server = Server::start(MailTls::None, "250 fine").await;
    let refused = send(&server.receiver(MailTls::StartTls), None, letter()).await.expect_err("no STARTTLS");
    assert!(!refused.again, "{refused}");
    let mut to = server.receiver(MailTls::None);
    to.username = Some("fleet".to_owned());
    let refused = send(&to, Some("hunter2".to_owned()), letter()).await.expect_err("no TLS");
    assert_eq!((refused.message.as_str(), refused.again), ("a password is not sent without TLS", false));
    assert!(!server.heard().contains("MAIL"), "nothing was sent");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_lasts_is_not() {
    for (answer, again) in [("451 try later", true), ("550 no such box", false)] {
        let server = Server::start(MailTls::None, answer).await;
        let refused = send(&server.receiver(MailTls::None), None, letter()).await.expect_err("refused");
        assert_eq!(refused.again, again, "{refused}");
    }
    let mut to = Server::start(MailTls::None, "250 fine").await.receiver(MailTls::None);
    to.server = "127.0.0.1:1".to_owned();
    assert!(send(&to, None, letter()).await.expect_err("nobody").again);
    let broken = |change: &dyn Fn(&mut EmailReceiver)| {
        let mut to = to.clone();
        change(&mut to);
        to
    };
    for (to, told) in [
        (broken(&|to| to.server = "mail".to_owned()), "HOST:PORT"),
        (broken(&|to| to.server = ":25".to_owned()), "HOST:PORT"),
        (broken(&|to| to.server = "169.254.169.254:25".to_owned()), "link-local"),
        (broken(&|to| to.to.clear()), "recipients"),
        (broken(&|to| to.to = vec!["a@b".to_owned(); 51]), "recipients"),
        (broken(&|to| to.from = "nobody".to_owned()), "no mail address"),
        (
            broken(&|to| {
                to.tls = MailTls::Tls;
                to.ca_bundle = Some("x".to_owned());
            }),
            "caBundle",
        ),
    ] {
        let refused = send(&to, None, letter()).await.expect_err(told);
        assert!(refused.message.contains(told) && !refused.again, "{refused}");
    }
}
