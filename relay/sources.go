package relay

import (
	"fmt"
	"net"
	"net/netip"
)

// relayedSources returns the addresses that what leaves relayed ports has to come from: the public
// ones, where they are this host's and the ports are bound to all. The kernel would choose by the
// route to the peer, and a host with several addresses would be seen at another one than its
// clients have told the peer. Behind a NAT the public addresses are not ours, and the NAT sees to
// it. An address that leaves the host later is no longer pinned by the socket.
func relayedSources(s *Settings) (from sources, err error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return from, fmt.Errorf("read this host's addresses: %w", err)
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue // an address of no kind that can be pinned
		}
		switch addr := p.Addr().Unmap(); {
		case addr == s.Server.Public4 && !s.Bind4.IsValid():
			from.v4 = addr
		case addr == s.Server.Public6 && !s.Bind6.IsValid():
			from.v6 = addr
		}
	}
	return from, nil
}
