//! A pod's volumes as directories of the machine, and the mounts of its containers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, Volume,
};

use crate::inputs::fields::{self, Own};
use crate::inputs::payload::{self, File, Payload};
use crate::inputs::{Data, InputError, Inputs};
use crate::pod::facts;
use crate::runtime::Mount;

/// Default permission bits of configuration files.
const DEFAULT_MODE: i32 = 0o644;

impl Inputs {
    /// Makes every volume of a pod ready below `dir` and says where each lies. Called again, it brings configuration up
    /// to date and renews tokens.
    ///
    /// # Errors
    /// When something that isn't optional is missing or a volume's kind cannot be provided.
    pub async fn volumes(
        &self,
        pod: &Pod,
        dir: &Path,
        pod_ips: &[String],
    ) -> Result<BTreeMap<String, PathBuf>, InputError> {
        let mut paths = BTreeMap::new();
        let context = facts::spec(pod).security_context.as_ref();
        let group = context.and_then(|context| u32::try_from(context.fs_group?).ok());
        for volume in facts::spec(pod).volumes.iter().flatten() {
            let path = dir.join("volumes").join(&volume.name);
            let path = match self.content(pod, volume, pod_ips, true).await? {
                Content::Files(payload) => {
                    let target = path.clone();
                    blocking(move || payload::write(&target, &payload, group)).await.map_err(|source| {
                        InputError::File { operation: "write", path: path.clone(), source }
                    })?;
                    path
                }
                Content::Empty => {
                    let target = path.clone();
                    let made = blocking(move || {
                        fs::create_dir_all(&target)?;
                        std::os::unix::fs::chown(&target, None, group)?;
                        // What is made in it has the group as well.
                        let mode = if group.is_some() { 0o2777 } else { 0o777 };
                        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
                    });
                    made.await.map_err(|source| InputError::File {
                        operation: "create",
                        path: path.clone(),
                        source,
                    })?;
                    path
                }
                Content::Host(host) => {
                    let path = PathBuf::from(&host.path);
                    blocking(move || host_path(&host)).await.map_err(|source| InputError::File {
                        operation: "use host path",
                        path: path.clone(),
                        source,
                    })?;
                    path
                }
            };
            paths.insert(volume.name.clone(), path);
        }
        Ok(paths)
    }

    /// Checks that what a pod's volumes refer to is there, writing nothing and requesting no token. The volume every
    /// pod gets for its service account is taken for granted.
    ///
    /// # Errors
    /// As [`Inputs::volumes`].
    pub async fn check_volumes(&self, pod: &Pod) -> Result<(), InputError> {
        for volume in facts::spec(pod).volumes.iter().flatten() {
            let with_token = volume.projected.as_ref().is_some_and(|projected| {
                projected.sources.iter().flatten().any(|source| source.service_account_token.is_some())
            });
            if !with_token {
                self.content(pod, volume, &[], false).await?;
            }
        }
        Ok(())
    }

    /// The files of the volumes of a container that are a Secret, a ConfigMap or fields of its pod: volume, path in it,
    /// content. Projected volumes are left out: every pod has one, with a token that who has no network cannot use.
    ///
    /// # Errors
    /// As [`Inputs::volumes`].
    pub async fn files(
        &self,
        pod: &Pod,
        container: &Container,
        pod_ips: &[String],
    ) -> Result<Vec<(String, String, Vec<u8>)>, InputError> {
        let mounted = |volume: &&Volume| {
            container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name)
        };
        let mut files = Vec::new();
        for volume in facts::spec(pod).volumes.iter().flatten().filter(mounted) {
            let known =
                volume.secret.is_some() || volume.config_map.is_some() || volume.downward_api.is_some();
            if !known {
                continue;
            }
            if let Content::Files(payload) = self.content(pod, volume, pod_ips, false).await? {
                let own = payload.into_iter().map(|(path, file)| (volume.name.clone(), path, file.content));
                files.extend(own);
            }
        }
        Ok(files)
    }

    async fn content(
        &self,
        pod: &Pod,
        volume: &Volume,
        pod_ips: &[String],
        tokens: bool,
    ) -> Result<Content, InputError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let own = Own { pod_ips, host_ip: &self.host_ip, node_name: &self.node_name };
        let mut payload = Payload::new();
        if volume.empty_dir.is_some() {
            return Ok(Content::Empty);
        }
        if let Some(host) = &volume.host_path {
            return Ok(Content::Host(host.clone()));
        }
        if let Some(source) = &volume.config_map {
            let data = self.config_map(namespace, &source.name).await?;
            let from = Source { kind: "configmap", name: &source.name, optional: source.optional };
            add(&mut payload, namespace, &from, data, source.items.as_deref(), source.default_mode)?;
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let data = self.secret(namespace, name).await?;
            let from = Source { kind: "secret", name, optional: source.optional };
            add(&mut payload, namespace, &from, data, source.items.as_deref(), source.default_mode)?;
        } else if let Some(source) = &volume.downward_api {
            for item in source.items.iter().flatten() {
                add_field(&mut payload, pod, item, source.default_mode, &own)?;
            }
        } else if let Some(source) = &volume.projected {
            self.projected(&mut payload, pod, source, &own, tokens).await?;
        } else {
            return Err(InputError::UnsupportedVolume { volume: volume.name.clone(), what: kind_of(volume) });
        }
        Ok(Content::Files(payload))
    }

    async fn projected(
        &self,
        payload: &mut Payload,
        pod: &Pod,
        projected: &ProjectedVolumeSource,
        own: &Own<'_>,
        tokens: bool,
    ) -> Result<(), InputError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mode = projected.default_mode;
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                let data = self.config_map(namespace, &map.name).await?;
                let from = Source { kind: "configmap", name: &map.name, optional: map.optional };
                add(payload, namespace, &from, data, map.items.as_deref(), mode)?;
            } else if let Some(secret) = &source.secret {
                let data = self.secret(namespace, &secret.name).await?;
                let from = Source { kind: "secret", name: &secret.name, optional: secret.optional };
                add(payload, namespace, &from, data, secret.items.as_deref(), mode)?;
            } else if let Some(downward) = &source.downward_api {
                for item in downward.items.iter().flatten() {
                    add_field(payload, pod, item, mode, own)?;
                }
            } else if let Some(token) = source.service_account_token.as_ref().filter(|_| tokens) {
                let content = self.token(pod, token.audience.as_deref(), token.expiration_seconds).await?;
                payload.insert(token.path.clone(), File { content: content.into_bytes(), mode: 0o644 });
            }
        }
        Ok(())
    }
}

enum Content {
    Files(Payload),
    Empty,
    Host(HostPathVolumeSource),
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

struct Source<'a> {
    kind: &'static str,
    name: &'a str,
    optional: Option<bool>,
}

fn add(
    payload: &mut Payload,
    namespace: &str,
    from: &Source<'_>,
    data: Option<Data>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
) -> Result<(), InputError> {
    let optional = from.optional == Some(true);
    let Some(data) = data else {
        if optional {
            return Ok(());
        }
        return Err(InputError::Missing { kind: from.kind, name: from.name.to_owned() });
    };
    let bits =
        |mode: Option<i32>| u32::try_from(mode.or(default_mode).unwrap_or(DEFAULT_MODE)).unwrap_or(0o644);
    let Some(items) = items else {
        payload.extend(data.into_iter().map(|(key, content)| (key, File { content, mode: bits(None) })));
        return Ok(());
    };
    for item in items {
        match data.get(&item.key) {
            Some(content) => {
                payload.insert(item.path.clone(), File { content: content.clone(), mode: bits(item.mode) });
            }
            None if optional => {}
            None => {
                return Err(InputError::MissingKey {
                    kind: from.kind,
                    namespace: namespace.to_owned(),
                    name: from.name.to_owned(),
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

fn add_field(
    payload: &mut Payload,
    pod: &Pod,
    item: &DownwardAPIVolumeFile,
    default_mode: Option<i32>,
    own: &Own<'_>,
) -> Result<(), InputError> {
    let content = if let Some(field) = &item.field_ref {
        fields::field(pod, &field.field_path, own)?
    } else if let Some(resource) = &item.resource_field_ref {
        fields::resource(pod, resource, "")?
    } else {
        return Err(InputError::Field(item.path.clone()));
    };
    let mode = u32::try_from(item.mode.or(default_mode).unwrap_or(DEFAULT_MODE)).unwrap_or(0o644);
    payload.insert(item.path.clone(), File { content: content.into_bytes(), mode });
    Ok(())
}

/// Checks or makes what a `hostPath` promises.
fn host_path(host: &HostPathVolumeSource) -> io::Result<()> {
    let path = Path::new(&host.path);
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("it is not {what}"));
    match host.type_.as_deref().unwrap_or_default() {
        "" => Ok(()),
        "DirectoryOrCreate" => fs::create_dir_all(path),
        "FileOrCreate" => fs::OpenOptions::new().create(true).append(true).open(path).map(drop),
        "Directory" if fs::metadata(path)?.is_dir() => Ok(()),
        "File" if fs::metadata(path)?.is_file() => Ok(()),
        "Socket" | "CharDevice" | "BlockDevice" => fs::metadata(path).map(drop),
        other => Err(wrong(other)),
    }
}

/// The kind of a volume by the field that is set.
fn kind_of(volume: &Volume) -> String {
    let json = serde_json::to_value(volume).unwrap_or_default();
    let kind = json.as_object().and_then(|fields| fields.keys().find(|key| *key != "name").cloned());
    kind.unwrap_or_else(|| "unknown".to_owned())
}

/// The mounts of a container, given where its pod's volumes lie.
///
/// # Errors
/// When a mount names no volume or its sub-path leaves the volume.
pub fn mounts(
    container: &Container,
    volumes: &BTreeMap<String, PathBuf>,
    expand: impl Fn(&str) -> String,
) -> Result<Vec<Mount>, InputError> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&mount.name).ok_or_else(|| {
            InputError::Mount(format!(
                "container {} mounts volume \"{}\", which the pod has not",
                container.name, mount.name
            ))
        })?;
        let sub = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) => path.clone(),
            (None, Some(expression)) => expand(expression),
            (None, None) => String::new(),
        };
        mounts.push(Mount {
            container_path: mount.mount_path.clone(),
            host_path: inside(volume, &sub)?,
            read_only: mount.read_only == Some(true),
            propagation: mount.mount_propagation.clone(),
        });
    }
    Ok(mounts)
}

/// `volume/sub`, resolved, so that no link in a volume can lead a mount out of it.
fn inside(volume: &Path, sub: &str) -> Result<PathBuf, InputError> {
    if sub.is_empty() {
        return Ok(volume.to_path_buf());
    }
    let plain =
        Path::new(sub).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let leaves = || InputError::Mount(format!("subPath \"{sub}\" leaves its volume"));
    if !plain {
        return Err(leaves());
    }
    let path = volume.join(sub);
    let file = |source| InputError::File { operation: "create sub-path", path: path.clone(), source };
    let root = fs::canonicalize(volume).map_err(file)?;
    // Made step by step: a link on the way must not have directories made outside.
    let mut at = root.clone();
    for part in Path::new(sub).components() {
        at.push(part);
        match fs::canonicalize(&at) {
            Ok(real) => at = real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&at).map_err(file)?;
                fs::set_permissions(&at, fs::Permissions::from_mode(0o777)).map_err(file)?;
            }
            Err(error) => return Err(file(error)),
        }
        if !at.starts_with(&root) {
            return Err(leaves());
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_never_leaves_its_volume() {
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).expect("linked");
        assert!(inside(dir.path(), "../x").is_err());
        assert!(inside(dir.path(), "/etc").is_err());
        assert!(inside(dir.path(), "link").is_err());
        assert!(inside(dir.path(), "link/new").is_err());
        assert!(!Path::new("/etc/new").exists());
        assert!(inside(dir.path(), "a/b").expect("made").ends_with("a/b"));
    }
}
