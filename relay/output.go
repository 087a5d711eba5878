package relay

import "net/netip"

// Output is what the Server wants done, in this order: Closes, Opens, Datagrams.
type Output struct {
	Closes    []Close
	Opens     []Open
	Datagrams []Datagram

	bytes []byte // backs the datagrams
}

// Open asks for one UDP socket per family on Port; the answer is HandleOpened.
type Open struct {
	ID       AllocationID
	Port     uint16
	Families Families
}

// Close says that an allocation is gone. Handle is what HandleOpened was given.
type Close struct {
	ID     AllocationID
	Port   uint16
	Handle any
}

// Datagram is one answer to a client.
type Datagram struct {
	// Local is the listening address that the request came to.
	Local netip.AddrPort
	// Remote is who asked.
	Remote netip.AddrPort
	// Bytes are owned by the output.
	Bytes []byte
}

func (o *Output) pending() bool { return len(o.Closes)+len(o.Opens)+len(o.Datagrams) > 0 }

// reset empties o, keeping its memory but nothing that it points to.
func (o *Output) reset() {
	clear(o.Closes)
	clear(o.Datagrams)
	*o = Output{Closes: o.Closes[:0], Opens: o.Opens[:0], Datagrams: o.Datagrams[:0], bytes: o.bytes[:0]}
}

// answer makes a datagram of what was written behind the others.
func (o *Output) answer(to Tuple, written []byte) {
	b := written[len(o.bytes):len(written):len(written)]
	o.bytes = written
	o.Datagrams = append(o.Datagrams, Datagram{Local: to.Local, Remote: to.Remote, Bytes: b})
}
