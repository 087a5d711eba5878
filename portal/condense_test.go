package portal

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/firelane/firelane/protocol/signal"
)

// large is a policy file with many resources of everybody's.
type large struct {
	resources int
	name      string // of the resources, before their number
	filters   string
	condition string
	members   string
}

func (w large) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, `
version: 1
accounts:
  - slug: acme
    id: %s
    name: Acme
    sites:
      - {name: lab, id: %s}
    service_accounts:
      - {name: robot, id: %s}
    groups:
      - {name: robots, service_accounts: [%s]}
`, account1, site1, actor1, w.members)
	b.WriteString("    resources:\n")
	for i := range w.resources {
		fmt.Fprintf(&b, "      - {name: %s%d, id: %s, type: cidr, address: 10.%d.%d.0/24, site: lab%s}\n", w.name, i, testID(idResource, i), i/200, i%200, w.filters)
	}
	b.WriteString("    policies:\n")
	for i := range w.resources {
		fmt.Fprintf(&b, "      - {id: %s, group: robots, resource: %s%d%s}\n", testID(idPolicy, i), w.name, i, w.condition)
	}
	return b.String()
}

// queueBytes is what internal/channel lets wait for a device, beside its largest message.
const queueBytes = 1 << 20

// events returns what a channel was told, a run of the same event as one, and checks that it fits
// into the channel's queue without a single byte being read.
func (l *lab) events(conn ConnID) (all []string) {
	l.t.Helper()
	total, largest := 0, 0
	for _, text := range l.take(conn) {
		total += len(text) + 64
		largest = max(largest, len(text)+64)
		_, rest, _ := strings.Cut(text, `"event":"`)
		event, _, _ := strings.Cut(rest, `"`)
		if n := len(all); n == 0 || all[n-1] != event {
			all = append(all, event)
		}
	}
	if total-largest > queueBytes {
		l.t.Errorf("channel %d has %d bytes waiting beside the largest message of %d", conn, total-largest, largest)
	}
	return all
}

// An edit of a thousand resources takes a client one init, or what is less, and cuts no queue. What
// the client sees in the end is what the file says.
func TestAnEditOfAThousandResources(t *testing.T) {
	const granted = 300
	before := large{resources: 1000, name: "r", members: "robot"}
	many := fmt.Sprintf(", filters: [{protocol: tcp, ports: [%[1]s]}, {protocol: udp, ports: [%[1]s]}]", ports(60))
	for _, c := range []struct {
		what            string
		edit            func(*large)
		client, gateway []string
	}{
		{"another name", func(w *large) { w.name = "x" }, []string{"init"}, nil},
		{"nearly all gone", func(w *large) { w.resources = 1 }, []string{"init"}, []string{"init"}},
		{"half gone", func(w *large) { w.resources = 500 }, []string{"resource_deleted"}, nil},
		{"no member", func(w *large) { w.members = "" }, []string{"init"}, []string{"init"}},
		{"another condition", func(w *large) { w.condition = ", conditions: {remote_ip: {in: [0.0.0.0/1, 128.0.0.0/1]}}" },
			[]string{"resource_deleted", "init"}, []string{"init"}},
		{"a filter each", func(w *large) { w.filters = ", filters: [{protocol: icmp}]" }, []string{"init"}, []string{"resource_updated"}},
		{"many filters each", func(w *large) { w.filters = many }, []string{"init"}, []string{"resource_updated", "init"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			after := before
			c.edit(&after)
			l := newLab(t, before.yaml())
			l.connect(gatewayConn, gatewayConnect(gatewayRow()))
			l.connect(clientConn, clientConnect(clientRow()))
			clear(l.seen)
			for i := range granted {
				l.text(clientConn, requestText(testID(idResource, i)))
				l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
			}
			clear(l.seen)
			l.p.HandleConfig(parse(t, after.yaml()), l.now)
			l.drain()
			if got := l.events(clientConn); !slices.Equal(got, c.client) {
				t.Errorf("client is told %v, want %v", got, c.client)
			}
			if got := l.events(gatewayConn); !slices.Equal(got, c.gateway) {
				t.Errorf("gateway is told %v, want %v", got, c.gateway)
			}
			now := l.p.clientInit(l.p.clients[uuid(client1)])
			l.connect(clientConn, clientConnect(clientRow()))
			if fresh := l.p.clientInit(l.p.clients[uuid(client1)]); len(fresh.Resources) != len(now.Resources) {
				t.Errorf("client sees %d resources, should see %d", len(now.Resources), len(fresh.Resources))
			}
		})
	}
}

// A client is made to let go of what it keeps for as many resources as there is room for, and told of the
// others by init alone.
func TestResourcesThatReturnAreBounded(t *testing.T) {
	const all, bound = 1000, 7
	before := large{resources: all, name: "r", members: "robot"}
	after := before
	after.condition = ", conditions: {remote_ip: {in: [0.0.0.0/1, 128.0.0.0/1]}}"
	l := newLab(t, before.yaml())
	l.p.bounds.returning = bound
	l.connect(clientConn, clientConnect(clientRow()))
	clear(l.seen)
	l.p.HandleConfig(parse(t, after.yaml()), l.now)
	l.drain()
	got := l.take(clientConn)
	if len(got) != bound+1 {
		t.Fatalf("client gets %d messages, want %d", len(got), bound+1)
	}
	for _, text := range got[:bound] {
		if !strings.HasPrefix(text, `{"event":"resource_deleted"`) {
			t.Errorf("client gets %s", text)
		}
	}
	if init := got[bound]; !strings.HasPrefix(init, `{"event":"init"`) || strings.Count(init, `"type":"cidr"`) != all {
		t.Errorf("client gets an init with %d resources", strings.Count(init, `"type":"cidr"`))
	}
	if maxReturning*(pieceBytes+1) > queueBytes*3/4 {
		t.Errorf("%d of them leave no room in a queue", maxReturning)
	}
}

// ports are n ports that cannot be joined.
func ports(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(2*i+1))
	}
	return strings.Join(all, ", ")
}

// A receiver of a device pool is told like a gateway.
func TestAnEditOfAThousandInboundGrants(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	for i := range 1000 {
		row := clientRow()
		row.ID, row.ExternalID = testID(idClient, i), fmt.Sprint(i)
		row.IPv4 = netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)})
		row.IPv6 = netip.MustParseAddr(fmt.Sprintf("fd00:2021:1111::2:%x", i))
		conn := ConnID(1000 + i)
		l.connect(conn, clientConnect(row))
		l.text(conn, deviceText(pool1+`","ipv4":"100.64.12.10"`))
	}
	clear(l.seen)
	l.p.HandleConfig(parse(t, strings.Replace(pooled, "{group: robots, resource: Pool}", "{group: robots, resource: Pool, disabled: true}", 1)), l.now)
	l.drain()
	if got := l.events(secondConn); !slices.Equal(got, []string{"init"}) {
		t.Errorf("receiver is told %v", got)
	}
}
