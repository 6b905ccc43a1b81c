//! `fairlead profile key`, `fairlead profile sign`

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::signature::Ed25519KeyPair;
use clap::Args;
use fleet_objects::{ANNOTATION_SIGNATURES, Profile};
use fleet_planner::bundle;
use fleet_planner::release::{MAX_SIGNATURES, Release, SignedRelease, public_key};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::arguments::{self, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, documents, output};

/// What a key file holds.
const LABEL: &str = "PRIVATE KEY";

/// Make a key for signing releases (Ed25519) and print its public half, which owners of clusters pin in their ceiling. A
/// file that is there is only read.
#[derive(Args, Debug)]
pub(crate) struct KeyArguments {
    /// Where the private key is or is to be kept
    file: PathBuf,
}

/// Vouch for what a profile holds now. Agents whose cluster's owner pinned the key take only what is signed, and nothing
/// older than what they hold.
#[derive(Args, Debug)]
pub(crate) struct SignArguments {
    /// Name of the profile
    name: String,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The profile as you know it (`fairlead profile create --export`): the hub's content must be this very content.
    /// Without it the hub is believed
    #[arg(long, short = 'f', value_name = "FILE")]
    from: Option<PathBuf>,
    /// The release's number; agents take none below what they hold [default: the seconds since 1970]
    #[arg(long, value_name = "NUMBER")]
    number: Option<u64>,
    /// How long agents may begin with it [default: for ever]
    #[arg(long, value_parser = arguments::duration, value_name = "DURATION")]
    expires: Option<Duration>,
    /// Print the signed release instead of writing it at the profile
    #[arg(long)]
    print: bool,
}

pub(crate) fn key(arguments: &KeyArguments) -> Result<Code, Failure> {
    if !arguments.file.exists() {
        make(&arguments.file)?;
        output::progress(&format!("wrote {}; keep it away from every hub", arguments.file.display()));
    }
    let key = read(&arguments.file)?;
    let public = public_key(&key).with_context(|| format!("cannot use {}", arguments.file.display()))?;
    output::data(&format!("{public}\n"))?;
    Ok(Code::Ok)
}

fn make(path: &Path) -> Result<(), Failure> {
    let made = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1());
    let made = made.map_err(|_| anyhow::anyhow!("no key could be made"))?;
    let text = pem::encode(&pem::Pem::new(LABEL, made.as_ref()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parsed = pem::parse(text).ok().filter(|block| block.tag() == LABEL);
    let block = parsed.ok_or_else(|| Failure::usage(format!("{} holds no private key", path.display())))?;
    Ok(block.into_contents())
}

pub(crate) async fn sign(global: &Global, arguments: &SignArguments) -> Result<Code, Failure> {
    let key = read(&arguments.key)?;
    let profiles: Api<Profile> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    let profile = profiles.get(&arguments.name).await.map_err(api("cannot read the profile"))?;
    let digest = digest(&profile, arguments.from.as_deref())?;
    let now = Timestamp::now();
    let expires = arguments.expires.map(|after| {
        let after = jiff::SignedDuration::try_from(after).unwrap_or(jiff::SignedDuration::MAX);
        now.saturating_add(after).unwrap_or(Timestamp::MAX)
    });
    let release = Release {
        profile: format!("{}/{}", global.namespace, arguments.name),
        digest: digest.clone(),
        version: arguments.number.unwrap_or_else(|| u64::try_from(now.as_second()).unwrap_or_default()),
        expires,
    };
    let version = release.version;
    let signed = release.sign(&key).with_context(|| format!("cannot use {}", arguments.key.display()))?;
    if arguments.print {
        output::data(&format!("{}\n", serde_json::to_string(&signed).map_err(anyhow::Error::new)?))?;
        return Ok(Code::Ok);
    }
    let text = serde_json::to_string(&joined(&profile, signed)).map_err(anyhow::Error::new)?;
    let resource_version = &profile.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": resource_version, "annotations": {ANNOTATION_SIGNATURES: text}}});
    let written = profiles.patch(&arguments.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    written.map_err(api(format!("cannot write the signature at profile {}", arguments.name)))?;
    output::progress(&format!("signed profile {} as version {version}, content {digest}", arguments.name));
    Ok(Code::Ok)
}

/// The digest to vouch for. With a document of one's own the hub's word is not needed, and not believed.
fn digest(profile: &Profile, from: Option<&Path>) -> Result<String, Failure> {
    let status = profile.status.as_ref();
    let current = status.filter(|status| Some(status.observed_generation) == profile.metadata.generation);
    let shown = current.and_then(|status| status.digest.clone());
    let shown = shown.ok_or_else(|| {
        Failure::negative(format!("the hub has no readable content of profile {}", profile.name_any()))
    })?;
    let Some(from) = from else { return Ok(shown) };
    let found = documents::unfolded(documents::read(from)?)?
        .into_iter()
        .find(|document| document.kind() == "Profile");
    let document = found.ok_or_else(|| Failure::usage(format!("{} holds no Profile", from.display())))?;
    let own: Profile = document.parse()?;
    if own.spec.source.is_some() {
        return Err(Failure::usage(
            "a profile whose objects were uploaded cannot be read from a document alone",
        ));
    }
    let built = bundle::build(&own.spec, &profile.namespace().unwrap_or_default(), &[])
        .map_err(|error| Failure::usage(error.to_string()))?;
    let digest = fleet_planner::digest(&built.encode());
    if digest != shown {
        let message = format!("the hub holds {shown} and {} is {digest}: not signed", from.display());
        return Err(Failure::negative(message));
    }
    Ok(digest)
}

/// What is signed already, with one more; the oldest go first when there are too many.
fn joined(profile: &Profile, signed: SignedRelease) -> Vec<SignedRelease> {
    let text = profile.annotations().get(ANNOTATION_SIGNATURES);
    let mut all: Vec<SignedRelease> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    all.retain(|other| other.key != signed.key || other.release.digest != signed.release.digest);
    all.sort_by_key(|other| other.release.version);
    all.drain(..(all.len() + 1).saturating_sub(MAX_SIGNATURES));
    all.push(signed);
    all
}
