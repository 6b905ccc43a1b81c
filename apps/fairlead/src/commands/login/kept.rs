//! Tokens of a login, kept for the next commands in a file that its owner alone can read; and the credential made of them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::IssuerArguments;
use super::flow::{Call, Issuer};
use crate::failure::{Code, Failure};

/// A token that ends sooner is renewed first.
const MARGIN_SECONDS: i64 = 30;

/// What an issuer gave. It does not print.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Tokens {
    pub(super) id_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token: Option<String>,
    /// When the token ends, by its own word.
    pub(super) expires: i64,
}

/// Where the tokens of an issuer and client are kept.
pub(crate) fn place(issuer: &IssuerArguments) -> Result<PathBuf, Failure> {
    let base = directories::BaseDirs::new();
    let base = base.ok_or_else(|| Failure::usage("the user has no home directory"))?;
    let name = fleet_planner::digest(format!("{} {}", issuer.issuer_url, issuer.client_id).as_bytes());
    Ok(base.cache_dir().join("fairlead/login").join(format!("{}.json", &name[..32])))
}

/// Replaces the file, whole or not at all.
pub(crate) fn write(path: &Path, tokens: &Tokens) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let written = (|| {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let _ = std::fs::remove_file(&beside);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec(tokens)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    written.with_context(|| format!("cannot keep the token in {}", path.display())).map_err(Failure::from)
}

/// The credential for kubectl, renewed when it has to be.
pub(crate) async fn credential<C: Call>(path: &Path, issuer: &Issuer<C>) -> Result<Value, Failure> {
    let again =
        || Failure::new(Code::Unreachable, anyhow::anyhow!("nobody is logged in")).hint("fairlead login …");
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(again()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display())).into());
        }
    };
    let mut tokens: Tokens = serde_json::from_slice(&bytes).map_err(|_| again())?;
    if tokens.expires <= Timestamp::now().as_second() + MARGIN_SECONDS {
        let refresh = tokens.refresh_token.as_deref().ok_or_else(again)?;
        let renewed = issuer.renew(refresh).await;
        tokens = renewed.map_err(|why| {
            let error = anyhow::anyhow!("the login has ended: {why}");
            Failure::new(Code::Unreachable, error).hint("fairlead login …")
        })?;
        write(path, &tokens)?;
    }
    let expires = Timestamp::from_second(tokens.expires).unwrap_or(Timestamp::MAX).to_string();
    Ok(json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "spec": {"interactive": false},
        "status": {"token": tokens.id_token, "expirationTimestamp": expires}}))
}
