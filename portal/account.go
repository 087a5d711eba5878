package portal

import (
	"maps"
	"reflect"
	"slices"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// account is an account of the policy file, prepared for looking things up, with who is connected.
// It stays the same when the file is edited; what is in it is replaced.
type account struct {
	*config.Account
	id        signal.ID
	resources map[signal.ID]*resource
	order     []*resource // as in the file
	policies  map[signal.ID]*config.Policy
	sites     map[signal.ID]*config.Site
	groups    map[string]*config.Group
	dns       signal.Interface // without addresses

	clients  map[signal.ID]*client
	gateways map[signal.ID]*gateway
	// listed are the resources that the last init of a client named. Many clients see the same ones.
	listed listed
}

// resource is a resource as the file has it and as clients are shown it. The latter is the same
// object for as long as it reads the same.
type resource struct {
	*config.Resource
	id    signal.ID
	site  signal.ID
	shown *signal.ClientResource
	// changed is what clients are told about toldOf, under the present names and those of before.
	changed [2]signal.Message
	toldOf  *signal.ClientResource
	// policies are those that may give access to it.
	policies []*config.Policy
}

// install makes f the file in force, without telling anybody.
func (p *Portal) install(f *config.File) {
	p.file = f
	p.places = map[string]Location{}
	for _, r := range f.Relays {
		p.places[r.Name] = Location{Latitude: r.Latitude, Longitude: r.Longitude, Located: true}
	}
	fresh := map[string]*account{}
	for i := range f.Accounts {
		of := &f.Accounts[i]
		a := p.accounts[of.ID]
		if a == nil {
			a = &account{clients: map[signal.ID]*client{}, gateways: map[signal.ID]*gateway{}}
		}
		a.install(of, &p.directory)
		fresh[of.ID] = a
	}
	p.accounts = fresh
}

func (a *account) install(of *config.Account, d *directory) {
	before := a.resources
	a.order = nil
	a.Account, a.id = of, uuid(of.ID)
	a.policies, a.sites = map[signal.ID]*config.Policy{}, map[signal.ID]*config.Site{}
	a.groups, a.resources = map[string]*config.Group{}, map[signal.ID]*resource{}
	for i := range of.Sites {
		a.sites[uuid(of.Sites[i].ID)] = &of.Sites[i]
	}
	for i := range of.Groups {
		a.groups[of.Groups[i].ID] = &of.Groups[i]
	}
	for i := range of.Resources {
		r := &resource{Resource: &of.Resources[i], id: uuid(of.Resources[i].ID)}
		r.site = uuid(r.Site)
		a.show(r, d)
		if old := before[r.id]; old != nil && reflect.DeepEqual(old.shown, r.shown) {
			r.shown = old.shown
		}
		a.resources[r.id] = r
		a.order = append(a.order, r)
	}
	for i := range of.Policies {
		policy := &of.Policies[i]
		a.policies[uuid(policy.ID)] = policy
		if r := a.resources[uuid(policy.Resource)]; r != nil && !policy.Disabled {
			r.policies = append(r.policies, policy)
		}
	}
	a.dns = resolvers(&of.DNS)
}

// show makes what clients see of a resource.
func (a *account) show(r *resource, d *directory) {
	s := &signal.ClientResource{
		ID: r.id, Type: kindOf(r.Type), Name: r.Name, Address: networkOf(r.Resource), AddressDescription: r.Description,
		Filters: filtersOf(r.Filters),
	}
	if site := a.sites[r.site]; site != nil {
		s.Sites = signal.List[signal.Site]{{ID: r.site, Name: site.Name}}
	}
	switch r.Type {
	case config.DNSResource:
		s.IPStack = signal.IPStack(r.IPStack)
	case config.InternetResource:
		s.CanBeDisabled = true
	case config.StaticDevicePool:
		for _, id := range r.Devices {
			if m := d.byID[uuid(id)]; m != nil && m.account == a.ID {
				s.Devices = append(s.Devices, signal.PoolDevice{
					ClientID: m.id, IPv4: signal.Host{Addr: m.ipv4}, IPv6: signal.Host{Addr: m.ipv6},
				})
			}
		}
	}
	prepared := s.Prepared() // it is written once for all clients
	r.shown = &prepared
}

// atGateway is a resource as gateways see it.
func (r *resource) atGateway() signal.GatewayResource {
	return signal.GatewayResource{
		ID: r.id, Type: kindOf(r.Type), Name: r.Name, Address: networkOf(r.Resource), Filters: filtersOf(r.Filters),
	}
}

// asPool is a device pool as its members see it: only id and filters matter.
func (r *resource) asPool() *signal.PoolResource {
	return &signal.PoolResource{ID: r.id, Type: kindOf(r.Type), Name: r.Name, Filters: filtersOf(r.Filters)}
}

// admits reports whether an actor may connect at all.
func (a *account) admits(actor config.Actor) bool {
	if actor.ServiceAccount != "" {
		return slices.ContainsFunc(a.ServiceAccounts, func(s config.ServiceAccount) bool {
			return s.ID == actor.ServiceAccount && !s.Disabled
		})
	}
	return actor.Provider == "" || slices.ContainsFunc(a.Providers, func(p config.Provider) bool {
		return p.ID == actor.Provider && !p.Disabled
	})
}

// connectedGateways returns the gateways of a site that are connected, in the order of their ids.
func (a *account) connectedGateways(site signal.ID) []*gateway {
	var all []*gateway
	for _, g := range a.gateways {
		if g.site == site {
			all = append(all, g)
		}
	}
	slices.SortFunc(all, func(x, y *gateway) int { return x.id.Compare(y.id) })
	return all
}

// kindOf translates the type: a single address is a network of its own.
func kindOf(t config.ResourceType) signal.ResourceType {
	if t == config.IPResource {
		return signal.CIDR
	}
	return signal.ResourceType(t)
}

func networkOf(r *config.Resource) string {
	if r.Type != config.IPResource {
		return r.Address
	}
	return hostPrefix(r.Address)
}

func filtersOf(all []config.Filter) signal.List[signal.Filter] {
	filters := make(signal.List[signal.Filter], len(all))
	for i, f := range all {
		filters[i] = signal.Filter{Protocol: signal.Protocol(f.Protocol), PortStart: f.First, PortEnd: f.Last}
	}
	return filters
}

// uuid reads an id that the policy file has checked; what is none is the zero ID, which nothing has.
func uuid(s string) signal.ID {
	id, err := signal.ParseID(s)
	if err != nil {
		return signal.ID{}
	}
	return id
}

// inOrder returns the values of a map in the order of their ids.
func inOrder[V any](m map[signal.ID]V) []V {
	all := make([]V, 0, len(m))
	for _, id := range sortedIDs(m) {
		all = append(all, m[id])
	}
	return all
}

// sortedIDs returns the keys of a map in their order.
func sortedIDs[V any](m map[signal.ID]V) []signal.ID {
	return slices.SortedFunc(maps.Keys(m), signal.ID.Compare)
}

// byID orders authorizations.
func byID(a, b *authorization) int { return a.id.Compare(b.id) }
