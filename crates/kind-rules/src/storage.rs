//! `storage.k8s.io`.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

pub use csi_driver::CSI_DRIVER;
pub use csi_node::CSI_NODE;
pub use csi_storage_capacity::CSI_STORAGE_CAPACITY;
pub use storage_class::STORAGE_CLASS;
pub use volume_attachment::VOLUME_ATTACHMENT;
pub(crate) use volume_attachment::keep_metadata;
pub use volume_attributes_class::VOLUME_ATTRIBUTES_CLASS;

use std::fmt::Display;

use api_machinery::names;
use serde_json::Value;

use crate::checks::each;
use crate::json::{entries, text};
use crate::path::Path;
use crate::problems::Problems;

/// Bound of all parameters' keys and values together, in bytes.
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
/// Bound of the number of parameters.
const PARAMETERS_MAX: usize = 512;

/// The name of a driver in a field: a subdomain of up to 63 bytes in either case.
fn driver_name(problems: &mut Problems, field: impl Display, name: &str) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    if name.len() > 63 {
        problems.too_many_bytes(&field, 63);
    }
    each(problems, field, name, names::dns1123_subdomain(&name.to_lowercase()));
}

/// Who provides: a qualified name in either case.
fn provisioner(problems: &mut Problems, object: &Value, key: &str) {
    let name = text(object, key);
    if name.is_empty() {
        return problems.required(key, "");
    }
    let lower = name.to_lowercase();
    each(problems, key, &lower, names::qualified_name(&lower));
}

fn parameters(problems: &mut Problems, object: &Value) {
    let at = Path::new("parameters");
    if entries(object, "parameters").count() > PARAMETERS_MAX {
        return problems.too_many_bytes(at, PARAMETERS_MAX);
    }
    let mut bytes = 0;
    for (key, value) in entries(object, "parameters") {
        if key.is_empty() {
            problems.invalid(at, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().unwrap_or_default().len();
    }
    if bytes > PARAMETERS_BYTES_MAX {
        problems.too_many_bytes(at, PARAMETERS_BYTES_MAX);
    }
}
