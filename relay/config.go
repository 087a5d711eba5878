package relay

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config says what a relay is. Make it with the fields that have no default, and give it to
// NewServer.
type Config struct {
	// Public4 and Public6 are the addresses that clients are told and peers send to. At least
	// one is needed; they are also the families in which ports are bound.
	Public4, Public6 netip.Addr
	// Bind4 and Bind6 are the addresses that the relayed ports are bound to; the zero Addr is all
	// of the family. Listen takes them from its Settings.
	Bind4, Bind6 netip.Addr
	// LowestPort and HighestPort are the range of relayed ports; 0 means 49152 and 65535.
	LowestPort, HighestPort uint16
	// Credentials say who may allocate.
	Credentials Credentials
	// ManyPerUser lets a user hold several allocations. Otherwise a new one replaces the old,
	// which is how Firezone's clients move to another network.
	ManyPerUser bool
	// Peers says which peer addresses are refused.
	Peers PeerRules
	// Limits bound what strangers and clients can use up; see DefaultLimits.
	Limits Limits
	// Software is what answers to requests with a user name and a signature say in SOFTWARE; ""
	// means "firelane".
	// Short is good: it is part of refusals.
	Software string
	// Seed is the source of all chance: ports, nonces, hash seeds. From a good generator.
	Seed [32]byte
}

// The range of ports that RFC 8656 section 7.2 recommends.
const (
	defaultLowestPort  = 49152
	defaultHighestPort = 65535
)

// maxSoftware keeps answers small: with a name of this length a request of the least size that is
// refused with a signature is amplified as little as one without, and Firezone's relay has 28.
const maxSoftware = 32

// complete returns c with defaults filled in, or says what is wrong with it.
func (c Config) complete() (Config, error) {
	if !c.Public4.IsValid() && !c.Public6.IsValid() {
		return c, errors.New("relay: no public address")
	}
	if c.Public4.IsValid() && !c.Public4.Is4() {
		return c, fmt.Errorf("relay: public IPv4 address is %v", c.Public4)
	}
	if c.Public6.IsValid() && (!c.Public6.Is6() || c.Public6.Is4In6() || c.Public6.Zone() != "") {
		return c, fmt.Errorf("relay: public IPv6 address is %v", c.Public6)
	}
	if c.LowestPort == 0 {
		c.LowestPort = defaultLowestPort
	}
	if c.HighestPort == 0 {
		c.HighestPort = defaultHighestPort
	}
	if c.LowestPort > c.HighestPort {
		return c, fmt.Errorf("relay: no ports from %d to %d", c.LowestPort, c.HighestPort)
	}
	if c.Credentials.realm == "" {
		return c, errors.New("relay: no credentials")
	}
	if c.Software == "" {
		c.Software = "firelane"
	}
	if len(c.Software) > maxSoftware {
		return c, fmt.Errorf("relay: software name of %d bytes, at most %d allowed", len(c.Software), maxSoftware)
	}
	if n := c.ports(); c.Limits.Allocations <= 0 || c.Limits.Allocations > n {
		c.Limits.Allocations = n
	}
	if n := MaxChannel - MinChannel + 1; c.Limits.ChannelsPerAllocation <= 0 || c.Limits.ChannelsPerAllocation > n {
		c.Limits.ChannelsPerAllocation = n
	}
	if c.Limits.Channels <= 0 {
		c.Limits.Channels = DefaultLimits().Channels
	}
	if c.Limits.Nonces <= 0 {
		c.Limits.Nonces = DefaultLimits().Nonces
	}
	return c, nil
}

func (c *Config) ports() int { return int(c.HighestPort) - int(c.LowestPort) + 1 }

// families returns the families in which the relay can allocate.
func (c *Config) families() (f Families) {
	if c.Public4.IsValid() {
		f |= IPv4
	}
	if c.Public6.IsValid() {
		f |= IPv6
	}
	return f
}
