package netnstest

import (
	"encoding/json"
	"time"
)

// policy is what a lab's gateway lets its client reach, in the form of the policy file.
type policy struct {
	Resources []resource
	Names     []name
	NAT64     *nat64
}

type resource struct {
	ID      string   `json:"id"`
	Type    string   `json:"type"`
	Address string   `json:"address,omitempty"`
	Filters []filter `json:"filters,omitzero"` // nil for none at all
	Expires int64    `json:"expires_at,omitempty"`
}

type filter struct {
	Protocol string `json:"protocol"`
	First    uint16 `json:"port_range_start,omitempty"`
	Last     uint16 `json:"port_range_end,omitempty"`
}

type name struct {
	Domain    string   `json:"domain"`
	Resources []string `json:"resources"`
	Proxies   []string `json:"proxy_ips"`
	Real      []string `json:"resolved_ips"`
}

type nat64 struct {
	Prefix    string `json:"prefix,omitempty"`
	Stateless bool   `json:"stateless,omitempty"`
}

// everything is an empty list of filters, which permits all.
var everything = []filter{}

// Proxy addresses: each name has one of either family.
const (
	proxyA4, proxyA6 = "100.96.0.1", "fd00:2021:1111:8000::1"
	proxyB4, proxyB6 = "100.96.0.2", "fd00:2021:1111:8000::2"
)

// named is a policy with the names a.example.com for one address and b.example.com for another.
func named(a, b string, filters []filter) policy {
	return policy{
		Resources: []resource{{ID: "example", Type: "dns", Address: "*.example.com", Filters: filters}},
		Names: []name{
			{"a.example.com", []string{"example"}, []string{proxyA4, proxyA6}, []string{a}},
			{"b.example.com", []string{"example"}, []string{proxyB4, proxyB6}, []string{b}},
		},
	}
}

// cidr is a resource of networks.
func cidr(id, prefix string, filters []filter) resource {
	return resource{ID: id, Type: "cidr", Address: prefix, Filters: filters}
}

// expiring is p with resources that end at a time, to the second.
func (p policy) expiring(at time.Time) policy {
	resources := append([]resource(nil), p.Resources...)
	for i := range resources {
		resources[i].Expires = at.Unix()
	}
	p.Resources = resources
	return p
}

// file returns the file that says p of the client with a key, and nothing of a second one.
func (p policy) file(key string) []byte {
	type peer struct {
		Key       string     `json:"public_key"`
		IPv4      string     `json:"ipv4"`
		IPv6      string     `json:"ipv6"`
		Resources []resource `json:"resources"`
		Names     []name     `json:"names"`
	}
	file := struct {
		Gateway map[string]string `json:"gateway"`
		NAT64   *nat64            `json:"nat64,omitempty"`
		Clients []peer            `json:"clients"`
	}{
		Gateway: map[string]string{"ipv4": gateway4, "ipv6": gateway6},
		NAT64:   p.NAT64,
		Clients: []peer{
			{key, client4, client6, p.Resources, p.Names},
			{encode(make([]byte, 32)), other4, other6, []resource{}, []name{}},
		},
	}
	if p.Names == nil {
		file.Clients[0].Names = []name{}
	}
	b, err := json.MarshalIndent(file, "", "\t")
	if err != nil {
		panic(err)
	}
	return b
}
