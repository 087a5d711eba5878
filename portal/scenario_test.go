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

const disconnected = `{"event":"disconnect","payload":{"reason":"token_expired"},"ref":null,"topic":"client"}`

func failed(reason string, more ...string) string {
	return `{"event":"authorization_creation_failed","payload":{"resource_id":"` + resource1 + `","reason":"` + reason + `"` +
		strings.Join(more, "") + `},"ref":null,"topic":"client"}`
}

func rejected() string {
	return `{"event":"reject_access","payload":{"client_id":"` + client1 + `","resource_id":"` + resource1 + `"},"ref":null,"topic":"gateway"}`
}

// authorized is a lab in which the client has its authorization, and nothing is left to read.
func authorized(t testing.TB, file string) *lab {
	l := joined(t, file)
	l.text(clientConn, requestText(resource1))
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
	clear(l.seen)
	return l
}

func (l *lab) edit(old, fresh string) {
	l.t.Helper()
	if !strings.Contains(example, old) {
		l.t.Fatalf("%q is not in the example", old)
	}
	l.p.HandleConfig(parse(l.t, strings.Replace(example, old, fresh, 1)), l.now)
	l.drain()
}

func TestTheNewerOfTwoClientsStays(t *testing.T) {
	l := joined(t, example)
	l.take(clientConn)
	l.connect(9, clientConnect(clientRow()))
	l.expect(clientConn, disconnected, "(leave)")
	l.disconnect(clientConn) // the driver tells the end of the old channel later
	l.take(9)
	l.text(9, requestText(resource1))
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
	l.expect(9, `{"event":"authorization_created",…`)
}

func TestTheNewerOfTwoGatewaysStaysAndNothingFatalIsSent(t *testing.T) {
	l := authorized(t, example)
	l.connect(9, gatewayConnect(gatewayRow()))
	l.expect(gatewayConn, "(cut)")
	l.expect(9, `{"event":"init",…"authorizations":[{"client_id":"`+client1+`","resource_id":"`+resource1+`","expires_at":1790084000}],…`, `{"event":"resource_updated",…`)
}

func TestAChannelThatJoinsAgainGetsInitAgain(t *testing.T) {
	l := joined(t, example)
	first := l.take(clientConn)
	l.connect(clientConn, clientConnect(clientRow()))
	l.expect(clientConn, first...)
}

func TestTokensEnd(t *testing.T) {
	l := authorized(t, example)
	l.advance(84000*time.Second - time.Second)
	l.take(clientConn)
	l.advance(time.Second)
	l.expect(clientConn, disconnected, "(leave)")
	l.expect(gatewayConn) // it knows when the grant ends
	if s := l.p.Stats(); s.Authorizations != 0 || s.Expired != 1 || s.Clients != 0 {
		t.Errorf("%+v", s)
	}
	l.advance(2 * purgeInterval)
	if len(l.shelf.rows) != 0 {
		t.Errorf("store still has %v", l.shelf.rows)
	}
	l.connect(9, clientConnect(clientRow()))
	l.expect(9, disconnected, "(leave)")
}

func TestARevokedTokenEndsItsChannelsAndGrants(t *testing.T) {
	l := authorized(t, example)
	l.p.HandleTokenRevoked("token-1111", l.now)
	l.drain()
	l.expect(clientConn, disconnected, "(leave)")
	l.expect(gatewayConn, rejected())
	l.connect(9, clientConnect(clientRow())) // it was let in a moment before
	l.expect(9, disconnected, "(leave)")
	l.p.HandleTokenRevoked("token-relay", l.now)
	l.drain()
	l.expect(relayConn, "(away)")
	l.p.HandleTokenRevoked("token-2222", l.now)
	l.drain()
	l.expect(gatewayConn, strings.Replace(disconnected, "client", "gateway", 1), "(leave)")
}

func TestRequestsAreRefused(t *testing.T) {
	l := newLab(t, example)
	l.connect(clientConn, clientConnect(clientRow()))
	l.take(clientConn)
	l.text(clientConn, requestText(site1))
	l.expect(clientConn, strings.Replace(failed("not_found"), resource1, site1, 1))
	l.text(clientConn, requestText(resource1))
	l.expect(clientConn, failed("offline"))
	old := gatewayConnect(gatewayRow())
	old.Agent.Version = "1.3.9"
	l.connect(gatewayConn, old)
	l.text(clientConn, requestText(resource1))
	l.expect(clientConn, failed("version_mismatch"))
	l.p.HandleConfig(parse(t, strings.Replace(example, "resource: Lab net}",
		"resource: Lab net, conditions: {remote_ip: {in: [192.0.2.0/24]}, region: {in: [FR]}}}", 1)), l.now)
	l.drain()
	l.expect(clientConn, `{"event":"resource_deleted","payload":"`+resource1+`","ref":null,"topic":"client"}`)
	l.text(clientConn, requestText(resource1))
	l.expect(clientConn, failed("forbidden", `,"violated_properties":["remote_ip","remote_ip_location_region"]`))
}

func TestAnUnansweredRequestIsOfflineAfterItsLimit(t *testing.T) {
	l := joined(t, example)
	l.text(clientConn, requestText(resource1))
	id := ref(t, l.take(gatewayConn))
	l.take(clientConn)
	l.advance(requestTimeout - time.Second)
	l.expect(clientConn)
	l.advance(time.Second)
	l.expect(clientConn, failed("offline"))
	if r := l.message(gatewayConn, signal.AuthorizationApplied{Ref: id}); !r.OK {
		t.Errorf("late answer is replied %+v", r)
	}
	l.expect(clientConn)
	for _, bad := range []string{"", "x", client1} {
		if r := l.message(gatewayConn, signal.AuthorizationApplied{Ref: bad}); r.OK || r.Reason != "invalid_ref" {
			t.Errorf("ref %q is replied %+v", bad, r)
		}
	}
}

func TestNothingIsSaidBeforeTheStoreHasConfirmed(t *testing.T) {
	l := joined(t, example)
	clear(l.seen)
	l.lazy = true
	l.text(clientConn, requestText(resource1))
	l.text(clientConn, requestText(resource1)) // waits for the first
	l.expect(gatewayConn)
	l.lazy = false
	l.store()
	if got := l.take(gatewayConn); len(got) != 1 {
		t.Errorf("gateway got %v", got)
	}
	l.shelf.fail = store.ErrBusy
	l.text(clientConn, requestText(resource1))
	l.expect(clientConn, failed("offline"))
	l.expect(gatewayConn)
}

func TestALostGatewayIsReplaced(t *testing.T) {
	l := joined(t, example)
	other := gatewayRow()
	other.ID, other.PublicKey, other.IPv4 = actor1, key(0x40), netip.MustParseAddr("100.70.3.5")
	l.text(clientConn, requestText(resource1))
	l.connect(9, gatewayConnect(other))
	clear(l.seen)
	l.disconnect(gatewayConn)
	if len(l.take(9)) != 1 {
		t.Error("the other gateway is not asked")
	}
	l.disconnect(9)
	l.expect(clientConn, failed("offline"))
}

func TestCandidatesWaitForTheIntroduction(t *testing.T) {
	l := joined(t, example)
	l.text(clientConn, requestText(resource1))
	id := ref(t, l.take(gatewayConn))
	clear(l.seen)
	for _, c := range []signal.Candidate{"candidate:1 1 udp 1 a", "candidate:2 1 udp 2 b"} {
		l.message(gatewayConn, signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{uuid(client1)}, Candidates: signal.Candidates{c}})
	}
	l.message(gatewayConn, signal.BroadcastInvalid{ClientIDs: signal.List[signal.ID]{uuid(client1)}, Candidates: signal.Candidates{"candidate:1 1 udp 1 a"}})
	l.expect(clientConn)
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: id})
	l.expect(clientConn, `{"event":"authorization_created",…`,
		`{"event":"ice_candidates","payload":{"gateway_id":"`+gateway1+`","candidates":["candidate:2 1 udp 2 b"]},"ref":null,"topic":"client"}`)
	stranger := gatewayRow()
	stranger.ID = actor1
	l.connect(9, gatewayConnect(stranger))
	l.message(9, signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{uuid(client1)}, Candidates: signal.Candidates{"candidate:3 1 udp 3 c"}})
	l.expect(clientConn)
}

func TestEdits(t *testing.T) {
	changed := `{"event":"resource_created_or_updated","payload":{"id":"` + resource1 + `",…`
	deleted := `{"event":"resource_deleted","payload":"` + resource1 + `","ref":null,"topic":"client"}`
	const policy = "{id: " + policy1 + ", group: robots, resource: Lab net}"
	for _, c := range []struct {
		name, old, fresh string
		gateway, client  []string
	}{
		{"name", "{name: Lab net,", "{name: Net,", nil, nil}, // the policy names it too: see below
		{"description", "site: lab}\n    service", "site: lab, description: x}\n    service", nil, []string{changed}},
		{"filters", "site: lab}\n    service", "site: lab, filters: [{protocol: icmp}]}\n    service",
			[]string{`{"event":"resource_updated","payload":{"id":"` + resource1 + `","type":"cidr","name":"Lab net","address":"10.2.0.0/16","filters":[{"protocol":"icmp"}]},"ref":null,"topic":"gateway"}`}, []string{changed}},
		{"address", "10.2.0.0/16", "10.3.0.0/16", []string{rejected()}, []string{changed}},
		{"policy gone", "      - " + policy, "      []", []string{rejected()}, []string{deleted}},
		{"policy disabled", policy, strings.Replace(policy, "}", ", disabled: true}", 1), []string{rejected()}, []string{deleted}},
		{"conditions", policy, strings.Replace(policy, "}", ", conditions: {region: {in: [DE]}}}", 1), []string{rejected()}, []string{deleted, changed}},
		{"flow logs", policy, strings.Replace(policy, "}", ", flow_logs: true}", 1), []string{rejected()}, nil},
		{"membership", "service_accounts: [robot]}", "service_accounts: []}", []string{rejected()}, []string{deleted}},
		{"search domain", "name: Acme\n", "name: Acme\n    dns: {upstream: custom, servers: [192.0.2.53], search_domain: corp.example}\n", nil,
			[]string{`{"event":"config_changed","payload":{"interface":{"ipv4":"100.64.12.9","ipv6":"fd00:2021:1111::3:7","search_domain":"corp.example",` +
				`"upstream_do53":[{"ip":"192.0.2.53"}],"upstream_dns":[{"protocol":"ip_port","address":"192.0.2.53:53"}]}},"ref":null,"topic":"client"}`}},
		{"slug", "slug: acme", "slug: beta", []string{`{"event":"init","payload":{"account_slug":"beta",…`}, nil},
		{"actor disabled", "{name: robot,", "{name: robot, disabled: true,", []string{rejected()}, []string{disconnected, "(leave)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := authorized(t, example)
			if c.name == "name" {
				l.p.HandleConfig(parse(t, strings.ReplaceAll(example, "Lab net", "Net")), l.now)
				l.drain()
				l.expect(clientConn, changed)
				return
			}
			l.edit(c.old, c.fresh)
			l.expect(gatewayConn, c.gateway...)
			l.expect(clientConn, c.client...)
			if !l.p.Settled() || len(l.shelf.rows) != l.p.Stats().Authorizations {
				t.Errorf("store has %v", l.shelf.rows)
			}
		})
	}
}

func TestRevocationsAreRepeatedUntilTheyAreStored(t *testing.T) {
	l := authorized(t, example)
	l.shelf.fail = store.ErrBusy
	l.edit("service_accounts: [robot]}", "service_accounts: []}")
	l.expect(gatewayConn, rejected())
	if l.p.Settled() || len(l.shelf.rows) != 1 {
		t.Fatal("the store has not failed")
	}
	l.advance(2 * revokePause)
	if !l.p.Settled() || len(l.shelf.rows) != 0 {
		t.Errorf("store still has %v", l.shelf.rows)
	}
	l.expect(gatewayConn)
}

func TestTimeWindows(t *testing.T) {
	const policy = "{id: " + policy1 + ", group: robots, resource: Lab net"
	daytime := strings.Replace(example, policy, policy+`, conditions: {time: [{days: [mon, tue, wed, thu, fri, sat, sun], ranges: ["08:00-14:20"], zone: UTC}]}`, 1)
	l := joined(t, daytime)
	clear(l.seen)
	l.text(clientConn, requestText(resource1)) // 14:13:20; the window ends 400 s later
	asked := l.take(gatewayConn)
	if !like(asked[0], `…"expires_at":1790000400,…`) {
		t.Errorf("grant is %s", asked)
	}
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, asked)})
	l.take(clientConn)
	l.advance(400*time.Second + reviewInterval)
	l.expect(clientConn, `{"event":"resource_deleted",…`)
	l.advance(18 * time.Hour)
	l.expect(clientConn, `{"event":"resource_created_or_updated",…`)
}

func TestRelaysComeAndGo(t *testing.T) {
	l := joined(t, example)
	clear(l.seen)
	presence := func(gone, connected string) string {
		return `{"event":"relays_presence","payload":{"disconnected_ids":[` + gone + `],"connected":[` + connected + `]},"ref":null,"topic":"client"}`
	}
	l.connect(relayConn, relayConnect(stamp)) // within the quiet time nobody notices more than one push
	l.disconnect(relayConn)
	l.connect(9, relayConnect(stamp))
	l.advance(presenceQuiet + time.Second)
	l.expect(clientConn, presence("", `{"id":"60e05bd1-…`))
	l.connect(10, relayConnect(strings.Repeat("1", 64)))
	l.advance(presenceQuiet - time.Second/2)
	l.advance(time.Second)
	if got := l.take(clientConn); len(got) != 1 || strings.Count(got[0], `"type":"turn"`) != 2 {
		t.Errorf("client got %v", got)
	}
	l.connect(11, relayConnect(strings.Repeat("2", 64)))
	l.advance(2 * presenceQuiet)
	l.expect(clientConn) // two are enough
	l.disconnect(9)
	l.advance(2 * presenceQuiet)
	l.expect(clientConn, presence(`"60e05bd1-b195-4f2f-9411-2fa7197a5c88"`, `{…},{…}`))
	l.disconnect(10)
	l.disconnect(11)
	l.advance(2 * presenceQuiet)
	l.expect(clientConn, presence(`"…","…"`, ""))
	l.message(clientConn, signal.NoRelays{})
	l.expect(clientConn, presence("", ""))
}

func TestEachHasItsRelaysForGood(t *testing.T) {
	l := newLab(t, example)
	for i := range 9 {
		c := relayConnect(strings.Repeat(fmt.Sprint(i), 64))
		c.Params.IPv6 = netip.MustParseAddr("2001:db8::7")
		l.connect(ConnID(100+i), c)
	}
	l.connect(clientConn, clientConnect(clientRow()))
	first := l.take(clientConn)
	if strings.Count(first[0], `"type":"turn"`) != 4 { // two of two addresses
		t.Fatalf("client got %v", first)
	}
	l.disconnect(clientConn)
	l.connect(9, clientConnect(clientRow()))
	l.expect(9, first...)
}

func TestADeletedDeviceIsGone(t *testing.T) {
	l := authorized(t, example)
	l.p.HandleDeviceDeleted(client1, l.now)
	l.drain()
	l.expect(gatewayConn, rejected())
	l.expect(clientConn, "(leave)")
}

func TestAnUnverifiedDeviceLosesItsAuthorizations(t *testing.T) {
	l := joined(t, example)
	row := clientRow()
	row.Verified = true
	l.p.HandleDeviceChanged(row, l.now)
	l.drain()
	l.text(clientConn, requestText(resource1))
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
	l.p.HandleDeviceChanged(clientRow(), l.now)
	l.drain()
	l.expect(gatewayConn, rejected())
}

func TestRestartKeepsWhatHolds(t *testing.T) {
	l := authorized(t, example)
	s := State{File: parse(t, example), Devices: []store.Device{clientRow(), gatewayRow()}, Actors: l.p.actors}
	for _, r := range l.shelf.rows {
		s.Authorizations = append(s.Authorizations, r)
	}
	l.boot(s)
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.expect(gatewayConn, `{"event":"init",…"authorizations":[{"client_id":"`+client1+`",…`, `{"event":"resource_updated",…`)
	s.Actors = nil // nobody knows who holds it
	l.boot(s)
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.expect(gatewayConn, `{"event":"init",…"authorizations":[],…`)
	if len(l.shelf.rows) != 0 {
		t.Errorf("store still has %v", l.shelf.rows)
	}
}

func TestNobodyKnowsWhichFileWasInForce(t *testing.T) {
	l := authorized(t, example)
	s := State{
		File: parse(t, example), Devices: []store.Device{clientRow(), gatewayRow()}, Actors: l.p.actors, Distrusted: true,
	}
	for _, r := range l.shelf.rows {
		s.Authorizations = append(s.Authorizations, r)
	}
	l.boot(s)
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.expect(gatewayConn, `{"event":"init",…"authorizations":[],…`)
	if len(l.shelf.rows) != 0 || !l.p.Settled() {
		t.Errorf("store still has %v", l.shelf.rows)
	}
}
