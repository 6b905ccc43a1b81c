//! How `hub serve` and `cluster serve` treat requests: the audit log and the limits. The names and defaults are those of
//! kube-apiserver's flags.

use std::path::PathBuf;
use std::time::Duration;

use apiserver::audit::{LogOptions, Mode, Options, Policy, WebhookOptions};
use assembly::control_plane::Serving;
use assembly::identity::GivenFiles;
use clap::Args;

use crate::failure::Failure;

/// What events larger than this lose, when truncation is asked for (upstream's 100 kB).
const TRUNCATE_BYTES: usize = 100 * 1024;

#[derive(Args, Clone, Debug)]
pub(crate) struct ServingArguments {
    /// Audit policy: which requests are recorded
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    audit_policy_file: Option<PathBuf>,
    /// Record to this file, or to the standard output with "-"
    #[arg(long, value_name = "FILE", requires = "audit_policy_file", help_heading = "Requests")]
    audit_log_path: Option<PathBuf>,
    /// Megabytes after which the audit log is rotated
    #[arg(long, default_value_t = 100, value_name = "MB", help_heading = "Requests")]
    audit_log_maxsize: u64,
    /// Days that rotated audit logs are kept; 0 keeps them
    #[arg(long, default_value_t = 366, value_name = "DAYS", help_heading = "Requests")]
    audit_log_maxage: u64,
    /// How many rotated audit logs are kept; 0 keeps all
    #[arg(long, default_value_t = 100, value_name = "COUNT", help_heading = "Requests")]
    audit_log_maxbackup: usize,
    /// Whether requests wait for the audit log: batch, blocking or blocking-strict
    #[arg(long, default_value = "blocking", value_name = "MODE", help_heading = "Requests")]
    audit_log_mode: Mode,
    /// Record to the server that this kubeconfig names
    #[arg(long, value_name = "FILE", requires = "audit_policy_file", help_heading = "Requests")]
    audit_webhook_config_file: Option<PathBuf>,
    /// Whether requests wait for the audit webhook: batch, blocking or blocking-strict
    #[arg(long, default_value = "batch", value_name = "MODE", help_heading = "Requests")]
    audit_webhook_mode: Mode,
    /// Leave bodies out of recorded events larger than 100 kB
    #[arg(long, help_heading = "Requests")]
    audit_truncate: bool,
    /// Reading requests at once
    #[arg(long, default_value_t = 400, value_name = "COUNT", help_heading = "Requests")]
    max_requests_inflight: usize,
    /// Writing requests at once
    #[arg(long, default_value_t = 200, value_name = "COUNT", help_heading = "Requests")]
    max_mutating_requests_inflight: usize,
    /// Serve with this certificate (and its chain) in place of an issued one; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file", help_heading = "Identity")]
    tls_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file", help_heading = "Identity")]
    tls_private_key_file: Option<PathBuf>,
    /// Accept people's tokens of these OpenID Connect issuers: an AuthenticationConfiguration; read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    authentication_config: Option<PathBuf>,
    /// Accept client certificates of these authorities too; read again when it changes
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    client_ca_file: Option<PathBuf>,
}

impl ServingArguments {
    /// Reads the files that are named.
    pub(crate) fn resolve(&self) -> Result<Serving, Failure> {
        let limits = apiserver::Limits {
            reads: self.max_requests_inflight,
            writes: self.max_mutating_requests_inflight,
            ..apiserver::Limits::default()
        };
        if let Some(path) = &self.authentication_config {
            // Read again by the server, now and whenever it changes: here a mistake is told as one of usage.
            assembly::oidc::read(path).map_err(|error| Failure::usage(error.to_string()))?;
        }
        Ok(Serving { audit: self.audit()?, limits, files: self.files() })
    }

    fn files(&self) -> GivenFiles {
        GivenFiles {
            serving: self.tls_cert_file.clone().zip(self.tls_private_key_file.clone()),
            client_authorities: self.client_ca_file.clone(),
            authentication: self.authentication_config.clone(),
        }
    }

    fn audit(&self) -> Result<Option<Options>, Failure> {
        let Some(path) = &self.audit_policy_file else { return Ok(None) };
        let unusable = |why: String| Failure::usage(format!("the audit policy {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let policy = Policy::parse(&text).map_err(|error| unusable(error.to_string()))?;
        let truncate_bytes = self.audit_truncate.then_some(TRUNCATE_BYTES);
        let log = self.audit_log_path.clone().map(|path| LogOptions {
            max_size_bytes: self.audit_log_maxsize.saturating_mul(1 << 20),
            max_age: Duration::from_secs(self.audit_log_maxage.saturating_mul(24 * 3600)),
            max_backups: self.audit_log_maxbackup,
            mode: self.audit_log_mode,
            truncate_bytes,
            ..LogOptions::new(path)
        });
        let webhook = self.audit_webhook_config_file.clone().map(|path| WebhookOptions {
            mode: self.audit_webhook_mode,
            truncate_bytes,
            ..WebhookOptions::new(path)
        });
        Ok(Some(Options { policy, log, webhook }))
    }
}
