package signal

import (
	"bytes"
	"testing"
)

// The values of the protocol's test vectors.
var (
	clientID    = mustID("11111111-1111-4111-8111-111111111111")
	gatewayID   = mustID("22222222-2222-4222-8222-222222222222")
	resourceID  = mustID("77777777-7777-4777-8777-777777777777")
	siteID      = mustID("99999999-9999-4999-8999-999999999999")
	relayID     = mustID("60e05bd1-b195-4f2f-9411-2fa7197a5c88")
	clientKey   = countingKey(0)
	gatewayKey  = countingKey(0x20)
	stampSecret = NewSecret("0000000000000000000000000000000000000000000000000000000000000000")
)

const (
	vectorPSK     = "nf/zxFPO6UthXqXx5mQvtNZLT0cwCJiO6nYyJhnspc4="
	vectorClaims  = `{"account_id":"33333333-3333-4333-8333-333333333333","iat":1790000000,"exp":1792678400,"uploads_enabled":false,"role":"responder","initiator_device_id":"11111111-1111-4111-8111-111111111111","responder_device_id":"22222222-2222-4222-8222-222222222222","policy_authorization_id":"55555555-5555-4555-8555-555555555555","policy_id":"66666666-6666-4666-8666-666666666666","resource_id":"77777777-7777-4777-8777-777777777777","resource_name":"Lab net","initiator_actor_id":"88888888-8888-4888-8888-888888888888","initiator_actor_name":"robot","authorized_at":"2026-09-21T13:33:20.000000Z","authorization_expires_at":"2026-09-22T13:33:20.000000Z"}`
	vectorGateway = ".SFMyNTY.g2gDaANtAAAAJDMzMzMzMzMzLTMzMzMtNDMzMy04MzMzLTMzMzMzMzMzMzMzM20AAAAkNDQ0NDQ0NDQtNDQ0NC00NDQ0LTg0NDQtNDQ0NDQ0NDQ0NDQ0bQAAADgwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwPT09PW4GAABsUMSgAWIAAVGA.j7KMmN-Z13GBUpfEPvQNgqsK7aYd2oa8aF0guMoy9AQ"
)

func mustID(s string) ID {
	id, err := ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

func countingKey(first byte) (k PublicKey) {
	for i := range k {
		k[i] = first + byte(i)
	}
	return k
}

func base(b byte) PSKBase { return NewPresharedKey([32]byte(bytes.Repeat([]byte{b}, 32))) }

func ingestToken(t testing.TB) Secret {
	t.Helper()
	var key [32]byte
	for i := range key {
		key[i] = byte(i)
	}
	claims := IngestClaims{
		AccountID: mustID("33333333-3333-4333-8333-333333333333"), IssuedAt: 1790000000, ExpiresAt: 1792678400,
		Role: Responder, InitiatorDeviceID: clientID, ResponderDeviceID: gatewayID,
		PolicyAuthorizationID: mustID("55555555-5555-4555-8555-555555555555"),
		PolicyID:              mustID("66666666-6666-4666-8666-666666666666"), ResourceID: resourceID, ResourceName: "Lab net",
		InitiatorActorID: mustID("88888888-8888-4888-8888-888888888888"), InitiatorActorName: "robot",
		AuthorizedAt: "2026-09-21T13:33:20.000000Z", AuthorizationExpiresAt: "2026-09-22T13:33:20.000000Z",
	}
	token, err := SignIngestToken(claims, NewSecret(string(key[:])))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := VerifyIngestToken(token, NewSecret(string(key[:]))); err != nil || c != claims {
		t.Fatalf("verified as %+v, %v", c, err)
	}
	if _, err := VerifyIngestToken(token, NewSecret("other")); err == nil {
		t.Fatal("a token is accepted under another key")
	}
	return token
}

func TestVectors(t *testing.T) {
	client, gateway := End{clientID, clientKey}, End{gatewayID, gatewayKey}
	if got := clientKey.String(); got != "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" {
		t.Errorf("client key %s", got)
	}
	if got := gatewayKey.String(); got != "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=" {
		t.Errorf("gateway key %s", got)
	}
	psk, err := DerivePSK(client, gateway, base(1), base(2))
	text, _ := psk.MarshalText()
	if err != nil || string(text) != vectorPSK {
		t.Errorf("preshared key %s, %v", text, err)
	}
	c, g := DeriveICE(client, gateway)
	if c.Username != "w7up" || c.Password.Reveal() != "ksqwm66pilnb7skdwwfw3r" {
		t.Errorf("client credentials %s %s", c.Username, c.Password.Reveal())
	}
	if g.Username != "kwe6" || g.Password.Reveal() != "mzkrj52x5h5ebrfdsh5iyq" {
		t.Errorf("gateway credentials %s %s", g.Username, g.Password.Reveal())
	}
	if got := RelayID(stampSecret); got != relayID {
		t.Errorf("relay id %s", got)
	}
	username, password := TURNCredentials(stampSecret, clientKey, GatewayRelayExpiry)
	if username != "2145916800:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY" || password.Reveal() != "1OfOezYMrsYwIQYBzE7sZkXcW2MoR6CK92du77MU2JQ" {
		t.Errorf("TURN credentials %s %s", username, password.Reveal())
	}
	again, expires, ok := TURNPassword(stampSecret, username)
	if !ok || expires != GatewayRelayExpiry || !again.Equal(password) {
		t.Errorf("the relay computes %s until %d, %v", again.Reveal(), expires, ok)
	}
	token := ingestToken(t).Reveal()
	head, payload, _ := bytes.Cut([]byte(token), []byte("."))
	payload, signature, _ := bytes.Cut(payload, []byte("."))
	if string(head) != "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" || string(signature) != "D6NhN4MCbWKONZxwyqlIOMTDOFgrtBqJtu63OU7v4l0" {
		t.Errorf("ingest token %s", token)
	}
	if got := decodeURL(t, payload); got != vectorClaims {
		t.Errorf("ingest claims\n%s\nwant\n%s", got, vectorClaims)
	}
}

func TestPeerKeyDiffersByDirection(t *testing.T) {
	a, b := End{clientID, clientKey}, End{gatewayID, gatewayKey}
	there, err1 := DerivePeerPSK(a, b, base(1), base(2))
	back, err2 := DerivePeerPSK(b, a, base(2), base(1))
	other, err3 := DerivePSK(a, b, base(1), base(2))
	if err1 != nil || err2 != nil || err3 != nil || there.Equal(back) || there.Equal(other) {
		t.Errorf("keys are equal, or %v %v %v", err1, err2, err3)
	}
}

func TestTURNUsernamesThatAreNone(t *testing.T) {
	for _, username := range []string{"", ":", "abc:salt", "12", "012:salt", "+12:salt", "99999999999999999999:salt", "1:" + string(make([]byte, 500))} {
		if _, _, ok := TURNPassword(stampSecret, username); ok {
			t.Errorf("%q has a password", username)
		}
	}
}
