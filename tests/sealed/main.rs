//! Links over SOCK_SEQPACKET that are sealed: real sockets, both ends in this process, and somebody in
//! between who reads, changes and repeats what is said.

mod ends;
mod keys;
mod packets;
mod pair;
mod parties;
mod renewal;
mod strangers;
mod tap;
mod whole;
