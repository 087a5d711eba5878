package config

import (
	"net/netip"
	"time"
)

// File is a valid policy file.
type File struct {
	Relays   []Relay
	Accounts []Account
}

// Relay is what is known about a relay beyond what it says itself when it connects.
type Relay struct {
	// Name is the name the relay connects with.
	Name string
	// Latitude and Longitude, in degrees, say where it is, for the choice of near relays.
	Latitude, Longitude float64
}

// Account is one organisation with all that belongs to it.
type Account struct {
	ID, Slug, Name string
	// SessionLifetime is how long a person stays signed in.
	SessionLifetime time.Duration
	DNS             DNS
	Providers       []Provider
	Sites           []Site
	Resources       []Resource
	Groups          []Group
	ServiceAccounts []ServiceAccount
	Policies        []Policy
}

// DNS is what clients are told about their resolvers.
type DNS struct {
	// Upstream is "system", "custom" or "secure".
	Upstream string
	// Servers are the resolvers of "custom".
	Servers []netip.Addr
	// Provider is the one of "secure".
	Provider string
	// SearchDomain is empty for none.
	SearchDomain string
}

// DoH returns the URL of the account's secure resolver; empty unless Upstream is "secure".
func (d *DNS) DoH() string {
	if d.Upstream != "secure" {
		return ""
	}
	return dohProviders[d.Provider]
}

// dohProviders are the URLs that clients are told.
var dohProviders = map[string]string{
	"google":     "https://dns.google/dns-query",
	"quad9":      "https://dns.quad9.net/dns-query",
	"cloudflare": "https://cloudflare-dns.com/dns-query",
	"opendns":    "https://doh.opendns.com/dns-query",
}

// Provider is an OpenID Connect provider that people sign in with.
type Provider struct {
	ID, Name         string
	Issuer, ClientID string
	// SecretFile is the path of the file with the client secret; empty for a public client.
	SecretFile string
	// Scopes are asked for beside openid, email and profile.
	Scopes   []string
	Disabled bool
}

// Site is a place with gateways.
type Site struct{ ID, Name string }

// ResourceType says what a resource is.
type ResourceType string

// The types of resources.
const (
	DNSResource       ResourceType = "dns"
	CIDRResource      ResourceType = "cidr"
	IPResource        ResourceType = "ip"
	InternetResource  ResourceType = "internet"
	StaticDevicePool  ResourceType = "static_device_pool"
	DynamicDevicePool ResourceType = "dynamic_device_pool"
)

// pool says whether the resource is reached on clients, without a gateway.
func (t ResourceType) pool() bool { return t == StaticDevicePool || t == DynamicDevicePool }

// Resource is something that policies give access to.
type Resource struct {
	ID, Name string
	Type     ResourceType
	// Address is a DNS pattern, a prefix or an address, in its canonical form; empty for the
	// Internet and for static pools.
	Address     string
	Description string
	// IPStack is "dual", "ipv4_only" or "ipv6_only"; empty unless the type is dns.
	IPStack string
	// Site is the id of the site whose gateways reach it; empty for pools.
	Site string
	// Filters say what is let through; none lets everything through.
	Filters []Filter
	// Devices are the ids of the members of a static pool.
	Devices []string
}

// Filter lets a protocol through, for TCP and UDP with the ports First to Last.
type Filter struct {
	Protocol    string
	First, Last uint16
}

// Group is a set of actors.
type Group struct {
	ID, Name string
	// Everyone is the group of all people, which every account has; it has no members of its own.
	Everyone bool
	// Emails are those of people, in lower case. ServiceAccounts are ids.
	Emails, ServiceAccounts []string
	// Claims make members of those whose provider says so.
	Claims []Claim
}

// Claim is fulfilled by people who signed in with a provider that gives the claim this value, or a
// list with this value.
type Claim struct{ Provider, Claim, Value string }

// ServiceAccount is an actor that is not a person.
type ServiceAccount struct {
	ID, Name string
	Disabled bool
}

// Policy gives a group access to a resource while its conditions hold.
type Policy struct {
	ID, Name string
	// Group and Resource are ids.
	Group, Resource string
	Disabled        bool
	// FlowLogs has devices upload what flows under this policy.
	FlowLogs   bool
	Conditions Conditions
}

// Conditions must all hold; those that are nil or false always do.
type Conditions struct {
	RemoteIP       *RemoteIP
	Region         *OneOf
	Provider       *OneOf
	Times          []Window
	ClientVerified bool
}

// RemoteIP holds if the client's address is in one of the prefixes or, with Not, in none.
type RemoteIP struct {
	Not      bool
	Prefixes []netip.Prefix
}

// OneOf holds if a value is among these or, with Not, is not.
type OneOf struct {
	Not    bool
	Values []string
}

// Window is a set of times of the week, on the clocks of a time zone.
type Window struct {
	Days   []time.Weekday
	Ranges []DayRange
	Zone   string
	// location is that of Zone.
	location *time.Location
}

// DayRange is a part of a day, in seconds after midnight on the clock: First up to but without End.
type DayRange struct{ First, End int }

// everyone is the name of the group of all people.
const everyone = "Everyone"

// day is the end of the last range of a day.
const day = 24 * 60 * 60
