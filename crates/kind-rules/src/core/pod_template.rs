//! `v1.PodTemplate`.

use serde_json::Value;

use crate::columns::Column;
use crate::json::existing;
use crate::names;
use crate::path::Path;
use crate::pod_spec::{self, Template, default_template, validate_template};
use crate::rules::{KindRules, container_cells};

/// What Kubernetes demands of pod templates.
pub const RULES: KindRules = KindRules {
    defaults: default_template,
    prepare_create: |object| {
        drop_disabled(object, &Value::Null);
        crate::checks::first_generation(object);
    },
    prepare_update: drop_disabled,
    validate: |problems, object| {
        validate_template(problems, &Path::new("template"), &object["template"], Template::default());
    },
    validates_updates: false,
    validate_update: |problems, object, old| {
        let old = Some(&old["template"]);
        validate_template(problems, &Path::new("template"), &object["template"], Template { old });
    },
    warnings: |object, _| pod_spec::warnings(&Path::new("template"), &object["template"], true),
    columns: || {
        vec![
            Column::object_name(),
            Column::new("Containers").saying("Names of each container in the template."),
            Column::new("Images").saying("Images referenced by each container in the template."),
            Column::new("Pod Labels").saying("The labels for the pod template."),
        ]
    },
    cells: |object, _| {
        let [containers, images] = container_cells(&object["template"]);
        vec![containers, images, names::shown_labels(&object["template"]["metadata"], "labels").into()]
    },
    ..KindRules::NEW
};

fn drop_disabled(object: &mut Value, old: &Value) {
    if let Some(spec) = existing(object, "template").and_then(|template| existing(template, "spec")) {
        pod_spec::drop_disabled(spec, &old["template"]["spec"]);
    }
}
