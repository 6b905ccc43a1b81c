use kube_objects::GroupVersionKind;
use proptest::prelude::*;

use super::*;
use crate::schema::SchemaSet;

const T0: &str = "2026-01-01T00:00:00Z";
const T1: &str = "2026-01-01T00:01:00Z";

fn schema(group: &str, kind: &str) -> SchemaRef {
    SchemaSet::builtin().for_kind(&GroupVersionKind::new(group, "v1", kind)).expect("a built-in kind")
}

fn manager<'a>(name: &'a str, api_version: &'a str, time: &'a str) -> Manager<'a> {
    Manager { name, subresource: "", api_version, time }
}

fn deployment(replicas: Option<i64>, image: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "default" },
        "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": image }] } } },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

fn apply_as(
    live: Option<&Value>,
    config: &Value,
    name: &str,
    time: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    apply(
        &schema("apps", "Deployment"),
        live,
        config,
        &manager(name, "apps/v1", time),
        force,
        &FieldSet::default(),
        &[],
    )
}

fn update_as(live: Option<&Value>, mut new: Value, name: &str, time: &str) -> Value {
    track_update(
        &schema("apps", "Deployment"),
        live,
        &mut new,
        &manager(name, "apps/v1", time),
        &FieldSet::default(),
        &[],
    );
    new
}

fn owners(object: &Value) -> Vec<(String, String)> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(entry, "manager"), text(entry, "operation"))).collect()
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    take_managed_fields(&mut object);
    object
}

#[test]
fn a_first_apply_owns_exactly_what_it_states() {
    let applied = apply_as(None, &deployment(Some(3), "a:1"), "ctl", T0, false).unwrap();
    let entry = &applied["metadata"]["managedFields"][0];
    assert_eq!(
        entry,
        &json!({
            "manager": "ctl", "operation": "Apply", "apiVersion": "apps/v1", "time": T0, "fieldsType": "FieldsV1",
            "fieldsV1": { "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:containers": {
                "k:{\"name\":\"web\"}": { ".": {}, "f:image": {}, "f:name": {} } } } } } },
        })
    );
}

#[test]
fn changing_what_another_applied_is_a_conflict_that_names_field_and_owner() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    let refused = apply_as(Some(&live), &deployment(Some(5), "a:1"), "two", T1, false).unwrap_err();
    let status = refused.to_status();
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    assert_eq!(status.code, 409);
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("FieldManagerConflict", ".spec.replicas"));
}

#[test]
fn an_updater_is_named_with_the_version_it_used() {
    let live = update_as(None, deployment(Some(3), "a:1"), "kubectl", T0);
    let refused = apply_as(Some(&live), &deployment(Some(5), "b:1"), "two", T1, false).unwrap_err();
    let expected = "Apply failed with 2 conflicts: conflicts with \"kubectl\" using apps/v1:\n- .spec.replicas\n- \
                    .spec.template.spec.containers[name=\"web\"].image";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn force_takes_the_field_over() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    let forced = apply_as(Some(&live), &deployment(Some(5), "a:1"), "two", T1, true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 5);
    // The first still owns what both state alike; its next apply without replicas removes nothing.
    let again = apply_as(Some(&forced), &deployment(None, "a:1"), "one", T1, false).unwrap();
    assert_eq!(again["spec"]["replicas"], 5);
}

#[test]
fn what_is_no_longer_stated_and_owned_by_nobody_else_goes() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    let next = apply_as(Some(&live), &deployment(None, "a:1"), "one", T1, false).unwrap();
    assert_eq!(next["spec"].get("replicas"), None);
}

#[test]
fn a_list_item_that_is_no_longer_stated_goes_and_a_foreign_one_stays() {
    let mut two = deployment(None, "a:1");
    two["spec"]["template"]["spec"]["containers"] =
        json!([{ "name": "web", "image": "a:1" }, { "name": "side", "image": "s:1" }]);
    let live = apply_as(None, &two, "one", T0, false).unwrap();
    let mut foreign = live.clone();
    foreign["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({ "name": "mesh", "image": "m:1" }));
    let live = update_as(Some(&live), foreign, "injector", T1);
    let next = apply_as(Some(&live), &deployment(None, "a:1"), "one", T1, false).unwrap();
    let names: Vec<_> = next["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mesh", "web"]);
}

#[test]
fn defaults_that_nobody_owns_survive_their_neighbour() {
    let mut config = deployment(None, "a:1");
    config["spec"]["strategy"] = json!({ "type": "RollingUpdate" });
    let mut live = apply_as(None, &config, "one", T0, false).unwrap();
    live["spec"]["strategy"]["rollingUpdate"] = json!({ "maxSurge": "25%" });
    let next = apply_as(Some(&live), &deployment(None, "a:1"), "one", T1, false).unwrap();
    assert_eq!(next["spec"]["strategy"], json!({ "rollingUpdate": { "maxSurge": "25%" } }));
}

#[test]
fn an_untracked_object_is_owned_by_whoever_was_before() {
    let live = deployment(Some(3), "a:1");
    let refused = apply_as(Some(&live), &deployment(Some(5), "a:1"), "ctl", T1, false).unwrap_err();
    assert!(refused.to_string().contains("\"before-first-apply\" using apps/v1"), "{refused}");
}

#[test]
fn the_same_apply_again_changes_nothing_not_even_the_time() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    assert_eq!(apply_as(Some(&live), &deployment(Some(3), "a:1"), "one", T1, false).unwrap(), live);
}

#[test]
fn an_update_takes_what_it_changed_and_only_that() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    let live = update_as(Some(&live), scaled, "scaler", T1);
    assert_eq!(owners(&live), [("one".into(), "Apply".into()), ("scaler".into(), "Update".into())]);
    let refused = apply_as(Some(&live), &deployment(Some(3), "a:1"), "one", T1, false).unwrap_err();
    assert!(refused.to_string().contains("\"scaler\" using apps/v1: .spec.replicas"), "{refused}");
}

#[test]
fn an_unchanged_update_leaves_every_entry_as_it_was() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    assert_eq!(update_as(Some(&live), live.clone(), "other", T1), live);
}

#[test]
fn a_client_that_knows_no_managed_fields_does_not_delete_them_and_one_empty_entry_resets_them() {
    let live = apply_as(None, &deployment(Some(3), "a:1"), "one", T0, false).unwrap();
    let mut silent = live.clone();
    silent["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(owners(&update_as(Some(&live), silent.clone(), "old", T1)), owners(&live));
    silent["metadata"]["managedFields"] = json!([{}]);
    assert_eq!(owners(&update_as(Some(&live), silent, "old", T1)), []);
}

#[test]
fn many_updaters_are_folded_into_one() {
    let mut live = update_as(None, deployment(Some(0), "a:1"), "m0", T0);
    for index in 1..=30 {
        let mut next = live.clone();
        next["metadata"]["labels"][format!("l{index}")] = json!("x");
        let time = format!("2026-01-01T01:{index:02}:00Z");
        live = update_as(Some(&live), next, &format!("m{index}"), &time);
    }
    let names: Vec<String> = owners(&live).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    assert!(names.contains(&"ancient-changes".to_owned()) && names.contains(&"m30".to_owned()), "{names:?}");
}

#[test]
fn an_item_without_its_key_or_named_twice_is_refused() {
    let custom =
        crate::schema::Schema::from_openapi_v3(&json!({ "type": "object", "properties": { "items": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
        "items": { "type": "object", "properties": { "id": { "type": "string" } } } } } }));
    let custom = SchemaRef::inline(custom.unwrap());
    for (items, complaint) in [
        (json!([{ "x": 1 }]), "omits key field"),
        (json!([{ "id": "a" }, { "id": "a" }]), "duplicate entries"),
    ] {
        let manager = manager("ctl", "v1", T0);
        let refused =
            apply(&custom, None, &json!({ "items": items }), &manager, false, &FieldSet::default(), &[])
                .unwrap_err();
        assert!(refused.to_string().contains(complaint), "{refused}");
        assert_eq!(refused.to_status().code, 400);
    }
}

#[test]
fn a_port_without_protocol_is_the_one_with_the_default() {
    let service = schema("", "Service");
    let with = |protocol: Option<&str>| {
        let mut port = json!({ "port": 80 });
        if let Some(protocol) = protocol {
            port["protocol"] = json!(protocol);
        }
        json!({ "metadata": { "name": "s" }, "spec": { "ports": [port] } })
    };
    assert_eq!(
        typed::merge(&service, &with(Some("TCP")), &with(None))["spec"]["ports"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn sets_round_trip_and_speak_paths() {
    let json = json!({ "f:metadata": { "f:finalizers": { ".": {}, "v:\"a/b\"": {} } },
        "f:spec": { "f:ports": { "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {} } } } });
    let set = FieldSet::from_json(&json).unwrap();
    assert_eq!(set.to_json(), json);
    assert_eq!(
        set.paths(),
        [
            ".metadata.finalizers[=\"a/b\"]",
            ".metadata.finalizers",
            ".spec.ports[port=80,protocol=\"TCP\"].port",
            ".spec.ports[port=80,protocol=\"TCP\"]",
        ]
    );
}

/// A small Deployment-shaped configuration: optional replicas, labels, containers with optional images.
fn any_config() -> impl Strategy<Value = Value> {
    let containers = prop::collection::btree_map("[ab]", prop::option::of("[xy]"), 0..3);
    let labels = prop::collection::btree_map("[pq]", "[12]", 0..3);
    (prop::option::of(0_i64..3), labels, containers).prop_map(|(replicas, labels, containers)| {
        let mut object = deployment(replicas, "");
        if !labels.is_empty() {
            object["metadata"]["labels"] = json!(labels);
        }
        let items: Vec<Value> = containers
            .into_iter()
            .map(|(name, image)| match image {
                Some(image) => json!({ "name": name, "image": image }),
                None => json!({ "name": name }),
            })
            .collect();
        object["spec"]["template"]["spec"] =
            if items.is_empty() { json!({ "nodeName": "n" }) } else { json!({ "containers": items }) };
        object
    })
}

/// Objects of all shapes at the same places: sets, lists by key (with keys missing or twice), maps, and types that are not
/// what the schema says.
fn any_metadata() -> impl Strategy<Value = Value> {
    let few = || prop::collection::vec("[ab]", 0..3);
    let container = prop_oneof![
        (0_u8..3, "[xy]").prop_map(|(n, image)| json!({"name": format!("c{n}"), "image": image})),
        (0_u8..2)
            .prop_map(|n| json!({"name": format!("c{n}"), "env": [{"name": "A", "value": n.to_string()}]})),
        (0_u8..2).prop_map(|n| json!({"image": n.to_string()})),
    ];
    let odd = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!(1)),
        Just(json!({"x": {}}))
    ];
    (
        prop::option::of(prop::collection::btree_map("[a-c]", "[xy]", 0..3)),
        prop::option::of(few()),
        prop::option::of(prop::collection::vec(container, 0..4)),
        prop::option::of(odd),
    )
        .prop_map(|(labels, finalizers, containers, odd)| {
            let mut object = json!({"metadata": {}, "spec": {"template": {"spec": {}}}});
            if let Some(labels) = labels {
                object["metadata"]["labels"] = json!(labels);
            }
            if let Some(finalizers) = finalizers {
                object["metadata"]["finalizers"] = json!(finalizers);
            }
            if let Some(containers) = containers {
                object["spec"]["template"]["spec"]["containers"] = json!(containers);
            }
            if let Some(odd) = odd {
                object["spec"]["strategy"] = odd.clone();
                object["metadata"]["annotations"] = odd;
            }
            object
        })
}

proptest! {
    /// Applying again what was applied changes nothing.
    #[test]
    fn apply_is_idempotent(first in any_config(), second in any_config()) {
        let live = apply_as(None, &first, "one", T0, false).unwrap();
        let once = apply_as(Some(&live), &second, "two", T1, true).unwrap();
        let twice = apply_as(Some(&once), &second, "two", "2026-01-01T09:00:00Z", true).unwrap();
        prop_assert_eq!(once, twice);
    }

    /// Passing over what is the same finds the differences that whole sets show, whatever becomes of lists and types.
    #[test]
    fn walking_both_finds_what_whole_sets_differ_in(old in any_metadata(), new in any_metadata()) {
        let kind = schema("apps", "Deployment");
        let whole = typed::compare_whole(Some(&kind), &old, &new);
        prop_assert_eq!(typed::compare(&kind, Some(&old), &new), whole);
    }

    /// A lone applier's object is what it last stated, whatever it stated before.
    #[test]
    fn a_lone_applier_gets_what_it_states(first in any_config(), second in any_config()) {
        let live = apply_as(None, &first, "one", T0, false).unwrap();
        let next = apply_as(Some(&live), &second, "one", T1, false).unwrap();
        let kind = schema("apps", "Deployment");
        prop_assert_eq!(typed::fields(&kind, &without_managed_fields(&next)), typed::fields(&kind, &second));
    }

    /// Everything stated by a forced apply is there and owned by its manager.
    #[test]
    fn a_forced_apply_holds(first in any_config(), second in any_config()) {
        let live = apply_as(None, &first, "one", T0, false).unwrap();
        let next = apply_as(Some(&live), &second, "two", T1, true).unwrap();
        let kind = schema("apps", "Deployment");
        let stated = typed::fields(&kind, &second);
        prop_assert!(stated.difference(&typed::fields(&kind, &next)).is_empty());
        prop_assert_eq!(typed::merge(&kind, &next, &second)["spec"].clone(), next["spec"].clone());
    }

    /// Set algebra: what is taken away and what is common make up the whole.
    #[test]
    fn difference_and_intersection_make_the_whole(a in any_config(), b in any_config()) {
        let kind = schema("apps", "Deployment");
        let (a, b) = (typed::fields(&kind, &a), typed::fields(&kind, &b));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        let mut rest = a.clone();
        rest.subtract(&b);
        prop_assert_eq!(rest, a.difference(&b));
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(FieldSet::from_json(&a.to_json()), Some(a));
    }

    /// What is taken over from what was read says the same as what is written anew, whoever lost or won fields meanwhile.
    #[test]
    fn owners_are_written_the_same_with_and_without_what_they_were_read_from(
        first in any_config(), second in any_config(), third in any_config(), other in any_config(), who in 0..3_usize,
    ) {
        let live = apply_as(None, &first, "one", T0, false).unwrap();
        let live = apply_as(Some(&live), &second, "two", T1, true).unwrap();
        let mut changed = typed::merge(&schema("apps", "Deployment"), &live, &third);
        changed["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
        let live = update_as(Some(&live), changed, "three", T1);
        let read = &live["metadata"]["managedFields"];
        let mut managed = Managed::decode(read).unwrap();
        prop_assert_eq!(&managed.encode(read.clone()), read);
        prop_assert_eq!(&managed.encode(Value::Null), read);
        let fields = typed::fields(&schema("apps", "Deployment"), &other);
        let owner = Owner::of(&manager(["one", "two", "three"][who], "apps/v1", T1), Operation::Apply);
        managed.release_others(&owner, &fields);
        prop_assert_eq!(managed.encode(read.clone()), managed.encode(Value::Null));
        managed.set(owner.clone(), fields.clone());
        prop_assert_eq!(managed.encode(read.clone()), managed.encode(Value::Null));
        managed.release(&fields);
        managed.grant(owner, fields, T0);
        prop_assert_eq!(managed.encode(read.clone()), managed.encode(Value::Null));
    }

    /// Fields may go when nobody owns them or anything below them, whether the owners are asked one by one or together.
    #[test]
    fn what_can_go_is_owned_by_none_of_the_others(last in any_config(), a in any_config(), b in any_config()) {
        let kind = schema("apps", "Deployment");
        let [last, a, b] = [last, a, b].map(|config| typed::fields(&kind, &config));
        let (mut in_turn, mut together) = (last.clone(), last.clone());
        in_turn.subtract_owned(&a);
        in_turn.subtract_owned(&b);
        together.subtract_owned(&a.union(&b));
        prop_assert_eq!(&in_turn, &together);
        prop_assert!(in_turn.intersection(&a).is_empty() && in_turn.difference(&last).is_empty());
    }

    /// The keys of an item have one spelling, and what is taken for it without parsing is it.
    #[test]
    fn keys_have_one_spelling(
        keys in proptest::collection::btree_map("[a-c \"!é\\\\]{0,3}", any_key(), 0..3), spaced: bool, reversed: bool,
    ) {
        let keyed = field_set::keyed(keys.iter().map(|(key, value)| (key.as_str(), value)));
        let map = Value::Object(keys.clone().into_iter().collect());
        prop_assert_eq!(&keyed, &format!("k:{map}"));
        let comma = if spaced { ", " } else { "," };
        let mut pairs: Vec<String> =
            keys.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
        if reversed {
            pairs.reverse();
        }
        let written = format!("k:{{{}}}", pairs.join(comma));
        let set = FieldSet::from_json(&json!({written: {}})).unwrap();
        prop_assert!(set.has(&keyed), "{set:?} {keyed}");
    }
}

fn any_key() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-c \"\\\\é\n]{0,3}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..12_u64).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ]
}
