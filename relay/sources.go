package relay

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/internal/udp"
)

// relayedSources returns the addresses that what leaves relayed ports has to come from: the public
// ones, where they are this host's and the ports are bound to all. The kernel would choose by the
// route to the peer, and a host with several addresses would be seen at another one than its
// clients have told the peer. Behind a NAT the public addresses are not ours, and the NAT sees to
// it.
func relayedSources(c *Config, o *udp.Options, own []netip.Addr) (from sources) {
	if !o.Bind4.IsValid() && slices.Contains(own, c.Public4) {
		from.v4 = c.Public4
	}
	if !o.Bind6.IsValid() && slices.Contains(own, c.Public6) {
		from.v6 = c.Public6
	}
	return from
}

// readHost takes notice of the host's addresses and local routes if they have changed: what leaves relayed ports
// comes from a public address as soon as the host has it, and no channel leads to what has become
// the host's own. The public addresses themselves are the operator's word, and the portal keeps
// what it was told: an address that the host does not have yet is reachable as soon as it has,
// since the listening port is bound to all, and one that is bound to by name must be there at the
// start.
func (r *Relay) readHost() error {
	own, err := seeHost()
	if err != nil || r.own != nil && r.own.equal(own) {
		return err
	}
	r.own = own
	r.server.SetHost(slices.Clone(own.local), r.Port())
	if from := relayedSources(&r.server.cfg, &r.ports, own.addrs); from != r.sources {
		r.sources = from
		for _, w := range r.workers {
			w.give(order{from: &from})
		}
	}
	return nil
}

// lacksFamily returns an error if the host gave no listening socket for a family in which the relay
// is to allocate: every request for it would be refused, by a relay that says it is ready.
func lacksFamily(want Families, g *udp.Group) error {
	if _, v6 := g.Worker(0); want&IPv6 != 0 && v6 == nil {
		return fmt.Errorf("open the listening port for IPv6: %w", unix.EAFNOSUPPORT)
	}
	return nil
}

// repin makes what leaves the worker's ports come from other addresses.
func (w *Worker) repin(from sources) {
	for i := range w.slots {
		if p := w.slots[i].port; p != nil {
			p.exit4.source, p.exit6.source = pin(from.v4, p.number), pin(from.v6, p.number)
		}
	}
}
