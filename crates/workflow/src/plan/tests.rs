use serde_json::json;

use super::*;

fn spec(text: &str) -> TestExecutionSpec {
    TestExecutionSpec {
        run: RunReference { namespace: "default".into(), name: "smoke".into(), uid: "0123-abcd".into() },
        cluster: "dev".into(),
        workflow: serde_saphyr::from_str(text).expect("a workflow"),
        variables: BTreeMap::new(),
        config: BTreeMap::new(),
        cancel: false,
        pause: None,
    }
}

fn planned(text: &str) -> ExecutionPlan {
    execution(&spec(text)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_plan_is_flat_with_every_default_filled_in() {
    let plan = planned(
        "config: {version: {default: 3}}\nvariables: {URL: http://a}\ncontainer: {image: 'alpine:{{ config.version }}', env: [{name: A, value: x}]}\ncontent: {files: [{path: a.txt, content: 'hello {{ cluster.name }}'}]}\nsteps:\n- {name: build, shell: 'make {{ step.results }}', retry: {count: 2, until: self.passed}, artifacts: ['out/**']}\n- {title: Check it, optional: true, steps: [{shell: './check', condition: 'always'}, {image: tool, args: [x], negative: true}]}\nafter: [{name: clean, shell: rm, timeout: 5s}]\n",
    );
    insta::assert_yaml_snapshot!(plan);
}

#[test]
fn a_run_s_value_replaces_the_workflow_s_and_a_step_s_replaces_both() {
    let mut spec = spec(
        "variables: {URL: a}\nsteps: [{name: a, image: i}, {name: b, image: i, env: [{name: URL, value: mine}]}]\n",
    );
    spec.variables.insert("URL".to_owned(), "b".to_owned());
    let plan = execution(&spec).expect("valid");
    let url = |index: usize| {
        let found: Vec<_> = plan.steps[index].env.iter().filter(|variable| variable.name == "URL").collect();
        assert_eq!(found.len(), 1);
        found[0].value.clone()
    };
    assert_eq!((url(0).as_str(), url(1).as_str()), ("b", "mine"));
}

#[test]
fn a_matrix_becomes_a_plan_per_instance() {
    let plan = planned(
        "container: {image: alpine}\nsteps: [{name: all, parallel: {matrix: {browser: [chrome, firefox]}, shards: {file: [a, b, c]}, count: 2, steps: [{name: go, shell: 'run {{ matrix.browser }} {{ join(shard.file, \" \") }} {{ index }}/{{ count }}'}]}}]\n",
    );
    let parallel = plan.steps[0].parallel.as_ref().expect("parallel");
    let scripts: Vec<_> = parallel.instances.iter().map(|own| own.steps[0].args[0].clone()).collect();
    assert_eq!(
        scripts,
        ["run chrome a 0/4", "run chrome b c 1/4", "run firefox a 2/4", "run firefox b c 3/4"]
    );
    assert_eq!(parallel.instances[2].steps[0].name, "all-2-go");
}

#[test]
fn services_are_found_by_their_addresses() {
    let plan = planned(
        "services: {db: {image: postgres, count: 2}}\nsteps: [{name: go, image: i, shell: 'psql {{ services.db.0.ip }} {{ join(services.db.*.ip, \",\") }}'}]\n",
    );
    assert_eq!(plan.services.len(), 2);
    let services = json!({"db": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]});
    let with = with_services(&plan, &services).expect("resolves");
    assert_eq!(with.steps[0].args, ["psql 10.0.0.1 10.0.0.1,10.0.0.2"]);
}

#[test]
fn secrets_are_named_never_held() {
    let plan = planned("steps: [{name: go, image: i, shell: 'login {{ secret(\"vault\", \"token\") }}'}]\n");
    let step = &plan.steps[0];
    let secret = step.env.iter().find(|own| own.value_from.is_some()).expect("a variable");
    assert_eq!(
        secret.value_from.as_ref().map(|from| from["secretKeyRef"]["key"].clone()),
        Some(json!("token"))
    );
    assert_eq!(step.args[0], format!("login {{{{env.{}}}}}", secret.name));
}

#[test]
fn every_mistake_is_told_with_its_field() {
    let spec = spec(
        "container: {image: alpine}\nsteps: [{name: a, image: 'x:{{ env.TAG }}'}, {name: b, shell: 'echo {{ config.x }}'}, {name: c, parallel: {count: 'len(glob(\"*\"))', steps: [{shell: 'true'}]}}, {name: d, condition: 'step.a.ok == nope()', shell: 'true'}]\n",
    );
    let Invalid(errors) = execution(&spec).expect_err("wrong");
    insta::assert_snapshot!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}
