package main

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/firelane/firelane/protocol/signal"
	"github.com/firelane/firelane/protocol/stun"
)

// turnClient is a TURN client of the least kind: one request at a time, one peer.
type turnClient struct {
	t              testing.TB
	conn           *net.UDPConn
	user, password string
	realm          string
	nonce          []byte
	id             byte
	relayed        netip.AddrPort
}

const (
	relayPublic = "192.0.2.1"
	relayAddr   = relayPublic + ":3478"
	// channelNumber is the one channel of a turnClient.
	channelNumber = 0x4001
)

func newTURNClient(t testing.TB, user, password, realm string) *turnClient {
	t.Helper()
	conn, err := net.Dial("udp", relayAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &turnClient{t: t, conn: conn.(*net.UDPConn), user: user, password: password, realm: realm}
}

// clientOf returns a client with the credentials that a portal gives to the device with this key.
func clientOf(t testing.TB, stamp signal.Secret, key byte, expires time.Time) *turnClient {
	t.Helper()
	user, password := signal.TURNCredentials(stamp, signal.PublicKey{key}, expires.Unix())
	return newTURNClient(t, user, password.Reveal(), "firezone")
}

// ask sends a request and returns the answer to it; another nonce is taken up once.
func (c *turnClient) ask(method stun.Method, fill func(*stun.Builder)) (m stun.Message) {
	c.t.Helper()
	key := stun.LongTermKey([]byte(c.user), []byte(c.realm), []byte(c.password))
	for range 2 {
		c.id++
		b := stun.Start(nil, stun.Request, method, stun.TransactionID{0: c.id, 11: byte(method)})
		fill(&b)
		if c.nonce != nil {
			b.Text(stun.Username, []byte(c.user))
			b.Text(stun.Realm, []byte(c.realm))
			b.Text(stun.Nonce, c.nonce)
			b.Sign(key[:])
		}
		c.send(b.Bytes())
		if err := m.Parse(c.recv()); err != nil || m.ID[0] != c.id {
			c.t.Fatalf("%v: %v, answer %+v", method, err, m)
		}
		if c.nonce != nil || m.Nonce == nil {
			return m
		}
		c.nonce = bytes.Clone(m.Nonce)
	}
	return m
}

// allocate returns 0 or the code of the refusal.
func (c *turnClient) allocate() int {
	c.t.Helper()
	m := c.ask(stun.Allocate, func(b *stun.Builder) { b.Transport(stun.UDP) })
	c.relayed = m.Relayed[0]
	return m.Code
}

func (c *turnClient) release() {
	c.t.Helper()
	if m := c.ask(stun.Refresh, func(b *stun.Builder) { b.Uint32(stun.Lifetime, 0) }); m.Class != stun.Success {
		c.t.Fatalf("refresh: %d", m.Code)
	}
}

// exchange binds the channel to a peer of its own and sends data both ways.
func (c *turnClient) exchange() {
	c.t.Helper()
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { peer.Close() })
	m := c.ask(stun.ChannelBind, func(b *stun.Builder) {
		b.Channel(channelNumber)
		b.Address(stun.XORPeerAddress, peer.LocalAddr().(*net.UDPAddr).AddrPort())
	})
	if m.Class != stun.Success {
		c.t.Fatalf("bind a channel: %d", m.Code)
	}
	carry(c, peer)
}

// carry sends data both ways.
func carry(c *turnClient, peer *net.UDPConn) {
	c.t.Helper()
	out := []byte("to the peer, with a length that is no multiple of four")
	message := make([]byte, stun.ChannelHeader, 128)
	stun.PutChannelHeader(message, channelNumber, len(out))
	c.send(append(message, out...))
	buf := make([]byte, 2048)
	if err := peer.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	n, from, err := peer.ReadFromUDPAddrPort(buf)
	if err != nil || !bytes.Equal(buf[:n], out) || from.Port() != c.relayed.Port() {
		c.t.Fatalf("the peer got %q from %v, %v", buf[:n], from, err)
	}
	back := []byte("to the client")
	if _, err := peer.WriteToUDPAddrPort(back, netip.AddrPortFrom(c.relayed.Addr(), c.relayed.Port())); err != nil {
		c.t.Fatal(err)
	}
	if number, data, ok := stun.ChannelData(c.recv()); !ok || number != channelNumber || !bytes.Equal(data, back) {
		c.t.Fatalf("the client got %q on channel %#x", data, number)
	}
}

func (c *turnClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *turnClient) recv() []byte {
	c.t.Helper()
	buf := make([]byte, 2048)
	if err := c.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	n, err := c.conn.Read(buf)
	if err != nil {
		c.t.Fatal(err)
	}
	return buf[:n]
}

// bindingWorks asks for the client's own address, which needs no credentials.
func bindingWorks(t testing.TB) {
	t.Helper()
	c := newTURNClient(t, "", "", "")
	want := c.conn.LocalAddr().String()
	if m := c.ask(stun.Binding, func(*stun.Builder) {}); m.Mapped.String() != want {
		t.Errorf("mapped address %v, want %s", m.Mapped, want)
	}
}

// expiringUser is a user name of the shared-secret kind.
func expiringUser(expires time.Time, salt string) string {
	return strconv.FormatInt(expires.Unix(), 10) + ":" + salt
}
