//! What processes cost: processor time and resident memory, summed over all that make up a server.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Linux reports processor time in ticks of this length to every process (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// User and system time that the processes have taken so far.
///
/// # Errors
/// When one is not there.
pub fn cpu(pids: &[u32]) -> anyhow::Result<Duration> {
    let mut ticks = 0_u32;
    for pid in pids {
        let stat =
            fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        // The name, in parentheses, may hold spaces; user and system time are the 14th and 15th field.
        let (_, fields) = stat.rsplit_once(')').context("an odd stat file")?;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
    }
    Ok(TICK * ticks)
}

/// Resident bytes of the processes together.
///
/// # Errors
/// When one is not there.
pub fn resident(pids: &[u32]) -> anyhow::Result<u64> {
    memory(pids, "VmRSS:")
}

/// Resident bytes that are no pages of files: what the processes allocated. Code that was run once counts as resident, too, until
/// the machine runs short, and more of it in a large fleet's day than in a small one's.
///
/// # Errors
/// When one is not there.
pub fn allocated(pids: &[u32]) -> anyhow::Result<u64> {
    memory(pids, "RssAnon:")
}

fn memory(pids: &[u32], kind: &str) -> anyhow::Result<u64> {
    let mut kilobytes = 0;
    for pid in pids {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(kind));
        let line = line.with_context(|| format!("no {kind}"))?;
        kilobytes += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(kilobytes * 1024)
}

/// How many files this process may have open.
///
/// # Errors
/// When the system does not say.
pub fn open_files() -> anyhow::Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).context("no limit of open files")?;
    Ok(if soft == "unlimited" { u64::MAX } else { soft.parse()? })
}

/// For people.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1_u32 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let own = [std::process::id()];
        let (resident, allocated) = (resident(&own).expect("memory"), allocated(&own).expect("memory"));
        assert!(resident > 1 << 20 && (1..resident).contains(&allocated));
        assert!(open_files().expect("a limit") > 3);
        let before = cpu(&own).expect("time");
        let mut sum = 0_u64;
        while cpu(&own).expect("time") == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu(&[u32::MAX]).is_err());
    }
}
