//! This process as Linux tells of it (`proc(5)`). What cannot be read is left out.

use super::text::Text;

/// What the kernel counts processor time in: `USER_HZ`, 100 on every architecture Linux supports.
const TICKS_PER_SECOND: f64 = 100.0;
/// Where `utime` and the others stand behind the command's closing parenthesis in `/proc/self/stat`.
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;
const THREADS: usize = 17;
const START_TIME: usize = 19;
const VIRTUAL_BYTES: usize = 20;

pub(super) fn write(text: &mut Text) {
    let mut tell = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            text.family(name, kind, help);
            text.number(name, &[], value);
        }
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let field = |index: usize| fields.get(index).copied();
    let time =
        field(USER_TIME).zip(field(SYSTEM_TIME)).map(|(user, system)| (user + system) / TICKS_PER_SECOND);
    tell("process_cpu_seconds_total", "counter", "Processor time used, in seconds.", time);
    tell("process_threads", "gauge", "Threads.", field(THREADS));
    tell("process_virtual_memory_bytes", "gauge", "Virtual memory, in bytes.", field(VIRTUAL_BYTES));
    tell("process_resident_memory_bytes", "gauge", "Resident memory, in bytes.", status("VmRSS:"));
    let start = field(START_TIME).zip(boot_time()).map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND);
    tell("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", start);
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    tell("process_open_fds", "gauge", "Open files.", open);
    tell("process_max_fds", "gauge", "Files that may be open.", most_files());
}

/// A line of `/proc/self/status` in bytes.
fn status(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn most_files() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
