// Package control is the control plane: it decides who may talk, by which path and under which
// keys. Its machines are free of I/O, goroutines and clocks; a driver (internal/node) owns one
// machine and is its only caller.
//
// Static is the machine of static mode: its peers come from the wg(8) configuration socket
// instead of a portal, each with a list of allowed IPs and a path that follows the peer. It may be
// given policies (HandlePolicies): then each peer has Grants, the machine that turns authorizations
// into the peer's fib.Policy, and refused packets are answered (HandleRefused).
//
// # Obligations of the driver
//
//  1. Call from one goroutine, with a now that never goes back.
//  2. After any number of Handle… and Configure calls, call Drain, which takes and accepts
//     everything in one go.
//  3. Carry an output out in this order: apply Changes to the table, start Jobs, send Datagrams,
//     write Packets to the tunnel. The table changes before a datagram can cause an answer that
//     needs the change.
//  4. Give the result of every job back by HandleJob, whatever has happened meanwhile.
//  5. Call HandleTimeout when NextTimeout says so. It is never later than pending output.
//  6. Feed what the packet loops hand up: outer datagrams to HandleDatagram, inner packets to
//     HandlePacket, wishes to HandleWish, refused packets to HandleRefused.
//
// # Memory
//
// Datagrams' bytes are owned by the output and stay valid until the next Drain into it. Packets
// kept for peers without a session are copies, bounded by keptPerPeer and keptInAll.
package control
