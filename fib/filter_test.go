package fib

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
	"pgregory.net/rapid"
)

// listPermits is the text of the protocol, line by line.
func listPermits(list []Filter, info *packet.Info, port uint16) bool {
	if len(list) == 0 {
		return true
	}
	for _, f := range list {
		switch f.Protocol {
		case packet.ProtoTCP, packet.ProtoUDP:
			if info.Proto == f.Protocol && f.First <= port && port <= f.Last {
				return true
			}
		case packet.ProtoICMP:
			if info.Version == 4 && info.Proto == packet.ProtoICMP || info.Version == 6 && info.Proto == packet.ProtoICMPv6 {
				return true
			}
		}
	}
	return false
}

// refused is the decision by the rule for overlapping resources: of all grants whose prefix holds
// the address, the greatest by, in order, that it permits the packet, prefix length and resource
// id (here the index) is asked.
func refused(grants []Grant, info *packet.Info, a netip.Addr, port uint16) bool {
	best, permits := -1, false
	for i, g := range grants {
		if !g.Prefix.Contains(a) {
			continue
		}
		ok := listPermits(g.Filters, info, port)
		if best < 0 || ok && !permits || ok == permits && g.Prefix.Bits() >= grants[best].Prefix.Bits() {
			best, permits = i, ok
		}
	}
	return !permits
}

func drawFilters(t *rapid.T) []Filter {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Filter {
		a, b := rapid.Uint16Range(0, 40).Draw(t, "first"), rapid.Uint16Range(0, 40).Draw(t, "last")
		if rapid.IntRange(0, 5).Draw(t, "whole") == 0 {
			a, b = 0, 65535
		}
		if a > b && rapid.Bool().Draw(t, "forwards") {
			a, b = b, a
		}
		return Filter{rapid.SampledFrom([]uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, 132}).Draw(t, "proto"), a, b}
	}), 0, 6).Draw(t, "filters")
}

// drawAddr draws from a small world, so that prefixes nest.
func drawAddr(t *rapid.T) netip.Addr {
	n := rapid.Uint8().Draw(t, "host")
	if rapid.Bool().Draw(t, "v6") {
		return netip.AddrFrom16([16]byte{0x20, 1, 15: n})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, n})
}

func TestCompiledFiltersDecideAsTheRuleSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grants := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Grant {
			a := drawAddr(t)
			bits := a.BitLen() - rapid.IntRange(0, 9).Draw(t, "open")
			if rapid.IntRange(0, 20).Draw(t, "everything") == 0 {
				bits = 0
			}
			return Grant{Prefix: netip.PrefixFrom(a, bits), Filters: drawFilters(t)}
		}), 0, 30).Draw(t, "grants")
		var translated []Grant
		for i := range grants {
			if grants[i].NoTranslate = rapid.IntRange(0, 3).Draw(t, "off") == 0; !grants[i].NoTranslate {
				translated = append(translated, grants[i])
			}
		}
		spec := specOf(grants...)
		spec.Prefix64 = ownPrefix64
		p := NewPolicy(spec)
		for range 40 {
			a := drawAddr(t)
			info := to(a.String(), port(rapid.Uint16Range(0, 41).Draw(t, "port")))
			info.Proto = rapid.SampledFrom([]uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6, 132}).Draw(t, "proto")
			info.ICMPType = 200
			want := refused(grants, info, a, info.DstPort)
			if _, v := p.Admit(info); (v != Pass) != want {
				t.Fatalf("%+v: %v, refused should be %v", info, v, want)
			}
			info.Src, info.Dst, info.SrcPort, info.DstPort = info.Dst, info.Src, info.DstPort, info.SrcPort
			if v := p.AdmitReply(info); (v != Pass) != want {
				t.Fatalf("answer %+v: %v, refused should be %v", info, v, want)
			}
			if a.Is6() {
				continue
			}
			info = to(p.prefix64.Embed(a).String(), port(info.SrcPort))
			info.Proto = rapid.SampledFrom([]uint8{packet.ProtoTCP, packet.ProtoUDP}).Draw(t, "proto")
			want = refused(translated, info, a, info.DstPort)
			if _, v := p.Admit(info); (v != Pass) != want {
				t.Fatalf("embedded %+v: %v, refused should be %v", info, v, want)
			}
		}
	})
}

func TestOverlappingResourcesAddUp(t *testing.T) {
	p := NewPolicy(specOf(grant("10.0.0.0/8", tcpTo(443, 443)), grant("10.0.0.1/32", icmpFilter), grant("10.0.0.1/32", udpTo(53, 53)),
		grant("10.0.0.0/24", Filter{Protocol: 132})))
	admits(t, p, []admitCase{
		{"by the shorter prefix", to("10.0.0.1"), Target{}, Pass},
		{"by the longer", to("10.0.0.1", icmp(8)), Target{}, Pass},
		{"by neither", to("10.0.0.1", port(80)), Target{}, ReplyProhibited},
		{"a list of unknown lines only permits nothing", to("10.0.0.9", icmp(8)), Target{}, ReplyProhibited},
	})
}

func TestRangesAreMerged(t *testing.T) {
	var r rules
	r.add([]Filter{tcpTo(10, 20), tcpTo(21, 30), tcpTo(65535, 65535), tcpTo(0, 0), tcpTo(15, 18), tcpTo(40, 35), udpTo(0, 65535), udpTo(7, 7)})
	r.finish()
	if got := fmt.Sprint(r); got != "{false false [{0 0} {10 30} {65535 65535}] [{0 65535}] <nil>}" {
		t.Error(got)
	}
}

func TestRulesTooLargeToBeJoinedStillAddUp(t *testing.T) {
	c := compiler{made: map[string]*rules{}, room: 1}
	build := func(list ...Filter) *rules { r := new(rules); r.add(list); return r }
	outer := c.joined(build(tcpTo(1, 1), tcpTo(3, 3)), nil)
	middle := c.joined(build(tcpTo(5, 5)), outer)
	inner := c.joined(build(tcpTo(7, 7)), middle)
	if middle.wider != outer || inner.wider != middle {
		t.Fatal("the rules were copied")
	}
	for port := range uint16(10) {
		if got, want := inner.permits(traffic{kindTCP, port}), port%2 == 1 && port < 9; got != want {
			t.Errorf("port %d: %v", port, got)
		}
	}
	if inner.permits(traffic{kindICMP, 0}) || !c.joined(build(), inner).permits(traffic{kindICMP, 0}) {
		t.Error("permit-all is lost or appears")
	}
}

func TestEqualRulesAreShared(t *testing.T) {
	spec := specOf(grant("10.0.0.0/8", tcpTo(1, 2)), grant("10.1.0.0/16", tcpTo(1, 1)), grant("10.2.0.0/16", tcpTo(2, 2)), grant("192.0.2.0/24", tcpTo(1, 2)))
	spec.Prefix64 = wellKnown64
	p := NewPolicy(spec)
	a, _ := p.table.Lookup(netip.MustParseAddr("10.1.0.1"))
	for _, s := range []string{"10.2.0.1", "10.3.0.1", "192.0.2.1"} {
		if b, _ := p.table.Lookup(netip.MustParseAddr(s)); a.rules != b.rules || a.embedded != b.rules {
			t.Errorf("%s has rules of its own", s)
		}
	}
}

// policyOf returns a policy with n grants of two ranges each, half of either family, and as many
// packets that they admit.
func policyOf(n int) (*Policy, []packet.Info) {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	var grants []Grant
	var infos []packet.Info
	for i := range n {
		at := uint16(rng.Uint32N(60000))
		g := Grant{Filters: []Filter{tcpTo(443, 443), tcpTo(at, at+99), udpTo(53, 53)}}
		if i%2 == 0 {
			g.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32())}), 16+rng.IntN(17))
		} else {
			g.Prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(rng.Uint32()), byte(rng.Uint32()), byte(rng.Uint32()), 15: 1}), 40+rng.IntN(89))
		}
		grants = append(grants, g)
		infos = append(infos, *to(g.Prefix.Addr().String(), port(at)))
	}
	return NewPolicy(specOf(grants...)), infos
}

func TestAdmitAllocatesNothing(t *testing.T) {
	p, infos := policyOf(1000)
	infos = append(infos, *to("100.64.0.1"), *to("9.9.9.9"), *to("100.96.0.1"), *to("64:ff9b::10.0.0.1"), *to("10.0.0.1", icmp(3)))
	n := testing.AllocsPerRun(10, func() {
		for i := range infos {
			p.Admit(&infos[i])
			p.AdmitReply(&infos[i])
		}
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkAdmit(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		p, infos := policyOf(n)
		var four, six []packet.Info
		for _, i := range infos {
			if i.Version == 4 {
				four = append(four, i)
			} else {
				six = append(six, i)
			}
		}
		for name, infos := range map[string][]packet.Info{"IPv4": four, "IPv6": six} {
			b.Run(fmt.Sprintf("%s/grants=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for at := 0; b.Loop(); at++ {
					if at == len(infos) {
						at = 0
					}
					if _, v := p.Admit(&infos[at]); v != Pass {
						b.Fatal(v)
					}
				}
			})
		}
	}
}

func BenchmarkNewPolicy(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("grants=%d", n), func(b *testing.B) {
			for b.Loop() {
				policyOf(n)
			}
		})
	}
}
