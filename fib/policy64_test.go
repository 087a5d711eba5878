package fib

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
)

func TestEmbeddedAddressesAreHeldToThePolicyOfTheAddress(t *testing.T) {
	spec := specOf(grant("10.0.0.0/8", tcpTo(443, 443)), grant("0.0.0.0/0", udpTo(9, 9)), grant("2001:db8::/32"))
	spec.Grants = append(spec.Grants, Grant{Prefix: netip.MustParsePrefix("192.0.2.0/24"), NoTranslate: true})
	spec.Names = []Name{nameOf("100.96.0.1", "10.0.0.1", nil)}
	spec.Prefix64 = ownPrefix64
	p := NewPolicy(spec)
	admits(t, p, []admitCase{
		{"a granted address", to("2001:db8:64::10.0.0.1"), real(TargetPrefix64, "10.0.0.1"), Pass},
		{"another port", to("2001:db8:64::10.0.0.1", port(80)), Target{}, ReplyProhibited},
		{"another address", to("2001:db8:64::11.0.0.1"), Target{}, ReplyProhibited},
		{"another prefix", to("64:ff9c::10.0.0.1"), Target{}, ReplyProhibited},
		{"multicast", to("2001:db8:64::224.0.0.1"), Target{}, DropMulticast},
		{"the gateway", to("2001:db8:64::100.64.0.1"), Target{}, ReplyProhibited},
		{"another client", to("2001:db8:64::100.64.0.8"), Target{}, ReplyProhibited},
		{"a name", to("2001:db8:64::100.96.0.1"), Target{}, ReplyUnreachable},
		{"an error", to("2001:db8:64::10.0.0.1", icmp(3)), Target{}, DropOutboundICMPError},
		{"where translation is off", to("2001:db8:64::192.0.2.1"), Target{}, ReplyUnreachable},
		{"where it is off, as it is", to("192.0.2.1"), Target{}, Pass},
		{"where it is off, by a shorter prefix", to("2001:db8:64::192.0.2.1", proto(packet.ProtoUDP), port(9)), real(TargetPrefix64, "192.0.2.1"), Pass},
	})
	for src, want := range map[string]Verdict{
		"2001:db8:64::10.0.0.1": Pass, "2001:db8:64::11.0.0.1": DropNotGranted, "2001:db8:64::100.64.0.8": DropNotGranted,
		"2001:db8:64::100.96.0.1": DropNotGranted, "2001:db8:64::192.0.2.1": DropNotGranted, "2001:db8:64::100.64.0.1": DropNotGranted,
	} {
		if v := p.AdmitReply(from(src)); v != want {
			t.Errorf("answer of %s: %v, want %v", src, v, want)
		}
	}
	if v := p.AdmitReply(from("2001:db8:64::203.0.113.1", icmp(3))); v != Pass {
		t.Errorf("an error of a router: %v", v)
	}
	if v := p.AdmitReply(from("2001:db8:64::100.64.0.8", icmp(3))); v != DropNotGranted {
		t.Errorf("an error of another client: %v", v)
	}
}

// RFC 6052, section 3.1: packets to the well-known prefix with an address that is not global are not
// translated, whatever is granted.
func TestTheWellKnownPrefixStandsForGlobalAddressesOnly(t *testing.T) {
	spec := specOf(grant("0.0.0.0/0"))
	spec.Prefix64 = wellKnown64
	p := NewPolicy(spec)
	admits(t, p, []admitCase{
		{"a global address", to("64:ff9b::9.9.9.9"), real(TargetPrefix64, "9.9.9.9"), Pass},
		{"a private address", to("64:ff9b::10.0.0.1"), Target{}, ReplyUnreachable},
		{"a link-local address", to("64:ff9b::169.254.169.254"), Target{}, ReplyUnreachable},
	})
	if v := p.AdmitReply(from("64:ff9b::10.0.0.1")); v != DropNotGranted {
		t.Errorf("answer of a private address: %v", v)
	}
}

func TestTheInternetThroughThePrefix(t *testing.T) {
	spec := specOf(grant("10.0.0.0/8"))
	spec.Internet, spec.Prefix64 = true, wellKnown64
	p := NewPolicy(spec)
	admits(t, p, []admitCase{
		{"a public address", to("64:ff9b::8.8.8.8"), real(TargetPrefix64, "8.8.8.8"), Pass},
		{"a link-local address", to("64:ff9b::169.254.169.254"), Target{}, ReplyUnreachable},
		{"a private address, though granted", to("64:ff9b::10.0.0.1"), Target{}, ReplyUnreachable},
		{"another client", to("64:ff9b::100.64.0.8"), Target{}, ReplyProhibited},
		{"an unused shared address", to("64:ff9b::100.127.0.1"), Target{}, ReplyUnreachable},
		{"another protocol", to("64:ff9b::8.8.8.8", proto(47)), Target{}, DropUntranslatable},
	})
	spec.InternetNoTranslate = true
	admits(t, NewPolicy(spec), []admitCase{{"switched off", to("64:ff9b::8.8.8.8"), Target{}, ReplyUnreachable}})
	spec.InternetNoTranslate, spec.Client4 = false, netip.Addr{}
	admits(t, NewPolicy(spec), []admitCase{{"no IPv4 address to come from", to("64:ff9b::8.8.8.8"), Target{}, ReplyUnreachable}})
	spec.Prefix64 = netip.Prefix{}
	admits(t, NewPolicy(spec), []admitCase{
		{"a private address, without a prefix", to("64:ff9b::10.8.8.8"), Target{}, ReplyUnreachable},
		{"a public address, without a prefix", to("64:ff9b::8.8.8.8"), Target{}, Pass},
	})
}

func TestAllPrefixLengths(t *testing.T) {
	// RFC 6052, section 2.4.
	for prefix, dst := range map[string]string{
		"2001:db8::/32": "2001:db8:c000:221::", "2001:db8:100::/40": "2001:db8:1c0:2:21::", "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::", "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
	} {
		spec := specOf(grant("192.0.2.33/32"), grant("::/0"))
		spec.Prefix64 = netip.MustParsePrefix(prefix)
		p := NewPolicy(spec)
		cases := []admitCase{{prefix, to(dst), real(TargetPrefix64, "192.0.2.33"), Pass}}
		if spec.Prefix64.Bits() < 96 {
			b := netip.MustParseAddr(dst).As16()
			b[8] = 1
			cases = append(cases, admitCase{prefix + " with the reserved octet set", to(netip.AddrFrom16(b).String()), Target{}, ReplyUnreachable})
		}
		admits(t, p, cases)
	}
	spec := specOf(grant("::/0"))
	spec.Prefix64 = netip.MustParsePrefix("2001:db8::/95")
	p := NewPolicy(spec)
	if _, ok := p.Prefix64(); ok {
		t.Error("a prefix of 95 bits was taken")
	}
}

func TestStatelessTranslationCarriesWhatStateCannot(t *testing.T) {
	spec := specOf(grant("192.0.2.0/24"))
	spec.Prefix64, spec.Fragments = ownPrefix64, true
	stateful := []admitCase{
		{"a fragment", to("2001:db8:64::192.0.2.1", first), Target{}, DropFragment},
		{"another protocol", to("2001:db8:64::192.0.2.1", proto(132)), Target{}, DropUntranslatable},
	}
	p := NewPolicy(spec)
	if admits(t, p, stateful); p.Stateless() {
		t.Error("stateless")
	}
	spec.Stateless = true
	p = NewPolicy(spec)
	for i := range stateful {
		stateful[i].target, stateful[i].want = real(TargetPrefix64, "192.0.2.1"), Pass
	}
	if admits(t, p, stateful); !p.Stateless() {
		t.Error("not stateless")
	}
	if x, ok := p.Prefix64(); !ok || x.Prefix() != ownPrefix64 {
		t.Error("wrong prefix")
	}
}
