package packet

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func prefix64(t fataler, s string) Prefix64 {
	t.Helper()
	p, err := NewPrefix64(netip.MustParsePrefix(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The examples of RFC 6052, section 2.4.
func TestPrefix64Vectors(t *testing.T) {
	v4 := netip.MustParseAddr("192.0.2.33")
	for _, c := range []struct{ prefix, address string }{
		{"2001:db8::/32", "2001:db8:c000:221::"},
		{"2001:db8:100::/40", "2001:db8:1c0:2:21::"},
		{"2001:db8:122::/48", "2001:db8:122:c000:2:2100::"},
		{"2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"},
		{"2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"},
		{"2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"},
		{"64:ff9b::/96", "64:ff9b::192.0.2.33"},
	} {
		p, want := prefix64(t, c.prefix), netip.MustParseAddr(c.address)
		if got := p.Embed(v4); got != want {
			t.Errorf("%s: embedded as %v, want %v", c.prefix, got, want)
		}
		if got, ok := p.Extract(want); !ok || got != v4 {
			t.Errorf("%s: extracted %v, %v", c.prefix, got, ok)
		}
		if !p.Contains(want) || p.Prefix().String() != c.prefix {
			t.Errorf("%s: prefix %v", c.prefix, p.Prefix())
		}
	}
}

func TestNewPrefix64Refuses(t *testing.T) {
	for _, s := range []string{
		"0.0.0.0/0", "192.0.2.0/24", "::ffff:0:0/96", "2001:db8::/31", "2001:db8::/33", "2001:db8::/0",
		"2001:db8::/72", "2001:db8::/95", "2001:db8::/128", "2001:db8:0:0:100::/96", "2001:db8::ff00:0:0:0/96",
	} {
		if p, err := NewPrefix64(netip.MustParsePrefix(s)); err == nil {
			t.Errorf("accepted %v", p.Prefix())
		}
	}
	if _, err := NewPrefix64(netip.Prefix{}); err == nil {
		t.Error("accepted the zero prefix")
	}
	t.Run("bits of u behind the prefix are ignored", func(t *testing.T) {
		p := prefix64(t, "2001:db8:122:344:ffff::1/64")
		if p.Prefix() != netip.MustParsePrefix("2001:db8:122:344::/64") {
			t.Errorf("prefix %v", p.Prefix())
		}
	})
}

func TestPrefix64Extract(t *testing.T) {
	for _, c := range []struct {
		name, prefix, address string
		want                  string // empty: refused
	}{
		{"suffix is ignored", "2001:db8:122::/48", "2001:db8:122:c000:2:21ff:ffff:ffff", "192.0.2.33"},
		{"suffix of the shortest prefix", "2001:db8::/32", "2001:db8:c000:221:ff:ffff:ffff:ffff", "192.0.2.33"},
		{"bits in u", "2001:db8:122::/48", "2001:db8:122:c000:102:2100::", ""},
		{"bits in u behind the address", "2001:db8::/32", "2001:db8:c000:221:8000::", ""},
		{"another prefix", "2001:db8:122::/48", "2001:db8:123:c000:2:2100::", ""},
		{"almost the well-known prefix", "64:ff9b::/96", "64:ff9b::1:c000:221", ""},
		{"an IPv4 address", "64:ff9b::/96", "192.0.2.33", ""},
		{"a mapped address", "64:ff9b::/96", "::ffff:192.0.2.33", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := prefix64(t, c.prefix)
			got, ok := p.Extract(netip.MustParseAddr(c.address))
			if ok != (c.want != "") || ok && got.String() != c.want {
				t.Errorf("extracted %v, %v", got, ok)
			}
		})
	}
	var none Prefix64
	if _, ok := none.Extract(netip.MustParseAddr("64:ff9b::1.2.3.4")); ok || none.Contains(netip.IPv6Unspecified()) {
		t.Error("the zero Prefix64 contains something")
	}
}

// The well-known prefix stands for global addresses only, other prefixes for all (RFC 6052, 3.1).
func TestPrefix64Represents(t *testing.T) {
	known, own, local := prefix64(t, "64:ff9b::/96"), prefix64(t, "2001:db8::/96"), prefix64(t, "64:ff9b:1::/48")
	for s, global := range map[string]bool{
		"8.8.8.8": true, "192.0.1.1": true, "100.63.255.255": true, "100.128.0.0": true, "172.32.0.1": true, "223.255.255.255": true, "198.20.0.1": true,
		"0.0.0.0": false, "10.0.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "127.0.0.1": false, "169.254.169.254": false,
		"172.16.0.1": false, "172.31.255.255": false, "192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.1.1": false,
		"198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "240.0.0.1": false,
		"255.255.255.255": false,
	} {
		a := netip.MustParseAddr(s)
		if known.Represents(a) != global {
			t.Errorf("%s under the well-known prefix: %v", s, !global)
		}
		if !own.Represents(a) || !local.Represents(a) {
			t.Errorf("%s is refused under a network's own prefix", s)
		}
	}
	if known.Represents(netip.MustParseAddr("2001:db8::1")) || own.Represents(netip.Addr{}) {
		t.Error("represents what is no IPv4 address")
	}
}

// Extraction undoes embedding, and under a neutral prefix an address and its embedding have the
// same sum.
func TestPrefix64RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "prefix"))
		b[0], b[octetU] = 0x20|b[0]&0x1f, 0
		p, err := NewPrefix64(netip.PrefixFrom(netip.AddrFrom16(b), rapid.SampledFrom([]int{32, 40, 48, 56, 64, 96}).Draw(t, "bits")))
		if err != nil {
			t.Fatal(err)
		}
		v4 := drawAddr(t, false, "address")
		v6 := p.Embed(v4)
		got, ok := p.Extract(v6)
		if !ok || got != v4 || v6.As16()[octetU] != 0 {
			t.Fatalf("%v under %v is %v, which is %v, %v", v4, p.Prefix(), v6, got, ok)
		}
	})
}

func TestPrefix64Neutral(t *testing.T) {
	for s, want := range map[string]bool{
		"64:ff9b::/96": true, "2001:dffe::/32": true, "2001:db8:0:d246::/96": true,
		"2001:db8::/32": false, "2001:db8::/96": false, "2001:dffe::/48": false, "2001:dffe::/64": false, "2001:dffe::/40": false,
	} {
		p := prefix64(t, s)
		same := true
		for _, a := range []string{"192.0.2.33", "1.2.3.4", "255.0.0.1"} {
			v4 := netip.MustParseAddr(a)
			same = same && Fold(DeltaAddr(v4, p.Embed(v4)))%0xffff == 0
		}
		if same != want {
			t.Errorf("%s: sums are the same: %v", s, same)
		}
	}
}

func TestPrefix64AllocatesNothing(t *testing.T) {
	p, v4 := prefix64(t, "2001:db8:122::/48"), netip.MustParseAddr("192.0.2.33")
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := p.Extract(p.Embed(v4)); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkPrefix64(b *testing.B) {
	p, v4 := prefix64(b, "64:ff9b::/96"), netip.MustParseAddr("8.8.8.8")
	v6 := p.Embed(v4)
	b.Run("Embed", func(b *testing.B) {
		for b.Loop() {
			v6 = p.Embed(v4)
		}
	})
	b.Run("Extract", func(b *testing.B) {
		for b.Loop() {
			v4, _ = p.Extract(v6)
		}
	})
}
