package portal

import (
	"net/netip"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// resolvers is what clients are told about DNS: the tunnel interface without its addresses.
func resolvers(d *config.DNS) signal.Interface {
	i := signal.Interface{SearchDomain: signal.Text(d.SearchDomain)}
	switch d.Upstream {
	case "custom":
		for _, a := range d.Servers {
			i.Do53 = append(i.Do53, signal.Do53Server{IP: a})
			i.Legacy = append(i.Legacy, signal.LegacyServer{Protocol: "ip_port", Address: netip.AddrPortFrom(a, 53).String()})
		}
	case "secure":
		if url := d.DoH(); url != "" {
			i.DoH = []signal.DoHServer{{URL: url}}
		}
	}
	return i
}

// hostPrefix is an address as a network of its own.
func hostPrefix(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return s
	}
	return netip.PrefixFrom(a, a.BitLen()).String()
}

// clientInterface is the interface of a client.
func (c *client) clientInterface() signal.Interface {
	i := c.account.dns
	i.IPv4, i.IPv6 = signal.Addr4{Addr: c.device.ipv4}, signal.Addr6{Addr: c.device.ipv6}
	return i
}
