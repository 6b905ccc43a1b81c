//! `apiregistration.k8s.io/v1`: what this server serves itself is available from the moment it is registered. The rules
//! are `kind_rules::apiregistration`.

use async_trait::async_trait;
use jiff::Timestamp;
use kind_rules::apiregistration::API_SERVICE;
use kind_rules::columns::Column;
use kind_rules::json::{present, set};
use kind_rules::names::NameRule;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use super::plain::Plain;
use super::strategy::{RequestContext, Strategy};
use crate::handlers::create::seconds;

/// `APIService`.
pub(crate) struct ApiService;

#[async_trait]
impl Strategy for ApiService {
    fn name_rule(&self) -> NameRule {
        API_SERVICE.names
    }

    fn default_fields(&self, object: &mut Value) {
        (API_SERVICE.defaults)(object);
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        if !present(&object["spec"], "service") {
            let condition = json!({"type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": seconds(cx.now)});
            set(object, "status", json!({"conditions": [condition]}));
        }
        Ok(())
    }

    async fn prepare_for_status_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        Plain(API_SERVICE).prepare_for_status_update(cx, object, old).await
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        Plain(API_SERVICE).validate(cx, object)
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        Plain(API_SERVICE).validate_update(cx, object, old)
    }

    fn columns(&self) -> Vec<Column> {
        (API_SERVICE.columns)()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        Plain(API_SERVICE).cells(object, now)
    }

    fn counts_generation(&self) -> bool {
        API_SERVICE.counts_generation
    }

    fn allows_unconditional_update(&self) -> bool {
        API_SERVICE.unconditional_update
    }
}
