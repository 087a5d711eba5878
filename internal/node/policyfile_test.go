package node

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/control"
	"github.com/firelane/firelane/dns"
	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/packet"
	"github.com/firelane/firelane/protocol/wireguard"
)

var policyStart = time.Unix(1790000000, 0)

const examplePolicy = "testdata/policy.json"

func TestTheExamplePolicy(t *testing.T) {
	got, err := ReadPolicyFile(examplePolicy, policyStart)
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	all, _ := dns.NewPattern("**.example.com")
	shop, _ := dns.NewPattern("shop.example.com")
	name := func(r control.ResourceID) control.Assignment {
		return control.Assignment{Resource: r, Domain: "shop.example.com",
			Proxies:  []netip.Addr{a("100.96.0.1"), a("100.96.0.2"), a("fd00:2021:1111:8000::1")},
			Resolved: []netip.Addr{a("192.0.2.10")}}
	}
	want := &control.PolicySet{
		Base: control.PolicyBase{Gateway4: a("100.64.0.1"), Gateway6: a("fd00:2021:1111::1"), Prefix64: packet.WellKnownPrefix64},
		Clients: []control.ClientPolicy{{
			PublicKey: wireguard.PublicKey{1}, Addr4: a("100.64.0.7"), Addr6: a("fd00:2021:1111::7"),
			Resources: []control.Resource{
				{ID: "lab", Kind: control.KindCIDR, Prefix: netip.MustParsePrefix("10.2.0.0/16"), NoTranslate: true,
					Expires: policyStart.Add(84000 * time.Second),
					Filters: []fib.Filter{{Protocol: packet.ProtoTCP, First: 80, Last: 443}, {Protocol: packet.ProtoUDP, First: 53, Last: 53}, {Protocol: packet.ProtoICMP}}},
				{ID: "web", Kind: control.KindDNS, Pattern: all},
				{ID: "shop", Kind: control.KindDNS, Pattern: shop, Filters: []fib.Filter{{Protocol: packet.ProtoTCP, First: 443, Last: 65535}}},
			},
			Names: []control.Assignment{name("web"), name("shop")},
		}, {
			PublicKey: wireguard.PublicKey{2}, Addr4: a("100.64.0.8"),
			Resources: []control.Resource{{ID: "all", Kind: control.KindInternet}},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	for i, c := range got.Clients {
		g, err := control.NewGrants(control.GrantsConfig{Peer: fib.NewPeer(1, fib.RoamNever, 1), Base: got.Base, Addr4: c.Addr4, Addr6: c.Addr6, Start: policyStart}, policyStart)
		if err == nil {
			err = g.Apply(c, policyStart)
		}
		if err != nil {
			t.Errorf("client %d: %v", i, err)
		}
	}
}

func TestEachMistakeIsNamedWithItsPlace(t *testing.T) {
	example, err := os.ReadFile(examplePolicy)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"gateway"`, `"gateways"`, `:2: $.gateways: unknown field; known are gateway, ranges`},
		{`"nat64": {"prefix"`, `"gateway": {"prefix"`, `:3: $.gateway: it appears twice`},
		{`"stateless": false`, `"stateless": "no"`, `:3: $.nat64.stateless: want true or false`},
		{`64:ff9b::/96`, `64:ff9b::/95`, `$.nat64.prefix: translation prefix 64:ff9b::/95`},
		{`64:ff9b::/96`, `64:ff9b::1/96`, `64:ff9b::1/96 has bits set behind its length; write 64:ff9b::/96`},
		{`64:ff9b::/96`, `fd00:2021:1111::/96`, `$: configuration refused: NAT64 prefix fd00:2021:1111::/96 overlaps`},
		{`"ipv4": "100.64.0.1"`, `"ipv4": "10.0.0.1"`, `gateway address 10.0.0.1 lies in none of the tunnel ranges`},
		{`"ipv4": "100.64.0.1"`, `"ipv4": "fd00:2021:1111::9"`, `$.gateway.ipv4: fd00:2021:1111::9 is no address of that family`},
		{`"ipv4": "100.64.0.1"`, `"ipv4": "100.64.0.one"`, `"100.64.0.one" is no IPv4 or IPv6 address`},
		{`"ipv4": "100.64.0.1"`, `"ipv4": 1`, `$.gateway.ipv4: want text`},
		{`"ipv4": "100.64.0.7"`, `"ipv4": "100.64.0.1"`, `$.clients[0].ipv4: 100.64.0.1 is already the gateway's`},
		{`"ipv4": "100.64.0.8"`, `"ipv4": "100.64.0.7"`, `$.clients[1].ipv4: 100.64.0.7 is already that of $.clients[0]`},
		{`"ipv4": "100.64.0.8"`, `"ipv4": "192.0.2.8"`, `$.clients[1]: configuration refused: client address 192.0.2.8`},
		{`      "ipv4": "100.64.0.8",`, ``, `$.clients[1]: it needs an address`},
		{`"AgAAAA`, `"AQAAAA`, `$.clients[1].public_key: it is the key of $.clients[0] already`},
		{`"AgAAAA`, `"Ag`, `$.clients[1].public_key: want a WireGuard public key: 32 bytes in base64`},
		{`"public_key": "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",`, ``, `$.clients[1]: "public_key" is missing`},
		{`"clients"`, `"customers"`, `$: "clients" is missing`},
		{`"names"`, `"name"`, `$.clients[0].name: unknown field`},
		{`"id": "web"`, `"id": "lab"`, `:23: $.clients[0].resources[1].id: the client has a resource "lab" already`},
		{`"id": "web", `, ``, `"id" and "type" are required`},
		{`"type": "cidr"`, `"type": "ip"`, `:12: $.clients[0].resources[0].type: want cidr, dns or internet`},
		{`10.2.0.0/16`, `10.2.0.1/16`, `:14: $.clients[0].resources[0].address: 10.2.0.1/16 has bits set behind its length; write 10.2.0.0/16`},
		{`10.2.0.0/16`, `10.2.0.0`, `"10.2.0.0" is no network; a single address ends in /32 or /128`},
		{`"address": "10.2.0.0/16",`, ``, `$.clients[0].resources[0]: "address" is missing`},
		{`, "filters": []`, ``, `$.clients[0].resources[1]: "filters" is missing; write [] to permit everything`},
		{`"**.example.com"`, `"[a].example.com"`, `resources[1].address: name pattern "[a].example.com": use letters`},
		{`"icmp"`, `"icmp", "port_range_start": 1`, `filters[2].port_range_start: unknown field; known are protocol (icmp has no ports)`},
		{`"icmp"`, `"gre"`, `$.clients[0].resources[0].filters[2].protocol: want tcp, udp or icmp`},
		{`{"protocol": "icmp"}`, `{}`, `filters[2]: "protocol" is missing`},
		{`"port_range_end": 443`, `"port_range_end": 65536`, `filters[0].port_range_end: want a whole number from 0 to 65535`},
		{`"port_range_end": 443`, `"port_range_end": 44.3`, `want a whole number`},
		{`"port_range_end": 443`, `"port_range_end": 79`, `ports 80 to 79 run backwards`},
		{`"port_range_end": 443`, `"port_end": 443`, `filters[0].port_end: unknown field`},
		{`1790084000`, `"tomorrow"`, `:20: $.clients[0].resources[0].expires_at: want a whole number`},
		{`"nat64": false`, `"nat46": false`, `resources[0].nat46: unknown field`},
		{`"type": "internet"`, `"type": "internet", "filters": []`, `resources[0].filters: unknown field; known are id, type, name, expires_at, nat64 (an internet resource`},
		{`["web", "shop"]`, `["web", "lab"]`, `:29: $.clients[0].names[0].resources[1]: resource "lab" is not of type dns`},
		{`["web", "shop"]`, `["nobody"]`, `the client has no resource "nobody"`},
		{`["web", "shop"]`, `[]`, `a name needs a resource of type dns`},
		{`"domain": "shop.example.com"`, `"domain": "shop.example.org"`, `the address "**.example.com" of resource "web" does not match "shop.example.org"`},
		{`"domain": "shop.example.com",`, ``, `"domain", "resources", "proxy_ips" and "resolved_ips" are required`},
		{`"100.96.0.2"`, `"100.96.0.1"`, `$.clients[0].names[0].proxy_ips[1]: 100.96.0.1 appears twice`},
		{`"100.96.0.2"`, `"10.2.0.1"`, `10.2.0.1 lies in none of the proxy ranges`},
		{`["192.0.2.10"]`, `"192.0.2.10"`, `resolved_ips: want a list in […]`},
		{`"clients": [`, `"clients": [[[[[[[[[[[[[[[[[`, `nested too deep`},
		{`"gateway": {`, `"gateway": {{`, `not valid JSON`},
		{`"gateway": {"ipv4": "100.64.0.1", "ipv6": "fd00:2021:1111::1"}`, `"gateway": []`, `$.gateway: want an object`},
		{`"nat64": {`, `"ranges": {"tunnel": []}, "nat64": {`, `$.ranges.tunnel: it is empty; leave it out`},
		{`"nat64": {`, `"ranges": {"tunnel": ["10.0.0.0/8"], "proxy": ["10.1.0.0/16"]}, "nat64": {`, `tunnel range 10.0.0.0/8 and proxy range 10.1.0.0/16 overlap`},
	} {
		if n := strings.Count(string(example), c.old); n == 0 {
			t.Errorf("%q is not in the example", c.old)
			continue
		}
		path := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(path, []byte(strings.Replace(string(example), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadPolicyFile(path, policyStart)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "policy file "+path+":") {
			t.Errorf("%s → %s:\n got %v\nwant %s", c.old, c.new, err, c.want)
		}
	}
}

func TestFilesThatAreNoPolicy(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "the file ends",
		"{":                    "not valid JSON",
		`{"clients": []} {}`:   "there is more behind the end",
		`{"clients": []} oops`: "there is more behind the end",
		`[]`:                   "want an object",
		`{"clients": [1]}`:     "$.clients[0]: want an object",
		`{"clients": {}}`:      "want a list",
		`{"clients": [`:        "not valid JSON",
		`{"clients"`:           "the file ends",
		"\x00":                 "not valid JSON",
	} {
		if _, err := parsePolicy("p.json", []byte(text), policyStart); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := ReadPolicyFile(filepath.Join(t.TempDir(), "none"), policyStart); err == nil || !strings.Contains(err.Error(), "read policy file") {
		t.Errorf("a file that is not there: %v", err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxPolicyFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicyFile(large, policyStart); err == nil || !strings.Contains(err.Error(), "longer than 32 MiB") {
		t.Errorf("a large file: %v", err)
	}
	set, err := parsePolicy("p.json", []byte(`{"clients": [], "nat64": {}, "fragments": true}`), policyStart)
	if err != nil || set.Base.Prefix64 != packet.WellKnownPrefix64 || !set.Base.Fragments || len(set.Clients) != 0 {
		t.Errorf("%+v, %v", set, err)
	}
}
