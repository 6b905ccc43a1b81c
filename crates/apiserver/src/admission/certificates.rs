//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest, CertificateSubjectRestriction: what may be done in a
//! signer's name.

use access::Attributes as Asked;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kind_rules::json::text;
use kube_objects::Status;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Attributes, Operation, Plugin};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the user may `verb` for a signer: by its name, or by its domain (`example.com/*`).
fn may(attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let cx = &attributes.cx;
    let Some(authorizer) = cx.authorizer else { return true };
    let asked = |name: &str| Asked::resource(verb, GROUP, "signers", "", name);
    let domain = signer.split('/').next().unwrap_or_default();
    authorizer.authorize(cx.user, &asked(signer)).allowed
        || authorizer.authorize(cx.user, &asked(&format!("{domain}/*"))).allowed
}

/// CertificateApproval.
pub(super) struct CertificateApproval;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is(GROUP, REQUESTS, Some("approval"))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let signer = attributes.old.map_or("", |old| text(&old["spec"], "signerName"));
        if may(attributes, "approve", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to approve requests with signerName {signer:?}");
        Err(attributes.forbidden(object, &why))
    }
}

/// CertificateSigning.
pub(super) struct CertificateSigning;

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is(GROUP, REQUESTS, Some("status"))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let Some(old) = attributes.old else { return Ok(()) };
        let same = |key: &str| old["status"][key] == object["status"][key];
        let signer = text(&old["spec"], "signerName");
        if same("certificate") && same("conditions") || may(attributes, "sign", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to sign requests with signerName {signer:?}");
        Err(attributes.forbidden(object, &why))
    }
}

/// ClusterTrustBundleAttest.
pub(super) struct ClusterTrustBundleAttest;

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && attributes.is_resource(GROUP, "clustertrustbundles")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let signer = text(&object["spec"], "signerName");
        // The garbage collector and finalizers change nothing that is trusted.
        let untouched = attributes.old.is_some_and(|old| old["spec"] == object["spec"]);
        if signer.is_empty() || untouched || may(attributes, "attest", signer) {
            return Ok(());
        }
        let why = format!("user not permitted to attest for signerName {signer:?}");
        Err(attributes.forbidden(object, &why))
    }
}

/// CertificateSubjectRestriction.
pub(super) struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is(GROUP, REQUESTS, None)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let spec = &object["spec"];
        if text(spec, "signerName") != CLIENT_SIGNER {
            return Ok(());
        }
        let groups = organizations(text(spec, "request"))
            .map_err(|why| attributes.forbidden(object, &format!("failed to parse CSR: {why}")))?;
        if groups.iter().any(|group| group == access::authorization::MASTERS) {
            let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
            return Err(attributes.forbidden(object, &why));
        }
        Ok(())
    }
}

/// The organizations of a request's subject, which become groups.
fn organizations(request: &str) -> Result<Vec<String>, String> {
    let pem = STANDARD.decode(request).map_err(|error| error.to_string())?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    Ok(subject.iter_organization().filter_map(|name| name.as_str().ok().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use access::Authorizer;
    use kube_objects::UserInfo;
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn allowing(verb: &str, name: &str) -> Authorizer {
        let authorizer = Authorizer::new();
        let api = "rbac.authorization.k8s.io";
        let version = format!("{api}/v1");
        let objects = [
            json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "r"},
                "rules": [{"apiGroups": [GROUP], "resources": ["signers"], "verbs": [verb], "resourceNames": [name]}]}),
            json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
                "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "r"},
                "subjects": [{"apiGroup": api, "kind": "User", "name": "u"}]}),
        ];
        authorizer.apply_all(objects.iter()).unwrap();
        authorizer
    }

    fn request(certificate: &str) -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"signerName": "example.com/s"},
            "status": {"certificate": certificate}})
    }

    #[tokio::test]
    async fn approving_and_signing_take_a_right_for_the_signer() {
        let refused = |verb: &str| {
            format!(
                "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to {verb} \
                 requests with signerName \"example.com/s\""
            )
        };
        for (verb, name, plugin, sub, wanted) in [
            ("approve", "example.com/s", &CertificateApproval as &dyn Plugin, "approval", None),
            ("approve", "example.com/*", &CertificateApproval, "approval", None),
            ("sign", "example.com/s", &CertificateApproval, "approval", Some(refused("approve"))),
            ("sign", "example.com/*", &CertificateSigning, "status", None),
            ("approve", "example.com/s", &CertificateSigning, "status", Some(refused("sign"))),
        ] {
            let mut fixture = Fixture::new().updating(request("")).at(sub).by(UserInfo::new("u", &[]));
            fixture.authorizer = Some(allowing(verb, name));
            let outcome = fixture.run(plugin, Operation::Update, GROUP, REQUESTS, "", request("new")).await;
            assert_eq!(outcome.err().map(|refused| refused.message), wanted);
        }
    }

    async fn ask(group: &str) -> Result<Value, Status> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let object = json!({"metadata": {"name": "c"},
            "spec": {"signerName": CLIENT_SIGNER, "request": STANDARD.encode(pem)}});
        let fixture = Fixture::new();
        fixture.run(&CertificateSubjectRestriction, Operation::Create, GROUP, REQUESTS, "", object).await
    }

    #[tokio::test]
    async fn nobody_asks_to_be_a_master() {
        assert!(ask("developers").await.is_ok());
        assert!(ask("system:masters").await.unwrap_err().message.ends_with(
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        ));
    }
}
