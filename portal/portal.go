package portal

import (
	"maps"
	"math/rand/v2"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// Settings are what a portal is told besides the policy file.
type Settings struct {
	// Secret is what ingest keys are derived from; see IngestKey.
	Secret [32]byte
	// Seed is where ids and choices come from.
	Seed [32]byte
	// FlowLogs is what devices are told about uploads.
	FlowLogs signal.FlowLogs
	// ICEless lets devices that are capable of it connect without ICE.
	ICEless bool
}

// State is what the portal knew when it ended.
type State struct {
	// File is the policy file in force. It must not be nil.
	File           *config.File
	Devices        []store.Device
	Authorizations []store.Authorization
	// Actors are the people and service accounts, by id: who may hold an authorization without
	// being connected. One that is missing holds none. Their Provider does not count: it belongs
	// to a session.
	Actors map[string]config.Actor
	// Providers are the providers that have vouched for sessions, by the session's token.
	Providers map[string]string
	// Distrusted says that nobody knows which file was in force, and so which authorizations an
	// edit has ended: all of them are revoked.
	Distrusted bool
}

// Portal is the machine. It is not safe for concurrent use. Its driver's obligations are in the
// package's comment.
type Portal struct {
	settings Settings
	rng      *rand.Rand
	now      time.Time
	out      Output
	bounds   bounds
	// condensed is how many deliveries of out condense has seen.
	condensed int
	timers    timers
	stats     Stats

	file      *config.File
	places    map[string]Location // of relays, by name
	accounts  map[string]*account
	directory directory
	actors    map[string]config.Actor

	conns    map[ConnID]any // *client, *gateway or *relay
	clients  map[signal.ID]*client
	gateways map[signal.ID]*gateway
	relays   relays
	revoked  revokedTokens

	grants grants
	writes writes
	// again are requests to be decided anew at the end of the current input.
	again []*pending
}

// New returns a portal that continues from a state. Authorizations that the file does not allow are
// revoked at once.
func New(settings Settings, s State, now time.Time) *Portal {
	p := &Portal{
		settings: settings, bounds: usualBounds, rng: rand.New(rand.NewChaCha8(settings.Seed)), now: now,
		accounts: map[string]*account{}, directory: newDirectory(), actors: map[string]config.Actor{},
		conns: map[ConnID]any{}, clients: map[signal.ID]*client{}, gateways: map[signal.ID]*gateway{},
		relays: newRelays(), revoked: newRevokedTokens(), grants: newGrants(), writes: newWrites(),
	}
	p.stats.Refused = map[signal.Reason]uint64{}
	for id, a := range s.Actors {
		p.actors[id] = a
	}
	for i := range s.Devices {
		p.directory.put(&s.Devices[i])
	}
	p.install(s.File)
	for i := range s.Authorizations {
		row := &s.Authorizations[i]
		p.restore(row, s.Providers[row.Token], !s.Distrusted, now)
	}
	p.purgeLater(now)
	p.release()
	return p
}

// HandleTimeout does what is due at now.
func (p *Portal) HandleTimeout(now time.Time) {
	p.now = now
	for t := p.timers.due(now); t != nil; t = p.timers.due(now) {
		t.do(now)
	}
	p.settle(now)
}

// NextTimeout returns when HandleTimeout is wanted, and why. It is now if there is output.
func (p *Portal) NextTimeout() (at time.Time, why string, ok bool) {
	if !p.out.empty() {
		return p.now, "output pending", true
	}
	t := p.timers.first()
	if t == nil {
		return time.Time{}, "", false
	}
	return t.at, t.why, true
}

// Drain moves what is to be done into out, replacing what is there, and takes it as done.
func (p *Portal) Drain(out *Output) {
	out.Deliveries, p.out.Deliveries = p.out.Deliveries, nil
	out.Writes, p.out.Writes = p.out.Writes, nil
	p.condensed = 0
}

// Stats returns the counters.
func (p *Portal) Stats() Stats {
	s := p.stats
	s.Refused = maps.Clone(s.Refused)
	s.Clients, s.Gateways, s.Relays = len(p.clients), len(p.gateways), len(p.relays.byID)
	s.Authorizations = len(p.grants.byID)
	for _, c := range p.clients {
		s.Pending += len(c.pending)
	}
	return s
}

// settle ends every input: it decides again about requests whose authorization was taken away, makes
// one message of what would be too many, and hands out writes.
func (p *Portal) settle(now time.Time) {
	for len(p.again) > 0 {
		q := p.again[0]
		p.again = p.again[1:]
		if q.open() {
			p.decide(q, now)
		}
	}
	p.again = nil
	p.condense()
	p.release()
}

// send queues a message for a channel.
func (p *Portal) send(c ConnID, m signal.Message) {
	p.out.Deliveries = append(p.out.Deliveries, Delivery{Conn: c, Message: m})
}

// end queues the end of a channel.
func (p *Portal) end(c ConnID, e End) {
	p.out.Deliveries = append(p.out.Deliveries, Delivery{Conn: c, End: e})
}

// newID returns a random UUID (RFC 9562, version 4).
func (p *Portal) newID() (id signal.ID) {
	for i := 0; i < len(id); i += 8 {
		v := p.rng.Uint64()
		for j := range 8 {
			id[i+j] = byte(v >> (8 * j))
		}
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
