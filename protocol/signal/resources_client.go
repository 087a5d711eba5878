package signal

import (
	"encoding/json"
	"errors"
	"fmt"
)

// IPStack says which families a DNS resource is offered in. Empty stands for DualStack.
type IPStack string

// The values of IPStack.
const (
	DualStack IPStack = "dual"
	IPv4Only  IPStack = "ipv4_only"
	IPv6Only  IPStack = "ipv6_only"
)

// ClientResource is a resource as a client sees it. Which fields count depends on the type; see
// MarshalJSON.
type ClientResource struct {
	ID                 ID
	Type               ResourceType
	Name               string
	Address            string
	AddressDescription string
	Sites              List[Site]
	IPStack            IPStack
	Filters            List[Filter]
	CanBeDisabled      bool
	Devices            List[PoolDevice]
	// LegacyNames writes the sites as clients before headless 1.5.6 read them. It is never on the wire.
	LegacyNames bool
	// texts are what Prepared has written.
	texts *resourceTexts
}

// PoolDevice is a member of a static device pool.
type PoolDevice struct {
	ClientID ID   `json:"client_id"`
	IPv4     Host `json:"ipv4"`
	IPv6     Host `json:"ipv6"`
}

// clientResourceText is everything that may be there.
type clientResourceText struct {
	ID                 ID                `json:"id"`
	Type               ResourceType      `json:"type"`
	Name               *string           `json:"name,omitempty"`
	Address            *string           `json:"address,omitempty"`
	AddressDescription *Text             `json:"address_description,omitempty"`
	Sites              *List[Site]       `json:"sites,omitempty"`
	GatewayGroups      *List[Site]       `json:"gateway_groups,omitempty"`
	IPStack            IPStack           `json:"ip_stack,omitempty"`
	CanBeDisabled      bool              `json:"can_be_disabled,omitempty"`
	Devices            *List[PoolDevice] `json:"devices,omitempty"`
	Filters            *List[Filter]     `json:"filters,omitempty"`
}

// MarshalJSON writes exactly the fields of the resource's type.
func (r ClientResource) MarshalJSON() ([]byte, error) {
	if r.texts != nil {
		return r.texts.of(r.LegacyNames), nil
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	description := Text(r.AddressDescription)
	t := clientResourceText{ID: r.ID, Type: r.Type, Name: &r.Name, Filters: &r.Filters}
	switch r.Type {
	case DNS:
		t.Address, t.AddressDescription, t.Sites, t.IPStack = &r.Address, &description, &r.Sites, r.IPStack
		if t.IPStack == "" {
			t.IPStack = DualStack
		}
	case CIDR:
		t.Address, t.AddressDescription, t.Sites = &r.Address, &description, &r.Sites
	case Internet:
		t.Sites, t.CanBeDisabled, t.Filters = &r.Sites, r.CanBeDisabled, nil
		if r.Name == "" {
			t.Name = nil
		}
	case StaticPool:
		t.Devices = &r.Devices
	case DynamicPool:
		t.Address = &r.Address
	}
	if r.LegacyNames {
		t.Sites, t.GatewayGroups = nil, t.Sites
	}
	return marshal(t)
}

// UnmarshalJSON reads a resource whose mandatory fields are all there.
func (r *ClientResource) UnmarshalJSON(b []byte) error {
	var t clientResourceText
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("resource: %w", plain(err))
	}
	if t.Sites == nil {
		t.Sites = t.GatewayGroups
	}
	if missing := t.missing(); missing != "" {
		return &FieldError{Field: "resource." + missing}
	}
	*r = ClientResource{
		ID: t.ID, Type: t.Type, Name: value(t.Name), Address: value(t.Address),
		AddressDescription: string(value(t.AddressDescription)), Sites: value(t.Sites),
		IPStack: t.IPStack, Filters: value(t.Filters), CanBeDisabled: t.CanBeDisabled, Devices: value(t.Devices),
	}
	if r.Type == DNS && r.IPStack == "" {
		r.IPStack = DualStack
	}
	return r.check()
}

// missing names the first mandatory field of t's type that is absent.
func (t clientResourceText) missing() string {
	pool := t.Type == StaticPool || t.Type == DynamicPool
	switch {
	case t.ID.IsZero():
		return "id"
	case t.Name == nil && t.Type != Internet:
		return "name"
	case t.Address == nil && (t.Type == DNS || t.Type == CIDR || t.Type == DynamicPool):
		return "address"
	case t.Sites == nil && !pool:
		return "sites"
	case t.Devices == nil && t.Type == StaticPool:
		return "devices"
	}
	return ""
}

func (r ClientResource) check() error {
	for _, s := range r.Sites {
		if s.ID.IsZero() {
			return &FieldError{Field: "resource.sites.id"}
		}
	}
	if err := checkDevices(r.Devices); err != nil {
		return err
	}
	switch r.Type {
	case DNS:
		switch r.IPStack {
		case "", DualStack, IPv4Only, IPv6Only:
		default:
			return errors.New("unknown ip_stack")
		}
		return nonEmpty("resource.address", r.Address)
	case CIDR:
		_, err := network(r.Address)
		return err
	case DynamicPool:
		return nonEmpty("resource.address", r.Address)
	case Internet, StaticPool:
		return nil
	}
	return fmt.Errorf("resource of unknown type %q", clip(string(r.Type)))
}

func checkDevices(devices []PoolDevice) error {
	for _, d := range devices {
		if d.ClientID.IsZero() || !d.IPv4.Is4() || !d.IPv6.Is6() {
			return errors.New("device of a pool without id or addresses")
		}
	}
	return nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Resources is a client's list of resources. Malformed ones, and those of unknown types, are
// left out when it is read.
type Resources []ClientResource

// MarshalJSON writes [] for nil.
func (l Resources) MarshalJSON() ([]byte, error) { return List[ClientResource](l).MarshalJSON() }

// UnmarshalJSON reads the usable entries.
func (l *Resources) UnmarshalJSON(b []byte) error {
	var entries []json.RawMessage
	if json.Unmarshal(b, &entries) != nil {
		return errors.New("resources are not a list")
	}
	*l = make(Resources, 0, len(entries))
	for _, e := range entries {
		var r ClientResource
		if json.Unmarshal(e, &r) == nil {
			*l = append(*l, r)
		}
	}
	return nil
}

// PoolResource is the device pool through which another client got access to this one. Only ID
// and Filters matter to the receiver.
type PoolResource struct {
	ID      ID               `json:"id"`
	Type    ResourceType     `json:"type"`
	Name    string           `json:"name"`
	Devices List[PoolDevice] `json:"devices"`
	Filters List[Filter]     `json:"filters"`
}
