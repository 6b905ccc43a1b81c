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
    let mut kilobytes = 0;
    for pid in pids {
        let status =
            fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        kilobytes += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(kilobytes * 1024)
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
        assert!(resident(&own).expect("memory") > 1 << 20);
        let before = cpu(&own).expect("time");
        let mut sum = 0_u64;
        while cpu(&own).expect("time") == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu(&[u32::MAX]).is_err());
    }
}
