// Package load puts traffic through a topology.Network and says what arrived: TCP by iperf3,
// UDP by a generator and a sink of its own, and idle round trips by ping(8).
//
// The generator and the sink exist because iperf3 costs more per datagram than the gateways
// under test. They are this program again, started inside a namespace (see Main), and send and
// receive with golang.org/x/net's ipv4 and ipv6 packet connections: WriteBatch is one sendmmsg,
// ReadBatch one recvmmsg. A sink takes trains that a gateway has joined as they are (UDP_GRO).
//
// Patterns. Saturating: a burst of datagrams in each sendmmsg, every one a packet of its own (no
// UDP_SEGMENT), as fast as the sender's core allows. Paced, called unbatched: one sendmmsg per datagram, at
// evenly spaced times; a sender that was late sends what is overdue, still one by one.
//
// Sealed: saturating, and the program on the client speaks WireGuard itself (protocol/wireguard
// over a UDP socket, one handshake per run), so that the gateway is the only tunnel at work and
// the first to reach its limit. The up generator seals datagrams of several flows in turn; the
// down sink counts the messages of its session and opens a sample. Sender and sink share one
// processor. The sender hands over trains, which its own kernel cuts up before they reach the
// gateway, one by one, as from a network (topology.Network.Singly).
//
// Ceiling: saturating up, and the gateway's kernel drops and counts the client's messages as they
// come off the wire, which is the most that any gateway could deliver.
//
// Every datagram carries the number of its run, a sequence number and the time it was sent.
// All hosts share one machine and so one clock, which makes transit times exact.
package load
