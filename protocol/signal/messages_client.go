package signal

import (
	"encoding/json"
	"log/slog"
	"net/netip"
)

// What the portal tells a client.
type (
	// ClientInit begins every channel. Resources replace what was known; Authorizations are the
	// inbound grants that still hold.
	ClientInit struct {
		Interface      Interface           `json:"interface"`
		Resources      Resources           `json:"resources"`
		Relays         Relays              `json:"relays"`
		Authorizations List[Authorization] `json:"authorizations"`
		FlowLogs       FlowLogs            `json:"flow_logs"`
	}
	// ConfigChanged replaces the interface configuration.
	ConfigChanged struct {
		Interface Interface `json:"interface"`
	}
	// ResourceChanged adds or replaces a resource. Its payload is the resource.
	ResourceChanged struct {
		ClientResource
	}
	// ResourceDeleted removes a resource. Its payload is a bare string.
	ResourceDeleted struct {
		ID ID
	}
	// CandidatesFromGateway adds remote candidates of a gateway.
	CandidatesFromGateway struct {
		GatewayID  ID         `json:"gateway_id"`
		Candidates Candidates `json:"candidates"`
	}
	// InvalidFromGateway removes remote candidates of a gateway.
	InvalidFromGateway struct {
		GatewayID  ID         `json:"gateway_id"`
		Candidates Candidates `json:"candidates"`
	}
	// AuthorizationCreated names the gateway through which a requested resource is reached.
	AuthorizationCreated struct {
		ResourceID       ID             `json:"resource_id"`
		SiteID           ID             `json:"site_id"`
		GatewayID        ID             `json:"gateway_id"`
		GatewayPublicKey PublicKey      `json:"gateway_public_key"`
		GatewayIPv4      Addr4          `json:"gateway_ipv4"`
		GatewayIPv6      Addr6          `json:"gateway_ipv6"`
		PresharedKey     PresharedKey   `json:"preshared_key"`
		ClientICE        ICECredentials `json:"client_ice_credentials"`
		GatewayICE       ICECredentials `json:"gateway_ice_credentials"`
		UseICEless       bool           `json:"use_iceless"`
		IngestToken      Secret         `json:"flow_logs_ingest_token"`
		// LegacyNames is as in ClientResource.
		LegacyNames bool `json:"-"`
	}
	// AuthorizationFailed answers a RequestAuthorization.
	AuthorizationFailed struct {
		ResourceID         ID       `json:"resource_id"`
		Reason             Reason   `json:"reason"`
		ViolatedProperties []string `json:"violated_properties,omitempty"`
	}
	// DeviceAccessAuthorized connects two clients of a device pool. Resource and ExpiresAt are
	// there for the controlled side only. Push is the portal's own and never on the wire: unless
	// it is zero, whoever writes the message tells with Pushed that it has gone out.
	DeviceAccessAuthorized struct {
		ClientID        ID             `json:"client_id"`
		ClientName      string         `json:"client_name"`
		ClientPublicKey PublicKey      `json:"client_public_key"`
		ClientIPv4      Addr4          `json:"client_ipv4"`
		ClientIPv6      Addr6          `json:"client_ipv6"`
		PresharedKey    PresharedKey   `json:"preshared_key"`
		LocalICE        ICECredentials `json:"local_ice_credentials"`
		RemoteICE       ICECredentials `json:"remote_ice_credentials"`
		Role            ICERole        `json:"ice_role"`
		UseICEless      bool           `json:"use_iceless"`
		ExpiresAt       Expiry         `json:"expires_at,omitzero"`
		Resource        *PoolResource  `json:"resource,omitempty"`
		Subject         *Subject       `json:"subject,omitempty"`
		IngestToken     Secret         `json:"flow_logs_ingest_token"`
		Push            ID             `json:"-"`
	}
	// DeviceAccessDenied answers a RequestAuthorization for a device pool.
	DeviceAccessDenied struct {
		ClientID   ID     `json:"client_id,omitzero"`
		IPv4       Addr4  `json:"ipv4,omitzero"`
		IPv6       Addr6  `json:"ipv6,omitzero"`
		ResourceID ID     `json:"resource_id,omitzero"`
		Reason     Reason `json:"reason"`
	}
	// CandidatesFromPeer adds remote candidates of another client.
	CandidatesFromPeer struct {
		ClientID   ID         `json:"client_id"`
		Candidates Candidates `json:"candidates"`
	}
	// InvalidFromPeer removes remote candidates of another client.
	InvalidFromPeer struct {
		ClientID   ID         `json:"client_id"`
		Candidates Candidates `json:"candidates"`
	}
	// PeerCandidateError says that candidates did not reach another client.
	PeerCandidateError struct {
		ClientID ID     `json:"client_id"`
		Reason   Reason `json:"reason"`
	}
	// FiltersUpdated replaces the filters of an inbound grant.
	FiltersUpdated struct {
		ID      ID           `json:"id"`
		Filters List[Filter] `json:"filters"`
	}
	// PoolDomainResolved answers ResolvePoolDomain.
	PoolDomainResolved struct {
		ResourceID ID     `json:"resource_id"`
		Domain     string `json:"domain"`
		IPv4       Addr4  `json:"ipv4"`
		IPv6       Addr6  `json:"ipv6"`
	}
	// PoolDomainFailed answers ResolvePoolDomain.
	PoolDomainFailed struct {
		ResourceID ID     `json:"resource_id"`
		Domain     string `json:"domain"`
		Reason     Reason `json:"reason"`
	}
)

// What a client tells the portal.
type (
	// RequestAuthorization asks for access to a resource; for a device pool with the one address
	// of the wanted device.
	RequestAuthorization struct {
		ResourceID          ID       `json:"resource_id"`
		ConnectedGatewayIDs List[ID] `json:"connected_gateway_ids"`
		IPv4                Addr4    `json:"ipv4,omitzero"`
		IPv6                Addr6    `json:"ipv6,omitzero"`
	}
	// CandidatesToGateway offers candidates to a gateway.
	CandidatesToGateway struct {
		GatewayID  ID         `json:"gateway_id"`
		Candidates Candidates `json:"candidates"`
	}
	// InvalidToGateway withdraws candidates from a gateway.
	InvalidToGateway struct {
		GatewayID  ID         `json:"gateway_id"`
		Candidates Candidates `json:"candidates"`
	}
	// CandidatesToPeer offers candidates to another client.
	CandidatesToPeer struct {
		ClientID   ID         `json:"client_id"`
		Candidates Candidates `json:"candidates"`
	}
	// InvalidToPeer withdraws candidates from another client.
	InvalidToPeer struct {
		ClientID   ID         `json:"client_id"`
		Candidates Candidates `json:"candidates"`
	}
	// ResolvePoolDomain asks for a device of a dynamic pool by name.
	ResolvePoolDomain struct {
		ResourceID ID     `json:"resource_id"`
		Domain     string `json:"domain"`
	}
	// BroadcastToGateways is how older clients offer candidates.
	BroadcastToGateways struct {
		GatewayIDs List[ID]   `json:"gateway_ids"`
		Candidates Candidates `json:"candidates"`
	}
	// InvalidBroadcastToGateways is how older clients withdraw candidates.
	InvalidBroadcastToGateways struct {
		GatewayIDs List[ID]   `json:"gateway_ids"`
		Candidates Candidates `json:"candidates"`
	}
	// RequestDeviceAccess comes from older clients and means nothing.
	RequestDeviceAccess struct{}
)

// Reason says why the portal refused. Others than these count as unknown.
type Reason string

// The reasons that clients know.
const (
	NotFound         Reason = "not_found"
	Offline          Reason = "offline"
	VersionMismatch  Reason = "version_mismatch"
	Forbidden        Reason = "forbidden"
	Disabled         Reason = "disabled"
	AmbiguousAddress Reason = "ambiguous_address"
	MissingAddress   Reason = "missing_address"
	InvalidAddress   Reason = "invalid_address"
)

// ICERole is which side nominates.
type ICERole string

// The two roles of ICE.
const (
	Controlling ICERole = "controlling"
	Controlled  ICERole = "controlled"
)

// MarshalJSON writes the bare ID.
func (m ResourceDeleted) MarshalJSON() ([]byte, error) { return marshal(m.ID) }

// UnmarshalJSON reads the bare ID.
func (m *ResourceDeleted) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return &FieldError{Field: "payload"}
	}
	return json.Unmarshal(b, &m.ID)
}

// MarshalJSON writes the site under one of its names.
func (m AuthorizationCreated) MarshalJSON() ([]byte, error) {
	type present AuthorizationCreated
	if !m.LegacyNames {
		return marshal(present(m))
	}
	return marshal(struct {
		present
		SiteID *ID `json:"site_id,omitempty"` // takes the place of the present one
		Group  ID  `json:"gateway_group_id"`
	}{present: present(m), Group: m.SiteID})
}

// UnmarshalJSON also reads the older name of the site.
func (m *AuthorizationCreated) UnmarshalJSON(b []byte) error {
	type present AuthorizationCreated
	var group struct {
		ID ID `json:"gateway_group_id"`
	}
	if err := json.Unmarshal(b, (*present)(m)); err != nil {
		return err
	}
	if m.SiteID.IsZero() && json.Unmarshal(b, &group) == nil {
		m.SiteID = group.ID
	}
	return nil
}

func (m AuthorizationCreated) check() error {
	if m.SiteID.IsZero() {
		return &FieldError{Field: "site_id"}
	}
	return checkIngestToken(m.IngestToken)
}

func (m DeviceAccessAuthorized) check() error {
	if m.Role != Controlling && m.Role != Controlled {
		return &FieldError{Field: "ice_role", Problem: "is neither controlling nor controlled"}
	}
	if m.Resource != nil {
		if m.Resource.ID.IsZero() {
			return &FieldError{Field: "resource.id"}
		}
		if err := checkDevices(m.Resource.Devices); err != nil {
			return err
		}
	}
	return checkIngestToken(m.IngestToken)
}

// NewRequestForDevice returns the request for the device with address a in the pool resource.
func NewRequestForDevice(resource ID, a netip.Addr) RequestAuthorization {
	m := RequestAuthorization{ResourceID: resource}
	if a.Is4() {
		m.IPv4 = Addr4{a}
	} else {
		m.IPv6 = Addr6{a}
	}
	return m
}

// Event returns the name on the wire.
func (ClientInit) Event() string                 { return "init" }
func (ConfigChanged) Event() string              { return "config_changed" }
func (ResourceChanged) Event() string            { return "resource_created_or_updated" }
func (ResourceDeleted) Event() string            { return "resource_deleted" }
func (CandidatesFromGateway) Event() string      { return "ice_candidates" }
func (InvalidFromGateway) Event() string         { return "invalidate_ice_candidates" }
func (AuthorizationCreated) Event() string       { return "authorization_created" }
func (AuthorizationFailed) Event() string        { return "authorization_creation_failed" }
func (DeviceAccessAuthorized) Event() string     { return "client_device_access_authorized" }
func (DeviceAccessDenied) Event() string         { return "client_device_access_denied" }
func (CandidatesFromPeer) Event() string         { return "client_ice_candidates" }
func (InvalidFromPeer) Event() string            { return "invalidate_client_ice_candidates" }
func (PeerCandidateError) Event() string         { return "client_ice_candidate_error" }
func (FiltersUpdated) Event() string             { return "resource_filters_updated" }
func (PoolDomainResolved) Event() string         { return "device_pool_domain_resolved" }
func (PoolDomainFailed) Event() string           { return "device_pool_domain_resolution_failed" }
func (RequestAuthorization) Event() string       { return "request_authorization" }
func (CandidatesToGateway) Event() string        { return "new_gateway_ice_candidates" }
func (InvalidToGateway) Event() string           { return "invalidate_gateway_ice_candidates" }
func (CandidatesToPeer) Event() string           { return "new_client_ice_candidates" }
func (InvalidToPeer) Event() string              { return "invalidate_client_ice_candidates" }
func (ResolvePoolDomain) Event() string          { return "resolve_device_pool_domain" }
func (BroadcastToGateways) Event() string        { return "broadcast_ice_candidates" }
func (InvalidBroadcastToGateways) Event() string { return "broadcast_invalidated_ice_candidates" }
func (RequestDeviceAccess) Event() string        { return "request_device_access" }

// LogValue shows the event only.
func (m ClientInit) LogValue() slog.Value             { return slog.StringValue(m.Event()) }
func (m AuthorizationCreated) LogValue() slog.Value   { return slog.StringValue(m.Event()) }
func (m DeviceAccessAuthorized) LogValue() slog.Value { return slog.StringValue(m.Event()) }
