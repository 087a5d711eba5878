package portal

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/protocol/signal"
)

// version is a component's version. The zero value is unknown.
type version struct {
	major, minor, patch int
	known               bool
	text                string
}

// parseVersion reads major.minor.patch, of which what follows a hyphen or a plus does not count.
func parseVersion(s string) version {
	core, _, _ := strings.Cut(s, "+")
	core, _, _ = strings.Cut(core, "-")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return version{}
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return version{}
		}
		n[i] = int(v)
	}
	return version{n[0], n[1], n[2], true, s}
}

// before reports whether v is older than major.minor.patch.
func (v version) before(major, minor, patch int) bool {
	return cmp.Or(cmp.Compare(v.major, major), cmp.Compare(v.minor, minor), cmp.Compare(v.patch, patch)) < 0
}

// pairs reports whether a client of version v can use a gateway for a resource: from one minor
// version below its own to one above. A client of unknown version can use any.
func (v version) pairs(gateway version, t config.ResourceType) bool {
	switch {
	case !v.known:
		return true
	case !gateway.known:
		return false
	case t == config.InternetResource && gateway.before(1, 3, 0):
		return false
	}
	return !gateway.before(v.major, max(v.minor-1, 0), 0) && gateway.before(v.major, v.minor+2, 0)
}

// poolSince are the first versions of clients that know device pools.
var poolSince = map[string][3]int{
	"headless-client": {1, 5, 9}, "gui-client": {1, 5, 13}, "apple-client": {1, 5, 16}, "android-client": {1, 5, 11},
}

// knows reports whether a client understands resources of a type.
func knows(a signal.Agent, v version, t config.ResourceType) bool {
	switch {
	case !v.known:
		return true
	case isPool(t):
		since, listed := poolSince[a.Component]
		return listed && !v.before(since[0], since[1], since[2])
	case t == config.InternetResource:
		return !v.before(1, 3, 0)
	}
	return true
}

// sitesSince are the first versions of clients that are sure to know sites by that name. Before, and in
// clients that are not listed, they are called gateway groups, which all clients understand.
var sitesSince = map[string][3]int{
	"headless-client": {1, 5, 6}, "gui-client": {1, 5, 13}, "apple-client": {1, 5, 16}, "android-client": {1, 5, 11},
}

// legacyNames reports whether a client may know no other names than those of before.
func legacyNames(a signal.Agent, v version) bool {
	since, listed := sitesSince[a.Component]
	return v.known && (!listed || v.before(since[0], since[1], since[2]))
}

// Refusal returns why a device must not join, or nothing: the exchange of devices before 1.4 and the
// patterns of clients before 1.2 are none of this portal's. What does not tell its version may join.
func (c *Connect) Refusal() string {
	if v := parseVersion(c.Agent.Version); c.Role != signal.RoleRelay && v.known && v.before(1, 4, 0) {
		return signal.ReasonInvalidVersion
	}
	return ""
}

func isPool(t config.ResourceType) bool {
	return t == config.StaticDevicePool || t == config.DynamicDevicePool
}
