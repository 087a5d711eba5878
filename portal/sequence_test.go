package portal

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/firelane/firelane/protocol/signal"
)

var stamp = strings.Repeat("0", 64)

const (
	relayConn ConnID = iota + 1
	gatewayConn
	clientConn
)

// joined is a lab with a relay, a gateway and a client, as in the protocol's sequence.
func joined(t testing.TB, file string) *lab {
	l := newLab(t, file)
	l.now = start.Add(-2 * presenceQuiet)
	l.connect(relayConn, relayConnect(stamp))
	l.advance(2 * presenceQuiet)
	l.connect(gatewayConn, gatewayConnect(gatewayRow()))
	l.connect(clientConn, clientConnect(clientRow()))
	return l
}

// TestSequence is the protocol's message sequence, with its examples byte for byte but for the ref
// and the tokens, which are looked at on their own.
func TestSequence(t *testing.T) {
	l := joined(t, example)
	l.expect(relayConn, `{"event":"init","payload":{},"ref":null,"topic":"relay"}`)
	l.expect(gatewayConn, `{"event":"init","payload":{"account_slug":"acme","interface":{"ipv4":"100.70.3.4","ipv6":"fd00:2021:1111::a:1"},`+
		`"config":{"ipv4_masquerade_enabled":true,"ipv6_masquerade_enabled":true},`+
		`"relays":[{"id":"60e05bd1-b195-4f2f-9411-2fa7197a5c88","type":"turn","addr":"203.0.113.7:3478","username":"2145916800:…","password":"…","expires_at":2145916800}],`+
		`"authorizations":[],"flow_logs":{"api_url":"https://flow.example/","upload_interval_secs":60,"upload_batch_size":1000}},"ref":null,"topic":"gateway"}`)
	l.expect(clientConn, `{"event":"init","payload":{"interface":{"ipv4":"100.64.12.9","ipv6":"fd00:2021:1111::3:7"},`+
		`"resources":[{"id":"77777777-7777-4777-8777-777777777777","type":"cidr","name":"Lab net","address":"10.2.0.0/16","address_description":null,`+
		`"sites":[{"id":"99999999-9999-4999-8999-999999999999","name":"lab"}],"filters":[]}],`+
		`"relays":[{"id":"60e05bd1-b195-4f2f-9411-2fa7197a5c88","type":"turn","addr":"203.0.113.7:3478","username":"1790084000:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY","password":"…","expires_at":1790084000}],`+
		`"authorizations":[],"flow_logs":{"api_url":"https://flow.example/","upload_interval_secs":60,"upload_batch_size":1000}},"ref":null,"topic":"client"}`)
	for conn, topic := range map[ConnID]string{gatewayConn: "gateway", clientConn: "client"} {
		if r := l.text(conn, `{"topic":"`+topic+`","event":"set_snownet_capabilities","payload":{"iceless":true},"ref":1}`); r != "" {
			t.Errorf("capabilities are answered: %s", r)
		}
	}

	l.text(clientConn, `{"topic":"client","event":"request_authorization","payload":{"resource_id":"77777777-7777-4777-8777-777777777777","connected_gateway_ids":[]},"ref":3}`)
	l.expect(clientConn)
	asked := l.take(gatewayConn)
	id := ref(t, asked)
	const created = `{"event":"create_authorization","payload":{"ref":"…","resource":{"id":"77777777-7777-4777-8777-777777777777","type":"cidr","name":"Lab net","address":"10.2.0.0/16","filters":[]},` +
		`"client":{"id":"11111111-1111-4111-8111-111111111111","public_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","preshared_key":"nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4=",` +
		`"ipv4":"100.64.12.9","ipv6":"fd00:2021:1111::3:7","version":"1.5.12","device_os_name":"Ubuntu","device_os_version":"24.4.0","device_serial":null,"device_uuid":null,"identifier_for_vendor":null,"firebase_installation_id":null},` +
		`"client_ice_credentials":{"username":"w7up","password":"ksqwm66pilnb7skdwwfw3r"},"gateway_ice_credentials":{"username":"kwe6","password":"mzkrj52x5h5ebrfdsh5iyq"},` +
		`"expires_at":1790084000,"use_iceless":false,"flow_logs_ingest_token":"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",` +
		`"subject":{"actor_id":"88888888-8888-4888-8888-888888888888","actor_name":"robot","actor_email":null,"actor_type":"service_account","auth_provider_id":null,` +
		`"ip":"198.51.100.20","ip_region":"DE","ip_city":null,"ip_lat":51.2,"ip_lon":9,"user_agent":"Ubuntu/24.4.0 headless-client/1.5.12"}},"ref":null,"topic":"gateway"}`
	if len(asked) != 1 || !like(asked[0], created) {
		t.Errorf("gateway got\n  %s\nwant\n  %s", asked, created)
	}
	if row, ok := l.shelf.rows[id]; !ok || row.Client != client1 || row.Gateway != gateway1 || row.Policy != policy1 {
		t.Errorf("store has %+v", l.shelf.rows)
	}

	reply := l.text(gatewayConn, `{"topic":"gateway","event":"authorization_created","payload":{"ref":"`+id+`"},"ref":2}`)
	if want := `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":2,"topic":"gateway"}`; reply != want {
		t.Errorf("gateway's answer is replied to with\n  %s\nwant\n  %s", reply, want)
	}
	l.expect(clientConn, `{"event":"authorization_created","payload":{"resource_id":"77777777-7777-4777-8777-777777777777","site_id":"99999999-9999-4999-8999-999999999999",`+
		`"gateway_id":"22222222-2222-4222-8222-222222222222","gateway_public_key":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=","gateway_ipv4":"100.70.3.4","gateway_ipv6":"fd00:2021:1111::a:1",`+
		`"preshared_key":"nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4=","client_ice_credentials":{"username":"w7up","password":"ksqwm66pilnb7skdwwfw3r"},`+
		`"gateway_ice_credentials":{"username":"kwe6","password":"mzkrj52x5h5ebrfdsh5iyq"},"use_iceless":false,"flow_logs_ingest_token":"eyJ…"},"ref":null,"topic":"client"}`)

	l.text(clientConn, `{"topic":"client","event":"new_gateway_ice_candidates","payload":{"gateway_id":"`+gateway1+`","candidates":["candidate:1 1 udp 7 10.0.0.1 1 typ host"]},"ref":4}`)
	l.expect(gatewayConn, `{"event":"ice_candidates","payload":{"client_id":"`+client1+`","candidates":["candidate:1 1 udp 7 10.0.0.1 1 typ host"]},"ref":null,"topic":"gateway"}`)
	l.text(gatewayConn, `{"topic":"gateway","event":"broadcast_ice_candidates","payload":{"client_ids":["`+client1+`"],"candidates":["candidate:2 1 udp 9 10.0.0.2 1 typ host"]},"ref":3}`)
	l.expect(clientConn, `{"event":"ice_candidates","payload":{"gateway_id":"`+gateway1+`","candidates":["candidate:2 1 udp 9 10.0.0.2 1 typ host"]},"ref":null,"topic":"client"}`)
	l.text(gatewayConn, `{"topic":"gateway","event":"broadcast_invalidated_ice_candidates","payload":{"client_ids":["`+client1+`"],"candidates":["candidate:2 1 udp 9 10.0.0.2 1 typ host"]},"ref":4}`)
	l.expect(clientConn, `{"event":"invalidate_ice_candidates","payload":{"gateway_id":"`+gateway1+`","candidates":["candidate:2 1 udp 9 10.0.0.2 1 typ host"]},"ref":null,"topic":"client"}`)
	if s := l.p.Stats(); s.Authorized != 1 || s.Pending != 0 || s.Authorizations != 1 {
		t.Errorf("%+v", s)
	}
}

// TestIngestTokens: both ends get one, which says the same but for the role, and verifies.
func TestIngestTokens(t *testing.T) {
	l := joined(t, example)
	l.text(clientConn, requestText(resource1))
	asked := l.take(gatewayConn)
	id := ref(t, asked)
	l.text(gatewayConn, `{"topic":"gateway","event":"authorization_created","payload":{"ref":"`+id+`"},"ref":2}`)
	told := l.take(clientConn)
	var claims [2]signal.IngestClaims
	for i, text := range []string{asked[len(asked)-1], told[len(told)-1]} {
		var f struct {
			Payload struct {
				Token signal.Secret `json:"flow_logs_ingest_token"`
			}
		}
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			t.Fatal(err)
		}
		c, err := signal.VerifyIngestToken(f.Payload.Token, IngestKey(key(7), account1))
		if err != nil {
			t.Fatal(err)
		}
		claims[i] = c
	}
	if claims[0].Role != signal.Responder || claims[1].Role != signal.Initiator {
		t.Errorf("roles are %v and %v", claims[0].Role, claims[1].Role)
	}
	claims[1].Role = claims[0].Role
	if claims[0] != claims[1] {
		t.Errorf("tokens differ:\n%+v\n%+v", claims[0], claims[1])
	}
	c := claims[0]
	if c.PolicyAuthorizationID.String() != id || c.ExpiresAt != 1790084000+2592000 || c.UploadsEnabled ||
		c.AuthorizedAt != "2026-09-21T14:13:20.000000Z" || c.AuthorizationExpiresAt != "2026-09-22T13:33:20.000000Z" {
		t.Errorf("claims are %+v", c)
	}
}
