//! Keeps what a server holds of its own executable to what it uses.
//!
//! Start-up walks through most of the code: schemas, discovery, defaults, certificates. Afterwards those pages stay mapped
//! and count as the process's resident memory, three quarters of it in an idle server, until the machine runs short. Here they
//! are let go now and then. They are pages of a file, not data: what runs next is mapped again from the page cache, all of it in
//! about a millisecond, and where memory is short the kernel need not look for them.

use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use nix::sys::mman::{MmapAdvise, madvise};

/// When a server has begun its work.
const FIRST: Duration = Duration::from_secs(10);
/// How often afterwards: a few thousandths of a percent of a processor.
const AGAIN: Duration = Duration::from_secs(30);

/// A part of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    bytes: usize,
}

/// Lets go of unused code again and again; never returns where that can be done.
pub(crate) async fn keep_small() {
    let Ok(executable) = std::env::current_exe() else { return };
    tokio::time::sleep(FIRST).await;
    loop {
        let own = executable.clone();
        // Where it cannot be done nothing is lost but memory that is not needed.
        let Ok(Ok(())) = tokio::task::spawn_blocking(move || let_go(&own)).await else { return };
        tokio::time::sleep(AGAIN).await;
    }
}

fn let_go(executable: &Path) -> std::io::Result<()> {
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    for mapping in clean(&smaps, &executable.to_string_lossy()) {
        let Some(start) = NonNull::new(std::ptr::with_exposed_provenance_mut(mapping.start)) else {
            continue;
        };
        #[expect(unsafe_code, reason = "no safe interface tells the kernel about one's own mappings")]
        // SAFETY: the mapping is of a file, cannot be written and has no page that differs from the file, so that what is
        // read there afterwards is what was read before. It is of the running executable, which nothing unmaps.
        unsafe {
            madvise(start, mapping.bytes, MmapAdvise::MADV_DONTNEED)?;
        }
    }
    Ok(())
}

/// The mappings of a file that cannot be written and have no page of their own (one that relocation changed, say).
fn clean(smaps: &str, file: &str) -> Vec<Mapping> {
    let (mut found, mut candidate) = (Vec::new(), None);
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Anonymous:", "0", ..] => found.extend(candidate.take()),
            ["Anonymous:", ..] => candidate = None,
            [range, rights, _, _, _, path @ ..] if range.contains('-') => {
                let fixed = rights.starts_with('r') && !rights.contains('w') && rights.ends_with('p');
                candidate = parse(range).filter(|_| fixed && path.join(" ") == file);
            }
            _ => {}
        }
    }
    found
}

fn parse(range: &str) -> Option<Mapping> {
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).ok());
    Some(Mapping { start: start?, bytes: end?.checked_sub(start?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 fe:00 12 /opt/fair lead
Rss:                   8 kB
Anonymous:             0 kB
3000-9000 r-xp 00002000 fe:00 12 /opt/fair lead
Anonymous:             0 kB
9000-a000 r--p 00008000 fe:00 12 /opt/fair lead
Anonymous:             4 kB
a000-b000 rw-p 00009000 fe:00 12 /opt/fair lead
Anonymous:             0 kB
c000-d000 r-xp 00000000 fe:00 13 /lib/libc.so.6
Anonymous:             0 kB
e000-f000 rw-p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_the_file_is_let_go() {
        let expected = [(0x1000, 0x2000), (0x3000, 0x6000)].map(|(start, bytes)| Mapping { start, bytes });
        assert_eq!(clean(SMAPS, "/opt/fair lead"), expected);
    }

    #[test]
    fn a_process_goes_on_with_less() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        let_go(&std::env::current_exe().unwrap()).unwrap();
        assert!(resident() < before, "{before} kB stay");
    }
}
