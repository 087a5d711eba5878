package portal

import (
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// edit is what an edit of the policy file means for one account.
type edit struct {
	// policies, resources: authorizations under them, or for them, end.
	policies, resources map[signal.ID]bool
	// filters are resources whose filters differ, moved those that are at another site.
	filters, moved map[signal.ID]bool
	// anew are resources whose access was decided anew, so that clients let go of them first.
	anew map[signal.ID]bool
	// dns, slug: other things that devices are told.
	dns, slug bool
}

func newEdit() *edit {
	return &edit{
		policies: map[signal.ID]bool{}, resources: map[signal.ID]bool{}, filters: map[signal.ID]bool{}, moved: map[signal.ID]bool{},
		anew: map[signal.ID]bool{},
	}
}

// HandleConfig makes f the policy file in force and tells everybody what it means for them:
// gateways first, so that what has been taken away is gone when clients hear of it.
func (p *Portal) HandleConfig(f *config.File, now time.Time) {
	p.now = now
	edits := map[string]*edit{}
	for _, c := range config.Diff(p.file, f) {
		if c.Account == "" {
			continue // where relays are counts for choices to come
		}
		if edits[c.Account] == nil {
			edits[c.Account] = newEdit()
		}
		edits[c.Account].add(&c)
	}
	p.install(f)
	p.expelForeigners(now)
	p.revokeAll(func(a *authorization) bool {
		e := edits[a.account]
		return e != nil && (e.policies[a.policy] || e.resources[a.resource] || !p.holds(a))
	})
	for i := range f.Accounts {
		if e := edits[f.Accounts[i].ID]; e != nil {
			p.tellGateways(p.accounts[f.Accounts[i].ID], e)
			p.tellClients(p.accounts[f.Accounts[i].ID], e, now)
		}
	}
	p.settle(now)
}

// add notes one change.
func (e *edit) add(c *config.Change) {
	switch c.Kind {
	case config.KindAccount:
		e.slug = e.slug || c.Changed("slug")
		for _, field := range []string{"dns.upstream", "dns.servers", "dns.provider", "dns.search_domain"} {
			e.dns = e.dns || c.Changed(field)
		}
	case config.KindResource:
		e.addResource(c)
	case config.KindPolicy:
		e.addPolicy(c)
	}
}

func (e *edit) addResource(c *config.Change) {
	if c.Action != config.Updated {
		return // what has gone holds no longer
	}
	for _, field := range []string{"type", "address", "ip_stack", "site"} {
		if c.Changed(field) {
			e.resources[uuid(c.ID)] = true
		}
	}
	if c.Changed("site") {
		e.moved[uuid(c.ID)] = true
	}
	if c.Changed("filters") {
		e.filters[uuid(c.ID)] = true
	}
}

// addPolicy: a policy that only has another name is the same.
func (e *edit) addPolicy(c *config.Change) {
	before, _ := c.Before.(*config.Policy)
	after, _ := c.After.(*config.Policy)
	if c.Action != config.Updated || before == nil || after == nil {
		return
	}
	access := before.Group != after.Group || before.Resource != after.Resource || before.Disabled != after.Disabled ||
		c.Changed("conditions.remote_ip") || c.Changed("conditions.region") || c.Changed("conditions.time") ||
		c.Changed("conditions.client_verified") || c.Changed("conditions.provider")
	if access || before.FlowLogs != after.FlowLogs {
		e.policies[uuid(c.ID)] = true
	}
	if access {
		e.anew[uuid(before.Resource)], e.anew[uuid(after.Resource)] = true, true
	}
}

// expelForeigners ends the channels whose account, site or actor the file does not have any more.
func (p *Portal) expelForeigners(now time.Time) {
	p.endChannels(now, func(c *Connect) bool {
		if c.Role == signal.RoleRelay {
			return false
		}
		a := p.accounts[c.Device.Account]
		switch {
		case a == nil:
			return true
		case c.Role == signal.RoleGateway:
			return a.sites[uuid(c.Device.Owner)] == nil
		}
		return !a.admits(c.Actor)
	})
}

func (p *Portal) tellGateways(a *account, e *edit) {
	if e.slug {
		for _, g := range inOrder(a.gateways) {
			p.initGateway(g)
		}
	}
	var pools []*resource
	sites := map[signal.ID][]*resource{}
	for _, id := range sortedIDs(e.filters) {
		switch r := a.resources[id]; {
		case r == nil:
		case isPool(r.Type):
			pools = append(pools, r)
		default:
			sites[r.site] = append(sites[r.site], r)
		}
	}
	for _, g := range inOrder(a.gateways) {
		p.tellFilters(&g.member, sites[g.site])
	}
	for _, c := range inOrder(a.clients) {
		if len(pools) == 0 {
			break
		}
		granted := p.grants.granted(c.id)
		received := having(pools, func(r *resource) bool { return granted[r.id] })
		p.tellFilters(&c.member, received)
	}
}

func (p *Portal) tellClients(a *account, e *edit, now time.Time) {
	for _, c := range inOrder(a.clients) {
		if e.dns {
			p.send(c.conn, signal.ConfigChanged{Interface: c.clientInterface()})
		}
		p.refresh(c, p.decidedAnew(c, e, now), now)
	}
}

// decidedAnew returns the resources that a client is to let go of even if it keeps them: those of
// e.anew that no policy gives it which has not been edited and, if it is old, those at another site,
// which it would not notice.
func (p *Portal) decidedAnew(c *client, e *edit, now time.Time) map[signal.ID]bool {
	anew := map[signal.ID]bool{}
	if len(e.anew) > 0 {
		for id := range e.anew {
			anew[id] = c.visible[id] != nil
		}
		p.keepUnedited(c, e, anew, now)
	}
	if c.version.known && c.version.before(1, 5, 5) {
		for id := range e.moved {
			anew[id] = c.visible[id] != nil
		}
	}
	return anew
}

// keepUnedited takes out of anew what a policy gives a client that has not been edited.
func (p *Portal) keepUnedited(c *client, e *edit, anew map[signal.ID]bool, now time.Time) {
	groups := c.account.GroupsOf(c.Actor)
	for i := range c.account.Policies {
		policy := &c.account.Policies[i]
		if r := uuid(policy.Resource); !e.anew[r] || e.policies[uuid(policy.ID)] || !groups[policy.Group] {
			continue
		} else if ok, _, _ := policy.Allowed(c.context(), now); ok {
			anew[r] = false
		}
	}
}
