//! `fairlead login`: a person's way to the hub by an OpenID Connect issuer, and the kubeconfig that uses it.

mod flow;
pub(crate) mod kept;

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::json;

use crate::failure::{Code, Failure};
use crate::output;
use flow::{Issuer, Network};

/// Log in at the issuer that the hub trusts, in a browser, and print a kubeconfig for the hub. kubectl and this command then
/// ask `fairlead credential` for a token, which is renewed as long as the issuer allows.
#[derive(Args, Debug)]
pub(crate) struct LoginArguments {
    /// The hub
    #[arg(long, value_name = "URL")]
    hub: String,
    /// What the hub's certificate is checked against
    #[arg(long, value_name = "FILE")]
    certificate_authority: PathBuf,
    #[command(flatten)]
    issuer: IssuerArguments,
    /// Log in with a code on another device instead of a browser on this one
    #[arg(long)]
    device: bool,
}

/// Who vouches for people.
#[derive(Args, Clone, Debug)]
pub(crate) struct IssuerArguments {
    /// The issuer of tokens
    #[arg(long, value_name = "URL")]
    pub(crate) issuer_url: String,
    /// As what this command is known there; the hub must accept it as audience
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: String,
    /// What the issuer's certificate is checked against, when the machine does not know it
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_certificate_authority: Option<PathBuf>,
    /// What is asked for besides openid and offline_access: claims that the hub reads
    #[arg(long, value_delimiter = ',', default_value = "profile,email", value_name = "SCOPE,…")]
    pub(crate) scopes: Vec<String>,
}

impl IssuerArguments {
    pub(crate) fn open(&self) -> Result<Issuer<Network>, Failure> {
        let authority = self.issuer_certificate_authority.as_ref().map(|path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        });
        let network = Network { authority: authority.transpose()? };
        let mut scopes = vec!["openid".to_owned(), "offline_access".to_owned()];
        scopes.extend(self.scopes.iter().filter(|scope| !scope.is_empty()).cloned());
        Ok(Issuer::new(network, &self.issuer_url, &self.client_id, &scopes))
    }
}

pub(crate) async fn run(arguments: LoginArguments) -> Result<Code, Failure> {
    let authority = std::fs::read(&arguments.certificate_authority)
        .with_context(|| format!("cannot read {}", arguments.certificate_authority.display()))?;
    let issuer = arguments.issuer.open()?;
    let tokens = if arguments.device {
        issuer.by_device(|url, code| output::progress(&format!("open {url} and type {code}"))).await
    } else {
        issuer.by_browser(|url| output::progress(&format!("open this in a browser:\n{url}"))).await
    };
    let tokens = tokens.map_err(|why| Failure::negative(format!("not logged in: {why}")))?;
    let place = kept::place(&arguments.issuer)?;
    kept::write(&place, &tokens)?;
    output::progress(&format!("logged in; the token is kept in {}", place.display()));
    output::data(&output::yaml(&kubeconfig(&arguments, &authority)?)?)?;
    Ok(Code::Ok)
}

fn kubeconfig(arguments: &LoginArguments, authority: &[u8]) -> Result<serde_json::Value, Failure> {
    let issuer = &arguments.issuer;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut call = vec![
        "credential".to_owned(),
        format!("--issuer-url={}", issuer.issuer_url),
        format!("--client-id={}", issuer.client_id),
    ];
    if let Some(path) = &issuer.issuer_certificate_authority {
        let path = std::path::absolute(path).context("cannot tell where the issuer's authority is")?;
        call.push(format!("--issuer-certificate-authority={}", path.display()));
    }
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": program, "args": call,
        "interactiveMode": "Never", "provideClusterInfo": false});
    Ok(json!({"apiVersion": "v1", "kind": "Config", "current-context": "hub",
        "clusters": [{"name": "hub", "cluster": {"server": arguments.hub, "certificate-authority-data": STANDARD.encode(authority)}}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "me"}}],
        "users": [{"name": "me", "user": {"exec": exec}}]}))
}
