use super::*;

#[test]
fn what_cannot_be_moved_is_named_with_its_field() {
    let from = json!({
        "apiVersion": "testworkflows.testkube.io/v1", "kind": "TestWorkflow", "metadata": {"name": "x"},
        "spec": {
            "events": [{"cronjob": {"cron": "* * * * *"}}],
            "pod": {"serviceAccountName": "admin", "nodeSelector": {"a": "b"}},
            "steps": [
                {"name": "Run it", "run": {"image": "a", "args": ["x"], "resources": {"limits": {"cpu": "1"}}},
                 "artifacts": {"paths": ["*.log"], "compress": {"name": "x"}}, "wat": 1},
                {"parallel": {"count": 2, "transfer": [{"from": "/data", "files": "all()"}, {"from": "/data/repo"}], "run": {"image": "b", "shell": "true"}}}
            ]
        }
    });
    let imported = document(&from);
    let lost: Vec<_> = imported.lost.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(
        lost,
        [
            "spec.pod.serviceAccountName",
            "spec.steps[0].wat",
            "spec.steps[1].parallel.transfer[0].files",
            "spec.events",
        ]
    );
    insta::assert_json_snapshot!(imported.document);
}
