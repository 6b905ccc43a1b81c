//! Directories whose files change all at once.
//!
//! Files are reached over `name -> ..data/name`, and `..data` is a link to a directory made whole before the link is
//! moved. A reader sees the old set or the new one, as upstream's atomic writer has it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Component, Path};

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its content; may be secret.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Files by path below the directory.
pub type Payload = BTreeMap<String, File>;

/// Makes `dir` show exactly `payload`. Does nothing when it does already; `true` when it changed. With a `group` (the pod's
/// `fsGroup`) the files are its own and it may read them, as upstream has it for volumes that are only read.
///
/// # Errors
/// As the file system says, and `InvalidInput` for a path that leaves the directory.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    for path in payload.keys() {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.starts_with("..") || path.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path:?} leaves the volume")));
        }
    }
    fs::create_dir_all(dir)?;
    let data = dir.join("..data");
    let current = fs::read_link(&data).ok().map(|name| dir.join(name));
    if let Some(current) = &current
        && shows(current, payload, group)
    {
        return Ok(false);
    }
    let number = (0u64..).find(|n| !dir.join(format!("..{n}")).exists()).unwrap_or_default();
    let fresh_name = format!("..{number}");
    let fresh = dir.join(&fresh_name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.content)?;
        chown(&target, None, group)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode_of(file, group)))?;
    }
    let moving = dir.join("..data_tmp");
    let _ = fs::remove_file(&moving);
    symlink(&fresh_name, &moving)?;
    fs::rename(&moving, &data)?;
    link_names(dir, payload)?;
    if let Some(current) = current {
        fs::remove_dir_all(current)?;
    }
    Ok(true)
}

fn mode_of(file: &File, group: Option<u32>) -> u32 {
    (file.mode & 0o777) | if group.is_some() { 0o440 } else { 0 }
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn link_names(dir: &Path, payload: &Payload) -> io::Result<()> {
    for path in payload.keys() {
        let name = first_part(path);
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with("..") && !payload.keys().any(|path| first_part(path) == name) {
            fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}

fn shows(current: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let mut found = 0;
    count(current, &mut found).is_ok()
        && found == payload.len()
        && payload.iter().all(|(path, file)| {
            let target = current.join(path);
            let same = |meta: fs::Metadata| {
                meta.permissions().mode() & 0o777 == mode_of(file, group)
                    && group.is_none_or(|group| meta.gid() == group)
            };
            fs::metadata(&target).is_ok_and(same)
                && fs::read(&target).is_ok_and(|content| content == file.content)
        })
}

fn count(dir: &Path, found: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count(&entry.path(), found)?;
        } else {
            *found += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |content: &str| File { content: content.as_bytes().to_vec(), mode: 0o644 };
        files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect()
    }

    #[test]
    fn a_change_replaces_all_files_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("written"));
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("unchanged"));
        assert_eq!(fs::read_to_string(dir.path().join("sub/b")).expect("there"), "2");
        assert!(write(dir.path(), &payload(&[("a", "3")]), None).expect("written"));
        assert_eq!(fs::read_to_string(dir.path().join("a")).expect("there"), "3");
        assert!(fs::symlink_metadata(dir.path().join("sub")).is_err());
        let names = fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(names, 3, "..data, its directory, and a");
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().expect("a directory");
        for bad in ["../x", "/etc/x", "a/../../x", "..data", ""] {
            assert!(write(dir.path(), &payload(&[(bad, "x")]), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_group_may_read_what_its_owner_may() {
        let dir = tempfile::tempdir().expect("a directory");
        // One that everybody may give files to: their own.
        let group = fs::metadata(dir.path()).expect("there").gid();
        let mut payload = payload(&[("a", "1"), ("sub/b", "2")]);
        payload.values_mut().for_each(|file| file.mode = 0o400);
        assert!(write(dir.path(), &payload, None).expect("written"));
        assert!(write(dir.path(), &payload, Some(group)).expect("changed"));
        assert!(!write(dir.path(), &payload, Some(group)).expect("unchanged"));
        let facts = fs::metadata(dir.path().join("sub/b")).expect("there");
        assert_eq!((facts.gid(), facts.permissions().mode() & 0o777), (group, 0o440));
    }
}
