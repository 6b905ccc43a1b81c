//! Follows the objects of one kind.

use futures::StreamExt as _;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::mpsc;

use super::ServedKind;
use super::decide::{Key, without_secrets};

/// Objects of one page of a list: of 10 kB each some 5 MB are in memory at once.
const PAGE: u32 = 500;

/// What happened to a kind's objects.
#[derive(Debug)]
pub(super) enum Event {
    /// A list begins.
    Began,
    /// There is an object, without a Secret's values.
    Seen(Key, Box<Value>),
    /// An object is gone.
    Gone(Key),
    /// The list has ended.
    Listed,
    /// The kind cannot be followed now.
    Failed(String),
}

fn resource(kind: &ServedKind) -> ApiResource {
    ApiResource {
        group: kind.group.clone(),
        version: kind.version.clone(),
        api_version: kind.api_version(),
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}

fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Runs until it is dropped or nobody listens. `tag` marks its events.
pub(super) async fn follow<T: Copy>(
    client: Client,
    kind: ServedKind,
    tag: T,
    events: mpsc::Sender<(T, Event)>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource(&kind));
    let config = watcher::Config::default().page_size(PAGE);
    let mut seen = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    while let Some(event) = seen.next().await {
        let event = match event {
            Ok(watcher::Event::Init) => Event::Began,
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Event::Seen(key(&object), Box::new(document(&kind, object)))
            }
            Ok(watcher::Event::InitDone) => Event::Listed,
            Ok(watcher::Event::Delete(object)) => Event::Gone(key(&object)),
            Err(error) => Event::Failed(error.to_string()),
        };
        if events.send((tag, event)).await.is_err() {
            return;
        }
    }
}

fn document(kind: &ServedKind, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    let mut value = serde_json::to_value(&object).unwrap_or_default();
    // Items of a list come without their kind.
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.kind.clone().into();
    without_secrets(kind, &mut value);
    value
}
