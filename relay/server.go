package relay

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/firelane/firelane/protocol/stun"
)

// Server is the machine of a relay: requests in, answers and wishes for sockets out. One
// goroutine at a time; the package comment lists what else its driver owes it.
type Server struct {
	// Set by NewServer.
	cfg      Config
	software []byte
	realm    []byte
	table    *Table
	counters *Counters
	bindings *Bindings
	refusals *Limiter // of requests that anybody could have sent
	wrong    *Limiter // of credentials, under a good nonce
	start    time.Time

	now    time.Time // of the newest call
	nonces *nonces
	ports  *ports
	nextID AllocationID

	own  []netip.Prefix // whose packets end at this host; see localTo
	port uint16         // the listening one; 0 if unknown

	leases   map[AllocationID]*lease // being opened, live, or given up while being opened
	clients  map[tupleKey]*lease     // being opened or live
	users    map[string]*lease       // likewise; empty when a user may have many
	sources  map[uint64]int          // leases of each source
	channels int                     // bindings of all leases
	timers   timers
	out      Output
}

// maxPendingDatagrams bounds the answers between two drains: four times what workers hand over
// in one turn. More are dropped, as the network does, and clients ask again.
const maxPendingDatagrams = 4096

// NewServer returns a relay without allocations.
func NewServer(c Config, now time.Time) (*Server, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	chance := rand.NewChaCha8(c.Seed)
	var secret [32]byte
	for i := 0; i < len(secret); i += 8 {
		binary.LittleEndian.PutUint64(secret[i:], chance.Uint64())
	}
	counters, table := new(Counters), NewTable(c.Public4, c.Public6, chance.Uint64())
	return &Server{
		cfg:      c,
		software: []byte(c.Software),
		realm:    []byte(c.Credentials.realm),
		table:    table,
		counters: counters,
		bindings: &Bindings{
			table:    table,
			limiter:  NewLimiter(c.Limits.BindingsPerSecond, chance.Uint64()),
			counters: counters,
		},
		refusals: NewLimiter(c.Limits.RefusalsPerSecond, chance.Uint64()),
		wrong:    NewLimiter(c.Limits.RefusalsPerSecond, chance.Uint64()),
		start:    now,
		now:      now,
		nonces:   newNonces(secret, c.Limits.Nonces),
		ports:    newPorts(rand.New(chance), c.LowestPort, c.ports()),
		leases:   make(map[AllocationID]*lease),
		clients:  make(map[tupleKey]*lease),
		users:    make(map[string]*lease),
		sources:  make(map[uint64]int),
	}, nil
}

// Table returns what the workers read.
func (s *Server) Table() *Table { return s.table }

// Counters returns what the server and its bindings count.
func (s *Server) Counters() *Counters { return s.counters }

// Bindings returns what answers Binding requests, for the workers.
func (s *Server) Bindings() *Bindings { return s.bindings }

// HandleMessage takes a datagram from a client, other than ChannelData. Its bytes are lent for the
// call. Binding requests that workers did not answer are answered here, with this call's clock:
// a relay uses one of the two ways.
func (s *Server) HandleMessage(datagram []byte, from Tuple, now time.Time) {
	at := s.advance(now)
	from = Tuple{Remote: unmapped(from.Remote), Local: unmapped(from.Local)}
	answer, verdict := s.bindings.Answer(s.out.bytes, datagram, from, at)
	switch verdict {
	case Answered:
		s.send(from, answer)
		return
	case Dropped:
		return
	}
	if from.Remote.Port() == 0 {
		s.counters.count(EventPortZero)
		return
	}
	r := request{from: from, at: at, key: keyOfTuple(from.Remote, from.Local)}
	err := r.m.Parse(datagram)
	if err == stun.ErrHeader || r.m.Class != stun.Request {
		s.counters.count(EventNotRequest)
		return
	}
	if err != nil || !complete(&r.m) {
		s.refuse(&r, 400)
		return
	}
	if code := s.authenticate(&r); code != 0 {
		s.refuse(&r, code)
		return
	}
	s.serve(&r)
}

// HandleOpened says how an Open ended: handle is the driver's own name for the sockets, kept in
// the Allocation and in its Close. If not ok, the port is another program's: it rests for a while,
// and there may be another Open for the same allocation.
func (s *Server) HandleOpened(id AllocationID, handle any, ok bool, now time.Time) {
	at := s.advance(now)
	l := s.asked(id)
	l.Handle = handle
	switch {
	case !ok:
		s.counters.count(EventOpenFailed)
		s.ports.rest(l.Port, at)
		s.retryOpen(l, at)
	case l.gone:
		s.forget(l)
	default:
		s.establish(l, at)
	}
}

// HandleNotOpened says that an Open failed for a reason that has nothing to do with its port: the
// host has no descriptors or no memory left. Another port would fare no better, so the client is
// refused at once, and the port is free again.
func (s *Server) HandleNotOpened(id AllocationID, now time.Time) {
	at := s.advance(now)
	l := s.asked(id)
	s.counters.count(EventOpenFailed)
	s.ports.release(l.Port)
	s.giveUp(l, at)
}

// asked returns the lease whose Open is being carried out.
func (s *Server) asked(id AllocationID) *lease {
	l := s.leases[id]
	if l == nil || l.opening == nil {
		panic("relay: opened what was not asked for")
	}
	return l
}

// HandleTimeout does what is due.
func (s *Server) HandleTimeout(now time.Time) {
	at := s.advance(now)
	for len(s.timers) > 0 && s.timers[0].at <= at {
		if t := s.timers[0]; t.binding != nil {
			s.expireBinding(t.binding)
		} else {
			s.counters.count(EventExpired)
			s.remove(t.allocation)
		}
	}
}

// NextTimeout says when to call HandleTimeout; ok is false when there is nothing to wait for.
func (s *Server) NextTimeout() (at time.Time, why string, ok bool) {
	if s.out.pending() {
		return s.now, "output pending", true
	}
	if len(s.timers) == 0 {
		return time.Time{}, "", false
	}
	why = "allocation expires"
	if s.timers[0].binding != nil {
		why = "channel expires"
	}
	return s.start.Add(time.Duration(s.timers[0].at)), why, true
}

// Drain moves everything that is to be done now into out, in place of what was there.
func (s *Server) Drain(out *Output) {
	out.reset()
	*out, s.out = s.out, *out
}

// advance moves the server's time forward and returns it in nanoseconds since the start. A clock
// that goes back is held until it has caught up.
func (s *Server) advance(now time.Time) int64 {
	if now.After(s.now) {
		s.now = now
	}
	return int64(s.now.Sub(s.start))
}

// begin starts a success behind the answers that are pending.
func (s *Server) begin(method stun.Method, id stun.TransactionID) stun.Builder {
	w := stun.Start(s.out.bytes, stun.Success, method, id)
	w.Text(stun.Software, s.software)
	return w
}

// send adds what was written behind the pending answers to them.
func (s *Server) send(to Tuple, written []byte) {
	if len(s.out.Datagrams) >= maxPendingDatagrams {
		s.counters.count(EventOutputFull)
		return
	}
	s.out.answer(to, written)
}

const second = int64(time.Second)
