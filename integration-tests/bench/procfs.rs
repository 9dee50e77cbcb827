//! CPU time and memory of other processes, read from `/proc`.

use std::fs;

use crate::failure::{At, Failure};

/// `_SC_CLK_TCK` of every Linux that Rust runs on: the unit of the CPU times in `/proc/PID/stat`.
const STAT_TICK_NS: u64 = 10_000_000;

/// A process and its descendants at the moment of listing. Processes that start later are not in it.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pids: Vec<u32>,
}

impl Tree {
    /// Lists `root` and all of its descendants.
    pub(crate) fn of(root: u32) -> Result<Self, Failure> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").at("/proc")?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            if let Some(parent) = stat_fields(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut pids = vec![root];
        let mut at = 0;
        while at < pids.len() {
            let parent = pids[at];
            pids.extend(parents.iter().filter(|pair| pair.1 == parent).map(|pair| pair.0));
            at += 1;
        }
        Ok(Self { pids })
    }

    /// The process `pid` alone.
    pub(crate) fn single(pid: u32) -> Self {
        Self { pids: vec![pid] }
    }

    /// CPU time used by all threads so far, in nanoseconds. Reads the scheduler's own account (nanosecond precision)
    /// and falls back to the 10 ms ticks of `stat` where the kernel keeps none. Time of threads that have ended is
    /// not in the scheduler's account; the servers measured here keep their threads.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Failure> {
        self.pids.iter().map(|&pid| cpu_ns(pid)).sum()
    }

    /// Resident memory in bytes, summed over the processes. Pages shared between them count once for each, so only
    /// differences of this figure mean anything.
    pub(crate) fn rss_bytes(&self) -> Result<u64, Failure> {
        self.pids.iter().map(|&pid| rss_bytes(pid)).sum()
    }
}

fn cpu_ns(pid: u32) -> Result<u64, Failure> {
    let place = format!("/proc/{pid}/task");
    let mut sum = 0;
    for entry in fs::read_dir(&place).at(&place)?.flatten() {
        let text = fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
        match text.split(' ').next().and_then(|field| field.parse::<u64>().ok()) {
            Some(ns) => sum += ns,
            None => return cpu_ns_from_stat(pid),
        }
    }
    Ok(sum)
}

fn cpu_ns_from_stat(pid: u32) -> Result<u64, Failure> {
    let fields = stat_fields(pid).ok_or_else(|| Failure(format!("process {pid} has ended")))?;
    // Fields 14 and 15 of the manual page; `stat_fields` starts at field 3.
    let ticks: u64 = fields
        .iter()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks * STAT_TICK_NS)
}

/// The fields of `/proc/PID/stat` after the command name, which may itself hold spaces and brackets.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn rss_bytes(pid: u32) -> Result<u64, Failure> {
    let place = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&place).at(&place)?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .ok_or_else(|| Failure(format!("{place} has no VmRSS")))?;
    Ok(kib * 1024)
}
