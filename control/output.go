package control

import (
	"net/netip"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// Output is what a machine wants done; the driver's obligations say in which order.
type Output struct {
	Changes   []fib.Change
	Jobs      []wireguard.Job
	Datagrams []Datagram
	// Packets are inner packets to write to the tunnel, for resources. Owned by the output.
	Packets [][]byte
}

// Datagram is one outer datagram, as it came or is to be sent.
type Datagram struct {
	// Local is our address: where it was sent to, or what to send from. The zero Addr leaves
	// it to the kernel; the port is the socket's.
	Local netip.AddrPort
	// Remote is who sent it, or who shall get it.
	Remote netip.AddrPort
	// Bytes are lent on the way in, owned by the output on the way out.
	Bytes []byte
}

func (o *Output) pending() bool {
	return len(o.Changes)+len(o.Jobs)+len(o.Datagrams)+len(o.Packets) > 0
}

// reset empties o, keeping its memory but nothing that it points to.
func (o *Output) reset() {
	clear(o.Changes)
	clear(o.Jobs)
	clear(o.Datagrams)
	clear(o.Packets)
	*o = Output{Changes: o.Changes[:0], Jobs: o.Jobs[:0], Datagrams: o.Datagrams[:0], Packets: o.Packets[:0]}
}
