//! The program by which the kernel chooses among the sockets of one port: each datagram goes to the
//! thread whose number is in it. Knows of a datagram only where that is.
//!
//! Invariant: what it gives is below the number of threads, so a socket that a stranger adds to the
//! port gets nothing.

use arrayvec::ArrayVec;
use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_K, BPF_LD, BPF_LSH, BPF_MISC, BPF_MOD, BPF_OR, BPF_RET,
    BPF_TAX, BPF_X, sock_filter,
};

/// Where the index is, little endian, in every datagram: the receiver's, or in the first one of a
/// peer that knows none, its own.
pub(crate) const INDEX_AT: u32 = 4;

/// Instructions.
const STEPS: usize = 15;

fn step(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// The index modulo `threads`, which is not 0 (classic BPF has no division by it). A datagram too
/// short for an index is the first thread's: a load beyond the end ends the program with 0.
///
/// Offset 0 is the first byte after UDP's header: net/core/sock_reuseport.c, run_bpf_filter.
pub(crate) fn program(threads: u32) -> ArrayVec<sock_filter, STEPS> {
    let mut program = ArrayVec::new();
    program.push(step(BPF_LD | BPF_B | BPF_ABS, INDEX_AT + 3));
    for at in (INDEX_AT..INDEX_AT + 3).rev() {
        program.push(step(BPF_ALU | BPF_LSH | BPF_K, 8));
        program.push(step(BPF_MISC | BPF_TAX, 0));
        program.push(step(BPF_LD | BPF_B | BPF_ABS, at));
        program.push(step(BPF_ALU | BPF_OR | BPF_X, 0));
    }
    program.push(step(BPF_ALU | BPF_MOD | BPF_K, threads));
    program.push(step(BPF_RET | BPF_A, 0));
    program
}

/// As the kernel's program chooses: for whoever makes an index, or checks whether a datagram is its own.
#[must_use]
pub const fn thread_of(index: u32, threads: u32) -> u32 {
    if threads == 0 { 0 } else { index % threads }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_as_long_as_said() {
        assert!(program(64).is_full());
        assert_eq!((thread_of(13, 4), thread_of(u32::MAX, 64), thread_of(9, 0)), (1, 63, 0));
    }
}
