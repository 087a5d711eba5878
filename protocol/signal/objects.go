package signal

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
)

// Interface is a device's tunnel interface. A gateway gets the two addresses only.
type Interface struct {
	IPv4         Addr4          `json:"ipv4"`
	IPv6         Addr6          `json:"ipv6"`
	SearchDomain Text           `json:"search_domain,omitzero"`
	Do53         []Do53Server   `json:"upstream_do53,omitzero"`
	DoH          []DoHServer    `json:"upstream_doh,omitzero"`
	Legacy       []LegacyServer `json:"upstream_dns,omitzero"`
}

// Resolvers returns the plain DNS servers: those of Do53, or else those of the older list.
// Entries without a usable address are left out.
func (i Interface) Resolvers() []netip.AddrPort {
	const dns = 53
	var found []netip.AddrPort
	for _, s := range i.Do53 {
		if !s.IP.IsValid() {
			continue
		}
		found = append(found, netip.AddrPortFrom(s.IP, dns))
	}
	if len(i.Do53) > 0 {
		return found
	}
	for _, s := range i.Legacy {
		if a, err := netip.ParseAddrPort(s.Address); err == nil && s.Protocol == "ip_port" {
			found = append(found, a)
		}
	}
	return found
}

// Do53Server is a DNS server on port 53.
type Do53Server struct {
	IP netip.Addr `json:"ip"`
}

// DoHServer is a DNS server over https, without a query in its URL.
type DoHServer struct {
	URL string `json:"url"`
}

// LegacyServer is a Do53Server as older clients read it: protocol "ip_port" and an address with
// port.
type LegacyServer struct {
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

// Relay is one address of a TURN server with this device's credentials. The two addresses of a
// dual-stack relay are neighbours in their list, IPv4 first. The realm is always "firezone".
type Relay struct {
	ID       ID
	Addr     netip.AddrPort
	Username string
	Password Secret
	// ExpiresAt is the second of Unix time after which the credentials fail.
	ExpiresAt int64
}

type relayText struct {
	ID        ID             `json:"id"`
	Type      string         `json:"type"`
	Addr      netip.AddrPort `json:"addr"`
	Username  string         `json:"username"`
	Password  Secret         `json:"password"`
	ExpiresAt int64          `json:"expires_at"`
}

// MarshalJSON writes all six fields.
func (r Relay) MarshalJSON() ([]byte, error) {
	if !r.Addr.IsValid() || r.Username == "" {
		return nil, errors.New("relay without address or username")
	}
	return marshal(relayText{r.ID, "turn", r.Addr, r.Username, r.Password, r.ExpiresAt})
}

// LogValue shows the relay without its credentials.
func (r Relay) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", r.ID.String()), slog.String("addr", r.Addr.String()))
}

// Relays is a list of relays. Entries of types other than turn are left out when it is read.
type Relays []Relay

// MarshalJSON writes [] for nil.
func (l Relays) MarshalJSON() ([]byte, error) { return List[Relay](l).MarshalJSON() }

// UnmarshalJSON reads the TURN entries.
func (l *Relays) UnmarshalJSON(b []byte) error {
	var entries []json.RawMessage
	if err := json.Unmarshal(b, &entries); err != nil {
		return errors.New("relays are not a list")
	}
	*l = make(Relays, 0, len(entries))
	for i, e := range entries {
		var kind struct {
			Type string `json:"type"`
		}
		if json.Unmarshal(e, &kind) != nil || kind.Type != "turn" {
			continue
		}
		if missing := required(e, "id", "addr", "username", "password", "expires_at"); missing != "" {
			return fmt.Errorf("relays[%d].%s is missing", i, missing)
		}
		var r relayText
		if err := json.Unmarshal(e, &r); err != nil {
			return fmt.Errorf("relays[%d]: %w", i, plain(err))
		}
		*l = append(*l, Relay{r.ID, r.Addr, r.Username, r.Password, r.ExpiresAt})
	}
	return nil
}

// ICECredentials are one side's username fragment and password.
type ICECredentials struct {
	Username string `json:"username"`
	Password Secret `json:"password"`
}

// LogValue shows the username only.
func (c ICECredentials) LogValue() slog.Value { return slog.StringValue(c.Username) }

// maxCandidate bounds one candidate: an IPv6 server-reflexive one takes about 140 bytes.
const maxCandidate = 512

// Candidate is an ICE candidate in SDP form, "candidate:" and at least four fields, of which the
// fourth is the priority.
type Candidate string

// Priority returns the priority, and whether the candidate has the form of one.
func (c Candidate) Priority() (priority uint32, ok bool) {
	rest, ok := strings.CutPrefix(string(c), "candidate:")
	fields := strings.SplitN(rest, " ", 5)
	if !ok || len(c) > maxCandidate || len(fields) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(fields[3], 10, 32)
	return uint32(n), err == nil
}

// Candidates is a list of candidates. Malformed ones are left out when it is read.
type Candidates []Candidate

// MarshalJSON writes [] for nil.
func (l Candidates) MarshalJSON() ([]byte, error) { return List[Candidate](l).MarshalJSON() }

// UnmarshalJSON reads the well-formed entries.
func (l *Candidates) UnmarshalJSON(b []byte) error {
	var entries []json.RawMessage
	if json.Unmarshal(b, &entries) != nil {
		return errors.New("candidates are not a list")
	}
	*l = make(Candidates, 0, len(entries))
	for _, e := range entries {
		var c Candidate
		if json.Unmarshal(e, &c) != nil {
			continue
		}
		if _, ok := c.Priority(); ok {
			*l = append(*l, c)
		}
	}
	return nil
}

// FlowLogs says where and how often flow records are uploaded.
type FlowLogs struct {
	APIURL string `json:"api_url"`
	// UploadIntervalSecs of zero turns uploads off.
	UploadIntervalSecs uint64 `json:"upload_interval_secs"`
	// UploadBatchSize is how many records go into one upload. Zero stands for 1000.
	UploadBatchSize uint64 `json:"upload_batch_size"`
}

// Authorization is a permission that the portal still stands by.
type Authorization struct {
	ClientID   ID     `json:"client_id"`
	ResourceID ID     `json:"resource_id"`
	ExpiresAt  Expiry `json:"expires_at"`
}

// Site is where a resource's gateways are.
type Site struct {
	ID   ID     `json:"id"`
	Name string `json:"name"`
}

// Subject tells who asked for an authorization. Present devices ignore it.
type Subject struct {
	ActorID        Text     `json:"actor_id"`
	ActorName      Text     `json:"actor_name"`
	ActorEmail     Text     `json:"actor_email"`
	ActorType      Text     `json:"actor_type"`
	AuthProviderID Text     `json:"auth_provider_id"`
	IP             Text     `json:"ip"`
	IPRegion       Text     `json:"ip_region"`
	IPCity         Text     `json:"ip_city"`
	IPLat          *float64 `json:"ip_lat"`
	IPLon          *float64 `json:"ip_lon"`
	UserAgent      Text     `json:"user_agent"`
}
