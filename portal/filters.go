package portal

import (
	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// updateBytes is what a message about a resource's filters takes in a queue without its texts and
// filters.
const updateBytes = 240

// updateCost is about how many bytes of a queue the filters of a resource take.
func updateCost(r *resource) int {
	return updateBytes + len(r.Name) + len(r.Address) + filterBytes*len(r.Filters)
}

// update is what whoever grants a resource is told about its filters.
func (m *member) update(r *resource) signal.Message {
	if m.Role == signal.RoleClient {
		return signal.FiltersUpdated{ID: r.id, Filters: filtersOf(r.Filters)}
	}
	return signal.ResourceUpdated{GatewayResource: r.atGateway()}
}

// sendFilters tells a gateway, or a client that others connect to, the filters of resources.
func (p *Portal) sendFilters(m *member, of []*resource) {
	for _, r := range of {
		p.send(m.conn, m.update(r))
	}
}

// tellFilters follows an edit of filters. If that is too much, the device is told of resources that
// somebody has a grant for; and if it still is, of as many as fit, and the grants for the others end,
// which takes one init, and clients ask again: filters that do not hold yet must not stay.
func (p *Portal) tellFilters(m *member, of []*resource) {
	if told, rest := p.fitting(of); len(rest) == 0 {
		p.sendFilters(m, told)
		return
	}
	granted := p.grants.granted(m.id)
	told, rest := p.fitting(having(of, func(r *resource) bool { return granted[r.id] }))
	p.sendFilters(m, told)
	p.endGrants(m.id, rest)
}

// filtersHeld returns the resources whose filters a device is to be told after its first init: those
// that somebody has a grant for there. Init does not name filters, and nobody knows whether the last
// edit has reached it on the channel before. The grants for what does not fit end. The device must
// not be in hand yet, so that it hears of that by init.
func (p *Portal) filtersHeld(m *member) []*resource {
	granted := p.grants.granted(m.id)
	if len(granted) == 0 {
		return nil
	}
	told, rest := p.fitting(having(m.account.order, func(r *resource) bool {
		return granted[r.id] && r.Type != config.InternetResource // which has none
	}))
	p.endGrants(m.id, rest)
	return told
}

// fitting divides resources into those whose filters a device can be told at once and the others.
func (p *Portal) fitting(of []*resource) (told, rest []*resource) {
	bytes := 0
	for i, r := range of {
		if bytes += updateCost(r); bytes > p.bounds.updates {
			return of[:i], of[i:]
		}
	}
	return of, nil
}

// endGrants revokes everybody's grants for resources at a gateway, or on a client.
func (p *Portal) endGrants(holder signal.ID, of []*resource) {
	if len(of) == 0 {
		return
	}
	ending := map[signal.ID]bool{}
	for _, r := range of {
		ending[r.id] = true
	}
	for _, n := range inOrder(p.grants.byGateway[holder]) {
		for _, a := range inOrder(n.current) {
			if ending[a.resource] {
				p.revoke(a)
			}
		}
	}
}
