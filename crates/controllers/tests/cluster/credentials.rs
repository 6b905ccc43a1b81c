//! Signing requests and bootstrap tokens against a real server.

use std::{sync::Arc, time::Duration};

use access::{Authorizer, CertificateAuthority, certificates};
use apiserver::{Catalogue, Options, Service};
use controllers::credentials::{self, CertificateSigner, Requested};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Secret},
    rbac::v1::ClusterRoleBinding,
};
use kube::{Api, Client, api::PostParams, runtime::wait::await_condition};
use kube_objects::UserInfo;
use serde_json::json;
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::watched;

struct Signer(CertificateAuthority);

impl CertificateSigner for Signer {
    fn read(&self, request_pem: &str) -> Result<Requested, String> {
        let found = certificates::read_request(request_pem).map_err(|error| error.to_string())?;
        Ok(Requested {
            common_name: found.common_name,
            organizations: found.organizations,
            dns: found.dns,
            addresses: found.addresses,
            emails: found.emails,
            uris: found.uris,
        })
    }

    fn sign(&self, request_pem: &str, usages: &[String], validity: Duration) -> Result<String, String> {
        self.0.sign_request(request_pem, usages, validity).map_err(|error| error.to_string())
    }

    fn expires(&self, certificate_pem: &str) -> Option<jiff::Timestamp> {
        certificates::not_after(certificate_pem)
    }
}

async fn start() -> (apiserver::Handle, Client, DropGuard) {
    let mut options = Options::new(Arc::new(MemoryStore::default()), Catalogue::control_plane());
    options.authorizer = Some(Arc::new(Authorizer::new()));
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    let client = handle.client(UserInfo::new("root", &["system:masters"]));
    let signer = Arc::new(Signer(CertificateAuthority::ephemeral("ca").unwrap()));
    let service = credentials::Service::new(credentials::Options::new(watched::controllers(&handle), signer));
    tokio::spawn(service.run(stop.clone()));
    (handle, client, stop.drop_guard())
}

fn request(name: &str, signer: &str, usages: &[&str]) -> CertificateSigningRequest {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:n1");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"request": encoded, "signerName": signer, "usages": usages, "expirationSeconds": 3600},
    }))
    .unwrap()
}

fn has(condition: &'static str) -> impl Fn(Option<&CertificateSigningRequest>) -> bool {
    move |request| {
        let status = request.and_then(|request| request.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|own| own.type_ == condition))
    }
}

fn signed(request: Option<&CertificateSigningRequest>) -> bool {
    request.and_then(|request| request.status.as_ref()).is_some_and(|status| status.certificate.is_some())
}

#[tokio::test]
async fn a_nodes_own_request_is_approved_and_signed() {
    let (handle, client, _stop) = start().await;
    let roles =
        ["system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:node-bootstrapper"];
    for role in roles {
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
        }))
        .unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
        bindings.create(&PostParams::default(), &binding).await.unwrap();
    }
    let node = handle.client(UserInfo::new("system:node:n1", &["system:nodes", "system:authenticated"]));
    let own =
        request("own", "kubernetes.io/kube-apiserver-client-kubelet", &["digital signature", "client auth"]);
    // A role takes effect a moment after its write.
    let created = async {
        while Api::all(node.clone()).create(&PostParams::default(), &own).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), created).await.unwrap();
    let api: Api<CertificateSigningRequest> = Api::all(client);
    let done = tokio::time::timeout(Duration::from_secs(10), await_condition(api, "own", signed)).await;
    let request = done.unwrap().unwrap().unwrap();
    let status = request.status.unwrap();
    let approved = &status.conditions.as_ref().unwrap()[0];
    assert_eq!((approved.type_.as_str(), approved.reason.as_deref()), ("Approved", Some("AutoApproved")));
    let pem = String::from_utf8(status.certificate.unwrap().0).unwrap();
    let left = certificates::not_after(&pem).unwrap().as_second() - jiff::Timestamp::now().as_second();
    assert!((3000..=3600).contains(&left), "it lives as long as was asked: {left}");
}

#[tokio::test]
async fn an_approved_request_that_breaks_its_signers_rules_fails_with_a_condition() {
    let (_handle, client, _stop) = start().await;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let wrong = request("wrong", "kubernetes.io/kube-apiserver-client", &["server auth"]);
    let mut created = api.create(&PostParams::default(), &wrong).await.unwrap();
    created.status = serde_json::from_value(json!({
        "conditions": [{"type": "Approved", "status": "True", "reason": "test", "message": "by hand"}],
    }))
    .unwrap();
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests/wrong/approval";
    let put = http::Request::put(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&created).unwrap())
        .unwrap();
    client.request::<CertificateSigningRequest>(put).await.unwrap();
    let failed = await_condition(api, "wrong", has("Failed"));
    let request = tokio::time::timeout(Duration::from_secs(10), failed).await.unwrap().unwrap().unwrap();
    let conditions = request.status.unwrap().conditions.unwrap();
    let failed = conditions.iter().find(|own| own.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("SignerValidationFailure"));
    assert_eq!(failed.message.as_deref(), Some("invalid usage for client certificate: server auth"));
}

#[tokio::test]
async fn tokens_sign_cluster_info_and_expired_ones_go() {
    let (_handle, client, _stop) = start().await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let token = |id: &str, expiration: &str| -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": id, "token-secret": "0123456789abcdef",
                "usage-bootstrap-signing": "true", "expiration": expiration},
        }))
        .unwrap()
    };
    for secret in [token("aaaaaa", "2999-01-01T00:00:00Z"), token("bbbbbb", "2020-01-01T00:00:00Z")] {
        secrets.create(&PostParams::default(), &secret).await.unwrap();
    }
    let maps: Api<ConfigMap> = Api::namespaced(client, "kube-public");
    let info =
        serde_json::from_value(json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "k"}}));
    maps.create(&PostParams::default(), &info.unwrap()).await.unwrap();
    let is_signed = |map: Option<&ConfigMap>| {
        map.and_then(|map| map.data.as_ref()).is_some_and(|data| data.contains_key("jws-kubeconfig-aaaaaa"))
    };
    let done = await_condition(maps, "cluster-info", is_signed);
    let map = tokio::time::timeout(Duration::from_secs(10), done).await.unwrap().unwrap().unwrap();
    assert_eq!(map.data.unwrap().len(), 2, "the expired one does not sign");
    let gone = await_condition(secrets, "bootstrap-token-bbbbbb", |secret: Option<&Secret>| secret.is_none());
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap().unwrap();
}
