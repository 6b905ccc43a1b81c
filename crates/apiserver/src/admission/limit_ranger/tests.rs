use super::super::fixture::Fixture;
use super::*;

fn range(limit: Value) -> Value {
    json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {"limits": [limit]}})
}

async fn create(limit: Value, resources: Value) -> Result<Value, String> {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}],
        "initContainers": []}});
    let fixture = Fixture::new().with("", "limitranges", range(limit));
    let outcome = fixture.run(&LimitRanger, Operation::Create, "", "pods", "n", pod).await;
    outcome.map_err(|refused| refused.message.replace("pods \"p\" is forbidden: ", ""))
}

#[tokio::test]
async fn defaults_are_filled_in_and_noted() {
    let limit = json!({"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"}});
    let pod = create(limit.clone(), json!({"limits": {"memory": "2Gi"}})).await.unwrap();
    assert_eq!(
        pod["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m", "memory": "2Gi"}, "requests": {"cpu": "100m", "memory": "200Mi"}})
    );
    assert_eq!(
        pod["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c"
    );
    let full = json!({"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
    let pod = create(limit, full.clone()).await.unwrap();
    assert_eq!(pod["spec"]["containers"][0]["resources"], full);
    assert!(pod["metadata"].get("annotations").is_none());
}

#[tokio::test]
async fn bounds_are_told_in_upstreams_words() {
    for (limit, resources, wanted) in [
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            json!({}),
            "minimum cpu usage per Container is 100m.  No request is specified",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "100m"}}),
            json!({"requests": {"cpu": "50m"}}),
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            json!({"type": "Container", "max": {"memory": "1Gi"}}),
            json!({}),
            "maximum memory usage per Container is 1Gi.  No limit is specified",
        ),
        (
            json!({"type": "Container", "max": {"memory": "1Gi"}}),
            json!({"limits": {"memory": "2Gi"}}),
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "1"}}),
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "maximum cpu usage per Pod is 1, but request is 2",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "1500m"}}),
            json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
        ),
        (
            json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"limits": {"cpu": "2"}}),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "1", "memory": "1Gi"}}),
            json!({}),
            "[minimum cpu usage per Container is 1.  No request is specified, minimum memory usage per Container is 1Gi.  No request is specified]",
        ),
    ] {
        assert_eq!(create(limit, resources).await.unwrap_err(), wanted);
    }
    let fits = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
    create(json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "2"}}), fits).await.unwrap();
}

#[tokio::test]
async fn claims_have_bounds_too() {
    let limit =
        json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}});
    let fixture = Fixture::new().with("", "limitranges", range(limit));
    let claim = |storage: &str| json!({"metadata": {"name": "v"}, "spec": {"resources": {"requests": {"storage": storage}}}});
    let run = |storage| {
        fixture.run(&LimitRanger, Operation::Create, "", "persistentvolumeclaims", "n", claim(storage))
    };
    assert!(run("1.5Gi").await.is_ok());
    assert_eq!(
        run("3Gi").await.unwrap_err().message,
        "persistentvolumeclaims \"v\" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    );
    assert!(
        run("1Mi")
            .await
            .unwrap_err()
            .message
            .contains("minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi")
    );
}
