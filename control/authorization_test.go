package control

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/firelane/firelane/dns"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"pgregory.net/rapid"
)

// grantee is a client with grants, the table they are published in and the time.
type grantee struct {
	*Grants
	t      testing.TB
	peer   *fib.Peer
	table  *fib.Table
	now    time.Time
	resets int
}

var grantStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newGrantee(t testing.TB, base PolicyBase) *grantee {
	t.Helper()
	h := &grantee{t: t, peer: fib.NewPeer(1, fib.RoamNever, 1), table: fib.NewTable(1280), now: grantStart}
	var err error
	h.Grants, err = NewGrants(GrantsConfig{
		Peer: h.peer, Base: base, Start: grantStart,
		Addr4: netip.MustParseAddr("100.64.0.7"), Addr6: netip.MustParseAddr("fd00:2021:1111::7"),
	}, h.now)
	if err != nil {
		t.Fatal(err)
	}
	h.publish()
	return h
}

// publish carries pending changes out.
func (h *grantee) publish() {
	changes := h.Drain(nil)
	for _, c := range changes {
		if _, ok := c.(fib.ResetFlows); ok {
			h.resets++
		}
	}
	h.table.Apply(changes)
}

// run lets time pass, waking the grants when they ask for it, and returns what expired.
func (h *grantee) run(until time.Time) (expired []ResourceID) {
	for {
		at, ok := h.NextTimeout()
		if !ok || at.After(until) {
			h.now = until
			return expired
		}
		h.now = at
		expired = append(expired, h.HandleTimeout(at)...)
		h.publish()
	}
}

func (h *grantee) authorize(r Resource) {
	h.t.Helper()
	if err := h.Authorize(r, h.now); err != nil {
		h.t.Fatal(err)
	}
	h.publish()
}

func (h *grantee) assign(r ResourceID, domain string, proxies, resolved string) NameStatus {
	h.t.Helper()
	s := h.AssignNames(Assignment{Resource: r, Domain: domain, Proxies: addrs(proxies), Resolved: addrs(resolved)}, h.now)
	h.publish()
	return s
}

// admit asks the published policy about TCP to a port.
func (h *grantee) admit(dst string, port uint16) (netip.Addr, fib.Verdict) {
	a := netip.MustParseAddr(dst)
	info := packet.Info{Src: h.peer.Policy().Addr(a.Is6()), Dst: a, Version: 4, Proto: packet.ProtoTCP, DstPort: port}
	if a.Is6() {
		info.Version = 6
	}
	target, v := h.peer.Policy().Admit(&info)
	return target.Real, v
}

// expect checks the verdict for TCP to port 443.
func (h *grantee) expect(what, dst string, want fib.Verdict) {
	h.t.Helper()
	if _, v := h.admit(dst, 443); v != want {
		h.t.Errorf("%s: %v, want %v", what, v, want)
	}
}

func cidr(id ResourceID, p string, filters ...fib.Filter) Resource {
	return Resource{ID: id, Kind: KindCIDR, Prefix: netip.MustParsePrefix(p), Filters: filters}
}

func dnsResource(t testing.TB, id ResourceID, pattern string, filters ...fib.Filter) Resource {
	t.Helper()
	p, err := dns.NewPattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return Resource{ID: id, Kind: KindDNS, Pattern: p, Filters: filters}
}

func until(r Resource, d time.Duration) Resource {
	r.Expires = grantStart.Add(d)
	return r
}

var web = fib.Filter{Protocol: packet.ProtoTCP, First: 443, Last: 443}
var ssh = fib.Filter{Protocol: packet.ProtoTCP, First: 22, Last: 22}

func TestANewClientMayReachNothing(t *testing.T) {
	h := newGrantee(t, PolicyBase{Gateway4: netip.MustParseAddr("100.64.0.1")})
	h.expect("the gateway", "100.64.0.1", fib.Pass)
	h.expect("anything", "10.0.0.1", fib.ReplyProhibited)
	if !h.Empty() {
		t.Error("not empty")
	}
	if _, ok := h.NextTimeout(); ok {
		t.Error("a timeout without anything to do")
	}
}

func TestGrantReplaceRevoke(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(cidr("a", "10.0.0.0/8", web))
	h.expect("granted", "10.0.0.1", fib.Pass)
	h.authorize(cidr("a", "11.0.0.0/8", ssh)) // the address stays, whatever it says
	h.expect("with other filters", "10.0.0.1", fib.ReplyProhibited)
	if _, v := h.admit("10.0.0.1", 22); v != fib.Pass {
		t.Errorf("the new filter: %v", v)
	}
	h.expect("another address under the same id", "11.0.0.1", fib.ReplyProhibited)
	if err := h.UpdateFilters("a", KindCIDR, nil, h.now); err != nil {
		t.Error(err)
	}
	h.publish()
	h.expect("live update", "10.0.0.1", fib.Pass)
	if err := h.UpdateFilters("b", KindCIDR, nil, h.now); err != nil {
		t.Error(err)
	}
	if err := h.UpdateFilters("a", KindDNS, nil, h.now); !errors.Is(err, ErrConfig) {
		t.Errorf("another type: %v", err)
	}
	if err := h.Authorize(dnsResource(t, "a", "example.com"), h.now); !errors.Is(err, ErrConfig) {
		t.Errorf("another type: %v", err)
	}
	if h.Revoke("b", h.now) || !h.Revoke("a", h.now) || !h.Empty() {
		t.Error("revoked the wrong one")
	}
	if at, ok := h.NextTimeout(); !ok || at.After(h.now) {
		t.Error("the timeout is later than pending output")
	}
	h.publish()
	h.expect("revoked", "10.0.0.1", fib.ReplyProhibited)
	if changes := h.Drain(nil); len(changes) != 0 {
		t.Errorf("published twice: %v", changes)
	}
}

func TestManyAuthorizationsMakeOnePolicy(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	for _, id := range []ResourceID{"a", "b", "c"} {
		if err := h.Authorize(cidr(id, "10.0.0.0/8", web), h.now); err != nil {
			t.Fatal(err)
		}
	}
	if changes := h.Drain(nil); len(changes) != 1 {
		t.Errorf("%d changes, want 1", len(changes))
	}
	if err := h.Authorize(until(cidr("a", "10.0.0.0/8", web), time.Hour), h.now); err != nil || len(h.Drain(nil)) != 0 {
		t.Errorf("another expiry made another policy, or %v", err)
	}
}

func TestRefusedResourcesLeaveTheGrantsAsTheyAre(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	for name, r := range map[string]Resource{
		"no id":                 cidr("", "10.0.0.0/8"),
		"host bits":             cidr("a", "10.0.0.1/8"),
		"no prefix":             {ID: "a", Kind: KindCIDR},
		"no pattern":            {ID: "a", Kind: KindDNS},
		"no type":               {ID: "a"},
		"internet with filters": {ID: "a", Kind: KindInternet, Filters: []fib.Filter{web}},
		"a backward range":      cidr("a", "10.0.0.0/8", fib.Filter{Protocol: packet.ProtoTCP, First: 2, Last: 1}),
		"too many filters":      cidr("a", "10.0.0.0/8", make([]fib.Filter, MaxFilters+1)...),
	} {
		if err := h.Authorize(r, h.now); !errors.Is(err, ErrConfig) || !h.Empty() || len(h.Drain(nil)) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range MaxResources {
		h.resources[ResourceID(rune(i+1))] = &grant{}
	}
	if err := h.Authorize(cidr("one too many", "10.0.0.0/8"), h.now); !errors.Is(err, ErrConfig) {
		t.Error("the bound does not hold")
	}
}

func TestAuthorizationsEndOnWholeSeconds(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(until(cidr("a", "10.0.0.0/8"), 10*time.Second))
	h.authorize(until(cidr("b", "11.0.0.0/8"), 10*time.Second+1))
	h.authorize(cidr("c", "12.0.0.0/8"))
	at := func(d time.Duration, want ...ResourceID) {
		t.Helper()
		if got := h.run(grantStart.Add(d)); !slices.Equal(got, want) {
			t.Errorf("expired by %v: %v, want %v", d, got, want)
		}
	}
	at(10*time.Second - 1)
	h.expect("just before", "10.0.0.1", fib.Pass)
	at(10*time.Second, "a")
	h.expect("expired", "10.0.0.1", fib.ReplyProhibited)
	h.expect("expires within the second", "11.0.0.1", fib.Pass)
	at(11*time.Second - 1)
	h.expect("until the tick", "11.0.0.1", fib.Pass)
	at(11*time.Second, "b")
	h.expect("expired", "11.0.0.1", fib.ReplyProhibited)
	at(time.Hour)
	h.expect("never expires", "12.0.0.1", fib.Pass)
	h.authorize(until(cidr("d", "13.0.0.0/8"), time.Second)) // long past
	h.expect("expired already", "13.0.0.1", fib.Pass)
	at(time.Hour + time.Second - 1)
	h.expect("lives until the next tick", "13.0.0.1", fib.Pass)
	at(time.Hour+time.Second, "d")
	h.expect("expired", "13.0.0.1", fib.ReplyProhibited)
	if h.Revoke("c", h.now); !h.Empty() {
		t.Error("something is left")
	}
}

func TestAnExpiryCanBePutOff(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(until(cidr("a", "10.0.0.0/8"), 10*time.Second))
	h.authorize(until(cidr("a", "10.0.0.0/8"), 20*time.Second))
	if got := h.run(grantStart.Add(19 * time.Second)); got != nil {
		t.Errorf("expired %v", got)
	}
	revoked := h.Retain(map[ResourceID]time.Time{"a": {}, "x": {}}, h.now)
	if got := h.run(grantStart.Add(time.Hour)); got != nil || revoked != nil {
		t.Errorf("expired %v, revoked %v", got, revoked)
	}
}

func TestRetainRevokesWhatIsNotListed(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	for _, id := range []ResourceID{"c", "a", "b"} {
		h.authorize(cidr(id, "10.0.0.0/8"))
	}
	if got := h.Retain(map[ResourceID]time.Time{"b": grantStart.Add(5 * time.Second)}, h.now); !slices.Equal(got, []ResourceID{"a", "c"}) {
		t.Errorf("revoked %v", got)
	}
	if got := h.run(grantStart.Add(5 * time.Second)); !slices.Equal(got, []ResourceID{"b"}) || !h.Empty() {
		t.Errorf("expired %v", got)
	}
	h.authorize(cidr("a", "10.0.0.0/8"))
	if got := h.Retain(nil, h.now); len(got) != 1 || !h.Empty() {
		t.Errorf("a missing list revoked %v", got)
	}
}

func TestExpiryConvertsTheWallClockOnce(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 700_000_000, time.UTC)
	for _, c := range []struct {
		unix int64
		want time.Duration
	}{
		{start.Unix() + 10, 9300 * time.Millisecond}, {start.Unix() + 1, 300 * time.Millisecond},
		{start.Unix(), 0}, {start.Unix() - 1, 0}, {0, 0}, {math.MinInt64, 0},
		{math.MaxInt64, 24 * time.Hour},
		{start.Unix() + 100*365*86400, 100*365*24*time.Hour - 700*time.Millisecond},
	} {
		if got := Expiry(c.unix, start).Sub(start); got != c.want {
			t.Errorf("%d: %v after the start, want %v", c.unix, got, c.want)
		}
	}
}

// TestGrantsAgreeWithAModel drives grants with random events and asks the policy each second
// whether it permits what a list of authorizations permits.
func TestGrantsAgreeWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newGrantee(t, PolicyBase{})
		type known struct{ end time.Time }
		model := map[ResourceID]known{}
		ids := []ResourceID{"0", "1", "2", "3"}
		for step := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "id")
			switch rapid.IntRange(0, 3).Draw(rt, "event") {
			case 0, 1:
				r := cidr(id, "10.0.0.0/8")
				r.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, id[0]}), 16)
				k := known{}
				if rapid.Bool().Draw(rt, "expires") {
					r.Expires = h.now.Add(time.Duration(rapid.IntRange(-3000, 9000).Draw(rt, "in")) * time.Millisecond)
					k.end = r.Expires
					if !k.end.After(h.now) {
						k.end = h.now.Add(1)
					}
				}
				h.authorize(r)
				model[id] = k
			case 2:
				h.Revoke(id, h.now)
				h.publish()
				delete(model, id)
			case 3:
				h.run(h.now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(rt, "pass")) * time.Millisecond))
			}
			for _, id := range ids {
				k, ok := model[id]
				second := grantStart.Add(h.now.Sub(grantStart) / time.Second * time.Second)
				if ok && !k.end.IsZero() && !k.end.After(second) {
					delete(model, id)
					ok = false
				}
				_, v := h.admit(netip.AddrFrom4([4]byte{10, id[0], 0, 1}).String(), 1)
				if (v == fib.Pass) != ok {
					rt.Fatalf("step %d, resource %s at %v: %v, want permitted %v", step, id, h.now.Sub(grantStart), v, ok)
				}
			}
			if h.Empty() != (len(model) == 0) {
				rt.Fatal("wrong about being empty")
			}
		}
	})
}
