package wireguard

import (
	"crypto/cipher"
	"crypto/hmac"
	"hash"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// Strings of the protocol (WireGuard paper, section 5.4).
const (
	construction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
	identifier   = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	labelMac1    = "mac1----"
	labelCookie  = "cookie--"
)

// symmetric is Noise's symmetric state: the chaining key and the transcript hash.
type symmetric struct {
	chain [blake2s.Size]byte
	hash  [blake2s.Size]byte
}

// newSymmetric starts a handshake towards the owner of responder.
func newSymmetric(responder *PublicKey) symmetric {
	var s symmetric
	s.chain = blake2s.Sum256([]byte(construction))
	s.hash = blake2s.Sum256(append(s.chain[:], identifier...))
	s.mixHash(responder[:])
	return s
}

// mixHash adds data to the transcript.
func (s *symmetric) mixHash(data []byte) {
	h := newBlake2s()
	h.Write(s.hash[:])
	h.Write(data)
	h.Sum(s.hash[:0])
}

// mixKey derives a new chaining key from input.
func (s *symmetric) mixKey(input []byte) { s.derive(input, &s.chain) }

// mixKeyAnd derives a new chaining key and a one-time cipher from input.
func (s *symmetric) mixKeyAnd(input []byte) cipher.AEAD {
	var key [blake2s.Size]byte
	s.derive(input, &s.chain, &key)
	return oneTimeCipher(&key)
}

// mixPresharedKey derives chaining key, a transcript entry and a one-time cipher.
func (s *symmetric) mixPresharedKey(psk *PresharedKey) cipher.AEAD {
	var tau, key [blake2s.Size]byte
	s.derive(psk[:], &s.chain, &tau, &key)
	s.mixHash(tau[:])
	clear(tau[:])
	return oneTimeCipher(&key)
}

// split derives the transport keys: initiator to responder, and back.
func (s *symmetric) split() (fromInitiator, fromResponder [blake2s.Size]byte) {
	s.derive(nil, &fromInitiator, &fromResponder)
	return fromInitiator, fromResponder
}

// seal appends the sealed plaintext to dst and to the transcript.
func (s *symmetric) seal(c cipher.AEAD, dst, plaintext []byte) []byte {
	var nonce [chacha20poly1305.NonceSize]byte // each cipher seals once
	from := len(dst)
	dst = c.Seal(dst, nonce[:], plaintext, s.hash[:])
	s.mixHash(dst[from:])
	return dst
}

// open decrypts sealed into dst, which is exactly as long as the plaintext, and adds it to the
// transcript.
func (s *symmetric) open(c cipher.AEAD, dst, sealed []byte) bool {
	var nonce [chacha20poly1305.NonceSize]byte
	if _, err := c.Open(dst[:0], nonce[:], sealed, s.hash[:]); err != nil {
		return false
	}
	s.mixHash(sealed)
	return true
}

// wipe overwrites the state.
func (s *symmetric) wipe() { *s = symmetric{} }

// derive is the paper's KDFn: HKDF (RFC 5869) with HMAC-BLAKE2s, keyed with the chaining key.
// One of the outputs may be the chaining key itself.
func (s *symmetric) derive(input []byte, outs ...*[blake2s.Size]byte) {
	secret := hmacBlake2s(&s.chain, input, nil)
	var last []byte
	for i, out := range outs {
		block := hmacBlake2s(&secret, last, []byte{byte(i + 1)})
		*out = block
		last = append(last[:0], block[:]...)
		clear(block[:])
	}
	clear(last)
	clear(secret[:])
}

func hmacBlake2s(key *[blake2s.Size]byte, a, b []byte) (sum [blake2s.Size]byte) {
	h := hmac.New(newBlake2s, key[:])
	h.Write(a)
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

func newBlake2s() hash.Hash {
	h, err := blake2s.New256(nil)
	if err != nil {
		panic("wireguard: unkeyed BLAKE2s was refused: " + err.Error())
	}
	return h
}

// oneTimeCipher makes the cipher of one handshake field and wipes key.
func oneTimeCipher(key *[blake2s.Size]byte) cipher.AEAD {
	c, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic("wireguard: a 32-byte key was refused: " + err.Error())
	}
	clear(key[:])
	return c
}

// labelled is HASH(label ‖ public), the key of a MAC or of cookie replies.
func labelled(label string, public *PublicKey) [blake2s.Size]byte {
	return blake2s.Sum256(append([]byte(label), public[:]...))
}

// mac is the paper's MAC: keyed BLAKE2s with 16 bytes of output.
func mac(key []byte, parts ...[]byte) (sum [macSize]byte) {
	h, err := blake2s.New128(key)
	if err != nil {
		panic("wireguard: a MAC key was refused: " + err.Error())
	}
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}
