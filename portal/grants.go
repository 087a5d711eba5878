package portal

import (
	"slices"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// authorization is one permission, on its way to the store or in it.
type authorization struct {
	id       signal.ID
	account  string
	client   signal.ID
	gateway  signal.ID // in a device pool the client that is connected to
	resource signal.ID
	policy   signal.ID
	token    string
	provider string // which vouched for the session of the token
	created  time.Time
	expires  time.Time

	// storing says that the store has not answered yet, doomed that it must not be used then.
	storing, doomed bool
	// pending is the request that waits for it, if any still does.
	pending *pending
	// toldOn is the channel on which its holder was told of it, zero when that has ended; applied says
	// that the holder has it, or has had the one before it, for sure.
	toldOn  ConnID
	applied bool
	end     *timer
}

// pair is a client and a gateway, or two clients, between which there are authorizations.
type pair struct {
	client, gateway signal.ID
	// current has at most one authorization a resource, which the store has confirmed.
	current map[signal.ID]*authorization
	// storing are those that the store is being given. There is one a resource at a time, so that
	// the last one asked for is the one that stays; who wants another one waits.
	storing map[signal.ID]*authorization
	waiting map[signal.ID]*pending
	// known are the keys under which both were told of each other: the gateway has answered, or what
	// the other client was told has gone out. What was sent may have been lost.
	known keys
	// held are candidates of the gateway for a client that does not know it yet.
	held signal.Candidates
	// fromClient and fromGateway are how many candidates each may still have passed on to the other.
	fromClient, fromGateway allowance
}

// keys are those of both ends.
type keys struct{ client, gateway signal.PublicKey }

type pairKey struct{ client, gateway signal.ID }

// grants are all authorizations.
type grants struct {
	byID      map[signal.ID]*authorization
	byClient  map[signal.ID]map[signal.ID]*pair
	byGateway map[signal.ID]map[signal.ID]*pair
	pairs     map[pairKey]*pair
	// ended are the accounts in which authorizations have expired since the last purge.
	ended map[string]bool
}

// maxAuthorizations bounds what is in memory, at about 600 bytes each. It is the store's bound for
// one account.
const maxAuthorizations = 1 << 20

func newGrants() grants {
	return grants{
		map[signal.ID]*authorization{}, map[signal.ID]map[signal.ID]*pair{}, map[signal.ID]map[signal.ID]*pair{},
		map[pairKey]*pair{}, map[string]bool{},
	}
}

// pair returns the pair of two devices, new if need be.
func (g *grants) pair(client, gateway signal.ID) *pair {
	k := pairKey{client, gateway}
	n := g.pairs[k]
	if n == nil {
		n = &pair{
			client: client, gateway: gateway,
			current: map[signal.ID]*authorization{}, storing: map[signal.ID]*authorization{}, waiting: map[signal.ID]*pending{},
		}
		g.pairs[k] = n
		link(g.byClient, client, gateway, n)
		link(g.byGateway, gateway, client, n)
	}
	return n
}

func link(m map[signal.ID]map[signal.ID]*pair, a, b signal.ID, n *pair) {
	if m[a] == nil {
		m[a] = map[signal.ID]*pair{}
	}
	m[a][b] = n
}

func unlink(m map[signal.ID]map[signal.ID]*pair, a, b signal.ID) {
	delete(m[a], b)
	if len(m[a]) == 0 {
		delete(m, a)
	}
}

// tidy forgets a pair without authorizations.
func (g *grants) tidy(n *pair) {
	k := pairKey{n.client, n.gateway}
	if len(n.current)+len(n.storing)+len(n.waiting) == 0 && g.pairs[k] == n {
		delete(g.pairs, k)
		unlink(g.byClient, n.client, n.gateway)
		unlink(g.byGateway, n.gateway, n.client)
	}
}

// begin notes an authorization that the store is being given.
func (g *grants) begin(a *authorization) {
	a.storing = true
	g.byID[a.id] = a
	g.pair(a.client, a.gateway).storing[a.resource] = a
}

// confirm makes a current. One it takes the place of is returned: it is no longer in the store.
func (g *grants) confirm(a *authorization) (before *authorization) {
	n := g.pair(a.client, a.gateway)
	delete(n.storing, a.resource)
	a.storing = false
	before = n.current[a.resource]
	if before != nil {
		a.applied = before.applied
		delete(g.byID, before.id)
	}
	n.current[a.resource] = a
	g.byID[a.id] = a
	return before
}

// remove forgets an authorization; its pair is to be tidied.
func (g *grants) remove(a *authorization) *pair {
	n := g.pair(a.client, a.gateway)
	delete(g.byID, a.id)
	if n.storing[a.resource] == a {
		delete(n.storing, a.resource)
	}
	if n.current[a.resource] == a {
		delete(n.current, a.resource)
	}
	return n
}

// ofClient returns a client's authorizations, in the order of their ids.
func (g *grants) ofClient(id signal.ID) (all []*authorization) {
	for _, n := range g.byClient[id] {
		all = n.appendTo(all)
	}
	slices.SortFunc(all, byID)
	return all
}

// atGateway returns the authorizations at a gateway, or those of others on a client, in the order of
// their ids.
func (g *grants) atGateway(id signal.ID) (all []*authorization) {
	for _, n := range g.byGateway[id] {
		all = n.appendTo(all)
	}
	slices.SortFunc(all, byID)
	return all
}

func (n *pair) appendTo(all []*authorization) []*authorization {
	for _, a := range n.storing {
		all = append(all, a)
	}
	for _, a := range n.current {
		all = append(all, a)
	}
	return all
}

// inForce returns the confirmed authorizations at a gateway, or those of others on a client, in the
// order of their ids: of which it has heard on its channel, or before for sure. With others it might
// keep what it was to give up on a channel that was dead already, such as a grant for an address of
// before.
func (g *grants) inForce(of *member) signal.List[signal.Authorization] {
	var all []*authorization
	for _, n := range g.byGateway[of.id] {
		for _, a := range n.current {
			if a.applied || a.toldOn == of.conn {
				all = append(all, a)
			}
		}
	}
	slices.SortFunc(all, byID)
	list := make(signal.List[signal.Authorization], len(all))
	for i, a := range all {
		list[i] = signal.Authorization{ClientID: a.client, ResourceID: a.resource, ExpiresAt: a.expiresAt()}
	}
	return list
}

// granted returns the resources that anybody has at a gateway, or on a client.
func (g *grants) granted(gateway signal.ID) map[signal.ID]bool {
	all := map[signal.ID]bool{}
	for _, n := range g.byGateway[gateway] {
		for id := range n.current {
			all[id] = true
		}
	}
	return all
}

func (a *authorization) expiresAt() signal.Expiry { return signal.ExpiresAt(a.expires.Unix()) }

// row is the authorization as the store has it.
func (a *authorization) row() *store.Authorization {
	return &store.Authorization{
		Account: a.account, ID: a.id.String(), Client: a.client.String(), Gateway: a.gateway.String(),
		Resource: a.resource.String(), Policy: a.policy.String(), Token: a.token, Created: a.created, Expires: a.expires,
	}
}

// EachToken calls f with the token of every authorization, once for each authorization, in no order:
// those of clients that are not connected too.
func (p *Portal) EachToken(f func(account, token string)) {
	for _, a := range p.grants.byID {
		if a.token != "" {
			f(a.account, a.token)
		}
	}
}

// restore takes an authorization from the store, unless it does not hold any more or is not trusted.
func (p *Portal) restore(row *store.Authorization, provider string, trusted bool, now time.Time) {
	a := &authorization{
		id: uuid(row.ID), account: row.Account, client: uuid(row.Client), gateway: uuid(row.Gateway),
		resource: uuid(row.Resource), policy: uuid(row.Policy), token: row.Token, provider: provider,
		created: row.Created, expires: row.Expires,
	}
	if !now.Before(a.expires) {
		p.grants.ended[a.account] = true
		return
	}
	if !trusted || !p.holds(a) || len(p.grants.byID) >= maxAuthorizations {
		p.stats.Revoked++
		p.writes.revoke(a.account, row.ID)
		return
	}
	p.grants.confirm(a)
	a.applied = true
	n := p.grants.pair(a.client, a.gateway)
	k := keys{p.directory.byID[a.client].key, p.directory.byID[a.gateway].key}
	n.known = k
	p.expireLater(a)
}

// expireLater sees to it that an authorization is forgotten at its end. Gateways know by themselves.
func (p *Portal) expireLater(a *authorization) {
	a.end = p.timers.start(a.expires, "authorization expires", func(time.Time) {
		p.stats.Expired++
		p.grants.ended[a.account] = true
		p.retry(a)
		p.grants.tidy(p.grants.remove(a))
	})
}

// purgeInterval is how often expired authorizations are deleted from the store.
const purgeInterval = time.Minute

func (p *Portal) purgeLater(now time.Time) {
	p.timers.start(now.Add(purgeInterval), "purge of expired authorizations", func(now time.Time) {
		p.writes.purge(p.grants.ended, now)
		clear(p.grants.ended)
		p.purgeLater(now)
	})
}
