use access::certificates::not_after;

use super::*;

fn identity(lifetimes: Lifetimes) -> Arc<Identity> {
    let mut identity = Identity::open(None, "test", ServerNames::default(), &GivenFiles::default()).unwrap();
    identity.lifetimes = lifetimes;
    Arc::new(identity)
}

#[tokio::test]
async fn everything_issued_is_renewed_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.kubeconfig");
    let lifetimes = Lifetimes {
        server: Duration::from_secs(3600),
        renewal: Duration::from_millis(10),
        retry: Duration::from_millis(10),
    };
    let identity = identity(lifetimes);
    let shown = identity.front_proxy().identity;
    let before = shown.load_full();
    let long = not_after(&before.certificate_pem).unwrap();
    let server = "127.0.0.1:6443".parse().unwrap();
    let stop = CancellationToken::new();
    let kubeconfig = Some((path.clone(), "test".to_owned(), server));
    let renewing = tokio::spawn(Arc::clone(&identity).keep_fresh(kubeconfig, stop.clone()));
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let after = shown.load_full();
    assert_ne!(after.certificate_pem, before.certificate_pem);
    assert!(not_after(&after.certificate_pem).unwrap() < long, "it lives as long as is wanted now");
    assert!(std::fs::read_to_string(&path).unwrap().contains("client-certificate-data"));
    stop.cancel();
    renewing.await.unwrap();
}
