//! Tables of expressions with what upstream makes of them (`pkg/authentication/cel`, `plugin/…/token/oidc`).

use serde_json::json;

use super::*;

fn claims() -> Json {
    json!({
        "sub": "ada", "exp": 1_700_081_020, "email": "ada@example.com", "email_verified": true, "admin": null,
        "groups": ["web", "", "ops"], "mixed": ["a", 1], "roles": "dev,qa", "flag": true, "a__b": "kept",
        "kubernetes.io": {"namespace": "n", "pod-name": "p", "for": "word", "links": [{"uid.io": "u"}]},
    })
}

fn of_claims(source: &str) -> Result<Json, String> {
    Expression::compile(source, Subject::Claims, false)?.evaluate(&claims())
}

#[test]
fn claims_have_the_values_that_upstream_gives_them() {
    let cases = [
        ("claims.sub", json!("ada")),
        ("'x:' + claims.sub", json!("x:ada")),
        ("claims.groups", json!(["web", "", "ops"])),
        ("claims.groups + ['x']", json!(["web", "", "ops", "x"])),
        ("claims.roles.split(',').map(role, 'role:' + role)", json!(["role:dev", "role:qa"])),
        ("dyn(claims.groups).filter(group, group != '')", json!(["web", "ops"])),
        ("claims.admin", Json::Null),
        ("has(claims.admin) && claims.admin == null", json!(true)),
        ("has(claims.nobody)", json!(false)),
        ("claims.?nobody.orValue('none')", json!("none")),
        ("(has(claims.flag) && claims.flag) ? 'true' : ''", json!("true")),
        // Go reads every number as a double.
        ("type(claims.exp) == double", json!(true)),
        ("string(int(claims.exp))", json!("1700081020")),
        ("claims.exp - 1700081000.0 <= 20", json!(true)),
        // Names that are no identifiers, as they are and escaped, wherever they stand.
        ("claims['kubernetes.io']['namespace']", json!("n")),
        ("claims.kubernetes__dot__io.namespace", json!("n")),
        ("claims.kubernetes__dot__io.pod__dash__name", json!("p")),
        ("claims.kubernetes__dot__io.__for__", json!("word")),
        ("claims.kubernetes__dot__io.links[0].uid__dot__io", json!("u")),
        ("has(claims.kubernetes__dot__io.links[0].uid__dot__io)", json!(true)),
        ("claims.a__b", json!("kept")),
        ("'kubernetes.io' in claims && !('io' in claims)", json!(true)),
        ("claims == claims && claims.groups == ['web', '', 'ops']", json!(true)),
    ];
    for (source, wanted) in cases {
        assert_eq!(of_claims(source), Ok(wanted), "{source}");
    }
}

#[test]
fn an_expression_without_a_usable_value_is_an_error() {
    let cases = [
        ("claims.nobody", "no such key: nobody"),
        ("claims.kubernetes__dot__io.nobody", "no such key: nobody"),
        ("claims.exp", "it must be a string or a list of strings, and is double"),
        ("claims.mixed", "is a list with double"),
        ("claims.?sub", "is optional_type"),
        ("claims", "is map"),
        ("b'bytes'", "is bytes"),
        ("claims.sub + 1", "no such overload"),
        // Bounded in time, whatever is written.
        (
            "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(a, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(b, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(c, \
             [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(d, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(e, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(f, a)))))) == []",
            "cost limit exceeded",
        ),
    ];
    for (source, wanted) in cases {
        let error = of_claims(source).expect_err(source);
        assert!(error.contains(wanted), "{source}: {error}");
    }
}

#[test]
fn what_does_not_compile_is_said_in_upstreams_words() {
    let compile = |source: &str, subject, condition| {
        Expression::compile(source, subject, condition).map(drop).expect_err(source)
    };
    let (claims, user) = (Subject::Claims, Subject::User);
    let cases = [
        ("claims.flag", claims, true, "must evaluate to bool"),
        ("claims.?email_verified.orValue(true)", claims, true, "must evaluate to bool"),
        ("user.username", user, true, "must evaluate to bool"),
        (
            "user.username == 'foo'",
            claims,
            true,
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'user' (in container '')\n | user.username == 'foo'\n | ^",
        ),
        ("claims.foo", user, false, "undeclared reference to 'claims' (in container '')"),
        (
            "claims + 1",
            claims,
            false,
            "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(map(string, any), int)'",
        ),
        ("user.unknown == 'foo'", user, true, "ERROR: <input>:1:5: undefined field 'unknown'"),
        ("user.uid + 1", user, false, "applied to '(string, int)'"),
        (
            "authorizer.path('/x').check('get').allowed()",
            claims,
            true,
            "undeclared reference to 'authorizer'",
        ),
        // cel-go takes `dyn` as a range, and not `any`.
        (
            "claims.groups.map(group, 'x:' + group)",
            claims,
            false,
            "expression of type 'any' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("", claims, false, "compilation failed"),
    ];
    for (source, subject, condition, wanted) in cases {
        let error = compile(source, subject, condition);
        assert!(error.contains(wanted), "{source}: {error}");
    }
    for source in
        ["claims.foo == 'bar'", "claims.foo.bar.baz in claims.list", "claims.?ok.orValue(true) == true"]
    {
        assert!(Expression::compile(source, claims, true).is_ok(), "{source}");
    }
}

#[test]
fn users_are_judged_by_all_that_they_are() {
    let nobody = json!({"username": " ", "uid": "", "groups": [], "extra": {}});
    let ada = json!({"username": "ada", "uid": "7", "groups": ["web"],
        "extra": {"example.org/foo": ["bar", "baz"], "authentication.kubernetes.io/credential-id": ["JTI=x"]}});
    let cases = [
        ("user.username == ' '", true, false),
        ("user.uid == ''", true, false),
        ("!('web' in user.groups)", true, false),
        ("!('example.org/foo' in user.extra)", true, false),
        ("user.groups.all(group, !group.startsWith('system:'))", true, true),
        ("user.extra.?example__dot__org__slash__foo[0].orValue('') == 'bar'", false, true),
        ("has(user.extra.example__dot__org__slash__foo)", false, true),
        ("user.extra[?'example.org/foo'].orValue([]).size() == 2", false, true),
        (
            "!(user.extra[?'authentication.kubernetes.io/credential-id'][0].orValue('') in ['JTI=x'])",
            true,
            false,
        ),
    ];
    for (source, of_nobody, of_ada) in cases {
        let expression = Expression::compile(source, Subject::User, true).expect(source);
        assert_eq!(expression.evaluate(&nobody), Ok(json!(of_nobody)), "{source}");
        assert_eq!(expression.evaluate(&ada), Ok(json!(of_ada)), "{source}");
    }
}

#[test]
fn selected_claims_are_found_wherever_they_stand() {
    let selects =
        |source: &str| Expression::compile(source, Subject::Claims, false).expect(source).selects("email");
    for source in [
        "claims.email",
        ".claims.email",
        "has(claims.email) ? 'a' : 'b'",
        "claims.?email",
        "{claims.?email: 'panda'}",
        "{'fancy': claims.?email}",
        "['yay', string(claims.email), 'panda'].join(' ')",
        "['a'].map(i, i + claims.email)",
        "claims.email.trim()",
        "claims.email.verified",
    ] {
        assert!(selects(source), "{source}");
    }
    for source in
        ["claims.email_", "claims.other.claims.email", "claims.sub", "'claims.email'", "claims['email']"]
    {
        assert!(!selects(source), "{source}");
    }
}
