//! Join tokens: `<id>.<secret>`, good for a number of clusters, one where nothing else is said. The hub keeps only a hash, in a Secret of namespace
//! `fairlead-system`, so that whoever may create Secrets there may invite clusters.

use std::collections::BTreeMap;
use std::fmt;

use fleet_objects::SYSTEM_NAMESPACE;
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The `type` of a Secret that is a join token.
pub const TOKEN_SECRET_TYPE: &str = "fleet.fairlead.dev/join-token";

const ID_LENGTH: usize = 8;
const SECRET_LENGTH: usize = 32;
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A token in plain. Its secret part is never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    secret: String,
}

/// What a token permits.
#[derive(Clone, Debug, Default)]
pub struct TokenGrant {
    /// Only a cluster of this name.
    pub cluster: Option<String>,
    /// Labels that its Cluster gets.
    pub labels: BTreeMap<String, String>,
    /// How long it is good; at most 24 h, 1 h when none is given.
    pub ttl: Option<std::time::Duration>,
    /// How many clusters may join with it; 0 is taken for 1, and more than [`MAX_USES`] for that.
    pub uses: u32,
    /// Which new clusters are members at once.
    pub approval: Approval,
}

/// Clusters that one token lets in at most.
pub const MAX_USES: u32 = 1000;

/// Which new clusters are members at once; the others wait until a person approves them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Approval {
    /// All: who makes the token has approved them.
    #[default]
    Given,
    /// None.
    ByHand,
    /// Those with such names, where `*` at the end stands for any rest.
    ByName(Vec<String>),
}

impl Approval {
    /// Whether a new cluster of this name is a member at once.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Given => true,
            Self::ByHand => false,
            Self::ByName(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => pattern == name,
            }),
        }
    }
}

/// A token as the hub keeps it: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptToken {
    /// What it is called: the part before the dot.
    pub id: String,
    /// SHA-256 of the whole token, hexadecimal.
    pub hash: String,
    /// Only a cluster of this name.
    pub cluster: Option<String>,
    /// Labels that clusters get.
    pub labels: BTreeMap<String, String>,
    /// How many clusters it lets in; none when that cannot be read.
    pub uses: usize,
    /// Who came with it: `<uid of the cluster> <key>` each.
    pub used_by: Vec<String>,
    /// When it ends; none when that cannot be read, and then it is good no more.
    pub expires: Option<Timestamp>,
    /// Which new clusters are members at once. What cannot be read approves nobody.
    pub approval: Approval,
}

impl KeptToken {
    /// What the names of tokens' Secrets begin with.
    pub const SECRET_PREFIX: &'static str = "join-token-";

    /// What it is called, by the name of its Secret.
    #[must_use]
    pub fn id_of(secret_name: &str) -> Option<&str> {
        secret_name.strip_prefix(Self::SECRET_PREFIX)
    }

    /// Reads what a Secret holds; `text` gives the value of a key.
    #[must_use]
    pub fn read(id: &str, text: impl Fn(&str) -> Option<String>) -> Self {
        let json = |key: &str| text(key).map(|text| serde_json::from_str::<Value>(&text).unwrap_or_default());
        let approval =
            json("approval").map(|value| serde_json::from_value(value).unwrap_or(Approval::ByHand));
        let labels = json("labels").and_then(|value| serde_json::from_value(value).ok());
        Self {
            id: id.to_owned(),
            hash: text("tokenHash").unwrap_or_default(),
            cluster: text("cluster"),
            labels: labels.unwrap_or_default(),
            uses: text("uses").map_or(1, |text| text.parse().unwrap_or_default()),
            used_by: text("usedBy").unwrap_or_default().lines().map(str::to_owned).collect(),
            expires: text("expiration").and_then(|text| text.parse().ok()),
            approval: approval.unwrap_or_default(),
        }
    }

    /// How many clusters it still lets in at a time.
    #[must_use]
    pub fn uses_left(&self, now: Timestamp) -> usize {
        if self.ended(now) { 0 } else { self.uses.saturating_sub(self.used_by.len()) }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn ended(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|ends| ends <= now)
    }

    /// The uids of the clusters that came with it.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.used_by.iter().map(|claim| claim.split_once(' ').map_or(claim.as_str(), |(uid, _)| uid))
    }
}

/// A text that is not a token. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a join token: expected <id>.<secret>")]
pub struct TokenError;

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}.…)", self.id)
    }
}

impl JoinToken {
    /// Draws a token: 40 bits of name, 160 bits of secret, from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        Self { id: draw(ID_LENGTH), secret: draw(SECRET_LENGTH) }
    }

    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (id, secret) = text.trim().split_once('.').ok_or(TokenError)?;
        let valid =
            |part: &str, length| part.len() == length && part.bytes().all(|byte| ALPHABET.contains(&byte));
        if !valid(id, ID_LENGTH) || !valid(secret, SECRET_LENGTH) {
            return Err(TokenError);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The text to hand to an agent. The only way to see the secret.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The name of the Secret on the hub.
    #[must_use]
    pub fn secret_name(&self) -> String {
        format!("{}{}", KeptToken::SECRET_PREFIX, self.id)
    }

    /// What it is called: nothing of its secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// SHA-256 of the whole token, hexadecimal: what the hub keeps.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.reveal().as_bytes()))
    }

    /// Whether `hash` is this token's, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, hash: &str) -> bool {
        let own = self.hash();
        own.len() == hash.len() && own.bytes().zip(hash.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }

    /// The Secret that makes the token good, to be created on the hub in namespace `fairlead-system`.
    #[must_use]
    pub fn secret_object(&self, grant: &TokenGrant, now: Timestamp) -> Value {
        let ttl = grant
            .ttl
            .unwrap_or(std::time::Duration::from_secs(3600))
            .min(std::time::Duration::from_secs(24 * 3600));
        let ends =
            now.saturating_add(SignedDuration::from_secs(i64::try_from(ttl.as_secs()).unwrap_or(3600)));
        let mut data = BTreeMap::from([
            ("tokenHash".to_owned(), self.hash()),
            ("expiration".to_owned(), ends.unwrap_or(now).to_string()),
        ]);
        if let Some(cluster) = &grant.cluster {
            data.insert("cluster".to_owned(), cluster.clone());
        }
        if grant.uses > 1 {
            data.insert("uses".to_owned(), grant.uses.min(MAX_USES).to_string());
        }
        if grant.approval != Approval::Given {
            data.insert("approval".to_owned(), json!(grant.approval).to_string());
        }
        if !grant.labels.is_empty() {
            data.insert("labels".to_owned(), json!(grant.labels).to_string());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": self.secret_name(), "namespace": SYSTEM_NAMESPACE},
            "type": TOKEN_SECRET_TYPE,
            "stringData": data,
        })
    }
}

fn draw(length: usize) -> String {
    let mut generator = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[generator.random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_never_printed() {
        let token = JoinToken::generate();
        assert_eq!(JoinToken::parse(&token.reveal()).unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.secret));
        assert!(
            token.matches(&token.hash())
                && !token.matches(&JoinToken::generate().hash())
                && !token.matches("")
        );
        for bad in ["", ".", "abc.def", "aaaaaaaa.bbbb"] {
            assert_eq!(JoinToken::parse(bad), Err(TokenError), "{bad}");
        }
    }

    #[test]
    fn approval_goes_by_whole_names_or_beginnings() {
        let by_name = Approval::ByName(vec!["edge-*".to_owned(), "dev".to_owned()]);
        for (name, covered) in
            [("edge-7", true), ("edge", false), ("dev", true), ("dev2", false), ("", false)]
        {
            assert_eq!(by_name.covers(name), covered, "{name}");
        }
        assert!(Approval::Given.covers("x") && !Approval::ByHand.covers("x"));
    }

    #[test]
    fn a_kept_token_is_read_as_it_was_made_and_what_cannot_be_read_lets_nobody_in() {
        let token = JoinToken::generate();
        let grant = TokenGrant {
            labels: [("region".to_owned(), "eu".to_owned())].into(),
            uses: 3,
            approval: Approval::ByName(vec!["edge-*".to_owned()]),
            ..TokenGrant::default()
        };
        let object = token.secret_object(&grant, Timestamp::UNIX_EPOCH);
        let text = |key: &str| match key {
            "usedBy" => Some("uid-1 key\nuid-2 key".to_owned()),
            key => object["stringData"][key].as_str().map(str::to_owned),
        };
        let id = KeptToken::id_of(object["metadata"]["name"].as_str().unwrap()).unwrap();
        let kept = KeptToken::read(id, text);
        assert_eq!(
            (kept.id.as_str(), &kept.labels, &kept.approval),
            (token.id(), &grant.labels, &grant.approval)
        );
        assert!(token.matches(&kept.hash));
        assert_eq!(kept.clusters().collect::<Vec<_>>(), ["uid-1", "uid-2"]);
        let hour = Timestamp::from_second(3600).unwrap();
        assert_eq!((kept.uses_left(Timestamp::UNIX_EPOCH), kept.uses_left(hour)), (1, 0));
        let broken = KeptToken::read("x", |key| (key != "usedBy").then(|| "{".to_owned()));
        assert_eq!((broken.uses_left(Timestamp::UNIX_EPOCH), broken.approval), (0, Approval::ByHand));
        assert_eq!(KeptToken::id_of("other"), None);
    }

    #[test]
    fn the_secret_holds_no_plain_token() {
        let token = JoinToken::generate();
        let object = token.secret_object(&TokenGrant::default(), Timestamp::UNIX_EPOCH);
        assert!(!object.to_string().contains(&token.secret));
        assert_eq!(object["stringData"]["expiration"], "1970-01-01T01:00:00Z");
    }
}
