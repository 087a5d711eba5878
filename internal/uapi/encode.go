package uapi

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// WriteState writes s as the lines of an answer, without the errno line that ends it.
func WriteState(w io.Writer, s State) error {
	e := encoder{bufio.NewWriter(w)}
	if s.PrivateKey != (Key{}) {
		e.key("private_key", s.PrivateKey)
	}
	if s.ListenPort != 0 {
		e.line("listen_port", s.ListenPort)
	}
	if s.FirewallMark != 0 {
		e.line("fwmark", s.FirewallMark)
	}
	for i := range s.Peers {
		e.peerState(&s.Peers[i])
	}
	return e.w.Flush()
}

// WriteErrno writes the lines that end an answer: errno=0 when err is nil, else the negative
// number of the syscall.Errno that err wraps, EINVAL for a *SyntaxError and EIO for any other.
func WriteErrno(w io.Writer, err error) error {
	_, werr := fmt.Fprintf(w, "errno=%d\n\n", -int(errnoOf(err)))
	return werr
}

// WriteRequest writes req as a client does, with the empty line that ends it: the inverse of
// ReadRequest.
func WriteRequest(w io.Writer, req Request) error {
	e := encoder{bufio.NewWriter(w)}
	switch req.Op {
	case Get:
		e.line("get", 1)
	case Set:
		e.line("set", 1)
		e.config(&req.Config)
	default:
		return fmt.Errorf("write configuration request: unknown operation %d", req.Op)
	}
	e.w.WriteByte('\n')
	return e.w.Flush()
}

// encoder writes lines. Its writer keeps the first error for Flush.
type encoder struct{ w *bufio.Writer }

func (e encoder) line(key string, value any) { fmt.Fprintf(e.w, "%s=%v\n", key, value) }

// key writes a key in full: the one place where a secret becomes text.
func (e encoder) key(name string, k [32]byte) { e.line(name, hex.EncodeToString(k[:])) }

func (e encoder) flag(name string, set bool) {
	if set {
		e.line(name, true)
	}
}

func (e encoder) peerState(p *PeerState) {
	e.key("public_key", p.PublicKey)
	e.key("preshared_key", p.PresharedKey)
	e.line("protocol_version", 1)
	if p.Endpoint.IsValid() {
		e.line("endpoint", p.Endpoint)
	}
	var sec, nsec int64
	if !p.LastHandshake.IsZero() {
		sec, nsec = p.LastHandshake.Unix(), int64(p.LastHandshake.Nanosecond())
	}
	e.line("last_handshake_time_sec", sec)
	e.line("last_handshake_time_nsec", nsec)
	e.line("tx_bytes", p.TxBytes)
	e.line("rx_bytes", p.RxBytes)
	e.line("persistent_keepalive_interval", p.PersistentKeepalive)
	for _, prefix := range p.AllowedIPs {
		e.line("allowed_ip", prefix)
	}
}

func (e encoder) config(c *Config) {
	if c.PrivateKey != nil {
		e.key("private_key", *c.PrivateKey)
	}
	if c.ListenPort != nil {
		e.line("listen_port", *c.ListenPort)
	}
	if c.FirewallMark != nil {
		e.line("fwmark", *c.FirewallMark)
	}
	e.flag("replace_peers", c.ReplacePeers)
	for i := range c.Peers {
		e.peerConfig(&c.Peers[i])
	}
}

func (e encoder) peerConfig(p *PeerConfig) {
	e.key("public_key", p.PublicKey)
	e.flag("remove", p.Remove)
	e.flag("update_only", p.UpdateOnly)
	if p.PresharedKey != nil {
		e.key("preshared_key", *p.PresharedKey)
	}
	if p.Endpoint.IsValid() {
		e.line("endpoint", p.Endpoint)
	}
	if p.PersistentKeepalive != nil {
		e.line("persistent_keepalive_interval", *p.PersistentKeepalive)
	}
	e.flag("replace_allowed_ips", p.ReplaceAllowedIPs)
	for _, a := range p.AllowedIPs {
		sign := ""
		if a.Remove {
			sign = "-"
		}
		e.line("allowed_ip", sign+a.Prefix.String())
	}
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	var syntax *SyntaxError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &errno) && errno != 0:
		return errno
	case errors.As(err, &syntax):
		return syscall.EINVAL
	}
	return syscall.EIO
}
