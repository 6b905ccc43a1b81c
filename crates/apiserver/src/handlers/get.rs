//! GET of one object.

use http::Response;
use kube_objects::Status;

use super::Call;
use crate::extension::Body;
use crate::http::response;
use crate::watch_cache::CachedObject;
use std::sync::Arc;

/// The object, as new as the request asks: no resourceVersion is the newest, "0" whatever is at hand.
pub(crate) async fn find(call: &Call) -> Result<Arc<CachedObject>, Status> {
    let objects = &call.server.objects;
    match call.query.text("resourceVersion") {
        None => drop(objects.catch_up().await?),
        Some("0") => {}
        Some(_) => {
            let revision = call.query.number::<u64>("resourceVersion")?.unwrap_or_default();
            objects.cache.wait_for(storage::Revision(revision)).await?;
        }
    }
    let found = objects.cache_of(&call.resource)?.get(call.namespace(), &call.path.name);
    let found = found.ok_or_else(|| call.not_found(&call.path.name))?;
    objects.view(&call.resource, found).await
}

/// Serves it.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, Status> {
    let object = find(call).await?;
    if call.wants_plain() {
        return Ok(response::encoded(200, object.encoded.to_bytes(), call.style));
    }
    Ok(call.answer(200, object.encoded.to_value()))
}
