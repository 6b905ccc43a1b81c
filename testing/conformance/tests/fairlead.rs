//! Every case holds for an embedded cluster; where `CONFORMANCE_REFERENCE` names the kubeconfig of a real kube-apiserver, for
//! that too, so that no case asserts what Kubernetes does not do.

use std::path::Path;
use std::time::Duration;

use assembly::cluster::{Cluster, Options};
use conformance::case::Outcome;
use conformance::subject::Subject;
use conformance::{cases, official, report};

async fn all_hold(subject: &Subject) {
    let results = cases::run(subject, cases::all()).await;
    println!("{}", report::table(&results));
    let failed = results.iter().filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_))).count();
    assert_eq!(failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_cluster_conforms() {
    let options = Options { bind: Some("127.0.0.1:0".parse().unwrap()), ..Options::ephemeral("conformance") };
    let cluster = Cluster::start(options).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("admin.kubeconfig");
    std::fs::write(&file, cluster.kubeconfig("admin").unwrap().unwrap()).unwrap();
    // A cluster is ready before its controllers have done their first work.
    let subject = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let subject = Subject::connect(Some(&file)).await.unwrap();
            if subject.controllers && subject.nodes {
                return subject;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    all_hold(&subject.await.expect("controllers and nodes")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_conforms() {
    let Some(file) = std::env::var_os("CONFORMANCE_REFERENCE") else {
        println!("skipped: CONFORMANCE_REFERENCE names no kubeconfig");
        return;
    };
    all_hold(&Subject::connect(Some(Path::new(&file))).await.unwrap()).await;
}

#[test]
fn names_are_unique_and_official_titles_are_titles() {
    let all = cases::all();
    let mut names: Vec<_> = all.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    let known: Vec<_> = official::titles().map(|title| title.text).collect();
    let unknown: Vec<_> =
        all.iter().flat_map(|case| case.official).filter(|title| !known.contains(*title)).collect();
    assert!(unknown.is_empty(), "no titles of Kubernetes' tests: {unknown:#?}");
}
