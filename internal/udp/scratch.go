package udp

// Scratch is the memory of receive and send calls: message headers, addresses, control data and
// vectors, and the destinations that took no trains. It is some 60 KiB, so that a worker with
// thousands of sockets lets them share one. The sockets of a Scratch belong to one goroutine at
// a time together.
type Scratch struct {
	in  receiver
	out sender
}

// NewScratch returns the memory for the calls of any number of sockets.
func NewScratch() *Scratch {
	x := newScratch()
	x.out.shared = true
	return x
}

// newScratch returns the memory for the calls of one socket.
func newScratch() *Scratch {
	x := new(Scratch)
	x.in.init()
	x.out.init()
	return x
}

// Share makes the socket work in x from now on. No call of its may be under way.
func (s *Socket) Share(x *Scratch) { s.in, s.out = &x.in, &x.out }
