package fuzz

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/stun"
	"github.com/firelane/firelane/relay"
)

const relaySecret = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab"

const (
	// relaySteps bounds a script, so that an input takes well under a millisecond.
	relaySteps = 200
	// relayApart is the distance between the channel numbers of scripts, which are on several pages.
	relayApart = 0x1ff
	// relayExpiry, in 2100, is later than the years that a script can let pass.
	relayExpiry = "4102444800"
)

var (
	stunPeer     = netip.MustParseAddrPort("198.51.100.1:1")
	relayStart   = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	relaySockets = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.1:2"),
		netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("192.0.2.9:0")}
	relayPeers = []netip.AddrPort{stunPeer, netip.MustParseAddrPort("[2001:db8::9]:1"), netip.MustParseAddrPort("127.0.0.1:1"),
		netip.MustParseAddrPort("203.0.113.1:50001")}
	relayHome    = [2]netip.Prefix{netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("2001:db8::8/125")}
	relayMethods = []stun.Method{stun.Allocate, stun.Refresh, stun.ChannelBind, stun.CreatePermission, stun.Binding, 0x006}
	relaySeconds = []uint32{0, 1, 300, 599, 600, 900, 1 << 20}
	relayLowest  = uint16(50000)
	relayHighest = uint16(50003)
	relayUsers   = []string{relayExpiry + ":a", relayExpiry + ":b", "1:expired", "nonsense"}
	relayLocal   = netip.MustParseAddrPort("203.0.113.1:3478")
	relayOpens   = [4]openEnd{opened, portTaken, opened, hostExhausted}
)

// openEnd is how an open ends.
type openEnd int

const (
	opened openEnd = iota
	portTaken
	hostExhausted
)

// relayWorld is a relay, what its driver has bound, and what the fuzzer has learnt: the newest
// nonce of each socket.
type relayWorld struct {
	t      *testing.T
	s      *relay.Server
	out    relay.Output
	now    time.Time
	bound  map[uint16]relay.AllocationID
	opens  []relay.Open
	nonces [4][]byte
	ids    uint32
	here   [2]bool // relayHome is the host's, of IPv4 and of IPv6
}

// FuzzRelay reads its input as a script of requests, right and wrong, of opens that succeed, fail
// or take their time, of hours that pass, and of addresses that the host gets and loses. Nothing may
// panic; every answer goes to who asked; ports are opened only when they are free, and none gets
// lost; what expires does so at its time; no channel leads to a port of this host that is no
// allocation's; and table, ports and figures agree all the time.
func FuzzRelay(f *testing.F) {
	allocate := []byte{0, 0, 0, 0, 0, 0, 0, 0}
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(append(append(append([]byte(nil), allocate...), allocate...), 1, 0, 2, 0, 0x40, 0, 0, 0, 3, 4, 0, 0, 3, 4, 0, 0))
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newRelayWorld(t)
		for range relaySteps {
			if len(script) < 4 {
				break
			}
			op, a, b, c := script[0], script[1], script[2], script[3]
			script = script[4:]
			switch op % 5 {
			case 0, 1:
				w.request(a, b, c)
			case 2:
				n := min(int(a), len(script))
				w.send(int(b)%len(relaySockets), script[:n])
				script = script[n:]
			case 3:
				w.host(b&1 != 0, b&2 != 0)
				w.pass(time.Duration(relaySeconds[int(a)%len(relaySeconds)]) * time.Second / 2)
			case 4:
				w.open(relayOpens[a%4])
			}
			w.check()
		}
		for len(w.opens) > 0 {
			w.open(opened)
		}
		w.pass(2 * time.Hour)
		w.check()
		if n := w.s.Counters().ActiveAllocations.Load(); n != 0 || len(w.bound) != 0 || w.s.Counters().BoundChannels.Load() != 0 {
			t.Fatalf("%d allocations and %d ports are left", n, len(w.bound))
		}
		if at, why, ok := w.s.NextTimeout(); ok {
			t.Fatalf("an empty relay waits for %v: %s", at, why)
		}
		w.takeAllPorts()
	})
}

func newRelayWorld(t *testing.T) *relayWorld {
	credentials, err := relay.SharedSecret(relaySecret)
	if err != nil {
		t.Fatal(err)
	}
	s, err := relay.NewServer(relay.Config{
		Public4: netip.MustParseAddr("203.0.113.1"), Public6: netip.MustParseAddr("2001:db8:1::1"),
		LowestPort: relayLowest, HighestPort: relayHighest, Credentials: credentials,
	}, relayStart)
	if err != nil {
		t.Fatal(err)
	}
	return &relayWorld{t: t, s: s, now: relayStart, bound: make(map[uint16]relay.AllocationID)}
}

// request builds a request from three bytes: whose, which, and what is wrong with it.
func (w *relayWorld) request(who, what, flaw byte) {
	socket := int(who) % len(relaySockets)
	user := relayUsers[int(who>>2)%len(relayUsers)]
	method := relayMethods[int(what)%len(relayMethods)]
	w.ids++
	if flaw&0x80 != 0 {
		w.ids-- // a repeated transaction
	}
	var id stun.TransactionID
	binary.BigEndian.PutUint32(id[:], w.ids)
	b := stun.Start(nil, stun.Request, method, id)
	variant := int(what) / len(relayMethods)
	switch method {
	case stun.Allocate:
		b.Transport(stun.UDP + flaw>>6&1)
		switch variant % 4 {
		case 1:
			b.Family(stun.AdditionalAddressFamily, stun.IPv6)
		case 2:
			b.Family(stun.RequestedAddressFamily, stun.IPv6)
		case 3:
			b.Uint32(stun.Lifetime, relaySeconds[variant/4%len(relaySeconds)])
		}
	case stun.Refresh:
		b.Uint32(stun.Lifetime, relaySeconds[variant%len(relaySeconds)])
	case stun.ChannelBind:
		peer := relayPeers[variant%len(relayPeers)]
		if flaw&0x10 != 0 { // no flaw, but a port that may be an allocation's
			peer = netip.AddrPortFrom(peer.Addr(), relayLowest+uint16(flaw>>5&3))
		}
		b.Address(stun.XORPeerAddress, peer)
		b.Channel(0x4000 + uint16(variant/len(relayPeers))*relayApart)
	}
	if flaw&1 == 0 {
		b.Text(stun.Username, []byte(user))
	}
	if n := w.nonces[socket]; flaw&2 == 0 && n != nil {
		b.Text(stun.Nonce, n)
	}
	if flaw&4 == 0 {
		key := relayKey(user)
		key[0] ^= flaw & 8
		b.Sign(key[:])
	}
	w.send(socket, b.Bytes())
}

// relayKey is the long-term key of a user name.
func relayKey(user string) [16]byte {
	var expiry int64
	var salt string
	if n, err := fmt.Sscanf(user, "%d:%s", &expiry, &salt); n != 2 || err != nil {
		return [16]byte{}
	}
	return stun.LongTermKey([]byte(user), []byte(relay.PortalRealm), []byte(relay.Password(expiry, relaySecret, salt)))
}

func (w *relayWorld) send(socket int, datagram []byte) {
	from := relay.Tuple{Remote: relaySockets[socket], Local: relayLocal}
	w.s.HandleMessage(datagram, from, w.now)
	for _, d := range w.drain() {
		if d.Remote != from.Remote || d.Local != from.Local || len(d.Bytes) > len(datagram)+120 {
			w.t.Fatalf("%d bytes to %v answer %d from %v", len(d.Bytes), d.Remote, len(datagram), from.Remote)
		}
		var m stun.Message
		if err := m.Parse(d.Bytes); err != nil || m.Class != stun.Success && m.Class != stun.Failure {
			w.t.Fatalf("answer %x: %v", d.Bytes, err)
		}
		if m.Has&stun.HasNonce != 0 {
			w.nonces[socket] = append([]byte(nil), m.Nonce...)
		}
	}
}

// drain carries closes out, keeps opens for later and returns the answers.
func (w *relayWorld) drain() []relay.Datagram {
	w.s.Drain(&w.out)
	for _, c := range w.out.Closes {
		if w.bound[c.Port] != c.ID || c.Handle != any(c.ID) {
			w.t.Fatalf("close of %+v, which is %d", c, w.bound[c.Port])
		}
		delete(w.bound, c.Port)
	}
	w.opens = append(w.opens, w.out.Opens...)
	return w.out.Datagrams
}

// open carries out the oldest open, or fails to.
func (w *relayWorld) open(end openEnd) {
	if len(w.opens) == 0 {
		return
	}
	o := w.opens[0]
	w.opens = w.opens[1:]
	if _, taken := w.bound[o.Port]; taken || o.Port < relayLowest || o.Port > relayHighest {
		w.t.Fatalf("open of %+v", o)
	}
	waiting := len(w.opens)
	switch end {
	case opened:
		w.bound[o.Port] = o.ID
		w.s.HandleOpened(o.ID, o.ID, true, w.now)
	case portTaken:
		w.s.HandleOpened(o.ID, nil, false, w.now)
	case hostExhausted:
		w.s.HandleNotOpened(o.ID, w.now)
	}
	if n := len(w.drain()); n > 1 {
		w.t.Fatalf("%d answers to one open", n)
	}
	if n := len(w.opens) - waiting; n > 1 || n == 1 && end != portTaken {
		w.t.Fatalf("%d opens follow one that ended with %d", n, end)
	}
}

// host gives this host what is in relayHome, or takes it away.
func (w *relayWorld) host(v4, v6 bool) {
	w.here = [2]bool{v4, v6}
	var own []netip.Prefix
	for i, here := range w.here {
		if here {
			own = append(own, relayHome[i])
		}
	}
	w.s.SetHost(own, relayLocal.Port())
}

// takeAllPorts allocates every port there is, which shows that none got lost.
func (w *relayWorld) takeAllPorts() {
	for i := range relayHighest - relayLowest + 1 {
		from := relay.Tuple{Remote: netip.AddrPortFrom(stunPeer.Addr(), 1000+i), Local: relayLocal}
		user := fmt.Sprintf("%s:all%d", relayExpiry, i)
		key := relayKey(user)
		var m stun.Message
		for m.Class != stun.Success {
			b := stun.Start(nil, stun.Request, stun.Allocate, stun.TransactionID{})
			b.Transport(stun.UDP)
			b.Text(stun.Username, []byte(user))
			if m.Has&stun.HasNonce != 0 {
				b.Text(stun.Nonce, m.Nonce)
			}
			b.Sign(key[:])
			w.s.HandleMessage(b.Bytes(), from, w.now)
			answers := w.drain()
			for _, o := range w.opens {
				w.s.HandleOpened(o.ID, o.ID, true, w.now)
				w.bound[o.Port] = o.ID
			}
			if w.opens = w.opens[:0]; len(answers) == 0 {
				answers = w.drain()
			}
			if len(answers) != 1 || m.Has&stun.HasNonce != 0 && len(w.bound) != int(i)+1 {
				w.t.Fatalf("%d answers, %d ports bound for client %d", len(answers), len(w.bound), i)
			}
			if err := m.Parse(append([]byte(nil), answers[0].Bytes...)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// pass lets time go by, calling the relay whenever it wants.
func (w *relayWorld) pass(d time.Duration) {
	until := w.now.Add(d)
	for range 1 << 16 {
		at, why, ok := w.s.NextTimeout()
		if !ok || at.After(until) {
			w.now = until
			return
		}
		if at.After(w.now) {
			w.now = at
		}
		w.s.HandleTimeout(w.now)
		if n := len(w.drain()); n != 0 {
			w.t.Fatalf("%d answers to nobody (%s)", n, why)
		}
	}
	w.t.Fatal("the relay does not get on")
}

// check compares the table with the ports and the figures.
func (w *relayWorld) check() {
	table := w.s.Table()
	active := 0
	for p := relayLowest; p <= relayHighest; p++ {
		a := table.Port(p)
		if a == nil {
			continue
		}
		active++
		if a.Port != p || w.bound[p] != a.ID || table.Client(a.Client.Remote, a.Client.Local) != a {
			w.t.Fatalf("port %d: %+v", p, a)
		}
	}
	if n := w.s.Counters().ActiveAllocations.Load(); n != int64(active) || len(w.bound) < active {
		w.t.Fatalf("%d active, %d in the table, %d bound", n, active, len(w.bound))
	}
	channels := 0
	for _, socket := range relaySockets {
		a := table.Client(socket, relayLocal)
		if a == nil {
			continue
		}
		for n := uint16(relay.MinChannel); n <= relay.MaxChannel; n += relayApart {
			c := a.Channel(n)
			if c == nil {
				continue
			}
			channels++
			if c.Number != n || c.Allocation != a || a.Peer(c.Peer) != c || c.Peer.Addr().IsLoopback() {
				w.t.Fatalf("channel %#x: %+v", n, c)
			}
			w.checkReach(c)
		}
	}
	if n := w.s.Counters().BoundChannels.Load(); n != int64(channels) {
		w.t.Fatalf("%d channels counted, %d found", n, channels)
	}
}

// checkReach checks that a channel to an address of this host ends at an allocation of the family or
// nowhere.
func (w *relayWorld) checkReach(c *relay.Channel) {
	far, closed := w.s.Table().Hairpin(c)
	public := c.Peer.Addr() == relayLocal.Addr()
	here := w.here[0] && relayHome[0].Contains(c.Peer.Addr()) || w.here[1] && relayHome[1].Contains(c.Peer.Addr())
	family := relay.IPv6
	if c.Peer.Addr().Is4() {
		family = relay.IPv4
	}
	a := w.s.Table().Port(c.Peer.Port())
	live := a != nil && a.Families&family != 0
	if want := public || here && !live; closed != want || far != nil && !(public && live) {
		w.t.Fatalf("channel to %v: leads to %+v, closed %v", c.Peer, far, closed)
	}
}
