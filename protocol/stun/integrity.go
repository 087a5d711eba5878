package stun

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
)

const (
	integritySize   = sha1.Size
	fingerprintSize = 4
	// fingerprintXOR tells a STUN fingerprint from another CRC-32 (RFC 8489 section 14.7).
	fingerprintXOR = 0x5354554e
)

// LongTermKey is the key of long-term credentials (RFC 8489 section 9.2.2):
// MD5(username ":" realm ":" password). Short-term credentials use the password itself.
func LongTermKey(username, realm, password []byte) [md5.Size]byte {
	b := make([]byte, 0, 1024) // on the stack
	b = append(b, username...)
	b = append(b, ':')
	b = append(b, realm...)
	b = append(b, ':')
	b = append(b, password...)
	return md5.Sum(b)
}

// Verify reports whether m has a MESSAGE-INTEGRITY made with key. It takes the same time
// whichever byte differs.
func (m *Message) Verify(key []byte) bool {
	if m.Has&HasMessageIntegrity == 0 {
		return false
	}
	sum := integrity(key, m.raw[:m.integrityAt])
	at := m.integrityAt + attrHeader
	return subtle.ConstantTimeCompare(sum[:], m.raw[at:at+integritySize]) == 1
}

// VerifyFingerprint reports whether m ends with a FINGERPRINT, and the right one.
func (m *Message) VerifyFingerprint() bool {
	at := m.fingerprintAt
	return m.Has&HasFingerprint != 0 && at+attrHeader+fingerprintSize == len(m.raw) &&
		binary.BigEndian.Uint32(m.raw[at+attrHeader:]) == fingerprint(m.raw[:at])
}

// integrity is HMAC-SHA1 (RFC 2104) over a message up to MESSAGE-INTEGRITY, with the length in its
// header set as if the message ended with it (RFC 8489 section 14.5). It is written out because
// crypto/hmac allocates, and neither message nor length may be changed in place.
func integrity(key, before []byte) [sha1.Size]byte {
	var block [sha1.BlockSize]byte
	if len(key) > len(block) {
		short := sha1.Sum(key)
		copy(block[:], short[:])
	} else {
		copy(block[:], key)
	}
	var inner [sha1.BlockSize + MaxSize]byte
	var outer [sha1.BlockSize + sha1.Size]byte
	for i, k := range block {
		inner[i] = k ^ 0x36
		outer[i] = k ^ 0x5c
	}
	n := copy(inner[sha1.BlockSize:], before)
	length := n - HeaderSize + attrHeader + integritySize
	binary.BigEndian.PutUint16(inner[sha1.BlockSize+2:], uint16(length))
	sum := sha1.Sum(inner[:sha1.BlockSize+n])
	copy(outer[sha1.BlockSize:], sum[:])
	return sha1.Sum(outer[:])
}

func fingerprint(before []byte) uint32 { return crc32.ChecksumIEEE(before) ^ fingerprintXOR }
