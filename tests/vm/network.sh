#!/usr/bin/env bash
# Two network namespaces, `a` and `b`, joined by two paths; inside the machine of `run`, where they are nobody else's.
#
#                 path 1:  10.1.0.1 ---- 10.1.0.2
#            a <                                   > b
#                 path 2:  10.2.0.1 ---- 10.2.0.2
#
# and fd00:1::1 ---- fd00:1::2, fd00:2::1 ---- fd00:2::2 on the same.
#
# Source it and call its functions, or run it: `network.sh netem 1 loss 1% delay 20ms`. All state is in the kernel, so
# both ways may be mixed. A path's interface is named `path1`, `path2` at both ends.

# Makes the namespaces and both paths, each without loss or delay.
network_up() {
    local end path
    for end in a b; do
        ip netns add "$end" || return
        # As init does for the machine's own lo, and why.
        ip -n "$end" link set lo gso_max_size 65000 up || return
    done
    for path in 1 2; do
        ip link add "path$path" netns a type veth peer name "path$path" netns b || return
        network_end a "$path" 1 2 || return
        network_end b "$path" 2 1 || return
    done
}

# One end of a path: namespace, path, its number, the far end's.
network_end() {
    local end=$1 path=$2 near=$3 far=$4 device="path$2"
    # A packet is a packet: loss must not take 64 KiB at once. With a size below the MTU SCTP makes no larger ones, and
    # the kernel cuts none, which inside udp loses them, or is a panic (init).
    ip -n "$end" link set "$device" addrgenmode none gso_max_segs 1 gso_max_size 1400 \
        address "02:00:00:00:0$path:0$near" || return
    ip -n "$end" address add "10.$path.0.$near/24" dev "$device" || return
    ip -n "$end" address add "fd00:$path::$near/64" dev "$device" nodad || return
    ip -n "$end" link set "$device" up || return
    # Known for ever: a path that goes dark must look like one, not like a neighbour that does not answer ARP.
    local address
    for address in "10.$path.0.$far" "fd00:$path::$far"; do
        ip -n "$end" neighbour replace "$address" lladdr "02:00:00:00:0$path:0$far" nud permanent dev "$device" || return
    done
}

# Removes both namespaces; what still runs in them goes on without a network.
network_down() {
    ip netns delete a
    ip netns delete b
}

# Runs a command in a namespace: `in_a ping 10.1.0.2`.
in_a() { ip netns exec a "$@"; }
in_b() { ip netns exec b "$@"; }

# netem PATH WHAT..: what happens to each packet, in each direction (so the round trip is twice the delay); see
# tc-netem(8). Replaces what was said before; WHAT may be empty. The queue is long enough to lose nothing by itself.
netem() {
    local path=$1 end
    shift
    for end in a b; do
        tc -n "$end" qdisc replace dev "path$path" root netem limit 100000 "$@" || return
    done
}

# blackhole PATH: from now on every packet on it vanishes, at both ends; the interfaces stay up and nobody is told.
blackhole() {
    local end
    for end in a b; do
        tc -n "$end" qdisc add dev "path$1" clsact || return
        tc -n "$end" filter add dev "path$1" ingress matchall action drop || return
    done
}

# restore PATH: the end of its blackhole. Its netem was not touched.
restore() {
    local end
    for end in a b; do
        tc -n "$end" qdisc delete dev "path$1" clsact || return
    done
}

# Both paths as they were made: much faster than to make them again.
network_plain() {
    local path end
    for path in 1 2; do
        for end in a b; do
            tc -n "$end" qdisc delete dev "path$path" clsact 2>/dev/null || true
            tc -n "$end" qdisc delete dev "path$path" root 2>/dev/null || true
        done
    done
}

# How many packets have arrived at one end of a path: `packets_at b 1`.
packets_at() {
    in_"$1" cat "/sys/class/net/path$2/statistics/rx_packets"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then "$@"; fi
