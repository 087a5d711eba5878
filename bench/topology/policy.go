package topology

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// The proxy addresses of the policy, by what a gateway makes of packets to them. Each leads to the
// server.
var (
	// Proxies is the range they are of.
	Proxies = addr("10.94.0.0/24", "fd94::/64")
	// ProxyNAT4 is translated within IPv4.
	ProxyNAT4 = netip.MustParseAddr("10.94.0.1")
	// ProxyNAT64 is an IPv6 address for the server's IPv4 address.
	ProxyNAT64 = netip.MustParseAddr("fd94::1")
	// ProxyNAT46 is an IPv4 address for the server's IPv6 address.
	ProxyNAT46 = netip.MustParseAddr("10.94.0.2")
)

// PolicyFile writes the policy that rows measure, as `firelane wg --policy` reads it, and returns
// its path. The client reaches the server's network by a CIDR grant, and the server by two names
// besides, one of which has the server's IPv4 address only and the other its IPv6 address; filters
// permit ping and the ports of the benchmark. The Endpoint is granted nothing.
func (n *Network) PolicyFile() (string, error) {
	type object map[string]any
	filters := []object{{"protocol": "icmp"}}
	for _, protocol := range []string{"tcp", "udp"} {
		filters = append(filters, object{"protocol": protocol, "port_range_start": firstPort, "port_range_end": lastPort})
	}
	grant := func(id, kind, address string) object {
		return object{"id": id, "type": kind, "address": address, "filters": filters}
	}
	name := func(domain string, real netip.Addr, proxies ...netip.Addr) object {
		return object{"domain": domain, "resources": []string{"names"}, "proxy_ips": proxies, "resolved_ips": []netip.Addr{real}}
	}
	both := func(a Addr) []netip.Prefix { return []netip.Prefix{a.V4.Masked(), a.V6.Masked()} }
	b, err := json.MarshalIndent(object{
		"gateway": object{"ipv4": GatewayInner.V4.Addr(), "ipv6": GatewayInner.V6.Addr()},
		"ranges":  object{"tunnel": both(GatewayInner), "proxy": both(Proxies)},
		"clients": []object{{
			"public_key": n.keys[Client].public, "ipv4": ClientInner.V4.Addr(), "ipv6": ClientInner.V6.Addr(),
			"resources": []object{
				grant("net4", "cidr", ServerLAN.V4.Masked().String()), grant("net6", "cidr", ServerLAN.V6.Masked().String()),
				grant("names", "dns", "*.example.com"),
			},
			"names": []object{
				name("four.example.com", ServerLAN.V4.Addr(), ProxyNAT4, ProxyNAT64),
				name("six.example.com", ServerLAN.V6.Addr(), ProxyNAT46),
			},
		}},
	}, "", "\t")
	if err != nil {
		return "", fmt.Errorf("write the policy: %w", err)
	}
	return n.writeFile("policy.json", b)
}

// The ports that the policy permits: loads use the first ones of them.
const firstPort, lastPort = 5201, 5299
