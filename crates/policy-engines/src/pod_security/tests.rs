use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> LevelVersion {
    let (level, version) = text.split_once(':').unwrap();
    LevelVersion { level: Level::parse(level).unwrap(), version: Version::parse(version).unwrap() }
}

/// A pod that is restricted in every edition.
fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [{"name": "i", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    })
}

/// [`good`] with values put at JSON pointers.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut spec = good();
    for (path, value) in changes {
        let mut place = &mut spec;
        for key in path.trim_start_matches('/').split('/') {
            place = match key.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[key],
            };
        }
        *place = value.clone();
    }
    spec
}

const C: &str = "/containers/0/securityContext";

fn path(rest: &str) -> String {
    format!("{C}/{rest}")
}

#[test]
fn a_good_pod_passes_everywhere() {
    for level in [Level::Baseline, Level::Restricted] {
        for minor in 0..40 {
            let standard = LevelVersion { level, version: Version::Minor(minor) };
            assert_eq!(evaluate(standard, &json!({}), &good()), [], "{standard}");
        }
    }
}

#[test]
fn each_check_finds_its_pod_in_its_editions() {
    // What is changed, the level and editions that refuse it, and upstream's words.
    type Case = (Vec<(String, Value)>, Level, std::ops::Range<u32>, &'static str);
    let cases: Vec<Case> = vec![
        (
            vec![("/hostPID".into(), json!(true)), ("/hostIPC".into(), json!(true))],
            Level::Baseline,
            0..40,
            "host namespaces (hostPID=true, hostIPC=true)",
        ),
        (
            vec![(path("privileged"), json!(true))],
            Level::Baseline,
            0..40,
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            vec![(path("capabilities"), json!({"drop": ["ALL"], "add": ["SYS_ADMIN", "NET_RAW", "CHOWN"]}))],
            Level::Baseline,
            0..22,
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            vec![(
                "/containers/0/ports".into(),
                json!([{"hostPort": 80}, {"hostPort": 443}, {"containerPort": 1}]),
            )],
            Level::Baseline,
            0..40,
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            vec![
                ("/containers/0/livenessProbe".into(), json!({"httpGet": {"host": "a"}})),
                ("/containers/0/lifecycle".into(), json!({"preStop": {"tcpSocket": {"host": "b"}}})),
            ],
            Level::Baseline,
            34..40,
            "probe or lifecycle host (container \"c\" uses probe or lifecycle hosts \"a\", \"b\")",
        ),
        (
            vec![(path("procMount"), json!("Unmasked"))],
            Level::Baseline,
            0..40,
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            vec![
                (path("seLinuxOptions"), json!({"type": "spc_t", "user": "u"})),
                ("/securityContext/seLinuxOptions".into(), json!({"role": "r"})),
            ],
            Level::Baseline,
            0..40,
            "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set)",
        ),
        (
            vec![(path("seLinuxOptions"), json!({"type": "container_engine_t"}))],
            Level::Baseline,
            0..31,
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")",
        ),
        (
            vec![("/securityContext/sysctls".into(), json!([{"name": "net.ipv4.tcp_rmem"}]))],
            Level::Baseline,
            0..32,
            "forbidden sysctls (net.ipv4.tcp_rmem)",
        ),
        (
            vec![("/securityContext/sysctls".into(), json!([{"name": "kernel.msgmax"}]))],
            Level::Baseline,
            0..40,
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            vec![("/securityContext/windowsOptions".into(), json!({"hostProcess": true}))],
            Level::Baseline,
            0..40,
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            vec![("/securityContext/appArmorProfile".into(), json!({"type": "Unconfined"}))],
            Level::Baseline,
            0..40,
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            vec![(path("seccompProfile"), json!({"type": "Unconfined"}))],
            Level::Baseline,
            19..40,
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            vec![(path("allowPrivilegeEscalation"), Value::Null)],
            Level::Restricted,
            8..40,
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            vec![(path("capabilities"), Value::Null)],
            Level::Restricted,
            22..40,
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
        ),
        (
            vec![(path("capabilities"), json!({"add": ["CHOWN"]}))],
            Level::Restricted,
            22..40,
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            vec![(
                "/volumes".into(),
                json!([{"name": "a", "nfs": {}}, {"name": "b", "gitRepo": {}}, {"name": "c", "secret": {}}]),
            )],
            Level::Restricted,
            0..40,
            "restricted volume types (volumes \"a\", \"b\" use restricted volume types \"gitRepo\", \"nfs\")",
        ),
        (
            vec![("/securityContext/runAsNonRoot".into(), Value::Null)],
            Level::Restricted,
            0..40,
            "runAsNonRoot != true (pod or containers \"i\", \"c\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            vec![(path("runAsNonRoot"), json!(false))],
            Level::Restricted,
            0..40,
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            vec![("/securityContext/runAsUser".into(), json!(0))],
            Level::Restricted,
            23..40,
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            vec![("/securityContext/seccompProfile".into(), Value::Null)],
            Level::Restricted,
            19..40,
            "seccompProfile (pod or containers \"i\", \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ];
    for (changes, level, editions, wanted) in cases {
        let changes: Vec<(&str, Value)> =
            changes.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
        let spec = with(&changes);
        for minor in 0..40 {
            let standard = LevelVersion { level, version: Version::Minor(minor) };
            let found = details(&evaluate(standard, &json!({}), &spec));
            let refused =
                editions.contains(&minor) || (level == Level::Baseline && wanted.starts_with("non-default"));
            assert_eq!(found, if refused { wanted } else { "" }, "{standard}");
            let below = LevelVersion { level: Level::Baseline, ..standard };
            if level == Level::Restricted && !wanted.contains("CHOWN") && !wanted.contains("nfs") {
                assert_eq!(evaluate(below, &json!({}), &spec), [], "{below}");
            }
        }
    }
}

#[test]
fn a_restricted_check_stands_in_for_the_baseline_one() {
    let spec = with(&[("/volumes", json!([{"name": "h", "hostPath": {"path": "/"}}]))]);
    assert_eq!(reasons(&evaluate(at("baseline:latest"), &json!({}), &spec)), "hostPath volumes");
    assert_eq!(reasons(&evaluate(at("restricted:latest"), &json!({}), &spec)), "restricted volume types");
    let spec = with(&[
        ("/hostUsers", json!(false)),
        (&path("procMount"), json!("Unmasked")),
        (&path("runAsUser"), json!(0)),
    ]);
    assert_eq!(reasons(&evaluate(at("baseline:v1.34"), &json!({}), &spec)), "procMount");
    assert_eq!(reasons(&evaluate(at("baseline:v1.35"), &json!({}), &spec)), "");
    assert_eq!(reasons(&evaluate(at("restricted:v1.34"), &json!({}), &spec)), "procMount, runAsUser=0");
    assert_eq!(reasons(&evaluate(at("restricted:latest"), &json!({}), &spec)), "procMount");
    let windows = json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]});
    assert_eq!(evaluate(at("restricted:v1.25"), &json!({}), &windows), []);
    assert_eq!(evaluate(at("restricted:v1.24"), &json!({}), &windows).len(), 3);
}

#[test]
fn old_editions_read_annotations() {
    let metadata = json!({"annotations": {
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/c": "docker/default",
        "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
    }});
    assert_eq!(
        details(&evaluate(at("baseline:v1.18"), &metadata, &good())),
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
         \"container.apparmor.security.beta.kubernetes.io/c=\"unconfined\"\"), seccompProfile (forbidden annotation \
         seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    assert_eq!(reasons(&evaluate(at("baseline:v1.19"), &metadata, &good())), "forbidden AppArmor profile");
}

#[test]
fn labels_say_what_is_asked_for() {
    let of = |labels: Value| {
        let (policy, problems) = Policy::of_labels(&labels, &Policy::default());
        let words = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (
            words,
            problems
                .into_iter()
                .map(|problem| format!("{}: {}", problem.label, problem.detail))
                .collect::<Vec<_>>(),
        )
    };
    let label = |name: &str| format!("pod-security.kubernetes.io/{name}");
    assert_eq!(of(json!({})).0, "privileged:latest privileged:latest privileged:latest");
    assert_eq!(
        of(json!({label("enforce"): "baseline", label("enforce-version"): "v1.20"})).0,
        "baseline:v1.20 privileged:latest baseline:v1.20"
    );
    assert_eq!(
        of(json!({label("enforce"): "baseline", label("warn"): "privileged", label("audit"): "restricted"}))
            .0,
        "baseline:latest restricted:latest privileged:latest"
    );
    let (policy, problems) =
        of(json!({label("enforce"): "bad", label("warn-version"): "v1.01", label("audit"): ""}));
    assert_eq!(policy, "restricted:latest privileged:latest privileged:latest");
    assert_eq!(
        problems,
        [
            "pod-security.kubernetes.io/enforce: must be one of privileged, baseline, restricted",
            "pod-security.kubernetes.io/audit: must be one of privileged, baseline, restricted",
            "pod-security.kubernetes.io/warn-version: must be \"latest\" or \"v1.x\"",
        ]
    );
}

/// The API server's default for a volume without a source, which those files rely on.
fn default_volumes(pod: &mut Value) {
    for volume in pod["spec"].get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if volume.as_object().is_some_and(|fields| fields.len() == 1) {
            volume["emptyDir"] = json!({});
        }
    }
}

/// Upstream's own pods (`pod-security-admission/test/testdata`), as far as the shared data holds them.
#[test]
fn upstreams_pods_are_judged_as_upstream_judges_them() {
    let Some(root) = fixtures::samples::find("manifests/pod-security-admission") else { return };
    let mut judged = 0;
    for level in ["baseline", "restricted"] {
        let level_folder = root.join(level);
        for edition in std::fs::read_dir(level_folder).unwrap().map(|entry| entry.unwrap()) {
            let standard = at(&format!("{level}:{}", edition.file_name().to_str().unwrap()));
            for (folder, passes) in [("pass", true), ("fail", false)] {
                for file in
                    std::fs::read_dir(edition.path().join(folder)).unwrap().map(|entry| entry.unwrap().path())
                {
                    let mut pod: Value =
                        serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
                    default_volumes(&mut pod);
                    let found = evaluate(standard, &pod["metadata"], &pod["spec"]);
                    assert_eq!(found.is_empty(), passes, "{}: {found:?}", file.display());
                    judged += 1;
                }
            }
        }
    }
    assert!(judged > 100, "only {judged} pods");
}

proptest::proptest! {
    #[test]
    fn any_shape_is_judged_without_a_panic(key in "securityContext|containers|volumes|os|hostUsers", text in ".{0,8}", number: i64) {
        for value in [json!(text), json!(number), json!([number, text]), json!({"name": number, "securityContext": text})] {
            let spec = json!({&key: value});
            let _ = evaluate(at("restricted:latest"), &value, &spec);
        }
    }
}
