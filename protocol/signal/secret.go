package signal

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// redacted stands for a secret wherever one is printed.
const redacted = "[redacted]"

// Secret is text that must not be shown: a token, a password. Its zero value is empty. It prints
// redacted under every verb and in logs, and marshals in the clear.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text: text} }

// Reveal returns the text.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

// Equal compares in time that depends on the lengths only.
func (s Secret) Equal(t Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.text), []byte(t.text)) == 1
}

// Format implements fmt.Formatter.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns a stand-in.
func (s Secret) String() string { return redacted }

// GoString returns a stand-in.
func (s Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON writes the text itself.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return nil, errors.New("secret is empty")
	}
	return marshal(s.text)
}

// UnmarshalJSON reads a string.
func (s *Secret) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if json.Unmarshal(b, &s.text) != nil {
		return errors.New("secret is not a string")
	}
	return nil
}

// PresharedKey is the key of 32 bytes that WireGuard mixes in, on the wire in padded base64. It
// prints like a Secret.
type PresharedKey struct{ key [32]byte }

// NewPresharedKey wraps key.
func NewPresharedKey(key [32]byte) PresharedKey { return PresharedKey{key: key} }

// Reveal returns the key.
func (k PresharedKey) Reveal() [32]byte { return k.key }

// Equal compares in constant time.
func (k PresharedKey) Equal(l PresharedKey) bool {
	return subtle.ConstantTimeCompare(k.key[:], l.key[:]) == 1
}

// Format implements fmt.Formatter.
func (k PresharedKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns a stand-in.
func (k PresharedKey) String() string { return redacted }

// GoString returns a stand-in.
func (k PresharedKey) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (k PresharedKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes the key itself.
func (k PresharedKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, k.key[:]), nil
}

// UnmarshalText reads 44 characters of base64.
func (k *PresharedKey) UnmarshalText(text []byte) error {
	key, err := parseKey(text)
	k.key = key
	return err
}

// parseKey reads 32 bytes in padded standard base64.
func parseKey(text []byte) (key [32]byte, err error) {
	const encoded = 44
	var b [33]byte // what 44 characters decode to, before the padding is taken off
	if len(text) != encoded {
		return key, fmt.Errorf("key has %d characters instead of %d", len(text), encoded)
	}
	n, err := base64.StdEncoding.Strict().Decode(b[:], text)
	if err != nil || n != len(key) {
		return key, errors.New("key is not base64 of 32 bytes")
	}
	return [32]byte(b[:32]), nil
}
