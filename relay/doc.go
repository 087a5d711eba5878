// Package relay is a STUN and TURN relay server for UDP (RFC 8489, RFC 8656) in the dialect that
// Firezone's clients and gateways speak: data travels over channels only, errors are signed, and
// an allocation may hold an IPv4 and an IPv6 address on one port.
//
// It has two halves. Server is a machine without I/O, clock or goroutines: it authenticates
// requests, owns allocations and channels, and decides the answers. Workers carry the data and
// read what the machine publishes in a Table, without locks. A Binding request needs neither:
// workers answer it with a Bindings.
//
// It is not a general TURN server: Send and Data indications, TCP, EVEN-PORT, RESERVATION-TOKEN
// and DONT-FRAGMENT do not exist here. A client that prefers indications gets an allocation but
// loses what it sends before its channel is bound (pion/turn), or everything (turnutils_uclient
// with -s). An empty datagram reaches a peer, but none comes back: sockets do not report them.
//
// A client need not wait for the answer to a ChannelBind before it sends on the channel: workers hold
// what comes right behind one until the machine has handled it.
//
// # Obligations of the driver
//
//  1. Call the Server from one goroutine, with a now that does not go back (if it does, the
//     machine stays where it was). Addresses of IPv4 hosts may come mapped into IPv6 or not.
//  2. After any number of Handle… calls, call Drain and carry the output out in this order:
//     Closes, Opens, Datagrams. A port that is closed and one that is opened may be the same.
//  3. For each Open bind one UDP socket per family on the port and tell HandleOpened, soon and
//     exactly once, also when another program has the port; or HandleNotOpened when the host has
//     no room for more sockets. The client waits for the answer, and success is only answered
//     when the port is really bound. If a bound socket cannot be served after all, HandleLost.
//  4. For each Close, close the sockets behind the handle given to HandleOpened. The allocation
//     has left the table by then, but a worker in the middle of a batch may still hold it: a
//     descriptor must not be reused before every worker has begun a new batch. A Close of an
//     allocation whose Open is still being carried out does not exist: it follows HandleOpened.
//  5. Call HandleTimeout when NextTimeout says so. It is never later than pending output.
//  6. Send a datagram from its Local address to its Remote address.
//
// # Concurrency
//
// The Table has one writer, the Server, and any number of readers. Allocation and Channel are
// published whole and never change, but for the bandwidth bucket of an allocation and how far a
// channel leads, which are atomic. Counters, Limiter and Bindings are shared by all.
//
// # Memory
//
// The bytes of a datagram are lent to HandleMessage and owned by the Output on the way out,
// until the next Drain into it. Every table is bounded by Limits; an allocation with a few
// channels costs about 3.5 KiB, and nothing is kept for a sender that has not shown, by a nonce
// that we sent to its address, that it is there.
package relay
