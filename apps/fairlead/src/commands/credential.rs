//! `fairlead credential`: an exec credential plug-in (client.authentication.k8s.io/v1).

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::ByteString;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::login::{IssuerArguments, kept};
use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// Print the credentials of the hub's kubeconfig as an ExecCredential. Who reads ClusterProfiles names this command for the
/// access provider fairlead-hub; then it reaches every cluster of the inventory through the hub. With an issuer: the token of
/// whoever has logged in there (`fairlead login`), renewed when it has to be.
#[derive(Args, Debug)]
pub(crate) struct CredentialArguments {
    /// The issuer of tokens
    #[arg(long, value_name = "URL", requires = "client_id")]
    issuer_url: Option<String>,
    /// As what this command is known there
    #[arg(long, value_name = "ID", requires = "issuer_url")]
    client_id: Option<String>,
    /// What the issuer's certificate is checked against, when the machine does not know it
    #[arg(long, value_name = "FILE", requires = "issuer_url")]
    issuer_certificate_authority: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, arguments: &CredentialArguments) -> Result<Code, Failure> {
    if let (Some(issuer_url), Some(client_id)) = (&arguments.issuer_url, &arguments.client_id) {
        let issuer = IssuerArguments {
            issuer_url: issuer_url.clone(),
            client_id: client_id.clone(),
            issuer_certificate_authority: arguments.issuer_certificate_authority.clone(),
            scopes: Vec::new(),
        };
        let credential = kept::credential(&kept::place(&issuer)?, &issuer.open()?).await?;
        output::data(&format!("{credential}\n"))?;
        return Ok(Code::Ok);
    }
    let config = connection::kubeconfig(global)?;
    let credential = credential(&config, global.context.as_deref())?;
    output::data(&format!("{credential}\n"))?;
    Ok(Code::Ok)
}

fn credential(config: &Kubeconfig, context: Option<&str>) -> Result<Value, Failure> {
    let refuse = |what: &str| Failure::new(Code::Unreachable, anyhow::Error::msg(what.to_owned()));
    let name = context.or(config.current_context.as_deref());
    let context = config.contexts.iter().find(|own| Some(own.name.as_str()) == name);
    let user = context.and_then(|own| own.context.as_ref()?.user.as_deref());
    let user = config.auth_infos.iter().find(|own| Some(own.name.as_str()) == user);
    let user = user.and_then(|own| own.auth_info.as_ref());
    let user = user.ok_or_else(|| refuse("the kubeconfig of the hub names no user"))?;
    let user = serde_json::to_value(user).context("cannot read the user of the kubeconfig")?;
    let mut status = json!({});
    if let Some(token) = text(&user, "token", "tokenFile")? {
        status["token"] = json!(token.trim());
    }
    let certificate = text(&user, "client-certificate-data", "client-certificate")?;
    let key = text(&user, "client-key-data", "client-key")?;
    if let (Some(certificate), Some(key)) = (certificate, key) {
        status["clientCertificateData"] = json!(certificate);
        status["clientKeyData"] = json!(key);
    }
    if status == json!({}) {
        return Err(refuse(
            "the user of the hub's kubeconfig has neither a token nor a certificate to pass on",
        ));
    }
    Ok(json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "spec": {"interactive": false}, "status": status}))
}

/// What stands in the kubeconfig itself, decoded where it is data, or in the file it names.
fn text(user: &Value, own: &str, file: &str) -> Result<Option<String>, Failure> {
    if let Some(own_text) = user[own].as_str().filter(|text| !text.is_empty()) {
        if !own.ends_with("-data") {
            return Ok(Some(own_text.to_owned()));
        }
        let bytes: ByteString =
            serde_json::from_value(json!(own_text)).with_context(|| format!("{own} is not base64"))?;
        return Ok(Some(String::from_utf8(bytes.0).with_context(|| format!("{own} is not text"))?));
    }
    let Some(path) = user[file].as_str().filter(|path| !path.is_empty()) else { return Ok(None) };
    let text = std::fs::read_to_string(Path::new(path)).with_context(|| format!("cannot read {path}"))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(user: &Value) -> Kubeconfig {
        let text = json!({"current-context": "hub", "contexts": [{"name": "hub", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": user}, {"name": "v", "user": {"token": "another's"}}]});
        serde_json::from_value(text).expect("a kubeconfig")
    }

    #[test]
    fn certificates_and_tokens_are_passed_on_as_they_are() {
        let given = json!({"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"});
        let made = credential(&kubeconfig(&given), None).expect("a credential");
        assert_eq!(made["status"], json!({"clientCertificateData": "CERT", "clientKeyData": "KEY"}));
        let made = credential(&kubeconfig(&json!({"token": "t"})), Some("hub")).expect("a credential");
        assert_eq!(made["status"], json!({"token": "t"}));
        assert!(credential(&kubeconfig(&json!({})), None).is_err());
        assert!(credential(&kubeconfig(&json!({"token": "t"})), Some("other")).is_err());
    }
}
