package portal

import (
	"slices"
	"strings"
	"testing"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

var icmpOnly = strings.Replace(example, "site: lab}", "site: lab, filters: [{protocol: icmp}]}", 1)

const (
	grantedAgain = `{"event":"init",…"authorizations":[{"client_id":"` + client1 + `","resource_id":"` + resource1 + `","expires_at":1790084000}],…`
	filtered     = `{"event":"resource_updated","payload":{"id":"` + resource1 + `",…"filters":[{"protocol":"icmp"}]},…`
	notGranted   = `{"event":"init",…"authorizations":[],…`
)

// A gateway may miss what it is told about filters: because it is away, because its old channel is dead
// and nobody has noticed yet, or while it joins again. After init it is told once more.
func TestFiltersThatAGatewayHasMissed(t *testing.T) {
	for what, lose := range map[string]func(*lab){
		"away": func(l *lab) { l.disconnect(gatewayConn) },
		"dead": func(*lab) {},
	} {
		for _, again := range []ConnID{gatewayConn, 99} {
			l := authorized(t, example)
			lose(l)
			l.p.HandleConfig(parse(t, icmpOnly), l.now)
			l.drain()
			l.take(gatewayConn) // lost
			l.connect(again, gatewayConnect(gatewayRow()))
			if got := l.take(again); !slices.EqualFunc(got, []string{grantedAgain, filtered}, like) {
				t.Errorf("%s, then on channel %d: told %v", what, again, got)
			}
			if len(l.shelf.rows) != 1 {
				t.Errorf("%s: store keeps %v", what, l.shelf.rows)
			}
		}
	}
}

// A client that others connect to may miss them, too.
func TestFiltersThatAClientHasMissed(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	l.text(clientConn, deviceText(pool1+`","ipv4":"100.64.12.10"`))
	l.p.HandleConfig(parse(t, strings.Replace(pooled, "devices: ["+client2+"]}", "devices: ["+client2+"], filters: [{protocol: icmp}]}", 1)), l.now)
	l.drain()
	l.take(secondConn) // lost
	l.connect(99, clientConnect(secondRow()))
	l.expect(99, `{"event":"init",…"authorizations":[{"client_id":"`+client1+`","resource_id":"`+pool1+`",…`,
		`{"event":"resource_filters_updated","payload":{"id":"`+pool1+`","filters":[{"protocol":"icmp"}]},…`)
}

// A gateway that has missed a revocation and the grant after it would keep the address of before, if
// init named the pair.
func TestAGrantThatAGatewayHasMissed(t *testing.T) {
	l := authorized(t, example)
	l.p.HandleConfig(parse(t, strings.Replace(example, "10.2.0.0/16", "10.3.0.0/16", 1)), l.now)
	l.drain()
	l.text(clientConn, requestText(resource1))
	l.take(gatewayConn) // reject_access and create_authorization are lost
	l.connect(99, gatewayConnect(gatewayRow()))
	l.expect(99, notGranted, `{"event":"resource_updated",…`, `{"event":"create_authorization",…"address":"10.3.0.0/16"…`)
	l.disconnect(99)
	l.connect(100, gatewayConnect(gatewayRow()))
	l.take(100)
	l.advance(requestTimeout) // nobody has answered
	l.connect(101, gatewayConnect(gatewayRow()))
	if got := l.take(101); !like(got[0], notGranted) {
		t.Errorf("gateway is told %v", got)
	}
}

// Filters that are too many to be told after init end the grants that they are for.
func TestMissedFiltersAreBounded(t *testing.T) {
	l := authorized(t, example)
	l.p.bounds.updates = 0
	l.connect(99, gatewayConnect(gatewayRow()))
	l.expect(99, notGranted)
	if len(l.shelf.rows) != 0 {
		t.Errorf("store keeps %v", l.shelf.rows)
	}
}

// A file is not the one in force for good while the store may still get an authorization that the file
// has ended.
func TestAFileIsNotSettledBeforeADoomedWrite(t *testing.T) {
	l := authorized(t, example)
	l.lazy = true
	l.text(clientConn, requestText(resource1)) // a refresh, of which the store knows nothing yet
	l.disconnect(gatewayConn)
	l.p.HandleConfig(parse(t, strings.Replace(example, "10.2.0.0/16", "10.3.0.0/16", 1)), l.now)
	l.drain()
	for len(l.writes) > 0 {
		last := len(l.writes) - 1 // in any order: the revocation first
		w := l.writes[last]
		l.writes = l.writes[:last]
		if l.p.Settled() {
			t.Errorf("settled before %q", w)
		}
		l.p.HandleStored(w.ID, w.Do(t.Context(), l.shelf), l.now)
		l.drain()
	}
	if !l.p.Settled() || len(l.shelf.rows) != 0 {
		t.Errorf("settled %v, store keeps %v", l.p.Settled(), l.shelf.rows)
	}
}

// What a file should not hold, an id of zeros, is refused, and harms nobody.
func TestIDsOfZeros(t *testing.T) {
	f := parse(t, example)
	f.Accounts[0].Policies[0].ID = signal.ID{}.String()
	l := &lab{t: t, now: start, shelf: &shelf{rows: map[string]store.Authorization{}}, roles: map[ConnID]signal.Role{}, seen: map[ConnID][]string{}}
	l.boot(State{File: f})
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.connect(clientConn, clientConnect(clientRow()))
	clear(l.seen)
	l.text(clientConn, requestText(resource1))
	l.expect(clientConn, failed("not_found"))
	if l.p.Stats().Refused[signal.NotFound] != 1 || len(l.shelf.rows) != 0 {
		t.Errorf("%+v, store keeps %v", l.p.Stats(), l.shelf.rows)
	}
}

// A device that leaves its pool while the store is at work is not introduced any more.
func TestADeviceLeavesItsPoolMeanwhile(t *testing.T) {
	l := newLab(t, pooled)
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	clear(l.seen)
	l.lazy = true
	l.text(clientConn, deviceText(pool2+`","ipv4":"100.64.12.10"`))
	renamed := secondRow()
	renamed.Name = "desk"
	l.p.HandleDeviceChanged(renamed, l.now)
	l.drain()
	l.lazy = false
	l.store()
	l.expect(secondConn, `{"event":"reject_access",…`) // of what it has not heard of
	l.expect(clientConn, `{"event":"client_device_access_denied",…"reason":"forbidden"},"ref":null,"topic":"client"}`)
	if len(l.shelf.rows) != 0 {
		t.Errorf("store keeps %v", l.shelf.rows)
	}
}

// An old client lets go of a resource that moves to another site; a present one is told what is new.
func TestOldClientsLetGoOfWhatMoves(t *testing.T) {
	moved := strings.NewReplacer("id: "+site1+"}\n", "id: "+site1+"}\n      - {name: other}\n", "site: lab}", "site: other}").Replace(example)
	changed, deleted := `{"event":"resource_created_or_updated",…"name":"other"…`, `{"event":"resource_deleted","payload":"`+resource1+`",…`
	for version, want := range map[string][]string{"1.5.4": {deleted, changed}, "1.5.12": {changed}} {
		l := newLab(t, example)
		c := clientConnect(clientRow())
		c.Agent.Version = version
		l.connect(clientConn, c)
		clear(l.seen)
		l.p.HandleConfig(parse(t, moved), l.now)
		l.drain()
		l.expect(clientConn, want...)
	}
}

// Clients that do not know sites by that name are told of gateway groups, everywhere; never of both.
func TestOldClientsAreToldOfGatewayGroups(t *testing.T) {
	for _, c := range []struct {
		component, version string
		groups             bool
	}{
		{"headless-client", "1.5.0", true}, {"headless-client", "1.5.5", true}, {"headless-client", "1.5.6", false},
		{"headless-client", "1.5.12", false}, {"headless-client", "x", false}, {"gui-client", "1.5.12", true}, {"gui-client", "1.5.13", false},
		{"connlib", "1.5.12", true},
	} {
		l := newLab(t, example)
		l.connect(gatewayConn, gatewayConnect(gatewayRow()))
		who := clientConnect(clientRow())
		who.Agent.Component, who.Agent.Version = c.component, c.version
		l.connect(clientConn, who)
		l.p.HandleConfig(parse(t, strings.ReplaceAll(example, "Lab net", "Lab")), l.now)
		l.drain()
		l.take(gatewayConn)
		l.text(clientConn, requestText(resource1))
		l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
		list, site := `"sites":[{"id":"`+site1+`","name":"lab"}]`, `"site_id":"`+site1+`"`
		if c.groups {
			list, site = strings.Replace(list, "sites", "gateway_groups", 1), strings.Replace(site, "site_id", "gateway_group_id", 1)
		}
		l.expect(clientConn, `{"event":"init",…`+list+`…`, `{"event":"resource_created_or_updated",…`+list+`…`, `{"event":"authorization_created",…`+site+`…`)
	}
}

// Devices that speak the exchange of before 1.4 must not join.
func TestDevicesThatAreTooOld(t *testing.T) {
	for version, want := range map[string]string{
		"1.1.9": signal.ReasonInvalidVersion, "1.3.9": signal.ReasonInvalidVersion, "1.4.0": "", "1.5.12": "", "x": "", "": "",
	} {
		for _, c := range []Connect{clientConnect(clientRow()), gatewayConnect(gatewayRow())} {
			c.Agent.Version = version
			if got := c.Refusal(); got != want {
				t.Errorf("%v of version %q: %q, want %q", c.Role, version, got, want)
			}
		}
	}
	if c := relayConnect(stamp); c.Refusal() != "" {
		t.Error("a relay is refused")
	}
}

// What is to introduce one device to another may be dropped on the way, if the other is behind with reading.
// Until it is known to have arrived no candidates follow it.
func TestCandidatesWaitForTheAnswer(t *testing.T) {
	l := newLab(t, pooled)
	l.mute = true
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.connect(clientConn, clientConnect(clientRow()))
	l.connect(secondConn, clientConnect(secondRow()))
	one := signal.Candidates{"candidate:1 1 udp 1 a"}
	toGateway := signal.CandidatesToGateway{GatewayID: uuid(gateway1), Candidates: one}
	toPeer := signal.CandidatesToPeer{ClientID: uuid(client2), Candidates: one}
	l.text(clientConn, requestText(resource1))
	l.text(clientConn, deviceText(pool1+`","ipv4":"100.64.12.10"`))
	created := l.take(gatewayConn)
	l.take(secondConn)
	l.message(clientConn, toGateway)
	l.message(clientConn, toPeer)
	l.expect(gatewayConn)
	l.expect(secondConn)
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, created)})
	l.push()
	l.message(clientConn, toGateway)
	l.message(clientConn, toPeer)
	l.expect(gatewayConn, `{"event":"ice_candidates",…`)
	l.expect(secondConn, `{"event":"client_ice_candidates",…`)
}
