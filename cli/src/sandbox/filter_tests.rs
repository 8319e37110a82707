use super::*;
use proptest::prelude::*;

/// What the kernel would make of a call: runs the program (the kernel's checks included: it reads
/// within `seccomp_data`, in words, and jumps within the program).
pub(crate) fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(arch.to_le_bytes());
    data.extend(0u64.to_le_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    assert_eq!(data.len(), size_of::<seccomp_data>());
    let (mut at, mut held) = (0, 0u32);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let code = u32::from(code);
        if code == BPF_LD | BPF_W | BPF_ABS {
            assert_eq!(k % 4, 0);
            let bytes = &data[k as usize..][..4];
            held = u32::from_le_bytes(bytes.try_into().unwrap());
        } else if code == BPF_RET | BPF_K {
            return k;
        } else {
            let holds = match code & !(BPF_JMP | BPF_K) {
                BPF_JEQ => held == k,
                BPF_JGE => held >= k,
                BPF_JSET => held & k != 0,
                other => panic!("no such instruction: {other:#x}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }
}

/// The same, straight from the rules.
fn expected(rules: &[Rule<'_>], otherwise: Verdict, number: u32, arguments: [u64; 6]) -> Verdict {
    let holds = |condition: &Condition| match *condition {
        Condition::Is(place, value) => arguments[usize::from(place)] as u32 == value,
        Condition::Has(place, bits) => arguments[usize::from(place)] as u32 & bits != 0,
        Condition::Lacks(place, bits) => arguments[usize::from(place)] as u32 & bits == 0,
    };
    match rules.iter().find(|rule| rule.number == number) {
        Some(rule) if rule.ways.iter().any(|way| way.iter().all(holds)) => Verdict::Allow,
        Some(rule) => rule.otherwise,
        None => otherwise,
    }
}

const WAYS: [&[&[Condition]]; 6] = [
    ALWAYS,
    NEVER,
    &[&[Condition::Is(0, 1)], &[Condition::Is(0, 2)]],
    &[&[Condition::Lacks(2, 4)], &[Condition::Lacks(2, 2), Condition::Has(3, 1)]],
    &[&[Condition::Has(5, 3), Condition::Is(1, 0), Condition::Lacks(4, 1)]],
    &[&[Condition::Is(0, 7)], &[]],
];

const VERDICTS: [Verdict; 4] =
    [Verdict::Allow, Verdict::End, Verdict::Refuse(38), Verdict::Lack(38)];

proptest! {
    #[test]
    fn a_program_says_what_its_rules_say(
        rules in prop::collection::vec((0u32..64, 0usize..6, 0usize..4), 0..40),
        otherwise in 0usize..4,
        calls in prop::collection::vec((0u32..70, prop::array::uniform6(0u64..8)), 100),
    ) {
        let rules: Vec<_> = rules
            .iter()
            .map(|&(number, ways, otherwise)| Rule {
                number,
                ways: WAYS[ways],
                otherwise: VERDICTS[otherwise],
            })
            .collect();
        let otherwise = VERDICTS[otherwise];
        let program = compile(&rules, otherwise).unwrap();
        for (number, arguments) in calls {
            let verdict = expected(&rules, otherwise, number, arguments);
            prop_assert_eq!(run(&program, ARCH, number, arguments), verdict.value());
        }
    }
}

#[test]
fn numbers_of_another_architecture_end_the_process() {
    let rules = [Rule { number: 11, ways: ALWAYS, otherwise: Verdict::End }];
    let program = compile(&rules, Verdict::Allow).unwrap();
    // EM_386: number 11 is execve(2) there, and munmap(2) on x86_64.
    let other = 3 | AUDIT_LE;
    assert_eq!(run(&program, other, 11, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(run(&program, ARCH, 11, [0; 6]), libc::SECCOMP_RET_ALLOW);
}

#[test]
fn what_is_skipped_by_a_tracer_is_no_call() {
    let program = compile(&[], Verdict::End).unwrap();
    assert_eq!(run(&program, ARCH, SKIPPED, [0; 6]), libc::SECCOMP_RET_ALLOW);
    for number in [0, 1, SKIPPED - 1, 0x4000_0000] {
        assert_eq!(run(&program, ARCH, number, [0; 6]), libc::SECCOMP_RET_TRAP);
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let rule = |number| Rule { number, ways: ALWAYS, otherwise: Verdict::End };
    // Every other number, so that none are neighbours.
    let sparse: Vec<_> = (0..200).map(|number| rule(2 * number)).collect();
    assert!(compile(&sparse, Verdict::End).is_err());
    assert!(compile(&sparse[..100], Verdict::End).is_ok());
}
