//! Policies on requests: decisions, messages, annotations, budgets, problems.

use kube_objects::UserInfo;
use serde_json::{Value as Json, json};

use super::*;
use crate::cel::authorizer::{Answer, Authorizer, Question};

struct Only(&'static str);

impl Authorizer for Only {
    fn authorize(&self, _: &UserInfo, question: &Question) -> Answer {
        Answer { allowed: question.verb == self.0, reason: "because".to_owned(), error: None }
    }
}

struct Request {
    object: Json,
    old: Json,
    request: Json,
    namespace: Json,
    params: Option<Json>,
    user: UserInfo,
}

impl Request {
    fn of(object: Json) -> Self {
        Self {
            object,
            old: Json::Null,
            request: json!({"operation": "CREATE", "name": "x", "userInfo": {"username": "jane"}}),
            namespace: json!({"metadata": {"name": "ns", "labels": {"env": "prod"}}}),
            params: None,
            user: UserInfo::new("jane", &[]),
        }
    }

    fn inputs<'a>(&'a self, by: &'a Only) -> Inputs<'a> {
        Inputs {
            object: &self.object,
            old_object: &self.old,
            request: &self.request,
            namespace_object: &self.namespace,
            params: self.params.as_ref(),
            authorizer: Some((by, &self.user)),
            request_resource: Question { resource: "pods".to_owned(), ..Question::default() },
        }
    }

    fn validate(&self, spec: Json) -> Evaluated {
        ValidatingPolicy::compile(&json!({ "spec": spec })).evaluate(&self.inputs(&Only("get")))
    }
}

fn failed(message: &str) -> Decision {
    Decision::Failed { message: message.to_owned() }
}

fn denied(message: &str) -> Decision {
    Decision::Deny { message: message.to_owned(), reason: None }
}

#[test]
fn decisions_and_messages_are_upstreams() {
    let request = Request::of(json!({"spec": {"replicas": 5}, "metadata": {"name": "x"}}));
    let table = [
        (json!({"expression": "object.spec.replicas <= 5"}), Decision::Admit),
        (
            json!({"expression": "object.spec.replicas < 5"}),
            denied("failed expression: object.spec.replicas < 5"),
        ),
        (json!({"expression": "object.spec.replicas < 5", "message": " too many "}), denied("too many")),
        (
            json!({"expression": "object.spec.replicas < 5", "messageExpression": "'have ' + string(object.spec.replicas)"}),
            denied("have 5"),
        ),
        (
            json!({"expression": "object.spec.replicas < 5", "message": "m", "messageExpression": "string(object.nothing)"}),
            denied("m"),
        ),
        (
            json!({"expression": "object.spec.nothing == 1"}),
            failed("expression 'object.spec.nothing == 1' resulted in error: no such key: nothing"),
        ),
        (
            json!({"expression": "false", "reason": "Forbidden"}),
            Decision::Deny {
                message: "failed expression: false".to_owned(),
                reason: Some("Forbidden".to_owned()),
            },
        ),
        (json!({"expression": "namespaceObject.metadata.labels.env == 'prod'"}), Decision::Admit),
        (json!({"expression": "request.userInfo.username == 'jane' && oldObject == null"}), Decision::Admit),
        (
            json!({"expression": "authorizer.group('').resource('pods').check('get').allowed()"}),
            Decision::Admit,
        ),
        (json!({"expression": "!authorizer.requestResource.check('delete').allowed()"}), Decision::Admit),
        (
            json!({"expression": "authorizer.path('/healthz').check('get').reason() == 'because'"}),
            Decision::Admit,
        ),
    ];
    for (validation, expected) in table {
        let evaluated = request.validate(json!({"validations": [validation.clone()]}));
        assert_eq!(evaluated.decisions, [expected], "{validation}");
    }
}

#[test]
fn a_failure_is_left_out_where_the_policy_says_so() {
    let request = Request::of(json!({}));
    let spec = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.a == 1"}, {"expression": "false"}]});
    assert_eq!(request.validate(spec).decisions, [Decision::Admit, denied("failed expression: false")]);
}

#[test]
fn variables_are_lazy_and_see_those_before() {
    let request = Request::of(json!({"n": 2}));
    let spec = json!({
        "variables": [
            {"name": "broken", "expression": "object.nothing.at.all"},
            {"name": "n", "expression": "object.n"},
            {"name": "double", "expression": "variables.n * 2"},
        ],
        "validations": [
            {"expression": "variables.double == 4 || variables.broken == 1"},
            {"expression": "variables.broken == 1"},
        ],
    });
    let why = "expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: no such key: nothing";
    assert_eq!(request.validate(spec).decisions, [Decision::Admit, failed(why)]);
}

#[test]
fn a_long_chain_of_variables_does_not_overflow_the_stack() {
    let mut variables = vec![json!({"name": "v0", "expression": "1"})];
    for index in 1..2_000 {
        variables.push(
            json!({"name": format!("v{index}"), "expression": format!("variables.v{} + 1", index - 1)}),
        );
    }
    let spec = json!({"variables": variables, "validations": [{"expression": "variables.v1999 > 0"}]});
    let evaluated = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || Request::of(json!({})).validate(spec))
        .unwrap()
        .join()
        .unwrap();
    assert!(
        matches!(&evaluated.decisions[..], [Decision::Failed { message }] if message.contains("nested too deeply"))
    );
}

#[test]
fn conditions_and_parameters() {
    let mut request = Request::of(json!({"n": 2}));
    request.params = Some(json!({"max": 1}));
    let spec = |condition: &str| {
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [{"name": "c", "expression": condition}],
            "validations": [{"expression": "object.n <= params.max"}],
        })
    };
    assert_eq!(
        request.validate(spec("object.n == 2")).decisions,
        [denied("failed expression: object.n <= params.max")]
    );
    assert_eq!(request.validate(spec("object.n == 3")), Evaluated::default());
    let why = "expression 'object.x == 3' resulted in error: no such key: x";
    assert_eq!(request.validate(spec("object.x == 3")).decisions, [failed(why)]);
}

#[test]
fn annotations() {
    let request = Request::of(json!({"n": 2}));
    let spec = json!({"validations": [{"expression": "true"}], "auditAnnotations": [
        {"key": "a", "valueExpression": "'n is ' + string(object.n)"},
        {"key": "b", "valueExpression": "null"},
    ]});
    let expected = Annotation::Publish { key: "a".to_owned(), value: "n is 2".to_owned() };
    assert_eq!(request.validate(spec).annotations, [expected]);
}

#[test]
fn too_expensive_policies_end() {
    let request = Request::of(json!({"l": vec![1; 2_000]}));
    let spec = json!({"validations": [{"expression": "object.l.all(x, object.l.all(y, object.l.all(z, x + y + z > 0)))"}]});
    let evaluated = request.validate(spec);
    assert!(
        matches!(&evaluated.decisions[..], [Decision::Failed { message }] if message.contains("actual cost limit exceeded")),
        "{evaluated:?}"
    );
}

#[test]
fn problems_stand_at_their_expressions() {
    let policy = json!({"spec": {
        "variables": [{"name": "a", "expression": "nothing"}],
        "matchConditions": [{"name": "c", "expression": "1"}],
        "validations": [{"expression": "object.a +", "messageExpression": "1"}, {"expression": "params.x == 1"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "true"}],
    }});
    let causes = check_validating(&policy);
    let shown: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let starts = [
        "spec.variables[0].expression: Invalid value: \"nothing\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing' (in container '')",
        "spec.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        "spec.validations[0].expression: Invalid value: \"object.a +\": compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>' expecting",
        "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
        "spec.validations[1].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')",
        "spec.auditAnnotations[0].valueExpression: Invalid value: \"true\": must evaluate to one of [string null_type] but got bool",
    ];
    assert_eq!(shown.len(), starts.len(), "{shown:#?}");
    for (shown, start) in shown.iter().zip(starts) {
        assert!(shown.starts_with(start), "{shown}\n{start}");
    }
}

#[test]
fn mutations() {
    let request = Request::of(json!({"spec": {"a": 1}}));
    let by = Only("get");
    let policy = |patch_type: &str, field: &str, expression: &str| {
        MutatingPolicy::compile(
            &json!({"spec": {"mutations": [{"patchType": patch_type, field: {"expression": expression}}]}}),
        )
        .mutation(0, &request.inputs(&by))
    };
    let apply = |expression| policy("ApplyConfiguration", "applyConfiguration", expression);
    assert_eq!(
        apply("Object{spec: Object.spec{a: object.spec.a + 1, list: [Object.spec.list{b: 'x'}]}}"),
        Ok(Mutation::Apply(json!({"spec": {"a": 2, "list": [{"b": "x"}]}})))
    );
    assert_eq!(
        apply("Object{spec: Object.wrong{a: 1}}"),
        Err("type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type".to_owned())
    );
    assert_eq!(apply("{'a': 1}"), Err("must evaluate to Object but got map(string, int)".to_owned()));
    let patch = |expression| policy("JSONPatch", "jsonPatch", expression);
    assert_eq!(
        patch("[JSONPatch{op: 'add', path: '/spec/' + jsonpatch.escapeKey('a/b'), value: object.spec.a}]"),
        Ok(Mutation::Patch(json!([{"op": "add", "path": "/spec/a~1b", "value": 1}])))
    );
}

#[test]
fn types_are_checked_against_the_kinds() {
    let schema = api_machinery::schema::SchemaRef::builtin("io.k8s.api.apps.v1.Deployment").unwrap();
    let kinds =
        [CheckedKind { shown: "apps/v1, Kind=Deployment".to_owned(), kind: "Deployment".to_owned(), schema }];
    let policy = |expression: &str| json!({"spec": {"validations": [{"expression": expression}]}});
    assert_eq!(type_warnings(&policy("object.spec.replicas > 1"), &kinds, None), []);
    let warnings = type_warnings(&policy("object.spec.replicas > '1'"), &kinds, None);
    assert_eq!(warnings[0].field, "spec.validations[0].expression");
    assert!(
        warnings[0].warning.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"),
        "{}",
        warnings[0].warning
    );
}
