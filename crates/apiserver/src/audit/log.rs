//! The log file: a JSON document a line, on a thread of its own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

use super::LogOptions;
use super::sink::Queue;

/// The file as it is written; rotated by size, closed ones removed by age and number.
pub(super) struct File {
    options: LogOptions,
    /// `None`: the standard output.
    file: Option<fs::File>,
    written: u64,
}

impl File {
    pub(super) fn open(options: LogOptions) -> io::Result<Self> {
        if options.path == Path::new("-") {
            return Ok(Self { options, file: None, written: 0 });
        }
        if let Some(directory) = options.path.parent().filter(|path| !path.as_os_str().is_empty()) {
            fs::create_dir_all(directory)?;
        }
        let file = append(&options.path)?;
        let written = file.metadata()?.len();
        Ok(Self { options, file: Some(file), written })
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            let mut out = io::stdout().lock();
            out.write_all(line)?;
            out.write_all(b"\n")?;
            return out.flush();
        };
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        let limit = self.options.max_size_bytes;
        if limit > 0 && self.written > 0 && self.written.saturating_add(length) > limit {
            fs::rename(&self.options.path, backup(&self.options.path, Timestamp::now()))?;
            *file = append(&self.options.path)?;
            self.written = 0;
            remove_old(&self.options)?;
        }
        // One call, so that readers never see half a line end.
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        file.write_all(&whole)?;
        self.written += length;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// `audit.log` becomes `audit-2026-01-02T03-04-05.678.log`, as upstream's log rotation names it.
fn backup(path: &Path, now: Timestamp) -> PathBuf {
    let part = |text: Option<&std::ffi::OsStr>| text.and_then(|text| text.to_str()).unwrap_or("").to_owned();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let dot = if extension.is_empty() { "" } else { "." };
    let named = |suffix: &str| {
        path.with_file_name(format!(
            "{stem}-{}{suffix}{dot}{extension}",
            now.strftime("%Y-%m-%dT%H-%M-%S%.3f")
        ))
    };
    // Two rotations within a millisecond must not overwrite one another.
    (0..1000_u32)
        .map(|number| named(&if number == 0 { String::new() } else { format!(".{number}") }))
        .find(|candidate| !candidate.exists())
        .unwrap_or_else(|| named(""))
}

fn remove_old(options: &LogOptions) -> io::Result<()> {
    let path = &options.path;
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let prefix = format!("{stem}-");
    let mut closed: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|each| {
            let name = each.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&prefix) && each.extension() == path.extension()
        })
        .collect();
    // The names hold the time: by name is by age.
    closed.sort();
    let surplus = if options.max_backups == 0 { 0 } else { closed.len().saturating_sub(options.max_backups) };
    let now = SystemTime::now();
    for (index, file) in closed.iter().enumerate() {
        let age = fs::metadata(file).and_then(|data| data.modified()).ok();
        let age = age.and_then(|time| now.duration_since(time).ok()).unwrap_or_default();
        if index < surplus || !options.max_age.is_zero() && age > options.max_age {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// Writes until the last sender has gone. A failed write costs its event, which is counted.
pub(super) fn start(mut file: File, mut queue: Queue) {
    let writing = move || {
        while let Some(item) = queue.receiver.blocking_recv() {
            let written = file.write(&item.line);
            if let Err(error) = &written {
                tracing::error!(%error, "failed to write an audit event");
                if item.done.is_none() {
                    queue.counts.drop_many(1);
                }
            }
            if let Some(done) = item.done {
                let _ = done.send(written.is_ok());
            }
        }
    };
    let started = std::thread::Builder::new().name("audit log".to_owned()).spawn(writing);
    if let Err(error) = started {
        tracing::error!(%error, "failed to start the audit log's thread: its events are dropped");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn files_rotate_by_size_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = LogOptions::new(directory.path().join("audit.log"));
        options.max_size_bytes = 20;
        options.max_backups = 2;
        options.max_age = Duration::from_secs(3600);
        let mut file = File::open(options).unwrap();
        for _ in 0..6 {
            file.write(b"0123456789").unwrap();
        }
        let names: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("audit") && name.ends_with(".log")), "{names:?}");
        let current = fs::read_to_string(directory.path().join("audit.log")).unwrap();
        assert_eq!(current, "0123456789\n");
    }
}
