package signal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// IngestClaims are what an ingest token says: to whom a device's flow records of one
// authorization are attributed. Empty optional claims are left out.
type IngestClaims struct {
	AccountID              ID         `json:"account_id"`
	IssuedAt               int64      `json:"iat"`
	ExpiresAt              int64      `json:"exp"`
	UploadsEnabled         bool       `json:"uploads_enabled"`
	Role                   IngestRole `json:"role"`
	InitiatorDeviceID      ID         `json:"initiator_device_id"`
	ResponderDeviceID      ID         `json:"responder_device_id"`
	PolicyAuthorizationID  ID         `json:"policy_authorization_id"`
	PolicyID               ID         `json:"policy_id"`
	ResourceID             ID         `json:"resource_id"`
	ResourceName           string     `json:"resource_name"`
	InitiatorActorID       ID         `json:"initiator_actor_id"`
	InitiatorActorName     string     `json:"initiator_actor_name"`
	AuthorizedAt           string     `json:"authorized_at"`
	AuthorizationExpiresAt string     `json:"authorization_expires_at"`

	ResourceAddress        string `json:"resource_address,omitzero"`
	ActorEmail             string `json:"initiator_actor_email,omitzero"`
	AuthProviderID         string `json:"initiator_auth_provider_id,omitzero"`
	ClientVersion          string `json:"initiator_client_version,omitzero"`
	DeviceOSName           string `json:"initiator_device_os_name,omitzero"`
	DeviceOSVersion        string `json:"initiator_device_os_version,omitzero"`
	DeviceSerial           string `json:"initiator_device_serial,omitzero"`
	DeviceUUID             string `json:"initiator_device_uuid,omitzero"`
	IdentifierForVendor    string `json:"initiator_device_identifier_for_vendor,omitzero"`
	FirebaseInstallationID string `json:"initiator_device_firebase_installation_id,omitzero"`
}

// IngestRole is the end of the connection that holds the token.
type IngestRole string

// The two ends.
const (
	Initiator IngestRole = "initiator"
	Responder IngestRole = "responder"
)

// ingestHeader is the header of every token, a JWT signed with HMAC-SHA256.
const ingestHeader = `{"alg":"HS256","typ":"JWT"}`

// requiredClaims is what devices insist on. The names are bounded text and may be empty.
var requiredClaims = []string{
	"account_id", "initiator_device_id", "responder_device_id", "policy_authorization_id", "policy_id", "resource_id",
	"initiator_actor_id", "resource_name?", "initiator_actor_name?", "authorized_at", "authorization_expires_at",
	"iat", "exp", "uploads_enabled", "role",
}

// SignIngestToken returns the token for c under an account's key.
func SignIngestToken(c IngestClaims, key Secret) (Secret, error) {
	payload, err := marshal(c)
	if err != nil {
		return Secret{}, fmt.Errorf("sign ingest token: %w", err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(ingestHeader)) + "." + b64.EncodeToString(payload)
	return NewSecret(signed + "." + b64.EncodeToString(ingestMAC(signed, key))), nil
}

// ParseIngestToken returns the claims of a token after checking its structure, as devices do,
// who cannot check its signature.
func ParseIngestToken(t Secret) (IngestClaims, error) {
	parts := strings.Split(t.Reveal(), ".")
	if len(parts) != 3 || parts[2] == "" {
		return IngestClaims{}, errors.New("is not a token of three parts")
	}
	var decoded [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			return IngestClaims{}, errors.New("is not unpadded base64url")
		}
		decoded[i] = b
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if json.Unmarshal(decoded[0], &header) != nil || header.Algorithm != "HS256" {
		return IngestClaims{}, errors.New("is not signed with HS256")
	}
	if missing := required(decoded[1], requiredClaims...); missing != "" {
		return IngestClaims{}, fmt.Errorf("lacks the claim %s", missing)
	}
	var c IngestClaims
	if json.Unmarshal(decoded[1], &c) != nil || c.Role != Initiator && c.Role != Responder {
		return IngestClaims{}, errors.New("has a claim of the wrong type")
	}
	return c, nil
}

// VerifyIngestToken returns the claims of a token signed with key. It does not look at the time.
func VerifyIngestToken(t, key Secret) (IngestClaims, error) {
	c, err := ParseIngestToken(t)
	if err != nil {
		return IngestClaims{}, fmt.Errorf("ingest token %w", err)
	}
	text := t.Reveal()
	dot := strings.LastIndexByte(text, '.')
	mac, err := base64.RawURLEncoding.DecodeString(text[dot+1:])
	if err != nil || !hmac.Equal(mac, ingestMAC(text[:dot], key)) {
		return IngestClaims{}, errors.New("ingest token has a wrong signature")
	}
	return c, nil
}

func ingestMAC(signed string, key Secret) []byte {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	h.Write([]byte(signed))
	return h.Sum(nil)
}

func checkIngestToken(t Secret) error {
	if _, err := ParseIngestToken(t); err != nil {
		return &FieldError{Field: "flow_logs_ingest_token", Problem: err.Error()}
	}
	return nil
}
