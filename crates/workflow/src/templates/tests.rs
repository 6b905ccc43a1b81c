use super::*;

fn workflow(text: &str) -> TestWorkflowSpec {
    serde_saphyr::from_str(text).expect("a workflow")
}

fn templates(name: &str) -> Option<TestWorkflowTemplateSpec> {
    let text = match name {
        "official--k6" => {
            "config: {version: {default: '1.1.0'}, run: {type: string}}\nsteps: [{title: Run k6, image: 'k6:{{ config.version }}', shell: '{{ config.run }}'}]\n"
        }
        "base" => {
            "container: {image: alpine, env: [{name: A, value: below}, {name: B, value: below}]}\nsetup: [{name: first, shell: 'true'}]\nafter: [{name: last, shell: 'true'}]\npod: {nodeSelector: {zone: a}}\n"
        }
        "loop" => "use: [{name: loop}]\nsteps: [{shell: 'true'}]\n",
        _ => return None,
    };
    Some(serde_saphyr::from_str(text).expect("a template"))
}

#[test]
fn a_template_lies_around_and_below() {
    let spec = workflow(
        "use: [{name: base}]\ncontainer: {env: [{name: A, value: own}]}\npod: {nodeSelector: {disk: ssd}}\nsteps: [{name: mine, shell: 'true', template: {name: official/k6, config: {run: 'k6 run x'}}}]\n",
    );
    let out = apply(&spec, &[], &templates, "spec").expect("applies");
    insta::assert_yaml_snapshot!(out);
}

#[test]
fn what_is_wrong_with_templates_is_told_all_at_once() {
    let spec = workflow(
        "use: [{name: nowhere}]\nsteps: [{template: {name: official/k6}}, {use: [{name: official/k6, config: {run: x, versoin: 1}}]}, {template: {name: loop}}]\n",
    );
    let Invalid(errors) = apply(&spec, &[], &templates, "spec").expect_err("wrong");
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], "spec.steps[0].template.config.run: required: it has no default");
    assert_eq!(
        told[1],
        "spec.steps[1].use[0].config.versoin: the workflow does not declare it; declared: run, version"
    );
    assert!(told[2].contains("templates within templates go no deeper than 8"), "{told:?}");
    assert_eq!(told[3], "spec.use[0].name: there is no TestWorkflowTemplate nowhere");
}

#[test]
fn a_fleet_wide_template_lies_below_the_workflow_s_own() {
    let spec = workflow("use: [{name: base}]\nsteps: [{name: mine, shell: 'true'}]\n");
    let wide: TestWorkflowTemplateSpec =
        serde_saphyr::from_str("fleetWide: true\ncontainer: {image: wide, env: [{name: C, value: wide}]}\n")
            .expect("one");
    let out = apply(&spec, &[wide], &templates, "spec").expect("applies");
    let container = out.container.expect("a container");
    assert_eq!(container.image, "alpine");
    assert_eq!(container.env.iter().map(|own| own.name.as_str()).collect::<Vec<_>>(), ["C", "A", "B"]);
}
