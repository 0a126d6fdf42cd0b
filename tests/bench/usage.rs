//! What a measurement costs: CPU of the daemons and of the whole machine, and resident memory, as the kernel counts.

use std::fs::read_to_string;

/// The unit of times in /proc: USER_HZ, 100 on every Linux (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds since some beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    /// Of these processes together. One that is gone counts nothing.
    pub(crate) fn of(pids: &[u32]) -> Self {
        pids.iter().fold(Self::default(), |sum, pid| {
            let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name stands in parentheses and may hold anything; utime and stime are the 12th and 13th after it.
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).collect();
            let seconds =
                |i: usize| fields.get(i).map_or(0.0, |t| t.parse::<f64>().unwrap() / TICKS_PER_SECOND);
            Self { user: sum.user + seconds(0), system: sum.system + seconds(1) }
        })
    }

    /// Of the whole machine: user is what programs ran, system everything the kernel did, also in interrupts.
    pub(crate) fn of_machine() -> Self {
        let stat = read_to_string("/proc/stat").unwrap();
        let line = stat.lines().next().unwrap();
        // cpu user nice system idle iowait irq softirq steal
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).map(|t| t.parse::<f64>().unwrap() / TICKS_PER_SECOND).collect();
        Self { user: ticks[0] + ticks[1], system: ticks[2] + ticks[5] + ticks[6] }
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

/// Resident set of a process, MB.
pub(crate) fn resident_mb(pid: u32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// The most that a process ever had resident, MB.
pub(crate) fn peak_mb(pid: u32) -> f64 {
    status_mb(pid, "VmHWM:")
}

/// A line of /proc/PID/status (proc(5)).
fn status_mb(pid: u32, name: &str) -> f64 {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The largest of several processes: both ends do the same work.
pub(crate) fn largest_mb(pids: &[u32], of: fn(u32) -> f64) -> f64 {
    pids.iter().map(|&pid| of(pid)).fold(0.0, f64::max)
}
