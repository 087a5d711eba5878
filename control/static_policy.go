package control

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/firelane/firelane/fib"
	"github.com/firelane/firelane/protocol/wireguard"
)

// staticPolicies is what a static machine holds its peers to, once it was given policies.
type staticPolicies struct {
	base     PolicyBase
	clients  map[wireguard.PublicKey]*ClientPolicy
	budget   *fib.FlowBudget
	nextTick time.Time
	expiring []*staticPeer // peers whose flows are still to be looked at since the last tick
}

// HandlePolicies holds every peer to what set says of its key from now on, and peers that it does
// not mention to nothing. Flows live on, but those of clients whose proxy addresses got another
// meaning. On an error all is as before. The caller has found nothing wrong with set (Check), which
// takes too long to do here; the machine keeps set.
func (s *Static) HandlePolicies(set *PolicySet, now time.Time) error {
	next := &staticPolicies{base: set.Base, clients: set.byKey()}
	old := s.policies
	if old != nil {
		next.budget, next.nextTick = old.budget, old.nextTick
	} else {
		var seed [16]byte
		if _, err := io.ReadFull(s.cfg.Entropy, seed[:]); err != nil {
			return fmt.Errorf("read entropy: %w", err)
		}
		next.budget = fib.NewFlowBudget(fib.MaxFlows, fib.MaxFlowsPerClient, seed)
		next.nextTick = now
	}
	s.policies = next
	for _, p := range s.inOrder() {
		key := p.wire.PublicKey()
		renumbered := old != nil && reassigned(old.clients[key], next.clients[key])
		if renumbered {
			p.epoch++
		}
		s.holdToPolicy(p, now)
		if renumbered {
			s.change(fib.ResetFlows{Peer: p.fib, Epoch: p.epoch})
		}
	}
	return nil
}

// Check reports what is wrong with the set, as an error that wraps ErrConfig: it is tried on peers
// that nobody knows.
func (set *PolicySet) Check(now time.Time) error {
	if err := set.Base.Check(); err != nil {
		return err
	}
	trial := &staticPolicies{base: set.Base, clients: set.byKey()}
	if len(trial.clients) != len(set.Clients) {
		return configError("a client appears twice")
	}
	for i := range set.Clients {
		key := set.Clients[i].PublicKey
		if _, err := trial.grants(key, nil, 0, now, now); err != nil {
			return fmt.Errorf("client %v: %w", key, err)
		}
	}
	return set.checkAddrs()
}

// checkAddrs reports a tunnel address that two clients have: it would make them one for the loops.
func (set *PolicySet) checkAddrs() error {
	owners := make(map[netip.Addr]wireguard.PublicKey)
	for i := range set.Clients {
		c := &set.Clients[i]
		for _, a := range []netip.Addr{c.Addr4, c.Addr6} {
			if !a.IsValid() {
				continue
			}
			if first, ok := owners[a]; ok {
				return configError("clients %v and %v have the same address %v", first, c.PublicKey, a)
			}
			owners[a] = c.PublicKey
		}
	}
	return nil
}

func (set *PolicySet) byKey() map[wireguard.PublicKey]*ClientPolicy {
	m := make(map[wireguard.PublicKey]*ClientPolicy, len(set.Clients))
	for i := range set.Clients {
		m[set.Clients[i].PublicKey] = &set.Clients[i]
	}
	return m
}

// grants returns what the policies grant to the peer with a key, in the given epoch of its names.
func (ps *staticPolicies) grants(key wireguard.PublicKey, p *fib.Peer, epoch uint64, start, now time.Time) (*Grants, error) {
	c := ps.clients[key]
	if c == nil {
		c = &ClientPolicy{}
	}
	g, err := NewGrants(GrantsConfig{Peer: p, Base: ps.base, Addr4: c.Addr4, Addr6: c.Addr6, Epoch: epoch, Start: start}, now)
	if err != nil {
		return nil, err
	}
	return g, g.Apply(*c, now)
}

// holdToPolicy publishes the policy of a peer, if there are policies.
func (s *Static) holdToPolicy(p *staticPeer, now time.Time) {
	if s.policies == nil {
		return
	}
	g, err := s.policies.grants(p.wire.PublicKey(), p.fib, p.epoch, s.cfg.Epoch, now)
	if err != nil {
		panic("control: a policy that was accepted is refused: " + err.Error())
	}
	if p.grants == nil {
		p.fib.Flows().SetBudget(s.policies.budget)
	}
	p.grants = g
	s.out.Changes = g.Drain(s.out.Changes)
}

// expireSteps is how many steps of fib.ExpireStep flows one timeout takes: about a millisecond's
// work. Handshakes and answers need not wait until a million flows have ended.
const expireSteps = 32

// tickPolicies ends what has expired: grants, by the second, and flows, over as many timeouts as it
// takes, with a pause between two steps in the same table.
func (s *Static) tickPolicies(now time.Time) {
	ps := s.policies
	if ps == nil || now.Before(ps.nextTick) {
		return
	}
	if len(ps.expiring) == 0 {
		for _, p := range s.inOrder() {
			if at, ok := p.grants.NextTimeout(); ok && !at.After(now) {
				p.grants.HandleTimeout(now)
				s.out.Changes = p.grants.Drain(s.out.Changes)
			}
			if !p.fib.Flows().Empty() {
				ps.expiring = append(ps.expiring, p)
			}
		}
	}
	ps.expire(s.nanos(now))
	if len(ps.expiring) > 0 {
		ps.nextTick = now.Add(fib.ExpirePause)
		return
	}
	ps.nextTick = s.cfg.Epoch.Add((now.Sub(s.cfg.Epoch)/tick + 1) * tick)
}

// expire takes one step with each of the next few peers, and forgets those that are done.
func (ps *staticPolicies) expire(now int64) {
	some := ps.expiring[:min(len(ps.expiring), expireSteps)]
	rest := ps.expiring[len(some):]
	for _, p := range some {
		if _, more := p.fib.Flows().Expire(now, fib.ExpireStep); more {
			rest = append(rest, p)
		}
	}
	ps.expiring = rest
	if len(rest) == 0 {
		ps.expiring = nil
	}
}

// reassigned reports whether a proxy address of old no longer belongs to its name in new: what flows
// exist lead to what that name stood for.
func reassigned(old, new *ClientPolicy) bool {
	if old == nil {
		return false
	}
	domains := make(map[netip.Addr]string)
	if new != nil {
		for _, a := range new.Names {
			for _, proxy := range a.Proxies {
				domains[proxy] = a.Domain
			}
		}
	}
	for _, a := range old.Names {
		for _, proxy := range a.Proxies {
			if domains[proxy] != a.Domain {
				return true
			}
		}
	}
	return false
}

// FlowStats returns the sum of what the NAT tables of all peers hold, and have counted since the
// beginning.
func (s *Static) FlowStats() fib.FlowStats {
	sum := fib.FlowStats{FlowCounts: s.flowsGone}
	for _, p := range s.peers {
		f := p.fib.Flows().Stats()
		sum.Live += f.Live
		sum.Remembered += f.Remembered
		addFlowCounts(&sum.FlowCounts, &f.FlowCounts)
	}
	return sum
}

// closeFlows ends the flows of a peer that goes, and keeps what they have counted.
func (s *Static) closeFlows(p *staticPeer) {
	f := p.fib.Flows().Stats()
	addFlowCounts(&s.flowsGone, &f.FlowCounts)
	s.change(fib.CloseFlows{Peer: p.fib})
	if ps := s.policies; ps != nil {
		ps.expiring = slices.DeleteFunc(ps.expiring, func(q *staticPeer) bool { return q == p })
	}
}

func addFlowCounts(sum, f *fib.FlowCounts) {
	sum.Created += f.Created
	sum.Expired += f.Expired
	sum.Evicted += f.Evicted
	sum.Exhausted += f.Exhausted
	sum.Refused += f.Refused
	sum.Forgotten += f.Forgotten
}
