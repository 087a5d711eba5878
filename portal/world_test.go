package portal

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// The sizes of the small world of the property test.
const (
	worldActors    = 4 // the last one is a person, the others are service accounts
	worldPerson    = worldActors - 1
	worldClients   = 6
	worldGateways  = 4
	worldRelays    = 3
	worldSites     = 2
	worldResources = 6 // the last two are a static and a dynamic device pool
	worldStatic    = worldResources - 2
	worldDynamic   = worldResources - 1
	worldGroups    = 2
	worldPolicies  = 8
	// worldGenerations is how far apart the numbers of a device and its successor are.
	worldGenerations = 100
)

// condition is what a policy of the world asks for.
type condition int

const (
	always condition = iota
	fromOffice
	verifiedOnly
	atDaytime
)

// worldPolicy, worldResource and world are a policy file by its degrees of freedom.
type worldPolicy struct {
	enabled, flowLogs bool
	group, resource   int
	condition         condition
}

type worldResource struct{ address, filters, site int }

type world struct {
	actors    [worldActors]bool              // enabled; for the person it is the provider
	groups    [worldGroups][worldActors]bool // of the person it is what the provider claims
	members   [worldClients]bool             // of the static pool
	resources [worldResources]worldResource
	policies  [worldPolicies]worldPolicy
	domain    int
}

// testID is the id of a thing of the world: kind and number.
func testID(kind, n int) string { return fmt.Sprintf("%08d-0000-4000-8000-%012d", kind, n+1) }

const (
	idActor = iota + 1
	idClient
	idGateway
	idSite
	idResource
	idPolicy
	idGroup
	idProvider
)

// yaml writes the world as a policy file.
func (w *world) yaml() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("version: 1\naccounts:\n  - slug: acme\n    id: %s\n    name: Acme\n    dns: {upstream: system, search_domain: d%d.example}", account1, w.domain)
	line("    sites:")
	for i := range worldSites {
		line("      - {name: s%d, id: %s}", i, testID(idSite, i))
	}
	line("    resources:")
	for i, r := range w.resources {
		filters := []string{"", ", filters: [{protocol: icmp}]", ", filters: [{protocol: tcp, ports: [80-90]}]"}[r.filters]
		switch i {
		case worldStatic:
			line("      - {name: r%d, id: %s, type: static_device_pool, devices: [%s]%s}", i, testID(idResource, i), strings.Join(w.memberIDs(), ", "), filters)
		case worldDynamic:
			line("      - {name: r%d, id: %s, type: dynamic_device_pool, address: \"*.dyn\"%s}", i, testID(idResource, i), filters)
		default:
			line("      - {name: r%d, id: %s, type: cidr, address: %s, site: s%d%s}", i, testID(idResource, i), r.network(i), r.site, filters)
		}
	}
	line("    providers: [{name: idp, id: %s, issuer: \"https://login.example\", client_id: idp, disabled: %v}]", testID(idProvider, 0), !w.actors[worldPerson])
	line("    service_accounts:")
	for i, enabled := range w.actors[:worldPerson] {
		line("      - {name: a%d, id: %s, disabled: %v}", i, testID(idActor, i), !enabled)
	}
	line("    groups:")
	for i, members := range w.groups {
		var names []string
		for j, in := range members[:worldPerson] {
			if in {
				names = append(names, fmt.Sprintf("a%d", j))
			}
		}
		line("      - {name: g%d, id: %s, service_accounts: [%s], claims: [{provider: idp, claim: groups, value: g%d}]}", i, testID(idGroup, i), strings.Join(names, ", "), i)
	}
	line("    policies:")
	for i, p := range w.policies {
		conditions := []string{"", ", conditions: {remote_ip: {in: [198.51.100.0/24]}}", ", conditions: {client_verified: true}",
			", conditions: {time: [{days: [mon, tue, wed, thu, fri, sat, sun], ranges: [\"08:00-18:00\"], zone: UTC}]}"}[p.condition]
		line("      - {name: p%d, id: %s, group: g%d, resource: r%d, disabled: %v, flow_logs: %v%s}",
			i, testID(idPolicy, i), p.group, p.resource, !p.enabled, p.flowLogs, conditions)
	}
	return b.String()
}

func drawWorld(r *rand.Rand) *world {
	w := &world{}
	for i := range w.actors {
		w.actors[i] = true
	}
	for i := range w.groups {
		for j := range w.groups[i] {
			w.groups[i][j] = r.IntN(4) > 0
		}
	}
	for i := range w.members {
		w.members[i] = r.IntN(2) == 0
	}
	for i := range w.resources {
		w.resources[i].site = r.IntN(worldSites)
	}
	for i := range w.policies {
		w.policies[i] = drawPolicy(r)
	}
	return w
}

func drawPolicy(r *rand.Rand) worldPolicy {
	return worldPolicy{
		enabled: r.IntN(5) > 0, flowLogs: r.IntN(2) == 0,
		group:    r.IntN(worldGroups),
		resource: r.IntN(worldResources), condition: oneOf(r, []condition{always, always, always, fromOffice, verifiedOnly, atDaytime}),
	}
}

// edit changes one thing.
func (w *world) edit(r *rand.Rand) {
	switch r.IntN(8) {
	case 0:
		g := &w.groups[r.IntN(worldGroups)]
		i := r.IntN(worldPerson)
		g[i] = !g[i]
	case 1:
		w.policies[r.IntN(worldPolicies)] = drawPolicy(r)
	case 2:
		p := &w.policies[r.IntN(worldPolicies)]
		p.enabled = !p.enabled
	case 3:
		w.resources[r.IntN(worldStatic)].address ^= 1
	case 4:
		r := &w.resources[r.IntN(worldResources)]
		r.filters = (r.filters + 1) % 3
	case 5:
		r := &w.resources[r.IntN(worldStatic)]
		r.site = 1 - r.site
	case 6:
		if r.IntN(4) == 0 {
			i := r.IntN(worldActors)
			w.actors[i] = !w.actors[i]
		}
		w.domain++
	case 7:
		i := r.IntN(worldClients)
		w.members[i] = !w.members[i]
	}
}

// memberIDs are the devices of the static pool: of those that have been deleted, the first. One never
// connects.
func (w *world) memberIDs() (ids []string) {
	ids = append(ids, testID(idClient, worldGenerations-1))
	for i, in := range w.members {
		if in {
			ids = append(ids, testID(idClient, i))
		}
	}
	return ids
}

// network is the address of a resource.
func (r *worldResource) network(n int) string { return fmt.Sprintf("10.%d.%d.0/24", n, r.address) }

// wireFilters are a resource's filters as devices are told.
func (r *worldResource) wireFilters() signal.List[signal.Filter] {
	return []signal.List[signal.Filter]{
		{}, {{Protocol: signal.ICMP}}, {{Protocol: signal.TCP, PortStart: 80, PortEnd: 90}},
	}[r.filters]
}

// seat is from where an actor acts. Without a connection the place does not count, and without a
// clock that can be relied on the time does not.
type seat struct{ office, connected, verified, timeless bool }

// allows is the reference: whether an actor may use a resource from there at now.
func (w *world) allows(actor, resource int, from seat, now time.Time) bool {
	for _, p := range w.policies {
		if !p.enabled || p.resource != resource || !w.groups[p.group][actor] || !w.actors[actor] {
			continue
		}
		hour := now.UTC().Hour()
		switch p.condition {
		case always:
			return true
		case fromOffice:
			if from.office || !from.connected {
				return true
			}
		case verifiedOnly:
			if from.verified {
				return true
			}
		case atDaytime:
			if from.timeless || hour >= 8 && hour < 18 {
				return true
			}
		}
	}
	return false
}

func worldClient(n int) store.Device {
	return store.Device{
		DeviceKey: store.DeviceKey{Account: account1, Kind: store.Client, Owner: testID(idActor, n%worldActors), ExternalID: fmt.Sprint(n)},
		ID:        testID(idClient, n), Name: fmt.Sprintf("c%d", n), PublicKey: key(byte(n)), PSKBase: same(byte(n)),
		IPv4: netip.AddrFrom4([4]byte{100, 64, 1, byte(n)}), IPv6: netip.MustParseAddr(fmt.Sprintf("fd00:2021:1111::1:%d", n)),
	}
}

func worldGateway(n int) store.Device {
	return store.Device{
		DeviceKey: store.DeviceKey{Account: account1, Kind: store.Gateway, Owner: testID(idSite, n%worldSites), ExternalID: fmt.Sprint(n)},
		ID:        testID(idGateway, n), Name: fmt.Sprintf("g%d", n), PublicKey: key(byte(100 + n)), PSKBase: same(byte(100 + n)),
		IPv4: netip.AddrFrom4([4]byte{100, 64, 2, byte(n)}), IPv6: netip.MustParseAddr(fmt.Sprintf("fd00:2021:1111::2:%d", n)),
	}
}

// number is the index in an id that testID has made: its last digits, which are decimal.
func number(id signal.ID) (n int) {
	for _, b := range id[10:] {
		n = n*100 + int(b>>4)*10 + int(b&15)
	}
	return n - 1
}

// oneOf picks one of several.
func oneOf[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }
