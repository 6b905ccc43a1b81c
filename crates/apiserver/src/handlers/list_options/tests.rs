//! The table, with kube-apiserver 1.36's own answers.

use proptest::prelude::*;

use super::*;

fn listed(query: &str) -> Result<ListOptions, Status> {
    list(&Query::parse(query))
}

fn watched(query: &str) -> Result<Start, Status> {
    watch(&Query::parse(query)).map(|options| options.start)
}

#[test]
fn a_list_shows_the_state_that_the_table_says() {
    let cases = [
        ("", State::Newest, None),
        ("limit=2", State::Newest, Some(2)),
        ("limit=-1", State::Newest, None),
        ("resourceVersion=0", State::Any, None),
        ("resourceVersion=0&limit=2", State::Any, None),
        ("resourceVersion=0&resourceVersionMatch=NotOlderThan", State::Any, None),
        ("resourceVersion=7", State::NotOlderThan(Revision(7)), None),
        ("resourceVersion=07", State::NotOlderThan(Revision(7)), None),
        ("resourceVersion=7&limit=2", State::Exact(Revision(7)), Some(2)),
        ("resourceVersion=7&resourceVersionMatch=Exact", State::Exact(Revision(7)), None),
        (
            "resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=2",
            State::NotOlderThan(Revision(7)),
            Some(2),
        ),
    ];
    for (query, state, limit) in cases {
        assert_eq!(listed(query), Ok(ListOptions { state, limit }), "{query}");
    }
}

#[test]
fn what_does_not_go_together_is_refused_in_upstreams_words() {
    let single = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: ";
    let cases = [
        (
            "resourceVersionMatch=Exact",
            format!("{single}Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            format!("{single}Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
        ),
        (
            "resourceVersionMatch=Foo&resourceVersion=1",
            format!("{single}Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\""),
        ),
        (
            "sendInitialEvents=true",
            "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for \
             list"
            .to_owned(),
        ),
        (
            "continue=x&resourceVersion=5&resourceVersionMatch=NotOlderThan",
            format!("{single}Forbidden: resourceVersionMatch is forbidden when continue is provided"),
        ),
    ];
    for (query, message) in cases {
        let refused = listed(query).expect_err(query);
        assert_eq!((refused.code, refused.message), (422, message), "{query}");
    }
    let details = *listed("resourceVersionMatch=Foo").expect_err("two causes").details.expect("details");
    assert_eq!((details.group.as_str(), details.kind.as_str()), ("meta.k8s.io", "ListOptions"));
    assert_eq!(details.causes.len(), 2);
}

#[test]
fn what_cannot_be_read_is_a_bad_request_in_upstreams_words() {
    let start = |token: &str| format!("limit=2&continue={}", URL_SAFE_NO_PAD.encode(token));
    let key = "invalid continue token: continue key is not valid: ";
    let cases = [
        (
            "resourceVersion=abc".to_owned(),
            "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": \
             invalid syntax"
            .to_owned(),
        ),
        ("limit=abc".to_owned(), "strconv.ParseInt: parsing \"abc\": invalid syntax".to_owned()),
        (
            start("{\"v\":\"meta.k8s.io/v1\",\"rv\":5,\"start\":\"a\"}") + "&resourceVersion=5",
            "specifying resource version is not allowed when using continue".to_owned(),
        ),
        (
            start("{\"v\":\"v2\",\"rv\":5,\"start\":\"a\"}"),
            format!("{key}server does not recognize this encoded version v2"),
        ),
        (
            start("{\"v\":\"meta.k8s.io/v1\",\"start\":\"a\"}"),
            format!("{key}incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        ),
        (
            start("{\"v\":\"meta.k8s.io/v1\",\"rv\":5}"),
            format!("{key}encoded start key empty (version meta.k8s.io/v1)"),
        ),
        (start("{\"v\":\"meta.k8s.io/v1\",\"rv\":5,\"start\":\"../../x\"}"), format!("{key}../../x")),
    ];
    for (query, message) in cases {
        let refused = listed(&query).expect_err(&query);
        assert_eq!((refused.code, refused.message), (400, message), "{query}");
    }
    assert!(listed("continue=abc").is_err() && listed("resourceVersion=-1").is_err());
    assert!(listed("resourceVersion=%2B1").is_err(), "a sign is no digit");
}

#[test]
fn a_watch_begins_where_the_table_says() {
    let cases = [
        ("", Start::State { consistent: true }),
        ("resourceVersion=0", Start::State { consistent: false }),
        ("resourceVersion=7", Start::After(Revision(7))),
        ("resourceVersion=7&continue=x", Start::After(Revision(7))),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", Start::List { at_least: None }),
        (
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7",
            Start::List { at_least: Some(Revision(7)) },
        ),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Start::Now),
        (
            "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=7",
            Start::After(Revision(7)),
        ),
    ];
    for (query, start) in cases {
        assert_eq!(watched(query), Ok(start), "{query}");
    }
    let refused = [
        ("resourceVersionMatch=NotOlderThan", "is forbidden for watch unless sendInitialEvents is provided"),
        ("sendInitialEvents=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        (
            "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=5",
            "supported values: \"NotOlderThan\"]",
        ),
        ("continue=abc", "resourceVersionMatch is forbidden when continue is provided"),
    ];
    for (query, part) in refused {
        let refused = watched(query).expect_err(query);
        assert!(refused.code == 422 && refused.message.contains(part), "{query}: {}", refused.message);
    }
    assert_eq!(watched("timeoutSeconds=abc").expect_err("no number").code, 400);
}

proptest! {
    #[test]
    fn tokens_carry_their_place(revision in 1_u64..=i64::MAX as u64, key in "[a-z0-9.\"\\\\é-]{1,20}(/[a-z0-9-]{1,20})?") {
        prop_assume!(key.split('/').all(|part| !matches!(part, "." | "..")));
        let start = format!("{key}\0");
        prop_assert_eq!(from_token(&token(Some(Revision(revision)), &key)), Ok(State::Continued(Revision(revision), start.clone())));
        prop_assert_eq!(from_token(&token(None, &key)), Ok(State::NewestFrom(start)));
    }

    #[test]
    fn no_token_panics(text in "\\PC*", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = from_token(&text);
        let _ = from_token(&URL_SAFE_NO_PAD.encode(bytes));
    }
}
