package wireguard

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"net/netip"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// CookieLifetime is how long a cookie is used by who received it, and how old the secret that
// makes cookies may be (WireGuard paper, section 6.1: 120 s).
const CookieLifetime = 120 * time.Second

// cookieMaker makes and checks cookies, which prove that a sender receives at its address.
type cookieMaker struct {
	secret    [keySize]byte
	since     time.Time // of secret; zero before the first
	bindsPort bool
}

// cookieFor is the cookie of a source: a MAC over its address under the current secret.
func (c *cookieMaker) cookieFor(rng io.Reader, from netip.AddrPort, now time.Time) [macSize]byte {
	if c.since.IsZero() || now.Sub(c.since) >= CookieLifetime {
		mustRead(rng, c.secret[:])
		c.since = now
	}
	addr := from.Addr().Unmap().AsSlice()
	if !c.bindsPort {
		return mac(c.secret[:], addr)
	}
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], from.Port())
	return mac(c.secret[:], addr, port[:])
}

// checkMac1 verifies the first MAC of an initiation or response: its sender knows our public key.
func (id *identity) checkMac1(msg []byte) bool {
	at := len(msg) - 2*macSize
	want := mac(id.mac1Key[:], msg[:at])
	return subtle.ConstantTimeCompare(want[:], msg[at:at+macSize]) == 1
}

// checkMac2 verifies the second MAC: its sender has received cookie.
func checkMac2(cookie *[macSize]byte, msg []byte) bool {
	at := len(msg) - macSize
	want := mac(cookie[:], msg[:at])
	return subtle.ConstantTimeCompare(want[:], msg[at:]) == 1
}

// cookieReply seals cookie for the sender of msg, an initiation or response.
func (id *identity) cookieReply(rng io.Reader, msg []byte, cookie *[macSize]byte) []byte {
	reply := make([]byte, CookieSize)
	binary.LittleEndian.PutUint32(reply, uint32(KindCookie))
	copy(reply[cookieReceiver:cookieNonce], msg[offSender:])
	nonce := reply[cookieNonce:cookieSealed]
	mustRead(rng, nonce)
	at := len(msg) - 2*macSize
	xchacha(&id.cookieKey).Seal(reply[cookieSealed:cookieSealed], nonce, cookie[:], msg[at:at+macSize])
	return reply
}

// cookieJar is what a peer has given us and what we have sent it.
type cookieJar struct {
	mac1Key   [keySize]byte // of messages to the peer
	cookieKey [keySize]byte // of cookie replies from it
	lastMac1  [macSize]byte // of the last message sent, which a cookie reply must refer to
	lastIndex uint32        // likewise its sender index; zero before the first
	cookie    [macSize]byte
	since     time.Time // when cookie came; zero for none
}

func newCookieJar(public *PublicKey) cookieJar {
	return cookieJar{mac1Key: labelled(labelMac1, public), cookieKey: labelled(labelCookie, public)}
}

// stamp writes both MACs of an outgoing initiation or response; mac2 stays zero without a fresh
// cookie.
func (j *cookieJar) stamp(msg []byte, now time.Time) {
	at := len(msg) - 2*macSize
	mac1 := mac(j.mac1Key[:], msg[:at])
	copy(msg[at:], mac1[:])
	j.lastMac1 = mac1
	j.lastIndex = binary.LittleEndian.Uint32(msg[offSender:])
	if j.since.IsZero() || now.Sub(j.since) >= CookieLifetime {
		return
	}
	at += macSize
	mac2 := mac(j.cookie[:], msg[:at])
	copy(msg[at:], mac2[:])
}

// accept stores the cookie of a reply to the last message sent, and reports whether it is one.
func (j *cookieJar) accept(reply []byte, now time.Time) bool {
	if j.lastIndex == 0 || binary.LittleEndian.Uint32(reply[cookieReceiver:]) != j.lastIndex {
		return false
	}
	var cookie [macSize]byte
	_, err := xchacha(&j.cookieKey).Open(cookie[:0], reply[cookieNonce:cookieSealed],
		reply[cookieSealed:], j.lastMac1[:])
	if err != nil {
		return false
	}
	j.cookie, j.since = cookie, now
	return true
}

func xchacha(key *[keySize]byte) cipher.AEAD {
	c, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("wireguard: a 32-byte key was refused: " + err.Error())
	}
	return c
}

// mustRead fills b from the device's entropy source. Keys without entropy are worse than no
// process, so a source that fails is a broken invariant.
func mustRead(rng io.Reader, b []byte) {
	if _, err := io.ReadFull(rng, b); err != nil {
		panic("wireguard: the entropy source failed: " + err.Error())
	}
}
