//! Provenance of charts in registries.

use super::*;
use crate::provenance::tests::{ARCHIVE, ED25519, RSA, has_gpgv, vector};

/// As `helm push` makes a chart's manifest.
fn chart(provenance: Option<&[u8]>) -> (String, BTreeMap<String, Vec<u8>>) {
    let mut files = BTreeMap::new();
    let mut layers = Vec::new();
    let mut add = |kind: &str, content: &[u8]| {
        let digest = format!("sha256:{}", fleet_planner::digest(content));
        files.insert(format!("blobs/{digest}"), content.to_vec());
        layers.push(json!({"mediaType": kind, "digest": digest, "size": content.len()}));
    };
    if let Some(provenance) = provenance {
        add("application/vnd.cncf.helm.chart.provenance.v1.prov", provenance);
    }
    add("application/vnd.cncf.helm.chart.content.v1.tar+gzip", ARCHIVE);
    (json!({"schemaVersion": 2, "layers": layers}).to_string(), files)
}

#[tokio::test]
async fn a_chart_in_a_registry_must_have_a_provenance_of_a_listed_key() {
    if !has_gpgv() {
        return;
    }
    let good = Some(vector!("ed25519.prov"));
    let large = vec![b'x'; MAX_PROVENANCE + 1];
    for (provenance, tag, keys, part) in [
        (good, "1.2.0", ED25519, None),
        (good, "stable", ED25519, None),
        (good, "1.3.0", ED25519, Some("not of web-1.3.0.tgz but of [\"web-1.2.0.tgz\"]")),
        (good, "1.2.0", RSA, Some("No public key")),
        (Some(vector!("other.prov")), "stable", ED25519, Some("not of the archive")),
        (Some(large.as_slice()), "1.2.0", ED25519, Some("larger than")),
        (None, "1.2.0", ED25519, Some("it has no provenance")),
    ] {
        let (manifest, mut files) = chart(provenance);
        files.insert(format!("manifests/{tag}"), manifest.into_bytes());
        let (address, _) = registry_at("shop/web", Vec::new(), Vec::new(), files).await;
        let (into, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let url = format!("oci://{address}/shop/web");
        let signers = Some(keys.to_owned());
        let wanted = Artifact { url, chart_signers: signers, ..artifact(&address, tag, "s3cret") };
        let isolated = Surroundings::Isolated { home: scratch.path().to_owned() };
        let pulled = wanted.pull(into.path(), &isolated, scratch.path()).await;
        match part {
            None => assert!(pulled.unwrap().1.join("Chart.yaml").is_file()),
            Some(part) => {
                let said = pulled.unwrap_err().to_string();
                let begins =
                    said.starts_with(&format!("chart shop/web {tag} has no signature of an allowed signer"));
                assert!(begins && said.contains(part), "{said}");
                assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0, "nothing is unpacked");
            }
        }
    }
}
