// Package traffic is the load generator of the relay's benchmark: clients and peers of a TURN
// server, in the two network namespaces on its sides, all in one process.
//
//	client socket ── ChannelData ──► relay ── payload ──► peer socket     up
//	client socket ◄─ ChannelData ─── relay ◄─ payload ─── peer socket     down
//
// Every allocation is a Line: a client's socket, a peer's socket and a channel between them. It
// speaks to any server with long-term credentials (RFC 8656, RFC 8489 section 9.2). Each datagram
// carries the run, the line and a sequence number, and its whole payload is compared on arrival.
//
// Neither end waits for packets: sinks look for them at fixed intervals. Nobody is thus woken by
// the relay, whose processor time would otherwise contain the wake-up of a program that in earnest
// runs on another host; and the ends behave the same whatever is between them.
//
// A Network's methods belong to one goroutine.
package traffic
