//! Writes programs of classic BPF that decide about system calls (seccomp(2)). Knows nothing of any
//! call but its number and its arguments.
//!
//! Invariant: a program reads only what the kernel gives it, jumps forward only, and each of its ways
//! ends in a verdict.

use core::mem::offset_of;
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, seccomp_data,
    sock_filter,
};

/// linux/audit.h: the machine's number in ELF, 64 bits wide, little-endian.
const AUDIT_64BIT: u32 = 0x8000_0000;
const AUDIT_LE: u32 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
pub(super) const ARCH: u32 = libc::EM_X86_64 as u32 | AUDIT_64BIT | AUDIT_LE;
#[cfg(target_arch = "aarch64")]
pub(super) const ARCH: u32 = libc::EM_AARCH64 as u32 | AUDIT_64BIT | AUDIT_LE;

/// Whoever traces a thread puts this in place of the call that it is not to make (ptrace(2)); there
/// is no such call.
pub(super) const SKIPPED: u32 = u32::MAX;

/// The instructions of one filter.
pub(super) type Program = Vec<sock_filter>;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made.
    Allow,
    /// It is not made, and its thread is told by SIGSYS that this is the end.
    End,
    /// It is not made, and its thread is told by SIGSYS what error it gives.
    Refuse(u16),
    /// It is not made, and gives this error; nobody is told.
    Lack(u16),
}

impl Verdict {
    /// What the kernel takes it for (linux/seccomp.h). The low half of a SIGSYS's is its `si_errno`;
    /// there is no error 0.
    pub(super) const fn value(self) -> u32 {
        match self {
            Verdict::Allow => libc::SECCOMP_RET_ALLOW,
            Verdict::End => libc::SECCOMP_RET_TRAP,
            Verdict::Refuse(errno) => libc::SECCOMP_RET_TRAP | errno as u32,
            Verdict::Lack(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        }
    }
}

/// What an argument must be, of which the low 32 bits are looked at: those that the kernel takes of
/// an `int`, and where the flags are that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The argument of this place is this.
    Is(u8, u32),
    /// It has one of these bits.
    Has(u8, u32),
    /// It has none of these bits.
    Lacks(u8, u32),
}

/// When a call is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule<'r> {
    /// The call.
    pub(super) number: u32,
    /// It is allowed if all conditions of one of these hold.
    pub(super) ways: &'r [&'r [Condition]],
    /// What becomes of it if not.
    pub(super) otherwise: Verdict,
}

/// It always holds.
pub(super) const ALWAYS: &[&[Condition]] = &[&[]];
/// It never does.
pub(super) const NEVER: &[&[Condition]] = &[];

impl Rule<'_> {
    /// What becomes of the call whatever its arguments, if that is so.
    fn verdict(&self) -> Option<Verdict> {
        match self.ways {
            [] => Some(self.otherwise),
            ways if ways.iter().any(|way| way.is_empty()) => Some(Verdict::Allow),
            _ => None,
        }
    }
}

/// More than one of its jumps can skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Calls from a number on, up to the next run's first.
#[derive(Clone, Copy)]
struct Run<'r> {
    first: u32,
    what: What<'r>,
}

#[derive(Clone, Copy)]
enum What<'r> {
    All(Verdict),
    One(Rule<'r>),
}

/// A program for these rules, of which the first one of a number counts; what becomes of all other
/// calls is `otherwise`. Those of another architecture's numbers end the process.
///
/// O(n log n) in the number of rules; the program finds a call's rule in O(log n) steps.
pub(super) fn compile(rules: &[Rule<'_>], otherwise: Verdict) -> Result<Program, TooLong> {
    let mut writer = Writer::default();
    writer.load(offset_of!(seccomp_data, arch));
    writer.jump(BPF_JEQ, ARCH, 1, 0);
    writer.end(libc::SECCOMP_RET_KILL_PROCESS);
    writer.load(offset_of!(seccomp_data, nr));
    writer.jump(BPF_JEQ, SKIPPED, 0, 1);
    writer.end(Verdict::Allow.value());
    writer.choose(&runs_of(rules, otherwise))?;
    Ok(writer.program)
}

/// The rules in the order of their numbers, with what is between them.
fn runs_of<'r>(rules: &[Rule<'r>], otherwise: Verdict) -> Vec<Run<'r>> {
    let mut ordered = rules.to_vec();
    // Stable: of several with one number the first stays first.
    ordered.sort_by_key(|rule| rule.number);
    ordered.dedup_by_key(|rule| rule.number);
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut add = |first, what| match (runs.last().map(|run| run.what), what) {
        // Neighbours that share a verdict are one run.
        (Some(What::All(last)), What::All(verdict)) if last == verdict => {}
        _ => runs.push(Run { first, what }),
    };
    let mut next = 0;
    for rule in ordered {
        if rule.number > next {
            add(next, What::All(otherwise));
        }
        add(rule.number, rule.verdict().map_or(What::One(rule), What::All));
        next = rule.number.saturating_add(1);
    }
    add(next, What::All(otherwise));
    runs
}

/// Puts instructions one after the other.
#[derive(Default)]
struct Writer {
    program: Program,
}

impl Writer {
    fn push(&mut self, code: u32, k: u32, jt: u8, jf: u8) {
        self.program.push(sock_filter { code: code as u16, jt, jf, k });
    }

    /// Loads 32 bits at this place of the `seccomp_data`.
    fn load(&mut self, offset: usize) {
        self.push(BPF_LD | BPF_W | BPF_ABS, offset as u32, 0, 0);
    }

    fn jump(&mut self, test: u32, value: u32, if_so: u8, if_not: u8) {
        self.push(BPF_JMP | test | BPF_K, value, if_so, if_not);
    }

    fn end(&mut self, value: u32) {
        self.push(BPF_RET | BPF_K, value, 0, 0);
    }

    /// How many instructions are behind the one at this place.
    fn behind(&self, place: usize) -> Result<u8, TooLong> {
        u8::try_from(self.program.len() - place - 1).map_err(|_| TooLong)
    }

    /// Halves the runs until one is left; as deep as their number has bits.
    fn choose(&mut self, runs: &[Run<'_>]) -> Result<(), TooLong> {
        let (low, high) = match runs {
            [] => return Ok(()),
            [run] => return self.decide(run.what),
            runs => runs.split_at(runs.len() / 2),
        };
        let place = self.program.len();
        self.jump(BPF_JGE, high[0].first, 0, 0);
        self.choose(low)?;
        self.program[place].jt = self.behind(place)?;
        self.choose(high)
    }

    fn decide(&mut self, what: What<'_>) -> Result<(), TooLong> {
        let rule = match what {
            What::All(verdict) => {
                self.end(verdict.value());
                return Ok(());
            }
            What::One(rule) => rule,
        };
        for way in rule.ways {
            self.follow(way)?;
        }
        self.end(rule.otherwise.value());
        Ok(())
    }

    /// Allows the call if all conditions hold; goes on behind that if not.
    fn follow(&mut self, way: &[Condition]) -> Result<(), TooLong> {
        let mut failing = Vec::new();
        for condition in way {
            let (argument, test, value, fails_if) = match *condition {
                Condition::Is(argument, value) => (argument, BPF_JEQ, value, false),
                Condition::Has(argument, bits) => (argument, BPF_JSET, bits, false),
                Condition::Lacks(argument, bits) => (argument, BPF_JSET, bits, true),
            };
            self.load(low_half_of(argument));
            failing.push((self.program.len(), fails_if));
            self.jump(test, value, 0, 0);
        }
        self.end(Verdict::Allow.value());
        for (place, fails_if) in failing {
            let skipped = self.behind(place)?;
            let jump = &mut self.program[place];
            *if fails_if { &mut jump.jt } else { &mut jump.jf } = skipped;
        }
        Ok(())
    }
}

/// Both architectures are little-endian.
fn low_half_of(argument: u8) -> usize {
    offset_of!(seccomp_data, args) + size_of::<u64>() * usize::from(argument)
}

#[cfg(test)]
#[path = "filter_tests.rs"]
pub(super) mod tests;
