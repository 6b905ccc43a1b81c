//! Releases signed by keys that the cluster's owner pinned: what a hub hands out is taken only when enough of these keys
//! vouch for it. The keys never need to be near a hub. Pure.
//!
//! What is signed names the profile, the content's digest, a version that only grows, and when the word ends, so that a
//! signature is of no use for another profile, and an older release cannot be brought back without signing it anew.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Signatures of one profile at most: a few releases by a few keys each.
pub const MAX_SIGNATURES: usize = 32;
/// What a public key's text begins with.
const PREFIX: &str = "ed25519:";

/// Whose releases are taken; anybody's when there are no keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Releases {
    /// The keys.
    #[serde(default)]
    pub keys: Vec<PinnedKey>,
    /// How many of them must have signed; 0 is taken for 1.
    #[serde(default)]
    pub threshold: usize,
}

/// A key that the cluster's owner trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PinnedKey {
    /// For people.
    pub name: String,
    /// `ed25519:` and the 32 bytes in base64.
    pub public_key: String,
    /// Profiles it may sign, `namespace/name`, where `*` at the end stands for any rest; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
}

/// What somebody vouches for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// `namespace/name`.
    pub profile: String,
    /// The digest of the content.
    pub digest: String,
    /// Grows with every release of the profile.
    pub version: u64,
    /// When the word ends; never when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A release with one signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedRelease {
    /// What is signed.
    #[serde(flatten)]
    pub release: Release,
    /// By whom: the public key, as in [`PinnedKey`].
    pub key: String,
    /// The signature, base64.
    pub signature: String,
}

/// A key file that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a private key of Ed25519 (PKCS#8)")]
pub struct KeyError;

impl Release {
    /// The signed bytes. The first line keeps them apart from whatever else the key may sign.
    fn payload(&self) -> Vec<u8> {
        let expires = self.expires.map_or_else(|| "never".to_owned(), |expires| expires.to_string());
        format!(
            "fairlead release v1\nprofile {}\ndigest {}\nversion {}\nexpires {expires}\n",
            self.profile, self.digest, self.version
        )
        .into_bytes()
    }

    /// Signs it with a private key (PKCS#8, DER).
    ///
    /// # Errors
    /// When the key is none.
    pub fn sign(self, pkcs8: &[u8]) -> Result<SignedRelease, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError)?;
        let signature = STANDARD.encode(pair.sign(&self.payload()));
        Ok(SignedRelease { release: self, key: text_of(&pair), signature })
    }
}

/// The public key of a private one (PKCS#8, DER), as in [`PinnedKey`].
///
/// # Errors
/// When the key is none.
pub fn public_key(pkcs8: &[u8]) -> Result<String, KeyError> {
    Ed25519KeyPair::from_pkcs8(pkcs8).map(|pair| text_of(&pair)).map_err(|_| KeyError)
}

fn text_of(pair: &Ed25519KeyPair) -> String {
    format!("{PREFIX}{}", STANDARD.encode(pair.public_key().as_ref()))
}

fn key_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    (bytes.len() == 32).then_some(bytes)
}

impl Releases {
    /// Whether everything is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.threshold == 0
    }

    /// # Errors
    /// What makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut distinct = BTreeSet::new();
        for key in &self.keys {
            if key_bytes(&key.public_key).is_none() {
                return Err(format!("key {:?}: expected {PREFIX} and 32 bytes in base64", key.name));
            }
            if !distinct.insert(&key.public_key) {
                return Err(format!("key {:?} is there twice", key.name));
            }
        }
        if self.threshold > self.keys.len() {
            return Err(format!(
                "a threshold of {} with {} keys lets nothing in",
                self.threshold,
                self.keys.len()
            ));
        }
        Ok(())
    }

    /// Whether enough pinned keys vouch for this content of this profile. Answers the version of the release, or `None`
    /// where nothing needs to be signed. `floor`: the version held already.
    ///
    /// # Errors
    /// Why it is not taken, for people.
    pub fn verify(
        &self,
        profile: &str,
        digest: &str,
        signatures: &[SignedRelease],
        floor: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<u64>, String> {
        if self.is_empty() {
            return Ok(None);
        }
        let needed = self.threshold.max(1);
        let mut vouched: BTreeMap<&Release, BTreeSet<&str>> = BTreeMap::new();
        let about =
            |signed: &&SignedRelease| signed.release.profile == profile && signed.release.digest == digest;
        for signed in signatures.iter().take(MAX_SIGNATURES).filter(about) {
            let pinned = self.keys.iter().find(|key| key.public_key == signed.key && key.may_sign(profile));
            if let Some(key) = pinned.filter(|_| is_genuine(signed)) {
                vouched.entry(&signed.release).or_default().insert(&key.public_key);
            }
        }
        let Some(most) = vouched.values().map(BTreeSet::len).max() else {
            return Err("no pinned key has signed this content of this profile".to_owned());
        };
        let enough = vouched.iter().filter(|(_, keys)| keys.len() >= needed).map(|(release, _)| *release);
        let current: Vec<&Release> =
            enough.clone().filter(|release| release.expires.is_none_or(|ends| ends > now)).collect();
        match current.iter().map(|release| release.version).max() {
            Some(version) if floor.is_some_and(|floor| version < floor) => Err(format!(
                "it is signed as version {version}, and version {} is held; an older release is taken only when it is \
                 signed anew with a higher version",
                floor.unwrap_or_default()
            )),
            Some(version) => Ok(Some(version)),
            None if enough.count() > 0 => Err("the signatures of this release have expired".to_owned()),
            None => Err(format!("{most} of the {needed} signatures that are needed")),
        }
    }
}

impl PinnedKey {
    fn may_sign(&self, profile: &str) -> bool {
        self.profiles.is_empty()
            || self.profiles.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => profile.starts_with(beginning),
                None => pattern == profile,
            })
    }
}

fn is_genuine(signed: &SignedRelease) -> bool {
    let (Some(key), Ok(signature)) = (key_bytes(&signed.key), STANDARD.decode(&signed.signature)) else {
        return false;
    };
    UnparsedPublicKey::new(&ED25519, key).verify(&signed.release.payload(), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Vec<u8> {
        Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref().to_vec()
    }

    fn release(version: u64, expires: Option<i64>) -> Release {
        Release {
            profile: "default/app".to_owned(),
            digest: "d1".to_owned(),
            version,
            expires: expires.map(|second| Timestamp::from_second(second).unwrap()),
        }
    }

    fn pinned(keys: &[&[u8]], threshold: usize) -> Releases {
        let keys = keys.iter().enumerate().map(|(index, key)| PinnedKey {
            name: index.to_string(),
            public_key: public_key(key).unwrap(),
            profiles: vec!["default/*".to_owned()],
        });
        Releases { keys: keys.collect(), threshold }
    }

    #[test]
    fn only_what_enough_pinned_keys_signed_for_this_very_content_is_taken() {
        let (a, b, stranger) = (key(), key(), key());
        let now = Timestamp::from_second(1000).unwrap();
        let sign = |key: &[u8], version| release(version, None).sign(key).unwrap();
        let one = pinned(&[&a, &b], 1);
        let verify = |releases: &Releases, signatures: &[SignedRelease], floor| {
            releases.verify("default/app", "d1", signatures, floor, now)
        };
        assert_eq!(verify(&one, &[sign(&a, 3)], None), Ok(Some(3)));
        assert!(verify(&one, &[], None).is_err() && verify(&one, &[sign(&stranger, 3)], None).is_err());
        assert_eq!(verify(&Releases::default(), &[], None), Ok(None));
        // Of another profile, of other content, changed afterwards, by a key that may not sign this profile.
        let signed = [sign(&a, 3)];
        assert!(one.verify("default/other", "d1", &signed, None, now).is_err());
        assert!(one.verify("default/app", "d2", &signed, None, now).is_err());
        let mut forged = sign(&a, 3);
        forged.release.version = 4;
        assert!(verify(&one, &[forged], None).is_err());
        let mut elsewhere = one.clone();
        elsewhere.keys[0].profiles = vec!["other/app".to_owned()];
        assert!(verify(&elsewhere, &signed, None).is_err());
        // Two keys: the same key twice is one, and both must mean the same release.
        let two = pinned(&[&a, &b], 2);
        assert!(verify(&two, &[sign(&a, 3), sign(&a, 3)], None).unwrap_err().contains("1 of the 2"));
        assert!(verify(&two, &[sign(&a, 3), sign(&b, 4)], None).is_err());
        assert_eq!(verify(&two, &[sign(&a, 3), sign(&b, 3)], None), Ok(Some(3)));
        // Back in time, and after its end.
        assert!(verify(&one, &signed, Some(4)).unwrap_err().contains("version 4 is held"));
        assert_eq!(verify(&one, &signed, Some(3)), Ok(Some(3)));
        let ended = release(9, Some(999)).sign(&a).unwrap();
        assert!(verify(&one, std::slice::from_ref(&ended), None).unwrap_err().contains("expired"));
        assert_eq!(verify(&one, &[ended, sign(&a, 3)], None), Ok(Some(3)));
    }

    #[test]
    fn garbage_is_no_signature_and_no_key() {
        let (a, now) = (key(), Timestamp::UNIX_EPOCH);
        let mut signed = release(1, None).sign(&a).unwrap();
        for garbage in ["", "%%%", "AAAA"] {
            signed.signature = garbage.to_owned();
            assert!(pinned(&[&a], 1).verify("default/app", "d1", &[signed.clone()], None, now).is_err());
            assert!(release(1, None).sign(garbage.as_bytes()).is_err());
        }
    }
}
