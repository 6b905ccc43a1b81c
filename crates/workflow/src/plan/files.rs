//! Files that go from one pod to another: `transfer` and `fetch` of `parallel`.
//!
//! A part whose instances are given files of it, or bring some back, packs its workspace at the end of each of its pods and
//! gets it back in the next: for `parallel` ends a pod, and what it gives and gets must outlive that. Instances pack what is
//! fetched of them. All of it stays in the cluster.

use fleet_objects::test_workflow::Transfer;

use super::{ExecutionPlan, Pack, PlanScope, Receive};
use crate::collect::Globs;
use crate::expression::{Template, absolute_path};

/// The pack of a part's workspace.
pub(super) fn workspace(part: &str) -> String {
    format!("workspace-{part}")
}

/// What goes from `part` to an instance.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn transfer(
    transfer: &Transfer,
    scope: &PlanScope,
    part: &str,
    whole: &str,
) -> Result<Receive, String> {
    let (from, to, files) = known(transfer, scope, whole)?;
    let below = below(&from, whole).ok_or_else(|| outside(&from, whole))?;
    Ok(Receive { pack: workspace(part), from: below, files, to, optional: false })
}

/// What comes from an instance: what it packs, and what its part gets.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn fetch(
    transfer: &Transfer,
    scope: &PlanScope,
    name: String,
    whole: &str,
) -> Result<(Pack, Receive), String> {
    let (from, to, files) = known(transfer, scope, whole)?;
    below(&from, whole).ok_or_else(|| outside(&from, whole))?;
    below(&to, whole).ok_or_else(|| outside(&to, whole))?;
    let pack = Pack { name: name.clone(), from, files };
    // One that failed before it had anything brings nothing.
    Ok((pack, Receive { pack: name, to, optional: true, ..Receive::default() }))
}

/// Lets the workspace of a part outlive its pods.
pub(super) fn keep_workspace(plan: &mut ExecutionPlan, part: &str, whole: &str) {
    let name = workspace(part);
    if plan.packs.iter().all(|pack| pack.name != name) {
        plan.packs.push(Pack { name, from: whole.to_owned(), files: Vec::new() });
    }
}

fn known(
    transfer: &Transfer,
    scope: &PlanScope,
    whole: &str,
) -> Result<(String, String, Vec<String>), String> {
    let text = |text: &str| {
        let resolved = Template::parse(text).and_then(|template| template.resolve(scope));
        let resolved = resolved.map_err(|error| error.to_string())?;
        let text = resolved.text();
        text.ok_or_else(|| format!("{resolved} must be known before the pods start; only containers know it"))
    };
    let from = absolute_path(&text(&transfer.from)?, whole);
    let to = match &transfer.to {
        Some(to) => absolute_path(&text(to)?, whole),
        None => from.clone(),
    };
    let files = transfer.files.iter().map(|glob| text(glob)).collect::<Result<Vec<_>, _>>()?;
    Globs::anywhere(&files)?;
    Ok((from, to, files))
}

/// A path relative to the directory it lies in.
fn below(path: &str, whole: &str) -> Option<String> {
    let rest = path.trim_end_matches('/').strip_prefix(whole.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
}

fn outside(path: &str, whole: &str) -> String {
    format!("{path} is outside the workspace {whole}, which is all that outlives a container")
}
