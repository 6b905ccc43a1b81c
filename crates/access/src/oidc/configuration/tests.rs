//! What is wrong with a configuration, in upstream's words (its `validation_test.go` is where the cases come from).

use super::*;
use crate::oidc::tests::Cel;

const ISSUER: &str = "{url: 'https://a', audiences: [x]}";
const NAMES: &str = "{username: {claim: sub, prefix: ''}}";

/// A document of one issuer.
fn document(issuer: &str, mappings: &str, more: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {issuer}\n  claimMappings: {mappings}\n{more}"
    )
}

/// What is said of a document; nothing: it is good.
fn said(text: &str) -> String {
    match parse(text, "https://own", &Cel) {
        Ok(_) => String::new(),
        Err(ConfigurationError(why)) => why,
    }
}

#[test]
fn issuers() {
    let cases = [
        (ISSUER, ""),
        (
            "{}",
            "[issuer.url: Required value, issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required]",
        ),
        (
            "{url: 'http://a', audiences: [x]}",
            "issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        ),
        ("{url: 'a', audiences: [x]}", "issuer.url: Invalid value: \"a\": URL scheme must be https"),
        (
            "{url: 'https://own', audiences: [x]}",
            "issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
        ),
        (
            "{url: 'https://u:p@a', audiences: [x]}",
            "issuer.url: Invalid value: \"https://u:p@a\": URL must not contain a username or password",
        ),
        (
            "{url: 'https://a?b', audiences: [x]}",
            "issuer.url: Invalid value: \"https://a?b\": URL must not contain a query",
        ),
        (
            "{url: 'https://a#b', audiences: [x]}",
            "issuer.url: Invalid value: \"https://a#b\": URL must not contain a fragment",
        ),
        (
            "{url: 'https://a:b', audiences: [x]}",
            "issuer.url: Invalid value: \"https://a:b\": parse \"https://a:b\": invalid port \":b\" after host",
        ),
        ("{url: 'https://[::1]:8443/a', audiences: [x]}", ""),
        ("{url: 'https://', audiences: [x]}", "issuer.url: Invalid value: \"https://\": it is no URL"),
        ("{url: 'https://a', discoveryURL: 'https://b/.well-known/x', audiences: [x]}", ""),
        (
            "{url: 'https://a/', discoveryURL: 'https://a//', audiences: [x]}",
            "issuer.discoveryURL: Invalid value: \"https://a//\": discoveryURL must be different from URL",
        ),
        (
            "{url: 'https://a', discoveryURL: 'http://b', audiences: [x]}",
            "issuer.discoveryURL: Invalid value: \"http://b\": URL scheme must be https",
        ),
        ("{url: 'https://a', audiences: ['']}", "issuer.audiences[0]: Required value"),
        (
            "{url: 'https://a', audiences: [x, x], audienceMatchPolicy: MatchAny}",
            "issuer.audiences[1]: Duplicate value: \"x\"",
        ),
        ("{url: 'https://a', audiences: [x, y], audienceMatchPolicy: MatchAny}", ""),
        ("{url: 'https://a', audiences: [x], audienceMatchPolicy: MatchAny}", ""),
        (
            "{url: 'https://a', audiences: [x, y]}",
            "issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences",
        ),
        (
            "{url: 'https://a', audiences: [x], audienceMatchPolicy: MatchExact}",
            "issuer.audienceMatchPolicy: Invalid value: \"MatchExact\": audienceMatchPolicy must be empty or MatchAny for single audience",
        ),
        (
            "{url: 'https://a', audiences: [x], certificateAuthority: nonsense}",
            "issuer.certificateAuthority: Invalid value: \"<omitted>\": data does not contain any valid RSA or ECDSA certificates",
        ),
        (
            "{url: 'https://a', audiences: [x], egressSelectorType: panda}",
            "issuer.egressSelectorType: Invalid value: \"panda\": egress selector must be either controlplane or cluster",
        ),
        (
            "{url: 'https://a', audiences: [x], egressSelectorType: cluster}",
            "issuer.egressSelectorType: Forbidden: this server has no configuration of egress selectors",
        ),
    ];
    for (issuer, wanted) in cases {
        let said = said(&document(issuer, NAMES, "")).replace("jwt[0].issuer.url", "issuer.url");
        let wanted = wanted
            .replace("[issuer.url: Required value, issuer", "[issuer.url: Required value, jwt[0].issuer");
        assert_eq!(said.strip_prefix("jwt[0].").unwrap_or(&said), wanted, "{issuer}");
    }
    let authority = crate::CertificateAuthority::ephemeral("issuer").expect("an authority");
    let pem = authority.bundle_pem().replace('\n', "\\n");
    assert_eq!(
        said(&document(
            &format!("{{url: 'https://a', audiences: [x], certificateAuthority: \"{pem}\"}}"),
            NAMES,
            ""
        )),
        ""
    );
}

#[test]
fn several_issuers() {
    let second = |issuer: &str| {
        said(&document(
            "{url: 'https://a', discoveryURL: 'https://d', audiences: [x]}",
            NAMES,
            &format!("- issuer: {issuer}\n  claimMappings: {NAMES}\n"),
        ))
    };
    assert_eq!(second("{url: 'https://b', audiences: [x]}"), "");
    assert_eq!(second(ISSUER), "jwt[1].issuer.url: Duplicate value: \"https://a\"");
    let discovery = "{url: 'https://b', discoveryURL: 'https://d', audiences: [x]}";
    assert_eq!(second(discovery), "jwt[1].issuer.discoveryURL: Duplicate value: \"https://d\"");
    let many = format!("- issuer: {ISSUER}\n  claimMappings: {NAMES}\n").repeat(64);
    assert_eq!(said(&document(ISSUER, NAMES, &many)), "jwt: Too many: 65: must have at most 64 items");
}

/// As the guide on access shows it.
const SHOWN: &str = r#"apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: { url: https://login.example.com, audiences: [fairlead] }
  claimValidationRules:
  - expression: claims.?email_verified.orValue(true) == true
    message: the address is not verified
  claimMappings:
    username: { expression: claims.email }
    groups: { expression: 'dyn(claims.groups).map(group, "oidc:" + group)' }
    uid: { expression: claims.sub }
    extra: [{ key: example.com/tenant, valueExpression: 'claims.?tenant.orValue("")' }]
  userValidationRules:
  - expression: user.groups.all(group, group != "oidc:root")
    message: nobody is root
"#;

#[test]
fn documents() {
    assert_eq!(said(SHOWN), "");
    assert_eq!(
        said("apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\njwt: []\n"),
        ""
    );
    for (text, wanted) in [
        ("kind: Secret".to_owned(), "apiVersion"),
        ("apiVersion: v1\nkind: Secret\n".to_owned(), "v1, Kind=Secret is not known"),
        (document(ISSUER, "{username: {claim: sub, prefix: '', expresion: x}}", ""), "expresion"),
        (document(ISSUER, NAMES, &format!("# {}", "x".repeat(5 << 20))), "it is longer than"),
    ] {
        let said = said(&text);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
fn claim_rules() {
    let cases = [
        ("[{claim: hd, requiredValue: x}, {expression: 'claims.a == \"b\"', message: m}]", ""),
        ("[{}]", "[0]: Required value: claim or expression is required"),
        (
            "[{claim: c, expression: 'true'}]",
            "[0]: Invalid value: \"c\": claim and expression can't both be set",
        ),
        (
            "[{claim: c, message: m}]",
            "[0].message: Invalid value: \"m\": may not be specified when claim is set",
        ),
        (
            "[{expression: 'claims.a == \"b\"', requiredValue: v}]",
            "[0].requiredValue: Invalid value: \"v\": may not be specified when expression is set",
        ),
        ("[{claim: c}, {claim: c, requiredValue: v}]", "[1].claim: Duplicate value: \"c\""),
        (
            "[{expression: 'has(claims.a)'}, {expression: 'has(claims.a)'}]",
            "[1].expression: Duplicate value: \"has(claims.a)\"",
        ),
        (
            "[{expression: foo.bar}]",
            "[0].expression: Invalid value: \"foo.bar\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in \
             container '')\n | foo.bar\n | ^",
        ),
        (
            "[{expression: claims.foo}]",
            "[0].expression: Invalid value: \"claims.foo\": must evaluate to bool",
        ),
        (
            "[{expression: 'user.username == \"a\"'}]",
            "[0].expression: Invalid value: \"user.username == \\\"a\\\"\": compilation failed: ERROR: <input>:1:1: undeclared reference \
             to 'user' (in container '')\n | user.username == \"a\"\n | ^",
        ),
    ];
    for (rules, wanted) in cases {
        let said = said(&document(ISSUER, NAMES, &format!("  claimValidationRules: {rules}\n")));
        assert_eq!(said.strip_prefix("jwt[0].claimValidationRules").unwrap_or(&said), wanted, "{rules}");
    }
}

#[test]
fn user_rules() {
    let cases = [
        ("[{expression: \"user.username != 'root'\", message: m}]", ""),
        ("[{message: m}]", "[0].expression: Required value"),
        ("[{expression: 'true'}, {expression: 'true'}]", "[1].expression: Duplicate value: \"true\""),
        (
            "[{expression: user.username}]",
            "[0].expression: Invalid value: \"user.username\": must evaluate to bool",
        ),
        (
            "[{expression: user.unknown}]",
            "[0].expression: Invalid value: \"user.unknown\": compilation failed: ERROR: <input>:1:5: undefined field 'unknown'\n | \
             user.unknown\n | ....^",
        ),
        (
            "[{expression: has(claims.a)}]",
            "[0].expression: Invalid value: \"has(claims.a)\": compilation failed: ERROR: <input>:1:5: undeclared reference to \
             'claims' (in container '')\n | has(claims.a)\n | ....^",
        ),
    ];
    for (rules, wanted) in cases {
        let said = said(&document(ISSUER, NAMES, &format!("  userValidationRules: {rules}\n")));
        assert_eq!(said.strip_prefix("jwt[0].userValidationRules").unwrap_or(&said), wanted, "{rules}");
    }
}

#[test]
fn mappings() {
    const BROKEN: &str = "Invalid value: \"foo.bar\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in \
        container '')\n | foo.bar\n | ^";
    let broken = |field: &str| format!("{field}: {BROKEN}");
    let plain = |wanted: &str| wanted.to_owned();
    let cases = [
        (
            "{username: {expression: claims.sub}, groups: {expression: claims.groups}, uid: {expression: claims.uid}}",
            plain(""),
        ),
        (
            "{username: {claim: sub, prefix: ''}, groups: {claim: groups, prefix: ''}, uid: {claim: uid}}",
            plain(""),
        ),
        ("{}", plain("username: Required value: claim or expression is required")),
        (
            "{username: {claim: sub, expression: claims.sub}}",
            plain("username: Invalid value: \"\": claim and expression can't both be set"),
        ),
        (
            "{username: {expression: claims.sub, prefix: p}}",
            plain("username.prefix: Invalid value: \"p\": may not be specified when expression is set"),
        ),
        (
            "{username: {expression: claims.email, prefix: p}}",
            plain("username.prefix: Invalid value: \"p\": may not be specified when expression is set"),
        ),
        (
            "{username: {expression: claims.sub, prefix: ''}}",
            plain("username.prefix: Invalid value: \"\": may not be specified when expression is set"),
        ),
        (
            "{username: {claim: sub}}",
            plain(
                "username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable \
                 prefixing",
            ),
        ),
        ("{username: {expression: foo.bar}}", broken("username.expression")),
        ("{username: {claim: sub, prefix: ''}, groups: {expression: foo.bar}}", broken("groups.expression")),
        (
            "{username: {claim: sub, prefix: ''}, groups: {claim: g, expression: claims.g}}",
            plain("groups: Invalid value: \"\": claim and expression can't both be set"),
        ),
        (
            "{username: {claim: sub, prefix: ''}, groups: {claim: g}}",
            plain(
                "groups.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable \
                 prefixing",
            ),
        ),
        (
            "{username: {claim: sub, prefix: ''}, uid: {claim: u, expression: claims.u}}",
            plain("uid: Invalid value: \"\": claim and expression can't both be set"),
        ),
        ("{username: {claim: sub, prefix: ''}, uid: {expression: foo.bar}}", broken("uid.expression")),
    ];
    for (mappings, wanted) in cases {
        let said = said(&document(ISSUER, mappings, ""));
        assert_eq!(said.strip_prefix("jwt[0].claimMappings.").unwrap_or(&said), wanted, "{mappings}");
    }
}

#[test]
fn extra() {
    const RESERVED: &str = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
    let reserved = |key: &str| format!("[0].key: Invalid value: \"{key}\": {RESERVED}");
    let plain = |wanted: &str| wanted.to_owned();
    let cases = [
        ("[{key: example.org/foo, valueExpression: claims.foo}]", plain("")),
        (
            "[{key: ak8s.io/a, valueExpression: \"'a'\"}, {key: x.bkubernetes.io/a, valueExpression: \"'a'\"}, {key: k8s.io.org/a, \
             valueExpression: \"'a'\"}]",
            plain(""),
        ),
        ("[{valueExpression: claims.foo}]", plain("[0].key: Required value")),
        ("[{key: example.org/foo}]", plain("[0].valueExpression: Required value")),
        (
            "[{key: foo, valueExpression: claims.foo}]",
            plain(
                "[0].key: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        ),
        (
            "[{key: example.org/a b, valueExpression: claims.foo}]",
            plain(
                "[0].key: Invalid value: \"a b\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
            ),
        ),
        (
            "[{key: example.org/Foo, valueExpression: claims.foo}]",
            plain("[0].key: Invalid value: \"example.org/Foo\": must be lowercase"),
        ),
        ("[{key: k8s.io/foo, valueExpression: claims.foo}]", reserved("k8s.io/foo")),
        ("[{key: a.k8s.io/foo, valueExpression: claims.foo}]", reserved("a.k8s.io/foo")),
        ("[{key: kubernetes.io/foo, valueExpression: claims.foo}]", reserved("kubernetes.io/foo")),
        (
            "[{key: authentication.kubernetes.io/node-name, valueExpression: claims.foo}]",
            reserved("authentication.kubernetes.io/node-name"),
        ),
        (
            "[{key: a.io/b, valueExpression: claims.foo}, {key: a.io/b, valueExpression: claims.bar}]",
            plain("[1].key: Duplicate value: \"a.io/b\""),
        ),
        (
            "[{key: a.io/b, valueExpression: foo}]",
            plain(
                "[0].valueExpression: Invalid value: \"foo\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in \
                 container '')\n | foo\n | ^",
            ),
        ),
    ];
    for (extra, wanted) in cases {
        let mappings = format!("{{username: {{claim: sub, prefix: ''}}, extra: {extra}}}");
        let said = said(&document(ISSUER, &mappings, ""));
        assert_eq!(said.strip_prefix("jwt[0].claimMappings.extra").unwrap_or(&said), wanted, "{extra}");
    }
}

#[test]
fn an_address_as_a_name_must_be_asked_whether_it_is_verified() {
    let said = |name: &str, extra: &str, rules: &str| {
        let mappings = format!("\n    username: {{expression: '{name}'}}\n    extra: [{extra}]");
        said(&document(ISSUER, &mappings, &format!("  claimValidationRules: [{rules}]\n")))
    };
    let unverified = |name: &str| {
        format!(
            "jwt[0].claimMappings.username.expression: Invalid value: {name:?}: claims.email_verified must be used in \
             claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when \
             claims.email is used in claimMappings.username.expression"
        )
    };
    for name in [
        "claims.email",
        "claims.?email",
        "has(claims.email) ? claims.email : claims.sub",
        "[\"a\"].map(i, i + claims.email)",
    ] {
        assert_eq!(said(name, "", ""), unverified(name));
        assert_eq!(
            said(name, "{key: a.io/b, valueExpression: claims.email_verified_}", ""),
            unverified(name)
        );
        assert_eq!(said(name, "", "{claim: email_verified, requiredValue: \"true\"}"), unverified(name));
        assert_eq!(said(name, "", "{expression: has(claims.email_verified)}"), "");
        assert_eq!(said(name, "{key: a.io/b, valueExpression: claims.?email_verified}", ""), "");
    }
    assert_eq!(said("claims.?email_verified.orValue(false) ? claims.email : claims.sub", "", ""), "");
    assert_eq!(said("claims.email_", "", ""), "");
    // A rule that does not compile asks nothing.
    let wanted = format!(
        "[jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.?email_verified.orValue(true)\": must evaluate to bool, {}]",
        unverified("claims.email")
    );
    assert_eq!(said("claims.email", "", "{expression: claims.?email_verified.orValue(true)}"), wanted);
}

#[test]
fn who_needs_no_credentials() {
    let anonymous = |written: &str| {
        let text =
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{written}\n");
        parse(&text, "https://own", &Cel).map(|configuration| configuration.anonymous)
    };
    let of = |enabled, paths: &[&str]| {
        Ok(Some(Anonymous { enabled, paths: paths.iter().map(|path| (*path).to_owned()).collect() }))
    };
    assert_eq!(anonymous("jwt: []"), Ok(None));
    assert_eq!(anonymous("anonymous: {enabled: false}"), of(false, &[]));
    assert_eq!(anonymous("anonymous: {enabled: true}"), of(true, &[]));
    assert_eq!(
        anonymous("anonymous: {enabled: true, conditions: [{path: /livez}, {path: /readyz}]}"),
        of(true, &["/livez", "/readyz"])
    );
    let refused = anonymous("anonymous: {conditions: [{path: /livez}]}").expect_err("conditions of nothing");
    assert_eq!(
        refused.0,
        "anonymous.conditions: Invalid value: [{\"Path\":\"/livez\"}]: enabled should be set to true when conditions are defined"
    );
}
