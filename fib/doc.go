// Package fib is the forwarding information base: what control publishes and fastpath reads.
// It is the whole contract between the two planes; neither imports the other.
//
// A Table leads from what a packet shows (a session index, a tunnel address) to what carries it
// (a Session with its keys, a Peer with its Path). Table, Peer and Session are mutable only
// through atomic pointers to complete, immutable values. A peer's Policy says what it may reach, its
// Flows how its packets are translated: the one table here that packets change, behind a lock of
// its own.
//
// # Who calls it
//
// Control's driver calls Table.Apply with the changes of one turn, from one goroutine. Workers
// call the look-ups and the per-run methods (Accept, Touch, NextHop, Sent) from any goroutine.
//
// # Publication rules
//
//   - Make before break: add the new thing, move the pointers to it, remove the old thing.
//   - Changes of one Apply take effect in order, and all of them before any datagram or message
//     of the same turn leaves.
//   - A published value is never written again; fields that loops write are atomics, or behind a
//     lock taken once per run of packets.
//   - A worker that loaded a pointer may go on with it until its batch ends: what is withdrawn
//     stays usable memory, it is only no longer found.
//
// # Memory
//
// Everything here lives on the ordinary heap and is bounded by the number of peers: MaxPeers
// peers, eight sessions each, MaxPrefixes allowed IPs, and a policy of MaxGrants and MaxNames. Only
// the NAT tables (Flows) grow with traffic, within a FlowBudget: MaxFlowsPerClient and MaxFlows.
package fib
