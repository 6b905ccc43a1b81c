//! Requests for certificates: approval, signing, what may change.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::operations::{count, version};
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "certificates/are asked for, approved and issued apart",
        ApiServer,
        ["Certificates API [Privileged:ClusterAdmin] should support CSR API operations"],
        operations
    ),
    case!("certificates/a request tells who made it", ApiServer, [], requester),
    case!("certificates/requests that make no sense", ApiServer, [], refusals),
    case!("certificates/known signers sign what is approved", Controllers, [], signed),
];

/// A PKCS #10 request for `CN=e2e.example.com`, PEM in base64.
pub(super) const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIVU1Id0NBUUF3R2pFWU1CWUdBMVVFQXd3UFpUSmxMbVY0WVcxd2JHVXVZMjl0TUZrd0V3WUhLb1pJemowQwpBUVlJS29aSXpqMERBUWNEUWdBRTVnSjJxOG1Jb2h6UWNuVFdKM2JHZ1AzUlhhTGFXUGh6QWZaUThUb05CNVM1CkFMSEs0NGE0c0JjVU9Jd1Z5blFCRjl4RzBaL2FMTHlNM3ZrSnB3Y1ZLNkFBTUFvR0NDcUdTTTQ5QkFNQ0EwZ0EKTUVVQ0lIa3pMNk9yS1luODRzUUdQQXFkNEhPRVcxelhDWjV1Y2twSnJMZ3pmWHN3QWlFQTlSTVdydmVKUVNlSwpIWkkyL3A2SlVPZkJteEU5SVBEcWIvNjV1eFZJbFI0PQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";

/// A certificate of the same, PEM in base64.
const CERTIFICATE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJqRENDQVRHZ0F3SUJBZ0lVYzlpaEFNTVIxMHJxVjZWdWpyekpBUjhXS1pvd0NnWUlLb1pJemowRUF3SXcKR2pFWU1CWUdBMVVFQXd3UFpUSmxMbVY0WVcxd2JHVXVZMjl0TUNBWERUSTJNVEV5TVRFeE16YzBOVm9ZRHpJeApNall4TURJNE1URXpOelExV2pBYU1SZ3dGZ1lEVlFRRERBOWxNbVV1WlhoaGJYQnNaUzVqYjIwd1dUQVRCZ2NxCmhrak9QUUlCQmdncWhrak9QUU1CQndOQ0FBVG1BbmFyeVlpaUhOQnlkTlluZHNhQS9kRmRvdHBZK0hNQjlsRHgKT2cwSGxMa0FzY3JqaHJpd0Z4UTRqQlhLZEFFWDNFYlJuOW9zdkl6ZStRbW5CeFVybzFNd1VUQWRCZ05WSFE0RQpGZ1FVV21YZm81c1NRZDlncEhUcnhtRy9BVUpnSXB3d0h3WURWUjBqQkJnd0ZvQVVXbVhmbzVzU1FkOWdwSFRyCnhtRy9BVUpnSXB3d0R3WURWUjBUQVFIL0JBVXdBd0VCL3pBS0JnZ3Foa2pPUFFRREFnTkpBREJHQWlFQThTbTcKRzBZOXZPWWZrVG1YWHhPN1hlTnRnR3NHcTZaTGNJbHFlaDFjRmFZQ0lRQ1JFL2V3MDdqL0p4K0NTUHVsNHJ4MAozOGxzTGM4MXRCQWdWZVdESFFkWkNRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

const ALL: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn request(name: &Value, signer: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": name,
        "spec": {
            "request": REQUEST, "signerName": signer, "expirationSeconds": 3600,
            "usages": ["digital signature", "key encipherment", "server auth"],
        },
    })
}

/// A signer that only one case knows.
fn signer() -> String {
    format!("example.com/{}", uuid::Uuid::new_v4().simple())
}

async fn operations(subject: &Subject) -> anyhow::Result<()> {
    let signer = signer();
    let named = json!({"generateName": "conformance-csr-"});
    let mut last = Value::Null;
    for _ in 0..3 {
        last = subject.post(ALL, &request(&named, &signer)).await?.expect(201)?;
    }
    let chosen = format!("{ALL}?fieldSelector=spec.signerName%3D{}", signer.replace('/', "%2F"));
    let listed = subject.get(&chosen).await?.expect(200)?;
    ensure!(count(&listed, "items") == 3, "three with that signer: {listed}");
    let path = format!("{ALL}/{}", text(&last, "/metadata/name")?);
    let got = subject.get(&path).await?.expect(200)?;
    ensure!(got["spec"]["expirationSeconds"] == 3600 && version(&got)? > 0, "{got}");
    approved(subject, &path, &got).await?;
    issued(subject, &path).await?;
    subject.delete(&path).await?.expect(200)?;
    subject.get(&path).await?.refused(404, "NotFound")?;
    ensure!(count(&subject.get(&chosen).await?.expect(200)?, "items") == 2, "two are left");
    subject.delete(&chosen).await?.expect(200)?;
    ensure!(count(&subject.get(&chosen).await?.expect(200)?, "items") == 0, "none is left");
    Ok(())
}

async fn approved(subject: &Subject, path: &str, made: &Value) -> anyhow::Result<()> {
    let approval = format!("{path}/approval");
    let got = subject.get(&approval).await?.expect(200)?;
    ensure!(got["kind"] == "CertificateSigningRequest", "{got}");
    ensure!(got["metadata"]["uid"] == made["metadata"]["uid"], "{got}");
    let patch = json!({
        "metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [{"type": "ApprovalPatch", "status": "True", "reason": "e2e"}]},
    });
    let patched = subject.patch(&approval, "merge", &patch).await?.expect(200)?;
    ensure!(count(&patched["status"], "conditions") == 1, "{}", patched["status"]);
    ensure!(patched["metadata"]["annotations"]["patchedapproval"] == "true", "{}", patched["metadata"]);
    let mut more = patched.clone();
    if let Some(list) = more["status"]["conditions"].as_array_mut() {
        list.push(json!({"type": "Approved", "status": "True", "reason": "E2E", "message": "by a test"}));
    }
    let updated = subject.put(&approval, &more).await?.expect(200)?;
    ensure!(updated["status"]["conditions"][1]["type"] == "Approved", "{}", updated["status"]);
    ensure!(updated["status"]["conditions"][1]["lastUpdateTime"].is_string(), "{}", updated["status"]);
    // What was approved stays so.
    let denied = json!({"status": {"conditions": [{"type": "Denied", "status": "True", "reason": "e2e"}]}});
    let refused = subject.patch(&approval, "merge", &denied).await?;
    refused.refused(422, "Invalid")?;
    let elsewhere =
        subject.patch(&format!("{path}/status"), "merge", &json!({"status": {"conditions": []}})).await?;
    elsewhere.refused(422, "Invalid")
}

async fn issued(subject: &Subject, path: &str) -> anyhow::Result<()> {
    let status = format!("{path}/status");
    let got = subject.get(&status).await?.expect(200)?;
    ensure!(got["kind"] == "CertificateSigningRequest", "{got}");
    let patch = json!({
        "metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"certificate": CERTIFICATE},
    });
    let patched = subject.patch(&status, "merge", &patch).await?.expect(200)?;
    ensure!(patched["status"]["certificate"] == CERTIFICATE, "{}", patched["status"]);
    ensure!(patched["metadata"]["annotations"]["patchedstatus"] == "true", "{}", patched["metadata"]);
    let mut more = patched.clone();
    let conditions = count(&patched["status"], "conditions");
    if let Some(list) = more["status"]["conditions"].as_array_mut() {
        list.push(json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "by a test"}));
    }
    let updated = subject.put(&status, &more).await?.expect(200)?;
    ensure!(count(&updated["status"], "conditions") == conditions + 1, "{}", updated["status"]);
    let rubbish = json!({"status": {"certificate": "bm90aGluZw=="}});
    let refused = subject.patch(&status, "merge", &rubbish).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.json["details"]["causes"][0]["field"] == "status.certificate", "{}", refused.json);
    Ok(())
}

async fn requester(subject: &Subject) -> anyhow::Result<()> {
    let role = json!({"generateName": "conformance-csr-"});
    let someone = subject.acting_as("conformance-asks", &["system:masters", "conformance"]);
    let mut body = request(&role, &signer());
    body["spec"]["username"] = json!("somebody-else");
    body["spec"]["groups"] = json!(["others"]);
    let made = someone.post(ALL, &body).await?.expect(201)?;
    let path = format!("{ALL}/{}", text(&made, "/metadata/name")?);
    ensure!(made["spec"]["username"] == "conformance-asks", "{}", made["spec"]);
    let groups = made["spec"]["groups"].as_array().cloned().unwrap_or_default();
    ensure!(groups.contains(&json!("conformance")) && !groups.contains(&json!("others")), "{groups:?}");
    // What is asked for cannot be changed afterwards: the change is dropped.
    let changed =
        subject.patch(&path, "merge", &json!({"spec": {"usages": ["client auth"]}})).await?.expect(200)?;
    ensure!(changed["spec"]["usages"] == made["spec"]["usages"], "{}", changed["spec"]);
    subject.delete(&path).await?.expect(200)?;
    Ok(())
}

async fn refusals(subject: &Subject) -> anyhow::Result<()> {
    let name = json!({"name": format!("conformance-{}", uuid::Uuid::new_v4().simple())});
    for (field, value, wanted) in [
        ("request", json!("bm90aGluZw=="), "spec.request"),
        ("usages", json!([]), "spec.usages"),
        ("signerName", json!("unqualified"), "spec.signerName"),
        ("expirationSeconds", json!(599), "spec.expirationSeconds"),
    ] {
        let mut body = request(&name, "example.com/refused");
        body["spec"][field] = value;
        let refused = subject.post(ALL, &body).await?;
        refused.refused(422, "Invalid")?;
        ensure!(refused.json["details"]["causes"][0]["field"] == wanted, "{wanted}: {}", refused.json);
    }
    Ok(())
}

async fn signed(subject: &Subject) -> anyhow::Result<()> {
    let named = json!({"generateName": "conformance-csr-"});
    let mut body = request(&named, "kubernetes.io/kube-apiserver-client");
    body["spec"]["usages"] = json!(["digital signature", "client auth"]);
    let made = subject.post(ALL, &body).await?.expect(201)?;
    let path = format!("{ALL}/{}", text(&made, "/metadata/name")?);
    ensure!(made["status"]["certificate"].is_null(), "{}", made["status"]);
    let approve = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "reason": "E2E", "message": "by a test"},
    ]}});
    subject.patch(&format!("{path}/approval"), "merge", &approve).await?.expect(200)?;
    let issued = subject.wait_for(&path, |answer| answer.json["status"]["certificate"].is_string()).await?;
    // "-----BEGIN CERTIFICATE-----"
    let certificate = issued.json["status"]["certificate"].as_str().unwrap_or_default().to_owned();
    ensure!(certificate.starts_with("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t"), "{certificate}");
    subject.delete(&path).await?.expect(200)?;
    Ok(())
}
