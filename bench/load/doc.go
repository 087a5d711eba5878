// Package load puts traffic through a topology.Network and says what arrived: TCP by iperf3,
// UDP by a generator and a sink of its own, and idle round trips by ping(8).
//
// The generator and the sink exist because iperf3 costs more per datagram than the gateways
// under test. They are this program again, started inside a namespace (see Main), and send and
// receive with golang.org/x/net's ipv4 and ipv6 packet connections: WriteBatch is one sendmmsg,
// ReadBatch one recvmmsg.
//
// Patterns. Saturating: a burst of datagrams in each sendmmsg, every one a packet of its own (no
// UDP_SEGMENT), as fast as the sender's core allows. Paced, called unbatched: one sendmmsg per datagram, at
// evenly spaced times; a sender that was late sends what is overdue, still one by one.
//
// Every datagram carries the number of its run, a sequence number and the time it was sent.
// All hosts share one machine and so one clock, which makes transit times exact.
package load
