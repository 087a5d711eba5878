package fib

import (
	"net/netip"
	"testing"

	"github.com/firelane/firelane/packet"
)

var (
	client4, client6   = netip.MustParseAddr("100.64.0.7"), netip.MustParseAddr("fd00:2021:1111::7")
	gateway4, gateway6 = netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00:2021:1111::1")
	ownPrefix64        = netip.MustParsePrefix("2001:db8:64::/96")
	wellKnown64        = netip.MustParsePrefix("64:ff9b::/96")
)

// specOf returns the spec of a client with addresses of both families, and fills in grants.
func specOf(grants ...Grant) PolicySpec {
	return PolicySpec{Client4: client4, Client6: client6, Gateway4: gateway4, Gateway6: gateway6, Grants: grants}
}

func grant(prefix string, filters ...Filter) Grant {
	return Grant{Prefix: netip.MustParsePrefix(prefix), Filters: filters}
}

func tcpTo(first, last uint16) Filter { return Filter{packet.ProtoTCP, first, last} }
func udpTo(first, last uint16) Filter { return Filter{packet.ProtoUDP, first, last} }

var icmpFilter = Filter{Protocol: packet.ProtoICMP}

func nameOf(proxy, real string, lists ...[]Filter) Name {
	n := Name{Proxy: netip.MustParseAddr(proxy), Lists: lists}
	if real != "" {
		n.Real = netip.MustParseAddr(real)
	}
	return n
}

// to returns a TCP packet of the client to port 443 of an address, changed by edits.
func to(dst string, edits ...func(*packet.Info)) *packet.Info {
	a := netip.MustParseAddr(dst)
	info := &packet.Info{Src: client4, Dst: a, Version: 4, Proto: packet.ProtoTCP, SrcPort: 50000, DstPort: 443}
	if a.Is6() {
		info.Src, info.Version = client6, 6
	}
	for _, e := range edits {
		e(info)
	}
	return info
}

// from returns the answer to what to returns.
func from(src string, edits ...func(*packet.Info)) *packet.Info {
	info := to(src, edits...)
	info.Src, info.Dst = info.Dst, info.Src
	info.SrcPort, info.DstPort = info.DstPort, info.SrcPort
	return info
}

func port(n uint16) func(*packet.Info) { return func(i *packet.Info) { i.DstPort = n } }
func proto(n uint8) func(*packet.Info) {
	return func(i *packet.Info) { i.Proto, i.SrcPort, i.DstPort = n, 0, 0 }
}
func source(s string) func(*packet.Info) {
	return func(i *packet.Info) { i.Src = netip.MustParseAddr(s) }
}
func later(i *packet.Info) { i.Fragment, i.SrcPort, i.DstPort = true, 0, 0 }
func first(i *packet.Info) { i.Fragment, i.FirstFragment = true, true }

// icmp makes a packet an ICMP message of its family.
func icmp(kind uint8) func(*packet.Info) {
	return func(i *packet.Info) {
		i.SrcPort, i.DstPort, i.ICMPType, i.Proto = 0, 0, kind, packet.ProtoICMP
		if i.Version == 6 {
			i.Proto = packet.ProtoICMPv6
		}
	}
}

type admitCase struct {
	name   string
	info   *packet.Info
	target Target
	want   Verdict
}

func admits(t *testing.T, p *Policy, cases []admitCase) {
	t.Helper()
	for _, c := range cases {
		if target, v := p.Admit(c.info); v != c.want || target != c.target {
			t.Errorf("%s: %v %+v, want %v %+v", c.name, v, target, c.want, c.target)
		}
	}
}

func real(kind TargetKind, s string) Target { return Target{kind, netip.MustParseAddr(s)} }

func TestAdmitChecksInTheOrderOfTheProtocol(t *testing.T) {
	spec := specOf(grant("10.0.0.0/8", tcpTo(443, 443)), grant("192.0.2.0/24"), grant("2001:db8::/32", icmpFilter))
	admits(t, NewPolicy(spec), []admitCase{
		{"a granted port", to("10.1.2.3"), Target{}, Pass},
		{"another port", to("10.1.2.3", port(444)), Target{}, ReplyProhibited},
		{"another address", to("11.1.2.3"), Target{}, ReplyProhibited},
		{"no filters permit all", to("192.0.2.9", proto(47)), Target{}, Pass},
		{"filters permit no other protocol", to("10.1.2.3", proto(47)), Target{}, ReplyProhibited},
		{"ICMP where it is listed", to("2001:db8::1", icmp(128)), Target{}, Pass},
		{"ICMPv6 other than echo where ICMP is listed", to("2001:db8::1", icmp(135)), Target{}, Pass},
		{"TCP where only ICMP is listed", to("2001:db8::1"), Target{}, ReplyProhibited},
		{"ICMPv4 in IPv6 is not ICMP", to("2001:db8::1", proto(packet.ProtoICMP)), Target{}, ReplyProhibited},
		{"multicast, granted or not", to("224.0.0.251", source("9.9.9.9")), Target{}, DropMulticast},
		{"multicast in IPv6", to("ff02::fb"), Target{}, DropMulticast},
		{"an ICMP error, before its source is looked at", to("192.0.2.9", icmp(3), source("9.9.9.9")), Target{}, DropOutboundICMPError},
		{"a redirect", to("192.0.2.9", icmp(5)), Target{}, DropOutboundICMPError},
		{"an ICMPv6 error to the gateway", to("fd00:2021:1111::1", icmp(2)), Target{}, DropOutboundICMPError},
		{"a foreign source", to("192.0.2.9", source("100.64.0.8")), Target{}, ReplyProhibited},
		{"a foreign source to the gateway", to("100.64.0.1", source("100.64.0.8")), Target{}, ReplyProhibited},
		{"the gateway itself", to("100.64.0.1", port(53535)), Target{Kind: TargetOwn}, Pass},
		{"the gateway itself over IPv6", to("fd00:2021:1111::1", icmp(128)), Target{Kind: TargetOwn}, Pass},
		{"another client", to("100.64.0.8"), Target{}, ReplyProhibited},
		{"another client over IPv6", to("fd00:2021:1111::8"), Target{}, ReplyProhibited},
		{"the client itself", to("100.64.0.7"), Target{}, ReplyProhibited},
		{"a proxy address nobody announced", to("100.96.0.1"), Target{}, ReplyProhibited},
		{"a fragment", to("192.0.2.9", first), Target{}, DropFragment},
		{"a later fragment", to("192.0.2.9", later), Target{}, DropFragment},
		{"an IPv4 address in IPv6 clothes", to("::ffff:10.1.2.3"), Target{}, ReplyProhibited},
	})
}

func TestPeersCannotBeGranted(t *testing.T) {
	p := NewPolicy(specOf(grant("0.0.0.0/0"), grant("::/0")))
	admits(t, p, []admitCase{
		{"another client", to("100.64.0.8"), Target{}, ReplyProhibited},
		{"another client over IPv6", to("fd00:2021:1111::8"), Target{}, ReplyProhibited},
		{"a proxy address without a name", to("100.96.0.1"), Target{}, ReplyUnreachable},
		{"anything else", to("10.0.0.1"), Target{}, Pass},
	})
}

func TestTheInternetResource(t *testing.T) {
	spec := specOf(grant("10.0.0.0/8"), grant("2001:db8::/32"))
	spec.Internet = true
	spec.Names = []Name{nameOf("100.96.0.1", "10.0.0.1", nil), nameOf("100.96.0.2", "10.0.0.1", []Filter{tcpTo(22, 22)})}
	p := NewPolicy(spec)
	for _, s := range []string{"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "127.0.0.1", "169.254.169.254",
		"100.64.0.0", "100.127.255.255", "240.0.0.1", "255.255.255.255", "::1", "::ffff:8.8.8.8", "fc00::1", "fdff::1", "fe80::1", "febf::1"} {
		want := ReplyUnreachable
		if p.zones.of(netip.MustParseAddr(s)) != zoneOther {
			want = ReplyProhibited // another client, or a name that was not announced
		}
		if _, v := p.Admit(to(s)); v != want {
			t.Errorf("%s: %v, want %v", s, v, want)
		}
		if v := p.AdmitReply(from(s)); v != DropNotGranted {
			t.Errorf("answer of %s: %v", s, v)
		}
	}
	for _, s := range []string{"8.8.8.8", "172.15.0.1", "172.32.0.1", "192.167.0.1", "169.253.0.1", "100.63.255.255", "100.128.0.0", "0.1.2.3",
		"223.255.255.255", "192.0.2.1", "2001:4860::8888", "fbff::1", "fe7f::1", "fec0::1", "::2", "2001:db8::1"} {
		if target, v := p.Admit(to(s, proto(47))); v != Pass || target != (Target{}) {
			t.Errorf("%s: %v", s, v)
		}
		if v := p.AdmitReply(from(s)); v != Pass {
			t.Errorf("answer of %s: %v", s, v)
		}
	}
	admits(t, p, []admitCase{
		{"a name beside the Internet", to("100.96.0.1"), real(TargetName, "10.0.0.1"), Pass},
		{"the filters of a name beside the Internet", to("100.96.0.2"), Target{}, ReplyProhibited},
	})
}

func TestNames(t *testing.T) {
	spec := specOf()
	v6only := nameOf("100.96.0.9", "2001:db8::9", nil)
	v6only.NoTranslate = true
	web, ssh := []Filter{tcpTo(443, 443)}, []Filter{tcpTo(22, 22)}
	spec.Names = []Name{
		nameOf("100.96.0.1", "192.0.2.1", web, ssh), nameOf("fd00:2021:1111:8000::1", "2001:db8::1", web),
		nameOf("100.96.0.2", "", web), nameOf("100.96.0.3", "2001:db8::3", nil), nameOf("fd00:2021:1111:8000::4", "192.0.2.4", nil),
		v6only, nameOf("100.96.0.10", "192.0.2.1"), nameOf("192.0.2.50", "192.0.2.51", nil),
		nameOf("100.96.0.11", "100.64.0.8", nil), nameOf("100.96.0.12", "127.0.0.1", nil), nameOf("100.96.0.13", "100.96.0.1", nil),
		nameOf("100.96.0.14", "224.0.0.1", nil), nameOf("100.96.0.15", "::ffff:10.0.0.1", nil), nameOf("100.96.0.16", "0.0.0.0", nil),
	}
	cases := []admitCase{
		{"one resource's filter", to("100.96.0.1"), real(TargetName, "192.0.2.1"), Pass},
		{"the other resource's filter", to("100.96.0.1", port(22)), real(TargetName, "192.0.2.1"), Pass},
		{"neither's", to("100.96.0.1", port(80)), Target{}, ReplyProhibited},
		{"IPv6", to("fd00:2021:1111:8000::1"), real(TargetName, "2001:db8::1"), Pass},
		{"no real address", to("100.96.0.2"), Target{}, ReplyUnreachable},
		{"no real address and no permission", to("100.96.0.2", port(22)), Target{}, ReplyProhibited},
		{"IPv4 to IPv6", to("100.96.0.3"), real(TargetName, "2001:db8::3"), Pass},
		{"IPv6 to IPv4", to("fd00:2021:1111:8000::4"), real(TargetName, "192.0.2.4"), Pass},
		{"IPv4 to IPv6 switched off", to("100.96.0.9"), Target{}, ReplyUnreachable},
		{"an echo over IPv6", to("fd00:2021:1111:8000::4", icmp(128)), real(TargetName, "192.0.2.4"), Pass},
		{"an echo", to("100.96.0.3", icmp(8)), real(TargetName, "2001:db8::3"), Pass},
		{"ICMP that is no echo", to("100.96.0.3", icmp(13)), Target{}, DropUntranslatable},
		{"another protocol", to("100.96.0.3", proto(47)), Target{}, DropUntranslatable},
		{"a name whose resources are gone", to("100.96.0.10"), Target{}, ReplyProhibited},
		{"a name outside the proxy range", to("192.0.2.50"), Target{}, ReplyProhibited},
	}
	for _, s := range []string{"100.96.0.11", "100.96.0.12", "100.96.0.13", "100.96.0.14", "100.96.0.15", "100.96.0.16"} {
		cases = append(cases, admitCase{"a real address that is none", to(s), Target{}, ReplyUnreachable})
	}
	admits(t, NewPolicy(spec), cases)

	spec.Client6, spec.Fragments = netip.Addr{}, true
	p := NewPolicy(spec)
	admits(t, p, []admitCase{
		{"a family that the client has no address of", to("100.96.0.3"), Target{}, ReplyUnreachable},
		{"a first fragment cannot be translated", to("100.96.0.1", first), Target{}, DropFragment},
		{"a later one shows no port", to("100.96.0.1", later), Target{}, ReplyProhibited},
	})
	if p.Addr(false) != client4 || p.Addr(true).IsValid() {
		t.Error("wrong addresses of the client")
	}
}

func TestOtherRangesReplaceThoseOfTheAddressPlan(t *testing.T) {
	spec := specOf(grant("0.0.0.0/0"), grant("::/0"), Grant{})
	spec.Client4, spec.Gateway4 = netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("10.9.0.1")
	spec.TunnelRanges = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), {}, netip.MustParsePrefix("fd00:9::/32")}
	spec.ProxyRanges = []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")}
	spec.Client6 = netip.MustParseAddr("fd00:9::7")
	spec.Names = []Name{nameOf("10.8.0.1", "192.0.2.1", nil)}
	mine := func(i *packet.Info) {
		if i.Src = spec.Client4; i.Version == 6 {
			i.Src = spec.Client6
		}
	}
	admits(t, NewPolicy(spec), []admitCase{
		{"another client", to("10.9.0.8", mine), Target{}, ReplyProhibited},
		{"another client over IPv6", to("fd00:9:ffff::8", mine), Target{}, ReplyProhibited},
		{"a name", to("10.8.0.1", mine), real(TargetName, "192.0.2.1"), Pass},
		{"a client of the address plan", to("100.64.0.8", mine), Target{}, Pass},
	})
}

func TestFragmentsPassWhereEverythingIsPermitted(t *testing.T) {
	spec := specOf(grant("192.0.2.0/24"), grant("198.51.100.0/24", tcpTo(0, 65535), icmpFilter))
	spec.Fragments = true
	p := NewPolicy(spec)
	admits(t, p, []admitCase{
		{"first", to("192.0.2.1", first), Target{}, Pass},
		{"later", to("192.0.2.1", later), Target{}, Pass},
		{"first by port", to("198.51.100.1", first), Target{}, Pass},
		{"later by port", to("198.51.100.1", later), Target{}, ReplyProhibited},
		{"later of ICMP", to("198.51.100.1", icmp(0), later), Target{}, ReplyProhibited},
	})
	if v := p.AdmitReply(from("192.0.2.1", later)); v != Pass {
		t.Errorf("answer: %v", v)
	}
}

func TestAdmitReply(t *testing.T) {
	spec := specOf(grant("10.0.0.0/8", tcpTo(443, 443)), grant("2001:db8::/32", icmpFilter))
	spec.Names = []Name{nameOf("100.96.0.1", "2001:db8::1", []Filter{udpTo(53, 53)})}
	p := NewPolicy(spec)
	other := func(i *packet.Info) { i.Src = netip.MustParseAddr("100.64.0.8") } // becomes the destination
	for _, c := range []struct {
		name string
		info *packet.Info
		want Verdict
	}{
		{"from the granted port", from("10.0.0.1"), Pass},
		{"the destination port is not tested", from("10.0.0.1", source("100.64.0.7")), Pass},
		{"from another port", from("10.0.0.1", port(80)), DropNotGranted},
		{"from elsewhere", from("11.0.0.1"), DropNotGranted},
		{"from a name", from("100.96.0.1", func(i *packet.Info) { i.Proto, i.DstPort = packet.ProtoUDP, 53 }), Pass},
		{"from a name, another port", from("100.96.0.1"), DropNotGranted},
		{"from the gateway itself", from("100.64.0.1"), Pass},
		{"from another client", from("100.64.0.8"), DropNotGranted},
		{"an ICMP error of another client", from("100.64.0.8", icmp(3)), DropNotGranted},
		{"an ICMP error of anyone", from("203.0.113.1", icmp(11)), Pass},
		{"an ICMPv6 error of anyone", from("3fff::1", icmp(2)), Pass},
		{"an echo of anyone", from("203.0.113.1", icmp(0)), DropNotGranted},
		{"a redirect", from("203.0.113.1", icmp(5)), DropNotGranted},
		{"neighbour discovery of anyone", from("3fff::1", icmp(136)), DropNotGranted},
		{"an echo of a resource", from("2001:db8::1", icmp(129)), Pass},
		{"to another client", from("10.0.0.1", other), DropNotAClient},
		{"a fragment", from("10.0.0.1", first), DropFragment},
	} {
		if v := p.AdmitReply(c.info); v != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
}

func TestNothingIsPermittedPastTheBounds(t *testing.T) {
	spec := specOf(make([]Grant, MaxGrants)...)
	for i := range spec.Grants {
		spec.Grants[i] = grant("10.0.0.0/8")
	}
	spec.Grants = append(spec.Grants, grant("11.0.0.0/8"))
	spec.Names = make([]Name, MaxNames, MaxNames+1)
	for i := range spec.Names {
		spec.Names[i] = nameOf("100.96.0.1", "10.0.0.1", nil)
	}
	spec.Names = append(spec.Names, nameOf("100.96.0.2", "10.0.0.2", nil))
	admits(t, NewPolicy(spec), []admitCase{
		{"last grant", to("10.0.0.1"), Target{}, Pass}, {"one too many", to("11.0.0.1"), Target{}, ReplyProhibited},
		{"last name", to("100.96.0.1"), real(TargetName, "10.0.0.1"), Pass}, {"one name too many", to("100.96.0.2"), Target{}, ReplyProhibited},
	})
}

func TestThePolicyOfAPeer(t *testing.T) {
	peer, table := NewPeer(1, RoamNever, 1), NewTable(1280)
	if peer.Policy() != nil {
		t.Error("a new peer has a policy")
	}
	p := NewPolicy(PolicySpec{})
	table.Apply([]Change{SetPolicy{peer, p}, DelPeer{peer}})
	if peer.Policy() != p {
		t.Error("a peer that had a policy lost it")
	}
	if _, v := p.Admit(to("10.0.0.1")); v != ReplyProhibited {
		t.Errorf("an empty policy: %v", v)
	}
	if v := p.AdmitReply(from("10.0.0.1")); v != DropNotAClient {
		t.Errorf("an empty policy: %v", v)
	}
}
