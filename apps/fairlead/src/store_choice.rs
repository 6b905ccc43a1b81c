//! `--store` and what belongs to it.

use std::path::PathBuf;
use std::time::Duration;

use assembly::state::{Engine, EtcdOptions, StoreOptions};
use clap::Args;

use crate::failure::Failure;

/// Which store.
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreChoice {
    /// What holds the objects: files below the directory, or an etcd that several servers may share
    #[arg(long, default_value = "embedded", value_name = "embedded|etcd=URL,…")]
    store: Store,
    /// Key below which everything lies in etcd
    #[arg(long, default_value = "/fairlead", value_name = "KEY")]
    etcd_prefix: String,
    /// Authority that etcd's certificate is checked against
    #[arg(long, value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// Certificate shown to etcd
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
}

/// How a store is kept: how much of its past, and what of it encrypted.
#[derive(Args, Clone, Debug)]
pub(crate) struct HistoryChoice {
    /// How long old versions are kept for clients that come back
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = crate::arguments::duration)]
    store_history: Duration,
    /// Which resources are kept encrypted, and with which keys: an EncryptionConfiguration. Without it Secrets are, with the
    /// keys in DIR/pki/encryption.yaml, which is made when there is none
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Store {
    Embedded,
    Etcd(Vec<String>),
}

impl std::str::FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((engine, endpoints)) = text.split_once('=') else {
            return if text == "embedded" { Ok(Self::Embedded) } else { Err(wrong()) };
        };
        let endpoints: Vec<String> = endpoints.split(',').map(str::to_owned).collect();
        let urls = endpoints.iter().all(|url| url.starts_with("http://") || url.starts_with("https://"));
        if engine == "etcd" && urls { Ok(Self::Etcd(endpoints)) } else { Err(wrong()) }
    }
}

fn wrong() -> String {
    "neither embedded nor etcd=https://HOST:2379,…".to_owned()
}

impl StoreChoice {
    /// etcd, if it is chosen.
    pub(crate) fn etcd(&self) -> Result<Option<EtcdOptions>, Failure> {
        let Store::Etcd(endpoints) = &self.store else { return Ok(None) };
        if !self.etcd_prefix.starts_with('/') || self.etcd_prefix.trim_end_matches('/').is_empty() {
            return Err(Failure::usage("--etcd-prefix must begin with / and name a key"));
        }
        Ok(Some(EtcdOptions {
            prefix: self.etcd_prefix.clone(),
            certificate_authority: self.etcd_cafile.clone(),
            certificate: self.etcd_certfile.clone(),
            key: self.etcd_keyfile.clone(),
            ..EtcdOptions::new(endpoints.clone())
        }))
    }

    /// As the programs take it.
    pub(crate) fn resolve(&self, history: &HistoryChoice) -> Result<StoreOptions, Failure> {
        if history.store_history < Duration::from_secs(1) {
            return Err(Failure::usage("--store-history must be at least 1s"));
        }
        let engine = self.etcd()?.map_or(Engine::Local, Engine::Etcd);
        let encryption = history.encryption_provider_config.clone();
        Ok(StoreOptions { engine, history: history.store_history, encryption })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_embedded_or_a_list_of_urls() {
        assert_eq!("embedded".parse(), Ok(Store::Embedded));
        let two = Store::Etcd(vec!["https://a:2379".to_owned(), "https://b:2379".to_owned()]);
        assert_eq!("etcd=https://a:2379,https://b:2379".parse(), Ok(two));
        for wrong in ["etcd", "etcd=", "etcd=a:2379", "etcd=https://a,b", "sqlite=https://a", ""] {
            assert!(wrong.parse::<Store>().is_err(), "{wrong}");
        }
    }
}
