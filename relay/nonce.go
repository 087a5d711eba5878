package relay

import (
	"container/list"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
)

// nonceUses is how many requests a nonce is good for, as in Firezone's relay.
const nonceUses = 10_000

// nonceSize is that of a UUID in hyphenated text.
const nonceSize = 36

type nonce [nonceSize]byte

// nonces gives every client address a nonce and counts its uses. A nonce is a keyed hash of the
// address and of how many nonces the address has used up, in the looks of a random UUID: giving
// one out leaves nothing behind, so a flood of requests from invented addresses costs no memory
// and cannot displace the nonces of others. A count starts when a nonce comes back, which proves
// that somebody at the address received it.
type nonces struct {
	secret [32]byte
	limit  int
	uses   map[netip.AddrPort]*list.Element
	recent list.List // of *nonceUse, the last used first
}

type nonceUse struct {
	client     netip.AddrPort
	generation uint32
	count      int
}

func newNonces(secret [32]byte, limit int) *nonces {
	return &nonces{secret: secret, limit: limit, uses: make(map[netip.AddrPort]*list.Element)}
}

// issue returns the nonce of a client: the same one until it is used up.
func (n *nonces) issue(client netip.AddrPort) nonce {
	if e, ok := n.uses[client]; ok {
		return n.make(client, e.Value.(*nonceUse).generation)
	}
	return n.make(client, 0)
}

// nonceState is what a nonce turned out to be.
type nonceState uint8

const (
	// nonceUnknown: it was never the client's, or so long ago that nobody remembers.
	nonceUnknown nonceState = iota
	// nonceSpent: the client's last one, all of whose uses are consumed.
	nonceSpent
	// nonceGood: the client's, with a use left until now.
	nonceGood
)

// use consumes one use of a nonce if it is the client's and has one left.
func (n *nonces) use(client netip.AddrPort, text []byte) nonceState {
	var got nonce
	for i, b := range text {
		got[i] = lower(b)
	}
	is := func(generation uint32) bool {
		want := n.make(client, generation)
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
	e, counted := n.uses[client]
	generation := uint32(0)
	if counted {
		generation = e.Value.(*nonceUse).generation
	}
	switch {
	case is(generation):
	case generation > 0 && is(generation-1):
		return nonceSpent
	default:
		return nonceUnknown
	}
	if !counted {
		e = n.start(client)
	}
	n.recent.MoveToFront(e)
	u := e.Value.(*nonceUse)
	if u.count++; u.count == nonceUses {
		u.generation++
		u.count = 0
	}
	return nonceGood
}

// start begins to count for a client. At the limit the client that has been silent for longest
// is forgotten: its first nonce is then good again.
func (n *nonces) start(client netip.AddrPort) *list.Element {
	if len(n.uses) >= n.limit {
		oldest := n.recent.Back()
		delete(n.uses, oldest.Value.(*nonceUse).client)
		n.recent.Remove(oldest)
	}
	e := n.recent.PushFront(&nonceUse{client: client})
	n.uses[client] = e
	return e
}

// make computes a nonce. The input has a fixed length and the hash is cut to 122 bits, so that a
// plain hash with the secret in front is as good as an HMAC, at half its cost.
func (n *nonces) make(client netip.AddrPort, generation uint32) nonce {
	var in [32 + 16 + 2 + 4]byte
	copy(in[:], n.secret[:])
	ip := client.Addr().As16()
	copy(in[32:], ip[:])
	binary.BigEndian.PutUint16(in[48:], client.Port())
	binary.BigEndian.PutUint32(in[50:], generation)
	sum := sha256.Sum256(in[:])
	return uuid([16]byte(sum[:16]))
}

// uuid writes b as a random UUID (RFC 9562 section 5.4).
func uuid(b [16]byte) (text nonce) {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	hex.Encode(text[0:8], b[0:4])
	hex.Encode(text[9:13], b[4:6])
	hex.Encode(text[14:18], b[6:8])
	hex.Encode(text[19:23], b[8:10])
	hex.Encode(text[24:36], b[10:16])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return text
}

// isUUID reports whether b looks like a hyphenated UUID.
func isUUID(b []byte) bool {
	if len(b) != nonceSize {
		return false
	}
	for i, c := range b {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if c = lower(c); (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'F' {
		return b + 'a' - 'A'
	}
	return b
}
