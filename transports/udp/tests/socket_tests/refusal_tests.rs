//! Kernels that refuse something, now or always: this one, made to by seccomp(2), for one thread.

use super::*;
use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// Where struct seccomp_data has the number of the call, and the half that counts of the third
/// argument: the option of setsockopt(2).
const CALL: u32 = 0;
const THIRD: u32 = if cfg!(target_endian = "little") { 32 } else { 36 };

fn step(code: u32, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf, k }
}

/// Runs `work` on a thread whose calls of that number fail so: all, or those with that third argument.
#[allow(unsafe_code)]
fn refusing<T: Send>(
    call: libc::c_long,
    third: Option<i32>,
    errno: Errno,
    work: impl FnOnce() -> T + Send,
) -> T {
    let refuse = libc::SECCOMP_RET_ERRNO | errno.raw_os_error() as u32;
    let mut filter = vec![step(BPF_LD | BPF_W | BPF_ABS, 0, CALL)];
    let rest = if third.is_some() { 3 } else { 1 };
    filter.push(step(BPF_JMP | BPF_JEQ | BPF_K, rest, call as u32));
    if let Some(third) = third {
        filter.push(step(BPF_LD | BPF_W | BPF_ABS, 0, THIRD));
        filter.push(step(BPF_JMP | BPF_JEQ | BPF_K, 1, third as u32));
    }
    filter.push(step(BPF_RET | BPF_K, 0, refuse));
    filter.push(step(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            // SAFETY: the kernel copies the program; what it refuses it only refuses to this thread,
            // which ends with the scope.
            let done = unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
            };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            work()
        });
        refused.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// sendmsg(2) with UDP_SEGMENT fails, sendmmsg(2) does not: nothing is lost, and it is not tried
/// again.
#[test]
fn segments_that_are_refused_go_one_by_one() {
    for errno in [Errno::IO, Errno::INVAL, Errno::NOPROTOOPT, Errno::OPNOTSUPP] {
        let (mut egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
        let sent = segments(45, 1452, 77);
        refusing(libc::SYS_sendmsg, None, errno, || {
            assert_eq!(ingress.send(None, &slices(&sent)), Ok(45), "{errno:?}");
        });
        assert!(!ingress.is_segmenting());
        assert_eq!(ingress.take_heard(), None);
        assert_eq!(receive_all(&mut egress, 45).0, sent);
        assert_eq!(ingress.send(None, &slices(&sent)), Ok(45));
        assert_eq!(receive_all(&mut egress, 45).0, sent);
    }
}

/// Any other error says nothing about UDP_SEGMENT.
#[test]
fn other_errors_are_told() {
    for errno in [Errno::PERM, Errno::NOBUFS, Errno::MSGSIZE, Errno::AGAIN, Errno::NETUNREACH] {
        let (_egress, mut ingress) = pair(V4, "127.0.0.1", &Options::USUAL);
        let sent = segments(45, 1452, 77);
        let told = refusing(libc::SYS_sendmsg, None, errno, || ingress.send(None, &slices(&sent)));
        assert_eq!(told, Err(errno));
        assert!(ingress.is_segmenting());
        assert_eq!(ingress.take_heard(), None);
    }
}

/// What is refused both ways was not refused for being segments.
#[test]
fn refused_both_ways_is_an_error() {
    let (mut egress, _) = pair(V4, "127.0.0.1", &Options::USUAL);
    let nobody = Path::from(address("127.0.0.1:0"));
    let sent = segments(3, 10, 10);
    assert_eq!(egress.send(Some(&nobody), &slices(&sent)), Err(Errno::INVAL));
    assert!(egress.is_segmenting(), "it was the port that is none");
}

/// A kernel before 4.18 knows no UDP_SEGMENT, and one before 5.0 no UDP_GRO.
#[test]
fn old_kernels_do_without() {
    let no = Errno::NOPROTOOPT;
    for (option, segments_, coalesces) in
        [(libc::UDP_SEGMENT, false, true), (libc::UDP_GRO, true, false)]
    {
        let (mut egress, mut ingress) =
            refusing(libc::SYS_setsockopt, Some(option), no, || pair(DUAL, "::1", &Options::USUAL));
        assert_eq!((ingress.is_segmenting(), ingress.is_coalescing()), (segments_, coalesces));
        let sent = segments(30, 100, 9);
        assert_eq!(ingress.send(None, &slices(&sent)), Ok(30));
        assert_eq!(receive_all(&mut egress, 30).0, sent);
    }
}

/// Without steering there is no group, and nothing is left of the attempt.
#[test]
fn without_steering_one_thread_is_what_there_is() {
    let _held = no_process_begins();
    let at = SocketAddr::new(address(V4).ip(), port());
    let option = Some(libc::SO_ATTACH_REUSEPORT_CBPF);
    for errno in [Errno::NOPROTOOPT, Errno::PERM] {
        refusing(libc::SYS_setsockopt, option, errno, || {
            let open = |threads| listening_group(at, threads, &Options::USUAL);
            assert_eq!(open(4).unwrap_err(), errno);
            assert_eq!(open(1).unwrap().len(), 1);
        });
    }
}

/// Without CAP_NET_ADMIN buffers are what the system lets anybody have, and the warning has a
/// reason.
#[test]
fn who_may_not_force_gets_what_there_is() {
    for (option, limit) in
        [(libc::SO_RCVBUFFORCE, "net.core.rmem_max"), (libc::SO_SNDBUFFORCE, "net.core.wmem_max")]
    {
        let path = format!("/proc/sys/{}", limit.replace('.', "/"));
        let most: usize = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
        let options = Options {
            receive_buffer_bytes: if limit.contains("rmem") { most + 4096 } else { 65_536 },
            send_buffer_bytes: if limit.contains("wmem") { most + 4096 } else { 65_536 },
            ..Options::USUAL
        };
        let socket =
            refusing(libc::SYS_setsockopt, Some(option), Errno::PERM, || listening(V4, &options));
        let capped = socket.capped().expect("the limit holds");
        assert_eq!((capped.wanted_bytes, capped.got_bytes), (most + 4096, most));
        assert_eq!(capped.limit, limit);
    }
}
