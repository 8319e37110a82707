use super::super::filter::ARCH;
use super::super::filter::tests::run;
use super::*;

const PROCESS: u32 = 4711;
const DUTIES: [Duty; 5] = [
    Duty::Starting,
    Duty::Relaying,
    Duty::Resolving,
    Duty::Waiting { removes: false },
    Duty::Waiting { removes: true },
];
/// linux/unistd.h of 6.18 ends at 469; there is room for more.
const NUMBERS: std::ops::Range<u32> = 0..600;

/// What becomes of a call.
fn verdict(duty: Duty, number: c_long, arguments: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(&program(duty, PROCESS).unwrap(), ARCH, number as u32, all)
}

fn allows(duty: Duty, number: c_long, arguments: &[u64]) -> bool {
    verdict(duty, number, arguments) == Verdict::Allow.value()
}

#[test]
fn no_thread_may_do_more_than_it_could_when_it_started() {
    let own = u64::from(PROCESS);
    // Of those with conditions, some that hold for one duty or another.
    let samples: [[u64; 6]; 9] = [
        [0; 6],
        [own, own, 0, 0, 0, 0],
        [1, 0x5411, 3, 0x22, 0, 0],
        [2, 0x5421, 5, 2, 0, 0],
        [10, 1031, 1, 2, 0, 0],
        [16, 0x541b, 0, 0, 0, 0],
        [15, 0x8910, 4, 2, 0, 0],
        [0x3d_0f00, 3, 0, 0, 0, 0],
        [1, 0x8933, 0x80000, 0, 0, 0],
    ];
    let wide = program(Duty::Starting, PROCESS).unwrap();
    for duty in DUTIES {
        let narrow = program(duty, PROCESS).unwrap();
        for number in NUMBERS {
            for arguments in samples {
                let allowed = run(&narrow, ARCH, number, arguments) == Verdict::Allow.value();
                let before = run(&wide, ARCH, number, arguments) == Verdict::Allow.value();
                assert!(before || !allowed, "{duty:?} call {number} {arguments:?}");
            }
        }
    }
}

#[test]
fn other_programs_and_their_memory_are_the_end() {
    let calls = [libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace];
    for (duty, call) in DUTIES.iter().flat_map(|&duty| calls.map(|call| (duty, call))) {
        assert_eq!(verdict(duty, call, &[]), Verdict::End.value(), "{duty:?} {call}");
    }
}

/// The calls that let an intruder stay, look around or reach deep into the kernel.
#[test]
fn what_nobody_needs_is_refused() {
    let calls = [
        libc::SYS_bpf,
        libc::SYS_chroot,
        libc::SYS_delete_module,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
        libc::SYS_finit_module,
        libc::SYS_init_module,
        libc::SYS_io_uring_setup,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_linkat,
        libc::SYS_memfd_create,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_mount,
        libc::SYS_open_by_handle_at,
        libc::SYS_perf_event_open,
        libc::SYS_personality,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_pkey_mprotect,
        libc::SYS_reboot,
        libc::SYS_renameat2,
        libc::SYS_setns,
        libc::SYS_setresuid,
        libc::SYS_shmat,
        libc::SYS_symlinkat,
        libc::SYS_truncate,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
    ];
    for (duty, call) in DUTIES.iter().flat_map(|&duty| calls.map(|call| (duty, call))) {
        assert_eq!(verdict(duty, call, &[]), ABSENT.value(), "{duty:?} {call}");
    }
}

#[test]
fn who_relays_opens_no_file_and_starts_nothing() {
    let write = (libc::O_WRONLY | libc::O_CREAT) as u64;
    for duty in [Duty::Relaying, Duty::Waiting { removes: true }] {
        for flags in [0, write] {
            let opened = verdict(duty, libc::SYS_openat, &[0, 0, flags]);
            assert_eq!(opened, Verdict::End.value());
        }
        let thread = libc::CLONE_THREAD as u64;
        assert_eq!(verdict(duty, libc::SYS_clone, &[thread]), Verdict::End.value());
        assert_eq!(verdict(duty, libc::SYS_clone3, &[]), Verdict::End.value());
        assert_eq!(verdict(duty, libc::SYS_seccomp, &[1]), ABSENT.value());
    }
    let removes = |duty| allows(duty, libc::SYS_unlinkat, &[]);
    assert!(removes(Duty::Waiting { removes: true }));
    let others = [Duty::Relaying, Duty::Resolving, Duty::Waiting { removes: false }];
    assert!(!others.iter().any(|&duty| removes(duty)));
}

#[test]
fn who_looks_names_up_reads_and_does_not_write() {
    let opened = |flags: i32| verdict(Duty::Resolving, libc::SYS_openat, &[0, 0, flags as u64]);
    assert_eq!(opened(libc::O_RDONLY | libc::O_CLOEXEC), Verdict::Allow.value());
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | 1] {
        assert_eq!(opened(flags | libc::O_CLOEXEC), DENIED.value(), "{flags:#o}");
    }
    assert!(!allows(Duty::Resolving, libc::SYS_clone, &[libc::CLONE_THREAD as u64]));
}

#[test]
fn memory_is_never_both_written_and_run() {
    let (read, write, run) =
        (libc::PROT_READ as u64, libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    let (file, anonymous) = (libc::MAP_PRIVATE as u64, libc::MAP_ANONYMOUS as u64 | 2);
    let mapped =
        |duty, protection, flags| verdict(duty, libc::SYS_mmap, &[0, 0, protection, flags]);
    for duty in DUTIES {
        assert_eq!(mapped(duty, read | write, anonymous), Verdict::Allow.value());
        for protection in [run, read | run, write | run, read | write | run] {
            // What is above the low half does not hide what is in it.
            for high in [0, 1 << 32] {
                let given = mapped(duty, protection | high, anonymous);
                assert_ne!(given, Verdict::Allow.value(), "{duty:?}");
                let changed = allows(duty, libc::SYS_mprotect, &[0, 0, protection | high]);
                assert!(!changed, "{duty:?}");
            }
        }
        assert_ne!(mapped(duty, write | run, file), Verdict::Allow.value());
    }
    assert_eq!(mapped(Duty::Resolving, read | run, file), Verdict::Allow.value());
    assert_eq!(mapped(Duty::Relaying, read | run, file), Verdict::End.value());
}

#[test]
fn sockets_signals_and_controls_are_what_is_needed() {
    for duty in DUTIES {
        let opens = |family: i32, protocol: i32| {
            allows(duty, libc::SYS_socket, &[family as u64, 1, protocol as u64])
        };
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX];
        assert!(families.iter().all(|&family| opens(family, 0) && opens(family, 132)));
        let looks_up = matches!(duty, Duty::Resolving | Duty::Starting);
        assert_eq!(opens(libc::AF_NETLINK, libc::NETLINK_ROUTE), looks_up, "{duty:?}");
        assert!(!opens(libc::AF_NETLINK, libc::NETLINK_NETFILTER) && !opens(libc::AF_PACKET, 0));

        assert!(allows(duty, libc::SYS_kill, &[PROCESS.into(), 10]));
        assert!(allows(duty, libc::SYS_tgkill, &[PROCESS.into(), 1, 6]));
        for other in [1, 0, u64::MAX, u64::from(PROCESS) + 1] {
            assert!(!allows(duty, libc::SYS_kill, &[other, 9]));
            assert!(!allows(duty, libc::SYS_tgkill, &[other, 1, 9]));
        }

        assert!(allows(duty, libc::SYS_tkill, &[1, libc::SIGABRT as u64]));
        assert!(!allows(duty, libc::SYS_tkill, &[1, libc::SIGKILL as u64]));

        assert!(allows(duty, libc::SYS_fcntl, &[3, libc::F_SETPIPE_SZ as u64, 65536]));
        assert!(!allows(duty, libc::SYS_fcntl, &[3, libc::F_SETOWN as u64, 1]));
        assert!(allows(duty, libc::SYS_ioctl, &[3, 0x5411]), "SIOCOUTQ");
        assert!(!allows(duty, libc::SYS_ioctl, &[0, 0x5412]), "TIOCSTI types on the terminal");
    }
}

/// Whoever adds to a list sees how much room is left.
#[test]
fn the_programs_are_short() {
    for duty in DUTIES {
        let length = program(duty, PROCESS).unwrap().len();
        assert!((50..400).contains(&length), "{duty:?}: {length} instructions");
    }
}
