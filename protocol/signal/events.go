package signal

import (
	"encoding/json"
	"slices"
)

// kind is how one event is read and written.
type kind struct {
	event string
	// v1 is the name on the older sockets.
	v1 string
	// aliases are further names that are understood.
	aliases []string
	// required are the paths without which the deployed devices drop the message.
	required []string
	decode   func(payload []byte) (Message, error)
	is       func(Message) bool
}

func (k kind) named(event string) bool {
	return k.event == event || k.v1 == event && event != "" || slices.Contains(k.aliases, event)
}

// of is the kind of messages of type M.
func of[M Message](required ...string) kind {
	var zero M
	return kind{
		event:    zero.Event(),
		required: required,
		decode: func(payload []byte) (Message, error) {
			var m M
			err := json.Unmarshal(payload, &m)
			if err == nil {
				err = check(m)
			}
			return m, err
		},
		is: func(m Message) bool { _, ok := m.(M); return ok },
	}
}

// check asks a message for what its fields alone do not tell.
func check(m Message) error {
	if c, ok := m.(interface{ check() error }); ok {
		return c.check()
	}
	return nil
}

func (k kind) inV1(name string) kind { k.v1 = name; return k }

func (k kind) alias(names ...string) kind { k.aliases = names; return k }

var (
	tunnelAddresses = []string{"interface.ipv4", "interface.ipv6"}
	flowLogs        = []string{"flow_logs.api_url?", "flow_logs.upload_interval_secs", "flow_logs.upload_batch_size"}
	granted         = []string{"authorizations[].client_id", "authorizations[].resource_id"}
)

// fromPortal are the events that the portal sends, by role.
var fromPortal = [...][]kind{
	RoleGateway: {
		of[GatewayInit](slices.Concat(tunnelAddresses, flowLogs, granted,
			[]string{"config.ipv4_masquerade_enabled", "config.ipv6_masquerade_enabled"})...),
		of[CreateAuthorization]("ref", "resource", "client.id", "client.public_key", "client.preshared_key",
			"client.ipv4", "client.ipv6", "client_ice_credentials.username", "client_ice_credentials.password",
			"gateway_ice_credentials.username", "gateway_ice_credentials.password", "flow_logs_ingest_token").inV1("authorize_flow"),
		of[RejectAccess]("client_id", "resource_id"),
		of[ResourceUpdated]("id", "type"),
		of[CandidatesFromClient]("client_id", "candidates"),
		of[InvalidFromClient]("client_id", "candidates"),
		of[RelaysPresence]("disconnected_ids", "connected"),
		of[Disconnect]("reason"),
	},
	RoleClient: {
		of[ClientInit](slices.Concat(tunnelAddresses, flowLogs, granted)...),
		of[ConfigChanged](tunnelAddresses...),
		of[ResourceChanged]("id", "type"),
		of[ResourceDeleted](),
		of[RelaysPresence]("disconnected_ids", "connected"),
		of[CandidatesFromGateway]("gateway_id", "candidates").alias("gateway_ice_candidates"),
		of[InvalidFromGateway]("gateway_id", "candidates").alias("invalidate_gateway_ice_candidates"),
		of[AuthorizationCreated]("resource_id", "gateway_id", "gateway_public_key", "gateway_ipv4", "gateway_ipv6",
			"preshared_key", "client_ice_credentials.username", "client_ice_credentials.password",
			"gateway_ice_credentials.username", "gateway_ice_credentials.password", "flow_logs_ingest_token").inV1("flow_created"),
		of[AuthorizationFailed]("resource_id", "reason").inV1("flow_creation_failed"),
		of[DeviceAccessAuthorized]("client_id", "client_name?", "client_public_key", "client_ipv4", "client_ipv6",
			"preshared_key", "local_ice_credentials.username", "local_ice_credentials.password",
			"remote_ice_credentials.username", "remote_ice_credentials.password", "ice_role", "flow_logs_ingest_token"),
		of[DeviceAccessDenied]("reason"),
		of[CandidatesFromPeer]("client_id", "candidates"),
		of[InvalidFromPeer]("client_id", "candidates"),
		of[PeerCandidateError]("client_id", "reason"),
		of[RejectAccess]("client_id", "resource_id"),
		of[FiltersUpdated]("id", "filters"),
		of[PoolDomainResolved]("resource_id", "domain", "ipv4", "ipv6"),
		of[PoolDomainFailed]("resource_id", "domain", "reason"),
		of[Disconnect]("reason"),
	},
	RoleRelay: {
		of[RelayInit](),
	},
}

// fromDevice are the events that devices send, by role.
var fromDevice = [...][]kind{
	RoleGateway: {
		of[Capabilities](),
		of[AuthorizationApplied]("ref").inV1("flow_authorized"),
		of[BroadcastCandidates]("client_ids", "candidates"),
		of[BroadcastInvalid]("client_ids", "candidates"),
		of[NoRelays](),
	},
	RoleClient: {
		of[Capabilities](),
		of[RequestAuthorization]("resource_id").inV1("create_flow"),
		of[CandidatesToGateway]("gateway_id", "candidates"),
		of[InvalidToGateway]("gateway_id", "candidates"),
		of[CandidatesToPeer]("client_id", "candidates"),
		of[InvalidToPeer]("client_id", "candidates"),
		of[ResolvePoolDomain]("resource_id", "domain"),
		of[BroadcastToGateways]("gateway_ids", "candidates"),
		of[InvalidBroadcastToGateways]("gateway_ids", "candidates"),
		of[RequestDeviceAccess](),
		of[NoRelays](),
	},
	RoleRelay: {},
}
