package relay

import (
	"crypto/md5"
	"net/netip"

	"github.com/firelane/firelane/protocol/stun"
)

// lease is an allocation as the server sees it: from the request until the sockets are closed.
type lease struct {
	*Allocation

	user     string
	source   uint64
	seconds  uint32 // granted
	expiry   timer
	byNumber map[uint16]*binding
	byPeer   map[netip.AddrPort]*binding

	// asked is the Allocate that made the lease: it is answered again when it is repeated.
	asked stun.TransactionID
	key   [md5.Size]byte // signs the answer
	// opening is there until the port is bound.
	opening *opening
	// gone: given up while the port was being bound.
	gone bool
}

// opening is the state of a port that is being bound.
type opening struct{ tries int }

// maxOpenTries bounds how many ports are tried for one request: each try costs the driver a
// system call or two, and ports of other programs are rare in the range.
const maxOpenTries = 8

// allocate is the Allocate request, its checks in the order in which clients expect them.
func (s *Server) allocate(r *request) {
	if l := s.clients[r.key]; l != nil {
		s.allocateAgain(r, l)
		return
	}
	s.ports.wake(r.at)
	if s.ports.free == 0 || len(s.leases) >= s.cfg.Limits.Allocations {
		s.refuse(r, 508)
		return
	}
	if r.m.Transport != stun.UDP {
		s.refuse(r, 400)
		return
	}
	families, code := grantedFamilies(&r.m, s.cfg.families())
	if code != 0 {
		s.refuse(r, code)
		return
	}
	var old *lease
	if !s.cfg.ManyPerUser {
		old = s.users[string(r.m.Username)]
	}
	source := sourceOf(r.from.Remote.Addr())
	if n := s.cfg.Limits.AllocationsPerSource; n > 0 && s.sources[source] >= n && (old == nil || old.source != source) {
		s.refuse(r, 486)
		return
	}
	if old != nil {
		s.counters.count(EventReplaced)
		s.remove(old)
	}
	s.open(r, families, source)
}

// allocateAgain is an Allocate of a client that has an allocation. The very same request again
// means that the answer was lost, or that the port is still being bound.
func (s *Server) allocateAgain(r *request, l *lease) {
	switch {
	case l.opening != nil:
		s.counters.count(EventOpening)
	case l.asked == r.m.ID && l.user == string(r.m.Username):
		s.answerAllocate(l)
	default:
		s.refuse(r, 437)
	}
}

// grantedFamilies returns the families of a new allocation, or the code to refuse it with.
func grantedFamilies(m *stun.Message, have Families) (f Families, code int) {
	requested, additional := m.Has&stun.HasRequestedFamily != 0, m.Has&stun.HasAdditionalFamily != 0
	switch {
	case additional && (requested || m.Additional == stun.IPv4):
		return 0, 400
	case additional:
		return have, 0
	case requested && m.Requested == stun.IPv6:
		f = IPv6
	default:
		f = IPv4
	}
	if have&f == 0 {
		return 0, 440
	}
	return f, 0
}

// open makes a lease and asks for its port, of which allocate has seen that there is one.
func (s *Server) open(r *request, families Families, source uint64) {
	port, _ := s.ports.take(r.at)
	s.nextID++
	a := &Allocation{ID: s.nextID, Client: r.from, Port: port, Families: families, key: r.key}
	a.seed = r.key.hash(s.table.seed + uint64(a.ID))
	rate := float64(s.cfg.Limits.BytesPerSecond)
	a.bandwidth.set(rate, max(bandwidthBurst, longestTrain/rate))
	l := &lease{
		Allocation: a, user: string(r.m.Username), source: source, seconds: lifetime(&r.m),
		asked: r.m.ID, key: r.user.key, opening: new(opening),
	}
	l.expiry = timer{index: -1, allocation: l}
	s.leases[a.ID] = l
	s.clients[r.key] = l
	s.sources[source]++
	if !s.cfg.ManyPerUser {
		s.users[l.user] = l
	}
	s.out.Opens = append(s.out.Opens, Open{ID: a.ID, Port: port, Families: families})
}

// bandwidthBurst is how many seconds' worth of its bandwidth an allocation may send at once; but it
// may always send a train, for which a worker asks in one go.
const (
	bandwidthBurst = 0.5
	longestTrain   = 1 << 16
)

// retryOpen tries another port, or gives up.
func (s *Server) retryOpen(l *lease, at int64) {
	l.opening.tries++
	if !l.gone && l.opening.tries < maxOpenTries {
		if port, ok := s.ports.take(at); ok {
			l.Port = port
			s.out.Opens = append(s.out.Opens, Open{ID: l.ID, Port: port, Families: l.Families})
			return
		}
	}
	s.giveUp(l, at)
}

// giveUp ends a lease without a port, and says so to the client.
func (s *Server) giveUp(l *lease, at int64) {
	if !l.gone {
		r := request{from: l.Client, user: identity{key: l.key}, checked: true, at: at}
		r.m.Method, r.m.ID = stun.Allocate, l.asked
		s.unlink(l)
		s.refuse(&r, 508)
	}
	delete(s.leases, l.ID)
}

// establish publishes an allocation whose port is bound, and says so to the client.
func (s *Server) establish(l *lease, at int64) {
	l.opening = nil
	s.table.publish(l.Allocation)
	s.timers.set(&l.expiry, at+int64(l.seconds)*second)
	s.counters.ActiveAllocations.Add(1)
	s.counters.count(EventAllocated)
	s.answerAllocate(l)
}

func (s *Server) answerAllocate(l *lease) {
	r := request{from: l.Client, user: identity{key: l.key}}
	r.m.Method = stun.Allocate
	w := s.begin(stun.Allocate, l.asked)
	if l.Families&IPv4 != 0 {
		w.Address(stun.XORRelayedAddress, netip.AddrPortFrom(s.cfg.Public4, l.Port))
	}
	if l.Families&IPv6 != 0 {
		w.Address(stun.XORRelayedAddress, netip.AddrPortFrom(s.cfg.Public6, l.Port))
	}
	w.Address(stun.XORMappedAddress, l.Client.Remote)
	w.Uint32(stun.Lifetime, l.seconds)
	s.finish(&r, &w)
}

// live returns the client's allocation, or nil.
func (s *Server) live(r *request) *lease {
	if l := s.clients[r.key]; l != nil && l.opening == nil {
		return l
	}
	return nil
}

// refresh is the Refresh request.
func (s *Server) refresh(r *request) {
	l := s.live(r)
	if l == nil {
		s.refuse(r, 437)
		return
	}
	seconds := lifetime(&r.m)
	if seconds == 0 {
		s.counters.count(EventDeleted)
		s.remove(l)
	} else {
		s.timers.set(&l.expiry, r.at+int64(seconds)*second)
	}
	w := s.begin(stun.Refresh, r.m.ID)
	w.Uint32(stun.Lifetime, seconds)
	s.finish(r, &w)
}

// remove ends a lease. If its port is still being bound, the rest follows when that is over.
func (s *Server) remove(l *lease) {
	s.unlink(l)
	if l.opening != nil {
		l.gone = true
		return
	}
	s.table.withdraw(l.Allocation)
	s.counters.ActiveAllocations.Add(-1)
	s.timers.stop(&l.expiry)
	for _, b := range l.byNumber {
		s.timers.stop(&b.expiry)
		if b.bound {
			s.counters.BoundChannels.Add(-1)
		}
	}
	s.channels -= len(l.byNumber)
	s.forget(l)
}

// unlink makes room for another allocation of the same client, user and source.
func (s *Server) unlink(l *lease) {
	delete(s.clients, l.Allocation.key)
	delete(s.users, l.user)
	if s.sources[l.source]--; s.sources[l.source] == 0 {
		delete(s.sources, l.source)
	}
}

// forget has the sockets closed and frees the port.
func (s *Server) forget(l *lease) {
	delete(s.leases, l.ID)
	s.ports.release(l.Port)
	s.out.Closes = append(s.out.Closes, Close{ID: l.ID, Port: l.Port, Handle: l.Handle})
}
