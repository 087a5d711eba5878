package portal

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/protocol/signal"
)

const (
	// relaysEach is how many relays a device is told of.
	relaysEach = 2
	// maxRelays bounds the relays in hand. Every choice looks at all of them.
	maxRelays = 256
	// presenceQuiet is how long relays must have stayed the same before devices are told, so that
	// one that reconnects goes unnoticed, and presenceLatest how long that may put it off.
	presenceQuiet  = time.Second
	presenceLatest = 5 * time.Second
)

// relay is a connected relay.
type relay struct {
	Connect
	conn   ConnID
	id     signal.ID
	place  Location
	expiry *timer
}

// relays are all connected relays. They are nowhere in the store.
type relays struct {
	byID map[signal.ID]*relay
	// announce tells devices about changes, the first of which was at since.
	announce *timer
	since    time.Time
}

func newRelays() relays { return relays{byID: map[signal.ID]*relay{}} }

func (r *relays) inOrder() []*relay { return inOrder(r.byID) }

func (p *Portal) connectRelay(conn ConnID, c Connect, now time.Time) {
	r := &relay{Connect: c, conn: conn, id: signal.RelayID(c.Stamp), place: c.Location}
	if at, ok := p.places[c.Params.Name]; ok {
		r.place = at
	}
	if old := p.relays.byID[r.id]; old != nil {
		p.stats.Duplicates++
		p.end(old.conn, Cut)
		p.forget(old.conn, now)
	}
	if len(p.relays.byID) >= maxRelays {
		p.stats.Full++
		p.end(conn, Restart)
		return
	}
	p.stats.Connects++
	p.conns[conn], p.relays.byID[r.id] = r, r
	if !c.TokenExpires.IsZero() {
		r.expiry = p.timers.start(c.TokenExpires, "token expires", func(now time.Time) {
			p.expel(conn, signal.RoleRelay)
			p.forget(conn, now)
		})
	}
	p.send(conn, signal.RelayInit{})
	p.relaysChanged(now)
}

// relaysChanged has devices told when relays have been quiet for a moment.
func (p *Portal) relaysChanged(now time.Time) {
	r := &p.relays
	if r.announce == nil {
		r.since = now
	}
	p.timers.cancel(r.announce)
	at := now.Add(presenceQuiet)
	if latest := r.since.Add(presenceLatest); latest.Before(at) {
		at = latest
	}
	r.announce = p.timers.start(at, "relays changed", func(time.Time) {
		r.announce = nil
		p.announceRelays()
	})
}

// announceRelays tells each device what has become of its relays.
func (p *Portal) announceRelays() {
	for _, g := range inOrder(p.gateways) {
		p.announceTo(&g.member)
	}
	for _, c := range inOrder(p.clients) {
		p.announceTo(&c.member)
	}
}

func (p *Portal) announceTo(m *member) {
	gone := having(m.held, func(id signal.ID) bool { return p.relays.byID[id] == nil })
	short := len(m.held)-len(gone) < relaysEach && len(p.relays.byID) > 0
	if len(gone) == 0 && !short {
		return
	}
	p.send(m.conn, signal.RelaysPresence{DisconnectedIDs: gone, Connected: p.giveRelays(m, false)})
}

// reselectRelays answers a device that cannot use the relays it has: with others, if there are any.
func (p *Portal) reselectRelays(m *member) {
	p.send(m.conn, signal.RelaysPresence{Connected: p.giveRelays(m, true)})
}

// giveRelays chooses relays for a device, remembers them, and returns them with the credentials that
// the device needs. Those it has are preferred or, with others, avoided.
func (p *Portal) giveRelays(m *member, others bool) signal.Relays {
	chosen := p.chooseRelays(m, others)
	m.held = m.held[:0:0]
	var list signal.Relays
	for _, r := range chosen {
		m.held = append(m.held, r.id)
		list = append(list, r.entries(m)...)
	}
	return list
}

// chooseRelays returns the relays that come first: what the device has already, or has not; then the
// nearest; then in an order that is chance, but the same for a device every time, so that it keeps
// its relays when it reconnects.
func (p *Portal) chooseRelays(m *member, others bool) []*relay {
	type choice struct {
		*relay
		held bool
		luck uint64
	}
	all := make([]choice, 0, len(p.relays.byID))
	for id, r := range p.relays.byID {
		all = append(all, choice{r, slices.Contains(m.held, id), luck(m.id, id)})
	}
	slices.SortFunc(all, func(a, b choice) int {
		n := cmp.Compare(b2i(b.held), b2i(a.held))
		if others {
			n = -n
		}
		if n == 0 && m.Location.Located {
			n = nearer(m.Location, a.place, b.place)
		}
		return cmp.Or(n, cmp.Compare(a.luck, b.luck), a.id.Compare(b.id))
	})
	var chosen []*relay
	for _, c := range all[:min(relaysEach, len(all))] {
		chosen = append(chosen, c.relay)
	}
	return chosen
}

// luck is the weight of a relay for a device (rendezvous hashing).
func luck(device, relay signal.ID) uint64 {
	var both [32]byte
	copy(both[:16], device[:])
	copy(both[16:], relay[:])
	sum := sha256.Sum256(both[:])
	return binary.LittleEndian.Uint64(sum[:])
}

// entries are the relay's addresses, IPv4 first, with a device's credentials. Those stay the same
// when it reconnects: they end with its token, and a gateway's in 2038.
func (r *relay) entries(m *member) (all signal.Relays) {
	expires := int64(signal.GatewayRelayExpiry)
	if m.Role == signal.RoleClient && !m.TokenExpires.IsZero() {
		expires = m.TokenExpires.Unix()
	}
	username, password := signal.TURNCredentials(r.Stamp, m.Device.PublicKey, expires)
	for _, a := range []netip.Addr{r.Params.IPv4, r.Params.IPv6} {
		if a.IsValid() {
			all = append(all, signal.Relay{
				ID: r.id, Addr: netip.AddrPortFrom(a, r.Params.Port), Username: username, Password: password, ExpiresAt: expires,
			})
		}
	}
	return all
}
