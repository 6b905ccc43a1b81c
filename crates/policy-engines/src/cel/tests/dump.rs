//! Temporary comparison with a dump.
use super::*;
use crate::crd_rules::RuleSet;
use api_machinery::schema::{Schema, SchemaRef};

#[test]
#[ignore]
fn compare() {
    let text = std::fs::read_to_string("/tmp/celdump/out.jsonl").unwrap();
    let (mut ok, mut bad) = (0, 0);
    for line in text.lines() {
        let case: Json = serde_json::from_str(line).unwrap();
        let Some(rule) = case["rule"].as_str() else { continue };
        if case["kind"] == "unmarshalable" { continue }
        let root = case["root"].as_bool().unwrap();
        let kind = kube_objects::GroupVersionKind::new("g", "v", "k");
        let schema = if root { Schema::for_custom_resource(Some(&case["schema"]), kind) } else { Schema::from_openapi_v3(&case["schema"]) };
        let Ok(schema) = schema else { println!("SCHEMA {rule}"); continue };
        let schema = SchemaRef::inline(schema);
        let shape = declared::self_shape(&schema, root);
        let mut problems = Vec::new();
        if let Some(shape) = &shape {
            let env = Environment::default().with("self", shape.ty.clone()).with("oldSelf", shape.ty.clone());
            match compile(rule, &env) {
                Ok(program) => {
                    if case["compileError"].is_string() { problems.push(format!("compiles; upstream: {}", case["compileError"])); }
                    else {
                    let estimate = cost::estimate(&program.checked, shape).max;
                    if case["estimate"].as_u64() != Some(estimate) && matches!(program.checked.output(), Type::Bool) { problems.push(format!("estimate {estimate} upstream {}", case["estimate"])); }
                    }
                }
                Err(error) => {
                    let norm = |s: &str| regex::Regex::new("selfType[0-9]+").unwrap().replace_all(s, "selfType").into_owned();
                    if case["compileError"].as_str().map(norm) != Some(norm(&error.to_string())) { problems.push(format!("compile error {error} upstream {}", case["compileError"])); }
                }
            }
        }
        if case["kind"] != "estimate" {
            let mut budget = crate::crd_rules::RULE_BUDGET;
            let old = Some(&case["old"]).filter(|old| !old.is_null());
            let verdict = RuleSet::compile(&schema, root).map(|rules| rules.validate("root", &case["obj"], old, &mut budget)).unwrap_or_default();
            let cost = crate::crd_rules::RULE_BUDGET - budget;
            if case["cost"].as_i64() != Some(cost) { problems.push(format!("cost {cost} upstream {}", case["cost"])); }
            let errs: Vec<String> = verdict.causes.into_iter().map(|cause| cause.message).collect();
            let upstream: Vec<String> = serde_json::from_value(case["errs"].clone()).unwrap();
            let norm = |s: &String| regex::Regex::new("selfType[0-9]+").unwrap().replace_all(s, "selfType").into_owned();
            if errs.iter().map(norm).collect::<Vec<_>>() != upstream.iter().map(norm).collect::<Vec<_>>() { problems.push(format!("errs {errs:?}\n       upstream {upstream:?}")); }
        }
        if problems.is_empty() { ok += 1 } else { bad += 1; println!("[{}] {}\n    {}", case["name"], rule, problems.join("\n    ")); }
    }
    println!("ok {ok} bad {bad}");
}
