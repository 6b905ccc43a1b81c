//! `fairlead join token list`, `fairlead join token revoke`: what was handed out. A token is a Secret of the hub, which keeps
//! a hash of it; whoever may read Secrets of `fairlead-system` sees it, and nobody its secret.

use std::collections::BTreeMap;

use agent_protocol::{Approval, JoinToken, KeptToken, TOKEN_SECRET_TYPE};
use clap::Args;
use fleet_objects::{Cluster, LABEL_CLUSTER_SET, SYSTEM_NAMESPACE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::output::Columns;
use crate::{connection, output};

/// Clusters named in a table that is not wide.
const NAMED: usize = 3;

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct RevokeArguments {
    /// Which, by the ID that `list` shows; what stands before the dot of a token
    #[arg(required = true, value_name = "ID")]
    pub(super) tokens: Vec<String>,
}

/// A token, for programs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    /// Only a cluster of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_set: Option<String>,
    labels: BTreeMap<String, String>,
    uses: usize,
    uses_left: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    approval: String,
    joined: Vec<Joined>,
}

/// A cluster that came with a token.
#[derive(Clone, Debug, Serialize)]
struct Joined {
    /// As the hub calls it; none when it does not know it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    uid: String,
}

const COLUMNS: Columns<'_> = Columns {
    always: &["ID", "CLUSTER", "CLUSTER-SET", "LABELS", "USES-LEFT", "EXPIRES", "JOINED"],
    wide: &["APPROVAL", "ALL-JOINED"],
};

pub(super) async fn list(global: &Global, format: Format) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let of_tokens = ListParams::default().fields(&format!("type={TOKEN_SECRET_TYPE}"));
    let found = secrets.list(&of_tokens).await.map_err(api("cannot list join tokens"))?;
    let mut tokens: Vec<KeptToken> = found.items.iter().filter_map(kept).collect();
    tokens.sort_by(|a, b| (a.expires, &a.id).cmp(&(b.expires, &b.id)));
    let names = if tokens.iter().any(|token| !token.used_by.is_empty()) {
        names(client).await?
    } else {
        BTreeMap::new()
    };
    let now = Timestamp::now();
    let shown: Vec<Shown> = tokens.into_iter().map(|token| shown(token, &names, now)).collect();
    output::values(format, "no join token", &COLUMNS, &shown, |one| row(one, now), |one| one.id.clone())?;
    Ok(Code::Ok)
}

fn kept(secret: &Secret) -> Option<KeptToken> {
    if secret.type_.as_deref() != Some(TOKEN_SECRET_TYPE) {
        return None;
    }
    let text = |key: &str| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
    Some(KeptToken::read(KeptToken::id_of(secret.metadata.name.as_deref()?)?, text))
}

/// What clusters are called, by their uid.
async fn names(client: Client) -> Result<BTreeMap<String, String>, Failure> {
    let clusters: Api<Cluster> = Api::all(client);
    let all = clusters.list(&ListParams::default()).await.map_err(api("cannot list clusters"))?;
    let named =
        |cluster: &Cluster| Some((cluster.status.as_ref()?.kube_system_uid.clone()?, cluster.name_any()));
    Ok(all.iter().filter_map(named).collect())
}

fn shown(token: KeptToken, names: &BTreeMap<String, String>, now: Timestamp) -> Shown {
    let joined = |uid: &str| Joined { name: names.get(uid).cloned(), uid: uid.to_owned() };
    Shown {
        joined: token.clusters().map(joined).collect(),
        uses_left: token.uses_left(now),
        approval: match &token.approval {
            Approval::Given => "given".to_owned(),
            Approval::ByHand => "by hand".to_owned(),
            Approval::ByName(names) => format!("by name: {}", names.join(",")),
        },
        id: token.id,
        cluster: token.cluster,
        cluster_set: token.labels.get(LABEL_CLUSTER_SET).cloned(),
        labels: token.labels,
        uses: token.uses,
        expires: token.expires,
    }
}

fn row(token: &Shown, now: Timestamp) -> Vec<String> {
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), Clone::clone);
    let labels = token.labels.iter().filter(|(key, _)| *key != LABEL_CLUSTER_SET);
    let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    let joined: Vec<&str> =
        token.joined.iter().map(|one| one.name.as_deref().unwrap_or(one.uid.as_str())).collect();
    let mut few = joined.iter().take(NAMED).copied().collect::<Vec<_>>().join(",");
    if joined.len() > NAMED {
        few.push_str(&format!(" and {} more", joined.len() - NAMED));
    }
    vec![
        token.id.clone(),
        or_dash(token.cluster.as_ref()),
        or_dash(token.cluster_set.as_ref()),
        or_dash(Some(&labels.join(",")).filter(|text| !text.is_empty())),
        format!("{}/{}", token.uses_left, token.uses),
        ends(token.expires, now),
        or_dash(Some(&few).filter(|text| !text.is_empty())),
        token.approval.clone(),
        or_dash(Some(&joined.join(",")).filter(|text| !text.is_empty())),
    ]
}

/// `in 40m`, or that it has ended.
fn ends(at: Option<Timestamp>, now: Timestamp) -> String {
    let left = at.map_or(0, |at| at.duration_since(now).as_secs());
    match u64::try_from(left) {
        Ok(0) | Err(_) => "ended".to_owned(),
        Ok(seconds @ 1..120) => format!("in {seconds}s"),
        Ok(seconds @ 120..7200) => format!("in {}m", seconds / 60),
        Ok(seconds) => format!("in {}h", seconds / 3600),
    }
}

pub(super) async fn revoke(global: &Global, tokens: &[String]) -> Result<Code, Failure> {
    // A whole token is as good as its name; its secret is never said again.
    let ids = tokens.iter().map(|text| match JoinToken::parse(text) {
        Ok(token) => token.id().to_owned(),
        Err(_) => text.split_once('.').map_or(text.as_str(), |(id, _)| id).to_owned(),
    });
    let client = connection::hub(global).await?;
    let secrets: Api<Secret> = Api::namespaced(client, SYSTEM_NAMESPACE);
    for id in ids {
        let failed = || api(format!("cannot revoke join token {id}"));
        let name = format!("{}{id}", KeptToken::SECRET_PREFIX);
        let found = secrets.get_opt(&name).await.map_err(failed())?;
        let Some(token) = found.as_ref().and_then(kept) else {
            let message = format!("there is no join token {id}");
            return Err(Failure::negative(message).hint("fairlead join token list"));
        };
        let only =
            Preconditions { uid: found.and_then(|secret| secret.metadata.uid), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
        secrets.delete(&name, &params).await.map_err(failed())?;
        let joined = match token.used_by.len() {
            0 => "nobody joined with it".to_owned(),
            1 => "the cluster that joined with it stays".to_owned(),
            some => format!("the {some} clusters that joined with it stay"),
        };
        output::progress(&format!("revoked join token {id}; {joined}"));
    }
    Ok(Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_with_who_came_and_without_its_secret() {
        let token = JoinToken::generate();
        let set = (LABEL_CLUSTER_SET.to_owned(), "shop".to_owned());
        let grant = agent_protocol::TokenGrant {
            labels: [set, ("region".to_owned(), "eu".to_owned())].into(),
            uses: 9,
            ..agent_protocol::TokenGrant::default()
        };
        let mut object = token.secret_object(&grant, Timestamp::UNIX_EPOCH);
        let mut data: BTreeMap<String, String> =
            serde_json::from_value(object["stringData"].take()).expect("texts");
        data.insert("usedBy".to_owned(), "a k\nb k\nc k\nd k\ngone k".to_owned());
        let mut secret: Secret = serde_json::from_value(object).expect("a secret");
        secret.string_data = None;
        secret.data = Some(
            data.into_iter().map(|(key, text)| (key, k8s_openapi::ByteString(text.into_bytes()))).collect(),
        );
        let names = ["a", "b", "c", "d"].map(|uid| (uid.to_owned(), format!("cluster-{uid}"))).into();
        let half = Timestamp::from_second(1800).expect("a time");
        let shown = shown(kept(&secret).expect("a token"), &names, half);
        let cells = row(&shown, half);
        let expected = [
            token.id(),
            "-",
            "shop",
            "region=eu",
            "4/9",
            "in 30m",
            "cluster-a,cluster-b,cluster-c and 2 more",
        ];
        assert_eq!(&cells[..COLUMNS.always.len()], expected);
        assert_eq!(cells.len(), COLUMNS.always.len() + COLUMNS.wide.len());
        assert!(cells[8].ends_with("cluster-d,gone"), "{}", cells[8]);
        let json = output::json(&shown).expect("JSON");
        assert!(!json.contains(&token.hash()) && !json.contains(&token.reveal()), "{json}");
        secret.type_ = Some("Opaque".to_owned());
        assert!(kept(&secret).is_none());
    }

    #[test]
    fn what_has_ended_is_said() {
        let now = Timestamp::UNIX_EPOCH;
        let at = |seconds| Some(Timestamp::from_second(seconds).expect("a time"));
        for (at, expected) in [
            (at(0), "ended"),
            (None, "ended"),
            (at(60), "in 60s"),
            (at(3600), "in 60m"),
            (at(86_400), "in 24h"),
        ] {
            assert_eq!(ends(at, now), expected);
        }
    }
}
