package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/stun"
)

func TestPassword(t *testing.T) {
	for _, c := range []struct {
		expiry             int64
		secret, salt, want string
	}{
		{1685984278, "1cab293a-4032-46f4-862a-40e5d174b0d2", "uvdgKvS9GXYZ_vmv", "6xUIoZ+QvxKhRasLifwfRkMXl+ETLJUsFkHlXjlHAkg"},
		{1892160000, stampSecret, "n23JJ2wKKtt30oXi", "00hqldgk5xLeKKOB+xls9mHMVtgqzie9DulfgQwMv68"},
		{2145916800, strings.Repeat("0", 64), "kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY", "1OfOezYMrsYwIQYBzE7sZkXcW2MoR6CK92du77MU2JQ"},
	} {
		if got := Password(c.expiry, c.secret, c.salt); got != c.want {
			t.Errorf("salt %s: %s, want %s", c.salt, got, c.want)
		}
	}
}

// Each defect has its code, in the order in which they are looked for, and a refusal is signed
// with the right password whenever the user name has one and the request is signed.
func TestRefusals(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	n := h.s.nonces.issue(d.from.Remote)
	foreign := h.s.nonces.issue(netip.MustParseAddrPort("192.0.2.1:1001"))
	expired := h.device("192.0.2.1:1000", "a")
	past := beginning.Unix() - 1
	expired.name = fmt.Sprintf("%d:a", past)
	expired.key = stun.LongTermKey([]byte(expired.name), []byte(PortalRealm), []byte(Password(past, stampSecret, "a")))
	const unsigned, signed, silent = 0, 1, 2
	for _, c := range []struct {
		name            string
		username, nonce string
		sign            []byte
		realm           string
		code, how       int
	}{
		{"no signature", d.name, string(n[:]), nil, "", 401, unsigned},
		{"no signature and no user name", "", string(n[:]), nil, "", 401, unsigned},
		{"no user name", "", string(n[:]), d.key[:], "", 401, unsigned},
		{"no nonce", d.name, "", d.key[:], "", 401, signed},
		{"a nonce that is no UUID", d.name, "0123456789abcdef0123456789abcdef0123", d.key[:], "", 401, signed},
		{"a nonce that is nobody's", d.name, "6e80ba94-7a4c-4e31-8b6a-0c5a1d6f2b3e", d.key[:], "", 438, signed},
		{"a nonce of another socket", d.name, string(foreign[:]), d.key[:], "", 438, signed},
		{"a nonce that is nobody's, and a bad signature", d.name, string(foreign[:]), []byte("bad"), "", 438, signed},
		{"a bad signature", d.name, string(n[:]), []byte("bad"), "", 401, signed},
		{"an expired user name", expired.name, string(n[:]), expired.key[:], "", 401, signed},
		{"a user name without salt", "1892160000", string(n[:]), d.key[:], "", 0, silent},
		{"a user name without expiry", ":a", string(n[:]), d.key[:], "", 0, silent},
		{"a user name with a leading zero", "01892160000:a", string(n[:]), d.key[:], "", 0, silent},
		{"a user name with another number", "0x12:a", string(n[:]), d.key[:], "", 0, silent},
		{"a user name with too large a number", "99999999999999999999:a", string(n[:]), d.key[:], "", 0, silent},
		{"a malformed user name and no signature", "a", "", nil, "", 0, silent},
		{"a nonce in capitals", d.name, strings.ToUpper(string(n[:])), d.key[:], "", 437, signed},
		{"another realm", d.name, string(n[:]), d.key[:], "example.org", 437, signed},
	} {
		got := h.ask(d.from, refreshWith(c.username, c.nonce, c.realm, c.sign))
		if c.how == silent {
			if len(got) != 0 {
				t.Errorf("%s: answered with %+v", c.name, got[0].m)
			}
			continue
		}
		if len(got) != 1 || got[0].m.Code != c.code {
			t.Errorf("%s: %+v, want code %d", c.name, got, c.code)
			continue
		}
		m := &got[0].m
		key := d.key
		if c.username == expired.name {
			key = expired.key
		}
		if m.Has&stun.HasMessageIntegrity != 0 != (c.how == signed) || c.how == signed && !m.Verify(key[:]) {
			t.Errorf("%s: signature %v", c.name, m.Has&stun.HasMessageIntegrity != 0)
		}
		challenge := c.code != 437
		if m.Has&stun.HasNonce != 0 != challenge || challenge && (string(m.Realm) != PortalRealm || string(m.Nonce) != string(n[:])) {
			t.Errorf("%s: realm %q nonce %q", c.name, m.Realm, m.Nonce)
		}
	}
	if n := h.s.Counters().Event(EventMalformedUser); n != 6 {
		t.Errorf("%d malformed user names counted", n)
	}
}

// refreshWith builds a Refresh with the texts that are not empty, signed if there is a key.
func refreshWith(username, nonce, realm string, key []byte) []byte {
	w := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{9})
	for _, a := range []struct {
		t stun.Attribute
		v string
	}{{stun.Username, username}, {stun.Nonce, nonce}, {stun.Realm, realm}} {
		if a.v != "" {
			w.Text(a.t, []byte(a.v))
		}
	}
	if key != nil {
		w.Sign(key)
	}
	return w.Bytes()
}

// A user name is good until the second that it names.
func TestExpiryOfUserNames(t *testing.T) {
	c, err := SharedSecret("s")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		at    int64
		valid bool
	}{{99, true}, {100, true}, {101, false}} {
		if id := c.identify([]byte("100:a"), x.at); id.valid != x.valid || id.malformed {
			t.Errorf("at %d: %+v", x.at, id)
		}
	}
}

// With users of its own the relay speaks RFC 8489's long-term credentials: strangers get an
// unsigned challenge, so that nobody can guess at passwords without asking.
func TestUsers(t *testing.T) {
	credentials, err := Users("", map[string]string{"alice": "correct horse"})
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(c *Config) { c.Credentials = credentials; c.ManyPerUser = true })
	d := h.device("192.0.2.1:1000", "")
	d.name, d.realm = "alice", DefaultRealm
	d.key = stun.LongTermKey([]byte("alice"), []byte(DefaultRealm), []byte("correct horse"))
	refused := func(what string, code int) {
		t.Helper()
		got := h.ask(d.from, d.build(stun.Refresh, nil))
		if len(got) != 1 || got[0].m.Code != code || got[0].m.Has&stun.HasMessageIntegrity != 0 || string(got[0].m.Realm) != DefaultRealm {
			t.Fatalf("%s: %+v", what, got)
		}
		d.nonce = append([]byte(nil), got[0].m.Nonce...)
	}
	refused("without a nonce", 401)
	wants(t, "allocate", d.allocate(), 0)
	d.key[0]++
	refused("a wrong password", 401)
	d.name = "mallory"
	refused("a stranger", 401)
	d.key = [16]byte{}
	refused("a stranger with the key of nobody", 401)
	d.nonce = []byte("00000000-0000-4000-8000-000000000000")
	refused("a stale nonce", 438)
}

func TestCredentialsThatAreNone(t *testing.T) {
	long := strings.Repeat("r", maxRealm+1)
	for name, f := range map[string]func() (Credentials, error){
		"an empty secret":         func() (Credentials, error) { return SharedSecret("") },
		"no users":                func() (Credentials, error) { return Users("", nil) },
		"a user without name":     func() (Credentials, error) { return Users("", map[string]string{"": "x"}) },
		"a user without password": func() (Credentials, error) { return Users("", map[string]string{"x": ""}) },
		"a long realm":            func() (Credentials, error) { return Users(long, map[string]string{"x": "x"}) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// CreatePermission succeeds for whoever has credentials: permissions are implied by channels.
func TestCreatePermission(t *testing.T) {
	h := newHarness(t, nil)
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "without an allocation", d.do(stun.CreatePermission, nil), 0)
	w := stun.Start(nil, stun.Request, stun.CreatePermission, stun.TransactionID{})
	if got := h.ask(d.from, w.Bytes()); len(got) != 1 || got[0].m.Code != 401 {
		t.Errorf("without credentials: %+v", got)
	}
}

// What a request without a user name is answered with, which is all that somebody who forges
// addresses needs, is as short as the protocol allows. What follows from it, with the headers of IP
// and UDP, is at most two and a quarter times as long as the request, and with a user name much less. The rate is bounded for each source.
func TestNoAmplification(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.RefusalsPerSecond = 10; c.Limits.BindingsPerSecond = 10 })
	d := h.device("192.0.2.1:1000", "a")
	bare := func(m stun.Method) []byte {
		w := stun.Start(nil, stun.Request, m, stun.TransactionID{1})
		return w.Bytes()
	}
	malformed := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	malformed.Channel(1)
	brief := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{1})
	brief.Text(stun.Username, []byte("1:"))
	for _, c := range []struct {
		name    string
		request []byte
		percent int
	}{
		{"Binding", bare(stun.Binding), 125},
		{"malformed Binding", malformed.Bytes(), 100},
		{"incomplete Allocate", bare(stun.Allocate), 117},
		{"Refresh of nobody", bare(stun.Refresh), 225},
		{"Refresh with a name", d.build(stun.Refresh, nil), 140},
		{"Refresh with the shortest name", brief.Bytes(), 195},
	} {
		h.s.HandleMessage(c.request, d.from, h.now)
		h.s.Drain(&h.out)
		const lower = 20 + 8 // headers of IPv4 and UDP
		if n := len(h.out.Datagrams[0].Bytes); 100*(n+lower) > c.percent*(len(c.request)+lower) {
			t.Errorf("%s: %d bytes answer %d", c.name, n, len(c.request))
		}
	}
	near := netip.MustParseAddrPort("[2001:db8::1]:1")
	far := netip.MustParseAddrPort("[2001:db8:0:1::1]:1")
	for _, m := range []stun.Method{stun.Binding, stun.Refresh} {
		count := func(from netip.AddrPort, n int) (answers int) {
			for i := range n {
				ip := from.Addr().As16()
				binary.BigEndian.PutUint16(ip[14:], uint16(i))
				a := netip.AddrPortFrom(netip.AddrFrom16(ip), from.Port())
				answers += len(h.ask(Tuple{a, listening[false]}, bare(m)))
			}
			return answers
		}
		if n := count(near, 100); n != 10*burstSeconds {
			t.Errorf("method %d: %d answers at once", m, n)
		}
		if n := count(far, 5); n != 5 {
			t.Errorf("method %d: another network gets %d answers", m, n)
		}
		h.now = h.now.Add(time.Second)
		if n := count(near, 100); n != 10 {
			t.Errorf("method %d: %d answers a second later", m, n)
		}
	}
	if h.s.Counters().Event(EventBindingRate) == 0 || h.s.Counters().Event(EventRefusalRate) == 0 {
		t.Error("not counted")
	}
}

// Somebody who sends under a client's address uses up neither its Bindings nor, once it has
// returned its nonce, its refusals.
func TestForgedPacketsDoNotSilenceAClient(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits = DefaultLimits() })
	d := h.device("192.0.2.1:1000", "a")
	wants(t, "allocate", d.allocate(), 0)
	binding := stun.Start(nil, stun.Request, stun.Binding, stun.TransactionID{1})
	refresh := stun.Start(nil, stun.Request, stun.Refresh, stun.TransactionID{1})
	stranger := Tuple{netip.AddrPortFrom(d.from.Remote.Addr(), 7), d.from.Local}
	for range 2 * burstSeconds * DefaultLimits().BindingsPerSecond {
		h.ask(stranger, binding.Bytes())
		h.ask(stranger, refresh.Bytes())
	}
	if len(h.ask(stranger, binding.Bytes())) != 0 || len(h.ask(stranger, refresh.Bytes())) != 0 {
		t.Error("the flood is answered")
	}
	if got := h.ask(d.from, binding.Bytes()); len(got) != 1 || got[0].m.Class != stun.Success {
		t.Errorf("the client's Binding: %+v", got)
	}
	wants(t, "a request with a nonce", d.refresh(), 0)
	key := d.key
	d.key = [16]byte{}
	if got := h.ask(d.from, d.build(stun.Refresh, nil)); len(got) != 1 || got[0].m.Code != 401 {
		t.Errorf("a bad signature with a good nonce: %+v", got)
	}
	d.key = key
	d.refresh(0)
	if len(h.ask(d.from, binding.Bytes())) != 0 {
		t.Error("a client without an allocation is no exception")
	}
}
