//! What `<linux/sctp.h>` says and libc does not: options, structures, notifications. Makes no
//! system call.
//!
//! Invariant: each structure is laid out as the kernel has it, byte by byte; the asserts beside it
//! pin what C compilers give.

use core::ffi::c_int;
use core::mem::offset_of;
use static_assertions::{assert_eq_size, const_assert_eq};

// Options beyond those of RFC 6458, and notifications.
pub(crate) const SCTP_SOCKOPT_BINDX_ADD: c_int = 100;
pub(crate) const SCTP_SOCKOPT_CONNECTX: c_int = 110;
pub(crate) const SCTP_PR_SUPPORTED: c_int = 113;
pub(crate) const SCTP_STREAM_SCHEDULER: c_int = 123;
pub(crate) const SCTP_EVENT: c_int = 127;
pub(crate) const SCTP_REMOTE_UDP_ENCAPS_PORT: c_int = 132;

/// `enum sctp_sched_type`: streams take turns, a message each.
pub(crate) const SCTP_SS_RR: u32 = 2;

/// `enum sctp_spp_flags`: heartbeats are sent.
pub(crate) const SPP_HB_ENABLE: u32 = 1;

// `enum sctp_sn_type`.
pub(crate) const SCTP_ASSOC_CHANGE: u16 = 0x8001;
pub(crate) const SCTP_SHUTDOWN_EVENT: u16 = 0x8005;
pub(crate) const SCTP_PARTIAL_DELIVERY_EVENT: u16 = 0x8006;

// `enum sctp_sac_state`.
pub(crate) const SCTP_COMM_UP: u16 = 0;
pub(crate) const SCTP_COMM_LOST: u16 = 1;
pub(crate) const SCTP_RESTART: u16 = 2;
pub(crate) const SCTP_SHUTDOWN_COMP: u16 = 3;
pub(crate) const SCTP_CANT_STR_ASSOC: u16 = 4;

// A one-to-one socket has one association, and its options are also those of what it accepts: the
// association id in each structure is 0, SCTP_FUTURE_ASSOC.

/// `struct sctp_rtoinfo`, in milliseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RtoInfo {
    pub(crate) assoc_id: i32,
    pub(crate) initial: u32,
    pub(crate) max: u32,
    pub(crate) min: u32,
}
assert_eq_size!(RtoInfo, [u8; 16]);

/// `struct sctp_assocparams`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AssocParams {
    pub(crate) assoc_id: i32,
    pub(crate) asocmaxrxt: u16,
    pub(crate) number_peer_destinations: u16,
    pub(crate) peer_rwnd: u32,
    pub(crate) local_rwnd: u32,
    pub(crate) cookie_life: u32,
}
assert_eq_size!(AssocParams, [u8; 20]);

/// `struct sctp_paddrparams`, which C packs to the byte and then aligns to 4.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathParams {
    pub(crate) assoc_id: i32,
    /// All zeroes: every address.
    pub(crate) address: [u8; 128],
    pub(crate) hbinterval: u32,
    pub(crate) pathmaxrxt: u16,
    pub(crate) pathmtu: u32,
    pub(crate) sackdelay: u32,
    pub(crate) flags: u32,
    pub(crate) ipv6_flowlabel: u32,
    pub(crate) dscp: u8,
    pub(crate) unused: u8,
}
assert_eq_size!(PathParams, [u8; 156]);
assert_eq_size!(libc::sockaddr_storage, [u8; 128]);
const_assert_eq!(offset_of!(PathParams, hbinterval), 132);
const_assert_eq!(offset_of!(PathParams, pathmaxrxt), 136);
const_assert_eq!(offset_of!(PathParams, pathmtu), 138);
const_assert_eq!(offset_of!(PathParams, sackdelay), 142);
const_assert_eq!(offset_of!(PathParams, flags), 146);
const_assert_eq!(offset_of!(PathParams, dscp), 154);

/// `struct sctp_sack_info`, the delay in milliseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SackInfo {
    pub(crate) assoc_id: i32,
    pub(crate) delay: u32,
    pub(crate) freq: u32,
}
assert_eq_size!(SackInfo, [u8; 12]);

/// `struct sctp_assoc_value`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AssocValue {
    pub(crate) assoc_id: i32,
    pub(crate) value: u32,
}
assert_eq_size!(AssocValue, [u8; 8]);

/// `struct sctp_event`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) assoc_id: i32,
    pub(crate) kind: u16,
    pub(crate) on: u8,
    pub(crate) unused: u8,
}
assert_eq_size!(Event, [u8; 8]);
const_assert_eq!(offset_of!(Event, on), 6);

/// `struct sctp_udpencaps`, whose address is aligned as any sockaddr_storage is.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct UdpEncaps {
    pub(crate) assoc_id: i32,
    /// All zeroes: every address.
    pub(crate) address: libc::sockaddr_storage,
    /// In network order.
    pub(crate) port: u16,
}
const_assert_eq!(size_of::<UdpEncaps>(), 128 + 2 * align_of::<libc::sockaddr_storage>());
const_assert_eq!(offset_of!(UdpEncaps, address), align_of::<libc::sockaddr_storage>());

/// `struct sctp_status`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) assoc_id: i32,
    pub(crate) state: i32,
    pub(crate) rwnd: u32,
    pub(crate) unackdata: u16,
    pub(crate) penddata: u16,
    pub(crate) instrms: u16,
    pub(crate) outstrms: u16,
    pub(crate) fragmentation_point: u32,
    /// `struct sctp_paddrinfo`, of no interest here: 152 bytes.
    pub(crate) primary: [[u32; 19]; 2],
}
assert_eq_size!(Status, [u8; 176]);
const_assert_eq!(offset_of!(Status, instrms), 16);
const_assert_eq!(offset_of!(Status, primary), 24);

// Those of libc that are used.
assert_eq_size!(libc::sctp_initmsg, [u8; 8]);
assert_eq_size!(libc::sctp_sndinfo, [u8; 16]);
assert_eq_size!(libc::sctp_rcvinfo, [u8; 28]);
const_assert_eq!(libc::SCTP_RTOINFO, 0);
const_assert_eq!(libc::SCTP_ASSOCINFO, 1);
const_assert_eq!(libc::SCTP_INITMSG, 2);
const_assert_eq!(libc::SCTP_NODELAY, 3);
const_assert_eq!(libc::SCTP_PEER_ADDR_PARAMS, 9);
const_assert_eq!(libc::SCTP_STATUS, 14);
const_assert_eq!(libc::SCTP_DELAYED_SACK, 16);
const_assert_eq!(libc::SCTP_FRAGMENT_INTERLEAVE, 18);
const_assert_eq!(libc::SCTP_RECVRCVINFO, 32);
const_assert_eq!(libc::SCTP_SNDINFO, 2);
const_assert_eq!(libc::SCTP_RCVINFO, 3);
const_assert_eq!(libc::MSG_NOTIFICATION, 0x8000);

/// `struct sctp_assoc_change`, as far as its state.
pub(crate) const ASSOC_CHANGE_STATE_AT: usize = 8;
