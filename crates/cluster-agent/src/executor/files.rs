//! Files of a pod's steps: read from the collector's log, spooled for the hub, told with the step they belong to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use kube::api::LogParams;
use tokio::time::timeout;
use tracing::warn;
use workflow::collect::{self, Collected, RECORD, Skipped};
use workflow::fold::{self, Collection};
use workflow::mask::Mask;
use workflow::plan::ExecutionPlan;
use workflow::pod;
use workflow::progress::Progress;

use super::Error;
use super::run::Execution;

/// What a step left and what of it was not kept, or why nothing could be read.
type Gathered = Result<(Vec<Collected>, Vec<Skipped>), String>;

/// How long the collector may take until it says its first word.
const COLLECTOR_BEGIN: Duration = Duration::from_secs(75);
/// How long between two lines: the collector reads a file of many gigabytes before it names it.
const COLLECTOR_LINE: Duration = Duration::from_secs(300);

impl Execution {
    /// Reads what the collector printed, and takes what it holds.
    pub(super) async fn collect(&self, plan: &ExecutionPlan, name: &str) -> Collection {
        let read = self.read_frames(name).await;
        if read.is_ok() {
            // What an earlier pod left is not what this one leaves, also where that does not come.
            self.shared.spool.drop_packs(&self.owner(), &plan.packs).await;
        }
        self.take_held(name, read).await
    }

    async fn read_frames(&self, name: &str) -> Collection {
        let late = |_| "the collector's log did not arrive in time".to_owned();
        let params =
            LogParams { container: Some(pod::COLLECTOR.to_owned()), follow: true, ..LogParams::default() };
        let log = timeout(COLLECTOR_BEGIN, self.pods().log_stream(name, &params)).await.map_err(late)?;
        let log = log.map_err(|error| format!("the collector's log cannot be read: {error}"))?;
        let mut decoder = collect::Decoder::default();
        let mut lines = log.lines();
        let mut patience = COLLECTOR_BEGIN;
        while let Some(line) = timeout(patience, lines.try_next())
            .await
            .map_err(late)?
            .map_err(|error| format!("the collector's log broke off: {error}"))?
        {
            patience = COLLECTOR_LINE;
            decoder.line(&line).map_err(|error| error.to_string())?;
            if decoder.ended() {
                break;
            }
        }
        decoder.finish().map_err(|error| error.to_string())
    }

    /// Parts files by step, spools them and completes the steps' results.
    pub(super) async fn keep_files(
        &self,
        plan: &ExecutionPlan,
        part: &str,
        steps: (usize, usize),
        collection: Collection,
    ) -> Result<(), Error> {
        let mut collection = collection;
        self.take_record(part, &mut collection).await?;
        let mut by_step: BTreeMap<String, Gathered> = BTreeMap::new();
        let known = self.part_note(part).await.progress;
        let ended = (steps.0..steps.1).filter(|index| known.ended.contains_key(index));
        for step in ended.map(|index| &plan.steps[index]).filter(|step| step.collects()) {
            let nothing = match &collection {
                Ok(_) => Ok((Vec::new(), Vec::new())),
                Err(why) => Err(why.clone()),
            };
            by_step.insert(step.name.clone(), nothing);
        }
        let mask = self.secrets.mask();
        if let Ok((files, skipped)) = collection {
            for mut file in files {
                let Some((step, path)) = owner(&file.artifact.path) else { continue };
                if let Some(Ok((own, _))) = by_step.get_mut(&step) {
                    file.artifact.path = path;
                    mask_file(&mask, &mut file);
                    own.push(file);
                }
            }
            for mut file in skipped {
                let Some((step, path)) = owner(&file.path) else { continue };
                if let Some(Ok((_, own))) = by_step.get_mut(&step) {
                    file.path = mask.text(&path);
                    file.reason = mask.text(&file.reason);
                    own.push(file);
                }
            }
        }
        for (name, own) in by_step {
            let wanted = plan.steps.iter().any(|step| step.name == name && !step.junit.is_empty());
            self.keep(&name, wanted, own).await;
        }
        let note = self.note.lock().await;
        self.shared.journal.save(&note).await
    }

    /// Takes in what the pod's steps noted for steps of other pods.
    async fn take_record(&self, part: &str, collection: &mut Collection) -> Result<(), Error> {
        let Ok((files, _)) = collection else { return Ok(()) };
        let Some(place) = files.iter().position(|file| file.artifact.path == RECORD) else { return Ok(()) };
        match serde_json::from_slice::<Progress>(&files.remove(place).content) {
            Ok(noted) => self.note_part(part, |own| own.progress.take_in(noted)).await,
            Err(error) => {
                warn!(%error, execution = %self.uid, "what steps noted for others cannot be read");
                Ok(())
            }
        }
    }

    async fn keep(&self, name: &str, wanted: bool, mut own: Collection) {
        let mut lost = Vec::new();
        if let Ok((files, _)) = &mut own {
            for file in files.iter().filter(|file| !file.held) {
                if let Err(error) =
                    self.shared.spool.put(&self.owner(), &file.artifact.sha256, file.content.clone()).await
                {
                    lost.push((file.artifact.path.clone(), error.to_string()));
                }
            }
            files.retain(|file| lost.iter().all(|(path, _)| *path != file.artifact.path));
        }
        let mut note = self.note.lock().await;
        let Some(step) = note.result.steps.iter_mut().find(|step| step.name == name) else { return };
        fold::files(step, wanted, &own);
        if let Some(last) = step.attempts.last_mut() {
            last.warnings.extend(lost.iter().map(|(path, why)| format!("{path} was not kept: {why}")));
        }
    }
}

/// Without values of secrets in its name and, where it is a text, in its content. In other files a value of another length
/// would break what they are.
fn mask_file(mask: &Mask, file: &mut Collected) {
    if mask.is_empty() {
        return;
    }
    file.artifact.path = mask.text(&file.artifact.path);
    // What was held has no content here and was masked on the disk.
    if file.held || std::str::from_utf8(&file.content).is_err() {
        return;
    }
    if let Cow::Owned(content) = mask.bytes(&file.content) {
        file.artifact.sha256 = collect::digest(&content);
        file.artifact.size = content.len() as u64;
        file.content = content;
    }
}

/// `<kind>/<step>/<path>` as step and path.
fn owner(path: &str) -> Option<(String, String)> {
    let (_, rest) = path.split_once('/')?;
    let (step, path) = rest.split_once('/')?;
    Some((step.to_owned(), path.to_owned()))
}
