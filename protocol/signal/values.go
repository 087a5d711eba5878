package signal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// ID is a UUID: of a device, a resource, a site, a relay. The zero ID names nothing and is not
// written.
type ID [16]byte

// ParseID reads 8-4-4-4-12 hexadecimal digits of either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, errors.New("id is not a UUID")
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, errors.New("id is not a UUID")
	}
	return id, nil
}

// IsZero reports whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the UUID in lower case with hyphens.
func (id ID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// MarshalText refuses the zero ID.
func (id ID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, errors.New("id is zero")
	}
	return []byte(id.String()), nil
}

// UnmarshalText is ParseID, which takes the zero UUID for a mistake.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err == nil && parsed.IsZero() {
		err = errors.New("id is zero")
	}
	*id = parsed
	return err
}

// Compare orders IDs as their text.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }

// PublicKey is a WireGuard public key, on the wire in padded base64.
type PublicKey [32]byte

// ParsePublicKey reads 44 characters of base64.
func ParsePublicKey(s string) (PublicKey, error) { return parseKey([]byte(s)) }

// String returns the key in padded base64.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText returns String.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParsePublicKey.
func (k *PublicKey) UnmarshalText(text []byte) error {
	key, err := parseKey(text)
	*k = key
	return err
}

// Addr4 is an IPv4 address, written bare and read with or without /32.
type Addr4 struct{ netip.Addr }

// MarshalText refuses what is not IPv4.
func (a Addr4) MarshalText() ([]byte, error) {
	if !a.Is4() {
		return nil, errors.New("not an IPv4 address")
	}
	return a.Addr.MarshalText()
}

// UnmarshalText reads an address with or without its full prefix length.
func (a *Addr4) UnmarshalText(text []byte) error {
	parsed, err := parseHost(string(text))
	if err != nil || !parsed.Is4() {
		return errors.New("not an IPv4 address")
	}
	a.Addr = parsed
	return nil
}

// IsZero reports whether there is no address.
func (a Addr4) IsZero() bool { return !a.IsValid() }

// Addr6 is an IPv6 address without zone, written bare and read with or without /128.
type Addr6 struct{ netip.Addr }

// MarshalText refuses what is not IPv6.
func (a Addr6) MarshalText() ([]byte, error) {
	if !a.Is6() || a.Is4In6() || a.Zone() != "" {
		return nil, errors.New("not an IPv6 address")
	}
	return a.Addr.MarshalText()
}

// UnmarshalText reads an address with or without its full prefix length.
func (a *Addr6) UnmarshalText(text []byte) error {
	parsed, err := parseHost(string(text))
	if err != nil || !parsed.Is6() || parsed.Is4In6() || parsed.Zone() != "" {
		return errors.New("not an IPv6 address")
	}
	a.Addr = parsed
	return nil
}

// IsZero reports whether there is no address.
func (a Addr6) IsZero() bool { return !a.IsValid() }

// parseHost reads an address that may carry its full prefix length.
func parseHost(s string) (netip.Addr, error) {
	if !strings.Contains(s, "/") {
		return netip.ParseAddr(s)
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && !p.IsSingleIP() {
		err = errors.New("a network, not an address")
	}
	return p.Addr(), err
}

// Host is one address in the form of a prefix, as members of device pools are written.
type Host struct{ netip.Addr }

// MarshalText appends the full prefix length.
func (h Host) MarshalText() ([]byte, error) {
	if !h.IsValid() || h.Zone() != "" {
		return nil, errors.New("not an address")
	}
	return netip.PrefixFrom(h.Addr, h.BitLen()).MarshalText()
}

// UnmarshalText reads an address with or without its full prefix length.
func (h *Host) UnmarshalText(text []byte) error {
	parsed, err := parseHost(string(text))
	if err != nil || parsed.Zone() != "" {
		return errors.New("not an address")
	}
	h.Addr = parsed
	return nil
}

// IsZero reports whether there is no address.
func (h Host) IsZero() bool { return !h.IsValid() }

// Expiry is when a permission ends, in whole seconds of Unix time, or never, which is the zero
// value and null on the wire.
type Expiry struct {
	unix   int64
	finite bool
}

// ExpiresAt returns the expiry at a second of Unix time.
func ExpiresAt(unix int64) Expiry { return Expiry{unix: unix, finite: true} }

// Unix returns the second, and whether there is one.
func (e Expiry) Unix() (unix int64, finite bool) { return e.unix, e.finite }

// IsZero reports whether the expiry is never.
func (e Expiry) IsZero() bool { return !e.finite }

// String returns the time in UTC, or "never".
func (e Expiry) String() string {
	if !e.finite {
		return "never"
	}
	return time.Unix(e.unix, 0).UTC().Format(time.RFC3339)
}

// MarshalJSON writes an integer or null.
func (e Expiry) MarshalJSON() ([]byte, error) {
	if !e.finite {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%d", e.unix), nil
}

// UnmarshalJSON reads an integer or null.
func (e *Expiry) UnmarshalJSON(b []byte) error {
	*e = Expiry{}
	if string(b) == "null" {
		return nil
	}
	if json.Unmarshal(b, &e.unix) != nil {
		return errors.New("expiry is not an integer")
	}
	e.finite = true
	return nil
}

// Text is a string for which null is written when it is empty.
type Text string

// MarshalJSON writes null for the empty string.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return marshal(string(t))
}

// List is a slice that is written as [] when it is nil: the deployed devices reject null. It is
// not read if an element is null, which would stand for a zero value.
type List[T any] []T

// MarshalJSON writes [] for nil.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return marshal([]T(l))
}

// UnmarshalJSON reads null as nil.
func (l *List[T]) UnmarshalJSON(b []byte) error {
	var elements []json.RawMessage
	if json.Unmarshal(b, &elements) != nil {
		return errors.New("not a list")
	}
	*l = nil
	if elements == nil {
		return nil
	}
	*l = make(List[T], len(elements))
	for i, e := range elements {
		if string(e) == "null" {
			return errors.New("null in a list")
		}
		if err := json.Unmarshal(e, &(*l)[i]); err != nil {
			return err
		}
	}
	return nil
}
