package portal

import (
	"strings"
	"testing"

	"github.com/firelane/firelane/protocol/signal"
)

// A gateway that is away while filters are edited would keep the old ones: its grant ends.
func TestFiltersEditedWhileAGatewayIsAway(t *testing.T) {
	l := newLab(t, example)
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.connect(clientConn, clientConnect(clientRow()))
	clear(l.seen)
	l.text(clientConn, requestText(resource1))
	l.message(gatewayConn, signal.AuthorizationApplied{Ref: ref(t, l.take(gatewayConn))})
	l.disconnect(gatewayConn)
	l.p.HandleConfig(parse(t, strings.Replace(example, "site: lab}", "site: lab, filters: [{protocol: icmp}]}", 1)), l.now)
	l.drain()
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.expect(gatewayConn, `{"event":"init",…"authorizations":[],…`)
	if len(l.shelf.rows) != 0 {
		t.Errorf("store keeps %v", l.shelf.rows)
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
