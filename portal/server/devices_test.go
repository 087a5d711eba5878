package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/firelane/firelane/internal/channel"
	"github.com/firelane/firelane/protocol/signal"
)

// parts are a relay, a gateway and a client that have joined.
type parts struct {
	gateway, client *channel.Conn
	gatewayInit     signal.GatewayInit
	clientInit      signal.ClientInit
}

func join(t *testing.T, p *testPortal) parts {
	t.Helper()
	relay := p.device(signal.RoleRelay, p.token(TokenWish{Relay: true}), "relay")
	next[signal.RelayInit](t, relay)
	var ps parts
	ps.gateway = p.device(signal.RoleGateway, p.token(TokenWish{Site: "berlin"}), "gateway")
	ps.gatewayInit = next[signal.GatewayInit](t, ps.gateway)
	ps.client = p.device(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci"}), "client")
	ps.clientInit = next[signal.ClientInit](t, ps.client)
	for _, c := range []*channel.Conn{ps.gateway, ps.client} {
		send(t, c, signal.Capabilities{})
	}
	return ps
}

// authorize asks for a resource and answers for the gateway.
func (ps *parts) authorize(t *testing.T, resource signal.ID) (signal.CreateAuthorization, signal.AuthorizationCreated) {
	t.Helper()
	send(t, ps.client, signal.RequestAuthorization{ResourceID: resource})
	create := next[signal.CreateAuthorization](t, ps.gateway)
	send(t, ps.gateway, signal.AuthorizationApplied{Ref: create.Ref})
	return create, next[signal.AuthorizationCreated](t, ps.client)
}

// TestAuthorizationRoundTrip has a client reach a resource over real websockets: both ends must be
// told the same keys and credentials, and candidates must pass in both directions.
func TestAuthorizationRoundTrip(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	if n := len(ps.gatewayInit.Relays); n != 1 {
		t.Errorf("the gateway is told of %d relays", n)
	}
	if n := len(ps.clientInit.Resources); n != 1 || ps.clientInit.Resources[0].Name != "Office" {
		t.Errorf("the client sees %v", ps.clientInit.Resources)
	}
	create, created := ps.authorize(t, p.resource("Office"))
	if !create.Client.PresharedKey.Equal(created.PresharedKey) || create.ClientICE != created.ClientICE || create.GatewayICE != created.GatewayICE {
		t.Error("the two ends are told different things")
	}
	send(t, ps.client, signal.CandidatesToGateway{GatewayID: created.GatewayID, Candidates: signal.Candidates{candidate}})
	if m := next[signal.CandidatesFromClient](t, ps.gateway); m.ClientID != create.Client.ID || len(m.Candidates) != 1 {
		t.Errorf("the gateway gets %+v", m)
	}
	send(t, ps.gateway, signal.BroadcastCandidates{ClientIDs: signal.List[signal.ID]{create.Client.ID}, Candidates: signal.Candidates{candidate}})
	if m := next[signal.CandidatesFromGateway](t, ps.client); m.GatewayID != created.GatewayID {
		t.Errorf("the client gets %+v", m)
	}
	send(t, ps.client, signal.RequestAuthorization{ResourceID: p.resource("Git")})
	if m := next[signal.AuthorizationFailed](t, ps.client); m.Reason != signal.NotFound && m.Reason != signal.Forbidden {
		t.Errorf("a resource that no policy gives: %+v", m)
	}
}

const candidate = "candidate:1 1 UDP 2130706431 192.0.2.1 52625 typ host"

// TestEditsReachLiveDevices edits the policy file under a connected client and gateway: a broken
// file must change nothing, a good one must take access away within a second, without a reconnect.
func TestEditsReachLiveDevices(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	create, _ := ps.authorize(t, p.resource("Office"))

	writePolicy(t, p.file, strings.Replace(policy, "type: cidr", "type: cidra", 1))
	if err := p.Reload(); err == nil || !strings.Contains(err.Error(), p.file+":7:") {
		t.Errorf("a broken file: %v", err)
	}
	if p.accountOf("acme").Resources[0].Type != "cidr" {
		t.Error("the broken file is in force")
	}
	before := time.Now()
	writePolicy(t, p.file, strings.Replace(policy, "resource: Office", "resource: Git", 1))
	if m := next[signal.RejectAccess](t, ps.gateway); m.ClientID != create.Client.ID || m.ResourceID != p.resource("Office") {
		t.Errorf("the gateway is told %+v", m)
	}
	if m := next[signal.ResourceDeleted](t, ps.client); m.ID != p.resource("Office") {
		t.Errorf("the client is told %+v", m)
	}
	if m := next[signal.ResourceChanged](t, ps.client); m.Name != "Git" {
		t.Errorf("the client is told %+v", m)
	}
	if took := time.Since(before); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestEditsBetweenTwoRunsRevoke takes a policy away while no portal runs: after the start the
// authorization that it gave must be gone.
func TestEditsBetweenTwoRunsRevoke(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	ps.authorize(t, p.resource("Office"))
	if n := p.driver.stats().Authorizations; n != 1 {
		t.Fatalf("%d authorizations", n)
	}
	p.stop()
	p.serve()
	if n := p.driver.stats().Authorizations; n != 1 {
		t.Errorf("%d authorizations after a restart", n)
	}
	p.stop()
	writePolicy(t, p.file, strings.Replace(policy, "resource: Office", "resource: Git", 1))
	p.serve()
	if n := p.driver.stats().Authorizations; n != 0 {
		t.Errorf("%d authorizations after an edit", n)
	}
}

// TestRevokedTokensEndChannels revokes tokens as another process does. The devices must be told for
// good within a second, and not come in again.
func TestRevokedTokensEndChannels(t *testing.T) {
	p := start(t, policy)
	other := p.otherHandle()
	gatewayID, gatewayToken := p.tokenAndID(TokenWish{Site: "berlin"})
	clientID, clientToken := p.tokenAndID(TokenWish{ServiceAccount: "ci"})
	gateway := p.device(signal.RoleGateway, gatewayToken, "gateway")
	next[signal.GatewayInit](t, gateway)
	client := p.device(signal.RoleClient, clientToken, "client")
	next[signal.ClientInit](t, client)
	for _, c := range []struct {
		id    string
		conn  *channel.Conn
		token string
		role  signal.Role
	}{{gatewayID, gateway, gatewayToken, signal.RoleGateway}, {clientID, client, clientToken, signal.RoleClient}} {
		before := time.Now()
		if _, err := other.RevokeToken(t.Context(), p.accountOf("acme").ID, c.id, before); err != nil {
			t.Fatal(err)
		}
		var fatal *signal.FatalError
		if err := ended(t, c.conn); !errors.As(err, &fatal) || fatal.Kind != signal.TokenInvalid {
			t.Errorf("%v: %v", c.role, err)
		}
		if took := time.Since(before); took > time.Second {
			t.Errorf("%v: it took %v", c.role, took)
		}
		if err := ended(t, p.device(c.role, c.token, "again")); !errors.As(err, &fatal) || fatal.Kind != signal.TokenInvalid {
			t.Errorf("%v comes back: %v", c.role, err)
		}
	}
}

// TestTokensExpireUnderALiveChannel lets a service account's token end while its client is there.
func TestTokensExpireUnderALiveChannel(t *testing.T) {
	p := start(t, policy)
	client := p.device(signal.RoleClient, p.token(TokenWish{ServiceAccount: "ci", Expires: time.Now().Add(2 * time.Second)}), "client")
	next[signal.ClientInit](t, client)
	var fatal *signal.FatalError
	if err := ended(t, client); !errors.As(err, &fatal) || fatal.Kind != signal.TokenInvalid {
		t.Errorf("%v", err)
	}
}

// TestShutdownSendsDevicesAwayForAWhile ends the portal under its devices, which must come back to
// the next one.
func TestShutdownSendsDevicesAwayForAWhile(t *testing.T) {
	p := start(t, policy)
	ps := join(t, p)
	p.stop()
	if m := next[signal.Disconnected](t, ps.gateway); m.Retry != 1 {
		t.Errorf("%+v", m)
	}
	next[signal.Disconnected](t, ps.client)
}
