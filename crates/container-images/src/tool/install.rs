//! Copies this program so that it runs in containers of any image, whatever C library they have or lack.
//!
//! `<dir>/fairlead` is the program, `<dir>/lib` holds its libraries and, as `loader`, its dynamic loader, by which it is
//! started: `lib/loader --library-path lib fairlead …`. A program that needs no loader lies there in its place and passes
//! over those words.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Copies into `dir`.
///
/// # Errors
/// As the file system says.
pub(super) fn into(dir: &Path) -> io::Result<()> {
    let own = std::env::current_exe()?;
    let lib = dir.join("lib");
    fs::create_dir_all(&lib)?;
    copy(&own, &dir.join("fairlead"))?;
    let mut loader = own.clone();
    for (name, path) in mapped(&own)? {
        if name.starts_with("ld-") {
            loader.clone_from(&path);
        }
        copy(&path, &lib.join(name))?;
    }
    copy(&loader, &lib.join("loader"))
}

/// The libraries this process has mapped, by file name: what it needs to run is what it runs with.
fn mapped(own: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
    let mut found = BTreeMap::new();
    for path in paths.filter(|path| path != own) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.contains(".so") && path.is_file() {
            found.insert(name.to_owned(), path);
        }
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))
}
