package uapi

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxPeers bounds the peers of one request. The kernel's limit for a device is 2²⁰; a
// sixteenth of it is still more than the tools write in minutes.
const maxPeers = 1 << 16

// maxAllowedIPs bounds the allowed IPs of one request, all peers together: 2²⁰ entries are
// about 40 MiB while the request is applied.
const maxAllowedIPs = 1 << 20

// assembler puts the lines of a set request together.
type assembler struct {
	config     *Config
	seen       map[string]bool // keys of the current section, which may appear once in it
	allowedIPs int             // of all peers
}

// assign applies one line. Its errors say what is wrong with key or value.
func (a *assembler) assign(key, value string) error {
	if key == "public_key" {
		return a.begin(value)
	}
	if a.seen[key] {
		return fmt.Errorf("%s appears twice", clip(key))
	}
	if a.seen == nil {
		a.seen = make(map[string]bool)
	}
	if key != "allowed_ip" {
		a.seen[key] = true
	}
	var err error
	if n := len(a.config.Peers); n == 0 {
		err = assignDevice(a.config, key, value)
	} else {
		err = a.assignPeer(&a.config.Peers[n-1], key, value)
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", clip(key), err)
}

// begin starts the section of a peer.
func (a *assembler) begin(value string) error {
	if len(a.config.Peers) == maxPeers {
		return fmt.Errorf("more than %d peers in one request; send several", maxPeers)
	}
	k, err := parseKey(value)
	if err != nil {
		return fmt.Errorf("public_key: %w", err)
	}
	a.config.Peers = append(a.config.Peers, PeerConfig{PublicKey: k})
	clear(a.seen)
	return nil
}

func assignDevice(c *Config, key, value string) (err error) {
	switch key {
	case "private_key":
		c.PrivateKey, err = parseSecret(value)
	case "listen_port":
		c.ListenPort, err = parseUint16(value)
	case "fwmark":
		c.FirewallMark, err = parseUint32(value)
	case "replace_peers":
		c.ReplacePeers, err = parseTrue(value)
	default:
		err = errors.New("unknown key for the device; want private_key, listen_port, fwmark, replace_peers or public_key")
	}
	return err
}

func (a *assembler) assignPeer(p *PeerConfig, key, value string) (err error) {
	switch key {
	case "remove":
		p.Remove, err = parseTrue(value)
	case "update_only":
		p.UpdateOnly, err = parseTrue(value)
	case "preshared_key":
		p.PresharedKey, err = parseSecret(value)
	case "endpoint":
		p.Endpoint, err = parseEndpoint(value)
	case "persistent_keepalive_interval":
		p.PersistentKeepalive, err = parseUint16(value)
	case "replace_allowed_ips":
		p.ReplaceAllowedIPs, err = parseTrue(value)
	case "allowed_ip":
		err = a.allow(p, value)
	case "protocol_version":
		if value != "1" {
			err = fmt.Errorf("want 1, got %s", quote(value))
		}
	case "private_key", "listen_port", "fwmark", "replace_peers":
		err = errors.New("belongs in front of the first public_key")
	default:
		err = errors.New("unknown key for a peer; want remove, update_only, preshared_key, endpoint, " +
			"persistent_keepalive_interval, replace_allowed_ips, allowed_ip, protocol_version or public_key")
	}
	return err
}

// allow adds one allowed IP to p: a prefix, with "-" in front to take it away.
func (a *assembler) allow(p *PeerConfig, value string) error {
	if a.allowedIPs == maxAllowedIPs {
		return fmt.Errorf("more than %d in one request; send several", maxAllowedIPs)
	}
	text, remove := strings.CutPrefix(value, "-")
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("want ADDRESS/LENGTH, got %s", quote(value))
	}
	a.allowedIPs++
	p.AllowedIPs = append(p.AllowedIPs, AllowedIP{Prefix: prefix.Masked(), Remove: remove})
	return nil
}

// parseKey never quotes its input, which may be a secret.
func parseKey(value string) (k [32]byte, err error) {
	if len(value) != hex.EncodedLen(len(k)) {
		return k, fmt.Errorf("want 64 hexadecimal digits, got %d characters", len(value))
	}
	if _, err := hex.Decode(k[:], []byte(value)); err != nil {
		return [32]byte{}, errors.New("want 64 hexadecimal digits, got something else among them")
	}
	return k, nil
}

func parseSecret(value string) (*Key, error) {
	k, err := parseKey(value)
	if err != nil {
		return nil, err
	}
	return (*Key)(&k), nil
}

func parseUint16(value string) (*uint16, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("want a decimal number up to 65535, got %s", quote(value))
	}
	v := uint16(n)
	return &v, nil
}

func parseUint32(value string) (*uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("want a decimal number up to 4294967295, got %s", quote(value))
	}
	v := uint32(n)
	return &v, nil
}

func parseTrue(value string) (bool, error) {
	if value != "true" {
		return false, fmt.Errorf("want true, got %s", quote(value))
	}
	return true, nil
}

func parseEndpoint(value string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(value)
	if err != nil || ap.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("want IPV4:PORT or [IPV6]:PORT, got %s", quote(value))
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// maxQuoted bounds how much of a refused value or key an error repeats, in bytes.
const maxQuoted = 64

func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(s[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}

// clip returns key as it may stand in an error: quoted if it holds anything but letters.
func clip(key string) string {
	for _, c := range []byte(key) {
		if (c < 'a' || c > 'z') && c != '_' {
			return quote(key)
		}
	}
	return key[:min(len(key), maxQuoted)]
}
