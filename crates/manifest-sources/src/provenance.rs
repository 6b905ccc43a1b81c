//! Provenance of charts: the text that `helm package --sign` leaves beside an archive, signed in the clear by OpenPGP, which
//! names the chart, its version and the SHA-256 of its archive (Helm's `pkg/provenance`).
//!
//! The signature is judged by `gpgv`, GnuPG's program that does nothing else and knows no keys but those it is given.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::{Error, aside};
use crate::process::{Call, Surroundings, find};

/// Bytes of a provenance text: a chart's description and one line for its archive.
pub(crate) const MAX_PROVENANCE: usize = 256 << 10;
/// Bytes of pinned keys, and how many blocks they may come in.
const MAX_KEYS: usize = 256 << 10;
const MAX_BLOCKS: usize = 10;

const BEGINS: &str = "-----BEGIN PGP SIGNED MESSAGE-----\n";
const KEY_BEGINS: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const KEY_ENDS: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Public keys, without the armor they came in.
pub(crate) struct Keyring(Vec<u8>);

/// What must be signed.
pub(crate) struct Expected<'a> {
    /// For people: which chart.
    pub(crate) what: String,
    /// How the archive must be called, `NAME-VERSION.tgz`: an older version is not handed out as a newer. Any when the version
    /// is not known.
    pub(crate) file: Option<String>,
    /// SHA-256 of the archive, hexadecimal.
    pub(crate) digest: &'a str,
}

#[derive(Deserialize)]
struct Sums {
    files: BTreeMap<String, String>,
}

impl Keyring {
    /// The keys of a text of armored blocks, as `gpg --armor --export` writes them (RFC 9580, section 6).
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::Invalid(format!("the OpenPGP keys of signers: {why}"));
        if text.len() > MAX_KEYS {
            return Err(invalid("they are larger than 256 KiB"));
        }
        let mut keys = Vec::new();
        let mut blocks = 0;
        for block in text.split("-----BEGIN ").skip(1) {
            let block = format!("-----BEGIN {block}");
            let block = block
                .strip_prefix(KEY_BEGINS)
                .ok_or_else(|| invalid("only PGP PUBLIC KEY blocks are taken"))?;
            let (block, _) = block.split_once(KEY_ENDS).ok_or_else(|| invalid("a block has no end"))?;
            // Headers, an empty line, the key, and a checksum that begins with `=`.
            let lines = block.lines().skip(1).map(str::trim);
            let body: String = lines.filter(|line| !line.contains(": ") && !line.starts_with('=')).collect();
            let packets = STANDARD.decode(body).map_err(|_| invalid("a block is not base64"))?;
            if !packets.first().is_some_and(|first| is_public_key(*first)) {
                return Err(invalid("a block does not begin with a public key"));
            }
            keys.extend(packets);
            blocks += 1;
        }
        match blocks {
            0 => Err(invalid("there is none")),
            1..=MAX_BLOCKS => Ok(Self(keys)),
            _ => Err(invalid("there are more than 10 blocks")),
        }
    }
}

/// Checks that OpenPGP keys of signers can be read.
///
/// # Errors
/// When they cannot, or there are too many or none.
pub fn check_keys(text: &str) -> Result<(), Error> {
    Keyring::read(text).map(drop)
}

/// Whether a packet that begins so is one of a public key: tag 6, in the old format or the new.
fn is_public_key(first: u8) -> bool {
    first & 0b1111_1100 == 0b1001_1000 || first == 0b1100_0110
}

/// Checks that one of the keys signed what is expected. `scratch` is for files that `gpgv` reads.
pub(crate) async fn verify(
    provenance: &[u8],
    keys: Keyring,
    expected: &Expected<'_>,
    surroundings: &Surroundings,
    scratch: &Path,
) -> Result<(), Error> {
    let not_signed = |said: String| Error::NotSigned { what: expected.what.clone(), said };
    // Helm writes one text, signed in the clear, and nothing else is handed to the program that reads all of OpenPGP.
    let text = String::from_utf8_lossy(provenance).replace("\r\n", "\n");
    let armors = text.lines().filter(|line| line.starts_with("-----BEGIN PGP ")).count();
    if !text.trim_start().starts_with(BEGINS) || armors != 2 {
        return Err(not_signed("its provenance is no text that is signed in the clear".to_owned()));
    }
    let signed = run(provenance.to_vec(), keys, surroundings, scratch).await;
    let signed = signed.map_err(|error| match error {
        Error::Failed { said, .. } => not_signed(said),
        Error::Invalid(said) => not_signed(said),
        other => other,
    })?;
    names(&signed, expected).map_err(not_signed)
}

/// What `gpgv` finds signed.
async fn run(
    provenance: Vec<u8>,
    keys: Keyring,
    surroundings: &Surroundings,
    scratch: &Path,
) -> Result<String, Error> {
    let Some(program) = find("gpgv") else {
        let needs = "gpgv is not on the PATH, and the provenance of a chart needs it".to_owned();
        return Err(Error::MissingTool { needs, hint: "https://gnupg.org/download" });
    };
    let at = |name: &str| scratch.join(name);
    let (ring, message, found) = (at("signers.gpg"), at("chart.prov"), at("chart.signed"));
    let files = [(ring.clone(), keys.0), (message.clone(), provenance)];
    let old = found.clone();
    aside(move || {
        // `gpgv` writes over no file of another chart.
        let _ = std::fs::remove_file(&old);
        let write = |(path, content): &(std::path::PathBuf, Vec<u8>)| {
            std::fs::write(path, content).map_err(Error::file("write", path))
        };
        files.iter().try_for_each(write)
    })
    .await?;
    let mut arguments: Vec<OsString> =
        vec!["--keyring".into(), ring.into(), "--output".into(), found.clone().into()];
    arguments.extend(["--weak-digest", "SHA1", "--status-fd", "1", "--"].map(OsString::from));
    arguments.push(message.into());
    let call =
        Call { tool: "gpgv", program, arguments, directory: scratch, surroundings, environment: Vec::new() };
    judge(&call.run().await?)?;
    aside(move || std::fs::read_to_string(&found).map_err(Error::file("read", &found))).await
}

/// Whether the lines that `gpgv` writes for programs (GnuPG's `doc/DETAILS`) tell of one good signature and of nothing else: of a
/// key that expired or was revoked it says so there alone, and ends well.
fn judge(status: &str) -> Result<(), Error> {
    let words = status.lines().filter_map(|line| line.strip_prefix("[GNUPG:] ")?.split(' ').next());
    let verdicts: Vec<&str> =
        words.filter(|word| word.ends_with("SIG") && !matches!(*word, "NEWSIG" | "VALIDSIG")).collect();
    match verdicts.as_slice() {
        ["GOODSIG"] => Ok(()),
        ["EXPKEYSIG"] => Err(Error::Invalid("the key that signed its provenance has expired".to_owned())),
        ["REVKEYSIG"] => Err(Error::Invalid("the key that signed its provenance is revoked".to_owned())),
        ["EXPSIG"] => Err(Error::Invalid("the signature of its provenance has expired".to_owned())),
        other => Err(Error::Invalid(format!("gpgv says {other:?} of its provenance"))),
    }
}

/// Whether a signed text names the archive: after the chart's own description and a line `...`, files and their digests.
fn names(signed: &str, expected: &Expected<'_>) -> Result<(), String> {
    let unreadable = || "its provenance does not list files".to_owned();
    let signed = signed.replace("\r\n", "\n");
    let sums = signed.split("\n...\n").nth(1).ok_or_else(unreadable)?;
    let sums: Sums = serde_saphyr::from_str(sums).map_err(|_| unreadable())?;
    let is_it = |digest: &String| digest.strip_prefix("sha256:").is_some_and(|own| own == expected.digest);
    match &expected.file {
        Some(file) => match sums.files.get(file) {
            Some(digest) if is_it(digest) => Ok(()),
            Some(digest) => Err(format!(
                "its provenance is of another archive ({digest}, not sha256:{})",
                expected.digest
            )),
            None => Err(format!(
                "its provenance is not of {file} but of {:?}",
                sums.files.keys().take(3).collect::<Vec<_>>()
            )),
        },
        None if sums.files.values().any(is_it) => Ok(()),
        None => Err(format!("its provenance is not of the archive sha256:{}", expected.digest)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
