package relay

import "github.com/firelane/firelane/internal/udp"

// reportBuffers logs the buffers of a socket that are smaller than asked for: bursts then overflow
// them earlier than the figures of this package say.
func (r *Relay) reportBuffers(what string, s *udp.Socket, asked int) {
	receive, send, err := s.Buffers()
	if err != nil {
		r.log.Warn("socket buffers are unknown", "sockets", what, "error", err)
		return
	}
	receive, send = receive/2, send/2 // the kernel doubles what it grants, for its own overhead
	if receive < asked || send < asked {
		r.log.Warn("socket buffers are smaller than asked for: raise net.core.rmem_max and wmem_max",
			"sockets", what, "want", asked, "receive", receive, "send", send)
	}
}

// reportListening does so for the listening sockets, which are all alike.
func (r *Relay) reportListening() {
	v4, v6 := r.group.Worker(0)
	if v4 == nil {
		v4 = v6
	}
	r.reportBuffers("listening", v4, listenBuffer)
}

// reportPort does so for the first relayed port, as all are alike.
func (r *Relay) reportPort(p *port) {
	if r.portSeen {
		return
	}
	r.portSeen = true
	s := p.exit4.socket
	if s == nil {
		s = p.exit6.socket
	}
	r.reportBuffers("relayed ports", s, portBuffer)
}
