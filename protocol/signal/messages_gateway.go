package signal

import "log/slog"

// What the portal tells a gateway.
type (
	// GatewayInit begins every channel and is repeated when the tunnel addresses change. Grants
	// that are not in Authorizations are void.
	GatewayInit struct {
		AccountSlug    Text                `json:"account_slug,omitzero"`
		Interface      Interface           `json:"interface"`
		Config         Masquerade          `json:"config"`
		Relays         Relays              `json:"relays"`
		Authorizations List[Authorization] `json:"authorizations"`
		FlowLogs       FlowLogs            `json:"flow_logs"`
	}
	// Masquerade is always true twice; no device looks at it.
	Masquerade struct {
		IPv4 bool `json:"ipv4_masquerade_enabled"`
		IPv6 bool `json:"ipv6_masquerade_enabled"`
	}
	// CreateAuthorization grants a client a resource. The gateway answers with
	// AuthorizationApplied and the same Ref, or with NoRelays.
	CreateAuthorization struct {
		// Ref is opaque and bounded by the frame.
		Ref         string          `json:"ref"`
		Resource    GatewayResource `json:"resource"`
		Client      Client          `json:"client"`
		ClientICE   ICECredentials  `json:"client_ice_credentials"`
		GatewayICE  ICECredentials  `json:"gateway_ice_credentials"`
		ExpiresAt   Expiry          `json:"expires_at"`
		UseICEless  bool            `json:"use_iceless"`
		IngestToken Secret          `json:"flow_logs_ingest_token"`
		Subject     *Subject        `json:"subject,omitempty"`
	}
	// Client is a client as a gateway needs to know it. What follows IPv6 is informative.
	Client struct {
		ID                     ID           `json:"id"`
		PublicKey              PublicKey    `json:"public_key"`
		PresharedKey           PresharedKey `json:"preshared_key"`
		IPv4                   Addr4        `json:"ipv4"`
		IPv6                   Addr6        `json:"ipv6"`
		Version                Text         `json:"version"`
		DeviceOSName           Text         `json:"device_os_name"`
		DeviceOSVersion        Text         `json:"device_os_version"`
		DeviceSerial           Text         `json:"device_serial"`
		DeviceUUID             Text         `json:"device_uuid"`
		IdentifierForVendor    Text         `json:"identifier_for_vendor"`
		FirebaseInstallationID Text         `json:"firebase_installation_id"`
	}
	// RejectAccess ends a grant at once, on a gateway or on the client that granted it.
	RejectAccess struct {
		ClientID   ID `json:"client_id"`
		ResourceID ID `json:"resource_id"`
	}
	// ResourceUpdated replaces the filters of a granted resource. Its payload is the resource.
	ResourceUpdated struct {
		GatewayResource
	}
	// CandidatesFromClient adds remote candidates of a client.
	CandidatesFromClient struct {
		ClientID   ID         `json:"client_id"`
		Candidates Candidates `json:"candidates"`
	}
	// InvalidFromClient removes remote candidates of a client.
	InvalidFromClient struct {
		ClientID   ID         `json:"client_id"`
		Candidates Candidates `json:"candidates"`
	}
	// RelaysPresence says which relays to drop and which to use. Those in neither list stay.
	RelaysPresence struct {
		DisconnectedIDs List[ID] `json:"disconnected_ids"`
		Connected       Relays   `json:"connected"`
	}
	// Disconnect ends the session. With ReasonTokenExpired the device must not come back; other
	// reasons are followed by the end of the websocket.
	Disconnect struct {
		Reason string `json:"reason"`
	}
)

// What a gateway tells the portal.
type (
	// Capabilities is sent after every join.
	Capabilities struct {
		ICEless bool `json:"iceless"`
	}
	// AuthorizationApplied answers CreateAuthorization.
	AuthorizationApplied struct {
		Ref string `json:"ref"`
	}
	// BroadcastCandidates offers candidates to clients, best first.
	BroadcastCandidates struct {
		ClientIDs  List[ID]   `json:"client_ids"`
		Candidates Candidates `json:"candidates"`
	}
	// BroadcastInvalid withdraws candidates.
	BroadcastInvalid struct {
		ClientIDs  List[ID]   `json:"client_ids"`
		Candidates Candidates `json:"candidates"`
	}
	// NoRelays asks for a RelaysPresence.
	NoRelays struct{}
)

func (m CreateAuthorization) check() error { return checkIngestToken(m.IngestToken) }

// Event returns the name on the wire.
func (GatewayInit) Event() string          { return "init" }
func (CreateAuthorization) Event() string  { return "create_authorization" }
func (RejectAccess) Event() string         { return "reject_access" }
func (ResourceUpdated) Event() string      { return "resource_updated" }
func (CandidatesFromClient) Event() string { return "ice_candidates" }
func (InvalidFromClient) Event() string    { return "invalidate_ice_candidates" }
func (RelaysPresence) Event() string       { return "relays_presence" }
func (Disconnect) Event() string           { return "disconnect" }
func (Capabilities) Event() string         { return "set_snownet_capabilities" }
func (AuthorizationApplied) Event() string { return "authorization_created" }
func (BroadcastCandidates) Event() string  { return "broadcast_ice_candidates" }
func (BroadcastInvalid) Event() string     { return "broadcast_invalidated_ice_candidates" }
func (NoRelays) Event() string             { return "no_relays" }

// LogValue shows the event only.
func (m GatewayInit) LogValue() slog.Value         { return slog.StringValue(m.Event()) }
func (m CreateAuthorization) LogValue() slog.Value { return slog.StringValue(m.Event()) }
func (m RelaysPresence) LogValue() slog.Value      { return slog.StringValue(m.Event()) }

// LogValue shows the ID only.
func (c Client) LogValue() slog.Value { return slog.StringValue(c.ID.String()) }
