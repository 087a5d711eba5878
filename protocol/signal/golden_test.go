package signal

import (
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func decodeURL(t *testing.T, b []byte) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func ptr[T any](v T) *T { return &v }

var (
	relayEntry     = Relay{relayID, netip.MustParseAddrPort("203.0.113.7:3478"), "2145916800:kF8o", NewSecret("1OfO"), 2145916800}
	relayEntryText = `{"id":"60e05bd1-b195-4f2f-9411-2fa7197a5c88","type":"turn","addr":"203.0.113.7:3478","username":"2145916800:kF8o","password":"1OfO","expires_at":2145916800}`
	flowLogsText   = `{"api_url":"https://flow.example/","upload_interval_secs":60,"upload_batch_size":1000}`
	flowLogsValue  = FlowLogs{"https://flow.example/", 60, 1000}
	clientICE      = ICECredentials{"w7up", NewSecret("ksqwm66pilnb7skdwwfw3r")}
	gatewayICE     = ICECredentials{"kwe6", NewSecret("mzkrj52x5h5ebrfdsh5iyq")}
	iceText        = `"client_ice_credentials":{"username":"w7up","password":"ksqwm66pilnb7skdwwfw3r"},"gateway_ice_credentials":{"username":"kwe6","password":"mzkrj52x5h5ebrfdsh5iyq"}`
	labNet         = GatewayResource{ID: resourceID, Type: CIDR, Name: "Lab net", Address: "10.2.0.0/16", Filters: List[Filter]{}}
	candidates     = Candidates{"candidate:1 1 udp 2130706431 192.0.2.1 52625 typ host"}
	candidatesText = `"candidates":["candidate:1 1 udp 2130706431 192.0.2.1 52625 typ host"]`
)

// golden is a message and its payload, byte for byte.
type golden struct {
	role    Role
	device  bool // sent by the device
	message Message
	payload string
}

func addr4(s string) Addr4 { return Addr4{netip.MustParseAddr(s)} }
func addr6(s string) Addr6 { return Addr6{netip.MustParseAddr(s)} }

func psk(t testing.TB) PresharedKey {
	t.Helper()
	var k PresharedKey
	if err := k.UnmarshalText([]byte(vectorPSK)); err != nil {
		t.Fatal(err)
	}
	return k
}

func goldens(t testing.TB) []golden {
	token := ingestToken(t)
	return append(goldenGateway(t, token), goldenClient(t, token)...)
}

func goldenGateway(t testing.TB, token Secret) []golden {
	c := `"client_id":"11111111-1111-4111-8111-111111111111",`
	cs := `{"client_ids":["11111111-1111-4111-8111-111111111111"],` + candidatesText + `}`
	return []golden{
		{RoleGateway, false, GatewayInit{
			AccountSlug: "acme", Interface: Interface{IPv4: addr4("100.70.3.4"), IPv6: addr6("fd00:2021:1111::a:1")},
			Config: Masquerade{true, true}, Relays: Relays{relayEntry},
			Authorizations: List[Authorization]{{clientID, resourceID, ExpiresAt(1790084000)}}, FlowLogs: flowLogsValue,
		}, `{"account_slug":"acme","interface":{"ipv4":"100.70.3.4","ipv6":"fd00:2021:1111::a:1"},` +
			`"config":{"ipv4_masquerade_enabled":true,"ipv6_masquerade_enabled":true},"relays":[` + relayEntryText + `],` +
			`"authorizations":[{` + c + `"resource_id":"77777777-7777-4777-8777-777777777777","expires_at":1790084000}],"flow_logs":` + flowLogsText + `}`},
		{RoleGateway, false, CreateAuthorization{
			Ref: "SFMyNTY.opaque.signature", Resource: labNet,
			Client: Client{
				ID: clientID, PublicKey: clientKey, PresharedKey: psk(t), IPv4: addr4("100.64.12.9"), IPv6: addr6("fd00:2021:1111::3:7"),
				Version: "1.5.12", DeviceOSName: "Ubuntu", DeviceOSVersion: "24.4.0",
			},
			ClientICE: clientICE, GatewayICE: gatewayICE, ExpiresAt: ExpiresAt(1790084000), IngestToken: token,
			Subject: &Subject{
				ActorID: "88888888-8888-4888-8888-888888888888", ActorName: "robot", ActorType: "service_account", IP: "198.51.100.20",
				IPRegion: "DE", IPLat: ptr(51.2), IPLon: ptr(9.5), UserAgent: "Ubuntu/24.4.0 headless-client/1.5.12",
			},
		}, `{"ref":"SFMyNTY.opaque.signature",` +
			`"resource":{"id":"77777777-7777-4777-8777-777777777777","type":"cidr","name":"Lab net","address":"10.2.0.0/16","filters":[]},` +
			`"client":{"id":"11111111-1111-4111-8111-111111111111","public_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",` +
			`"preshared_key":"nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4=","ipv4":"100.64.12.9","ipv6":"fd00:2021:1111::3:7",` +
			`"version":"1.5.12","device_os_name":"Ubuntu","device_os_version":"24.4.0","device_serial":null,"device_uuid":null,` +
			`"identifier_for_vendor":null,"firebase_installation_id":null},` + iceText + `,"expires_at":1790084000,"use_iceless":false,` +
			`"flow_logs_ingest_token":"` + token.Reveal() + `","subject":{"actor_id":"88888888-8888-4888-8888-888888888888","actor_name":"robot",` +
			`"actor_email":null,"actor_type":"service_account","auth_provider_id":null,"ip":"198.51.100.20","ip_region":"DE","ip_city":null,` +
			`"ip_lat":51.2,"ip_lon":9.5,"user_agent":"Ubuntu/24.4.0 headless-client/1.5.12"}}`},
		{RoleGateway, false, RejectAccess{clientID, resourceID}, `{` + c + `"resource_id":"77777777-7777-4777-8777-777777777777"}`},
		{RoleGateway, false, ResourceUpdated{GatewayResource{
			ID: resourceID, Type: DNS, Name: "git", Address: "*.corp.example", Filters: List[Filter]{{TCP, 80, 443}, {UDP, 53, 53}, {Protocol: ICMP}},
		}}, `{"id":"77777777-7777-4777-8777-777777777777","type":"dns","name":"git","address":"*.corp.example","filters":` +
			`[{"protocol":"tcp","port_range_start":80,"port_range_end":443},{"protocol":"udp","port_range_start":53,"port_range_end":53},{"protocol":"icmp"}]}`},
		{RoleGateway, false, ResourceUpdated{GatewayResource{ID: resourceID, Type: Internet}}, `{"id":"77777777-7777-4777-8777-777777777777","type":"internet"}`},
		{RoleGateway, false, CandidatesFromClient{clientID, candidates}, `{` + c + candidatesText + `}`},
		{RoleGateway, false, InvalidFromClient{clientID, candidates}, `{` + c + candidatesText + `}`},
		{RoleGateway, false, RelaysPresence{List[ID]{relayID}, Relays{relayEntry}},
			`{"disconnected_ids":["60e05bd1-b195-4f2f-9411-2fa7197a5c88"],"connected":[` + relayEntryText + `]}`},
		{RoleGateway, false, RelaysPresence{}, `{"disconnected_ids":[],"connected":[]}`},
		{RoleGateway, false, Disconnect{ReasonTokenExpired}, `{"reason":"token_expired"}`},
		{RoleGateway, true, Capabilities{true}, `{"iceless":true}`},
		{RoleGateway, true, AuthorizationApplied{"SFMyNTY.opaque.signature"}, `{"ref":"SFMyNTY.opaque.signature"}`},
		{RoleGateway, true, BroadcastCandidates{List[ID]{clientID}, candidates}, cs},
		{RoleGateway, true, BroadcastInvalid{List[ID]{clientID}, candidates}, cs},
		{RoleGateway, true, NoRelays{}, `{}`},
		{RoleRelay, false, RelayInit{}, `{}`},
	}
}

func goldenClient(t testing.TB, token Secret) []golden {
	g := `{"gateway_id":"22222222-2222-4222-8222-222222222222",` + candidatesText + `}`
	p := `{"client_id":"11111111-1111-4111-8111-111111111111",` + candidatesText + `}`
	res := `"77777777-7777-4777-8777-777777777777"`
	sites, sitesText := List[Site]{{siteID, "hq"}}, `"sites":[{"id":"99999999-9999-4999-8999-999999999999","name":"hq"}]`
	face := Interface{
		IPv4: addr4("100.64.12.9"), IPv6: addr6("fd00:2021:1111::3:7"), SearchDomain: "corp.example",
		Do53:   []Do53Server{{netip.MustParseAddr("192.0.2.53")}},
		DoH:    []DoHServer{{"https://dns.quad9.net/dns-query"}},
		Legacy: []LegacyServer{{"ip_port", "192.0.2.53:53"}},
	}
	faceText := `{"ipv4":"100.64.12.9","ipv6":"fd00:2021:1111::3:7","search_domain":"corp.example",` +
		`"upstream_do53":[{"ip":"192.0.2.53"}],"upstream_doh":[{"url":"https://dns.quad9.net/dns-query"}],` +
		`"upstream_dns":[{"protocol":"ip_port","address":"192.0.2.53:53"}]}`
	none := List[Filter]{}
	device := PoolDevice{clientID, Host{netip.MustParseAddr("100.64.1.2")}, Host{netip.MustParseAddr("fd00:2021:1111::12")}}
	deviceText := `{"client_id":"11111111-1111-4111-8111-111111111111","ipv4":"100.64.1.2/32","ipv6":"fd00:2021:1111::12/128"}`
	return []golden{
		{RoleClient, false, ClientInit{
			Interface: face, Relays: Relays{relayEntry}, FlowLogs: flowLogsValue, Resources: Resources{
				{ID: resourceID, Type: DNS, Name: "git", Address: "git.example", Sites: sites, IPStack: IPv4Only, Filters: none},
				{ID: resourceID, Type: CIDR, Name: "net", Address: "10.2.0.0/16", AddressDescription: "lab", Sites: sites, Filters: none},
				{ID: resourceID, Type: Internet, Sites: sites, CanBeDisabled: true},
				{ID: resourceID, Type: StaticPool, Name: "pool", Devices: List[PoolDevice]{device}, Filters: none},
				{ID: resourceID, Type: DynamicPool, Name: "dyn", Address: "*.pool", Filters: List[Filter]{{TCP, 22, 22}}},
			},
		}, `{"interface":` + faceText + `,"resources":[` +
			`{"id":` + res + `,"type":"dns","name":"git","address":"git.example","address_description":null,` + sitesText + `,"ip_stack":"ipv4_only","filters":[]},` +
			`{"id":` + res + `,"type":"cidr","name":"net","address":"10.2.0.0/16","address_description":"lab",` + sitesText + `,"filters":[]},` +
			`{"id":` + res + `,"type":"internet",` + sitesText + `,"can_be_disabled":true},` +
			`{"id":` + res + `,"type":"static_device_pool","name":"pool","devices":[` + deviceText + `],"filters":[]},` +
			`{"id":` + res + `,"type":"dynamic_device_pool","name":"dyn","address":"*.pool","filters":[{"protocol":"tcp","port_range_start":22,"port_range_end":22}]}],` +
			`"relays":[` + relayEntryText + `],"authorizations":[],"flow_logs":` + flowLogsText + `}`},
		{RoleClient, false, ConfigChanged{face}, `{"interface":` + faceText + `}`},
		{RoleClient, false, ResourceChanged{ClientResource{ID: resourceID, Type: DynamicPool, Name: "dyn", Address: "*.pool"}},
			`{"id":` + res + `,"type":"dynamic_device_pool","name":"dyn","address":"*.pool","filters":[]}`},
		{RoleClient, false, ResourceDeleted{resourceID}, res},
		{RoleClient, false, CandidatesFromGateway{gatewayID, candidates}, g},
		{RoleClient, false, InvalidFromGateway{gatewayID, candidates}, g},
		{RoleClient, false, AuthorizationCreated{
			resourceID, siteID, gatewayID, gatewayKey, addr4("100.70.3.4"), addr6("fd00:2021:1111::a:1"), psk(t), clientICE, gatewayICE, false, token, false,
		}, `{"resource_id":` + res + `,"site_id":"99999999-9999-4999-8999-999999999999",` +
			`"gateway_id":"22222222-2222-4222-8222-222222222222","gateway_public_key":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",` +
			`"gateway_ipv4":"100.70.3.4","gateway_ipv6":"fd00:2021:1111::a:1","preshared_key":"nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4=",` +
			iceText + `,"use_iceless":false,"flow_logs_ingest_token":"` + token.Reveal() + `"}`},
		{RoleClient, false, AuthorizationFailed{resourceID, Forbidden, []string{"remote_ip"}}, `{"resource_id":` + res + `,"reason":"forbidden","violated_properties":["remote_ip"]}`},
		{RoleClient, false, DeviceAccessAuthorized{
			clientID, "laptop", clientKey, addr4("100.64.12.9"), addr6("fd00:2021:1111::3:7"), psk(t), gatewayICE, clientICE, Controlled, false,
			ExpiresAt(1790084000), &PoolResource{resourceID, StaticPool, "pool", List[PoolDevice]{}, none}, nil, token, ID{},
		}, `{"client_id":"11111111-1111-4111-8111-111111111111","client_name":"laptop","client_public_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",` +
			`"client_ipv4":"100.64.12.9","client_ipv6":"fd00:2021:1111::3:7","preshared_key":"nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4=",` +
			`"local_ice_credentials":{"username":"kwe6","password":"mzkrj52x5h5ebrfdsh5iyq"},"remote_ice_credentials":{"username":"w7up","password":"ksqwm66pilnb7skdwwfw3r"},` +
			`"ice_role":"controlled","use_iceless":false,"expires_at":1790084000,"resource":{"id":` + res + `,"type":"static_device_pool","name":"pool","devices":[],"filters":[]},` +
			`"flow_logs_ingest_token":"` + token.Reveal() + `"}`},
		{RoleClient, false, DeviceAccessDenied{IPv4: addr4("100.64.1.2"), Reason: Offline}, `{"ipv4":"100.64.1.2","reason":"offline"}`},
		{RoleClient, false, CandidatesFromPeer{clientID, candidates}, p},
		{RoleClient, false, InvalidFromPeer{clientID, candidates}, p},
		{RoleClient, false, PeerCandidateError{clientID, Offline}, `{"client_id":"11111111-1111-4111-8111-111111111111","reason":"offline"}`},
		{RoleClient, false, RejectAccess{clientID, resourceID}, `{"client_id":"11111111-1111-4111-8111-111111111111","resource_id":` + res + `}`},
		{RoleClient, false, FiltersUpdated{resourceID, none}, `{"id":` + res + `,"filters":[]}`},
		{RoleClient, false, PoolDomainResolved{resourceID, "a.pool", addr4("100.64.1.2"), addr6("fd00:2021:1111::12")},
			`{"resource_id":` + res + `,"domain":"a.pool","ipv4":"100.64.1.2","ipv6":"fd00:2021:1111::12"}`},
		{RoleClient, false, PoolDomainFailed{resourceID, "a.pool", NotFound}, `{"resource_id":` + res + `,"domain":"a.pool","reason":"not_found"}`},
		{RoleClient, false, RelaysPresence{Connected: Relays{relayEntry}}, `{"disconnected_ids":[],"connected":[` + relayEntryText + `]}`},
		{RoleClient, false, Disconnect{ReasonTokenExpired}, `{"reason":"token_expired"}`},
		{RoleClient, true, Capabilities{false}, `{"iceless":false}`},
		{RoleClient, true, RequestAuthorization{ResourceID: resourceID}, `{"resource_id":` + res + `,"connected_gateway_ids":[]}`},
		{RoleClient, true, NewRequestForDevice(resourceID, netip.MustParseAddr("100.64.1.2")), `{"resource_id":` + res + `,"connected_gateway_ids":[],"ipv4":"100.64.1.2"}`},
		{RoleClient, true, CandidatesToGateway{gatewayID, candidates}, g},
		{RoleClient, true, InvalidToGateway{gatewayID, candidates}, g},
		{RoleClient, true, CandidatesToPeer{clientID, candidates}, p},
		{RoleClient, true, InvalidToPeer{clientID, candidates}, p},
		{RoleClient, true, ResolvePoolDomain{resourceID, "a.pool"}, `{"resource_id":` + res + `,"domain":"a.pool"}`},
		{RoleClient, true, BroadcastToGateways{List[ID]{gatewayID}, candidates}, `{"gateway_ids":["22222222-2222-4222-8222-222222222222"],` + candidatesText + `}`},
		{RoleClient, true, InvalidBroadcastToGateways{List[ID]{gatewayID}, candidates}, `{"gateway_ids":["22222222-2222-4222-8222-222222222222"],` + candidatesText + `}`},
		{RoleClient, true, RequestDeviceAccess{}, `{}`},
		{RoleClient, true, NoRelays{}, `{}`},
	}
}

func (g golden) encode() (Frame, error) {
	if g.device {
		return EncodeFromDevice(g.role, V2, g.message)
	}
	return EncodeFromPortal(g.role, V2, g.message)
}

func (g golden) decode(f Frame) (Message, error) {
	if g.device {
		return DecodeFromDevice(g.role, f)
	}
	return DecodeFromPortal(g.role, f)
}

func TestMessagesAreWrittenByteForByte(t *testing.T) {
	for _, g := range goldens(t) {
		f, err := g.encode()
		if err != nil || string(f.Payload) != g.payload || f.Event != g.message.Event() || f.Topic != g.role.String() {
			t.Errorf("%T: %v\n%s\nwant\n%s", g.message, err, f.Payload, g.payload)
			continue
		}
		m, err := g.decode(f)
		if err != nil || reflect.TypeOf(m) != reflect.TypeOf(g.message) {
			t.Errorf("%T read again: %T, %v", g.message, m, err)
			continue
		}
		g.message = m
		again, err := g.encode()
		if err != nil || string(again.Payload) != g.payload {
			t.Errorf("%T written again: %v\n%s", g.message, err, again.Payload)
		}
	}
}

func TestEveryKindHasAGolden(t *testing.T) {
	seen := map[string]bool{}
	for _, g := range goldens(t) {
		seen[strings.Join([]string{g.role.String(), map[bool]string{true: "device", false: "portal"}[g.device], g.message.Event()}, " ")] = true
	}
	for who, tables := range map[string][3][]kind{"portal": fromPortal, "device": fromDevice} {
		for role, kinds := range tables {
			for _, k := range kinds {
				if name := Role(role).String() + " " + who + " " + k.event; !seen[name] {
					t.Errorf("no golden for %s", name)
				}
			}
		}
	}
}

// Every mandatory field, when it is taken away or null, is named by the error.
func TestMissingFieldsAreNamed(t *testing.T) {
	for _, g := range goldens(t) {
		table := fromPortal[g.role]
		if g.device {
			table = fromDevice[g.role]
		}
		for _, k := range table {
			if k.event != g.message.Event() {
				continue
			}
			for _, path := range k.required {
				path = strings.TrimSuffix(path, "?")
				for _, null := range []bool{false, true} {
					var payload any
					if err := json.Unmarshal([]byte(g.payload), &payload); err != nil {
						t.Fatal(err)
					}
					if !remove(payload, strings.Split(path, "."), null) {
						continue
					}
					b, _ := json.Marshal(payload)
					_, err := g.decode(Frame{Event: k.event, Payload: b})
					if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), k.event) {
						t.Errorf("%s without %s (null %v): %v", k.event, path, null, err)
					}
				}
			}
		}
	}
}

// remove deletes what path names, or makes it null; it reports whether it was there.
func remove(v any, path []string, null bool) bool {
	key, each := strings.CutSuffix(path[0], "[]")
	o, _ := v.(map[string]any)
	inner, ok := o[key]
	switch {
	case !ok:
		return false
	case each:
		list, _ := inner.([]any)
		return len(list) > 0 && remove(list[0], path[1:], null)
	case len(path) > 1:
		return remove(inner, path[1:], null)
	case null:
		o[key] = nil
	default:
		delete(o, key)
	}
	return true
}

func TestFramesAreWrittenByteForByte(t *testing.T) {
	stamp, _ := marshal(Join{StampSecret: stampSecret})
	request, err := EncodeFromDevice(RoleClient, V2, RequestAuthorization{ResourceID: resourceID})
	if err != nil {
		t.Fatal(err)
	}
	request.Ref = NumberRef(3)
	for _, c := range []struct{ got, want string }{
		{string(Frame{Topic: "gateway", Event: EventJoin, Ref: NumberRef(0)}.DeviceText()), `{"topic":"gateway","event":"phx_join","payload":null,"ref":0}`},
		{string(Reply{OK: true}.Frame("gateway", NumberRef(0)).PortalText()), `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"gateway"}`},
		{string(Reply{OK: true}.Frame("relay", NumberRef(0)).PortalText()), `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":0,"topic":"relay"}`},
		{string(Frame{Topic: "gateway", Event: "init", Payload: []byte("{}")}.PortalText()), `{"event":"init","payload":{},"ref":null,"topic":"gateway"}`},
		{string(Frame{Topic: "relay", Event: "init", Payload: []byte("{}")}.PortalText()), `{"event":"init","payload":{},"ref":null,"topic":"relay"}`},
		{string(Frame{Topic: "relay", Event: EventJoin, Payload: stamp, Ref: NumberRef(0)}.DeviceText()),
			`{"topic":"relay","event":"phx_join","payload":{"stamp_secret":"0000000000000000000000000000000000000000000000000000000000000000"},"ref":0}`},
		{string(request.DeviceText()),
			`{"topic":"client","event":"request_authorization","payload":{"resource_id":"77777777-7777-4777-8777-777777777777","connected_gateway_ids":[]},"ref":3}`},
		{string(Reply{Reason: "unmatched topic"}.Frame("client", NumberRef(7)).PortalText()),
			`{"event":"phx_reply","payload":{"response":{"reason":"unmatched topic"},"status":"error"},"ref":7,"topic":"client"}`},
		{string(NewRefusal(401, "Unauthorized", CodeInvalidToken, "Invalid token").Body()),
			`{"type":"about:blank","title":"Unauthorized","status":401,"detail":"Invalid token","code":"invalid_token"}`},
	} {
		if c.got != c.want {
			t.Errorf("got\n%s\nwant\n%s", c.got, c.want)
		}
	}
}
