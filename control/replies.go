package control

import (
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
)

// HandleRefused answers a packet that the loops refused with a verdict that is to be answered. b
// is lent: the packet, as far as it was at hand. from is the client it came from, or, with
// fib.ReplyTooBig, the one it was for: then the answer goes to a resource, through the tunnel. The
// loops keep to the client's allowance of answers.
func (s *Static) HandleRefused(from *fib.Peer, v fib.Verdict, b []byte, now time.Time) {
	p := s.byFib[from]
	if p == nil || !s.up {
		s.lost.Late++
		return
	}
	answer, ok := makeAnswer(v, b, s.cfg.Table.MTU())
	if !ok {
		s.lost.Unanswerable++
		return
	}
	if v == fib.ReplyTooBig {
		s.out.Packets = append(s.out.Packets, answer)
		return
	}
	// The client's session is the one its packet came by; if it has just ended, so has the interest
	// in an answer.
	session := s.newest(p)
	if session == nil || !now.Before(session.Keys.SendUntil()) {
		s.lost.Late++
		return
	}
	s.seal(p, session, answer, now)
}

// makeAnswer returns the ICMP error about the packet in b that its verdict calls for, and false
// where there must be none. mtu is the tunnel's, for packets that outgrow it by translation to
// IPv6: that costs an IPv4 packet 20 bytes.
func makeAnswer(v fib.Verdict, b []byte, mtu int) ([]byte, bool) {
	var e packet.Error
	switch v {
	case fib.ReplyProhibited:
		e.Kind = packet.Prohibited
	case fib.ReplyUnreachable:
		e.Kind = packet.Unreachable
	case fib.ReplyTooBig:
		e.Kind = packet.TooBig
		e.MTU = uint32(mtu - (packet.IPv6Header - packet.IPv4Header))
	default:
		return nil, false
	}
	var info packet.Info
	if !packet.ParseCut(b, &info) {
		return nil, false
	}
	return packet.AppendError(nil, b, &info, e)
}
