package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/stun"
)

// The relay of these tests, and the moment at which it starts.
var (
	ours4     = netip.MustParseAddr("203.0.113.1")
	ours6     = netip.MustParseAddr("2001:db8:1::1")
	listening = map[bool]netip.AddrPort{true: netip.AddrPortFrom(ours4, 3478), false: netip.AddrPortFrom(ours6, 3478)}
	beginning = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

const stampSecret = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab"

// failer is what testing.TB and rapid.T share.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// harness drives a server as its driver shall, with virtual time and sockets that exist in a map.
type harness struct {
	t     failer
	s     *Server
	now   time.Time
	bound map[uint16]AllocationID
	out   Output

	// hold keeps opens instead of carrying them out; failing makes the next so many fail because
	// the port is taken, and exhausted because there are no descriptors.
	hold      bool
	held      []Open
	failing   int
	exhausted int
	closes    []Close
	answers   []answer
	ids       uint32 // of the transactions so far
}

type answer struct {
	to Tuple
	m  stun.Message
}

func newHarness(t failer, change func(*Config)) *harness {
	t.Helper()
	credentials, err := SharedSecret(stampSecret)
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := Config{Public4: ours4, Public6: ours6, Credentials: credentials, Seed: [32]byte{1}}
	if change != nil {
		change(&c)
	}
	s, err := NewServer(c, beginning)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return &harness{t: t, s: s, now: beginning, bound: make(map[uint16]AllocationID)}
}

// settle carries everything out until nothing is pending, in the order that is owed.
func (h *harness) settle() {
	h.t.Helper()
	for {
		h.s.Drain(&h.out)
		if !h.out.pending() {
			break
		}
		for _, c := range h.out.Closes {
			if h.bound[c.Port] != c.ID || c.Handle != any(c.ID) {
				h.t.Fatalf("close of %+v, which is %d", c, h.bound[c.Port])
			}
			delete(h.bound, c.Port)
			h.closes = append(h.closes, c)
		}
		for _, d := range h.out.Datagrams {
			var m stun.Message
			if err := m.Parse(append([]byte(nil), d.Bytes...)); err != nil {
				h.t.Fatalf("answer %x: %v", d.Bytes, err)
			}
			h.answers = append(h.answers, answer{Tuple{d.Remote, d.Local}, m})
		}
		opens := append([]Open(nil), h.out.Opens...)
		for _, o := range opens {
			if h.hold {
				h.held = append(h.held, o)
				continue
			}
			h.opened(o)
		}
	}
	if at, why, ok := h.s.NextTimeout(); ok && why == "output pending" {
		h.t.Fatalf("output pending at %v after a drain", at)
	}
}

// opened binds a port, or fails to.
func (h *harness) opened(o Open) {
	h.t.Helper()
	if id, ok := h.bound[o.Port]; ok {
		h.t.Fatalf("open of port %d, which %d holds", o.Port, id)
	}
	if o.Families == 0 {
		h.t.Fatalf("open of no family")
	}
	if h.failing > 0 {
		h.failing--
		h.s.HandleOpened(o.ID, nil, false, h.now)
		return
	}
	if h.exhausted > 0 {
		h.exhausted--
		h.s.HandleNotOpened(o.ID, h.now)
		return
	}
	h.bound[o.Port] = o.ID
	h.s.HandleOpened(o.ID, o.ID, true, h.now)
}

// release carries held opens out.
func (h *harness) release() {
	h.t.Helper()
	held := h.held
	h.held, h.hold = nil, false
	for _, o := range held {
		h.opened(o)
	}
	h.settle()
}

// advance moves time, stopping wherever the server wants to be called.
func (h *harness) advance(d time.Duration) {
	h.t.Helper()
	until := h.now.Add(d)
	for {
		at, _, ok := h.s.NextTimeout()
		if !ok || at.After(until) {
			break
		}
		if at.Before(h.now) {
			at = h.now
		}
		h.now = at
		h.s.HandleTimeout(h.now)
		h.settle()
		if next, _, ok := h.s.NextTimeout(); ok && !next.After(h.now) {
			h.t.Fatalf("the server does not get on: due at %v again", next)
		}
	}
	h.now = until
}

// ask sends a datagram and returns the answers to it.
func (h *harness) ask(from Tuple, datagram []byte) []answer {
	h.t.Helper()
	h.answers = h.answers[:0]
	h.s.HandleMessage(datagram, from, h.now)
	h.settle()
	return h.answers
}

// device is a client of the relay.
type device struct {
	h     *harness
	from  Tuple
	name  string
	realm string
	key   [16]byte
	nonce []byte
	last  stun.TransactionID
}

// device returns a client at an address, with credentials for a salt that are good for a year.
func (h *harness) device(addr, salt string) *device {
	from := netip.MustParseAddrPort(addr)
	expiry := beginning.AddDate(1, 0, 0).Unix()
	d := &device{h: h, from: Tuple{from, listening[from.Addr().Is4()]}, realm: PortalRealm}
	d.name = fmt.Sprintf("%d:%s", expiry, salt)
	d.key = stun.LongTermKey([]byte(d.name), []byte(d.realm), []byte(Password(expiry, stampSecret, salt)))
	return d
}

// build makes a signed request; attributes adds those of the method.
func (d *device) build(method stun.Method, attributes func(*stun.Builder)) []byte {
	d.h.ids++
	binary.BigEndian.PutUint32(d.last[:], d.h.ids)
	w := stun.Start(nil, stun.Request, method, d.last)
	if attributes != nil {
		attributes(&w)
	}
	w.Text(stun.Software, []byte("snownet"))
	w.Text(stun.Username, []byte(d.name))
	w.Text(stun.Realm, []byte(d.realm))
	if d.nonce != nil {
		w.Text(stun.Nonce, d.nonce)
	}
	w.Sign(d.key[:])
	return w.Bytes()
}

// do asks as a client does: refused for the lack of a nonce, it asks again. It returns the answer,
// which must be there and be signed, or nil if the request has none.
func (d *device) do(method stun.Method, attributes func(*stun.Builder)) *stun.Message {
	d.h.t.Helper()
	for {
		got := d.h.ask(d.from, d.build(method, attributes))
		if len(got) == 0 {
			return nil
		}
		m := &got[len(got)-1].m
		if len(got) != 1 || got[0].to != d.from || m.Method != method || m.ID != d.last {
			d.h.t.Fatalf("%d answers, the last to %v: %+v", len(got), got[0].to, m)
		}
		if m.Class == stun.Failure && (m.Code == 438 || m.Code == 401 && d.nonce == nil) {
			d.nonce = append([]byte(nil), m.Nonce...)
			continue
		}
		if !m.Verify(d.key[:]) {
			d.h.t.Fatalf("unsigned answer %+v", m)
		}
		return m
	}
}

func (d *device) allocate(families ...func(*stun.Builder)) *stun.Message {
	d.h.t.Helper()
	return d.do(stun.Allocate, func(w *stun.Builder) {
		w.Transport(stun.UDP)
		for _, f := range families {
			f(w)
		}
	})
}

// both asks for an allocation of both families, as Firezone's clients do.
func both(w *stun.Builder) { w.Family(stun.AdditionalAddressFamily, stun.IPv6) }

func only6(w *stun.Builder) { w.Family(stun.RequestedAddressFamily, stun.IPv6) }

func (d *device) refresh(seconds ...uint32) *stun.Message {
	d.h.t.Helper()
	return d.do(stun.Refresh, func(w *stun.Builder) {
		for _, s := range seconds {
			w.Uint32(stun.Lifetime, s)
		}
	})
}

func (d *device) bind(number uint16, peer string) *stun.Message {
	d.h.t.Helper()
	return d.do(stun.ChannelBind, func(w *stun.Builder) {
		w.Address(stun.XORPeerAddress, netip.MustParseAddrPort(peer))
		w.Channel(number)
	})
}

// published returns the device's allocation as workers see it.
func (d *device) published() *Allocation { return d.h.s.Table().Client(d.from.Remote, d.from.Local) }

// wants fails unless m is a success (code 0) or the error with the code.
func wants(t testing.TB, what string, m *stun.Message, code int) {
	t.Helper()
	if m == nil {
		t.Errorf("%s: no answer", what)
		return
	}
	if class := m.Class; m.Code != code || class != stun.Success && code == 0 || class != stun.Failure && code != 0 {
		t.Errorf("%s: class %d code %d, want code %d", what, m.Class, m.Code, code)
	}
}
