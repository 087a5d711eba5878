package control

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/fib"
	"pgregory.net/rapid"
)

func addrs(s string) (all []netip.Addr) {
	for _, f := range strings.Fields(s) {
		all = append(all, netip.MustParseAddr(f))
	}
	return all
}

// reals returns where TCP to port 443 of each address goes.
func (h *grantee) reals(dsts string) string {
	var all []string
	for _, d := range strings.Fields(dsts) {
		real, v := h.admit(d, 443)
		if v != fib.Pass {
			all = append(all, v.String())
		} else {
			all = append(all, real.String())
		}
	}
	return strings.Join(all, " ")
}

const (
	four4 = "100.96.0.4 100.96.0.2 100.96.0.1 100.96.0.3"
	four6 = "fd00:2021:1111:8000::3 fd00:2021:1111:8000:: fd00:2021:1111:8000::2 fd00:2021:1111:8000::1"
	in4   = "100.96.0.1 100.96.0.2 100.96.0.3 100.96.0.4"
	in6   = "fd00:2021:1111:8000:: fd00:2021:1111:8000::1 fd00:2021:1111:8000::2 fd00:2021:1111:8000::3"
)

func TestProxyAddressesAreDealtOutInOrder(t *testing.T) {
	for _, c := range []struct{ name, resolved, want4, want6 string }{
		{"both families", "192.0.2.9 2001:db8::2 192.0.2.1 2001:db8::1 192.0.2.5",
			"192.0.2.1 192.0.2.5 192.0.2.9 192.0.2.1", "2001:db8::1 2001:db8::2 2001:db8::1 2001:db8::2"},
		{"IPv4 alone", "192.0.2.2 192.0.2.1", "192.0.2.1 192.0.2.2 192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2 192.0.2.1 192.0.2.2"},
		{"IPv6 alone", "2001:db8::1", "2001:db8::1 2001:db8::1 2001:db8::1 2001:db8::1", "2001:db8::1 2001:db8::1 2001:db8::1 2001:db8::1"},
		{"sorted by number, not by text", "192.0.2.10 192.0.2.9", "192.0.2.9 192.0.2.10 192.0.2.9 192.0.2.10", "192.0.2.9 192.0.2.10 192.0.2.9 192.0.2.10"},
		{"none", "", strings.TrimSpace(strings.Repeat("ReplyUnreachable ", 4)), strings.TrimSpace(strings.Repeat("ReplyUnreachable ", 4))},
	} {
		h := newGrantee(t, PolicyBase{})
		h.authorize(dnsResource(t, "a", "**.example.com"))
		if s := h.assign("a", "app.example.com", four6+" "+four4, c.resolved); s != Active {
			t.Errorf("%s: %v", c.name, s)
		}
		if got := h.reals(in4); got != c.want4 {
			t.Errorf("%s: IPv4 %s, want %s", c.name, got, c.want4)
		}
		if got := h.reals(in6); got != c.want6 {
			t.Errorf("%s: IPv6 %s, want %s", c.name, got, c.want6)
		}
	}
}

func TestWithoutTranslationTheOtherFamilyIsUnreachable(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	r := dnsResource(t, "a", "app.example.com")
	r.NoTranslate = true
	h.authorize(r)
	h.assign("a", "app.example.com", four4+" "+four6, "192.0.2.1")
	if got := h.reals(in6); got != strings.TrimSpace(strings.Repeat("ReplyUnreachable ", 4)) {
		t.Error(got)
	}
	if got := h.reals("100.96.0.1"); got != "192.0.2.1" {
		t.Error(got)
	}
}

func TestAnnouncementsAreChecked(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(dnsResource(t, "a", "*.example.com"))
	h.authorize(cidr("net", "10.0.0.0/8"))
	for _, c := range []struct {
		name    string
		id      ResourceID
		domain  string
		proxies string
		want    NameStatus
	}{
		{"a name that matches", "a", "app.example.com", "100.96.0.1", Active},
		{"letter case aside, with a final dot", "a", "APP.example.com.", "100.96.0.1", Active},
		{"a name that does not", "a", "a.b.example.com", "100.96.0.9", Inactive},
		{"a resource that is not granted", "b", "app.example.com", "100.96.0.9", Inactive},
		{"a resource of another type", "net", "app.example.com", "100.96.0.9", Inactive},
		{"an address of a resource", "a", "app.example.com", "100.96.0.9 10.0.0.1", Inactive},
		{"the address of a client", "a", "app.example.com", "100.64.0.8", Inactive},
		{"a mapped address", "a", "app.example.com", "::ffff:100.96.0.9", Inactive},
		{"too many addresses", "a", "app.example.com", four4 + " " + four6 + " 100.96.0.9", Inactive},
		{"a name without end", "a", strings.Repeat("a.", 130) + "example.com", "100.96.0.9", Inactive},
	} {
		if s := h.assign(c.id, c.domain, c.proxies, "192.0.2.1"); s != c.want {
			t.Errorf("%s: %v", c.name, s)
		}
		h.expect(c.name, "100.96.0.9", fib.ReplyProhibited)
	}
	h.expect("the name that matched", "100.96.0.1", fib.Pass)
	if h.resets != 0 {
		t.Error("flows were dropped")
	}
	if !h.MayAssign("a", "x.example.com") || h.MayAssign("a", "x.y") || h.MayAssign("net", "x.example.com") || h.MayAssign("b", "x.example.com") {
		t.Error("wrong about what may be resolved")
	}
}

func TestAClientThatRenumbersStartsAnew(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(dnsResource(t, "a", "*.example.com"))
	h.assign("a", "one.example.com", "100.96.0.1 100.96.0.2", "192.0.2.1")
	h.assign("a", "two.example.com", "100.96.0.3", "192.0.2.2")
	h.assign("a", "one.example.com", "100.96.0.1", "192.0.2.7")
	if got := h.reals("100.96.0.1 100.96.0.2 100.96.0.3"); got != "192.0.2.7 192.0.2.1 192.0.2.2" || h.resets != 0 {
		t.Errorf("%s, %d resets", got, h.resets)
	}
	if s := h.assign("a", "two.example.com", "100.96.0.2", "192.0.2.2"); s != Active || h.resets != 1 {
		t.Errorf("%v, %d resets", s, h.resets)
	}
	if got := h.reals("100.96.0.1 100.96.0.2 100.96.0.3"); got != "ReplyProhibited 192.0.2.2 ReplyProhibited" {
		t.Error(got)
	}
	// An announcement that is itself invalid drops them all the same.
	if s := h.assign("a", "elsewhere.org", "100.96.0.2", "192.0.2.2"); s != Inactive || h.resets != 2 {
		t.Errorf("%v, %d resets", s, h.resets)
	}
	h.expect("all names are gone", "100.96.0.2", fib.ReplyProhibited)
}

func TestFlowsAreDroppedOnceThePolicyHasChanged(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(dnsResource(t, "a", "*.example.com"))
	h.assign("a", "one.example.com", "100.96.0.1", "192.0.2.1")
	h.AssignNames(Assignment{Resource: "a", Domain: "two.example.com", Proxies: addrs("100.96.0.1"), Resolved: addrs("192.0.2.1")}, h.now)
	changes := h.Drain(nil)
	if len(changes) != 2 {
		t.Fatalf("%d changes", len(changes))
	}
	// In this order: a worker that still has the old policy begins no flow after the reset.
	policy, first := changes[0].(fib.SetPolicy)
	reset, second := changes[1].(fib.ResetFlows)
	if !first || !second || reset.Peer != h.peer || reset.Epoch != 1 || policy.Policy.Epoch() != 1 {
		t.Errorf("%T, %+v", changes[0], changes[1])
	}
}

func TestNamesSharedByResources(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(dnsResource(t, "a", "app.example.com", web))
	h.authorize(dnsResource(t, "b", "*.example.com", ssh))
	h.assign("a", "app.example.com", "100.96.0.1", "192.0.2.1")
	h.assign("b", "app.example.com", "100.96.0.1", "192.0.2.1")
	permitted := func(what string, https, shell fib.Verdict) {
		t.Helper()
		h.publish()
		h.expect(what, "100.96.0.1", https)
		if _, v := h.admit("100.96.0.1", 22); v != shell {
			t.Errorf("%s: ssh %v, want %v", what, v, shell)
		}
	}
	permitted("both", fib.Pass, fib.Pass)
	h.Revoke("a", h.now)
	permitted("one", fib.ReplyProhibited, fib.Pass)
	h.Revoke("b", h.now)
	permitted("none", fib.ReplyProhibited, fib.ReplyProhibited)
	h.authorize(dnsResource(t, "a", "app.example.com", web))
	permitted("the first again, without a new announcement", fib.Pass, fib.ReplyProhibited)
	if h.resets != 0 {
		t.Error("flows were dropped")
	}
}

func TestNamesThatAreRevokedAreNotReachedThroughAPrefix(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(cidr("net", "0.0.0.0/0"))
	h.authorize(dnsResource(t, "a", "app.example.com", ssh))
	h.assign("a", "app.example.com", "100.96.0.1", "192.0.2.1")
	h.expect("resources add up", "100.96.0.1", fib.Pass)
	h.Revoke("a", h.now)
	h.publish()
	h.expect("revoked", "100.96.0.1", fib.ReplyUnreachable)
}

func TestNamesAreBounded(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(dnsResource(t, "a", "**"))
	h.authorize(dnsResource(t, "b", "**"))
	a := netip.MustParseAddr("100.96.0.0")
	for range fib.MaxNames {
		h.names[a] = &proxyName{domain: "x", resources: []ResourceID{"a"}}
		a = a.Next()
	}
	if s := h.assign("b", "x", a.String(), "192.0.2.1"); s != Inactive {
		t.Error("one too many was taken")
	}
	if s := h.assign("b", "x", "100.96.0.0", "192.0.2.1"); s != Active {
		t.Error("one that is there was refused")
	}
	h.Revoke("a", h.now)
	if s := h.assign("b", "x", a.String(), "192.0.2.1"); s != Active || len(h.names) != 2 {
		t.Errorf("no room is made of %d names of revoked resources", len(h.names))
	}
	for i := range 2 * maxSharing {
		id := ResourceID(fmt.Sprint("r", i))
		h.authorize(dnsResource(t, id, "**"))
		if s := h.assign(id, "x", a.String(), "192.0.2.1"); (s == Active) != (i < maxSharing-1) {
			t.Errorf("resource %d to share a name: %v", i, s)
		}
	}
	h.Revoke("r0", h.now)
	if s := h.assign("r20", "x", a.String(), "192.0.2.1"); s != Active {
		t.Error("no room is made of revoked resources")
	}
}

func TestApplyMakesThePolicyWhatAFileSays(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	first := ClientPolicy{
		Resources: []Resource{cidr("a", "10.0.0.0/8"), cidr("b", "11.0.0.0/8", web), dnsResource(t, "n", "app.example.com")},
		Names:     []Assignment{{Resource: "n", Domain: "app.example.com", Proxies: addrs("100.96.0.1"), Resolved: addrs("192.0.2.1")}},
	}
	second := ClientPolicy{Resources: []Resource{cidr("a", "12.0.0.0/8"), cidr("b", "11.0.0.0/8")}}
	apply := func(c ClientPolicy) {
		t.Helper()
		if err := h.Apply(c, h.now); err != nil {
			t.Fatal(err)
		}
		h.publish()
	}
	apply(first)
	if got := h.reals("10.0.0.1 11.0.0.1 12.0.0.1 100.96.0.1"); got != "invalid IP invalid IP ReplyProhibited 192.0.2.1" {
		t.Error(got)
	}
	apply(second)
	if got := h.reals("10.0.0.1 11.0.0.1 12.0.0.1 100.96.0.1"); got != "ReplyProhibited invalid IP invalid IP ReplyProhibited" {
		t.Error(got)
	}
	first.Names[0].Domain = "other.example.com"
	if err := h.Apply(first, h.now); !errors.Is(err, ErrConfig) {
		t.Errorf("a name that does not match: %v", err)
	}
	first.Resources[1].ID = ""
	if err := h.Apply(first, h.now); !errors.Is(err, ErrConfig) {
		t.Errorf("a resource without id: %v", err)
	}
}

func TestPolicyBaseIsChecked(t *testing.T) {
	prefixes := func(s string) (all []netip.Prefix) {
		for _, f := range strings.Fields(s) {
			all = append(all, netip.MustParsePrefix(f))
		}
		return all
	}
	good := PolicyBase{
		Gateway4: netip.MustParseAddr("100.64.0.1"), Gateway6: netip.MustParseAddr("fd00:2021:1111::1"),
		Prefix64: netip.MustParsePrefix("64:ff9b::/96"), Stateless: true,
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, b := range map[string]PolicyBase{
		"a prefix of 95 bits":         {Prefix64: netip.MustParsePrefix("64:ff9b::/95")},
		"a prefix around clients":     {Prefix64: netip.MustParsePrefix("fd00:2021::/32")},
		"stateless without a prefix":  {Stateless: true},
		"ranges that overlap":         {TunnelRanges: prefixes("10.0.0.0/8"), ProxyRanges: prefixes("10.1.0.0/16")},
		"a range with host bits":      {TunnelRanges: prefixes("10.0.0.1/8")},
		"a gateway elsewhere":         {Gateway4: netip.MustParseAddr("10.0.0.1")},
		"a gateway of another family": {Gateway4: netip.MustParseAddr("fd00:2021:1111::1")},
		"too many ranges":             {TunnelRanges: prefixes(strings.Repeat("10.0.0.0/8 ", maxRanges+1))},
	} {
		if err := b.Check(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []string{"10.0.0.1", "100.64.0.1"} {
		if _, err := NewGrants(GrantsConfig{Base: good, Addr4: netip.MustParseAddr(s)}, time.Time{}); !errors.Is(err, ErrConfig) {
			t.Errorf("client address %s: %v", s, err)
		}
	}
}

func TestRePublishingManyNames(t *testing.T) {
	h := newGrantee(t, PolicyBase{})
	h.authorize(dnsResource(t, "a", "**"))
	for i := range 200 {
		p := netip.AddrFrom4([4]byte{100, 96, 1, byte(i)}).String()
		if h.assign("a", fmt.Sprintf("n%d.example.com", i), p, "192.0.2.1") != Active {
			t.Fatal("refused")
		}
		before := h.peer.Policy()
		h.assign("a", fmt.Sprintf("n%d.example.com", i), p, "192.0.2.1")
		if h.peer.Policy() != before {
			t.Fatal("an announcement without news made a new policy")
		}
	}
}

func BenchmarkDrain(b *testing.B) {
	for _, n := range []int{100, 4000, fib.MaxNames} {
		b.Run(fmt.Sprintf("names=%d", n), func(b *testing.B) {
			h := newGrantee(b, PolicyBase{})
			h.authorize(dnsResource(b, "a", "**", web, ssh))
			a := netip.MustParseAddr("100.96.0.0")
			for range n {
				h.names[a] = &proxyName{domain: "x", resources: []ResourceID{"a"}, real: netip.MustParseAddr("192.0.2.1")}
				a = a.Next()
			}
			for b.Loop() {
				h.dirty = true
				h.Drain(nil)
			}
		})
	}
}

// TestDealingOutAgreesWithTheRule compares any announcement with the rule: the i-th proxy address
// of a family leads to the resolved address i mod n of that family, or else of the other.
func TestDealingOutAgreesWithTheRule(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newGrantee(t, PolicyBase{})
		h.authorize(dnsResource(t, "a", "app.example.com"))
		draw := func(what, prefix4, prefix6 string, most int) (all []netip.Addr) {
			for _, n := range rapid.SliceOfN(rapid.IntRange(1, 99), 0, most).Draw(rt, what+" IPv4") {
				all = append(all, netip.MustParseAddr(fmt.Sprint(prefix4, n)))
			}
			for _, n := range rapid.SliceOfN(rapid.IntRange(1, 99), 0, most).Draw(rt, what+" IPv6") {
				all = append(all, netip.MustParseAddr(fmt.Sprint(prefix6, n)))
			}
			return rapid.Permutation(all).Draw(rt, "order")
		}
		proxies := draw("proxy", "100.96.0.", "fd00:2021:1111:8000::", 4)
		resolved := draw("resolved", "192.0.2.", "2001:db8::", 5)
		if h.AssignNames(Assignment{"a", "app.example.com", proxies, resolved}, h.now) != Active {
			rt.Fatal("refused")
		}
		h.publish()
		split := map[bool][2][]netip.Addr{}
		for _, v6 := range []bool{false, true} {
			var of [2][]netip.Addr
			for i, from := range [2][]netip.Addr{proxies, resolved} {
				for _, a := range from {
					if a.Is6() == v6 && !slices.Contains(of[i], a) {
						of[i] = append(of[i], a)
					}
				}
				slices.SortFunc(of[i], netip.Addr.Compare)
			}
			split[v6] = of
		}
		for _, v6 := range []bool{false, true} {
			reals := split[v6][1]
			if len(reals) == 0 {
				reals = split[!v6][1]
			}
			for i, proxy := range split[v6][0] {
				real, v := h.admit(proxy.String(), 443)
				if len(reals) == 0 && v != fib.ReplyUnreachable || len(reals) > 0 && (v != fib.Pass || real != reals[i%len(reals)]) {
					rt.Fatalf("%v leads to %v (%v); resolved %v", proxy, real, v, reals)
				}
			}
		}
	})
}
