package portal

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

const (
	client2 = "11111111-1111-4111-8111-222222222222"
	pool1   = "77777777-7777-4777-8777-111111111111"
	pool2   = "77777777-7777-4777-8777-222222222222"
)

// pooled is the example with a static pool of client 2 and a dynamic one.
var pooled = strings.NewReplacer(
	"    service_accounts:\n", "      - {name: Pool, id: "+pool1+", type: static_device_pool, devices: ["+client2+"]}\n"+
		"      - {name: Named, id: "+pool2+", type: dynamic_device_pool, address: \"*.pool.example\"}\n    service_accounts:\n",
	"    policies:\n", "    policies:\n      - {group: robots, resource: Pool}\n      - {group: robots, resource: Named}\n",
).Replace(example)

func secondRow() store.Device {
	d := clientRow()
	d.ID, d.Name, d.PublicKey, d.ExternalID = client2, "desk.pool.example", key(0x60), "c2"
	d.IPv4, d.IPv6 = netip.MustParseAddr("100.64.12.10"), netip.MustParseAddr("fd00:2021:1111::3:8")
	return d
}

const secondConn ConnID = 8

func deviceText(payload string) string {
	return `{"topic":"client","event":"request_authorization","payload":{"resource_id":"` + payload + `,"connected_gateway_ids":[]},"ref":3}`
}

func TestPoolMembersAppear(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	l.expect(clientConn, `{"event":"init",…{"id":"`+pool1+`","type":"static_device_pool","name":"Pool","devices":[],"filters":[]}…`)
	l.connect(secondConn, clientConnect(secondRow()))
	l.expect(clientConn, `{"event":"resource_created_or_updated","payload":{"id":"`+pool1+`","type":"static_device_pool","name":"Pool",`+
		`"devices":[{"client_id":"`+client2+`","ipv4":"100.64.12.10/32","ipv6":"fd00:2021:1111::3:8/128"}],"filters":[]},"ref":null,"topic":"client"}`)
}

func TestDeviceAccess(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	clear(l.seen)
	var order []ConnID
	l.onFrame = func(c ConnID, _ Delivery) { order = append(order, c) }
	l.text(clientConn, deviceText(pool1+`","ipv4":"100.64.12.10"`))
	l.expect(secondConn, `{"event":"client_device_access_authorized","payload":{"client_id":"`+client1+`","client_name":"laptop",…"ice_role":"controlled","use_iceless":false,"expires_at":1790084000,`+
		`"resource":{"id":"`+pool1+`","type":"static_device_pool","name":"Pool","devices":[],"filters":[]},"subject":{…`)
	l.expect(clientConn, `{"event":"client_device_access_authorized","payload":{"client_id":"`+client2+`",…"ice_role":"controlling","use_iceless":false,"flow_logs_ingest_token":"…`)
	if len(order) != 2 || order[0] != secondConn {
		t.Errorf("told in the order %v", order)
	}
	l.message(clientConn, signal.CandidatesToPeer{ClientID: uuid(client2), Candidates: signal.Candidates{"candidate:1 1 udp 1 a"}})
	l.expect(secondConn, `{"event":"client_ice_candidates","payload":{"client_id":"`+client1+`","candidates":["candidate:1 1 udp 1 a"]},"ref":null,"topic":"client"}`)
	l.message(secondConn, signal.InvalidToPeer{ClientID: uuid(client1), Candidates: signal.Candidates{"candidate:1 1 udp 1 a"}})
	l.expect(clientConn, `{"event":"invalidate_client_ice_candidates","payload":{"client_id":"`+client2+`",…`)

	l.p.HandleConfig(parse(t, strings.Replace(pooled, "devices: ["+client2+"]}", "devices: ["+client2+"], filters: [{protocol: icmp}]}", 1)), l.now)
	l.drain()
	if got := strings.Join(l.take(secondConn), ""); !strings.Contains(got, `{"event":"resource_filters_updated","payload":{"id":"`+pool1+`","filters":[{"protocol":"icmp"}]}`) {
		t.Errorf("receiver got %s", got)
	}
	l.connect(secondConn, clientConnect(secondRow()))
	l.expect(secondConn, `{"event":"init",…"authorizations":[{"client_id":"`+client1+`","resource_id":"`+pool1+`",…`, `{"event":"resource_filters_updated",…`)
	l.p.HandleConfig(parse(t, strings.Replace(pooled, "{group: robots, resource: Pool}", "{group: robots, resource: Pool, disabled: true}", 1)), l.now)
	l.drain()
	if got := l.take(secondConn); len(got) == 0 || !strings.HasPrefix(got[0], `{"event":"reject_access","payload":{"client_id":"`+client1+`"`) {
		t.Errorf("receiver got %v", got)
	}
	l.disconnect(secondConn)
	l.take(clientConn)
	l.message(clientConn, signal.InvalidToPeer{ClientID: uuid(client2)})
	l.expect(clientConn, `{"event":"client_ice_candidate_error","payload":{"client_id":"`+client2+`","reason":"offline"},"ref":null,"topic":"client"}`)
}

// The client that asks is told when its target's message has gone out, and not before.
func TestDeviceAccessWaitsForThePush(t *testing.T) {
	l := newLab(t, pooled)
	l.mute = true
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	ask := func() {
		t.Helper()
		clear(l.seen)
		l.pushes = nil
		l.text(clientConn, deviceText(pool1+`","ipv4":"100.64.12.10"`))
		l.expect(secondConn, `{"event":"client_device_access_authorized",…"ice_role":"controlled"…`)
		l.expect(clientConn)
	}
	denied := `{"event":"client_device_access_denied","payload":{"client_id":"` + client2 + `","ipv4":"100.64.12.10","resource_id":"` + pool1 + `","reason":"offline"},"ref":null,"topic":"client"}`

	ask()
	l.message(secondConn, signal.CandidatesToPeer{ClientID: uuid(client1), Candidates: signal.Candidates{"candidate:1 1 udp 1 a", "candidate:1 1 udp 1 b"}})
	l.message(secondConn, signal.InvalidToPeer{ClientID: uuid(client1), Candidates: signal.Candidates{"candidate:1 1 udp 1 b"}})
	l.expect(clientConn)
	l.expect(secondConn)
	l.push()
	l.expect(clientConn, `{"event":"client_device_access_authorized",…"ice_role":"controlling"…`,
		`{"event":"client_ice_candidates","payload":{"client_id":"`+client2+`","candidates":["candidate:1 1 udp 1 a"]},"ref":null,"topic":"client"}`)

	ask()
	l.advance(requestTimeout)
	l.expect(clientConn, denied)
	l.push() // too late
	l.expect(clientConn)

	ask()
	l.disconnect(secondConn)
	l.push()
	l.expect(clientConn, denied)

	l.connect(secondConn, clientConnect(secondRow()))
	ask()
	l.connect(secondConn+1, clientConnect(secondRow())) // takes the place of the other
	l.expect(clientConn)
	l.push()
	l.expect(clientConn, `{"event":"client_device_access_authorized",…"ice_role":"controlling"…`)
	if s := l.p.Stats(); s.LateAnswers != 1 || s.TimedOut != 1 || s.Authorized != 2 {
		t.Errorf("stats %+v", s)
	}
	l.connect(secondConn, clientConnect(secondRow()))
	ask()
	l.connect(secondConn, clientConnect(secondRow())) // joins again on its channel: what it was told before is forgotten
	l.message(secondConn, signal.Pushed{ID: l.pushes[0].id})
	l.expect(clientConn)
	l.message(secondConn, signal.Pushed{ID: l.pushes[1].id})
	l.expect(clientConn, `{"event":"client_device_access_authorized",…"ice_role":"controlling"…`)
	ask()
	if l.message(clientConn, signal.Pushed{ID: l.pushes[0].id}); len(l.take(clientConn)) > 0 { // of another channel
		t.Error("anybody may say that a message has gone out")
	}
}

// A client may not have more passed on to another than an agent ever has.
func TestCandidatesAreBounded(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	clear(l.seen)
	l.text(clientConn, requestText(resource1))
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
	l.text(clientConn, deviceText(pool1+`","ipv4":"100.64.12.10"`))
	dozen := make(signal.Candidates, 12)
	for i := range dozen {
		dozen[i] = signal.Candidate(fmt.Sprintf("candidate:%d 1 udp 1 a", i))
	}
	for _, c := range []struct {
		from, to ConnID
		m        signal.Message
	}{
		{clientConn, gatewayConn, signal.CandidatesToGateway{GatewayID: uuid(gateway1), Candidates: dozen}},
		{gatewayConn, clientConn, signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{uuid(client1)}, Candidates: dozen}},
		{clientConn, secondConn, signal.CandidatesToPeer{ClientID: uuid(client2), Candidates: dozen}},
		{secondConn, clientConn, signal.InvalidToPeer{ClientID: uuid(client1), Candidates: dozen}},
	} {
		clear(l.seen)
		before := l.p.Stats().CandidatesDropped
		for range 100 {
			l.message(c.from, c.m)
		}
		passed := len(l.take(c.to))
		if want := candidateBurst / len(dozen); passed != want {
			t.Errorf("%T: %d of 100 are passed on, want %d", c.m, passed, want)
		}
		if got, want := l.p.Stats().CandidatesDropped-before, uint64((100-passed)*len(dozen)); got != want {
			t.Errorf("%T: %d candidates are counted as dropped, want %d", c.m, got, want)
		}
		if got := l.take(c.from); len(got) > 0 {
			t.Errorf("%T: who sends too much is told %v", c.m, got)
		}
		l.advance(time.Second)
		l.message(c.from, c.m)
		if len(l.take(c.to)) != 1 {
			t.Errorf("%T: nothing is passed on a second later", c.m)
		}
	}
}

func TestDeviceAccessIsDenied(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	clear(l.seen)
	denied := func(payload string) string {
		return `{"event":"client_device_access_denied","payload":{` + payload + `},"ref":null,"topic":"client"}`
	}
	resource := `"resource_id":"` + pool1 + `"`
	ask := func(payload, want string) {
		t.Helper()
		l.text(clientConn, deviceText(pool1+payload))
		l.expect(clientConn, denied(want))
	}
	ask(`"`, resource+`,"reason":"missing_address"`)
	ask(`","ipv4":"100.64.12.10","ipv6":"fd00::1"`, `"ipv4":"100.64.12.10","ipv6":"fd00::1",`+resource+`,"reason":"ambiguous_address"`)
	ask(`","ipv4":"100.64.12.11"`, `"ipv4":"100.64.12.11",`+resource+`,"reason":"forbidden"`)
	l.connect(secondConn, clientConnect(secondRow()))
	l.disconnect(secondConn)
	clear(l.seen)
	ask(`","ipv6":"fd00:2021:1111::3:8"`, `"client_id":"`+client2+`","ipv6":"fd00:2021:1111::3:8",`+resource+`,"reason":"offline"`)
	older := clientConnect(secondRow())
	older.Agent.Version = "1.4.0"
	l.connect(secondConn, older)
	clear(l.seen)
	ask(`","ipv4":"100.64.12.10"`, `"client_id":"`+client2+`","ipv4":"100.64.12.10",`+resource+`,"reason":"version_mismatch"`)
}

func TestNamesInPools(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	clear(l.seen)
	l.message(clientConn, signal.ResolvePoolDomain{ResourceID: uuid(pool2), Domain: "Desk.pool.example."})
	l.expect(clientConn, `{"event":"device_pool_domain_resolved","payload":{"resource_id":"`+pool2+`","domain":"Desk.pool.example.","ipv4":"100.64.12.10","ipv6":"fd00:2021:1111::3:8"},"ref":null,"topic":"client"}`)
	for _, m := range []signal.ResolvePoolDomain{
		{ResourceID: uuid(pool2), Domain: "laptop"}, {ResourceID: uuid(pool2), Domain: "x.pool.example"}, {ResourceID: uuid(pool1), Domain: "desk.pool.example"},
	} {
		l.message(clientConn, m)
		l.expect(clientConn, `{"event":"device_pool_domain_resolution_failed","payload":{…"reason":"not_found"},"ref":null,"topic":"client"}`)
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.example", "a.example", true}, {"a.example", "b.example", false}, {"*.example", "a.example", true},
		{"*.example", "a.b.example", false}, {"**.example", "a.b.example", true}, {"**.example", ".example", true},
		{"?.example", "a.example", true}, {"?.example", "..example", false}, {"a*b*c", "axxbxxc", true}, {"a*b*c", "axxbxx", false},
		{"**", "", true}, {"*", "", true}, {"?", "", false}, {"", "", true}, {"", "a", false},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestVersionsPair(t *testing.T) {
	for _, c := range []struct {
		client, gateway string
		want            bool
	}{
		{"1.5.12", "1.4.0", true}, {"1.5.12", "1.3.9", false}, {"1.5.12", "1.6.9", true}, {"1.5.12", "1.7.0", false},
		{"1.5.12", "", false}, {"1.5.12", "2.5.0", false}, {"x", "1.0.0", true}, {"1.0.0", "1.1.0-rc.1+b", true},
	} {
		if got := parseVersion(c.client).pairs(parseVersion(c.gateway), "cidr"); got != c.want {
			t.Errorf("client %s, gateway %s: %v", c.client, c.gateway, got)
		}
	}
}
