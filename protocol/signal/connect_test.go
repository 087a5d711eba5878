package signal

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		api  string
		role Role
		d    Dialect
		want string
		host string
	}{
		{"wss://api.firezone.dev", RoleGateway, V2, "wss://api.firezone.dev:443/gateway/v2/websocket", "api.firezone.dev"},
		{"https://api.firezone.dev/", RoleClient, V2, "wss://api.firezone.dev:443/client/v2/websocket", "api.firezone.dev"},
		{"wss://p.example/a/b/?q=1#f", RoleRelay, V1, "wss://p.example:443/a/b/relay/websocket", "p.example"},
		{"ws://p.example", RoleClient, V1, "ws://p.example:443/client/websocket", "p.example"},
		{"HTTP://p.example:8080", RoleGateway, V1, "ws://p.example:8080/gateway/websocket", "p.example"},
		{"ws://p.example:80", RoleRelay, V2, "ws://p.example:80/relay/websocket", "p.example"},
		{"ws://[2001:db8::1]:81", RoleRelay, V2, "ws://[2001:db8::1]:81/relay/websocket", "[2001:db8::1]"},
		{"ws://192.0.2.1", RoleRelay, V2, "ws://192.0.2.1:443/relay/websocket", "192.0.2.1"},
	} {
		got, err := ParseTarget(c.api, c.role, c.d)
		if err != nil || got.URL("") != c.want || got.HostHeader != c.host || got.TLS != strings.HasPrefix(c.want, "wss") {
			t.Errorf("%s: %+v, %v", c.api, got, err)
		}
	}
	for _, api := range []string{"", "api.firezone.dev", "ftp://x", "ws://", "ws://x:0", "ws://x:99999", "ws://u@x", "ws://x:y"} {
		if got, err := ParseTarget(api, RoleGateway, V2); err == nil {
			t.Errorf("%q: %+v", api, got)
		}
	}
	for _, e := range endpoints {
		if r, d, ok := ParseEndpoint(Endpoint(e.role, e.dialect)); !ok || r != e.role || d != e.dialect {
			t.Errorf("%s: %v %v", e.path, r, d)
		}
	}
	if _, _, ok := ParseEndpoint("/gateway/v3/websocket"); ok {
		t.Error("there is no third version")
	}
}

func TestExternalID(t *testing.T) {
	const hashed = "bd7662a5eeb41614e720d477abfcb2272e19a8a70a93b7e3bc8560d44ad326e9"
	for _, id := range []string{
		"11111111-1111-4111-8111-111111111111", "11111111111141118111111111111111", "{11111111-1111-4111-8111-111111111111}",
		"urn:uuid:11111111-1111-4111-8111-111111111111", "ABCDEF00-0000-0000-0000-000000000000",
	} {
		if got := ExternalID(id); len(got) != len(hashed) || got == id || strings.ToLower(got) != got {
			t.Errorf("%s is sent as %s", id, got)
		}
	}
	if got := ExternalID("11111111-1111-4111-8111-111111111111"); got != hashed || got == ExternalID("11111111111141118111111111111111") {
		t.Errorf("the text is sent as %s", got)
	}
	for _, id := range []string{"", "edge-1", hashed, "{11111111-1111-4111-8111-111111111111", "1111111111114111811111111111111g"} {
		if got := ExternalID(id); got != id {
			t.Errorf("%s is sent as %s", id, got)
		}
	}
}

func TestQueries(t *testing.T) {
	for _, c := range []struct {
		role Role
		p    Params
		want string
	}{
		{RoleGateway, Params{ExternalID: "9f2c", Name: "edge-1", PublicKey: clientKey},
			"external_id=9f2c&name=edge-1&public_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D"},
		{RoleClient, Params{ExternalID: "4b7d", Name: "laptop", DeviceSerial: "SN-1", DeviceUUID: "0d1e", PublicKey: clientKey},
			"external_id=4b7d&name=laptop&device_serial=SN-1&device_uuid=0d1e&public_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D"},
		{RoleRelay, Params{Name: "relay-a", IPv4: netip.MustParseAddr("203.0.113.7"), IPv6: netip.MustParseAddr("2001:db8::7"), Port: 3478},
			"name=relay-a&ipv4=203.0.113.7&ipv6=2001%3Adb8%3A%3A7&port=3478"},
	} {
		if got := c.p.Query(c.role); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if got, err := ParseParams(c.role, c.want); err != nil || got != c.p {
			t.Errorf("%s: %+v, %v", c.want, got, err)
		}
	}
}

func TestParamsThatAreRefused(t *testing.T) {
	const key = "&public_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D"
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		role        Role
		query, want string
	}{
		{RoleGateway, "", "external_id is missing; public_key is missing"},
		{RoleGateway, "external_id=x&public_key=y", "public_key is invalid"},
		{RoleClient, "external_id=" + long + key, "external_id is too long"},
		{RoleClient, "external_id=x&name=" + long + key, "name is too long"},
		{RoleClient, "external_id=%zz", "query is malformed"},
		{RoleClient, strings.Repeat("x", 10000), "query is too long"},
		{RoleRelay, "", "ipv4 and ipv6 are missing"},
		{RoleRelay, "ipv4=::1", "ipv4 is invalid"},
		{RoleRelay, "ipv6=fe80::1%25eth0", "ipv6 is invalid"},
		{RoleRelay, "ipv4=192.0.2.1&port=0", "port is invalid"},
		{RoleRelay, "ipv4=192.0.2.1&port=65536", "port is invalid"},
	} {
		_, err := ParseParams(c.role, c.query)
		var p *ParamError
		if !errors.As(err, &p) || p.Error() != c.want {
			t.Errorf("%.40s: %v, want %s", c.query, err, c.want)
			continue
		}
		if r := p.Refusal(); r.Status != 400 || r.Problem.Code != CodeInvalidParams || r.Fatal() != nil {
			t.Errorf("refused with %+v", r)
		}
	}
	if p, err := ParseParams(RoleGateway, "firezone_id=y&novel=1"+key); err != nil || p.ExternalID != "y" {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := ParseParams(RoleGateway, "firezone_id=y&external_id=x"+key); err != nil || p.ExternalID != "x" {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := ParseParams(RoleRelay, "ipv4=192.0.2.1"); err != nil || p.Port != DefaultRelayPort {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestTokens(t *testing.T) {
	sent := CleanToken(" " + vectorGateway[:40] + "\n\t" + vectorGateway[40:] + "\n")
	if got, err := TokenFrom(AuthorizationHeader(sent), ""); err != nil || got.Reveal() != vectorGateway {
		t.Errorf("arrives as %s, %v", got.Reveal(), err)
	}
	for _, c := range []struct{ header, query, want string }{
		{"Bearer a", "token=b", "a"}, {"", "token=b", "b"}, {"bearer a", "token=b", "b"}, {"Bearer ", "token=b", "b"}, {"Bearer a b", "", "a b"},
		{"", "", ""}, {"Basic x", "", ""}, {"", "token=", ""}, {"", "token=%zz", ""}, {"Bearer " + strings.Repeat("x", 5000), "", ""}, {"", "token=" + strings.Repeat("x", 9000), ""},
	} {
		got, err := TokenFrom(c.header, c.query)
		if got.Reveal() != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%.20q %.20q: %q, %v", c.header, c.query, got.Reveal(), err)
		}
	}
}

func TestAgents(t *testing.T) {
	a := Agent{OS: "Ubuntu", OSVersion: "24.4.0", Component: "gateway", Version: "1.6.1", Arch: "x86_64", Kernel: "6.8.0-45-generic"}
	const full = "Ubuntu/24.4.0 gateway/1.6.1 (x86_64; 6.8.0-45-generic)"
	if a.String() != full {
		t.Errorf("got %s", a)
	}
	if got, ok := ParseAgent(full); !ok || got.Component != "gateway" || got.Version != "1.6.1" || got.OS != "Ubuntu" || got.OSVersion != "24.4.0" {
		t.Errorf("%+v %v", got, ok)
	}
	a.Arch, a.OS = "", "Übuntu\n"
	if a.String() != "buntu/24.4.0 gateway/1.6.1 (6.8.0-45-generic)" {
		t.Errorf("got %s", a)
	}
	if got, ok := ParseAgent("Arch Linux/6 headless-client/1.5.12"); !ok || got.OS != "Arch Linux" || got.Version != "1.5.12" {
		t.Errorf("%+v %v", got, ok)
	}
	for _, header := range []string{"", "Mozilla/5.0", "gateway", "gateway/", "mygateway/1.0"} {
		if got, ok := ParseAgent(header); ok {
			t.Errorf("%q: %+v", header, got)
		}
	}
}

func TestParamsRoundTrip(t *testing.T) {
	text := rapid.StringN(1, 50, 200)
	rapid.Check(t, func(t *rapid.T) {
		p := Params{ExternalID: text.Draw(t, "id"), Name: text.Draw(t, "name"), DeviceSerial: text.Draw(t, "serial")}
		copy(p.PublicKey[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		if got, err := ParseParams(RoleClient, p.Query(RoleClient)); err != nil || got != p {
			t.Fatalf("%s: %+v, %v", p.Query(RoleClient), got, err)
		}
	})
}
