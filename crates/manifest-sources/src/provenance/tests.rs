use super::*;

/// A file of `vectors`.
macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/provenance/vectors/", $name)).as_slice()
    };
}
pub(crate) use vector;

pub(crate) const ARCHIVE: &[u8] = vector!("web-1.2.0.tgz");
pub(crate) const RSA: &str = include_str!("vectors/rsa.asc");
pub(crate) const ED25519: &str = include_str!("vectors/ed25519.asc");

/// Whether there is the program that tests need.
pub(crate) fn has_gpgv() -> bool {
    let has = find("gpgv").is_some();
    if !has {
        eprintln!("skipped: there is no gpgv");
    }
    has
}

async fn judged(provenance: &[u8], keys: &str, file: Option<&str>, archive: &[u8]) -> Result<(), Error> {
    let scratch = tempfile::tempdir().unwrap();
    let isolated = Surroundings::Isolated { home: scratch.path().to_owned() };
    let digest = fleet_planner::digest(archive);
    let expected =
        Expected { what: "chart web 1.2.0".to_owned(), file: file.map(str::to_owned), digest: &digest };
    verify(provenance, Keyring::read(keys)?, &expected, &isolated, scratch.path()).await
}

#[tokio::test]
async fn a_provenance_of_a_listed_key_passes() {
    if !has_gpgv() {
        return;
    }
    let both = format!("{RSA}\n{ED25519}");
    let windows = String::from_utf8_lossy(vector!("rsa.prov")).replace('\n', "\r\n");
    for (provenance, keys, file) in [
        (vector!("rsa.prov"), RSA, Some("web-1.2.0.tgz")),
        (vector!("ed25519.prov"), ED25519, Some("web-1.2.0.tgz")),
        (vector!("ed25519.prov"), both.as_str(), None),
        (windows.as_bytes(), RSA, Some("web-1.2.0.tgz")),
    ] {
        judged(provenance, keys, file, ARCHIVE).await.unwrap();
    }
}

#[tokio::test]
async fn what_no_listed_key_signed_of_this_very_archive_is_refused_with_its_reason() {
    if !has_gpgv() {
        return;
    }
    let file = Some("web-1.2.0.tgz");
    let good = String::from_utf8_lossy(vector!("ed25519.prov")).into_owned();
    let changed = good.replace("name: web", "name: wed");
    let twice = format!("{good}{good}");
    let unsigned = good.split("-----BEGIN PGP SIGNATURE").next().unwrap();
    let (expired, revoked) = (include_str!("vectors/expired.asc"), include_str!("vectors/revoked.asc"));
    for (provenance, keys, file, archive, part) in [
        (vector!("ed25519.prov"), RSA, file, ARCHIVE, "No public key"),
        (changed.as_bytes(), ED25519, file, ARCHIVE, "BAD signature"),
        (twice.as_bytes(), ED25519, file, ARCHIVE, "signed in the clear"),
        (unsigned.as_bytes(), ED25519, file, ARCHIVE, "signed in the clear"),
        (b"\x99\x01", ED25519, file, ARCHIVE, "signed in the clear"),
        (vector!("sha1.prov"), ED25519, file, ARCHIVE, "SHA1"),
        (vector!("expired.prov"), expired, file, ARCHIVE, "has expired"),
        (vector!("revoked.prov"), revoked, file, ARCHIVE, "is revoked"),
        (vector!("text.prov"), ED25519, file, ARCHIVE, "does not list files"),
        (vector!("older.prov"), ED25519, file, ARCHIVE, "not of web-1.2.0.tgz but of [\"web-1.1.0.tgz\"]"),
        (vector!("other.prov"), ED25519, file, ARCHIVE, "of another archive (sha256:0000"),
        (vector!("ed25519.prov"), ED25519, file, b"else", "of another archive"),
        (vector!("ed25519.prov"), ED25519, None, b"else", "not of the archive"),
    ] {
        let said = judged(provenance, keys, file, archive).await.unwrap_err().to_string();
        let begins = said.starts_with("chart web 1.2.0 has no signature of an allowed signer");
        assert!(begins && said.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let armored = |body: &str| format!("{KEY_BEGINS}\nComment: x\n\n{body}\n=AAAA\n{KEY_ENDS}\n");
    for (text, part) in [
        (String::new(), "there is none"),
        ("-----BEGIN PUBLIC KEY-----\n".to_owned(), "only PGP PUBLIC KEY blocks"),
        (format!("{KEY_BEGINS}\n\nAAAA"), "has no end"),
        (armored("??"), "not base64"),
        (armored("AAAA"), "does not begin with a public key"),
        (ED25519.repeat(11), "more than 10"),
        ("x".repeat(MAX_KEYS + 1), "larger than"),
    ] {
        let said = Keyring::read(&text).err().unwrap().to_string();
        assert!(said.contains(part), "{said}");
    }
}
