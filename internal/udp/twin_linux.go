package udp

// Twin returns another Socket over the same descriptor with call state of its own, for a second
// goroutine that sends: the kernel orders the two. It has counters of its own, starts without the
// destinations that s found to refuse trains, must not receive, and ends with s.
func (s *Socket) Twin() *Socket {
	x := newScratch()
	x.out.gso = s.out.gso
	t := &Socket{fd: s.fd, v6: s.v6, port: s.port, segs: s.segs, in: &x.in, out: &x.out}
	return t
}
