package relay

import "net/netip"

// A channel carries data for channelLifetime after it was bound or refreshed. For channelGrace
// after that it carries nothing, and neither its number nor its peer may be paired with another:
// data of the old pair that is still under way must not be taken for that of a new one
// (RFC 8656 section 12).
const (
	channelLifetime = 600 * second
	channelGrace    = 300 * second
)

// binding is a channel as the server sees it: from the first ChannelBind to the end of its grace.
type binding struct {
	lease   *lease
	channel *Channel
	expiry  timer
	bound   bool // in the table
}

// channelBind is the ChannelBind request.
func (s *Server) channelBind(r *request) {
	l := s.live(r)
	if l == nil {
		s.refuse(r, 437)
		return
	}
	if l.Families&familyOf(r.m.Peer) == 0 {
		s.refuse(r, 443)
		return
	}
	if !s.cfg.allows(r.m.Peer) {
		s.counters.count(EventDeniedPeer)
		s.refuse(r, 403)
		return
	}
	b := l.byNumber[r.m.Channel]
	if b != l.byPeer[r.m.Peer] {
		s.refuse(r, 400)
		return
	}
	if b == nil {
		if len(l.byNumber) >= s.cfg.Limits.ChannelsPerAllocation || s.channels >= s.cfg.Limits.Channels {
			s.refuse(r, 508)
			return
		}
		b = s.newBinding(l, r.m.Channel, r.m.Peer)
	}
	if !b.bound {
		b.bound = true
		l.bind(b.channel)
		s.counters.BoundChannels.Add(1)
	}
	s.timers.set(&b.expiry, r.at+channelLifetime)
	s.succeed(r)
}

func (s *Server) newBinding(l *lease, number uint16, peer netip.AddrPort) *binding {
	b := &binding{lease: l, channel: &Channel{Allocation: l.Allocation, Peer: peer, Number: number}}
	b.expiry = timer{index: -1, binding: b}
	if l.byNumber == nil {
		l.byNumber = make(map[uint16]*binding)
		l.byPeer = make(map[netip.AddrPort]*binding)
	}
	l.byNumber[number] = b
	l.byPeer[peer] = b
	s.channels++
	return b
}

// expireBinding ends the lifetime of a channel, and later its grace.
func (s *Server) expireBinding(b *binding) {
	if b.bound {
		b.bound = false
		b.lease.unbind(b.channel)
		s.counters.BoundChannels.Add(-1)
		s.timers.set(&b.expiry, b.expiry.at+channelGrace)
		return
	}
	s.timers.stop(&b.expiry)
	delete(b.lease.byNumber, b.channel.Number)
	delete(b.lease.byPeer, b.channel.Peer)
	s.channels--
}

func familyOf(a netip.AddrPort) Families {
	if a.Addr().Is4() {
		return IPv4
	}
	return IPv6
}
