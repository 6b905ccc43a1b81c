//! Notices as mail, by SMTP. `lettre` is used in this module alone.

use std::time::Duration;

use fleet_objects::alert::{EmailReceiver, MailTls};
use foundation::causes;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use crate::outbound::{Refusal, is_link_local};

/// How long the whole conversation may take: an order and an answer for each recipient.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);
/// Recipients of one mail: more is what mailing lists are for.
const MAX_RECIPIENTS: usize = 50;
/// Threads that a mail names: mail programs look at the first ones.
const MAX_THREADS: usize = 10;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Names it for ever, so that servers and people know a repetition.
    pub(super) id: String,
    /// The alerts that it is about: what is said of one is one thread.
    pub(super) threads: Vec<String>,
    pub(super) subject: String,
    pub(super) text: String,
}

/// Why nobody logs in without TLS.
pub(crate) const NO_PASSWORD_IN_THE_CLEAR: &str = "a password is not sent without TLS";

/// An address with or without a name.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, Refusal> {
    text.parse().map_err(|error| Refusal::final_(format!("{text:?} is no mail address: {error}")))
}

/// Whether a mail can go to so many.
///
/// # Errors
/// How many it can go to.
pub(crate) fn recipients(to: &EmailReceiver) -> Result<(), Refusal> {
    if to.to.is_empty() || to.to.len() > MAX_RECIPIENTS {
        return Err(Refusal::final_(format!("a mail goes to one to {MAX_RECIPIENTS} recipients")));
    }
    Ok(())
}

/// Host and port of a mail server.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn server(text: &str) -> Result<(&str, u16), Refusal> {
    let no_address = || Refusal::final_(format!("email.server is HOST:PORT, not {text:?}"));
    let (host, port) = text.rsplit_once(':').ok_or_else(no_address)?;
    let port: u16 = port.parse().map_err(|_| no_address())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(no_address());
    }
    if is_link_local(host) {
        return Err(Refusal::final_(format!("{host} is a link-local address")));
    }
    Ok((host, port))
}

fn message(to: &EmailReceiver, letter: Letter) -> Result<Message, Refusal> {
    recipients(to)?;
    let from = mailbox(&to.from)?;
    let domain = from.email.domain().to_owned();
    let id = |name: &str| format!("<{name}@{domain}>");
    let threads: Vec<String> = letter.threads.iter().take(MAX_THREADS).map(|name| id(name)).collect();
    // RFC 3834: so that nobody's holiday notice answers.
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut mail = Message::builder()
        .from(from)
        .subject(letter.subject)
        .message_id(Some(id(&letter.id)))
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .header(ContentType::TEXT_PLAIN);
    if let Some(first) = threads.first() {
        mail = mail.in_reply_to(first.clone()).references(threads.join(" "));
    }
    for recipient in &to.to {
        mail = mail.to(mailbox(recipient)?);
    }
    mail.body(letter.text).map_err(|error| Refusal::final_(format!("the mail cannot be written: {error}")))
}

/// Whom to trust; `host` is what the server's certificate must be for.
///
/// # Errors
/// What is wrong with the authorities.
pub(crate) fn trust(to: &EmailReceiver, host: &str) -> Result<TlsParameters, Refusal> {
    let failed = |error| Refusal::final_(format!("no TLS to {host}: {}", causes::in_line(&error)));
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(bundle) = &to.ca_bundle {
        if !bundle.contains("-----BEGIN CERTIFICATE-----") {
            return Err(Refusal::final_("email.caBundle holds no certificate"));
        }
        let authorities = Certificate::from_pem(bundle.as_bytes()).map_err(failed)?;
        parameters = parameters.certificate_store(CertificateStore::None).add_root_certificate(authorities);
    }
    parameters.build().map_err(failed)
}

/// Hands a mail to the server. A password is never sent in the clear.
pub(super) async fn send(
    to: &EmailReceiver,
    password: Option<String>,
    letter: Letter,
) -> Result<String, Refusal> {
    let mail = message(to, letter)?;
    let (host, port) = server(&to.server)?;
    let tls = match to.tls {
        MailTls::StartTls => Tls::Required(trust(to, host)?),
        MailTls::Tls => Tls::Wrapper(trust(to, host)?),
        MailTls::None => Tls::None,
    };
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host);
    let mut builder = builder.port(port).tls(tls).timeout(Some(CONNECT));
    if let Some(user) = &to.username {
        if to.tls == MailTls::None {
            return Err(Refusal::final_(NO_PASSWORD_IN_THE_CLEAR));
        }
        let password = password.ok_or_else(|| Refusal::final_("email.username needs email.password"))?;
        builder = builder.credentials(Credentials::new(user.clone(), password));
    }
    let sent = tokio::time::timeout(TIMEOUT, builder.build().send(mail)).await;
    let sent = sent.map_err(|_| {
        Refusal::passing(format!("the mail server did not end within {} s", TIMEOUT.as_secs()))
    })?;
    match sent {
        Ok(answer) => Ok(answer.code().to_string()),
        Err(error) => {
            let message = format!("the mail server: {}", causes::in_line(&error));
            // 5xx, or something that the server cannot do.
            let lasting = error.is_permanent() || error.is_client();
            Err(if lasting { Refusal::final_(message) } else { Refusal::passing(message) })
        }
    }
}

#[cfg(test)]
mod tests;
