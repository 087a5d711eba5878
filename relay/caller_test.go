package relay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/protocol/stun"
)

// repeatAfter is how long a request of TestSoak waits for its answer: any may get lost in a flood, as
// it may in a network.
const repeatAfter = 200 * time.Millisecond

// caller is a client of TestSoak: an address on somebody's socket, a user, and the nonce that the
// relay gave to the address.
type caller struct {
	via   *turner
	at    netip.AddrPort
	salt  string
	nonce []byte
	wrong bool // signs with another key than its own
}

func appendInt(b []byte, i int) []byte { return strconv.AppendInt(b, int64(i), 10) }

// build makes a request of c.
func (k *soak) build(c *caller, method stun.Method, fill func(*stun.Builder), id stun.TransactionID) []byte {
	user := strconv.Itoa(testExpiry) + ":" + c.salt
	key := stun.LongTermKey([]byte(user), []byte(PortalRealm), []byte(Password(testExpiry, testSecret, c.salt)))
	if c.wrong {
		key[0]++
	}
	b := stun.Start(nil, stun.Request, method, id)
	if fill != nil {
		fill(&b)
	}
	b.Text(stun.Username, []byte(user))
	b.Text(stun.Realm, []byte(PortalRealm))
	if c.nonce != nil {
		b.Text(stun.Nonce, c.nonce)
	}
	b.Sign(key[:])
	return b.Bytes()
}

// request returns the answer to a request of c, which gets a nonce first if it has none.
func (k *soak) request(c *caller, method stun.Method, fill func(*stun.Builder)) (m stun.Message) {
	k.t.Helper()
	for range 3 {
		var id stun.TransactionID
		k.ids++
		binary.BigEndian.PutUint32(id[:], k.ids)
		m = k.answer(c, k.build(c, method, fill, id), id)
		if m.Code != 438 && (m.Code != 401 || c.nonce != nil) {
			return m
		}
		c.nonce = bytes.Clone(m.Nonce)
	}
	return m
}

// answer sends a request until it is answered.
func (k *soak) answer(c *caller, request []byte, id stun.TransactionID) (m stun.Message) {
	k.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); k.repeats++ {
		k.emit(c.via, c.at, request, len(request))
		for sent := time.Now(); time.Since(sent) < repeatAfter; {
			for _, t := range k.poll(c.via, repeatAfter) {
				if t.Local.Addr() == c.at.Addr() && m.Parse(t.Buf[:min(t.Stride, len(t.Buf))]) == nil && m.ID == id {
					return m
				}
			}
		}
	}
	k.t.Fatalf("%v gets no answer", c.at)
	return m
}

// expect fails unless the answer to c has the code, which is 0 for a success.
func (k *soak) expect(c *caller, m stun.Message, code int) {
	k.t.Helper()
	if m.Code != code || (m.Class == stun.Success) != (code == 0) {
		k.t.Fatalf("%v, %s: method %d is answered %d, want %d", c.at, c.salt, m.Method, m.Code, code)
	}
}

// poll returns copies of what arrives within a time: of all that is there, if that is 0.
func (k *soak) poll(via *turner, within time.Duration) (all []batch.Train) {
	k.t.Helper()
	fds := []unix.PollFd{{Fd: int32(via.socket.Fd()), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(fds, int(within.Milliseconds())); n == 0 || err != nil {
			return all
		}
		if err := via.socket.Recv(via.in); err != nil {
			k.t.Fatal(err)
		}
		if within == 0 {
			continue // nobody wants it
		}
		for _, t := range via.in.Trains {
			t.Buf = bytes.Clone(t.Buf)
			all = append(all, t)
		}
		if len(all) > 0 {
			return all
		}
	}
}
