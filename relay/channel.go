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
	far := s.reach(r.m.Peer)
	if s.table.blocks(far, r.m.Peer.Port()) {
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
		if len(l.byNumber) >= s.channelsFor(l) {
			s.refuse(r, 508)
			return
		}
		b = s.newBinding(l, r.m.Channel, r.m.Peer, far)
	}
	if !b.bound {
		b.bound = true
		l.bind(b.channel)
		s.counters.BoundChannels.Add(1)
	}
	s.timers.set(&b.expiry, r.at+channelLifetime)
	s.succeed(r)
}

// An allocation may always have leastChannels, while there are any, and more up to one in fairShare
// of those that the others leave (a dynamic threshold; Choudhury and Hahne, 1998): one alone, with
// the defaults, all 4,096 numbers. Whoever comes later is served, however greedy those before:
// 64 of them get 4,096 to 1,500, which leaves a third of all channels, and 1,500 for the next.
const (
	leastChannels = 16
	fairShare     = 64
)

// channelsFor returns how many channels l may have now.
func (s *Server) channelsFor(l *lease) int {
	left := s.cfg.Limits.Channels - s.channels
	if left <= 0 {
		return 0
	}
	return min(s.cfg.Limits.ChannelsPerAllocation, max(leastChannels, (left+len(l.byNumber))/fairShare))
}

func (s *Server) newBinding(l *lease, number uint16, peer netip.AddrPort, far reach) *binding {
	b := &binding{lease: l, channel: &Channel{Allocation: l.Allocation, Peer: peer, Number: number}}
	b.channel.reach.Store(uint32(far))
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
