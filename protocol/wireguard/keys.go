package wireguard

import (
	"crypto/ecdh"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/blake2s"
)

const keySize = 32

// PrivateKey is an X25519 private key. The zero value means "none". It never prints itself.
type PrivateKey [keySize]byte

// PublicKey is an X25519 public key, the name of a peer.
type PublicKey [keySize]byte

// PresharedKey is the optional symmetric key of a pair of peers; zero when there is none, which
// is also what the protocol then mixes in.
type PresharedKey [keySize]byte

// GeneratePrivateKey makes a private key from 32 bytes of rng, clamped as other tools expect to
// see it.
func GeneratePrivateKey(rng io.Reader) (PrivateKey, error) {
	var k PrivateKey
	if _, err := io.ReadFull(rng, k[:]); err != nil {
		return PrivateKey{}, fmt.Errorf("read entropy for a private key: %w", err)
	}
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k, nil
}

// IsZero reports whether there is no key, in constant time.
func (k *PrivateKey) IsZero() bool {
	var zero PrivateKey
	return subtle.ConstantTimeCompare(k[:], zero[:]) == 1
}

// Public computes the public key (one curve operation, some 20 µs).
func (k *PrivateKey) Public() PublicKey {
	p, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("wireguard: a 32-byte scalar was refused: " + err.Error())
	}
	return PublicKey(p.PublicKey().Bytes())
}

// String hides the key.
func (k PrivateKey) String() string { return "(private key)" }

// GoString hides the key.
func (k PrivateKey) GoString() string { return k.String() }

// String hides the key.
func (k PresharedKey) String() string { return "(preshared key)" }

// GoString hides the key.
func (k PresharedKey) GoString() string { return k.String() }

// String returns the key in standard base64 with padding, as wg(8) shows it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// ParseKey decodes 32 bytes of standard base64 with padding. The error does not repeat the text,
// which may be secret.
func ParseKey(s string) ([keySize]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return [keySize]byte{}, errors.New("parse key: not standard base64")
	}
	if len(b) != keySize {
		return [keySize]byte{}, fmt.Errorf("parse key: %d bytes, want %d", len(b), keySize)
	}
	return [keySize]byte(b), nil
}

// identity is our static key and what follows from it. Immutable, shared with jobs.
//
// crypto/ecdh copies keys into memory of its own that cannot be wiped; an identity that is no
// longer referenced is left to the collector.
type identity struct {
	private   *ecdh.PrivateKey
	public    PublicKey
	mac1Key   [blake2s.Size]byte // checks mac1 of what is sent to us
	cookieKey [blake2s.Size]byte // seals our cookie replies
}

// newIdentity returns nil for the zero key: a device without an identity answers nobody.
func newIdentity(priv *PrivateKey) *identity {
	if priv.IsZero() {
		return nil
	}
	p, err := ecdh.X25519().NewPrivateKey(priv[:])
	if err != nil {
		panic("wireguard: a 32-byte scalar was refused: " + err.Error())
	}
	id := &identity{private: p, public: PublicKey(p.PublicKey().Bytes())}
	id.mac1Key = labelled(labelMac1, &id.public)
	id.cookieKey = labelled(labelCookie, &id.public)
	return id
}

// dh returns the shared secret of a private and a public key, or false when the result would be
// all zero (a point of low order, RFC 7748 section 6.1).
func dh(private *ecdh.PrivateKey, public []byte) (secret [keySize]byte, ok bool) {
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return secret, false
	}
	s, err := private.ECDH(p)
	if err != nil {
		return secret, false
	}
	copy(secret[:], s)
	clear(s)
	return secret, true
}
