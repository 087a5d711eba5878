package aead

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// HeaderSize is the length in bytes of what precedes the encrypted part of a message.
	HeaderSize = 16
	// TagSize is the length in bytes of the Poly1305 tag that ends a message.
	TagSize = chacha20poly1305.Overhead
	// Overhead is what a message is longer than its plaintext, in bytes.
	Overhead = HeaderSize + TagSize
	// KeySize is the length of a key in bytes.
	KeySize = chacha20poly1305.KeySize
)

// Scratch is one worker's working memory. It holds the nonce, which would otherwise escape to
// the heap for each packet. The zero value is ready; it must not be used by two goroutines at
// the same time.
type Scratch struct {
	nonce [chacha20poly1305.NonceSize]byte
}

// at lends the nonce of a counter, valid until the next call.
func (s *Scratch) at(counter uint64) []byte {
	binary.LittleEndian.PutUint64(s.nonce[4:], counter)
	return s.nonce[:]
}

// Key seals or opens messages under one symmetric key. It is immutable and safe for concurrent
// use.
type Key struct {
	cipher cipher.AEAD
}

// New expands key, which is copied and may be wiped by the caller.
func New(key *[KeySize]byte) (*Key, error) {
	c, err := chacha20poly1305.New(key[:])
	if err != nil {
		return nil, fmt.Errorf("set up ChaCha20-Poly1305: %w", err)
	}
	return &Key{cipher: c}, nil
}

// Seal encrypts a run in place: msgs[i] under counter first+i. Each message holds its plaintext
// from byte HeaderSize on and ends with TagSize bytes of room for the tag. A message shorter
// than Overhead is a mistake of the caller and panics. A counter must never be used twice under
// one key.
func (k *Key) Seal(s *Scratch, msgs [][]byte, first uint64) {
	for i, m := range msgs {
		n := len(m) - TagSize
		k.cipher.Seal(m[HeaderSize:HeaderSize:len(m)], s.at(first+uint64(i)), m[HeaderSize:n], nil)
	}
}

// Open authenticates and decrypts a run in place: msgs[i] under counters[i]; ok[i] tells
// whether it is genuine, and then its plaintext is msgs[i][HeaderSize:len-TagSize]. The bytes
// of a message that is not genuine, or too short to be one, are undefined afterwards. counters
// and ok are at least as long as msgs.
func (k *Key) Open(s *Scratch, msgs [][]byte, counters []uint64, ok []bool) {
	for i, m := range msgs {
		if len(m) < Overhead {
			ok[i] = false
			continue
		}
		sealed := m[HeaderSize:]
		_, err := k.cipher.Open(sealed[:0], s.at(counters[i]), sealed, nil)
		ok[i] = err == nil
	}
}
