//! ControllerRevisions: the templates that the pods of stateful and daemon sets were made from, so that a set can go back
//! to one and a partition can keep one.

mod keeper;
mod plan;

pub(crate) use keeper::keep;
pub(crate) use plan::{Kept, Owner, template_of};
