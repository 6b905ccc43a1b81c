//! An image as one tar file: an OCI layout with the `manifest.json` of `docker save` beside it, so that every tool that
//! imports images takes it. The same input gives the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::elf::Stripped;

/// One file or directory of the image's layer.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Its content.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
    /// An executable or library of this machine, read when it is written.
    Program {
        /// Which.
        file: Stripped,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
}

/// What an image runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The full reference: `fairlead.dev/tool:latest`.
    pub reference: String,
    /// The command led by.
    pub entrypoint: Vec<String>,
    /// The arguments unless told otherwise.
    pub command: Vec<String>,
    /// `amd64`, `arm64`.
    pub architecture: String,
}

/// Lower-case hexadecimal SHA-256.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Bytes that were written, and their digest.
#[derive(Default)]
struct Measure {
    hash: Sha256,
    bytes: u64,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an image of one layer; `entries` by path without a leading `/`. The layer is written twice, first to learn its digest,
/// and never held: programs of a debug build have some hundred megabytes.
///
/// # Errors
/// For a path or link that tar cannot hold, and when a program cannot be read or `out` not be written.
pub fn write<W: Write>(config: &Config, entries: &BTreeMap<String, Entry>, out: W) -> io::Result<W> {
    let Measure { hash, bytes: layer_bytes } = layer(entries, Measure::default())?;
    let diff_id = hex::encode(hash.finalize());
    let image = json!({
        "architecture": config.architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "fairlead" }],
    })
    .to_string();
    let image_digest = digest(image.as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", image.as_bytes()),
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{diff_id}"),
            "size": layer_bytes,
        }],
    })
    .to_string();
    let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let tag = config.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    listed["annotations"] = json!({
        "io.containerd.image.name": config.reference,
        "org.opencontainers.image.ref.name": tag,
    });
    listed["platform"] = json!({ "architecture": config.architecture, "os": "linux" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listed],
    })
    .to_string();
    let saved = json!([{
        "Config": format!("blobs/sha256/{image_digest}"),
        "RepoTags": [config.reference],
        "Layers": [format!("blobs/sha256/{diff_id}")],
    }])
    .to_string();

    let mut tar = tar::Builder::new(out);
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", index.as_bytes())?;
    append(&mut tar, "manifest.json", saved.as_bytes())?;
    let manifest_digest = digest(manifest.as_bytes());
    // The layer is the one without content here.
    let blobs = BTreeMap::from([
        (manifest_digest, Some(manifest.into_bytes())),
        (image_digest, Some(image.into_bytes())),
        (diff_id, None),
    ]);
    for (digest, blob) in &blobs {
        let path = format!("blobs/sha256/{digest}");
        match blob {
            Some(blob) => append(&mut tar, &path, blob)?,
            None => {
                let mut header = header(0o644);
                header.set_path(&path)?;
                header.set_size(layer_bytes);
                header.set_cksum();
                tar.get_mut().write_all(header.as_bytes())?;
                // A tar file is made of whole blocks: nothing is to be filled up behind it.
                layer(entries, tar.get_mut())?;
            }
        }
    }
    tar.into_inner()
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", digest(content)), "size": content.len() })
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = header(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// Owned by root, at the beginning of time: nothing of the machine that builds gets in.
fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn layer<W: Write>(entries: &BTreeMap<String, Entry>, out: W) -> io::Result<W> {
    let mut tar = tar::Builder::new(out);
    for (path, entry) in entries {
        match entry {
            Entry::Directory { mode } => {
                let mut header = header(*mode);
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                tar.append_data(&mut header, format!("{path}/"), io::empty())?;
            }
            Entry::File { content, mode } => {
                let mut header = header(*mode);
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, content.as_slice())?;
            }
            Entry::Program { file, mode } => {
                let mut header = header(*mode);
                header.set_size(file.length());
                tar.append_data(&mut header, path, file.content()?)?;
            }
            Entry::Link { target } => {
                let mut header = header(0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}
