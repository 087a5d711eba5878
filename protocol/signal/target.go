package signal

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Target is where a device connects to.
type Target struct {
	// Host is a name or an address without brackets; Port is never zero.
	Host string
	Port uint16
	// HostHeader is the host without port, an IPv6 literal in brackets.
	HostHeader string
	TLS        bool
	// Path is the path of the upgrade, escaped. It has no query.
	Path string
}

// defaultPort is the port of a portal, whatever the scheme.
const defaultPort = 443

// endpoints are the paths by role and dialect. A relay's has no dialect.
var endpoints = []struct {
	role    Role
	dialect Dialect
	path    string
}{
	{RoleGateway, V2, "/gateway/v2/websocket"},
	{RoleGateway, V1, "/gateway/websocket"},
	{RoleClient, V2, "/client/v2/websocket"},
	{RoleClient, V1, "/client/websocket"},
	{RoleRelay, V2, "/relay/websocket"},
}

// ParseTarget returns where a device of this role connects to, given the portal's API URL. A
// path is a prefix; a query is dropped.
func ParseTarget(api string, r Role, d Dialect) (Target, error) {
	u, err := url.Parse(api)
	if err != nil {
		return Target{}, errors.New("portal URL is malformed")
	}
	t := Target{Host: u.Hostname(), Port: defaultPort, Path: strings.TrimSuffix(u.EscapedPath(), "/") + Endpoint(r, d)}
	switch strings.ToLower(u.Scheme) {
	case "ws", "http":
	case "wss", "https":
		t.TLS = true
	default:
		return Target{}, fmt.Errorf("portal URL has the scheme %q instead of wss or ws", clip(u.Scheme))
	}
	if t.Host == "" || u.User != nil {
		return Target{}, errors.New("portal URL has no host, or a user")
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return Target{}, errors.New("portal URL has an invalid port")
		}
		t.Port = uint16(n)
	}
	t.HostHeader = t.Host
	if a, err := netip.ParseAddr(t.Host); err == nil && a.Is6() {
		t.HostHeader = "[" + t.Host + "]"
	}
	return t, nil
}

// Endpoint returns the path of a role's socket.
func Endpoint(r Role, d Dialect) string {
	if r == RoleRelay {
		d = V2
	}
	for _, e := range endpoints {
		if e.role == r && e.dialect == d {
			return e.path
		}
	}
	return ""
}

// ParseEndpoint returns whose socket is at path, which is one of Endpoint's.
func ParseEndpoint(path string) (r Role, d Dialect, ok bool) {
	for _, e := range endpoints {
		if e.path == path {
			return e.role, e.dialect, true
		}
	}
	return 0, 0, false
}

// URL returns the URL of the upgrade with its query. It holds no secret.
func (t Target) URL(query string) string {
	scheme := "ws"
	if t.TLS {
		scheme = "wss"
	}
	s := fmt.Sprintf("%s://%s:%d%s", scheme, t.HostHeader, t.Port, t.Path)
	if query != "" {
		s += "?" + query
	}
	return s
}

// Agent is what a User-Agent says.
type Agent struct {
	// OS and OSVersion are of the distribution: "Ubuntu", "24.4.0".
	OS, OSVersion string
	// Component is "gateway", "headless-client", "relay" or a client of another kind. With
	// Version it decides which peers the portal pairs.
	Component, Version string
	// Arch and Kernel are optional.
	Arch, Kernel string
}

// components are the words that the portal knows.
var components = []string{
	"gateway", "headless-client", "relay", "gui-client", "apple-client", "android-client", "connlib",
}

// String returns the header's value, in ASCII.
func (a Agent) String() string {
	s := fmt.Sprintf("%s/%s %s/%s", a.OS, a.OSVersion, a.Component, a.Version)
	var more []string
	for _, m := range []string{a.Arch, a.Kernel} {
		if m != "" {
			more = append(more, m)
		}
	}
	if len(more) > 0 {
		s += " (" + strings.Join(more, "; ") + ")"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// ParseAgent finds component and version in a User-Agent, and the system in front of them. It
// reports false if no known component is there.
func ParseAgent(header string) (a Agent, ok bool) {
	words := strings.Split(clip(header), " ")
	for i, w := range words {
		name, version, _ := strings.Cut(w, "/")
		for _, c := range components {
			if name == c && version != "" {
				a.OS, a.OSVersion, _ = strings.Cut(strings.Join(words[:i], " "), "/")
				a.Component, a.Version = name, version
				return a, true
			}
		}
	}
	return Agent{}, false
}
