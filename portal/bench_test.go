package portal

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

const (
	crowdClients   = 5000
	crowdGateways  = 50
	crowdResources = 200
	crowdGroups    = 50
)

// crowdFile has one site for every five gateways, and as many policies as resources.
func crowdFile() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("version: 1\naccounts:\n  - slug: acme\n    id: %s\n    name: Acme\n    sites:", account1)
	for i := range crowdGateways / 5 {
		line("      - {name: s%d, id: %s}", i, testID(idSite, i))
	}
	line("    resources:")
	for i := range crowdResources {
		line("      - {name: r%d, id: %s, type: cidr, address: 10.%d.0.0/16, site: s%d}", i, testID(idResource, i), i, i%(crowdGateways/5))
	}
	line("    service_accounts: [{name: robot, id: %s}]\n    groups:", actor1)
	for i := range crowdGroups {
		line("      - {name: g%d, members: [a%d@example.com, b@example.com], service_accounts: [robot]}", i, i)
	}
	line("    policies:")
	for i := range crowdResources {
		line("      - {group: g%d, resource: r%d, conditions: {remote_ip: {in: [198.51.100.0/24]}}}", i%crowdGroups, i)
	}
	return b.String()
}

// crowdRow is the i-th client.
func crowdRow(i int) store.Device {
	d := clientRow()
	d.ID, d.ExternalID = testID(idClient, i), fmt.Sprint(i)
	binary.BigEndian.PutUint32(d.PublicKey[:], uint32(i))
	d.IPv4 = netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)})
	d.IPv6 = netip.MustParseAddr(fmt.Sprintf("fd00:2021:1111::1:%x", i))
	return d
}

// crowd is a portal with everybody connected. Clients are channels 1 to crowdClients.
func crowd(tb testing.TB) *lab {
	l := newLab(tb, crowdFile())
	for i := range crowdClients {
		l.p.HandleConnect(ConnID(1+i), clientConnect(crowdRow(i)), l.now)
	}
	for i := range crowdGateways {
		d := gatewayRow()
		d.ID, d.ExternalID, d.Owner = testID(idGateway, i), fmt.Sprint(i), testID(idSite, i%(crowdGateways/5))
		binary.BigEndian.PutUint32(d.PublicKey[:], uint32(i))
		l.p.HandleConnect(ConnID(10001+i), gatewayConnect(d), l.now)
	}
	l.p.HandleConnect(20001, relayConnect(stamp), l.now)
	var out Output
	l.p.Drain(&out)
	return l
}

// BenchmarkAuthorize is one authorization from a client's request to its answer: the request, the
// store's and the gateway's answers, without the time of the store.
func BenchmarkAuthorize(b *testing.B) {
	l := crowd(b)
	var out Output
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		conn := ConnID(1 + n%crowdClients)
		l.p.HandleMessage(conn, signal.RequestAuthorization{ResourceID: uuid(testID(idResource, n/crowdClients%crowdResources))}, l.now)
		n++
		l.p.Drain(&out)
		for _, w := range out.Writes {
			l.p.HandleStored(w.ID, nil, l.now)
		}
		l.p.Drain(&out)
		to := out.Deliveries[0]
		l.p.HandleMessage(to.Conn, signal.AuthorizationApplied{Ref: to.Message.(signal.CreateAuthorization).Ref}, l.now)
		l.p.Drain(&out)
		if out.Deliveries[0].Conn != conn {
			b.Fatal("the client is not answered")
		}
	}
}

// BenchmarkRequest is the first third of it: what a request costs the portal before the store.
func BenchmarkRequest(b *testing.B) {
	l := crowd(b)
	var out Output
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		l.p.HandleMessage(ConnID(1+n%crowdClients), signal.RequestAuthorization{ResourceID: uuid(testID(idResource, n/crowdClients%crowdResources))}, l.now)
		n++
		l.p.Drain(&out)
		for _, w := range out.Writes {
			b.StopTimer()
			l.p.HandleStored(w.ID, store.ErrBusy, l.now)
			l.p.Drain(&out)
			b.StartTimer()
		}
	}
}

// BenchmarkCandidates passes one candidate on.
func BenchmarkCandidates(b *testing.B) {
	l := authorized(b, example)
	m := signal.CandidatesToGateway{GatewayID: uuid(gateway1), Candidates: signal.Candidates{"candidate:1 1 udp 7 x"}}
	var out Output
	b.ReportAllocs()
	for b.Loop() {
		l.p.HandleMessage(clientConn, m, l.now)
		l.p.Drain(&out)
		if len(out.Deliveries) != 1 {
			b.Fatal("the candidate is lost")
		}
	}
}

// BenchmarkEdit is a policy edit that everybody notices.
func BenchmarkEdit(b *testing.B) {
	l := crowd(b)
	files := [2]string{crowdFile(), strings.Replace(crowdFile(), "name: r7,", "name: r7, description: x,", 1)}
	var out Output
	n := 0
	for b.Loop() {
		b.StopTimer()
		f := parse(b, files[(n+1)%2])
		n++
		b.StartTimer()
		l.p.HandleConfig(f, l.now)
		l.p.Drain(&out)
		if len(out.Deliveries) != crowdClients {
			b.Fatalf("%d are told", len(out.Deliveries))
		}
	}
}

// BenchmarkEditOfAll is a policy edit that changes all of a thousand resources that everybody sees: what the
// machine does and what internal/channel does with its output, both under the driver's lock.
func BenchmarkEditOfAll(b *testing.B) {
	before := large{resources: 1000, name: "r", members: "robot"}
	after := before
	after.name = "x"
	files := [2]string{before.yaml(), after.yaml()}
	l := newLab(b, files[0])
	for i := range crowdClients {
		l.p.HandleConnect(ConnID(1+i), clientConnect(crowdRow(i)), l.now)
	}
	var out Output
	l.p.Drain(&out)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		f := parse(b, files[n%2])
		b.StartTimer()
		l.p.HandleConfig(f, l.now)
		l.p.Drain(&out)
		for _, d := range out.Deliveries {
			frame, err := signal.EncodeFromPortal(signal.RoleClient, signal.V2, d.Message)
			if err != nil || len(frame.PortalText()) < 1000*200 {
				b.Fatal(err)
			}
		}
		if len(out.Deliveries) != crowdClients {
			b.Fatalf("%d are told", len(out.Deliveries))
		}
	}
}

// TestRequestsCostTheSameInACrowd: with a thousandth of the clients a request allocates as much as
// with all of them, so nothing about it goes through all clients.
func TestRequestsCostTheSameInACrowd(t *testing.T) {
	l := crowd(t)
	var out Output
	n := 0
	request := func() {
		l.p.HandleMessage(ConnID(1+n%5), signal.RequestAuthorization{ResourceID: uuid(testID(idResource, n/5%crowdResources))}, l.now)
		n++
		l.p.Drain(&out)
		for _, w := range out.Writes {
			l.p.HandleStored(w.ID, store.ErrBusy, l.now)
		}
		l.p.Drain(&out)
	}
	many := testing.AllocsPerRun(200, request)
	for i := 5; i < crowdClients; i++ {
		l.p.HandleDisconnect(ConnID(1+i), l.now)
	}
	l.p.Drain(&out)
	if few := testing.AllocsPerRun(200, request); many > few*1.2 {
		t.Errorf("%v allocations for a request among %d clients, %v among 5", many, crowdClients, few)
	}
}
