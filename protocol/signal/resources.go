package signal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// Protocol is what a Filter lets through.
type Protocol string

// The protocols of filters.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	ICMP Protocol = "icmp"
)

// Filter lets one protocol through to a resource, and for TCP and UDP a range of destination
// ports, both ends included. No filter at all lets everything through.
type Filter struct {
	Protocol  Protocol
	PortStart uint16
	PortEnd   uint16
}

type portFilter struct {
	Protocol Protocol `json:"protocol"`
	Start    *uint16  `json:"port_range_start"`
	End      *uint16  `json:"port_range_end"`
}

// MarshalJSON writes both ports for TCP and UDP, none for ICMP.
func (f Filter) MarshalJSON() ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.Protocol == ICMP {
		return []byte(`{"protocol":"icmp"}`), nil
	}
	return marshal(portFilter{f.Protocol, &f.PortStart, &f.PortEnd})
}

// UnmarshalJSON fills in absent ports: 0 and 65535.
func (f *Filter) UnmarshalJSON(b []byte) error {
	var p portFilter
	if json.Unmarshal(b, &p) != nil {
		return errors.New("filter is malformed")
	}
	*f = Filter{Protocol: p.Protocol}
	if p.Protocol != ICMP {
		f.PortEnd = 65535
		if p.Start != nil {
			f.PortStart = *p.Start
		}
		if p.End != nil {
			f.PortEnd = *p.End
		}
	}
	return f.check()
}

func (f Filter) check() error {
	switch {
	case f.Protocol != TCP && f.Protocol != UDP && f.Protocol != ICMP:
		return errors.New("filter for an unknown protocol")
	case f.PortStart > f.PortEnd:
		return fmt.Errorf("filter for ports %d to %d", f.PortStart, f.PortEnd)
	}
	return nil
}

// ResourceType tells how a resource is addressed.
type ResourceType string

// The types of resources.
const (
	DNS         ResourceType = "dns"
	CIDR        ResourceType = "cidr"
	Internet    ResourceType = "internet"
	StaticPool  ResourceType = "static_device_pool"
	DynamicPool ResourceType = "dynamic_device_pool"
)

// GatewayResource is a resource as a gateway sees it: dns, cidr or internet.
type GatewayResource struct {
	ID   ID
	Type ResourceType
	// Name, Address and Filters are not sent for the Internet. Address is a name pattern or a
	// network.
	Name    string
	Address string
	Filters List[Filter]
}

type gatewayResourceText struct {
	ID      ID           `json:"id"`
	Type    ResourceType `json:"type"`
	Name    string       `json:"name"`
	Address string       `json:"address"`
	Filters List[Filter] `json:"filters"`
}

// Network returns the address of a cidr resource.
func (r GatewayResource) Network() (netip.Prefix, error) {
	if r.Type != CIDR {
		return netip.Prefix{}, fmt.Errorf("a resource of type %s has no network", clip(string(r.Type)))
	}
	return network(r.Address)
}

// MarshalJSON writes the fields of the resource's type.
func (r GatewayResource) MarshalJSON() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Type == Internet {
		return marshal(struct {
			ID   ID           `json:"id"`
			Type ResourceType `json:"type"`
		}{r.ID, r.Type})
	}
	return marshal(gatewayResourceText(r))
}

// UnmarshalJSON reads a resource whose mandatory fields are all there.
func (r *GatewayResource) UnmarshalJSON(b []byte) error {
	var kind struct {
		Type ResourceType `json:"type"`
	}
	if json.Unmarshal(b, &kind) != nil {
		return errors.New("resource is malformed")
	}
	need := []string{"id", "type"}
	if kind.Type != Internet {
		need = append(need, "address", "name?", "filters")
	}
	if missing := required(b, need...); missing != "" {
		return &FieldError{Field: "resource." + missing}
	}
	var t gatewayResourceText
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("resource: %w", plain(err))
	}
	*r = GatewayResource(t)
	return r.check()
}

func (r GatewayResource) check() error {
	switch r.Type {
	case Internet:
		return nil
	case DNS:
		return nonEmpty("address", r.Address)
	case CIDR:
		_, err := network(r.Address)
		return err
	}
	return fmt.Errorf("resource of unknown type %q", clip(string(r.Type)))
}

// network reads a network address without host bits; a bare address is the network of itself.
func network(s string) (netip.Prefix, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, errors.New("address is not a network")
	}
	if p != p.Masked() {
		return p, errors.New("address has bits set after its prefix")
	}
	return p, nil
}

func nonEmpty(field, s string) error {
	if s == "" {
		return &FieldError{Field: field}
	}
	return nil
}
