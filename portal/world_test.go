package portal

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// The sizes of the small world of the property test.
const (
	worldActors    = 3
	worldClients   = 5
	worldGateways  = 4
	worldSites     = 2
	worldResources = 5 // the last one is a device pool
	worldGroups    = 2
	worldPolicies  = 6
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
	actors    [worldActors]bool // enabled
	groups    [worldGroups][worldActors]bool
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
		if i == worldResources-1 {
			line("      - {name: r%d, id: %s, type: static_device_pool, devices: [%s, %s]%s}", i, testID(idResource, i), testID(idClient, 0), testID(idClient, 1), filters)
			continue
		}
		line("      - {name: r%d, id: %s, type: cidr, address: 10.%d.%d.0/24, site: s%d%s}", i, testID(idResource, i), i, r.address, r.site, filters)
	}
	line("    service_accounts:")
	for i, enabled := range w.actors {
		line("      - {name: a%d, id: %s, disabled: %v}", i, testID(idActor, i), !enabled)
	}
	line("    groups:")
	for i, members := range w.groups {
		var names []string
		for j, in := range members {
			if in {
				names = append(names, fmt.Sprintf("a%d", j))
			}
		}
		line("      - {name: g%d, id: %s, service_accounts: [%s]}", i, testID(idGroup, i), strings.Join(names, ", "))
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
	switch r.IntN(7) {
	case 0:
		g := &w.groups[r.IntN(worldGroups)]
		i := r.IntN(worldActors)
		g[i] = !g[i]
	case 1:
		w.policies[r.IntN(worldPolicies)] = drawPolicy(r)
	case 2:
		p := &w.policies[r.IntN(worldPolicies)]
		p.enabled = !p.enabled
	case 3:
		w.resources[r.IntN(worldResources-2+1)].address ^= 1
	case 4:
		r := &w.resources[r.IntN(worldResources)]
		r.filters = (r.filters + 1) % 3
	case 5:
		r := &w.resources[r.IntN(worldResources-2+1)]
		r.site = 1 - r.site
	case 6:
		if r.IntN(4) == 0 {
			i := r.IntN(worldActors)
			w.actors[i] = !w.actors[i]
		}
		w.domain++
	}
}

// allows is the reference: whether an actor may use a resource from there at now. Without a
// connection the place does not count.
func (w *world) allows(actor, resource int, office, connected, verified bool, now time.Time) bool {
	for _, p := range w.policies {
		if !p.enabled || p.resource != resource || !w.groups[p.group][actor] || !w.actors[actor] {
			continue
		}
		hour := now.UTC().Hour()
		switch p.condition {
		case always:
			return true
		case fromOffice:
			if office || !connected {
				return true
			}
		case verifiedOnly:
			if verified {
				return true
			}
		case atDaytime:
			if hour >= 8 && hour < 18 {
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

// number is the index in an id that testID has made.
func number(id signal.ID) int {
	var kind, n int
	if _, err := fmt.Sscanf(id.String(), "%08d-0000-4000-8000-%012d", &kind, &n); err != nil {
		panic(err)
	}
	return n - 1
}

func worldState(f *config.File, devices []store.Device, rows map[string]store.Authorization) State {
	s := State{File: f, Devices: devices, Actors: map[string]config.Actor{}}
	for i := range worldActors {
		s.Actors[testID(idActor, i)] = config.Actor{ServiceAccount: testID(idActor, i)}
	}
	for _, r := range rows {
		s.Authorizations = append(s.Authorizations, r)
	}
	return s
}

// oneOf picks one of several.
func oneOf[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }
