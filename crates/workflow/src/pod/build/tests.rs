use fleet_objects::test_run::{Outcome, RunReference, TestExecutionSpec};

use super::*;

fn options() -> PodOptions {
    PodOptions {
        namespace: "fairlead-tests".into(),
        tool_image: "fairlead.dev/tool:latest".into(),
        run: RunReference { namespace: "default".into(), name: "smoke".into(), uid: "run-uid".into() },
        execution_uid: "5B0C1E2A-1111-2222-3333-444455556666".into(),
        part: String::new(),
        kubeconfig: None,
    }
}

fn planned(text: &str) -> ExecutionPlan {
    let spec = TestExecutionSpec {
        run: options().run,
        cluster: "dev".into(),
        workflow: serde_saphyr::from_str(text).expect("a workflow"),
        variables: Default::default(),
        config: Default::default(),
        cancel: false,
        pause: None,
    };
    crate::plan::execution(&spec).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_pod_of_steps() {
    let plan = planned(
        "steps: [{name: unit, image: 'example.com/unit:1', command: [/run, '$(FAIRLEAD_CLUSTER)'], artifacts: ['out/**']}, {name: bare, image: own}]\n",
    );
    let progress = Progress { ended: [(7, Outcome::Passed)].into(), ..Progress::default() };
    insta::assert_json_snapshot!(steps(&options(), &plan, &progress, (0, 2), 1).expect("a pod"));
}

#[test]
fn a_pod_of_a_workflow_s_own_making_still_has_no_rights() {
    let plan = planned(
        "pod: {labels: {a: b}, nodeSelector: {zone: x}, securityContext: {runAsUser: 0}, volumes: [{name: more, emptyDir: {}}]}\nsteps: [{name: unit, image: i, shell: 'true', container: {volumeMounts: [{name: more, mountPath: /more}], resources: {limits: {cpu: '1'}}}}]\n",
    );
    let pod = steps(&options(), &plan, &Progress::default(), (0, 1), 1).expect("a pod");
    let spec = pod.spec.expect("a spec");
    assert_eq!(spec.automount_service_account_token, Some(false));
    let context = spec.security_context.expect("a context");
    assert_eq!((context.run_as_user, context.run_as_non_root), (Some(0), Some(false)));
    assert_eq!(context.seccomp_profile.map(|profile| profile.type_), Some("RuntimeDefault".to_owned()));
    assert_eq!(spec.volumes.map(|volumes| volumes.len()), Some(6));
    let labels = pod.metadata.labels.expect("labels");
    assert_eq!((labels["a"].as_str(), labels[EXECUTION_UID_LABEL].len()), ("b", 36));
}

#[test]
fn a_long_plan_comes_in_pieces_and_dollars_stay_dollars() {
    let script = format!("echo $(HOME) {}", "ä$".repeat(80_000));
    let plan = planned(&format!("steps: [{{name: a, image: i, shell: {}}}]\n", json!(script)));
    let pod = steps(&options(), &plan, &Progress::default(), (0, 1), 1).expect("a pod");
    let env = pod.spec.expect("a spec").init_containers.expect("some")[0].env.clone().expect("variables");
    let whole: String = env.iter().filter_map(|own| own.value.clone()).collect();
    let read = crate::words::expand(&whole, &|_| panic!("no name may be left"));
    let read: ExecutionPlan = serde_json::from_str(&read).expect("the plan");
    assert_eq!(read, plan);
}

#[test]
fn names_fit_whatever_parts_are_called() {
    let mut options = options();
    options.part = "p".repeat(60);
    assert!(name(&options, 128).len() <= 63);
    let service = PlannedService { name: "S".repeat(40), index: 255, ..Default::default() };
    assert!(service_name(&options, &service).len() <= 253);
}
