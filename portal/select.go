package portal

import (
	"cmp"
	"slices"

	"github.com/firelane/firelane/protocol/signal"
)

// selectGateway picks the gateway that is to carry a client's traffic to a resource: one of the site
// that fits the client's version; of these, if there are any, one that the client uses already, for
// otherwise it opens another connection; of these the nearest and, among equally near ones, the
// newest; of these the one with the fewest clients.
func (p *Portal) selectGateway(c *client, r *resource, connected []signal.ID) (signal.ID, signal.Reason) {
	if r.site.IsZero() {
		return signal.ID{}, signal.NotFound
	}
	all := c.account.connectedGateways(r.site)
	if len(all) == 0 {
		return signal.ID{}, signal.Offline
	}
	fit := slices.DeleteFunc(all, func(g *gateway) bool { return !c.version.pairs(g.version, r.Type) })
	if len(fit) == 0 {
		return signal.ID{}, signal.VersionMismatch
	}
	if known := having(fit, func(g *gateway) bool { return slices.Contains(connected, g.id) }); len(known) > 0 {
		fit = known
	}
	if c.Location.Located {
		fit = best(fit, func(a, b *gateway) int { return nearer(c.Location, a.Location, b.Location) })
		fit = best(fit, func(a, b *gateway) int { return cmp.Compare(b.version.text, a.version.text) })
	}
	fit = best(fit, func(a, b *gateway) int {
		return cmp.Compare(len(p.grants.byGateway[a.id]), len(p.grants.byGateway[b.id]))
	})
	return fit[p.rng.IntN(len(fit))].id, ""
}

// having returns those that fit.
func having[T any](all []T, fits func(T) bool) (some []T) {
	for _, v := range all {
		if fits(v) {
			some = append(some, v)
		}
	}
	return some
}

// best returns those that come first in an order, all of them equal; all must not be empty.
func best[T any](all []T, order func(a, b T) int) []T {
	first := slices.MinFunc(all, order)
	return having(all, func(v T) bool { return order(v, first) == 0 })
}
