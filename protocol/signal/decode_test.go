package signal

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// push decodes a payload for a device.
func push(t *testing.T, r Role, event, payload string) (Message, error) {
	t.Helper()
	f, err := ParseFrame([]byte(`{"event":"`+event+`","payload":`+payload+`,"topic":"`+r.String()+`"}`), FromPortal)
	if err != nil {
		t.Fatal(err)
	}
	return DecodeFromPortal(r, f)
}

const bothAddresses = `"interface":{"ipv4":"100.64.12.9/32","ipv6":"fd00:2021:1111::3:7/128"}`

func TestOlderNames(t *testing.T) {
	gateway := `"gateway_id":"22222222-2222-4222-8222-222222222222","candidates":[]`
	for _, c := range []struct {
		role    Role
		device  bool
		event   string
		payload string
		want    string
	}{
		{RoleClient, false, "flow_creation_failed", `{"resource_id":"77777777-7777-4777-8777-777777777777","reason":"novel"}`, "authorization_creation_failed"},
		{RoleClient, false, "gateway_ice_candidates", `{` + gateway + `}`, "ice_candidates"},
		{RoleClient, false, "invalidate_gateway_ice_candidates", `{` + gateway + `}`, "invalidate_ice_candidates"},
		{RoleClient, true, "create_flow", `{"resource_id":"77777777-7777-4777-8777-777777777777"}`, "request_authorization"},
		{RoleGateway, true, "flow_authorized", `{"ref":"x"}`, "authorization_created"},
		{RoleClient, false, "prepare_connection", `{}`, "prepare_connection"},
		{RoleGateway, false, "access_authorization_expiry_updated", `{}`, "access_authorization_expiry_updated"},
		{RoleRelay, true, "anything", `{}`, "anything"},
	} {
		decode := DecodeFromPortal
		if c.device {
			decode = DecodeFromDevice
		}
		m, err := decode(c.role, Frame{Event: c.event, Payload: []byte(c.payload)})
		if err != nil || m.Event() != c.want {
			t.Errorf("%s: %+v, %v", c.event, m, err)
		}
	}
	for _, g := range goldens(t) {
		table := fromPortal
		if g.device {
			table = fromDevice
		}
		i := slices.IndexFunc(table[g.role], func(k kind) bool { return k.event == g.message.Event() })
		old := table[g.role][i].v1
		if old == "" {
			continue
		}
		f, err := EncodeFromPortal(g.role, V1, g.message)
		if g.device {
			f, err = EncodeFromDevice(g.role, V1, g.message)
		}
		if m, err2 := g.decode(f); err != nil || err2 != nil || f.Event != old || m.Event() != g.message.Event() {
			t.Errorf("%s in the older dialect: %s, %v, %v", g.message.Event(), f.Event, err, err2)
		}
	}
}

func TestOlderFields(t *testing.T) {
	m, err := push(t, RoleClient, "resource_created_or_updated",
		`{"id":"77777777-7777-4777-8777-777777777777","type":"cidr","name":"n","address":"10.0.0.1","gateway_groups":[{"id":"99999999-9999-4999-8999-999999999999","name":"hq"}],"new":1}`)
	r, ok := m.(ResourceChanged)
	if err != nil || !ok || len(r.Sites) != 1 || r.Sites[0].ID != siteID {
		t.Errorf("%+v, %v", m, err)
	}
	for _, g := range goldens(t) {
		if _, ok := g.message.(AuthorizationCreated); !ok {
			continue
		}
		old := strings.Replace(g.payload, `"site_id"`, `"gateway_group_id"`, 1)
		m, err := push(t, RoleClient, "flow_created", old)
		if a, ok := m.(AuthorizationCreated); err != nil || !ok || a.SiteID != siteID {
			t.Errorf("%+v, %v", m, err)
		}
		neither := strings.Replace(g.payload, `"site_id"`, `"place"`, 1)
		var field *FieldError
		if _, err := push(t, RoleClient, "authorization_created", neither); !errors.As(err, &field) || field.Field != "site_id" {
			t.Errorf("without any site: %v", err)
		}
	}
}

func TestInitDefaults(t *testing.T) {
	m, err := push(t, RoleClient, "init", `{`+bothAddresses+`,"relays":null,"flow_logs":{"api_url":"","upload_interval_secs":0,"upload_batch_size":0}}`)
	init, ok := m.(ClientInit)
	if err != nil || !ok || init.Interface.IPv4.String() != "100.64.12.9" || len(init.Relays)+len(init.Resources)+len(init.Authorizations) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	m, err = push(t, RoleClient, "init", `{"interface":{"ipv4":"100.64.12.9","ipv6":"fd00::1","upstream_do53":[],"search_domain":null,
		"upstream_dns":[{"protocol":"ip_port","address":"[2001:db8::1]:53"},{"protocol":"doh","address":"x"}]},"flow_logs":{"api_url":"x","upload_interval_secs":0,"upload_batch_size":0}}`)
	init, ok = m.(ClientInit)
	if err != nil || !ok || !slices.Equal(init.Interface.Resolvers(), []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:53")}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestUnusableEntriesAreLeftOut(t *testing.T) {
	good := `{"id":"77777777-7777-4777-8777-777777777777","type":"dynamic_device_pool","name":"n","address":"*.x","filters":[]}`
	m, err := push(t, RoleClient, "init", `{`+bothAddresses+`,"flow_logs":{"api_url":"x","upload_interval_secs":0,"upload_batch_size":0},
		"resources":[7,null,{},{"id":"77777777-7777-4777-8777-777777777777","type":"novel"},
			{"id":"77777777-7777-4777-8777-777777777777","type":"cidr","name":"n","address":"10.0.0.1/8","sites":[]},
			{"id":"77777777-7777-4777-8777-777777777777","type":"dynamic_device_pool","name":"n","address":"*.x","filters":[{"protocol":"sctp"}]},`+good+`],
		"relays":[{"type":"stun","id":"x","addr":"y"},{"type":"novel"},3,`+relayEntryText+`]}`)
	init, ok := m.(ClientInit)
	if err != nil || !ok || len(init.Resources) != 1 || len(init.Relays) != 1 || init.Relays[0] != relayEntry {
		t.Errorf("%+v, %v", m, err)
	}
	m, err = push(t, RoleGateway, "ice_candidates", `{"client_id":"11111111-1111-4111-8111-111111111111","candidates":
		["candidate:1 1 udp 1 x","candidate:1 1 udp 4294967296 x","candidate:1 1 udp -1 x","1 1 udp 1","candidate:1 1 udp",7,null,"candidate:1 1 udp 1`+strings.Repeat("x", 600)+`"]}`)
	if c, ok := m.(CandidatesFromClient); err != nil || !ok || len(c.Candidates) != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMessagesThatMustNotBeUnderstood(t *testing.T) {
	authorization := ""
	for _, g := range goldens(t) {
		if _, ok := g.message.(CreateAuthorization); ok {
			authorization = g.payload
		}
	}
	change := func(from, to string) string {
		if !strings.Contains(authorization, from) {
			t.Fatalf("no %s to change", from)
		}
		return strings.Replace(authorization, from, to, 1)
	}
	for name, payload := range map[string]string{
		"an unknown filter must not widen access": change(`"filters":[]`, `"filters":[{"protocol":"sctp"}]`),
		"a filter without protocol":               change(`"filters":[]`, `"filters":[{}]`),
		"a filter with ports the wrong way":       change(`"filters":[]`, `"filters":[{"protocol":"tcp","port_range_start":2,"port_range_end":1}]`),
		"a port out of range":                     change(`"filters":[]`, `"filters":[{"protocol":"tcp","port_range_end":65536}]`),
		"null filters":                            change(`"filters":[]`, `"filters":null`),
		"host bits":                               change(`10.2.0.0/16`, `10.2.0.1/16`),
		"a resource of unknown type":              change(`"type":"cidr"`, `"type":"novel"`),
		"a short key":                             change(`AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=`, `AAEC`),
		"a key with bits after its end":           change(`ODxAREhMUFRYXGBkaGxwdHh8=`, `ODxAREhMUFRYXGBkaGxwdHh9=`),
		"addresses exchanged":                     change(`"ipv4":"100.64.12.9"`, `"ipv4":"fd00::1"`),
		"an IPv6 address with a zone":             change(`"ipv6":"fd00:2021:1111::3:7"`, `"ipv6":"fe80::1%eth0"`),
		"a network for an address":                change(`"ipv4":"100.64.12.9"`, `"ipv4":"100.64.12.0/24"`),
		"a token that is none":                    change(`"flow_logs_ingest_token":"`, `"flow_logs_ingest_token":"x`),
		"an expiry with a fraction":               change(`"expires_at":1790084000`, `"expires_at":1.5`),
		"an expiry in words":                      change(`"expires_at":1790084000`, `"expires_at":"soon"`),
		"a zero id":                               change(`11111111-1111-4111-8111-111111111111`, `00000000-0000-0000-0000-000000000000`),
		"an id without hyphens":                   change(`11111111-1111-4111-8111-111111111111`, `11111111111141118111111111111111`),
		"a list":                                  `[]`,
		"nothing":                                 `null`,
	} {
		if m, err := push(t, RoleGateway, "create_authorization", payload); err == nil {
			t.Errorf("%s: %+v", name, m)
		} else if strings.Contains(err.Error(), "ksqwm66pilnb7skdwwfw3r") || strings.Contains(err.Error(), vectorPSK) {
			t.Errorf("%s: the error holds a secret: %v", name, err)
		}
	}
	for _, absent := range []string{`"expires_at":1790084000,`, `"expires_at":null,`} {
		payload := change(`"expires_at":1790084000,`, strings.TrimPrefix(absent, `"expires_at":1790084000,`))
		m, err := push(t, RoleGateway, "create_authorization", payload)
		if a, ok := m.(CreateAuthorization); err != nil || !ok || !a.ExpiresAt.IsZero() {
			t.Errorf("no expiry: %+v, %v", m, err)
		}
	}
}

func TestNullIsNoID(t *testing.T) {
	for _, c := range []struct{ event, payload string }{
		{"resource_deleted", `null`}, {"resource_deleted", `7`}, {"resource_deleted", `{}`},
		{"relays_presence", `{"disconnected_ids":[null],"connected":[]}`},
		{"resource_filters_updated", `{"id":"77777777-7777-4777-8777-777777777777","filters":[null]}`},
		{"reject_access", `{"client_id":null,"resource_id":"77777777-7777-4777-8777-777777777777"}`},
	} {
		if m, err := push(t, RoleClient, c.event, c.payload); err == nil {
			t.Errorf("%s %s: %+v", c.event, c.payload, m)
		}
	}
}

func TestNothingIncompleteIsWritten(t *testing.T) {
	for _, m := range []Message{
		GatewayInit{}, CreateAuthorization{}, RejectAccess{ClientID: clientID}, ResourceUpdated{}, CandidatesFromClient{}, Disconnect{},
		RelaysPresence{Connected: Relays{{ID: relayID}}}, ClientInit{}, Connected{}, Unknown{Name: "init"}, RelayInit{},
		ResourceUpdated{GatewayResource{ID: resourceID, Type: CIDR, Name: "n", Address: "x"}},
	} {
		if f, err := EncodeFromPortal(RoleGateway, V2, m); err == nil {
			t.Errorf("%T is written as %s", m, f.Payload)
		}
	}
	if f, err := EncodeFromDevice(RoleClient, V2, NewRequestForDevice(resourceID, netip.MustParseAddr("::ffff:1.2.3.4"))); err == nil {
		t.Errorf("written as %s", f.Payload)
	}
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name, text string
		limits     Limits
		ok         bool
	}{
		{"all keys", `{"topic":"t","event":"e","payload":{},"ref":1}`, FromPortal, true},
		{"only an event", `{"event":"e"}`, FromPortal, true},
		{"extra keys and white space", " {\"event\" : \"e\", \"join_ref\":\"x\", \"more\":{\"a\":[]}}\n", FromPortal, true},
		{"a string for a payload", `{"event":"e","payload":"x"}`, FromPortal, true},
		{"a string for a ref", `{"event":"e","ref":"12"}`, FromPortal, true},
		{"no event", `{"topic":"t"}`, FromPortal, false},
		{"a list", `["1","2","t","e",{}]`, FromPortal, false},
		{"nothing", ``, FromPortal, false},
		{"two values", `{"event":"e"}{}`, FromPortal, false},
		{"a ref that is a list", `{"event":"e","ref":[1]}`, FromPortal, false},
		{"a ref that is true", `{"event":"e","ref":true}`, FromPortal, false},
		{"a long ref", `{"event":"e","ref":"` + strings.Repeat("1", 100) + `"}`, FromPortal, false},
		{"a long event", `{"event":"` + strings.Repeat("e", 200) + `"}`, FromPortal, false},
		{"invalid UTF-8", "{\"event\":\"\xff\"}", FromPortal, false},
		{"brackets in strings do not nest", `{"event":"e","payload":"[[[[[[[[[[[[[[[[[[[[\"[["}`, FromPortal, true},
		{"as deep as may be", `{"event":"e","payload":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, FromPortal, true},
		{"too deep", `{"event":"e","payload":` + strings.Repeat("[", 16) + strings.Repeat("]", 16) + `}`, FromPortal, false},
		{"too many values", `{"event":"e","payload":[` + strings.Repeat("1,", 5000) + `1]}`, FromDevice, false},
		{"too long", `{"event":"e","payload":"` + strings.Repeat("x", 70000) + `"}`, FromDevice, false},
	} {
		if _, err := ParseFrame([]byte(c.text), c.limits); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A frame that is written reads the same, from either side.
func TestFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Frame{
			Topic: rapid.StringN(0, 20, -1).Draw(t, "topic"), Event: rapid.StringN(1, 20, -1).Draw(t, "event"),
			Payload: []byte(rapid.SampledFrom([]string{`{}`, `"<&>"`, `[1,{"a":null}]`, `7`}).Draw(t, "payload")),
			Ref:     NumberRef(rapid.Uint64().Draw(t, "ref")),
		}
		for _, text := range [][]byte{f.DeviceText(), f.PortalText()} {
			got, err := ParseFrame(text, FromPortal)
			if err != nil || got.Topic != f.Topic || got.Event != f.Event || string(got.Payload) != string(f.Payload) || got.Ref != f.Ref {
				t.Fatalf("%s: %+v, %v", text, got, err)
			}
		}
	})
}

func TestReplies(t *testing.T) {
	for _, c := range []struct {
		payload string
		want    Reply
		ok      bool
	}{
		{`{"status":"ok","response":{}}`, Reply{OK: true}, true},
		{`{"status":"ok","response":null}`, Reply{OK: true}, true},
		{`{"status":"ok"}`, Reply{OK: true}, true},
		{`{"status":"error","response":{"reason":"unmatched topic"}}`, Reply{Reason: "unmatched topic"}, true},
		{`{"status":"error","response":{"reason":{"a":1}}}`, Reply{Reason: "unknown"}, true},
		{`{"status":"error"}`, Reply{Reason: "unknown"}, true},
		{`{"status":"novel"}`, Reply{}, false}, {`{}`, Reply{}, false}, {`null`, Reply{}, false}, {`"ok"`, Reply{}, false},
	} {
		if got, err := ParseReply([]byte(c.payload)); got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", c.payload, got, err)
		}
	}
}
