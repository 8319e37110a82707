//! What the kernel counts for the processes of a proxy or of both ends of a
//! tunnel, and for their children.

use std::fs;

use crate::sys::{self, Pid};

/// The processes that make up one proxy or tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    roots: Vec<Pid>,
    /// None when it forks for each connection, so that they must be looked up
    /// each time.
    members: Option<Vec<Pid>>,
}

impl Processes {
    /// `roots` and what descends from them now, or, if they fork, at any time.
    pub(crate) fn of(roots: Vec<Pid>, forks: bool) -> Self {
        let members = (!forks).then(|| families(&roots));
        Self { roots, members }
    }

    /// The roots and their descendants.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        self.members.clone().unwrap_or_else(|| families(&self.roots))
    }

    /// User and system time so far, in seconds, ended threads included, and
    /// ended children too if it forks (to a clock tick).
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let pids = self.pids();
        let living: f64 = pids
            .iter()
            .filter_map(|&pid| sys::process_cpu(pid))
            .map(|time| time.as_secs_f64())
            .sum();
        match self.members {
            Some(_) => living,
            None => living + pids.iter().filter_map(|&pid| ended_children(pid)).sum::<f64>(),
        }
    }

    /// Private memory in bytes, each page shared with others counted in part;
    /// none when the kernel does not tell.
    pub(crate) fn pss_bytes(&self) -> Option<u64> {
        match &self.members {
            Some(members) => members.iter().map(|&pid| pss_bytes(pid)).sum(),
            None => {
                let roots: u64 = self.roots.iter().map(|&pid| pss_bytes(pid)).sum::<Option<_>>()?;
                // A child may have ended since it was listed.
                let children = self.pids().into_iter().filter(|pid| !self.roots.contains(pid));
                Some(roots + children.filter_map(pss_bytes).sum::<u64>())
            }
        }
    }
}

/// The fields of `/proc/PID/stat` after the name, which may itself hold blanks;
/// the first is the state, field 3 in the kernel's numbering.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(String::from).collect())
}

/// A process and what descends from it.
pub(crate) fn family(root: Pid) -> Vec<Pid> {
    families(&[root])
}

fn families(roots: &[Pid]) -> Vec<Pid> {
    let parents: Vec<(Pid, Pid)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = roots.to_vec();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|pair| pair.1 == parent).map(|pair| pair.0));
        next += 1;
    }
    found
}

/// Seconds of the children that a process has waited for.
fn ended_children(pid: Pid) -> Option<f64> {
    let fields = stat(pid)?;
    // cutime and cstime are fields 16 and 17, and field 3 is the first here.
    let ticks: f64 = fields.get(13..15)?.iter().filter_map(|f| f.parse::<f64>().ok()).sum();
    Some(ticks / sys::ticks_per_second())
}

fn pss_bytes(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Whether every thread of a process is being traced.
pub(crate) fn is_traced(pid: Pid) -> bool {
    fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .all(|status| {
            status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"))
                .is_some_and(|tracer| tracer.trim() != "0")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Pid {
        std::process::id().cast_signed()
    }

    #[test]
    fn a_process_has_time_memory_and_no_tracer() {
        // The children of other tests come and go.
        let processes = Processes::of(vec![me()], true);
        assert!(processes.pids().contains(&me()));
        assert!(processes.cpu_seconds() > 0.0);
        assert!(processes.pss_bytes().unwrap() > 0);
        assert!(!is_traced(me()));
    }

    #[test]
    fn a_child_is_a_descendant_while_it_lives_and_counted_after() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(family(me()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!family(me()).contains(&pid));
        assert!(ended_children(me()).is_some());
    }

    #[test]
    fn both_ends_of_a_tunnel_are_counted_and_neither_may_be_missing() {
        let start = || std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let mut ends = [start(), start()];
        let pids: Vec<_> = ends.iter().map(|end| end.id().cast_signed()).collect();
        let both = Processes::of(pids.clone(), false);
        assert_eq!(both.pids(), pids);
        // They may still be growing.
        let one = Processes::of(vec![pids[0]], false).pss_bytes().unwrap();
        assert!(both.pss_bytes().unwrap() > one);
        for end in &mut ends {
            end.kill().unwrap();
            end.wait().unwrap();
            assert_eq!(both.pss_bytes(), None);
        }
    }
}
