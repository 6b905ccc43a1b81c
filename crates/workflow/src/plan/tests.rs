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
fn long_names_of_instances_stay_apart() {
    let long = "integration-tests-of-the-whole-shop-a";
    let plan = planned(&format!(
        "container: {{image: alpine}}\nsteps: [{{name: {long}, parallel: {{count: 3, steps: [{{name: {long}, shell: x}}, {{name: {long}b, parallel: {{count: 2, steps: [{{name: {long}, shell: x}}]}}}}]}}}}]\n"
    ));
    fn names(plan: &ExecutionPlan, out: &mut Vec<String>) {
        for step in &plan.steps {
            out.push(step.name.clone());
            step.parallel.iter().flat_map(|own| &own.instances).for_each(|instance| names(instance, out));
        }
    }
    let mut all = Vec::new();
    names(&plan, &mut all);
    assert_eq!(all.len(), 1 + 3 * (2 + 2));
    assert!(all.iter().all(|name| name.len() <= 63));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1 + 3 * (2 + 2), "{all:#?}");
}

#[test]
fn what_belongs_to_an_own_entry_point_becomes_steps_around_it() {
    let plan = planned(
        "steps: [{name: make, image: i, shell: x}, {name: own, image: i, negative: true, optional: true, timeout: 5s, delay: 1s, retry: {count: 1}, artifacts: ['*.txt']}, {name: last, image: i}]\n",
    );
    let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        ["make", "wait", "own-run", "keep-files", "wait-2", "own-run-2", "keep-files-2", "last"]
    );
    let begin: Vec<_> = plan.steps.iter().filter(|step| step.begins_pod).map(|step| &step.name).collect();
    assert_eq!(begin, ["own-run", "own-run-2"], "a failure of the others' pod is nobody's");
    let (own, group) = (&plan.steps[2], &plan.groups[0]);
    assert_eq!((own.negative, own.timeout.as_secs(), own.attempts), (true, 5, 1));
    assert_eq!((group.negative, group.optional, group.timeout, plan.packs.len()), (false, true, None, 1));
    assert!(own.artifacts.is_empty() && plan.steps[3].artifacts == ["*.txt"]);
    let next = |ended: &[usize]| {
        let ended = ended.iter().map(|index| (*index, Outcome::Failed)).collect();
        progress::next(&plan, &progress::Progress { ended, ..Default::default() }, &|_| false)
    };
    assert_eq!(next(&[]), progress::Next::Pod(0, 2));
    // Nothing is tried again that need not be.
    let plain = planned("steps: [{name: own, image: i, negative: true}]\n");
    assert!(plain.groups.is_empty() && plain.packs.is_empty() && !plain.steps[0].begins_pod);
}

#[test]
fn services_are_found_by_their_addresses() {
    let plan = planned(
        "services: {db: {image: postgres, count: 2}}\nsteps: [{name: go, image: i, shell: 'psql {{ services.db.0.ip }} {{ join(services.db.*.ip, \",\") }}'}]\n",
    );
    assert_eq!(plan.services.len(), 2);
    let services = json!({"db": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]});
    let with = with_services(&plan, &services, 0).expect("resolves");
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

#[test]
fn lists_of_files_are_found_by_a_step_and_planned_then() {
    let text = "container: {image: alpine}\nsteps: [{name: all, optional: true, condition: always, parallel: {shards: {file: 'glob(\"tests/*.js\")'}, maxCount: 2, parallelism: 1, matrix: {db: [a]}, transfer: [{from: '{{ shard.file.0 }}'}], steps: [{name: go, image: 'x:{{ matrix.db }}', timeout: '{{ count }}m', shell: 'run {{ join(shard.file, \" \") }} {{ index }}/{{ count }}'}]}}]\n";
    let (spec, plan) = (spec(text), planned(text));
    let [look, all] = plan.steps.as_slice() else { panic!("{:#?}", plan.steps) };
    assert_eq!((look.name.as_str(), look.condition.as_str(), look.optional), ("all-instances", "true", true));
    assert_eq!(all.waits_for, ["all"]);
    assert!(all.parallel.as_ref().is_some_and(|parallel| parallel.instances.is_empty()));
    assert_eq!(plan.packs.len(), 1, "the workspace outlives its pod");
    let found = json!({"matrix": {"db": ["a"]}, "shards": {"file": ["tests/a.js", "tests/b.js", "tests/c.js"]}, "maxCount": 2});
    let found = BTreeMap::from([("all".to_owned(), serde_json::from_value(found).expect("lists"))]);
    let with = expanded(&spec, found, &plan, 1).expect("instances");
    let instances = &with.steps[1].parallel.as_ref().expect("parallel").instances;
    let told: Vec<_> =
        instances.iter().map(|own| (own.steps[0].image.as_str(), own.steps[0].args[0].as_str())).collect();
    assert_eq!(told, [("x:a", "run tests/a.js 0/2"), ("x:a", "run tests/b.js tests/c.js 1/2")]);
    assert!(with.steps[1].waits_for.is_empty());
    assert!(expanded(&spec, BTreeMap::new(), &plan, 1).is_err());
    let many = json!({"shards": {"file": vec!["x"; 10_000]}, "count": 1000});
    let many = BTreeMap::from([("all".to_owned(), serde_json::from_value(many).expect("lists"))]);
    let why = expanded(&spec, many, &plan, 1).expect_err("too many").to_string();
    assert!(why.contains("spec.workflow.steps[0].parallel.count: 1000 instances; at most 256"), "{why}");
}

#[test]
fn services_with_files_start_where_the_files_are_there() {
    let plan = planned(
        "container: {image: alpine}\nservices: {db: {image: postgres}, web: {image: nginx, transfer: [{from: site, to: /srv}], shell: 'serve'}}\ncontent: {files: [{path: site/index.html, content: x}]}\nsteps: [{name: go, shell: 'get {{ services.web.0.ip }} {{ services.db.0.ip }}'}]\n",
    );
    let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["write-files", "start-services", "go"]);
    assert_eq!((plan.services.len(), plan.all_services().count(), plan.packs.len()), (1, 2, 1));
    let with = with_services(&plan, &json!({"db": [{"ip": "10.0.0.1"}]}), 0).expect("resolves");
    assert_eq!(with.steps[2].args, ["get {{services.web.0.ip}} 10.0.0.1"]);
    let with = with_services(&with, &json!({"web": [{"ip": "10.0.0.2"}]}), 2).expect("resolves");
    assert_eq!(with.steps[2].args, ["get 10.0.0.2 10.0.0.1"]);
    let wrong = planned(
        "services: {db: {image: x}}\nsteps: [{name: go, image: i, args: ['{{ services.bd.0.ip }}']}]\n",
    );
    let why = with_services(&wrong, &json!({"db": []}), 0).expect_err("nobody has it").to_string();
    assert!(why.contains("services has no \"bd\""), "{why}");
}
